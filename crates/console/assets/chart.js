// Lines over time: drawn to the width there is, read with the pointer, and there as a table for who reads tables.
import { h, s, show } from "./dom.js";
import { at, isNumber, last, short } from "./format.js";
import { trace } from "./bars.js";

const LINES_MAX = 8;
const WIDTH = 600;
const HEIGHT = 100;

/** A chart that is given new values again and again. `format` writes a value. */
export class Chart {
  constructor({ title, format = short, none = "Nothing was seen in this time." }) {
    Object.assign(this, { title, format, none, at: undefined, tabled: false });
    this.el = h("div", { class: "chart" });
    this.el.isOwn = true;
  }

  /** `series`: `{name, values}`, all of one length, each `step_s` seconds, the first at `from` (ms since 1970). */
  set(series, { from, step_s }) {
    const total = (one) => one.values.reduce((all, value) => all + (isNumber(value) ? value : 0), 0);
    const sorted = [...series].sort((a, b) => total(b) - total(a));
    this.hiddenLines = Math.max(0, sorted.length - LINES_MAX);
    this.series = sorted.slice(0, LINES_MAX);
    Object.assign(this, { from, step: step_s * 1000, length: Math.max(0, ...this.series.map((one) => one.values.length)) });
    this.draw();
  }

  draw() {
    const { series, length } = this;
    const all = series.flatMap((one) => one.values.filter(isNumber));
    if (!all.length || length < 2) {
      show(this.el, h("p", { class: "empty" }, this.none));
      return;
    }
    const top = ceiling(Math.max(...all));
    const x = (at) => (at / (length - 1)) * WIDTH;
    const y = (value) => HEIGHT - (value / top) * HEIGHT;
    const middle = this.at === undefined ? null : s("line", { class: "cross", x1: x(this.at), x2: x(this.at), y1: 0, y2: HEIGHT });
    const rule = (value) => s("line", { class: "rule", x1: 0, x2: WIDTH, y1: y(value), y2: y(value) });
    const described = series.map((one) => `${one.name} ${this.format(last(one.values))}`).join(", ");
    show(this.el,
      h("div", { class: "plot", on: { pointermove: (event) => this.point(event), pointerleave: () => this.point() } },
        s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${this.title}: ${described}` },
          rule(top), rule(top / 2),
          series.map((one, number) => s("path", { class: `line c${number} d${number}`, d: trace(one.values, x, y) })),
          series.map((one, number) => s("path", { class: `dot c${number}`, d: lonely(one.values, x, y) })),
          middle),
        [0, 0.5, 1].map((part) => h("span", { class: "scale", style: { top: `${100 - part * 100}%` } }, this.format(top * part)))),
      h("div", { class: "when", "aria-hidden": "true" }, h("span", {}, at(this.from)), h("span", {}, this.at === undefined ? "now" : at(this.from + this.at * this.step))),
      h("ul", { class: "legend" }, series.map((one, number) => h("li", {},
        h("span", { class: `key c${number}` }), h("span", { class: "name", title: one.name }, one.name),
        h("b", {}, this.format(this.at === undefined ? last(one.values) : one.values[this.at])))),
        this.hiddenLines ? h("li", { class: "muted" }, `and ${this.hiddenLines} smaller`) : null),
      h("details", { on: { toggle: (event) => { this.tabled = event.target.open; this.draw(); } } },
        h("summary", {}, "as a table"), this.tabled ? this.table() : null));
  }

  point(event) {
    const box = event && this.el.querySelector("svg")?.getBoundingClientRect();
    const next = box ? Math.round(((event.clientX - box.left) / box.width) * (this.length - 1)) : undefined;
    this.at = next === undefined ? undefined : Math.min(this.length - 1, Math.max(0, next));
    this.draw();
  }

  // Every twelfth step, so that it stays one that is read.
  table() {
    const every = Math.max(1, Math.ceil(this.length / 15));
    const rows = [];
    for (let step = this.length - 1; step >= 0; step -= every) rows.push(step);
    return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${this.title}, as a table` }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "At"), this.series.map((one) => h("th", { class: "num", scope: "col" }, one.name)))),
      h("tbody", {}, rows.map((step) => h("tr", {}, h("td", {}, at(this.from + step * this.step)),
        this.series.map((one) => h("td", { class: "num" }, this.format(one.values[step]))))))));
  }
}

// Values between two gaps, which no line shows.
function lonely(values, x, y) {
  let path = "";
  values.forEach((value, at) => {
    if (isNumber(value) && !isNumber(values[at - 1]) && !isNumber(values[at + 1])) path += `M${x(at).toFixed(1)} ${y(value).toFixed(1)}h0.01`;
  });
  return path;
}

/** The next round number. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 4, 5, 6, 8, 10].map((step) => step * unit).find((round) => round >= value * 0.999) ?? 10 * unit;
}
