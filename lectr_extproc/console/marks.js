// Small drawings beside text: what they show stands there in words, too.

import { h, s } from "./dom.js";

const KNOWN = ["openai", "anthropic", "gemini", "azure", "groq", "bedrock", "mistral", "xai", "deepseek"];
const TONES = 9;

/** The colour of a provider: the same everywhere, and another one for each of the usual ones. */
export function tone(provider) {
  if (!provider) return "tone-none";
  const known = KNOWN.indexOf(provider);
  if (known >= 0) return `tone-${known}`;
  return `tone-${[...provider].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7) % TONES}`;
}

export const dot = (provider) => h("span", { class: `dot ${tone(provider)}`, "aria-hidden": "true" });

/** A small line without axes; what it shows stands beside it in words. */
export function spark(values, width = 96, height = 24) {
  const most = Math.max(...values.map((value) => value ?? 0), 0) || 1;
  const x = (i) => 1 + (i / Math.max(1, values.length - 1)) * (width - 2);
  const y = (value) => height - 2 - (value / most) * (height - 4);
  const known = values
    .map((value, i) => (value === null ? null : `${x(i).toFixed(1)},${y(value).toFixed(1)}`))
    .filter(Boolean);
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    known.length > 1 ? s("polyline", { points: known.join(" ") }) : null,
  );
}

/** How a whole is divided: one bar, its parts in their colours, and a legend that has the figures. */
export function divided(parts, { title, format, share }) {
  const whole = parts.reduce((sum, part) => sum + part.value, 0);
  if (!whole) return null;
  let before = 0;
  const pieces = parts
    .filter((part) => part.value > 0)
    .map((part) => {
      const piece = s(
        "rect",
        {
          class: `part ${part.tone}`,
          x: `${(before / whole) * 100}%`,
          width: `${(part.value / whole) * 100}%`,
          height: "100%",
        },
        s("title", {}, `${part.name}: ${format(part.value)}, ${share(part.value / whole)}`),
      );
      before += part.value;
      return piece;
    });
  return h(
    "figure",
    { class: "divided" },
    h("figcaption", {}, title),
    s(
      "svg",
      {
        class: "bar",
        role: "img",
        "aria-label": `${title}: ${parts
          .slice(0, 5)
          .map((part) => `${part.name} ${share(part.value / whole)}`)
          .join(", ")}`,
      },
      pieces,
    ),
    h(
      "ul",
      { class: "legend" },
      parts
        .slice(0, 8)
        .map((part) =>
          h(
            "li",
            {},
            h("span", { class: `dot ${part.tone}`, "aria-hidden": "true" }),
            h("span", { class: "name" }, part.name),
            h("span", { class: "figure" }, `${format(part.value)} · ${share(part.value / whole)}`),
          ),
        ),
    ),
  );
}

/** A bar in a cell: this row's part of all. */
export const portion = (part, name = "") =>
  s(
    "svg",
    { class: `portion ${name}`, "aria-hidden": "true" },
    s("rect", { class: "room", width: "100%", height: "100%", rx: 2 }),
    s("rect", { class: "full", width: `${Math.min(100, (part ?? 0) * 100)}%`, height: "100%", rx: 2 }),
  );
