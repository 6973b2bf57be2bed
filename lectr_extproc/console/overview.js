// The overview: six figures, how one of them went on, and what it was spent on.

import { trend } from "./charts.js";
import { h } from "./dom.js";
import { compact, cost, count, duration, money, plural, roundly, share } from "./format.js";
import { cut, empty } from "./gaps.js";
import { dot, portion, spark, tone } from "./marks.js";
import { ask, asked, link, set } from "./state.js";

const MEASURES = [
  {
    id: "requests",
    title: "Requests",
    big: (t) => (t.requests < 1e6 ? count(t.requests) : compact(t.requests)),
    value: (p) => p.requests,
    format: compact,
    under: (p) => p.errors,
    sub: (t) => plural(t.errors, "error"),
  },
  {
    id: "cost",
    title: "Cost",
    big: (t) => money(t.cost_usd),
    value: (p) => (p.cost_usd === null ? null : Number(p.cost_usd)),
    format: (v) => money(v),
    sub: (t) => (t.unpriced ? `${count(t.unpriced)} without a price` : "USD, all priced"),
  },
  {
    id: "rate",
    title: "Cost per hour",
    big: (t) => money(t.cost_per_hour_usd),
    value: (p, step) => (p.cost_usd === null ? null : (Number(p.cost_usd) * 3600) / step),
    format: (v) => money(v),
    sub: () => "USD, on average",
  },
  {
    id: "errors",
    title: "Error rate",
    big: (t) => share(t.error_rate),
    value: (p) => (p.requests ? p.errors / p.requests : null),
    format: share,
    sub: (t) => `of ${plural(t.requests, "call")}`,
    bad: (t) => t.error_rate > 0.05,
  },
  {
    id: "p95",
    title: "p95 latency",
    big: (t) => duration(t.p95_ms),
    value: (p) => p.p95_ms,
    format: roundly,
    sub: (t) => `average ${duration(t.average_ms)}`,
  },
  {
    id: "pace",
    title: "Requests per minute",
    big: (t) => compact(t.requests_per_minute),
    value: (p, step) => (p.requests * 60) / step,
    format: compact,
    sub: () => "on average",
  },
];

function readPoint(point) {
  const parts = [plural(point.requests, "call") + (point.whole ? "" : " so far"), cost(point)];
  if (point.errors) parts.push(plural(point.errors, "error"));
  if (point.p95_ms !== null) parts.push(`p95 ${duration(point.p95_ms)}`);
  return parts.join(", ");
}

function top(title, rows, view, name, more) {
  const priced = rows.some((row) => Number(row.cost_usd) > 0);
  const size = (row) => (priced ? Number(row.cost_usd ?? 0) : row.requests);
  const whole = more.cost && priced ? Number(more.cost) : rows.reduce((sum, row) => sum + size(row), 0);
  const shown = [...rows].sort((a, b) => size(b) - size(a)).slice(0, 6);
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, h("a", { href: link(view) }, title)),
    h(
      "ul",
      { class: "ranking" },
      shown.map((row) =>
        h(
          "li",
          {},
          h("span", { class: "who" }, name(row)),
          portion(whole ? size(row) / whole : 0, more.tone?.(row) ?? ""),
          h("span", { class: "figure" }, cost(row)),
          h("span", { class: "figure dim" }, plural(row.requests, "call")),
        ),
      ),
    ),
  );
}

export const overview = {
  id: "overview",
  title: "Overview",
  key: "o",
  filtered: true,
  every: 10,
  async load(query, signal) {
    const unusual = ask("anomalies", "", signal).catch(() => ({ anomalies: [] }));
    const data = await ask("overview", asked(query), signal);
    return { ...data, unusual: (await unusual).anomalies.filter((each) => each.ended === null && !each.dismissed) };
  },
  /** Below the fold, and as much work again. */
  async rest(query, signal) {
    const [models, features] = await Promise.all(["models", "features"].map((what) => ask(what, asked(query), signal)));
    return { models, features };
  },
  draw(data, { query, base }) {
    const { total, range } = data;
    const step = data.trend.step_s;
    const isWhole = ({ at }) => at >= range.covers_since && at + step <= range.until;
    const points = data.trend.points.map((point) => ({ ...point, whole: isWhole(point) }));
    if (!total.requests) return [cut(data), empty(query, base)];
    const chosen = MEASURES.find((each) => each.id === query.get("show")) ?? MEASURES[0];
    return [
      cut(data),
      data.unusual.length
        ? h(
            "p",
            { class: "note" },
            h("a", { href: link("anomalies") }, plural(data.unusual.length, "anomaly", "anomalies")),
            ` going on: ${data.unusual
              .slice(0, 3)
              .map((each) => `${each.feature ?? each.org ?? "untagged"}, ${each.text}`)
              .join("; ")}`,
          )
        : null,
      h(
        "div",
        { class: "tiles", role: "group", "aria-label": "Figures; each shows its trend" },
        MEASURES.map((each) =>
          h(
            "button",
            {
              type: "button",
              id: `tile-${each.id}`,
              class: `tile${each.bad?.(total) ? " bad" : ""}`,
              "aria-pressed": String(each === chosen),
              onclick: () => set("show", each.id),
            },
            h("span", { class: "label" }, each.title),
            h("strong", {}, each.big(total)),
            h("span", { class: "sub" }, each.sub(total)),
            spark(points.map((p) => (p.whole ? each.value(p, step) : null))),
          ),
        ),
      ),
      h(
        "section",
        { class: "panel wide" },
        h(
          "h2",
          {},
          chosen.title,
          chosen.under
            ? h("span", { class: "key" }, h("span", { class: "dot tone-bad", "aria-hidden": "true" }), " errors")
            : null,
        ),
        trend({
          points,
          step,
          value: (p) => chosen.value(p, step),
          under: chosen.under ?? null,
          format: chosen.format,
          title: chosen.title,
          read: readPoint,
        }),
      ),
      data.models
        ? h(
            "div",
            { class: "columns" },
            top(
              "Models",
              data.models.rows,
              "models",
              (row) => [dot(row.provider), h("span", {}, row.model ?? "no model")],
              { cost: data.models.total.cost_usd, tone: (row) => tone(row.provider) },
            ),
            top(
              "Features",
              data.features.rows,
              "features",
              (row) => (row.feature === null ? h("em", {}, "untagged") : h("span", {}, row.feature)),
              { cost: data.features.total.cost_usd },
            ),
          )
        : null,
    ];
  },
};
