// The same question to two models, beside each other, with what each answer took.
import { send } from "../api.js";
import { h, show, slot } from "../dom.js";
import { count, ms, short } from "../format.js";
import { empty, head, trouble } from "../parts.js";
import { link } from "../route.js";

const BASE = "/console/try";
const ANSWER_MAX = 200_000;

export function open(page) {
  if (!page.session.playground) {
    page.view(() => [head("Playground"), h("div", { class: "card" }, empty("The playground is for admins", "It uses tokens, so it wants the admin key: log out, and in again with that."))]);
    return;
  }
  const form = make(page);
  page.view(() => [head("Playground", "the same question to two models"), slot(form)]);
}

function make(page) {
  const key = h("input", { type: "password", autocomplete: "off", name: "key", maxlength: 1000, placeholder: page.session.playground_has_key ? "the tenant local’s" : "pk-…" });
  const system = h("input", { name: "system", maxlength: 4000, autocomplete: "off" });
  const tokens = h("input", { name: "max_tokens", type: "number", min: 1, max: 100_000, value: "256", class: "short-in" });
  const heat = h("input", { name: "temperature", type: "number", min: 0, max: 2, step: 0.1, value: "0.7", class: "short-in" });
  const ask = h("textarea", { name: "ask", maxlength: 200_000, placeholder: "Ask something", on: { keydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go(); } } });
  const panes = [pane("Left"), pane("Right")];
  const said = h("div");
  const sendButton = h("button", { type: "submit" }, "Ask both");
  const settings = () => ({ key: key.value.trim(), system: system.value.trim(), tokens: Number(tokens.value) || 256, heat: Number(heat.value), ask: ask.value.trim() });
  let running;

  async function go() {
    if (running) {
      running.abort();
      return;
    }
    const asked = settings();
    if (!asked.ask) {
      ask.focus();
      return;
    }
    running = new AbortController();
    page.signal.addEventListener("abort", () => running?.abort(), { once: true });
    sendButton.textContent = "Stop";
    await Promise.all(panes.map((one) => one.ask(asked, running.signal)));
    running = undefined;
    sendButton.textContent = "Ask both";
  }

  const label = (text, input) => h("label", { class: "field" }, text, input);
  const root = h("form", { on: { submit: (event) => { event.preventDefault(); go(); } } }, said,
    h("div", { class: "card" }, label("Question", ask),
      h("div", { class: "row filters" }, label("System", system), label("Tokens at most", tokens), label("Temperature", heat), label("API key", key), sendButton, h("span", { class: "muted" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter")))),
    h("p", {}), h("div", { class: "pair" }, panes.map((one) => one.el)));
  root.isOwn = true;
  const fill = async () => {
    try {
      const list = await (await send(`${BASE}/v1/models`, { signal: page.signal, headers: bearer(key.value.trim()), stay: true })).json();
      panes.forEach((one, at) => one.models((list.data ?? []).map((model) => model.id), at));
      show(said);
    } catch (error) {
      if (!page.signal.aborted) show(said, trouble(error.status === 401 ? Object.assign(error, { fix: "type an API key of a team below" }) : error));
    }
  };
  key.addEventListener("change", fill);
  fill();
  return root;
}

const bearer = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

/** One model with its answer. */
function pane(side) {
  const choice = h("select", { "aria-label": `${side} model` });
  const answer = h("div", { class: "answer", role: "log", "aria-label": `${side} answer`, tabindex: 0 });
  const took = h("div", { class: "below" });
  const el = h("section", { class: "card", "aria-label": `${side} side` }, h("div", { class: "row" }, choice), answer, took);
  const models = (names, at) => {
    const had = choice.value;
    show(choice, names.map((name) => h("option", { value: name }, name)));
    choice.value = names.includes(had) ? had : names[Math.min(at, names.length - 1)] ?? "";
  };
  return { el, models, ask: (asked, signal) => stream(choice.value, asked, signal, answer, took) };
}

async function stream(model, asked, signal, answer, took) {
  const begun = performance.now();
  const seen = { first: undefined, usage: undefined, text: "" };
  show(answer, "…");
  show(took);
  const messages = [...(asked.system ? [{ role: "system", content: asked.system }] : []), { role: "user", content: asked.ask }];
  const body = { model, messages, stream: true, stream_options: { include_usage: true }, max_tokens: asked.tokens, temperature: asked.heat };
  try {
    const response = await send(`${BASE}/v1/chat/completions`, { method: "POST", signal, stay: true, headers: { "Content-Type": "application/json", ...bearer(asked.key) }, body: JSON.stringify(body) });
    const id = response.headers.get("x-request-id");
    await read(response, seen, begun, answer);
    show(took, figures(seen, performance.now() - begun), id ? h("a", { href: link("requests", id) }, "where the time went") : null);
  } catch (error) {
    if (error.name === "AbortError") show(took, "stopped"); else show(answer, trouble(error));
  }
}

async function read(response, seen, begun, answer) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n");
    rest = events.pop();
    for (const line of events) take(line, seen, begun);
    if (seen.text.length > ANSWER_MAX) break;
    show(answer, seen.text || "…");
  }
}

function take(line, seen, begun) {
  if (!line.startsWith("data:") || line.includes("[DONE]")) return;
  const event = JSON.parse(line.slice(5));
  if (event.error) throw Object.assign(new Error(event.error.message), { fix: "" });
  const text = event.choices?.[0]?.delta?.content;
  if (text) {
    seen.first ??= performance.now() - begun;
    seen.text += text;
  }
  seen.usage = event.usage ?? seen.usage;
}

function figures(seen, total) {
  const written = seen.usage?.completion_tokens;
  const rest = total - (seen.first ?? total);
  return [h("span", {}, `first token ${ms(seen.first)}`), h("span", {}, `in all ${ms(total)}`), written ? h("span", {}, `${count(written)} tokens, ${short(rest > 0 ? ((written - 1) * 1000) / rest : undefined)} / s`) : null];
}
