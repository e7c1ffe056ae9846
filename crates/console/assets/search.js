// The field on top: a request's id leads to it, a name to what has it.
import { h, show } from "./dom.js";
import { link } from "./route.js";

const SHOWN_MAX = 40;

/** `names()` is what is known: `{models, tenants, replicas}`. */
export function begin(names) {
  const [form, input, list] = ["search", "find", "found"].map((id) => document.getElementById(id));
  input.addEventListener("input", () => {
    const text = input.value.toLowerCase();
    const { models, tenants, replicas } = names();
    const all = [...models.map((name) => [name, "model"]), ...tenants.map((name) => [name, "team"]), ...replicas.map((name) => [name, "replica"])];
    const fit = text ? all.filter(([name]) => name.toLowerCase().includes(text)).slice(0, SHOWN_MAX) : [];
    show(list, fit.map(([name, kind]) => h("option", { value: name, label: `${kind}: ${name}` })));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return;
    location.hash = target(text, names());
    input.value = "";
    input.blur();
  });
  return input;
}

/** Where a text leads. */
export function target(text, { models, tenants, replicas }) {
  if (models.includes(text)) return link("models", text);
  if (tenants.includes(text)) return link("tenants", text);
  if (replicas.includes(text)) return link("requests", undefined, { replica: text });
  const begins = (all) => all.filter((name) => name.toLowerCase().startsWith(text.toLowerCase()));
  const [model, tenant] = [begins(models), begins(tenants)];
  if (model.length + tenant.length === 1) return model.length ? link("models", model[0]) : link("tenants", tenant[0]);
  return link("requests", text);
}
