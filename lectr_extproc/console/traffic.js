// Models, features, tasks, organisations: what the calls of a time add up to.

import { h, snippet } from "./dom.js";
import { cost, count, duration, money, plural, share, tokens } from "./format.js";
import { cut, empty } from "./gaps.js";
import { divided, dot, portion, tone } from "./marks.js";
import { ask, asked, link, set } from "./state.js";
import { table } from "./tables.js";

const UNTAGGED_IS_MUCH = 0.2;

// --- models ---

const measured = (part, text) => h("span", { class: "measured" }, portion(part), h("span", {}, text));

const figures = (total) => [
  {
    title: "Requests",
    number: true,
    value: (r) => r.requests,
    cell: (r) => measured(total.requests ? r.requests / total.requests : 0, count(r.requests)),
  },
  {
    title: "Cost",
    number: true,
    value: (r) => (r.cost_usd === null ? null : Number(r.cost_usd)),
    cell: (r) => h("span", { title: r.cost_usd === null ? null : `$${r.cost_usd}` }, cost(r)),
  },
  { title: "Avg latency", number: true, value: (r) => r.average_ms, cell: (r) => duration(r.average_ms) },
  { title: "p95", number: true, value: (r) => r.p95_ms, cell: (r) => duration(r.p95_ms) },
  {
    title: "Errors",
    number: true,
    value: (r) => r.error_rate,
    cell: (r) =>
      h("span", { class: r.error_rate > 0.05 ? "bad" : null, title: plural(r.errors, "error") }, share(r.error_rate)),
  },
  {
    title: "Tokens in / out",
    number: true,
    value: (r) => (r.input_tokens ?? 0) + (r.output_tokens ?? 0),
    cell: (r) => tokens(r),
  },
];

const beyond = ({ more }) =>
  more ? h("p", { class: "note" }, `${plural(more, "smaller group")} not shown. Filters narrow it down.`) : null;

function byProvider(rows) {
  const sums = new Map();
  for (const row of rows) {
    const sum = sums.get(row.provider) ?? {
      name: row.provider ?? "no provider",
      tone: tone(row.provider),
      requests: 0,
      spent: null,
    };
    sum.requests += row.requests;
    if (row.cost_usd !== null) sum.spent = (sum.spent ?? 0) + Number(row.cost_usd);
    sums.set(row.provider, sum);
  }
  const parts = (which) =>
    [...sums.values()]
      .map((sum) => ({ ...sum, value: sum[which] }))
      .filter(({ value }) => value !== null) // what nobody knows is no part of a whole
      .sort((a, b) => b.value - a.value);
  return [
    divided(parts("requests"), { title: "Requests by provider", format: count, share }),
    divided(parts("spent"), { title: "Cost by provider", format: money, share }),
  ];
}

export const models = {
  id: "models",
  title: "Models",
  key: "m",
  filtered: true,
  every: 15,
  load: (query, signal) => ask("models", asked(query), signal),
  draw(data, { query, base }) {
    if (!data.total.requests) return [cut(data), empty(query, base)];
    return [
      cut(data),
      h("div", { class: "columns" }, byProvider(data.rows)),
      table({
        caption: "Models",
        by: "Requests",
        rows: data.rows,
        columns: [
          {
            title: "Model",
            value: (r) => r.model ?? "",
            cell: (r) =>
              r.model === null
                ? h("em", {}, "no model")
                : h("a", { href: link("models", { model: r.model }) }, r.model),
          },
          {
            title: "Provider",
            value: (r) => r.provider ?? "",
            cell: (r) =>
              r.provider === null
                ? h("em", {}, "none")
                : h("a", { href: link("models", { provider: r.provider }), class: "who" }, dot(r.provider), r.provider),
          },
          ...figures(data.total),
        ],
      }),
      beyond(data),
    ];
  },
};

// --- features, tasks, organisations ---

const GROUPS = {
  features: ["Features", "feature", "untagged"],
  tasks: ["Tasks", "task", "no task"],
  orgs: ["Organisations", "org", "no valid key"],
};

function untagged({ untagged_share: part }) {
  if (!(part > UNTAGGED_IS_MUCH)) return null;
  return h(
    "aside",
    { class: "hint" },
    h("h2", {}, `${share(part)} of the calls say no feature`),
    h(
      "p",
      {},
      "What they cost cannot be told apart. One header names what a call is for; it is taken off before the provider sees it:",
    ),
    snippet("X-Lectr-Feature: search", "the header"),
  );
}

export const features = {
  id: "features",
  title: "Features",
  key: "f",
  filtered: true,
  every: 15,
  load: (query, signal) => ask(query.get("by") in GROUPS ? query.get("by") : "features", asked(query), signal),
  draw(data, { query, base }) {
    const by = query.get("by") in GROUPS ? query.get("by") : "features";
    const [title, field, nothing] = GROUPS[by];
    const spent = Number(data.total.cost_usd ?? 0);
    const [requests, price, ...others] = figures(data.total);
    const part = (r) => (spent && r.cost_usd !== null ? Number(r.cost_usd) / spent : null);
    return [
      h(
        "div",
        { class: "tabs", role: "group", "aria-label": "Group by" },
        Object.entries(GROUPS).map(([id, [name]]) =>
          h(
            "button",
            { type: "button", id: `by-${id}`, "aria-pressed": String(id === by), onclick: () => set("by", id) },
            name,
          ),
        ),
      ),
      cut(data),
      data.total.requests
        ? [
            by === "features" ? untagged(data) : null,
            table({
              caption: title,
              by: "Cost",
              rows: data.rows,
              columns: [
                {
                  title: title.replace(/s$/, ""),
                  value: (r) => r[field] ?? "",
                  cell: (r) =>
                    h(
                      "a",
                      { href: link("models", { [field]: r[field] }) },
                      r[field] === null ? h("em", {}, nothing) : r[field],
                    ),
                },
                { title: "Cost share", number: true, value: part, cell: (r) => measured(part(r), share(part(r))) },
                price,
                requests,
                ...others,
              ],
            }),
            beyond(data),
          ]
        : empty(query, base),
    ];
  },
};
