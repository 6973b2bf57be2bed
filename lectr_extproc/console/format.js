// Numbers, money and times for people. What is not known is a dash, never a zero.

export const DASH = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => (number === null || number === undefined ? DASH : whole.format(number));

/** At most four figures and a letter: for tiles, axes and tokens. */
export function compact(number) {
  if (number === null || number === undefined) return DASH;
  if (number !== 0 && Math.abs(number) < 10)
    return new Intl.NumberFormat("en", { maximumSignificantDigits: 2 }).format(number);
  return Math.abs(number) < 10000 ? whole.format(number) : short.format(number);
}

/** Whole dollars from a thousand on, cents from a tenth on, two figures below. */
export function money(usd) {
  if (usd === null || usd === undefined) return DASH;
  const value = Number(usd);
  const size = Math.abs(value);
  const digits = size >= 1000 ? 0 : size >= 0.1 || size === 0 ? 2 : Math.min(12, 1 - Math.floor(Math.log10(size)));
  return new Intl.NumberFormat("en", {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** What a group of calls cost, and that this is not all where some have no price. */
export function cost({ cost_usd: usd, unpriced }) {
  if (usd === null) return unpriced ? "$0.00 (pricing unavailable)" : DASH;
  return unpriced ? `${money(usd)} and ${count(unpriced)} unpriced` : money(usd);
}

export function duration(ms) {
  if (ms === null || ms === undefined) return DASH;
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms / 1000);
}

/** The same for an axis: round values without needless noughts. */
export const roundly = (ms) => (ms < 60000 && ms >= 1000 ? `${Number((ms / 1000).toFixed(2))} s` : duration(ms));

/** A length of time in its two largest units. */
export function span(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const [lesser, part] = units[first + 1] ?? ["", 1];
  const rest = Math.floor((left % size) / part);
  return `${Math.floor(left / size)} ${name}${rest && lesser ? ` ${rest} ${lesser}` : ""}`;
}

export function share(part) {
  if (part === null || part === undefined) return DASH;
  if (part === 0) return "0%";
  if (part < 0.0005) return "<0.1%";
  return part < 0.1 ? `${(part * 100).toFixed(1)}%` : `${Math.round(part * 100)}%`;
}

const clockOf = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minuteOf = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dayOf = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const clock = (at) => clockOf.format(at * 1000);
export const minute = (at) => minuteOf.format(at * 1000);
export const day = (at) => dayOf.format(at * 1000);
export const moment = (at) => `${day(at)}, ${minute(at)}`;
export const exactly = (at) => new Date(at * 1000).toISOString().replace("T", " ").replace("Z", " UTC");

export function ago(at, now = Date.now() / 1000) {
  const passed = now - at;
  if (passed < 2) return "now";
  return passed < 60 ? `${Math.floor(passed)} s ago` : `${span(passed < 3600 ? passed - (passed % 60) : passed)} ago`;
}

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const tokens = (line) =>
  line.input_tokens === null && line.output_tokens === null
    ? DASH
    : `${compact(line.input_tokens)} / ${compact(line.output_tokens)}`;
