// Limits, providers, settings: how the gateway itself stands.

import { h, idOf, s } from "./dom.js";
import { clock, compact, count, DASH, duration, money, plural, share, span } from "./format.js";
import { cut } from "./gaps.js";
import { dot } from "./marks.js";
import { ask, asked, link } from "./state.js";
import { facts, table } from "./tables.js";

// --- limits ---

const amount = (unit, value) => (value === null ? DASH : unit === "usd" ? money(value) : compact(Number(value)));

function limit(each) {
  const part = each.share;
  const state = part === null ? "" : part >= 1 ? "over" : part >= Math.min(...each.warn_at, 1) ? "near" : "";
  const words = {
    over: each.over ? `reached: calls get ${each.over}` : "reached: calls are refused",
    near: "near its end",
    "": "",
  }[state];
  return h(
    "div",
    { class: `limit ${state}` },
    h(
      "div",
      { class: "line" },
      h("span", {}, each.limit, h("span", { class: "dim" }, ` · ${each.for}`)),
      h(
        "span",
        { class: "figure" },
        `${amount(each.unit, each.used)} of ${amount(each.unit, each.most)}${each.unit === "usd" ? "" : ` ${each.unit}`}`,
      ),
    ),
    s(
      "svg",
      {
        class: "meter",
        role: "meter",
        "aria-label": `${each.limit}, ${each.for}`,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": part === null ? null : Math.round(part * 100),
        "aria-valuetext": part === null ? "not known" : share(part),
      },
      s("rect", { class: "room", width: "100%", height: "100%", rx: 3 }),
      s("rect", { class: "full", width: `${Math.min(100, (part ?? 0) * 100)}%`, height: "100%", rx: 3 }),
      each.warn_at
        .filter((mark) => mark < 1)
        .map((mark) => s("rect", { class: "warnmark", x: `${mark * 100}%`, width: 1.5, height: "100%" })),
    ),
    h(
      "div",
      { class: "line dim" },
      h("span", { class: "state" }, words),
      h(
        "span",
        {},
        [
          part === null ? "not known" : share(part),
          each.resets_at ? `resets in ${span(each.resets_at - Date.now() / 1000)}` : null,
        ]
          .filter(Boolean)
          .join(" · "),
      ),
    ),
  );
}

export const limits = {
  id: "limits",
  title: "Limits",
  key: "l",
  every: 10,
  load: (query, signal) =>
    ask("limits", new URLSearchParams(query.get("org") ? [["org", query.get("org")]] : []), signal),
  draw(data) {
    if (!data.limits.length && !data.problem) {
      return h(
        "section",
        { class: "empty" },
        h("h2", {}, "No organisation has a limit"),
        h(
          "p",
          {},
          "Requests, tokens, streams and dollars can be bounded for an organisation, a feature or a key, in its settings under ",
          h("code", {}, "limits"),
          ".",
        ),
      );
    }
    const orgs = Map.groupBy(data.limits, (each) => each.org);
    return [
      data.problem ? h("p", { class: "note", role: "alert" }, `The counters cannot be read: ${data.problem}`) : null,
      h(
        "div",
        { class: "columns" },
        [...orgs].map(([org, all]) => h("section", { class: "panel" }, h("h2", {}, org), all.map(limit))),
      ),
      data.more ? h("p", { class: "note" }, `${plural(data.more, "more limit")} not shown.`) : null,
    ];
  },
};

// --- providers ---

function breaker(each) {
  return h(
    "li",
    { class: "bad" },
    h(
      "span",
      { class: "who" },
      dot(each.provider),
      h("b", {}, each.provider),
      each.model,
      h("span", { class: "dim" }, each.host),
    ),
    h(
      "span",
      {},
      `${each.state === "open" ? "open" : "half open, one call tries it"} after ${plural(each.failures, "failure")}`,
      each.state === "open" ? `, until ${clock(each.until)} (${span(each.until - Date.now() / 1000)})` : "",
    ),
  );
}

function standing(row, open) {
  if (open) return h("span", { class: "pill bad" }, "breaker open");
  const rate = row.requests ? row.provider_errors / row.requests : 0;
  return rate > 0.05
    ? h("span", { class: "pill warn" }, `${share(rate)} fail`)
    : h("span", { class: "pill good" }, "healthy");
}

export const providers = {
  id: "providers",
  title: "Providers",
  key: "p",
  filtered: true,
  every: 10,
  load: (query, signal) => ask("providers", asked(query), signal),
  draw(data) {
    const open = new Set(data.breakers.map((each) => each.provider));
    const soon = new Map();
    for (const each of data.first_tokens)
      soon.set(each.provider, Math.min(soon.get(each.provider) ?? Infinity, each.first_token_ms));
    const rows = data.rows.filter((row) => row.provider !== null);
    return [
      cut(data),
      h(
        "section",
        { class: "panel" },
        h("h2", {}, "Breakers"),
        data.breakers.length
          ? h("ul", { class: "breakers" }, data.breakers.map(breaker))
          : h("p", { class: "dim" }, "All closed: no model has failed so often that another is asked first."),
      ),
      rows.length
        ? table({
            caption: "Providers",
            by: "Requests",
            rows,
            columns: [
              {
                title: "Provider",
                value: (r) => r.provider,
                cell: (r) =>
                  h("a", { class: "who", href: link("models", { provider: r.provider }) }, dot(r.provider), r.provider),
              },
              { title: "State", cell: (r) => standing(r, open.has(r.provider)) },
              { title: "Requests", number: true, value: (r) => r.requests, cell: (r) => count(r.requests) },
              {
                title: "Its errors",
                number: true,
                value: (r) => r.provider_errors,
                cell: (r) =>
                  `${count(r.provider_errors)} (${share(r.requests ? r.provider_errors / r.requests : null)})`,
              },
              { title: "Avg latency", number: true, value: (r) => r.average_ms, cell: (r) => duration(r.average_ms) },
              { title: "p95", number: true, value: (r) => r.p95_ms, cell: (r) => duration(r.p95_ms) },
              {
                title: "Soonest first token",
                number: true,
                value: (r) => soon.get(r.provider) ?? null,
                cell: (r) => duration(soon.get(r.provider) ?? null),
              },
            ],
          })
        : h("p", { class: "dim" }, "No provider was called in this time."),
      data.first_tokens.length
        ? table({
            caption: "How soon models answer",
            by: "First token",
            falling: false,
            rows: data.first_tokens,
            columns: [
              {
                title: "Model",
                value: (r) => r.model,
                cell: (r) => h("span", { class: "who" }, dot(r.provider), r.model),
              },
              { title: "Address", value: (r) => r.host, cell: (r) => r.host },
              {
                title: "First token",
                number: true,
                value: (r) => r.first_token_ms,
                cell: (r) => duration(r.first_token_ms),
              },
            ],
          })
        : null,
    ];
  },
};

// --- settings ---

function value(of) {
  if (of === null) return h("span", { class: "dim" }, "not set");
  if (Array.isArray(of))
    return of.length
      ? h(
          "ul",
          { class: "tree" },
          of.map((each) => h("li", {}, value(each))),
        )
      : h("span", { class: "dim" }, "none");
  if (typeof of === "object") {
    return Object.keys(of).length
      ? h(
          "dl",
          { class: "tree" },
          Object.entries(of).map(([name, each]) => h("div", {}, h("dt", {}, name), h("dd", {}, value(each)))),
        )
      : h("span", { class: "dim" }, "none");
  }
  return h("code", {}, String(of));
}

export const settings = {
  id: "settings",
  title: "Settings",
  key: "s",
  every: 30,
  load: (query, signal) => ask("settings", "", signal),
  draw(data) {
    const isNested = (of) => typeof of === "object" && of !== null && Object.keys(of).length > 0;
    const [sections, single] = [true, false].map((wanted) =>
      Object.entries(data.settings).filter(([name, of]) => name !== "orgs_more" && isNested(of) === wanted),
    );
    return [
      data.problem
        ? h(
            "section",
            { class: "hint bad", role: "alert" },
            h("h2", {}, "The file was changed, and is not in force"),
            h("p", {}, data.problem),
            h("p", {}, "Below are the settings in force: those before it."),
          )
        : null,
      data.settings.orgs_more
        ? h("p", { class: "note" }, `${plural(data.settings.orgs_more, "more organisation")} not shown.`)
        : null,
      data.warnings.map((each) => h("p", { class: "note" }, each)),
      facts([
        ["lectr", data.version],
        ["Prices", data.prices.version],
        ["Newer prices", data.prices.problem],
      ]),
      h(
        "p",
        { class: "dim" },
        "As they were loaded, with what the file leaves out. Keys are told by the beginning of their digest; secrets are named, and never read here.",
      ),
      single.length ? h("section", { class: "panel" }, facts(single.map(([name, of]) => [name, value(of)]))) : null,
      sections.map(([name, of]) =>
        h(
          "details",
          { class: "panel", id: idOf("section", name) },
          h(
            "summary",
            {},
            h("h2", {}, name),
            h("span", { class: "dim" }, plural(Object.keys(of).length, "entry", "entries")),
          ),
          value(of),
        ),
      ),
    ];
  },
};
