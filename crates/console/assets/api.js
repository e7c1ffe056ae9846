// Asks the gateway. What goes wrong says what to do.
const known = new Map();
const KNOWN_MAX = 24;

export class Failure extends Error {
  constructor(what, fix, status) {
    super(what);
    this.fix = fix;
    this.status = status;
  }
}

/** The JSON at a path. What did not change since is not sent again. */
export async function get(path, signal) {
  const kept = known.get(path);
  const response = await send(path, { signal, headers: kept ? { "If-None-Match": kept.etag } : {} });
  if (response.status === 304 && kept) return kept.body;
  const body = await response.json().catch(() => {
    throw new Failure(`what ${path} answers is no JSON`, "the gateway may be of another version than this page; load it again", response.status);
  });
  const etag = response.headers.get("ETag");
  if (etag) {
    known.delete(path);
    known.set(path, { etag, body });
    if (known.size > KNOWN_MAX) known.delete(known.keys().next().value);
  }
  return body;
}

/** The lines of a stream of JSON, as they come. */
export async function* lines(path, signal) {
  const response = await send(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    if (rest.length > 1_000_000) throw new Failure("a line of the stream does not end", "load the page again");
    for (const line of parts) if (line.trim()) yield JSON.parse(line);
  }
}

/** An answer that is fine; everything else is thrown. */
export async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("the gateway does not answer", "it may be starting again; this page goes on asking. `pilotage check` says more");
  }
  if (response.ok || response.status === 304) return response;
  const said = (await response.json().catch(() => ({})))?.error?.message;
  if (response.status === 401 && !options.stay) {
    location.assign("/console/login" + location.hash);
    throw new Failure("the session is over", "log in again", 401);
  }
  const fixes = {
    403: "log in with the admin key",
    404: "this gateway does not have it; its version may be older than what this page is for",
    429: "wait a little, then try again",
    503: "it is starting or stopping; this page goes on asking",
  };
  throw new Failure(said ?? `${path} answered ${response.status}`, fixes[response.status] ?? "the gateway's log says more", response.status);
}

/** A path with those of its parameters that have a value. */
export function withQuery(path, params) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "")).toString();
  return query ? `${path}?${query}` : path;
}
