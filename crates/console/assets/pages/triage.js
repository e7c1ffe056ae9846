// What is wrong, from what it follows, and what to change.
import { h } from "../dom.js";
import { count, isNumber, percent, plural, short } from "../format.js";
import { card, command, empty, head, tag } from "../parts.js";
import { findingKey, severity, titled } from "./overview.js";

export function open(page) {
  const seen = {};
  let shown = false;
  page.poll("/triage", 10, (report, error) => { Object.assign(seen, { report, error }); }, { optional: true });
  page.view(() => {
    const { report, error } = seen;
    if (error) return [head("Findings"), h("div", { class: "card" }, empty("This gateway looks for nothing", error.message, "pilotage triage"))];
    if (!report) return [head("Findings"), h("p", { class: "muted" }, "Loading…")];
    const list = report.findings ?? [];
    if (page.params.at && !shown) {
      shown = true;
      requestAnimationFrame(() => document.getElementById(`finding-${page.params.at}`)?.scrollIntoView());
    }
    const models = new Set(list.map((one) => one.model).filter(Boolean)).size;
    return [head("Findings", models > 1 ? `${plural(list.length, "finding")} of ${plural(models, "model")}` : plural(list.length, "finding")), verdict(report), list.length ? h("section", { class: "card", "aria-label": "Findings" }, list.map(finding)) : null, attribution(report), blind(report)];
  });
}

function verdict({ verdict: said, usable, model, window_s: window }) {
  const is = typeof said === "string" ? said : said?.is;
  const text = { found: said?.title, nothing_wrong: `Of ${plural(said?.judged ?? 0, "signature")} that could be looked for, none was found.`, not_enough: `Too little is known to say. Missing: ${(said?.missing ?? []).join(", ")}.` }[is] ?? said?.title ?? String(is ?? "");
  const notes = usable?.notes ?? [];
  return h("section", { class: "card", "aria-label": "Verdict" }, h("p", { class: "verdict" }, is === "found" && model ? `${model}: ${text}` : text), h("p", { class: "muted" }, [said?.confidence === undefined ? null : `${percent(said.confidence)} sure`, isNumber(window) ? `by the last ${plural(Math.round(window), "second")}` : null].filter(Boolean).join(", ")),
    notes.map((note) => h("p", { class: note.is_fatal ? "bad" : "warn" }, `${note.what} ${note.so ?? ""}`)));
}

function finding(one) {
  const fix = one.fix ?? {};
  return h("article", { class: "finding", id: `finding-${findingKey(one)}` },
    h("h2", {}, titled(one)),
    h("p", {}, severity(one), " ", tag(one.id), ` ${percent(one.confidence)} sure`, one.impact?.share ? `, explains ${percent(one.impact.share)}` : "", one.about?.length ? `, about ${one.about.slice(0, 5).join(", ")}${one.about.length > 5 ? ` and ${count(one.about.length - 5)} more` : ""}` : "", one.follows_from ? `, follows from ${one.follows_from}` : ""),
    h("div", { class: "fix" }, h("p", {}, h("strong", {}, "To change: "), typeof fix === "string" ? fix : fix.what),
      (fix.changes ?? []).map((change) => h("div", {}, h("span", { class: "muted" }, change.place), command(change.text))),
      fix.predicted || one.predicted ? h("p", { class: "muted" }, `Then: ${fix.predicted ?? one.predicted}`) : null),
    evidence(one),
    one.refuted_by ? h("p", { class: "muted" }, `It is not so if: ${one.refuted_by}`) : null);
}

function evidence(one) {
  if (!one.evidence?.length) return null;
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Evidence of ${findingKey(one)}` }, h("table", { "aria-label": `Evidence of ${findingKey(one)}` },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Measured"), h("th", { scope: "col", class: "num" }, "Is"), h("th", { scope: "col" }, "Expected"), h("th", { scope: "col" }, "Speaks"))),
    h("tbody", {}, one.evidence.map((line) => h("tr", {}, h("td", {}, line.measure), h("td", { class: "num" }, `${short(line.value)} ${line.unit ?? ""}`), h("td", {}, line.expected), h("td", {}, line.holds ? tag("for it", "ok") : tag("against it", "warn")))))));
}

function attribution({ attribution: where, model }) {
  const parts = where?.parts ?? [];
  if (!parts.length) return null;
  return card("Where time went", `of ${count(where.requests)} requests${model ? ` of ${model}` : ""}`, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Where time went" }, h("table", { "aria-label": "Where time went" },
    h("thead", {}, h("tr", {}, ["Phase", "Share", "Each"].map((text, at) => h("th", { scope: "col", class: at ? "num" : undefined }, text)))),
    h("tbody", {}, parts.map((part) => h("tr", {}, h("td", {}, String(part.phase).replaceAll("_", " ")), h("td", { class: "num" }, percent(part.share)), h("td", { class: "num" }, `${short(part.each_s)} s`)))))));
}

function blind({ blind: unseen }) {
  if (!unseen?.length) return null;
  return card("What could not be looked for", "and the first measure that is missing", h("ul", { class: "plain" }, unseen.map((one) => h("li", {}, tag(one.id), ` ${one.missing}`))));
}
