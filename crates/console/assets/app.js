// The frame of all pages: which one the address names, what is in its margins, and what keeps it up to date.
import { get, send } from "./api.js";
import { h, show } from "./dom.js";
import { icon } from "./icons.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import { trouble } from "./parts.js";
import { link, parse } from "./route.js";
import * as search from "./search.js";
import * as livePage from "./pages/live.js";
import * as model from "./pages/model.js";
import * as models from "./pages/models.js";
import * as overview from "./pages/overview.js";
import * as playground from "./pages/playground.js";
import * as request from "./pages/request.js";
import * as requests from "./pages/requests.js";
import * as routes from "./pages/routes.js";
import * as rows from "./pages/rows.js";
import * as tenant from "./pages/tenant.js";
import * as tenants from "./pages/tenants.js";
import * as triage from "./pages/triage.js";
import * as usage from "./pages/usage.js";

/** Each page, and the page of one of its things. */
const PAGES = {
  overview: { name: "Overview", page: overview },
  requests: { name: "Requests", page: requests, one: request },
  live: { name: "Running now", page: livePage },
  models: { name: "Models", page: models, one: model },
  tenants: { name: "Teams", page: tenants, one: tenant },
  routes: { name: "Routes", page: routes },
  triage: { name: "Findings", page: triage },
  usage: { name: "Usage", page: usage, one: rows },
  playground: { name: "Playground", page: playground },
};

const main = document.getElementById("main");
const world = { session: undefined, status: undefined, findings: 0 };
let visit = new AbortController();

/** What a page is given: who looks, what the address says, and ways to ask and to show. */
function context(name, params, signal, body) {
  const failures = new Map();
  let painted = () => null;
  const paint = () => !signal.aborted && show(body,
    h("div", {}, [...failures.values()].map(trouble)), h("div", {}, painted()));
  return {
    name, params, signal, session: world.session,
    /** Shows what `view` makes, now and whenever something came. */
    view(view) {
      painted = view;
      paint();
    },
    paint,
    /** Asks again and again; `optional` is what a gateway may lack. */
    poll(path, seconds, take, { optional = false } = {}) {
      const where = typeof path === "function" ? "page" : path;
      live.poll(path, seconds, signal, (answer) => {
        failures.delete(where);
        if (path === "/status") world.status = answer;
        const enough = take(answer);
        paint();
        return enough;
      }, (error) => {
        if (optional && error.status) take(undefined, error); else failures.set(where, error);
        paint();
      });
    },
  };
}

function go() {
  const { page, name, params } = parse(location.hash);
  const known = Object.hasOwn(PAGES, page) ? PAGES[page] : undefined;
  visit.abort();
  visit = new AbortController();
  const field = document.activeElement?.closest?.("main .filters") ? document.activeElement.name : undefined;
  const body = h("div", { class: "page" });
  main.replaceChildren(body);
  document.title = `${name ? `${name.slice(0, 60)} – ` : ""}${known?.name ?? "Not found"} – Pilotage`;
  frame(page);
  if (!known) {
    show(body, h("h1", { tabindex: -1 }, "There is no such page"), h("p", {}, h("a", { href: link("overview") }, "Begin at the overview")));
    return;
  }
  (name && known.one ? known.one : known.page).open(context(name, params, visit.signal, body));
  const again = field && main.querySelector(`.filters [name="${CSS.escape(field)}"]`);
  if (again) again.focus();
  else if (document.activeElement === document.body || document.activeElement?.closest?.("#nav, main")) focusHead();
  main.scrollTop = 0;
}

function focusHead() {
  (main.querySelector("h1") ?? main).focus({ preventScroll: true });
}

function frame(here) {
  const entry = ([page, { name }]) => h("a", { href: link(page), "aria-current": page === here ? "page" : undefined }, icon(page), name,
    page === "triage" && world.findings ? h("span", { class: "count", title: "findings" }, world.findings) : null);
  show(document.getElementById("nav"), Object.entries(PAGES).filter(([page]) => page !== "playground" || world.session?.playground).map(entry),
    h("span", { class: "grow" }), h("span", { class: "foot" }, `Pilotage ${world.session?.version ?? ""}`), h("span", { class: "foot" }, world.session?.role === "admin" ? "admin" : "viewer: read-only"));
  tools();
}

function tools() {
  const [kind, text] = live.pulse();
  const { paused } = live.state();
  show(document.getElementById("tools"),
    h("button", { type: "button", "aria-pressed": String(paused), "aria-label": `Updates: ${text}. ${paused ? "Go on" : "Stop"}`, title: "Stop and go on (p)", on: { click: pause } }, h("span", { class: `pulse ${kind}` }, h("span", { class: "word" }, text))),
    h("button", { type: "button", "aria-label": "Dark or light", title: "Dark or light (d)", on: { click: () => globalThis.toggleTheme() } }, "◐"),
    h("button", { type: "button", "aria-label": "Keys", title: "Keys (?)", on: { click: keys.help } }, "?"),
    h("button", { type: "button", "aria-label": "Log out", title: "Log out", on: { click: leave } }, "⏏"));
}

function pause() {
  live.pause(!live.state().paused);
  tools();
}

async function leave() {
  await send("/console/logout", { method: "POST", redirect: "follow", stay: true }).catch(() => {});
  location.assign("/console/login");
}

function names() {
  const lanes = world.status?.lanes ?? [];
  const unique = (all) => [...new Set(all)];
  return {
    models: lanes.map((lane) => lane.name),
    tenants: unique(lanes.flatMap((lane) => (lane.tenants ?? []).map((one) => one.name))),
    replicas: unique(lanes.flatMap((lane) => lane.replicas.map((one) => one.name))),
  };
}

// The number beside the findings, on every page.
function watchFindings() {
  const forever = new AbortController().signal;
  live.poll("/triage", 60, forever, (report) => {
    world.findings = (report.findings ?? []).filter((one) => one.severity !== "info").length;
    frame(parse(location.hash).page);
  }, () => {});
}

async function begin() {
  world.session = await get("/console/session").catch((error) => {
    if (error.status !== 401) show(main, h("div", { class: "page" }, trouble(error), h("button", { type: "button", on: { click: () => location.reload() } }, "Ask again")));
    return undefined;
  });
  if (!world.session) return;
  const find = search.begin(names);
  keys.begin({ help: keys.help, find: () => find.focus(), pause, theme: () => globalThis.toggleTheme() });
  document.querySelector("[data-skip]").addEventListener("click", (event) => {
    event.preventDefault();
    focusHead();
  });
  addEventListener("hashchange", go);
  setInterval(tools, 3000);
  get("/status").then((status) => { world.status = status; }, () => {});
  watchFindings();
  go();
}

begin();
