// Keys and colours.

import { at, h, replace } from "./dom.js";

const THEMES = { "": "Colours: system", light: "Colours: light", dark: "Colours: dark" };

function theme(next) {
  const root = document.documentElement;
  if (next !== undefined) {
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    localStorage.setItem("lectr.theme", next);
  }
  replace(at("theme"), THEMES[root.dataset.theme ?? ""], h("kbd", { "aria-hidden": "true" }, "t"));
}

function otherTheme() {
  const all = Object.keys(THEMES);
  theme(all[(all.indexOf(document.documentElement.dataset.theme ?? "") + 1) % all.length]);
}

function help(views) {
  const more = [
    ["?", "these keys"],
    ["t", "other colours"],
    ["/", "filters"],
    [".", "read again"],
    ["← →", "along a chart that has the focus"],
    ["Esc", "close"],
  ];
  replace(
    at("keys"),
    h("h2", {}, "Keys"),
    h(
      "dl",
      { class: "keys" },
      [...views.map((view) => [view.key, view.title]), ...more].map(([key, what]) =>
        h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)),
      ),
    ),
    h("form", { method: "dialog" }, h("button", {}, "Close")),
  );
  at("keys").showModal();
}

/** Letters lead to views, and some signs do more; a control that is typed into has them all for itself. */
export function listen(views, again) {
  const actions = {
    "?": () => help(views),
    t: otherTheme,
    ".": again,
    "/": () => (at("filters").hidden ? null : at("filter-range")?.focus()),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea")) return;
    const view = views.find((each) => each.key === event.key);
    if (!view && !actions[event.key]) return;
    event.preventDefault();
    if (view) location.hash = at(`to-${view.id}`).getAttribute("href");
    else actions[event.key]();
  });
  at("theme").addEventListener("click", otherTheme);
  at("help").addEventListener("click", actions["?"]);
  theme();
}
