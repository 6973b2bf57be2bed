// Tables that are sorted by their heads, and on a phone become cards.

import { h, idOf } from "./dom.js";

const sorted = new Map();

function order(rows, column, falling) {
  const known = (value) => value !== null && value !== undefined;
  return [...rows].sort((a, b) => {
    const [left, right] = [column.value(a), column.value(b)];
    if (!known(left) || !known(right)) return known(right) - known(left); // what is not known comes last, either way
    const less = typeof left === "string" ? left.localeCompare(right) : left - right;
    return falling ? -less : less;
  });
}

/**
 * Columns: {title, cell(row), value(row), number}. `by` is sorted by first; another choice is kept while the page is.
 * Without any value a column is not sorted by.
 */
export function table({ caption, columns, rows, by, falling: first = true }) {
  const body = h("tbody", { role: "rowgroup" });
  const heads = h("tr", { role: "row" });
  const draw = () => {
    const { title, falling } = sorted.get(caption) ?? { title: by, falling: first };
    const column = columns.find((each) => each.title === title);
    heads.replaceChildren(
      ...columns.map((each) => {
        const state = each === column ? (falling ? "descending" : "ascending") : null;
        const choose = () => {
          sorted.set(caption, { title: each.title, falling: each === column ? !falling : Boolean(each.number) });
          draw();
          document.getElementById(idOf("sort", caption, each.title))?.focus();
        };
        return h(
          "th",
          { scope: "col", role: "columnheader", class: each.number ? "number" : null, "aria-sort": state },
          each.value
            ? h(
                "button",
                { type: "button", id: idOf("sort", caption, each.title), onclick: choose },
                each.title,
                h("span", { class: "way", "aria-hidden": "true" }),
              )
            : each.title,
        );
      }),
    );
    body.replaceChildren(
      ...(column ? order(rows, column, falling) : rows).map((row) =>
        h(
          "tr",
          { role: "row" },
          columns.map((each, i) =>
            h(
              i ? "td" : "th",
              {
                scope: i ? null : "row",
                role: i ? "cell" : "rowheader",
                class: each.number ? "number" : null,
                "data-label": each.title,
              },
              each.cell(row),
            ),
          ),
        ),
      ),
    );
  };
  draw();
  // As cards its parts are no longer displayed as a table, and would no longer be read as one: hence the roles.
  return h(
    "table",
    { class: "cards", role: "table" },
    h("caption", {}, caption),
    h("thead", { role: "rowgroup" }, heads),
    body,
  );
}

/** Words and what they stand for, in two columns; those without a value are left out. */
export const facts = (pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
