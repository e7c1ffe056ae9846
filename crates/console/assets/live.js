// Keeps pages up to date: asks again and again while somebody looks, never more often than the answer is cheap.
import { get } from "./api.js";

/** An answer may take this part of the time between two questions: what is slow is asked less often. */
const BUSY_MAX = 1 / 30;
const LATE_MS = 15_000;

const heartbeat = { paused: false, last: 0, failed: undefined };
const watchers = new Set();

export const state = () => heartbeat;

/** Stops and resumes all questions. */
export function pause(paused) {
  heartbeat.paused = paused;
  for (const wake of watchers) wake();
}

/** What to show of it: a class and words. */
export function pulse(now = Date.now()) {
  if (heartbeat.paused) return ["", "paused"];
  if (heartbeat.failed) return ["lost", "no answer"];
  if (heartbeat.last && now - heartbeat.last > LATE_MS) return ["late", `${Math.round((now - heartbeat.last) / 1000)} s old`];
  return ["live", "live"];
}

/** What is given back for an answer that will not change. */
export const ENOUGH = Symbol("enough");

/** Asks until `signal` ends it or `take` has enough, and at once when somebody looks again. */
export async function poll(path, seconds, signal, take, fail) {
  while (!signal.aborted) {
    if (document.hidden || heartbeat.paused) {
      await pausing(signal);
      continue;
    }
    const begun = performance.now();
    const where = typeof path === "function" ? path() : path;
    try {
      const body = await get(where, signal);
      if (signal.aborted) return;
      heartbeat.last = Date.now();
      heartbeat.failed = undefined;
      if (take(body) === ENOUGH) return;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if (error.status === undefined) heartbeat.failed = error;
      fail(error);
    }
    const took = performance.now() - begun;
    await idle(Math.max(seconds * 1000, took / BUSY_MAX), signal);
  }
}

function idle(wait, signal) {
  return new Promise((go) => {
    const timer = setTimeout(done, wait);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      go();
    }
  });
}

function pausing(signal) {
  return new Promise((go) => {
    const done = () => {
      watchers.delete(done);
      document.removeEventListener("visibilitychange", done);
      signal.removeEventListener("abort", done);
      go();
    };
    watchers.add(done);
    document.addEventListener("visibilitychange", done);
    signal.addEventListener("abort", done, { once: true });
  });
}
