// Elements from values. Data becomes text nodes and attributes, never markup, so that no name can be code.
// Characters that would turn text around, or hide, are shown as what they are.
const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open", "hidden"]);
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
const seen = (text) => String(text).replace(UNSEEN, (one) => `‹${one.codePointAt(0).toString(16)}›`);
const HTML_ONLY = /^on|^style$|^src|^action|^form/i;

/** An element. `props`: `class`, `on: {event: f}`, `style: {property: value}`, `key`, attributes. */
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/** An element of an SVG. */
export function s(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

/** A place for an element that keeps itself up to date: a table that scrolls, a form that is typed in. */
export function slot(element) {
  const place = document.createElement("div");
  place.own = element;
  return place;
}

function build(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") listen(node, value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "key") node.dataset.key = value;
    else if (PROPERTIES.has(name)) node[name] = value;
    else if (HTML_ONLY.test(name)) throw new Error(`${name} is not for data`);
    else if (name === "href" && !/^(#|\/(?!\/))/.test(value)) continue;
    else node.setAttribute(name, value === true ? "" : name === "title" || name.startsWith("aria-") ? seen(value) : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child instanceof Node) node.append(child);
    else if (child !== undefined && child !== null && child !== false) node.append(document.createTextNode(seen(child)));
  }
}

// One listener for each kind of event, which looks up what is to be done: so can be taken over from another element.
function listen(node, on) {
  node.handlers = on;
  for (const type of Object.keys(on)) node.addEventListener(type, handle);
}

function handle(event) {
  this.handlers?.[event.type]?.(event);
}

/** Makes the children of `node` what `children` are, and keeps what is the same: focus, scrolling, selection. */
export function show(node, ...children) {
  const wanted = document.createDocumentFragment();
  append(wanted, children);
  same(node, wanted);
}

function same(from, to) {
  const wanted = [...to.childNodes];
  const have = [...from.childNodes];
  wanted.forEach((want, at) => {
    const old = have[at];
    const own = want.own;
    if (own) {
      if (old === own) return;
      if (old) old.replaceWith(own); else from.append(own);
      return;
    }
    if (!old) from.append(fill(want));
    else if (isAlike(old, want)) adapt(old, want);
    else old.replaceWith(fill(want));
  });
  for (const extra of have.slice(wanted.length)) extra.remove();
}

// Puts elements that keep themselves into their places, in what is new.
function fill(node) {
  for (const child of [...node.childNodes]) {
    if (child.own) child.replaceWith(child.own); else if (child.nodeType === 1) fill(child);
  }
  return node;
}

function isAlike(old, want) {
  return old.nodeType === want.nodeType && old.nodeName === want.nodeName && old.isOwn !== true
    && old.dataset?.key === want.dataset?.key;
}

function adapt(old, want) {
  if (old.nodeType === 3) {
    if (old.data !== want.data) old.data = want.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && name !== "open" && !want.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...want.attributes]) {
    if (name !== "style" && name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style.cssText !== want.style.cssText) old.style.cssText = want.style.cssText;
  if (want.handlers && !old.handlers) listen(old, want.handlers); else old.handlers = want.handlers;
  for (const name of ["disabled", "hidden"]) if (name in old && old[name] !== want[name]) old[name] = want[name];
  if (old.nodeName !== "TEXTAREA") same(old, want);
}
