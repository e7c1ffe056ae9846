// One model: its replicas, however many, and how it went of late.
import { withQuery } from "../api.js";
import { Chart } from "../chart.js";
import { h, slot } from "../dom.js";
import { count, isNumber, ms, own, percent, plural, short, span, words } from "../format.js";
import { below, command, cut, empty, field, choice, facts, named, stat, tag, wide } from "../parts.js";
import { amend, link } from "../route.js";
import { Table } from "../table.js";
import { summary, upTag } from "./models.js";

const COLUMNS = [
  { name: "Replica", width: 170, of: (one) => h("a", { class: "cut", dir: "auto", title: one.name, href: link("requests", undefined, { replica: one.name }) }, one.name), by: (one) => one.name },
  { name: "State", width: 96, of: (one) => tag(one.up ? "up" : "down", one.up ? "ok" : "bad"), by: (one) => (one.up ? 1 : 0) },
  { name: "Running", width: 96, num: true, of: (one) => `${count(one.in_flight)}${one.places ? ` / ${count(one.places)}` : ""}`, by: (one) => one.in_flight },
  { name: "Tokens", width: 90, num: true, of: (one) => short(one.tokens_in_flight), by: (one) => one.tokens_in_flight, wide: true },
  { name: "Health", width: 140, of: (one) => cut(one.health), by: (one) => one.health, wide: true },
  { name: "Last report", width: 100, num: true, of: (one) => ms(one.report_age_ms ?? undefined), by: (one) => one.report_age_ms, wide: true },
  { name: "Last failure", width: 170, of: (one) => (one.last_error ? cut(`${words(kindOf(one.last_error.kind))}, ${span(one.last_error.ago_ms)} ago`) : h("span", { class: "muted" }, "none")), by: (one) => one.last_error?.ago_ms, wide: true },
  { name: "Address", width: 190, of: (one) => cut(one.url, "mono"), by: (one) => one.url, wide: true },
];

const kindOf = (kind) => (typeof kind === "string" ? kind : Object.keys(kind ?? {})[0]);
const TROUBLED = (one) => !one.up || Boolean(one.last_error && one.last_error.ago_ms < 600_000);

export function open(page) {
  const seen = {};
  const { name, params } = page;
  const charts = {
    tokens: new Chart({ title: "Tokens per second" }),
    load: new Chart({ title: "Requests", none: "Nothing ran or waited." }),
    latency: new Chart({ title: "Latencies", format: ms, none: "No request got a token in this time." }),
  };
  const table = new Table({
    label: `Replicas of ${name}`, columns: COLUMNS, key: (one) => one.id, height: 460, sort: { by: "Replica", down: false },
    empty: () => empty(params.find || params.state ? "No replica fits" : "No replica is there", "Replicas appear when their engines answer. Models that follow the load have none while nobody asks.", "pilotage status"),
  });
  const refresh = () => {
    const find = params.find?.toLowerCase();
    const fits = (one) => (!find || one.name.toLowerCase().includes(find) || one.url?.toLowerCase().includes(find))
      && (!params.state || (params.state === "up" ? one.up : params.state === "down" ? !one.up : TROUBLED(one)));
    table.set((seen.lane?.replicas ?? []).filter(fits));
  };
  page.poll("/status", 2, (status) => {
    seen.status = status;
    seen.lane = status.lanes.find((lane) => lane.name === name);
    refresh();
  });
  page.poll(withQuery("/history", { seconds: 900 }), 5, (history) => {
    seen.history = history;
    draw(charts, history, name);
  });
  const change = (changes) => { amend(changes); };
  page.view(() => {
    if (!seen.status) return [below("models", "Models", name), h("p", { class: "muted" }, "Loading…")];
    if (!seen.lane) return [below("models", "Models", name), h("div", { class: "card" }, empty("No model of this name is served", "It may have gone, or have another name here.", "pilotage status"))];
    const one = summary(seen.lane, seen.history, seen.status);
    return [
      below("models", "Models", name, [upTag(one)], h("a", { class: "button", href: link("requests", undefined, { model: name, sort: "slow" }) }, "Its slowest requests")),
      figures(one, seen.lane),
      h("div", { class: "grid" },
        wide("third", "Tokens per second", "15 minutes", undefined, slot(charts.tokens.el)), wide("third", "Requests", "15 minutes", undefined, slot(charts.load.el)), wide("third", "Latencies", "15 minutes", undefined, slot(charts.latency.el)),
        wide("", "Replicas", table.says("replica"), undefined,
          h("form", { class: "filters", "aria-label": "Which replicas", on: { submit: (event) => event.preventDefault() } },
            field("find", "Name or address", params.find, change), choice("state", "State", params.state, [["", "all"], ["up", "up"], ["down", "down"], ["trouble", "down, or failed of late"]], change)),
          slot(table.el)),
        scaling(one, name), speed(seen.lane)),
    ];
  });
}

function draw(charts, history, name) {
  const seen = own(history.lanes, name) ?? {};
  const step = history.step_s || 5;
  const when = { from: history.from_unix_ms, step_s: step };
  const line = (label, key, factor = 1) => ({ name: label, values: (seen[key] ?? []).map((value) => (isNumber(value) ? value * factor : null)) });
  charts.tokens.set([line("written", "output_tokens", 1 / step), line("read", "input_tokens", 1 / step)], when);
  charts.load.set([line("running", "in_flight"), line("waiting", "queued")], when);
  charts.latency.set([line("first token, p99", "ttft_p99_ms"), line("first token, p50", "ttft_p50_ms"), line("each further, p50", "tpot_p50_ms")], when);
}

const figures = (one, lane) => h("div", { class: "stats" },
  stat("Waiting", count(one.waiting), lane.queue?.tokens ? `${short(lane.queue.tokens)} tokens` : "nobody waits", link("live", undefined, { model: one.name, phase: "queue" })),
  stat("Running", [count(one.running), h("small", {}, one.places ? ` / ${count(one.places)}` : "")], one.places ? `${percent(one.running / one.places)} of the places` : "places not told", link("live", undefined, { model: one.name })),
  stat("Tokens written", [short(one.tokens), h("small", {}, " / s")], plural(one.up, "replica"), link("requests", undefined, { model: one.name })),
  stat("First token, p99", ms(one.ttft), "of late"), stat("Each further token", ms(one.tpot), "median"),
  stat("Unfairness", short(lane.queue?.gap), "weighted tokens, of who waits", link("tenants")));

function scaling(one, name) {
  if (!one.scaling) return wide("half", "Copies", "as many as the Model says", undefined, empty("This model does not follow its load", "With `scaling` in its manifest, copies come and go by what requests need.", "pilotage status"));
  const { awake, asleep, now, why, forMs } = one.scaling;
  return wide("half", "Copies", "by the load", undefined, facts([["Wanted", count(now)], ["Awake", count(awake)], ["Asleep", count(asleep)], ["Why", why], ["For", span(forMs)]]));
}

function speed(lane) {
  if (!lane.speed) return null;
  const { prompt_token_ms: prompt, step_ms: step, sequence_ms: sequence, measured } = lane.speed;
  return wide("half", "What placement counts with", measured ? "measured here" : "a calibration's, or a guess: nothing was measured yet", undefined,
    facts([["A token of a prompt", ms(prompt)], ["A step", ms(step)], ["More for each sequence in it", ms(sequence)], ["Teams", h("span", {}, (lane.tenants ?? []).slice(0, 12).map((team) => [named("tenants", team.name), " "]))]]));
}
