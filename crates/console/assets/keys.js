// The keyboard: every page and list without a mouse.
import { h, show } from "./dom.js";
import { link } from "./route.js";

export const PLACES = { o: "overview", r: "requests", l: "live", m: "models", t: "tenants", c: "routes", f: "triage", u: "usage", p: "playground" };
const NAMES = { overview: "Overview", requests: "Requests", live: "Running now", models: "Models", tenants: "Teams", routes: "Routes and canaries", triage: "Findings", usage: "Usage", playground: "Playground" };
const ACTIONS = [["?", "This help"], ["/", "Find"], ["j", "Next row"], ["k", "Previous row"], ["Enter", "Open the row"], ["p", "Stop and go on"], ["d", "Dark or light"], ["Esc", "Close, leave a field"]];

/** Listens for keys; `act` has what they do. */
export function begin(act) {
  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    const table = document.querySelector("main .listing")?.table;
    if (Date.now() - went < 1500 && PLACES[event.key]) {
      went = 0;
      event.preventDefault();
      location.hash = link(PLACES[event.key]);
      return;
    }
    went = event.key === "g" ? Date.now() : 0;
    const doing = {
      "?": act.help, "/": act.find, p: act.pause, d: act.theme,
      j: () => table?.walk(1), k: () => table?.walk(-1),
    }[event.key];
    if (doing) {
      event.preventDefault();
      doing();
    }
  });
}

/** The list of keys. */
export function help() {
  const pairs = (all) => h("dl", { class: "short" }, all.map(([key, text]) => h("div", {}, h("dt", {}, text), h("dd", {}, key.split(" ").map((one) => [h("kbd", {}, one), " "])))));
  const dialog = h("dialog", { "aria-labelledby": "keys", on: { close: () => dialog.remove(), click: (event) => { if (event.target === dialog) dialog.close(); } } });
  show(dialog, h("h2", { id: "keys" }, "Keys"),
    pairs(Object.entries(PLACES).map(([key, page]) => [`g ${key}`, NAMES[page]])), pairs(ACTIONS),
    h("button", { type: "button", on: { click: () => dialog.close() } }, "Close"));
  document.body.append(dialog);
  dialog.showModal();
}
