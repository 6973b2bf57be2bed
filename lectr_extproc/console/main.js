// The shell: which view is shown, when it is read again, what went wrong, and the token.

import { anomalies, recommendations } from "./advice.js";
import { calls } from "./calls.js";
import { at, h, replace } from "./dom.js";
import { drawFilters } from "./filters.js";
import { clock, span } from "./format.js";
import { limits, providers, settings } from "./gateway.js";
import { listen } from "./keys.js";
import { overview } from "./overview.js";
import { ask, asked, Failure, hashOf, health, place, token } from "./state.js";
import { features, models } from "./traffic.js";

const VIEWS = [overview, models, features, calls, recommendations, anomalies, limits, providers, settings];
const LONGEST_WAIT_S = 30;
const BANNER_S = 15;

let shown = null; // the view that is drawn, and its data
let turns = 0; // answers of an earlier turn are nobody's
let failures = 0;
let timer = 0;
let asking = new AbortController();
let choices = null;
let known = null; // the time that they are of
let base = "http://127.0.0.1:10000";

const viewOf = (id) => VIEWS.find((view) => view.id === id) ?? overview;

/** The filters that make sense from one view to the next go along. */
function nav() {
  const { view, query } = place();
  const kept = new URLSearchParams([...query].filter(([name]) => !["show", "by", "dismissed", "all"].includes(name)));
  replace(
    at("nav"),
    VIEWS.map((each) =>
      h(
        "a",
        {
          id: `to-${each.id}`,
          href: hashOf(each.id, kept),
          "aria-current": each.id === viewOf(view).id ? "page" : null,
          "aria-keyshortcuts": each.key,
        },
        each.title,
        h("kbd", { "aria-hidden": "true" }, each.key),
      ),
    ),
  );
  const here = document.querySelector("#nav [aria-current]");
  at("nav").scrollLeft = here.offsetLeft - at("nav").clientWidth / 2; // on a phone it is wider than the screen
}

function draw(view, query, data, rest) {
  replace(at("view"), [view.draw({ ...data, ...rest }, { query, base, again: () => turn(true) })].flat(Infinity));
  at("view").dataset.view = view.id;
  at("view").setAttribute("aria-busy", "false");
  at("pulse").textContent = `as of ${clock(Date.now() / 1000)}`;
  shown = { view, data, rest, hash: location.hash };
}

/** Reads and draws what the address names, once, and sets when to do so again. */
async function turn(force = false) {
  const mine = ++turns;
  clearTimeout(timer);
  asking.abort();
  asking = new AbortController();
  const { view: id, query } = place();
  const view = viewOf(id);
  try {
    const data = await view.load(query, asking.signal);
    if (mine !== turns) return;
    const same = shown?.view === view && shown.hash === location.hash;
    const rest = same ? shown.rest : undefined;
    if (force || !same || shown.data !== data) draw(view, query, data, rest);
    if (view.rest) {
      const found = await view.rest(query, asking.signal);
      if (mine !== turns) return;
      draw(view, query, data, found);
    }
    failures = 0;
    replace(at("trouble"));
    if (view.filtered) learn(query); // after the view: lectr reads one question at a time
    if (!query.has("to")) wait(view.soon?.(data) ?? view.every);
  } catch (error) {
    if (mine !== turns || error.name === "AbortError") return;
    trouble(error);
  }
}

const wait = (seconds) => {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(() => turn(), seconds * 1000);
};

const WORDS = {
  unreachable: "lectr does not answer",
  ledger_unavailable: "The ledger cannot be read",
  bad_request: "This address asks for something that there is not",
  misdirected: "Open the console by a loopback address",
};

function trouble(error) {
  if (error.status === 401) return unlock(error);
  if (!(error instanceof Failure)) console.error(error);
  at("view").setAttribute("aria-busy", "false");
  const seconds = Math.min(LONGEST_WAIT_S, 2 ** ++failures);
  const again = error.status !== 400 && error.status !== 421;
  replace(
    at("trouble"),
    h(
      "div",
      { class: "hint bad" },
      h("h2", {}, WORDS[error.code] ?? "That did not work"),
      h("p", {}, error.code === "unreachable" ? "What is shown is as it was." : error.message),
      again
        ? h(
            "p",
            {},
            `Trying again in ${span(seconds)}. `,
            h("button", { type: "button", id: "again", class: "quiet", onclick: () => turn() }, "Now"),
          )
        : null,
    ),
  );
  if (shown?.view !== viewOf(place().view)) replace(at("view"));
  if (again) wait(seconds);
}

/** The token is asked for once, and kept as long as the tab. */
function unlock(error) {
  const door = at("door");
  if (door.open) return;
  const wrong = token.get() !== null;
  const input = h("input", {
    type: "password",
    id: "token",
    autocomplete: "current-password",
    required: true,
    "aria-describedby": "token-why",
  });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", {}, "This console asks for a token"),
    h(
      "p",
      { id: "token-why" },
      wrong ? "That one is not it. " : "",
      "It is the one that ",
      h("code", {}, "admin.token"),
      " in lectr.yaml names. It stays in this tab, and is sent to lectr alone.",
    ),
    h("label", {}, h("span", {}, "Admin token"), input),
    h("button", { type: "submit" }, "Open"),
  );
  form.addEventListener("submit", () => {
    token.set(input.value.trim());
    door.close();
    start();
  });
  replace(door, form);
  door.showModal();
  at("pulse").textContent = error.message;
}

async function banner() {
  try {
    const { status, degraded, problems, version } = await health();
    if (version) at("version").textContent = `lectr ${version}`;
    replace(
      at("banner"),
      status === "ok"
        ? null
        : h(
            "div",
            { class: "degraded" },
            h("strong", {}, "Observability degraded — data may be incomplete"),
            h(
              "ul",
              {},
              degraded.map((part) => h("li", {}, h("b", {}, part), ` ${problems?.[part] ?? "do not all answer"}`)),
            ),
          ),
    );
  } catch (error) {
    if (error.status !== 401 && error.status !== 0) at("pulse").textContent = error.message;
  }
}

/** What filters can be set to, of the calls of this time. */
async function learn(query) {
  const time = ["range", "from", "to"].map((name) => query.get(name)).join();
  if (time === known) return;
  known = time;
  choices = await ask("choices", asked(query, [])).catch(() => choices);
  drawFilters(choices);
}

function go() {
  const { view: id } = place();
  const view = viewOf(id);
  const isNew = shown?.view !== view;
  document.title = `${view.title} – lectr`;
  at("title").textContent = view.title;
  nav();
  at("filters").hidden = !view.filtered;
  if (view.filtered) drawFilters(choices);
  failures = 0;
  replace(at("trouble"));
  at("view").setAttribute("aria-busy", "true");
  if (isNew && shown) {
    scrollTo(0, 0);
    at("title").focus({ preventScroll: true });
  }
  turn();
}

addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : turn()));
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("content").focus();
});

/** Where calls go, for the example of one. */
async function locate() {
  const { settings: loaded } = await ask("settings").catch(() => ({}));
  if (loaded?.envoy?.listen) base = `http://${loaded.envoy.listen.replace("0.0.0.0", "127.0.0.1")}`;
}

function start() {
  known = null;
  locate();
  banner();
  go();
}

listen(VIEWS, () => turn());
setInterval(() => document.hidden || banner(), BANNER_S * 1000);
start();
