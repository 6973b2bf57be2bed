// Recommendations and anomalies: what could cost less, and what was unlike the week before.

import { h, idOf, snippet } from "./dom.js";
import { ago, count, duration, money, moment, plural, share, span } from "./format.js";
import { dot, portion } from "./marks.js";
import { ask, place, set, tell } from "./state.js";

const only = (query) => new URLSearchParams([...query].filter(([name]) => name === "org" || name === "feature"));

const quoted = (text) => JSON.stringify(text); // JSON's strings are YAML's, whatever a client named its feature

const terms = (pairs) =>
  pairs
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${quoted(value)}`)
    .join(", ");

/** Rules that try the other model with a tenth of the calls. One without a task would reach reasoning, too. */
function rules(each) {
  const calls = [
    ["feature", each.feature],
    ["model", each.model],
  ];
  const apart = [
    `  - name: ${quoted(`keep-${each.model}`)}`,
    `    when: {${terms([["task", "reasoning"], ...calls])}}`,
    `    then: {model: ${quoted(each.model)}}`,
  ];
  return [
    "orgs:",
    `- name: ${quoted(each.org)}`,
    "  rules:",
    ...(each.task === null ? apart : []),
    `  - name: ${quoted(`try-${each.target}`)}`,
    `    when: {${terms([["task", each.task], ...calls])}}`,
    `    split: [{weight: 90}, {weight: 10, model: ${quoted(each.target)}}]`,
  ].join("\n");
}

function recommendation(each) {
  const part = Number(each.saving_usd) / Number(each.cost_usd);
  const { evidence } = each;
  return h(
    "article",
    { class: "advice" },
    h(
      "div",
      { class: "worth" },
      h("strong", {}, money(each.saving_usd)),
      h("span", {}, "a month"),
      portion(part, "saving"),
      h("span", { class: "dim" }, `${share(part)} of ${money(each.cost_usd)}`),
    ),
    h(
      "div",
      {},
      h(
        "h2",
        {},
        h("span", { class: "who" }, dot(each.provider), each.model),
        h("span", { class: "to", "aria-label": "to" }),
        each.target,
      ),
      h(
        "p",
        {},
        [each.org, each.feature ? `feature ${each.feature}` : "untagged calls", each.task ? `task ${each.task}` : null]
          .filter(Boolean)
          .join(" · "),
      ),
      h(
        "p",
        { class: "marks" },
        h("span", { class: `pill ${each.confidence === "high" ? "good" : ""}` }, `${each.confidence} confidence`),
        h("span", { class: "pill" }, each.boldness),
        each.target_retires ? h("span", { class: "pill warn" }, `${each.target} retires ${each.target_retires}`) : null,
      ),
      h(
        "p",
        { class: "dim" },
        `${plural(evidence.calls, "call")} in ${span(evidence.days * 86400)}, tokens known of ${count(evidence.counted)}; longest prompt ${count(evidence.most_input)}, longest answer ${count(evidence.most_output)} tokens; ${share(evidence.error_rate)} failed. `,
        evidence.target_calls
          ? `${each.target} has had ${plural(evidence.target_calls, "call")}, ${share(evidence.target_error_rate)} failed.`
          : `${each.target} has had no calls of this organisation yet.`,
      ),
      h(
        "details",
        { id: idOf("rule", each.org, each.feature, each.task, each.model) },
        h("summary", {}, "The rule that tries it with a tenth of the calls"),
        each.feature === null || each.task === null
          ? h("p", { class: "note" }, "It reaches other calls to this model, too: no rule asks for those without a feature or a task.")
          : null,
        snippet(rules(each), "the rule"),
      ),
    ),
  );
}

export const recommendations = {
  id: "recommendations",
  title: "Recommendations",
  key: "r",
  every: 60,
  soon: (data) => (data.as_of === null ? 2 : null),
  load: (query, signal) => ask("recommendations", only(query), signal),
  draw(data) {
    if (data.as_of === null) return h("p", { class: "dim" }, "The calls of the last weeks are being read …");
    if (!data.recommendations.length) {
      return h(
        "section",
        { class: "empty" },
        h("h2", {}, "Nothing to recommend"),
        h(
          "p",
          {},
          `Looked at the last ${plural(data.days, "day")}, ${ago(data.as_of)}. A cheaper model is named once a feature has been seen for a week, with 100 calls and tokens known. `,
          "Tasks make it surer: send ",
          h("code", {}, "X-Lectr-Task: classification"),
          ".",
        ),
      );
    }
    return [
      h(
        "p",
        { class: "lead" },
        h("strong", {}, money(data.saving_usd)),
        ` a month could be saved with ${plural(data.recommendations.length, "change")}. `,
        h(
          "span",
          { class: "dim" },
          `From the calls of ${plural(data.days, "day")}, read ${ago(data.as_of)}. Nothing is changed by itself.`,
        ),
      ),
      data.recommendations.map(recommendation),
    ];
  },
};

const UNITS = {
  cost: (value) => `${money(value)} an hour`,
  latency: duration,
  errors: (value) => `${share(value)} failed`,
  drift: (value) => `${share(value)} from another model`,
  traffic_up: (value) => `${count(value)} calls an hour`,
  traffic_down: (value) => `${count(value)} calls an hour`,
};
const KINDS = {
  cost: "Cost",
  latency: "Latency",
  errors: "Errors",
  traffic_up: "More traffic",
  traffic_down: "Less traffic",
  drift: "Model drift",
};

function anomaly(each, again) {
  const unit = UNITS[each.kind] ?? count;
  const most = Math.max(each.baseline, each.observed) || 1;
  const dismiss = async (event) => {
    event.target.disabled = true;
    await tell(`anomalies/${encodeURIComponent(each.id)}/dismiss`).then(again, (error) => {
      event.target.replaceWith(h("span", { class: "bad", role: "alert" }, error.message));
    });
  };
  return h(
    "article",
    { class: `anomaly ${each.severity}${each.dismissed ? " gone" : ""}` },
    h(
      "div",
      { class: "when" },
      h("time", { datetime: new Date(each.began * 1000).toISOString() }, moment(each.began)),
      h("span", { class: "dim" }, each.ended ? `for ${span(each.ended - each.began)}` : "still going on"),
    ),
    h(
      "div",
      {},
      h(
        "h2",
        {},
        h("span", { class: `pill ${each.severity === "critical" ? "bad" : "warn"}` }, each.severity),
        KINDS[each.kind] ?? each.kind,
        h(
          "span",
          { class: "dim" },
          [each.org, each.feature ?? "untagged", `${each.sigmas > 0 ? "+" : ""}${each.sigmas.toFixed(1)} σ`]
            .filter(Boolean)
            .join(" · "),
        ),
      ),
      h(
        "dl",
        { class: "versus" },
        h("div", {}, h("dt", {}, "usually"), h("dd", {}, portion(each.baseline / most), unit(each.baseline))),
        h(
          "div",
          {},
          h("dt", {}, "then"),
          h(
            "dd",
            {},
            portion(each.observed / most, each.severity === "critical" ? "tone-bad" : "tone-warn"),
            unit(each.observed),
          ),
        ),
      ),
    ),
    each.dismissed
      ? h("span", { class: "dim" }, "dismissed")
      : h(
          "button",
          {
            type: "button",
            class: "quiet",
            id: `dismiss-${each.id}`,
            "aria-label": `Dismiss ${each.text}`,
            onclick: dismiss,
          },
          "Dismiss",
        ),
  );
}

export const anomalies = {
  id: "anomalies",
  title: "Anomalies",
  key: "a",
  every: 60,
  soon: (data) => (data.as_of === null ? 2 : null),
  load: (query, signal) => ask("anomalies", only(query), signal),
  draw(data, { again }) {
    if (data.as_of === null) return h("p", { class: "dim" }, "The hours of the last weeks are being read …");
    const isAll = place().query.has("dismissed");
    const shown = data.anomalies.filter((each) => isAll || !each.dismissed);
    const hidden = data.anomalies.length - data.anomalies.filter((each) => !each.dismissed).length;
    return [
      hidden
        ? h(
            "div",
            { class: "tabs" },
            h(
              "button",
              {
                type: "button",
                id: "dismissed",
                "aria-pressed": String(isAll),
                onclick: () => set("dismissed", isAll ? null : ""),
              },
              `Show ${count(hidden)} dismissed`,
            ),
          )
        : null,
      shown.length
        ? shown.map((each) => anomaly(each, again))
        : h(
            "section",
            { class: "empty" },
            h("h2", {}, "Nothing unusual"),
            h(
              "p",
              {},
              `Every hour of the last ${plural(data.days, "day")} was compared with the same hour of the days before. Looked at ${ago(data.as_of)}.`,
            ),
          ),
      data.learning.length
        ? h(
            "section",
            { class: "panel" },
            h("h2", {}, "Still being learnt"),
            h(
              "ul",
              { class: "plain" },
              data.learning.map((each) =>
                h(
                  "li",
                  {},
                  `${each.org}, ${each.feature ?? "untagged"}: watched in ${plural(each.hours_left, "hour")}`,
                ),
              ),
            ),
          )
        : null,
    ];
  },
};
