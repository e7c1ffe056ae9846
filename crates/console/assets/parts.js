// What pages are made of: heads, figures, empty states that teach, commands to copy, names that lead somewhere.
import { h } from "./dom.js";
import { link } from "./route.js";
import { words } from "./format.js";

/** The head of a page: where it is, what it is, one line about it. */
export const head = (title, lead, ...end) => h("header", { class: "head" },
  h("h1", { tabindex: -1 }, title), lead ? h("p", { class: "lead" }, lead) : null, end.length ? h("div", { class: "end" }, end) : null);

/** The same, below another page. */
export const below = (page, name, title, lead, ...end) => h("header", { class: "head" },
  h("a", { class: "crumb", href: link(page) }, `‹ ${name}`),
  h("h1", { tabindex: -1 }, title), lead ? h("p", { class: "lead any" }, lead) : null, end.length ? h("div", { class: "end" }, end) : null);

export const card = (title, about, ...rest) => h("section", { class: "card" }, h("header", {}, h("h2", {}, title), about ? h("p", {}, about) : null), rest);

/** The same with a class, and something at the end of its head. */
export function wide(kind, title, about, end, ...rest) {
  return h("section", { class: `card ${kind}` }, h("header", {}, h("h2", {}, title), about ? h("p", {}, about) : null, end ? h("div", { class: "end" }, end) : null), rest);
}

/** A figure with its name; `href` is where it comes from. */
export const stat = (name, value, note, href) => h(href ? "a" : "div", { class: "stat", href },
  h("div", { class: "name" }, name), h("div", { class: "value" }, value), h("div", { class: "note" }, note ?? " "));

export const tag = (text, kind) => h("span", { class: kind ? `tag ${kind}` : "tag" }, text);

/** A name of any length and any letters, that leads to its page. */
export const named = (page, name, params) => (name === undefined || name === null || name === ""
  ? h("span", { class: "muted" }, "–")
  : h("a", { class: "cut", dir: "auto", title: name, href: link(page, name, params) }, name));

export const cut = (text, kind) => h("span", { class: kind ? `cut ${kind}` : "cut", dir: "auto", title: text ?? "" }, text ?? "–");

/** A command that can be copied. */
export const command = (text) => h("div", { class: "command" },
  h("pre", { tabindex: 0, "aria-label": "To copy" }, text),
  h("button", { type: "button", "aria-label": `Copy: ${text.slice(0, 80)}`, on: { click: (event) => copy(event.currentTarget, text) } }, "Copy"));

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.previousSibling);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/** Nothing is there: why, and what makes something be there. */
export const empty = (title, text, run) => h("div", { class: "empty" }, h("p", { class: "title" }, title), h("p", {}, text), run ? command(run) : null);

/** What went wrong, and what to do. */
export const trouble = (error) => h("div", { class: "trouble", role: "alert" }, h("strong", {}, error.message), error.fix ?? "");

export const facts = (pairs) => h("dl", { class: "facts" },
  pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

const GOOD = new Set(["ok"]);
const PLAIN = new Set(["client_cancel", "draining"]);

/** How a request ended. */
export function ending(record) {
  const { termination, status } = record;
  if (GOOD.has(termination) && !(status >= 400)) return tag("ok", "ok");
  if (PLAIN.has(termination)) return tag(words(termination));
  const isOwn = ["bad_request", "quota", "budget"].includes(termination) || (termination === "ok" && status < 500);
  return tag(termination === "ok" ? String(status) : words(termination), isOwn ? "warn" : "bad");
}

/** A field of a filter, which is in the address. */
export const field = (name, label, value, change, props) => h("label", {}, label,
  h("input", { name, value: value ?? "", autocomplete: "off", spellcheck: "false", maxlength: 300, ...props, on: { change: (event) => change({ [name]: event.target.value.trim() }) } }));

export const choice = (name, label, value, options, change) => h("label", {}, label,
  h("select", { name, on: { change: (event) => change({ [name]: event.target.value }) } },
    options.map(([key, text]) => h("option", { value: key, selected: key === (value ?? "") }, text))));

/** Pages of one subject beside each other. */
export const tabs = (label, items) => h("nav", { class: "tabs", "aria-label": label },
  items.map(([text, href, here]) => h("a", { href, "aria-current": here ? "page" : undefined }, text)));
