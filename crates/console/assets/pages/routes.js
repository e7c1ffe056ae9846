// Routes: which model answers a public name, how each arm does, and how far a canary is.
import { h } from "../dom.js";
import { count, isNumber, ms, percent, plural, short } from "../format.js";
import { empty, head, named, tag, wide } from "../parts.js";
import { link } from "../route.js";

const VERDICTS = { promote: "ok", advance: "ok", promoted: "ok", hold: undefined, wait: undefined, rollback: "bad", rolled_back: "bad" };

export function open(page) {
  const seen = {};
  page.poll("/status", 3, (status) => { seen.status = status; });
  page.view(() => {
    const routes = seen.status?.routes ?? [];
    return [head("Routes", seen.status ? plural(routes.length, "route") : undefined), seen.status && !routes.length ? nothing() : h("div", { class: "grid" }, routes.map(route))];
  });
}

const nothing = () => h("div", { class: "card" }, empty("No route is set", "A Route divides the requests of a public model name among Models: by weights, rules, a canary that proves itself, or a mirror. Without one, each Model answers to its own name.", "pilotage explain route --help"));

function route(one) {
  const arms = one.arms ?? [];
  const all = arms.reduce((sum, arm) => sum + (arm.requests ?? 0), 0);
  return wide("", one.name, one.canary ? undefined : plural(arms.length, "arm"), h("a", { href: link("requests", undefined, { model: arms[0]?.model }) }, "Requests"),
    one.canary ? canary(one.canary) : null,
    arms.length ? h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Arms of ${one.name}` }, table(one.name, arms, all)) : h("p", { class: "muted" }, "It had no request yet."));
}

function canary({ verdict, percent: share, why }) {
  const text = String(typeof verdict === "string" ? verdict : Object.keys(verdict ?? {})[0] ?? "–");
  return h("p", { class: "any" }, tag(`canary: ${text.replaceAll("_", " ").toLowerCase()}`, VERDICTS[text.toLowerCase()] ?? "warn"), ` gets ${isNumber(share) ? percent(share / 100) : "–"} of the requests. `, why);
}

const latency = (one, name) => {
  const { p50, p95 } = one[name] ?? {};
  return [ms(p50 ?? undefined), h("span", { class: "muted" }, ` / ${ms(p95 ?? undefined)}`)];
};

function table(name, arms, all) {
  const heads = ["Model", "Requests", "Part", "Failed", "First token, p50 / p95", "Each further, p50 / p95", "In all, p50 / p95", "Tokens written"];
  return h("table", { "aria-label": `Arms of ${name}` },
    h("thead", {}, h("tr", {}, heads.map((text, at) => h("th", { scope: "col", class: at ? "num" : undefined }, text)))),
    h("tbody", {}, arms.map((arm) => h("tr", {},
      h("th", { scope: "row" }, named("models", arm.model)), h("td", { class: "num" }, count(arm.requests)), h("td", { class: "num" }, all ? percent(arm.requests / all) : "–"),
      h("td", { class: arm.error_rate > 0.01 ? "num bad" : "num" }, isNumber(arm.error_rate) ? percent(arm.error_rate) : count(arm.failed)),
      ["ttft_ms", "tpot_ms", "total_ms"].map((key) => h("td", { class: "num" }, latency(arm, key))), h("td", { class: "num" }, short(arm.output_tokens))))));
}
