// Single requests of the ledger, however many: a page of rows at a time, each from where the last one ended.
import { get, withQuery } from "../api.js";
import { h, slot } from "../dom.js";
import { date, isNumber, money, short } from "../format.js";
import { below, cut, empty, field, named } from "../parts.js";
import { amend, link } from "../route.js";
import { Table } from "../table.js";
import { views } from "./requests.js";
import { noLedger } from "./usage.js";

const PAGE = 200;
/** How far back: as long as rows are kept where nobody says otherwise. */
const KEPT = "90d";
/** Rows that a page holds: more are asked for with a narrower filter. */
const ROWS_MAX = 20_000;

const COLUMNS = [
  { name: "Ended", width: 170, of: (row) => date(row.unix_ms) },
  { name: "Request", width: 170, of: (row) => h("a", { class: "cut mono", href: link("requests", row.request_id), title: row.request_id }, row.request_id) },
  { name: "Team", width: 140, wide: true, of: (row) => named("tenants", row.tenant) },
  { name: "Model", width: 140, wide: true, of: (row) => named("models", row.model ?? row.lane) },
  { name: "Read", width: 84, num: true, wide: true, of: (row) => short(row.input_tokens ?? row.input) },
  { name: "Written", width: 84, num: true, of: (row) => short(row.output_tokens ?? row.output) },
  { name: "Price", width: 110, num: true, of: (row) => money(isNumber(row.charged_micros) ? row.charged_micros / 1e6 : row.price, row.currency) },
  { name: "Ended how", width: 130, wide: true, of: (row) => cut(row.termination) },
];

export function open(page) {
  const { params } = page;
  const seen = { rows: [], next: undefined, loading: false };
  const table = new Table({
    label: "Billed requests", columns: COLUMNS, key: (row) => row.request_id, height: Math.max(320, innerHeight - 300), onEnd: () => more(),
    empty: () => (seen.loading || seen.next === undefined ? h("p", { class: "empty" }, "Loading…") : seen.without ? noLedger(seen.without) : empty("No row fits", "Each answer leaves one row in the ledger.", "pilotage usage --help")),
  });
  async function more() {
    if (seen.loading || seen.next === null || seen.rows.length >= ROWS_MAX) return;
    seen.loading = true;
    try {
      const answer = await get(withQuery("/usage/rows", { from: KEPT, tenant: params.tenant, model: params.model, id: params.id, limit: PAGE, after: seen.next }), page.signal);
      seen.rows = [...seen.rows, ...answer.rows];
      seen.next = answer.next ?? null;
    } catch (error) {
      if (page.signal.aborted) return;
      seen.without = error;
      seen.next = null;
    }
    seen.loading = false;
    table.set(seen.rows);
    page.paint();
  }
  more();
  table.set([]);
  const change = (changes) => { amend(changes); };
  page.view(() => [
    below("usage", "Usage", "All that was billed", "from the ledger", views("rows")),
    h("form", { class: "filters", "aria-label": "Which rows", on: { submit: (event) => event.preventDefault() } }, field("tenant", "Team", params.tenant, change), field("model", "Model", params.model, change), field("id", "Request id", params.id, change)),
    h("div", {}, slot(table.el)),
    h("div", { class: "below" }, `${table.says("row")}${seen.next === null ? ": all that fit" : ""}`, seen.next ? h("button", { type: "button", on: { click: more } }, "Older") : null, seen.rows.length >= ROWS_MAX ? "Ask for less to see others." : null),
  ]);
}
