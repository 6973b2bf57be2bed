// What is looked at stands in the address, behind the #, so that it can be kept and passed on. Data comes from lectr's API.

export const RANGES = {
  "1h": ["Last hour", 3600],
  "24h": ["Last 24 hours", 86400],
  "7d": ["Last 7 days", 604800],
  "30d": ["Last 30 days", 2592000],
};
export const FILTERS = ["org", "provider", "model", "feature", "task"];
const MOST_CALLS = "1000000";

/** The view and its filters. An empty filter means: calls without one. */
export function place() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return { view: view || "overview", query: new URLSearchParams(query) };
}

export function hashOf(view, query) {
  const text = query.toString();
  return `#${view}${text ? `?${text}` : ""}`;
}

/** Change one filter; null takes it away. */
export function set(name, value) {
  const { view, query } = place();
  if (value === null) query.delete(name);
  else query.set(name, value);
  location.hash = hashOf(view, query);
}

/** The same filters in another view. */
export const link = (view, changes = {}) => {
  const query = new URLSearchParams(place().query);
  for (const [name, value] of Object.entries(changes)) query.set(name, value ?? "");
  return hashOf(view, query);
};

/** The place's filters as the API takes them. */
export function asked(query, names = FILTERS) {
  const wanted = new URLSearchParams();
  const now = Math.floor(Date.now() / 1000);
  const [from, to] = [query.get("from"), query.get("to")];
  if (from || to) {
    wanted.set("since", from || now - 86400);
    wanted.set("until", to || now);
  } else {
    wanted.set("since", now - (RANGES[query.get("range")] ?? RANGES["24h"])[1]);
  }
  for (const name of names) if (query.has(name)) wanted.set(name, query.get(name));
  if (query.has("all")) wanted.set("calls", MOST_CALLS);
  return wanted;
}

export const isFiltered = (query) => FILTERS.some((name) => query.has(name));

export class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const token = {
  get: () => sessionStorage.getItem("lectr.token"),
  set: (value) => sessionStorage.setItem("lectr.token", value),
};

async function fetched(path, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  const answer = await fetch(path, {
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    ...options,
    headers,
  }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "unreachable", "lectr does not answer");
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok)
    throw new Failure(answer.status, body.error?.code ?? "", body.error?.message ?? `status ${answer.status}`);
  return body;
}

export const ask = (what, query = "", signal = undefined) => fetched(`api/${what}?${query}`, { signal });
export const health = () => fetched("../healthz");
export const tell = (what) =>
  fetched(`api/${what}`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
