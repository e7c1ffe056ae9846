// Small drawings: how much of a share is used, and how something went of late.
import { h, s } from "./dom.js";
import { isNumber, percent } from "./format.js";

const part = (share) => `${Math.min(100, Math.max(0, (share ?? 0) * 100)).toFixed(2)}%`;

/** What is used, with a mark at what is due. */
export function shareBar(used, entitled, isOver) {
  const label = `${percent(used ?? 0)} used${entitled === undefined ? "" : `, ${percent(entitled)} due`}`;
  return h("div", { class: "bar", role: "img", "aria-label": label },
    h("span", { class: isOver ? "fill over" : "fill", style: { width: part(used) } }),
    entitled === undefined ? null : h("span", { class: "due", style: { left: part(entitled) } }));
}

/** A line without axes. */
export function spark(values, label) {
  const known = (values ?? []).filter(isNumber);
  if (known.length < 2) return h("span", { class: "muted" }, "–");
  const top = Math.max(...known) || 1;
  const step = 88 / (values.length - 1);
  const path = trace(values, (at) => at * step, (value) => 19 - (value / top) * 18);
  return s("svg", { class: "spark", viewBox: "0 0 88 20", role: "img", "aria-label": label, preserveAspectRatio: "none" }, s("path", { d: path }));
}

/** A path through what is known, with gaps where nothing is. */
export function trace(values, x, y) {
  let path = "";
  let draws = false;
  values.forEach((value, at) => {
    if (!isNumber(value)) {
      draws = false;
      return;
    }
    path += `${draws ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    draws = true;
  });
  return path;
}

/** Parts of a whole beside each other. `parts`: `{name, share, class}`. */
export function stack(parts, label) {
  return h("div", { class: "stack", role: "img", "aria-label": label },
    parts.map((one) => h("span", { class: one.class, style: { width: part(one.share) } })));
}
