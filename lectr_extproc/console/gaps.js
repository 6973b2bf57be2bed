// What is not there: nothing was found, or not all was read.

import { h, snippet } from "./dom.js";
import { moment } from "./format.js";
import { hashOf, isFiltered, place } from "./state.js";

/** What was read does not reach back to where the range begins: said with a way to read all. */
export function cut({ range }) {
  if (range.complete) return null;
  const all = place();
  const isAsked = all.query.has("all");
  all.query.set("all", "");
  return h(
    "p",
    { class: "note" },
    `There are more calls in this time than are read at once: these figures begin at ${moment(range.covers_since)}. `,
    isAsked ? null : h("a", { href: hashOf(all.view, all.query) }, "Read all of them"),
  );
}

/** Nothing was found: why that may be, and what to do. */
export function empty(query, base) {
  if (isFiltered(query)) {
    return h(
      "section",
      { class: "empty" },
      h("h2", {}, "No call matches these filters"),
      h("p", {}, "Widen the time, or ", h("a", { href: "#" + place().view }, "take the filters away"), "."),
    );
  }
  return h(
    "section",
    { class: "empty" },
    h("h2", {}, "No calls in this time"),
    h(
      "p",
      {},
      "Each call through the gateway appears here some seconds after it has ended. The first one may be this, with a key of yours:",
    ),
    snippet(
      [
        `curl ${base}/v1/chat/completions \\`,
        '  -H "Authorization: Bearer $LECTR_KEY" \\',
        "  -H 'Content-Type: application/json' \\",
        '  -d \'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}\'',
      ].join("\n"),
      "the call",
    ),
    h("p", {}, "Keys are made by ", h("code", {}, "lectr keys new"), "."),
  );
}
