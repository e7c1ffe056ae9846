// One team: its share, what it uses over time, what is left of its budget.
import { withQuery } from "../api.js";
import { shareBar } from "../bars.js";
import { Chart } from "../chart.js";
import { h, slot } from "../dom.js";
import { count, date, isNumber, money, own, percent, short } from "../format.js";
import { below, empty, facts, named, stat, wide } from "../parts.js";
import { link } from "../route.js";
import { sentence, shares } from "../shares.js";
import { stateTag } from "./overview.js";

const DAY_MS = 86_400_000;

export function open(page) {
  const { name } = page;
  const seen = {};
  const charts = { tokens: new Chart({ title: "Tokens per second", none: "It used none in this time." }), requests: new Chart({ title: "Requests per second", none: "It asked nothing in this time." }) };
  page.poll("/status", 2, (status) => { seen.status = status; });
  page.poll(withQuery("/history", { seconds: 900 }), 5, (history) => {
    seen.history = history;
    const used = own(history.tenants, name) ?? {};
    const step = history.step_s || 5;
    for (const [key, chart] of Object.entries(charts)) {
      chart.set([{ name: key, values: (used[key] ?? []).map((value) => (isNumber(value) ? value / step : null)) }], { from: history.from_unix_ms, step_s: step });
    }
  });
  page.poll("/usage/budgets", 60, (budgets) => { seen.budgets = (budgets ?? []).filter((one) => one.tenant === name); }, { optional: true });
  page.poll(() => withQuery("/usage", { from: Date.now() - DAY_MS, to: Date.now(), by: "model", tenant: name }), 60, (usage) => { seen.usage = usage; }, { optional: true });
  page.view(() => {
    if (!seen.status) return [below("tenants", "Teams", name), h("p", { class: "muted" }, "Loading…")];
    const all = shares(seen.status, seen.history);
    const team = all.teams.find((one) => one.name === name) ?? all.all.find((one) => one.name === name);
    if (!team) return [below("tenants", "Teams", name), h("div", { class: "card" }, empty("No team of this name is known", "It may have gone with its manifest.", "pilotage key list"))];
    const end = h("a", { class: "button", href: link("requests", undefined, { tenant: name, sort: "slow" }) }, "Its slowest requests");
    return [below("tenants", "Teams", name, team.isLeaf ? [stateTag(team), ` ${sentence(team, all.teams)}`] : "has teams below it", end), figures(team), h("div", { class: "grid" }, body(team, seen, charts, all))];
  });
}

const figures = (team) => h("div", { class: "stats" },
  stat("Uses", percent(team.used), "of the tokens of late"), stat("Entitled to", percent(team.entitled), isNumber(team.nominal) ? `${percent(team.nominal)} when all ask` : "not told"),
  stat("Waiting", count(team.queued), "requests", link("live", undefined, { tenant: team.name, phase: "queue" })), stat("KV tokens", short(team.usage), team.guaranteed ? `${short(team.guaranteed)} guaranteed` : "in flight", link("live", undefined, { tenant: team.name })));

function body(team, seen, charts, all) {
  const family = all.all.filter((one) => one.parent === team.name);
  return [
    wide("half", "Tokens per second", "15 minutes, read and written", undefined, slot(charts.tokens.el)), wide("half", "Requests per second", "15 minutes", undefined, slot(charts.requests.el)),
    wide("half", "Share", undefined, undefined, shareBar(team.used, team.entitled, team.state === "over" || team.state === "borrows"),
      h("p", {}), facts([["In", team.parent ? named("tenants", team.parent) : null], ["Below it", family.length ? family.map((one) => [named("tenants", one.name), " "]) : null],
        ...team.lanes.map((lane) => [h("span", { class: "any" }, lane.lane), `${short(lane.usage)} KV tokens, ${count(lane.queued)} waiting${isNumber(lane.service) ? `, served ${short(lane.service)}` : ""}`])])),
    wide("half", "Budget", undefined, h("a", { href: link("usage", undefined, { tenant: team.name, by: "model,day" }) }, "Usage"), budgets(seen.budgets), spent(seen.usage)),
  ];
}

function budgets(list) {
  if (!list?.length) return h("p", { class: "muted" }, "No budget is set for it.");
  return list.map((one) => facts([["Window", one.window], ["Limit", short(Number(one.limit))], ["Spent", `${short(Number(one.spent))} (${percent(Number(one.spent) / Number(one.limit))})`], ["Forecast", short(Number(one.forecast))], ["Used up", one.exhausted_at ? (isNumber(one.exhausted_at) ? date(one.exhausted_at) : one.exhausted_at) : "not in this window"]]));
}

function spent(usage) {
  const total = usage?.total;
  if (!total) return null;
  return h("div", { class: "gap-top" }, facts([["Last 24 hours", `${count(total.requests)} requests, ${short(total.input_tokens)} tokens read, ${short(total.output_tokens)} written`], ["Price", total.price ? money(total.price, usage.currency) : null]]));
}
