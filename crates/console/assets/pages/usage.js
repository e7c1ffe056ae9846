// Who used how much and what it cost: sums of the ledger, by what one asks for.
import { withQuery } from "../api.js";
import { stack } from "../bars.js";
import { h, slot } from "../dom.js";
import { count, date, isNumber, money, percent, plural, short, span } from "../format.js";
import { choice, command, cut, empty, facts, field, head, named, tag, wide } from "../parts.js";
import { amend, link } from "../route.js";
import { Table } from "../table.js";

const SPANS = { hour: 3_600_000, day: 86_400_000, week: 7 * 86_400_000, month: 30 * 86_400_000 };
const KEYS = { tenant: "Team", model: "Model", day: "Day", hardware: "Hardware", band: "Band", version: "Version" };
const COSTS = [["usage", "used", "w-work"], ["idle", "idle", "w-other"], ["reserved", "reserved", "w-client"], ["overhead", "overhead", "w-wait"]];

export function open(page) {
  const { params } = page;
  const by = (params.by ?? "tenant").split(",").filter((key) => Object.hasOwn(KEYS, key));
  const length = SPANS[params.span] ?? SPANS.day;
  const range = () => ({ from: Date.now() - length, to: Date.now() });
  const query = (more) => ({ ...range(), tenant: params.tenant, model: params.model, ...more });
  const seen = {};
  const table = new Table({
    label: "Usage", columns: columns(by, seen), key: (row) => by.map((key) => row[key]).join("\n"), height: Math.max(260, innerHeight - 480), sort: { by: "Requests", down: true },
    empty: () => (seen.usage ? empty("Nothing was used in this time", "Each answer leaves one row in the ledger.", "pilotage chat") : seen.without ? noLedger(seen.without) : h("p", { class: "empty" }, "Loading…")),
  });
  table.set([]);
  page.poll(() => withQuery("/usage", query({ by: by.join(",") })), 15, (usage, error) => {
    seen.usage = usage;
    seen.without = error;
    table.set(usage?.rows ?? []);
  }, { optional: true });
  page.poll(() => withQuery("/usage/cost", range()), 60, (cost) => { seen.cost = cost; }, { optional: true });
  page.poll("/usage/budgets", 60, (budgets) => { seen.budgets = budgets; }, { optional: true });
  page.poll("/ledger", 10, (ledger) => { seen.ledger = ledger; }, { optional: true });
  page.view(() => [
    head("Usage", seen.usage ? plural(seen.usage.total?.requests ?? 0, "request") : undefined, h("a", { class: "button", href: link("usage", "rows", { tenant: params.tenant, model: params.model }) }, "Single requests"),
      seen.usage ? h("a", { class: "button", download: "usage.csv", href: withQuery("/usage", query({ by: by.join(","), format: "csv" })) }, "As CSV") : null),
    form(params, by), h("div", {}, slot(table.el)), h("div", { class: "below" }, total(seen.usage)),
    h("div", { class: "grid" }, cost(seen.cost), budgets(seen.budgets), ledger(seen.ledger)),
  ]);
}

/** Why there are no sums. */
export const noLedger = (error) => empty("This gateway keeps no ledger", error.message, "pilotage usage --help");

function columns(by, seen) {
  const price = (row, key) => money(row[key], seen.usage?.currency);
  const pages = { tenant: "tenants", model: "models" };
  const tokens = (name, key, wideOnly) => ({ name, width: 104, num: true, wide: wideOnly, of: (row) => short(row[key]), by: (row) => row[key] });
  return [
    ...by.map((key) => ({ name: KEYS[key], width: 150, of: (row) => (pages[key] ? named(pages[key], row[key]) : cut(row[key])), by: (row) => row[key] })),
    { name: "Requests", width: 96, num: true, of: (row) => count(row.requests), by: (row) => row.requests },
    tokens("Read", "input_tokens", true), tokens("Cached", "cached_tokens", true), tokens("Written", "output_tokens"), tokens("Thoughts", "reasoning_tokens", true), tokens("GPU seconds", "gpu_seconds", true),
    { name: "Price", width: 120, num: true, of: (row) => price(row, "price"), by: (row) => Number(row.price ?? Number.NaN) || null },
    { name: "Cost", width: 120, num: true, wide: true, of: (row) => price(row, "cost"), by: (row) => Number(row.cost ?? Number.NaN) || null },
  ];
}

function form(params, by) {
  const change = (changes) => { amend(changes); };
  const toggle = (key, on) => change({ by: (on ? [...by, key] : by.filter((one) => one !== key)).join(",") || "tenant" });
  return h("form", { class: "filters", "aria-label": "Which usage", on: { submit: (event) => event.preventDefault() } },
    choice("span", "Time", params.span ?? "day", [["hour", "last hour"], ["day", "last 24 hours"], ["week", "last 7 days"], ["month", "last 30 days"]], change),
    field("tenant", "Team", params.tenant, change), field("model", "Model", params.model, change),
    h("fieldset", { class: "chips" }, h("legend", {}, "Sums by"), Object.entries(KEYS).map(([key, name]) => h("label", {}, h("input", { type: "checkbox", name: `by-${key}`, checked: by.includes(key), on: { change: (event) => toggle(key, event.target.checked) } }), name))));
}

function total(usage) {
  if (!usage?.total) return null;
  const { requests, input_tokens: input, output_tokens: output, price } = usage.total;
  return h("span", {}, `In all: ${count(requests)} requests, ${short(input)} tokens read, ${short(output)} written${price ? `, ${money(price, usage.currency)}` : ""}.`);
}

function cost(seen) {
  if (!seen) return null;
  const all = Number(seen.bill);
  if (!all) return wide("half", "What it costs", undefined, undefined, empty("Nothing has a price", "With a pricePerHour of its Fleet, or a price book, what runs has a bill, and teams have their part of it."), command("pilotage usage --help"));
  const part = (key) => Number(seen[key] ?? 0) / all;
  return wide("half", "What it costs", money(seen.bill, seen.currency), undefined,
    stack(COSTS.map(([key, , kind]) => ({ share: part(key), class: kind })), COSTS.map(([key, name]) => `${name} ${percent(part(key))}`).join(", ")),
    h("p", {}), facts(COSTS.map(([key, name]) => [name, `${money(seen[key], seen.currency)} (${percent(part(key))})`])), seen.sums === false ? h("p", { class: "bad" }, "The parts do not sum up to the bill.") : null);
}

function budgets(list) {
  if (!list?.length) return null;
  return wide("half", "Budgets", undefined, undefined, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Budgets" }, h("table", { "aria-label": "Budgets" },
    h("thead", {}, h("tr", {}, ["Team", "Window", "Spent", "Limit", "Used up"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, list.slice(0, 100).map((one) => h("tr", {}, h("td", {}, named("tenants", one.tenant)), h("td", {}, one.window), h("td", {}, `${short(Number(one.spent))} (${percent(Number(one.spent) / Number(one.limit))})`), h("td", {}, short(Number(one.limit))), h("td", {}, one.exhausted_at ? (isNumber(one.exhausted_at) ? `in ${span(Math.max(0, one.exhausted_at - Date.now()))}` : one.exhausted_at) : tag("not in it", "ok"))))))));
}

function ledger(one) {
  if (!one) return null;
  return wide("half", "Ledger", undefined, undefined, facts([["Kept in", one.kind], ["Behind", plural(one.behind_rows ?? 0, "row")], ["Lost", h("span", { class: one.lost_rows ? "bad" : undefined }, plural(one.lost_rows ?? 0, "row"))], ["Last trouble", one.last_error ? h("span", { class: "bad" }, one.last_error) : "none"], ["Journal", `${short(one.journal_bytes)} bytes`], ["Since", one.since > 0 ? `${date(one.since)}, ${span(Date.now() - one.since)}` : undefined]]));
}
