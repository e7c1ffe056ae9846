// Numbers, times and names as people read them. What is not known is a dash, never a zero.
export const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 1,234 */
export const count = (value) => (isNumber(value) ? whole.format(value) : NONE);

/** 1,234 · 12.3 k · 4.56 M */
export function short(value) {
  if (!isNumber(value)) return NONE;
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= unit) {
      const scaled = value / (name === "k" ? 1e3 : unit);
      return `${scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${name}`;
    }
  }
  return Math.abs(value) < 10 && !Number.isInteger(value) ? value.toFixed(value < 1 ? 2 : 1) : whole.format(value);
}

/** 0.41 ms · 412 ms · 3.21 s · 2 min 5 s */
export function ms(value) {
  if (!isNumber(value)) return NONE;
  if (value < 10) return `${Number(value.toFixed(value < 1 ? 2 : 1))} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return span(value);
}

/** 42 s · 2 min 5 s · 3 h 20 min · 4 d 2 h */
export function span(value) {
  if (!isNumber(value)) return NONE;
  const seconds = Math.round(value / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return join(Math.floor(seconds / 60), "min", seconds % 60, "s");
  if (seconds < 86_400) return join(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return join(Math.floor(seconds / 86_400), "d", Math.floor((seconds % 86_400) / 3600), "h");
}

const join = (large, unit, rest, small) => (rest ? `${large} ${unit} ${rest} ${small}` : `${large} ${unit}`);

/** 0.257 is 26 %. */
export function percent(share) {
  if (!isNumber(share)) return NONE;
  const value = share * 100;
  if (value > 0 && value < 1) return value < 0.1 ? "< 0.1 %" : `${value.toFixed(1)} %`;
  return `${Math.round(value)} %`;
}

/** A decimal text with its currency, as exact as it came, with groups of thousands. */
export function money(text, currency) {
  if (text === null || text === undefined || text === "") return NONE;
  const [large, small = ""] = String(text).split(".");
  const sign = large.startsWith("-") ? "−" : "";
  const digits = large.replace(/^-/, "").replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const cents = Number(large) === 0 && small.length > 2 ? small.slice(0, 6).replace(/0+$/, "").padEnd(2, "0") : small.padEnd(2, "0").slice(0, 2);
  return `${sign}${digits}.${cents}${currency ? ` ${currency}` : ""}`;
}

export const at = (unixMs) => (isNumber(unixMs) ? clock.format(unixMs) : NONE);
export const date = (unixMs) => (isNumber(unixMs) ? day.format(unixMs) : NONE);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** `upstream_error` is `upstream error`. */
export const words = (name) => String(name ?? NONE).replaceAll("_", " ");

/** The last value of a series that is known. */
export const last = (values) => (values ?? []).findLast(isNumber);

/** The sum of what is known; nothing where nothing is. */
export function sum(values) {
  const known = (values ?? []).filter(isNumber);
  return known.length ? known.reduce((all, one) => all + one, 0) : undefined;
}

/** What an object has by a name that anybody may have chosen. */
export const own = (object, name) => (object && Object.hasOwn(object, name) ? object[name] : undefined);
