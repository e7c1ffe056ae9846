// A table of any number of rows: only those in view are elements. Sorted by its heads, walked with j and k.
import { h, show } from "./dom.js";
import { count } from "./format.js";

const ROW = 33;
const MORE = 6;

/**
 * Columns: `{name, of: row => content, by: row => value to sort by, num, wide, width}`; `key` names a row. `rows` of
 * which none is there show `empty`. The first link in a row is where Enter leads.
 */
export class Table {
  constructor({ label, columns, key, empty, height = 560, sort, onEnd, onSort }) {
    Object.assign(this, { label, columns, key, empty, height, sort, onEnd, onSort, rows: [], shown: [], here: undefined });
    this.body = h("tbody");
    this.heads = h("thead");
    this.table = h("table", { class: "fixed", "aria-label": label }, this.heads, this.body);
    this.scroller = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label, on: { scroll: () => this.draw(), keydown: (event) => this.onKey(event) } }, this.table);
    this.hollow = h("div");
    this.el = h("div", { class: "listing" }, this.scroller, this.hollow);
    this.el.isOwn = true;
    this.el.table = this;
  }

  set(rows) {
    this.rows = rows;
    this.arrange();
  }

  arrange() {
    const column = this.sort && this.columns.find((one) => one.name === this.sort.by);
    this.shown = column?.by && !this.onSort ? [...this.rows].sort(order(column.by, this.sort.down)) : this.rows;
    this.scroller.hidden = this.shown.length === 0;
    show(this.hollow, this.shown.length ? null : this.empty?.());
    this.table.setAttribute("aria-rowcount", this.shown.length + 1);
    this.scroller.style.setProperty("max-height", `${this.height}px`);
    const least = this.columns.filter((one) => !one.wide || !isNarrow()).reduce((all, one) => all + (one.width ?? 120), 0);
    this.table.style.setProperty("min-width", `${least}px`);
    this.drawHeads();
    this.draw();
  }

  drawHeads() {
    show(this.heads, h("tr", { "aria-rowindex": 1 }, this.columns.map((column) => {
      const sorted = this.sort?.by === column.name ? (this.sort.down ? "descending" : "ascending") : undefined;
      const name = column.by ? h("button", { type: "button", on: { click: () => this.sortBy(column) } }, column.name) : column.name;
      return h("th", { scope: "col", class: classes(column), "aria-sort": sorted, style: column.width ? { width: `${column.width}px` } : {} }, name);
    })));
  }

  sortBy(column) {
    const down = this.sort?.by === column.name ? !this.sort.down : Boolean(column.num);
    this.sort = { by: column.name, down };
    this.onSort?.(this.sort);
    this.arrange();
  }

  draw() {
    const top = this.scroller.scrollTop;
    const from = Math.max(0, Math.floor(top / ROW) - MORE);
    const to = Math.min(this.shown.length, Math.ceil((top + this.height) / ROW) + MORE);
    const gap = (rows, key) => h("tr", { class: "gap", key, "aria-hidden": "true" }, h("td", { colspan: this.columns.length, style: { height: `${rows * ROW}px` } }));
    const line = (row, at) => h("tr", { class: at === this.here ? "here" : undefined, "aria-rowindex": at + 2, "data-at": at },
      this.columns.map((column) => h("td", { class: classes(column) }, column.of(row))));
    show(this.body, gap(from, "before"), this.shown.slice(from, to).map((row, at) => line(row, from + at)), gap(this.shown.length - to, "after"));
    if (this.onEnd && to >= this.shown.length && this.shown.length && top > 0) this.onEnd();
  }

  /** Goes to the next or the previous row. */
  walk(step) {
    if (!this.shown.length) return;
    this.here = Math.min(this.shown.length - 1, Math.max(0, (this.here ?? -Math.sign(step)) + step));
    const top = this.here * ROW;
    const head = ROW;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    if (top + ROW + head > this.scroller.scrollTop + this.scroller.clientHeight) this.scroller.scrollTop = top + ROW + head - this.scroller.clientHeight;
    this.draw();
    const line = this.body.querySelector("tr.here");
    (line?.querySelector("a") ?? this.scroller).focus({ preventScroll: true });
    line?.scrollIntoView?.({ block: "nearest" });
  }

  open() {
    this.body.querySelector("tr.here a")?.click();
  }

  onKey(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.walk(event.key === "ArrowDown" ? 1 : -1);
    }
  }

  /** "1,000 replicas" */
  says(one, many = `${one}s`) {
    return `${count(this.shown.length)} ${this.shown.length === 1 ? one : many}`;
  }
}

const isNarrow = () => matchMedia("(max-width: 700px)").matches;
const classes = (column) => [column.num && "num", column.wide && "wide"].filter(Boolean).join(" ") || undefined;

// What is not known comes last, whichever way.
function order(by, down) {
  return (a, b) => {
    const [left, right] = [by(a), by(b)];
    const [noLeft, noRight] = [left ?? null, right ?? null].map((value) => value === null);
    if (noLeft || noRight) return noLeft - noRight;
    const way = typeof left === "string" ? left.localeCompare(right, undefined, { numeric: true }) : left - right;
    return down ? -way : way;
  };
}
