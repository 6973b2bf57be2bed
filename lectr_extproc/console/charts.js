// Charts, as SVG drawn for the width that they get; each has its figures as a table, too.

import { h, s } from "./dom.js";
import { DASH, day, duration, minute, moment, roundly } from "./format.js";

/** Round values from 0 to at least `most`. */
export function ticks(most, wanted = 4) {
  if (!(most > 0)) return [0, 1];
  const raw = most / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw * 0.999) * power;
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => i * step);
}

const STEPS = [60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600];

/** Moments that are round by the clock of who looks. */
export function timeTicks(since, until, wanted) {
  const step = STEPS.find((each) => (until - since) / each <= wanted) ?? STEPS.at(-1);
  const offset = new Date(since * 1000).getTimezoneOffset() * 60;
  const first = Math.ceil((since - offset) / step) * step + offset;
  const found = [];
  for (let at = first; at <= until; at += step) found.push(at);
  return { step, found };
}

/** A figure that is drawn again when its width changes. */
function fitted(attributes, draw, ...rest) {
  const figure = h("figure", { class: attributes.figure });
  const room = h("div", { class: "plot", ...attributes.plot });
  figure.append(room, ...rest);
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(room.clientWidth);
    if (now > 0 && now !== width) room.replaceChildren(...draw((width = now)));
  }).observe(room);
  return figure;
}

export function asTable(caption, heads, rows) {
  return h(
    "details",
    { class: "astable", id: `table-${caption}` },
    h("summary", {}, "As a table"),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      h(
        "table",
        {},
        h("caption", {}, caption),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map((head) => h("th", { scope: "col" }, head)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) =>
            h(
              "tr",
              {},
              row.map((cell, i) => h(i ? "td" : "th", i ? { class: "number" } : { scope: "row" }, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}

const TOP = 12;
const BOTTOM = 26;
const RIGHT = 10;
const NARROW = 500;

// Where each trend is being read, by its title: it is drawn again while somebody reads.
const reading = new Map();

const runsOf = (points, value) => {
  const runs = [];
  points.forEach((point, i) => {
    if (value(point) === null) return;
    if (i === 0 || value(points[i - 1]) === null) runs.push([]);
    runs.at(-1).push(point);
  });
  return runs;
};

/**
 * How a figure goes on: an area under a line, with gaps where nothing is known, and beneath it in another colour the
 * part of it that `under` gives. Points: {at, whole, …}; `value` reads one. The pointer, or arrow keys, read it out. To those
 * that are not whole yet the line is dotted: it would look like a fall.
 */
export function trend({ points, step, value, under = null, format, title, read, height = 240 }) {
  const most = Math.max(0, ...points.map((point) => value(point) ?? 0));
  const levels = ticks(most);
  const since = points[0].at;
  const until = points.at(-1).at + step;
  const floor = height - BOTTOM;
  const y = (number) => TOP + (1 - number / levels.at(-1)) * (floor - TOP);
  const said = h("figcaption", { class: "read", "aria-live": "polite" }, "");
  const mark = s("g", { class: "mark" }, s("line", { y1: TOP, y2: floor }), s("circle", { r: 4 }));
  let x = () => 0;

  const chosen = () => points.findIndex((point) => point.at === reading.get(title));
  const tell = () => {
    const here = points[chosen()];
    mark.setAttribute("visibility", here ? "visible" : "hidden");
    said.textContent = "";
    if (!here) return;
    mark.setAttribute("transform", `translate(${x(here.at + step / 2)} 0)`);
    mark.lastChild.setAttribute("cy", y(value(here) ?? 0));
    mark.lastChild.setAttribute("visibility", value(here) === null ? "hidden" : "inherit");
    const end = here.at + step;
    said.textContent = `${moment(here.at)} – ${step >= 86400 ? day(end) : minute(end)}: ${read(here)}`;
  };
  const point = (i) => {
    reading.set(title, points[Math.min(points.length - 1, Math.max(0, i))].at);
    tell();
  };
  const leave = () => {
    reading.delete(title);
    tell();
  };

  const draw = (width) => {
    const left = width < NARROW ? 42 : 56;
    const inner = width - left - RIGHT;
    x = (at) => left + ((at - since) / (until - since)) * inner;
    const middle = (each) => x(each.at + step / 2).toFixed(1);
    const hours = timeTicks(since, until, Math.max(2, Math.floor(inner / 64)));
    const isDay = (at) =>
      hours.step >= 86400 || new Date(at * 1000).getHours() + new Date(at * 1000).getMinutes() === 0;
    tell();
    return [
      s(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
        levels.map((level) =>
          s(
            "g",
            { class: "grid" },
            s("line", { x1: left, x2: width - RIGHT, y1: y(level), y2: y(level) }),
            s("text", { x: left - 8, y: y(level) + 4, "text-anchor": "end" }, format(level)),
          ),
        ),
        hours.found
          .filter((at) => x(at) > left + 16 && x(at) < width - 24)
          .map((at) =>
            s("text", { x: x(at), y: height - 8, "text-anchor": "middle" }, isDay(at) ? day(at) : minute(at)),
          ),
        runsOf(points, (each) => (each.whole ? value(each) : null)).map((run) => {
          const line = run.map((each) => `${middle(each)},${y(value(each)).toFixed(1)}`).join(" ");
          const area = `${middle(run[0])},${floor} ${line} ${middle(run.at(-1))},${floor}`;
          if (run.length === 1) return s("circle", { class: "alone", cx: middle(run[0]), cy: y(value(run[0])), r: 3 });
          return [s("polygon", { class: "area", points: area }), s("polyline", { class: "line", points: line })];
        }),
        points.flatMap((each, i) => {
          if (each.whole || !value(each)) return [];
          const beside = points[i + (i ? -1 : 1)];
          const dots = [each, beside].filter((one) => one && value(one) !== null);
          return [
            s("polyline", { class: "so-far", points: dots.map((one) => `${middle(one)},${y(value(one))}`).join(" ") }),
            s("circle", { class: "so-far", cx: middle(each), cy: y(value(each)), r: 3 }),
          ];
        }),
        points
          .filter((each) => under?.(each) > 0)
          .map((each) =>
            s("rect", {
              class: "under",
              x: x(each.at) + 1,
              width: Math.max(1.5, inner / points.length - 2),
              y: Math.min(floor - 2, y(under(each))),
              height: Math.max(2, floor - y(under(each))),
              rx: 1,
            }),
          ),
        s("line", { class: "base", x1: left, x2: width - RIGHT, y1: floor, y2: floor }),
        mark,
      ),
    ];
  };

  const plot = {
    tabindex: 0,
    role: "img",
    id: `trend-${title}`,
    "aria-label": `${title}, from ${moment(since)} to ${moment(until)}; highest ${format(most)}. Arrow keys read it out.`,
    onpointermove: (event) => {
      const { left, right } = event.currentTarget.getBoundingClientRect();
      const begin = x(since);
      const along = (event.clientX - left - begin) / (right - left - begin - RIGHT);
      if (along >= 0 && along < 1) point(Math.floor(along * points.length));
    },
    onpointerleave: leave,
    // Drawn again, it has the focus again in the same task.
    onblur: () => setTimeout(() => document.activeElement.id !== plot.id && leave()),
    onkeydown: (event) => {
      const now = chosen();
      const moves = {
        ArrowLeft: now < 0 ? points.length - 1 : now - 1,
        ArrowRight: now + 1,
        Home: 0,
        End: points.length,
      };
      if (!(event.key in moves)) return;
      event.preventDefault();
      point(moves[event.key]);
    },
  };
  return fitted(
    { figure: "trend", plot },
    draw,
    said,
    asTable(
      title,
      ["From", title],
      points.map((each) => [moment(each.at), value(each) === null ? DASH : format(value(each))]),
    ),
  );
}

/** Spans of time below each other, on one axis: {name, from_ms, to_ms, kind, note}. One without an end goes on to the edge. */
export function waterfall(spans, title) {
  const end = Math.max(...spans.map((span) => span.to_ms ?? span.from_ms), 0.1);
  const levels = ticks(end, 5);
  const most = levels.at(-1);
  const ROW = 24,
    AXIS = 22;
  const height = spans.length * ROW + AXIS;
  const draw = (width) => {
    const left = Math.min(190, Math.floor(width * 0.34)),
      inner = width - left - 66;
    const x = (ms) => left + (ms / most) * inner;
    return [
      s(
        "svg",
        {
          width,
          height,
          viewBox: `0 0 ${width} ${height}`,
          role: "img",
          "aria-label": `${title}: ${spans.map((span) => `${span.name} ${span.to_ms === null ? "" : duration(span.to_ms - span.from_ms)}`).join(", ")}`,
        },
        levels
          .filter((_, i) => inner > 300 || i % 2 === 0)
          .map((level) =>
            s(
              "g",
              { class: "grid" },
              s("line", { x1: x(level), x2: x(level), y1: 0, y2: height - AXIS }),
              s("text", { x: x(level), y: height - 6, "text-anchor": "middle" }, roundly(level)),
            ),
          ),
        spans.map((span, i) =>
          s(
            "g",
            { class: `span ${span.kind}` },
            s(
              "text",
              { class: "name", x: 0, y: i * ROW + 16 },
              span.name.length > left / 7 ? `${span.name.slice(0, left / 7 - 1)}…` : span.name,
              s("title", {}, span.name),
            ),
            s("rect", {
              x: x(span.from_ms),
              y: i * ROW + 5,
              height: ROW - 10,
              rx: 2,
              width: Math.max(2, x(span.to_ms ?? most) - x(span.from_ms)),
            }),
            s(
              "text",
              { class: "figure", x: x(span.to_ms ?? most) + 6, y: i * ROW + 16 },
              span.note ?? (span.to_ms === null ? "" : duration(span.to_ms - span.from_ms)),
            ),
          ),
        ),
      ),
    ];
  };
  return fitted({ figure: "waterfall" }, draw);
}
