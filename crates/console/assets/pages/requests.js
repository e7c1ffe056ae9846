// Requests that ended: filtered, the newest or the slowest first, older ones as they are scrolled to.
import { get, lines, withQuery } from "../api.js";
import { h, slot } from "../dom.js";
import { at, count, date, ms, short } from "../format.js";
import { choice, cut, empty, ending, field, head, named, tabs } from "../parts.js";
import { amend, link } from "../route.js";
import { Table } from "../table.js";
import { longest, strip } from "../waterfall.js";

/** Pages that are looked back for what ended between two looks. */
const FILL_MAX = 20;
const PAGE = 200;
/** How often what a stream brings is shown: thousands may end in a second. */
const FLUSH_MS = 250;
/** As many as the gateway keeps in memory. */
const ROWS_MAX = 10_000;
const FILTERS = ["tenant", "model", "replica", "band", "termination", "min_ms", "id"];
const ENDINGS = ["ok", "client_cancel", "bad_request", "quota", "budget", "queue_full", "deadline", "upstream_error", "upstream_interrupted", "timeout", "draining"];
const BANDS = ["realtime", "standard", "bulk", "batch"];

// A copy has its request's id, and a span of its own.
const key = (one) => `${one.request_id}/${one.span_id}`;

/** Columns of requests that ended. */
export const COLUMNS = [
  { name: "Ended", width: 86, of: (one) => h("span", { title: date(one.unix_ms) }, at(one.unix_ms)), by: (one) => one.unix_ms, num: true, wide: true },
  { name: "Request", width: 132, of: (one) => h("a", { class: "cut mono", href: link("requests", one.request_id), title: one.request_id }, one.request_id) },
  { name: "Team", width: 106, of: (one) => named("tenants", one.tenant), by: (one) => one.tenant, wide: true },
  { name: "Model", width: 112, of: (one) => named("models", one.lane), by: (one) => one.lane, wide: true },
  { name: "How", width: 112, of: ending, by: (one) => `${one.termination}${one.status}` },
  { name: "Took", width: 84, num: true, of: (one) => ms(one.t_total_ms), by: (one) => one.t_total_ms },
  { name: "First token", width: 92, num: true, wide: true, of: (one) => ms(one.ttft_ms ?? undefined), by: (one) => one.ttft_ms },
  { name: "Where it went", width: 124, wide: true, of: (one) => strip(one, one.t_total_ms) },
  { name: "Mostly", width: 80, wide: true, of: (one) => (longest(one) ?? "–").replace("_", " "), by: longest },
  { name: "Tokens", width: 112, num: true, wide: true, of: (one) => `${short(one.input_tokens ?? one.input)} → ${short(one.output_tokens ?? one.output)}`, by: (one) => one.output_tokens ?? one.output },
  { name: "Replica", width: 130, wide: true, of: (one) => cut(one.replica), by: (one) => one.replica },
];

export function open(page) {
  const { params } = page;
  const slow = params.sort === "slow";
  const seen = { rows: [], had: new Set(), next: undefined, loading: false, ended: false, follow: params.follow === "1", missed: 0 };
  const table = new Table({
    label: "Requests that ended", columns: COLUMNS, key, height: Math.max(320, innerHeight - 330),
    sort: slow ? { by: "Took", down: true } : { by: "Ended", down: true }, onEnd: () => older(), empty: () => nothing(params),
  });
  const query = Object.fromEntries(FILTERS.map((name) => [name, params[name]]));
  const add = (records) => {
    const fresh = records.filter((one) => !seen.had.has(key(one)));
    for (const one of fresh) seen.had.add(key(one));
    if (fresh.length) seen.rows = [...fresh, ...seen.rows].sort((a, b) => b.unix_ms - a.unix_ms).slice(0, ROWS_MAX);
    // Who looks on all night holds no more than what is shown.
    if (seen.had.size > 2 * ROWS_MAX) seen.had = new Set(seen.rows.map(key));
    table.set(seen.rows);
  };
  // What ended since the last look may be more than a page.
  async function fill(answer) {
    let pages = 0;
    while (answer.next !== null && answer.next !== undefined && answer.records.length && !answer.records.some((one) => seen.had.has(key(one)))) {
      add(answer.records);
      if (++pages > FILL_MAX) {
        seen.missed += 1;
        return;
      }
      answer = await get(withQuery("/records", { ...query, limit: PAGE, before: answer.next }), page.signal);
    }
    add(answer.records);
    page.paint();
  }

  async function older() {
    if (seen.loading || seen.ended || seen.next === undefined) return;
    seen.loading = true;
    try {
      const answer = await get(withQuery("/records", { ...query, limit: PAGE, before: seen.next }), page.signal);
      take(answer);
      add(answer.records);
    } catch (error) {
      if (!page.signal.aborted) seen.problem = error.message;
    }
    seen.loading = false;
    page.paint();
  }

  function take(answer) {
    seen.next = answer.next ?? undefined;
    seen.ended = answer.next === null || answer.next === undefined || seen.rows.length >= ROWS_MAX;
  }

  async function all() {
    while (!seen.ended && !page.signal.aborted && seen.rows.length < ROWS_MAX && !seen.problem) await older();
  }

  async function follow() {
    let came = [];
    let timer;
    const flush = () => {
      timer = undefined;
      add(came);
      came = [];
      page.paint();
    };
    for await (const one of lines(withQuery("/records/stream", query), page.signal)) {
      if (one.missed) seen.missed += one.missed; else came.push(one);
      timer ??= setTimeout(flush, FLUSH_MS);
    }
  }

  let first = true;
  page.poll(withQuery("/records", { ...query, limit: PAGE }), seen.follow ? 60 : 3, (answer) => {
    if (first) {
      take(answer);
      first = false;
      // The slowest of all that are kept, not of the first page.
      if (slow) all();
      add(answer.records);
      return;
    }
    fill(answer).catch(() => { if (!page.signal.aborted) seen.missed += 1; });
  });
  if (seen.follow) follow().catch((error) => { if (!page.signal.aborted) { seen.problem = error.message; page.paint(); } });
  page.view(() => [
    head("Requests", "each with where its time went", views("requests")),
    filters(page, params),
    h("div", {}, slot(table.el)),
    h("div", { class: "below" }, below(seen, table, slow, older)),
  ]);
}

/** What ended, and what runs. */
export const views = (here) => tabs("Requests", [["Ended", link("requests"), here === "requests"], ["Running now", link("live"), here === "live"], ["All that was billed", link("usage", "rows"), here === "rows"]]);

function filters(page, params) {
  const change = (changes) => { amend(changes); };
  const pick = (all) => [["", "all"], ...all.map((one) => [one, one.replaceAll("_", " ")])];
  return h("form", { class: "filters", "aria-label": "Which requests", on: { submit: (event) => event.preventDefault() } },
    choice("sort", "Order", params.sort, [["", "newest first"], ["slow", "slowest first"]], change),
    field("tenant", "Team", params.tenant, change), field("model", "Model", params.model, change), field("replica", "Replica", params.replica, change),
    choice("termination", "How it ended", params.termination, pick(ENDINGS), change), choice("band", "Band", params.band, pick(BANDS), change),
    field("min_ms", "Took at least, ms", params.min_ms, change, { inputmode: "numeric", class: "short-in" }), field("id", "Request id", params.id, change),
    h("a", { class: "button", href: link("requests", undefined, { ...params, follow: params.follow === "1" ? undefined : 1 }) }, params.follow === "1" ? "Stop following" : "Follow"),
    FILTERS.some((name) => params[name]) ? h("a", { class: "button", href: link("requests", undefined, { sort: params.sort }) }, "Clear") : null);
}

function below(seen, table, slow, older) {
  return [
    h("span", {}, `${table.says("request")}${slow && seen.ended ? ": the slowest of all that are kept" : slow ? ", and older ones are being looked through" : ""}`),
    seen.missed ? h("span", { class: "warn" }, `${count(seen.missed)} ended faster than they could be shown`) : null,
    seen.problem ? h("span", { class: "bad" }, seen.problem) : null,
    !seen.ended && !slow ? h("button", { type: "button", on: { click: older } }, seen.loading ? "Loading…" : "Older") : null,
    seen.ended ? h("span", {}, "Older ones are in the ledger: ", h("a", { href: link("usage", "rows") }, "all that was billed"), ".") : null,
  ];
}

function nothing(params) {
  if (FILTERS.some((name) => params[name])) return empty("No request fits", "Of those that the gateway keeps in memory, none is like this. Older ones are in the ledger.", `pilotage tap${params.tenant ? ` --tenant '${params.tenant.replaceAll("'", "")}'` : ""}`);
  return empty("No request has ended yet", "Ask the model something, and it is here a moment later:", "pilotage chat");
}
