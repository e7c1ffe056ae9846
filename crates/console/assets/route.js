// Addresses of pages: `#/requests/ID?tenant=a`. What is looked at is in them, so that they can be sent to others.
const part = (text) => encodeURIComponent(text).replaceAll("%2F", "/");

/** `link("requests", id, {tenant})` */
export function link(page, name, params) {
  const pairs = Object.entries(params ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  const query = new URLSearchParams(pairs.map(([key, value]) => [key, String(value)])).toString();
  return `#/${page}${name === undefined || name === null ? "" : `/${part(String(name))}`}${query ? `?${query}` : ""}`;
}

/** The page, the name after it and the parameters. */
export function parse(hash) {
  const text = hash.replace(/^#\/?/, "");
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const slash = path.indexOf("/");
  const page = slash < 0 ? path : path.slice(0, slash);
  let name;
  try {
    name = slash < 0 ? undefined : decodeURIComponent(path.slice(slash + 1));
  } catch {
    name = path.slice(slash + 1);
  }
  return { page: page || "overview", name: name || undefined, params: Object.fromEntries(new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1))) };
}

/** Changes parameters of the address without another entry in the history. */
export function amend(changes) {
  const { page, name, params } = parse(location.hash);
  location.replace(link(page, name, { ...params, ...changes }));
}
