// Requests that wait or run now, the oldest first.
import { withQuery } from "../api.js";
import { h, slot } from "../dom.js";
import { count, ms, short } from "../format.js";
import { choice, cut, empty, field, head, named, tag } from "../parts.js";
import { amend, link } from "../route.js";
import { Table } from "../table.js";
import { PHASES, strip } from "../waterfall.js";
import { views } from "./requests.js";

const LIMIT = 200;

const COLUMNS = [
  { name: "Request", width: 150, of: (one) => h("a", { class: "cut mono", href: link("requests", one.request_id), title: one.request_id }, one.request_id) },
  { name: "For", width: 84, num: true, of: (one) => ms(one.age_ms), by: (one) => one.age_ms },
  { name: "Now", width: 116, of: (one) => tag((one.phase ?? "–").replace("_", " "), one.phase === "queue" || one.phase === "retry" ? "warn" : undefined), by: (one) => one.phase },
  { name: "Where the time went", width: 170, wide: true, of: (one) => strip(one.phases, one.age_ms) },
  { name: "Team", width: 140, of: (one) => named("tenants", one.tenant), by: (one) => one.tenant, wide: true },
  { name: "Model", width: 140, of: (one) => named("models", one.lane), by: (one) => one.lane, wide: true },
  { name: "Band", width: 90, of: (one) => one.band ?? "–", by: (one) => one.band, wide: true },
  { name: "Written", width: 84, num: true, of: (one) => short(one.output), by: (one) => one.output, wide: true },
  { name: "Replica", width: 140, of: (one) => cut(one.replica), by: (one) => one.replica, wide: true },
  { name: "Why there", width: 200, of: (one) => cut(one.why), wide: true },
];

export function open(page) {
  const { params } = page;
  const seen = {};
  const table = new Table({
    label: "Requests that run", columns: COLUMNS, key: (one) => one.request_id, height: Math.max(320, innerHeight - 330), sort: { by: "For", down: true },
    empty: () => (seen.live ? empty(params.phase || params.tenant || params.model ? "None like this runs" : "Nothing runs now", "Requests are here from the moment they come until they end.", "pilotage chat") : h("p", { class: "empty" }, "Loading…")),
  });
  page.poll(withQuery("/live", { limit: LIMIT, tenant: params.tenant, model: params.model, replica: params.replica }), 1, (live) => {
    seen.live = live;
    const fits = (one) => !params.phase || one.phase === params.phase;
    table.set((live.requests ?? []).filter(fits));
  });
  const change = (changes) => { amend(changes); };
  table.set([]);
  page.view(() => [
    head("Running now", seen.live ? `${count(seen.live.total)} in all` : undefined, views("live")),
    h("form", { class: "filters", "aria-label": "Which requests", on: { submit: (event) => event.preventDefault() } },
      choice("phase", "Now", params.phase, [["", "all"], ...PHASES.map(([name, about]) => [name, `${name.replace("_", " ")}: ${about}`])], change),
      field("tenant", "Team", params.tenant, change), field("model", "Model", params.model, change)),
    h("div", {}, slot(table.el)),
    h("div", { class: "below" }, seen.live && seen.live.total > LIMIT ? `The ${count(LIMIT)} oldest are shown.` : null),
  ]);
}
