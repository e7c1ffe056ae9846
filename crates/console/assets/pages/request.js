// One request: why it took as long as it did, in words and drawn.
import { h } from "../dom.js";
import { ENOUGH } from "../live.js";
import { count, date, isNumber, money, ms, percent } from "../format.js";
import { below, card, command, empty, ending, facts, named, tag, wide } from "../parts.js";
import { link } from "../route.js";
import { longest, phases, waterfall } from "../waterfall.js";

const ID = /^[A-Za-z0-9._:-]{1,128}$/;

export function open(page) {
  const seen = {};
  const id = page.name;
  const name = encodeURIComponent(id);
  // What the gateway forgot the ledger still has.
  page.poll(() => (seen.gone ? `/usage/why?id=${name}` : `/records/${name}`), 2, (answer, error) => {
    // Whoever does not know it, the other one is asked next.
    if (error?.status === 404 && !seen.record) {
      seen.gone = !seen.gone;
      if (seen.gone) return undefined;
    }
    Object.assign(seen, { record: answer?.record, explanation: answer?.explanation ?? undefined, running: answer?.live, kept: answer?.from === "ledger", error });
    // One that ended does not change.
    return seen.record ? ENOUGH : undefined;
  }, { optional: true });
  page.view(() => {
    if (seen.record) return ended(seen.record, seen.explanation ?? {}, seen.kept);
    if (seen.running) return running(seen.running);
    return [below("requests", "Requests", h("span", { class: "mono" }, id)), seen.error ? missing(id) : h("p", { class: "muted" }, "Loading…")];
  });
}

const missing = (id) => h("div", { class: "card" }, empty("The gateway does not remember this request", "It keeps the last 10,000 that ended, and those that run; its ledger has older ones, and not this one.", ID.test(id) ? `pilotage why ${id}` : undefined),
  h("div", { class: "empty" }, h("a", { href: link("usage", "rows", { id }) }, "Look in the ledger")));

const title = (one) => h("span", { class: "mono" }, one.request_id);

function running(one) {
  return [
    below("requests", "Requests", title(one), [tag("running"), ` for ${ms(one.age_ms)}, now: ${(one.phase ?? "").replace("_", " ")}`]),
    card("So far", one.why, waterfall(one.phases ?? {})),
    card("What it is", undefined, facts([["Team", named("tenants", one.tenant)], ["Model", named("models", one.lane)], ["Replica", one.replica], ["Band", one.band], ["Tokens written", count(one.output)]])),
  ];
}

function ended(record, explanation, kept) {
  return [
    below("requests", "Requests", title(record), [ending(record), ` ${ms(record.t_total_ms)}, ended ${date(record.unix_ms)}`]),
    h("div", { class: "grid" },
      h("section", { class: "card", "aria-label": "Why it took this long" }, h("p", { class: "verdict", id: "verdict" }, explanation.verdict ?? plain(record)), (explanation.notes ?? []).map((note) => h("p", { class: "any" }, note)), explanation.hint ? h("p", { class: "any" }, h("strong", {}, "To change: "), explanation.hint) : null,
        explanation.compared_with ? h("p", { class: "muted" }, `Usual is the median of ${count(explanation.compared_with)} requests of the same model ${kept ? "in the days before it" : "of late"}.`) : null,
        kept ? h("p", { class: "muted" }, "The gateway does not remember it; this is from the ledger.") : null),
      wide("", "Where the time went", sums(record), undefined, waterfall(record, explanation.lines)),
      wide("half", "What it is", undefined, undefined, what(record)),
      wide("half", "Where it ran", undefined, undefined, where(record)),
      wide("half", "Tokens", undefined, undefined, tokens(record)),
      wide("half", "On a terminal", "the same, to copy", undefined, ID.test(record.request_id) ? command(`pilotage why ${record.request_id}`) : null,
        facts([["Trace", h("span", { class: "mono any" }, record.trace_id)], ["Span", record.span_id === undefined ? null : h("span", { class: "mono" }, record.span_id)]]))),
  ];
}

// What can be said where the gateway says nothing.
function plain(record) {
  const most = longest(record);
  const known = phases(record).find((one) => one.phase === most);
  return known ? `mostly ${most.replace("_", " ")}: ${ms(known.ms)} of ${ms(record.t_total_ms)}` : `took ${ms(record.t_total_ms)}`;
}

function sums(record) {
  const all = phases(record).reduce((sum, one) => sum + one.ms, 0);
  return Math.abs(all - record.t_total_ms) <= 1 ? `${ms(record.t_total_ms)} in all, in order of time` : `phases are ${ms(all)}, the total ${ms(record.t_total_ms)}`;
}

const yes = (flag) => (flag ? "yes" : undefined);

const what = (record) => facts([
  ["Team", named("tenants", record.tenant)], ["In", record.tenant_path ? h("span", { class: "any" }, record.tenant_path.split("/").join(" › ")) : null],
  ["Model", named("models", record.lane)], ["Route", record.route], ["Why this model", record.route_why], ["Version", record.model_version], ["Adapter", record.adapter],
  ["Path", h("span", { class: "mono" }, record.path)], ["Band", record.band], ["Stream", yes(record.stream)], ["Charged", record.charged_micros ? money((record.charged_micros / 1e6).toFixed(6)) : null], ["Status", String(record.status)],
  ["Kept answer", record.cache], ["Shared with another", yes(record.merged)], ["A copy nobody sees", yes(record.mirror)],
]);

const where = (record) => facts([
  ["Replica", record.replica ? h("a", { class: "any", href: link("requests", undefined, { replica: record.replica }) }, record.replica) : "none"], ["Why that one", record.why],
  ["Before", record.earlier_replicas?.join(", ")], ["Attempts", count(record.attempts)], ["Stood aside", record.stops ? `${count(record.stops)} times` : null],
  ["Went on elsewhere", record.resumed ? `${count(record.resumed)} times` : null], ["Put right", yes(record.corrupted)],
  ["Runtime", [record.runtime, record.runtime_version].filter(Boolean).join(" ")], ["Hardware", record.hardware], ["Region", record.region],
]);

function tokens(record) {
  const [input, cached, output] = [record.input_tokens ?? record.input, record.cached_tokens ?? record.cached, record.output_tokens ?? record.output];
  const gaps = record.itl;
  return facts([
    ["Prompt", count(input)], ["From the cache", isNumber(cached) && input ? `${count(cached)} (${percent(cached / input)})` : null], ["Answer", count(output)], ["Thoughts", record.reasoning || record.reasoning_tokens ? count(record.reasoning ?? record.reasoning_tokens) : null],
    ["Counted by", record.counted === undefined ? null : record.counted ? "the engine" : "an estimate"], ["First token", ms(record.ttft_ms ?? undefined)], ["Each further one", ms(record.tpot_ms ?? undefined)],
    ["Between tokens", gaps ? `median ${ms(gaps.p50_ms)}, p99 ${ms(gaps.p99_ms)}, longest ${ms(gaps.max_ms)}` : null], ["Stood still", gaps?.stalls ? `${count(gaps.stalls)} times, ${ms(gaps.stalled_ms)}` : null],
  ]);
}
