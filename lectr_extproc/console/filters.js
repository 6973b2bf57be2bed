// The filters above a view: which calls it is about. They stand in the address.

import { at, h, replace } from "./dom.js";
import { FILTERS, RANGES, hashOf, isFiltered, place, set } from "./state.js";

const TITLES = { org: "Organisation", provider: "Provider", model: "Model", feature: "Feature", task: "Task" };
const PLURALS = { org: "orgs", provider: "providers", model: "models", feature: "features", task: "tasks" };
// Values of options that no name can have: names are trimmed.
const WITHOUT = " without",
  ANY = " any";

const local = (at_) => {
  const moment = new Date(at_ * 1000 - new Date(at_ * 1000).getTimezoneOffset() * 60000);
  return moment.toISOString().slice(0, 16);
};

function choice(name, values, query) {
  const chosen = query.has(name) ? query.get(name) || WITHOUT : ANY;
  const known = values.filter((each) => each !== null);
  if (chosen !== ANY && chosen !== WITHOUT && !known.includes(chosen)) known.unshift(chosen);
  const options = [
    [ANY, "any"],
    ...(values.includes(null) || chosen === WITHOUT ? [[WITHOUT, "none (untagged)"]] : []),
    ...known.map((each) => [each, each]),
  ];
  return h(
    "label",
    {},
    h("span", {}, TITLES[name]),
    h(
      "select",
      {
        id: `filter-${name}`,
        class: chosen === ANY ? null : "set",
        onchange: (event) => {
          const { value } = event.target;
          set(name, value === ANY ? null : value === WITHOUT ? "" : value);
        },
      },
      options.map(([value, title]) => h("option", { value, selected: value === chosen }, title)),
    ),
  );
}

function range(query) {
  const own = query.has("from") || query.has("to");
  const change = (event) => {
    const next = place();
    for (const name of ["range", "from", "to", "all"]) next.query.delete(name);
    if (event.target.value === "own") {
      const now = Math.floor(Date.now() / 60000) * 60;
      next.query.set("from", now - 86400);
      next.query.set("to", now);
    } else if (event.target.value !== "24h") next.query.set("range", event.target.value);
    location.hash = hashOf(next.view, next.query);
  };
  const end = (name, title) =>
    h(
      "label",
      {},
      h("span", {}, title),
      h("input", {
        type: "datetime-local",
        id: `filter-${name}`,
        value: query.has(name) ? local(Number(query.get(name))) : "",
        onchange: (event) =>
          set(name, event.target.value ? String(Math.floor(new Date(event.target.value).getTime() / 1000)) : null),
      }),
    );
  return [
    h(
      "label",
      {},
      h("span", {}, "Time"),
      h(
        "select",
        { id: "filter-range", onchange: change },
        Object.entries(RANGES).map(([id, [title]]) =>
          h("option", { value: id, selected: !own && (query.get("range") ?? "24h") === id }, title),
        ),
        h("option", { value: "own", selected: own }, "From … to …"),
      ),
    ),
    own ? [end("from", "From"), end("to", "To")] : null,
  ];
}

export function drawFilters(choices) {
  const { view, query } = place();
  const clear = () => {
    for (const name of FILTERS) query.delete(name);
    location.hash = hashOf(view, query);
  };
  replace(
    at("filters"),
    range(query),
    FILTERS.map((name) => choice(name, choices?.[PLURALS[name]] ?? [], query)),
    isFiltered(query)
      ? h("button", { type: "button", id: "clear", class: "quiet", onclick: clear }, "Clear filters")
      : null,
  );
}
