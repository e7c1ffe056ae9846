// How it goes, on one page: who uses what against what is theirs, how fast it is, what waits, what it costs.
import { withQuery } from "../api.js";
import { shareBar } from "../bars.js";
import { Chart } from "../chart.js";
import { h, slot } from "../dom.js";
import { at, count, isNumber, money, ms, percent, plural, short, sum } from "../format.js";
import { command, empty, ending, head, named, stat, tag, wide } from "../parts.js";
import { link } from "../route.js";
import { sentence, shares, STATES } from "../shares.js";
import { longest, strip } from "../waterfall.js";

const SHOWN_TEAMS = 8;
const SHOWN_SLOW = 8;
const HOUR_MS = 3_600_000;

export function open(page) {
  const seen = {};
  const charts = {
    output_tokens: new Chart({ title: "Tokens written per second" }),
    queued: new Chart({ title: "Requests waiting", none: "Nothing waited." }),
    ttft_p99_ms: new Chart({ title: "Time to the first token, 99th percentile", format: ms, none: "No request got a token in this time." }),
  };
  page.poll("/status", 2, (status) => { seen.status = status; });
  page.poll(withQuery("/history", { seconds: 900 }), 5, (history) => {
    seen.history = history;
    for (const [name, chart] of Object.entries(charts)) chart.set(series(history, name), { from: history.from_unix_ms, step_s: history.step_s });
  });
  page.poll(withQuery("/records", { limit: 200 }), 5, (records) => { seen.records = records.records; });
  page.poll("/triage", 30, (triage) => { seen.triage = triage; }, { optional: true });
  page.poll(() => withQuery("/usage/cost", { from: Date.now() - HOUR_MS, to: Date.now() }), 60, (cost) => { seen.cost = cost; }, { optional: true });
  page.view(() => [head("Overview", about(seen.status)), ...(seen.status && !seen.status.lanes?.length ? [nothing()] : [figures(seen), h("div", { class: "grid" }, body(seen, charts))])]);
}

/** A value of each model over time; what is counted is told for each second. */
export function series(history, name) {
  const rate = name.endsWith("_tokens") || name === "requests" ? 1 / (history.step_s || 5) : 1;
  return Object.entries(history.lanes ?? {}).map(([lane, seen]) => ({ name: lane, values: (seen[name] ?? []).map((value) => (isNumber(value) ? value * rate : null)) }));
}

function about(status) {
  if (!status) return undefined;
  const up = status.lanes.reduce((all, lane) => all + lane.replicas.filter((one) => one.up).length, 0);
  return [status.ready === false ? tag("not ready", "bad") : tag("ready", "ok"), ` ${plural(status.lanes.length, "model")}, ${plural(up, "replica")} up`];
}

const nothing = () => h("div", { class: "card" }, empty("No model is served yet", "A Model says which weights run, and how many copies. Without any file, the built-in model is served:", "pilotage up"), h("div", { class: "empty" }, h("p", {}, "With one of your own:"), command("pilotage up -f model.yaml")));

// The rate over the last minute, of all models.
function rate(history, name) {
  const steps = Math.max(1, Math.round(60 / (history?.step_s || 5)));
  const all = Object.values(history?.lanes ?? {}).map((lane) => sum((lane[name] ?? []).slice(-steps)));
  const total = sum(all);
  return total === undefined ? undefined : total / (steps * (history.step_s || 5));
}

function worst(history, name) {
  const steps = Math.max(1, Math.round(60 / (history?.step_s || 5)));
  const known = Object.values(history?.lanes ?? {}).flatMap((lane) => (lane[name] ?? []).slice(-steps)).filter(isNumber);
  return known.length ? Math.max(...known) : undefined;
}

function figures({ status, history, cost }) {
  const lanes = status?.lanes ?? [];
  const waiting = status && lanes.reduce((all, lane) => all + (lane.queue?.requests ?? 0), 0);
  const running = status && lanes.reduce((all, lane) => all + lane.replicas.reduce((some, one) => some + (one.in_flight ?? 0), 0), 0);
  const [asked, failed] = [rate(history, "requests"), rate(history, "errors")];
  const errors = asked > 0 ? (failed ?? 0) / asked : undefined;
  return h("div", { class: "stats" },
    stat("Requests", [short(asked), h("small", {}, " / s")], errors === undefined ? "none in the last minute" : h("span", { class: errors > 0.01 ? "bad" : undefined }, `${percent(errors)} failed`), link("requests")),
    stat("Tokens written", [short(rate(history, "output_tokens")), h("small", {}, " / s")], `${short(rate(history, "input_tokens"))} / s read`, link("models")),
    stat("Running", count(running), "requests at replicas", link("live")),
    stat("Waiting", count(waiting), waiting ? "for their turn" : "nobody waits", link("live", undefined, { phase: "queue" })),
    stat("First token, p99", ms(worst(history, "ttft_p99_ms")), `median ${ms(worst(history, "ttft_p50_ms"))}, slowest model`, link("requests", undefined, { sort: "slow" })),
    stat("Cost now", Number(cost?.bill) > 0 ? [money(Number(cost.bill) / hours(cost), cost.currency), h("small", {}, " / h")] : "–", Number(cost?.bill) > 0 ? "of late" : "no replica has a price", link("usage")));
}

// The ledger answers for whole hours, which are more than were asked for.
const hours = (answer) => Math.max(1, (Date.parse(answer.to) - Date.parse(answer.from)) / HOUR_MS || 1);

function body(seen, charts) {
  return [
    wide("two", "Who uses what", seen.history && seen.status ? basis(seen) : undefined, h("a", { href: link("tenants") }, "All teams"), teams(seen)),
    wide("third", "Findings", undefined, h("a", { href: link("triage") }, "All, with what to change"), findings(seen.triage)),
    wide("", "Slowest requests of late", seen.records ? `of the last ${count(seen.records.length)} that ended` : undefined, h("a", { href: link("requests", undefined, { sort: "slow" }) }, "All requests"), slowest(seen.records)),
    wide("third", "Tokens written per second", "15 minutes", undefined, slot(charts.output_tokens.el)),
    wide("third", "Requests waiting", "15 minutes", undefined, slot(charts.queued.el)),
    wide("third", "First token, p99", "15 minutes", undefined, slot(charts.ttft_p99_ms.el)),
  ];
}

function basis({ status, history }) {
  const { basis: what, window_s } = shares(status, history);
  return what === "tokens" ? `tokens of the last ${window_s >= 60 ? plural(Math.round(window_s / 60), "minute") : `${window_s} s`}, against what is theirs` : "KV tokens in flight, against what is theirs";
}

function teams({ status, history }) {
  if (!status) return h("p", { class: "muted" }, "Loading…");
  const known = shares(status, history).teams;
  if (!known.length) return empty("No team is known yet", "A Tenant says whose key a request comes with, and which part of the gateway is theirs.", "pilotage key new --help");
  const some = known.slice(0, SHOWN_TEAMS);
  return [
    h("ul", { class: "shares" }, some.map((team) => teamLine(team, known))),
    known.length > some.length ? h("p", { class: "keyline" }, h("a", { href: link("tenants") }, `${count(known.length - some.length)} more`)) : null,
    legend(),
  ];
}

export const legend = () => h("p", { class: "keyline", "aria-hidden": "true" }, h("span", {}, h("i", {}), "used"), h("span", {}, h("i", { class: "over" }), "more than is theirs"), h("span", {}, h("i", { class: "due" }), "what is theirs"));

/** What its share is like. */
export const stateTag = (team) => (team.state === "unknown" ? h("span", { class: "muted" }, "–") : tag(...STATES[team.state]));

/** A team with its bar and its sentence. */
export function teamLine(team, all) {
  const over = team.state === "over" || team.state === "borrows";
  return h("li", { class: "share", key: team.key }, h("span", { class: "who" }, named("tenants", team.name)), shareBar(team.used, team.entitled, over),
    h("span", { class: "figures" }, h("b", {}, percent(team.used ?? 0)), ` of ${percent(team.entitled)}`),
    h("span", { class: "say" }, team.state === "idle" || team.state === "within" ? null : [stateTag(team), " "], sentence(team, all)));
}

function findings(report) {
  if (!report) return h("p", { class: "muted" }, "Nothing was looked for yet.");
  const list = report.findings ?? [];
  if (!list.length) return h("p", {}, tag("nothing wrong", "ok"), " of what could be looked for.");
  return h("ul", { class: "plain" }, list.slice(0, 4).map((one) => h("li", { class: "any" }, severity(one), " ", h("a", { href: link("triage", undefined, { at: findingKey(one) }) }, titled(one)))));
}

/** What tells a finding from those of other models. */
export const findingKey = (one) => (one.model ? `${one.id}~${one.model}` : one.id);

/** Whose trouble it is, and what. */
export const titled = (one) => (one.model ? `${one.model}: ${one.title}` : one.title);

export const severity = (finding) => tag(finding.severity ?? "finding", { critical: "bad", warning: "warn" }[finding.severity]);

function slowest(records) {
  if (!records) return h("p", { class: "muted" }, "Loading…");
  const slow = [...records].sort((a, b) => b.t_total_ms - a.t_total_ms).slice(0, SHOWN_SLOW);
  if (!slow.length) return empty("No request has ended yet", "Ask the model something, and it is here a moment later:", "pilotage chat");
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Slowest requests" }, h("table", { class: "fixed slow", "aria-label": "Slowest requests" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Why"), h("th", { scope: "col" }, "Where the time went"), h("th", { scope: "col", class: "num" }, "Took"), h("th", { scope: "col", class: "wide" }, "Team"), h("th", { scope: "col", class: "wide" }, "Model"), h("th", { scope: "col", class: "wide" }, "How"), h("th", { scope: "col", class: "wide num" }, "Ended"))),
    h("tbody", {}, slow.map((one) => h("tr", {},
      h("td", {}, h("a", { class: "cut", href: link("requests", one.request_id), title: one.request_id }, `mostly ${longest(one) ?? "unknown"}`.replace("_", " "))),
      h("td", {}, strip(one, one.t_total_ms)), h("td", { class: "num" }, ms(one.t_total_ms)),
      h("td", { class: "wide" }, named("tenants", one.tenant)), h("td", { class: "wide" }, named("models", one.lane)), h("td", { class: "wide" }, ending(one)), h("td", { class: "wide num" }, at(one.unix_ms)))))));
}
