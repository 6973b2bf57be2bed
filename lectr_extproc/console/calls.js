// Live calls: the newest first, each with its decision explained and its timing drawn.

import { waterfall } from "./charts.js";
import { h, s } from "./dom.js";
import { clock, count, DASH, day, duration, exactly, money } from "./format.js";
import { empty } from "./gaps.js";
import { dot } from "./marks.js";
import { ask, asked } from "./state.js";
import { facts } from "./tables.js";

// As many stay on the page; older ones are asked for again.
const MOST = 400;
const PHASES = {
  receive: "request arrives",
  gateway: "gateway decides",
  wait: "provider works",
  answer: "answer arrives",
};
const SOURCES = { client: "the client", gateway: "the gateway", provider: "the provider" };

const open = new Set();
let kept = null;

/** The filters; how many calls are read at most is nothing that this view asks. */
function wantedOf(query) {
  const wanted = asked(query);
  wanted.delete("calls");
  return wanted;
}

let isPaused = false;

const priceOf = (call) =>
  call.cost_usd === null && call.pricing_status === "unavailable"
    ? "$0.00 (pricing unavailable)"
    : money(call.cost_usd);

const tokensOf = (call) =>
  call.input_tokens === null && call.output_tokens === null
    ? DASH
    : `${count(call.input_tokens)} / ${count(call.output_tokens)}${call.token_source === "estimated" ? " (estimated)" : ""}`;

const outcome = (call) =>
  call.error_category === null
    ? h("span", { class: "pill good" }, call.status ?? DASH)
    : h("span", { class: "pill bad" }, `${call.status ?? ""} ${call.error_category.replaceAll("_", " ")}`.trim());

/** The phases in one line, whose whole width is the longest call here. */
const strip = (call, longest) =>
  s(
    "svg",
    { class: "strip", "aria-hidden": "true" },
    (call.timing.length ? call.timing : [{ name: "wait", from_ms: 0, to_ms: call.duration_ms ?? 0 }]).map((phase) =>
      s("rect", {
        class: phase.name,
        x: `${(phase.from_ms / longest) * 100}%`,
        width: `${Math.max(0.3, ((phase.to_ms - phase.from_ms) / longest) * 100)}%`,
        height: "100%",
      }),
    ),
  );

function spans(call) {
  const tries = call.tries.map((each, i) => ({
    name: `${i + 1}. ${each.model}`,
    from_ms: each.from_ms,
    to_ms: each.to_ms,
    kind: each.status !== null && each.status < 400 && !each.why ? "answer" : "failed",
    note: [each.status ?? "no answer", each.why].filter(Boolean).join(", "),
  }));
  const failed = tries.length
    ? []
    : call.failed_attempts.map((each) => ({
        name: `attempt at ${each.address}`,
        from_ms: each.from_ms,
        to_ms: each.to_ms,
        kind: "failed",
        note: String(each.status ?? each.flags.join(", ")),
      }));
  return [
    ...call.timing.map((phase) => ({ ...phase, name: PHASES[phase.name] ?? phase.name, kind: phase.name })),
    ...tries,
    ...failed,
  ];
}

function details(call) {
  const { decision } = call;
  const drawn = spans(call);
  return h(
    "div",
    { class: "inside" },
    h(
      "section",
      {},
      h("h3", {}, "Why it went there"),
      h(
        "ol",
        { class: "why" },
        decision.why.map((each) => h("li", {}, each)),
      ),
    ),
    h(
      "section",
      {},
      h("h3", {}, "Where its time went"),
      drawn.length ? waterfall(drawn, "Timing") : h("p", { class: "dim" }, "Nobody measured it."),
    ),
    h(
      "section",
      { class: "all" },
      h("h3", {}, "The record"),
      facts([
        ["Call", h("code", {}, call.call_id)],
        ["Began", exactly(call.at)],
        ["Organisation", call.org],
        ["Feature", call.feature],
        ["Task", call.task],
        ["Request", `${call.method} ${call.path}`],
        ["API", call.dialect],
        ["Streamed", call.streaming ? "yes" : "no"],
        ["Model requested", call.model_requested],
        ["Model sent", call.model_sent],
        ["Model answered", call.model_answered],
        ["Tokens", tokensOf(call)],
        ["Cost", call.cost_usd === null ? priceOf(call) : `$${call.cost_usd}`],
        ["Price", call.pricing_reason],
        ["First byte", call.first_byte_ms === null ? null : duration(call.first_byte_ms)],
        ["Error", call.error_code ?? call.error_category],
        ["Said by", SOURCES[call.error_source]],
        ["Rule", decision.rule],
        ["Tier", decision.tier ?? decision.auto?.tier],
        ["Score", decision.auto?.score],
        [
          "Signals",
          decision.auto?.signals
            ? Object.entries(decision.auto.signals)
                .filter(([, value]) => value > 0)
                .map(([name, value]) => `${name} ${value}`)
                .join(", ")
            : null,
        ],
        [
          "Key",
          decision.credential
            ? { client: "the client's own", gateway: "the gateway's", none: "none needed" }[decision.credential]
            : null,
        ],
        ["Answer read by", decision.observed ? { native: "Envoy", stream: "lectr" }[decision.observed] : null],
      ]),
    ),
  );
}

function row(call, longest, today) {
  const fold = h(
    "details",
    { class: "call", open: open.has(call.seq) },
    h(
      "summary",
      { id: `call-${call.seq}` },
      h(
        "time",
        { datetime: new Date(call.at * 1000).toISOString(), title: exactly(call.at) },
        h("span", {}, day(call.at) === today ? null : `${day(call.at)} `),
        clock(call.at),
      ),
      outcome(call),
      h(
        "span",
        { class: "what" },
        dot(call.provider),
        h("b", {}, call.model_sent ?? call.model_requested ?? call.path),
        h("span", { class: "dim" }, call.provider ?? ""),
      ),
      h(
        "span",
        { class: "for dim" },
        [call.org ?? "no valid key", call.feature, call.task].filter(Boolean).join(" · "),
      ),
      h("span", { class: "figure tokens" }, tokensOf(call)),
      h("span", { class: "figure price" }, priceOf(call)),
      h("span", { class: "time" }, strip(call, longest), h("span", { class: "figure" }, duration(call.duration_ms))),
    ),
  );
  const fill = () => fold.childElementCount === 1 && fold.append(details(call));
  if (fold.open) fill();
  fold.addEventListener("toggle", () => {
    if (fold.open) open.add(call.seq);
    else open.delete(call.seq);
    fill();
  });
  return fold;
}

export const calls = {
  id: "calls",
  title: "Live calls",
  key: "c",
  filtered: true,
  every: 2,
  /** The same value as before where nothing is new. */
  async load(query, signal) {
    const key = query.toString();
    if (kept?.key !== key) {
      kept = { key, ...(await ask("calls", wantedOf(query), signal)) };
      open.clear();
    } else if (!isPaused && !query.has("to")) {
      const wanted = wantedOf(query);
      wanted.set("after", kept.newest ?? 0);
      const { calls: fresh, newest } = await ask("calls", wanted, signal);
      const all = [...fresh, ...kept.calls];
      const oldest = all.length > MOST ? all[MOST - 1].seq : kept.oldest;
      if (fresh.length) kept = { key, calls: all.slice(0, MOST), newest, oldest };
      else kept.newest = newest;
    }
    return kept;
  },
  draw(data, { query, base, again }) {
    const longest = Math.max(1, ...data.calls.map((call) => call.duration_ms ?? 0));
    const today = day(Date.now() / 1000);
    const older = async (event) => {
      event.target.disabled = true;
      const wanted = wantedOf(query);
      wanted.set("before", data.oldest);
      const { calls: found, oldest } = await ask("calls", wanted);
      kept = { ...kept, calls: [...kept.calls, ...found], oldest };
      again();
    };
    if (!data.calls.length && data.oldest === null) return [empty(query, base)];
    return [
      h(
        "div",
        { class: "tabs" },
        h(
          "button",
          {
            type: "button",
            id: "pause",
            "aria-pressed": String(isPaused),
            onclick: () => {
              isPaused = !isPaused;
              again();
            },
          },
          isPaused ? "Paused: go on" : "Pause",
        ),
        h(
          "p",
          { class: "legend-line" },
          Object.entries(PHASES).map(([name, title]) =>
            h("span", {}, h("span", { class: `swatch ${name}`, "aria-hidden": "true" }), title),
          ),
        ),
      ),
      h(
        "div",
        { class: "calls" },
        data.calls.map((call) => row(call, longest, today)),
      ),
      data.oldest === null
        ? null
        : h("button", { type: "button", id: "older", class: "quiet", onclick: older }, "Older calls"),
    ];
  },
};
