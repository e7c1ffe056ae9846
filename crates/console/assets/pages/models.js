// The models that are served: how many replicas, how busy, how fast.
import { withQuery } from "../api.js";
import { spark } from "../bars.js";
import { h, slot } from "../dom.js";
import { count, isNumber, last, ms, own, plural, short } from "../format.js";
import { cut, empty, head, named, tag } from "../parts.js";
import { Table } from "../table.js";

/** What is known of a model, from its lane and its history. */
export function summary(lane, history, status) {
  const seen = own(history?.lanes, lane.name) ?? {};
  const step = history?.step_s || 5;
  const recent = (name) => last((seen[name] ?? []).slice(-12));
  return {
    name: lane.name, replicas: lane.replicas.length, up: lane.replicas.filter((one) => one.up).length,
    running: lane.replicas.reduce((all, one) => all + (one.in_flight ?? 0), 0), places: lane.replicas.reduce((all, one) => all + (one.places ?? 0), 0),
    waiting: lane.queue?.requests ?? 0, tokens: rateOf(recent("output_tokens"), step), written: (seen.output_tokens ?? []).map((value) => rateOf(value, step)),
    ttft: recent("ttft_p99_ms"), tpot: recent("tpot_p50_ms"), scaling: own(status?.scaling, lane.name),
  };
}

const rateOf = (value, step) => (isNumber(value) ? value / step : undefined);

/** How many replicas are up, of how many. */
export const upTag = ({ up, replicas }) => tag(`${count(up)} of ${count(replicas)} up`, up === replicas && up > 0 ? "ok" : up ? "warn" : "bad");

const COLUMNS = [
  { name: "Model", width: 190, of: (one) => named("models", one.name), by: (one) => one.name },
  { name: "Replicas", width: 130, of: upTag, by: (one) => one.up },
  { name: "Waiting", width: 84, num: true, of: (one) => count(one.waiting), by: (one) => one.waiting },
  { name: "Running", width: 96, num: true, of: (one) => `${count(one.running)}${one.places ? ` / ${count(one.places)}` : ""}`, by: (one) => one.running, wide: true },
  { name: "Tokens / s", width: 96, num: true, of: (one) => short(one.tokens), by: (one) => one.tokens },
  { name: "15 minutes", width: 116, of: (one) => spark(one.written, "tokens written over 15 minutes"), wide: true },
  { name: "First token, p99", width: 124, num: true, of: (one) => ms(one.ttft), by: (one) => one.ttft, wide: true },
  { name: "Each further, p50", width: 130, num: true, of: (one) => ms(one.tpot), by: (one) => one.tpot, wide: true },
  { name: "Copies wanted", width: 200, wide: true, of: (one) => (one.scaling ? cut(`${count(one.scaling.now)}: ${one.scaling.why ?? ""}`) : h("span", { class: "muted" }, "fixed")) },
];

export function open(page) {
  const seen = {};
  const table = new Table({
    label: "Models", columns: COLUMNS, key: (one) => one.name, height: Math.max(320, innerHeight - 220), sort: { by: "Model", down: false },
    empty: () => (seen.status ? empty("No model is served yet", "Without any file, the built-in model is served; with one of your own, `pilotage up -f model.yaml`.", "pilotage up") : h("p", { class: "empty" }, "Loading…")),
  });
  const refresh = () => table.set((seen.status?.lanes ?? []).map((lane) => summary(lane, seen.history, seen.status)));
  page.poll("/status", 2, (status) => { seen.status = status; refresh(); });
  page.poll(withQuery("/history", { seconds: 900 }), 5, (history) => { seen.history = history; refresh(); });
  refresh();
  page.view(() => [head("Models", seen.status ? plural(seen.status.lanes.length, "model") : undefined), h("div", {}, slot(table.el))]);
}
