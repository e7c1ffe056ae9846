// Where a request's time went: its phases in order, each where it began and as long as it took.
import { h } from "./dom.js";
import { isNumber, ms } from "./format.js";

/** The phases in order of time: name, what it is, its colour. */
export const PHASES = [
  ["auth", "who asks", "other"], ["read", "reading the request", "other"], ["route", "model, cache, quotas", "other"],
  ["queue", "waiting for its turn", "wait"], ["retry", "attempts that failed", "wait"], ["connect", "until the replica answers", "wait"],
  ["prefill", "the prompt is computed", "work"], ["decode", "the answer is written", "write"],
  ["client_blocked", "the client does not read", "client"], ["other", "the rest", "other"],
];
const COLOUR = Object.fromEntries(PHASES.map(([name, , kind]) => [name, `w-${kind}`]));
const ABOUT = Object.fromEntries(PHASES.map(([name, about]) => [name, about]));

/** The phases of a record, or of a request that runs: `{phase, ms}`. */
export const phases = (from) => PHASES.map(([phase]) => ({ phase, ms: from?.[`t_${phase}_ms`] })).filter((one) => isNumber(one.ms));

const part = (value, all) => `${(all > 0 ? Math.min(100, (value / all) * 100) : 0).toFixed(2)}%`;

/** One line with all phases in it, for tables. */
export function strip(from, total) {
  const known = phases(from);
  const all = total ?? known.reduce((sum, one) => sum + one.ms, 0);
  let begun = 0;
  const bars = known.map((one) => {
    const bar = h("span", { class: `fill ${COLOUR[one.phase]}`, style: { left: part(begun, all), width: part(one.ms, all) } });
    begun += one.ms;
    return one.ms > 0 ? bar : null;
  });
  const most = [...known].sort((a, b) => b.ms - a.ms)[0];
  return h("div", { class: "strip", role: "img", "aria-label": most ? `mostly ${most.phase}, ${ms(most.ms)}` : "nothing known yet" }, bars);
}

/** The phase that took longest. */
export function longest(from) {
  const most = phases(from).sort((a, b) => b.ms - a.ms)[0];
  return most && most.ms > 0 ? most.phase : undefined;
}

/** All phases below each other. `lines` explain them: `{phase, ms, share, usual_ms, what}`. */
export function waterfall(record, lines = []) {
  const told = Object.fromEntries(lines.map((line) => [line.phase, line]));
  const known = phases(record);
  const total = known.reduce((sum, one) => sum + one.ms, 0);
  const most = longest(record);
  let begun = 0;
  const rows = known.map(({ phase, ms: took }) => {
    const from = begun;
    begun += took;
    const line = told[phase];
    return h("tr", { class: phase === most ? "most" : took > 0 ? undefined : "none" },
      h("th", { scope: "row", class: "phase", title: ABOUT[phase] }, phase.replace("_", " ")),
      h("td", {}, h("div", { class: "lane", "aria-hidden": "true" }, took > 0 ? h("span", { class: `fill ${COLOUR[phase]}`, style: { left: part(from, total), width: part(took, total) } }) : null)),
      h("td", { class: "took" }, ms(took)),
      h("td", { class: "usual" }, isNumber(line?.usual_ms) ? ms(line.usual_ms) : ""),
      h("td", { class: "why" }, line?.what || ABOUT[phase]));
  });
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Phases" }, h("table", { class: "fall", "aria-label": "Phases in order of time" },
    h("thead", {}, h("tr", {}, [["phase", "Phase"], ["", `0 to ${ms(total)}`], ["took", "Took"], ["usual", "Usual"], ["why", "What it was"]].map(([kind, name]) => h("th", { scope: "col", class: kind || undefined }, name)))),
    h("tbody", {}, rows)));
}
