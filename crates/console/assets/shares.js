// Who has how much of the gateway, and how much is theirs. Only arithmetic; the pages show it.
import { count, isNumber, percent, plural, sum } from "./format.js";

/** A team is over its share only when it is so by more than chance. */
const OVER = 1.15;
const OVER_AT_LEAST = 0.03;

/**
 * Every team of all models: `{name, parent, queued, usage, guaranteed, isLeaf, nominal, fair, entitled, used, state}`.
 * `used` is its part of the tokens of the last minutes, or, where there were none, of the KV tokens in flight; `nominal`
 * is its part when all ask, `fair` among those that use or want something now, `entitled` the one that counts.
 */
export function shares(status, history) {
  const teams = merged(status);
  const parents = new Set([...teams.values()].map((team) => team.parent).filter(Boolean));
  const list = [...teams.values()];
  for (const team of list) {
    team.isLeaf = !parents.has(team.key);
    team.nominal = isNumber(team.told) ? team.told : undefined;
  }
  const tokens = recent(history);
  const basis = [...tokens.values()].some((value) => value > 0) ? "tokens" : "kv";
  const amount = (team) => (basis === "tokens" ? tokens.get(team.name) ?? 0 : team.usage);
  const leaves = list.filter((team) => team.isLeaf && (team.key === team.name || team.queued || team.usage || tokens.get(team.name)));
  const all = leaves.reduce((total, team) => total + amount(team), 0);
  for (const team of leaves) {
    team.amount = amount(team);
    team.used = all > 0 ? team.amount / all : undefined;
  }
  const active = withParents(leaves.filter((team) => team.used > 0 || team.queued > 0), teams);
  for (const team of leaves) {
    team.fair = team.nominal !== undefined && active.includes(team) ? part(team, teams, active) : team.nominal;
    team.state = judge(team, leaves);
    team.entitled = team.state === "idle" || team.state === "borrows" ? team.nominal : team.fair;
  }
  leaves.sort((a, b) => rank(b) - rank(a) || (b.used ?? 0) - (a.used ?? 0) || a.name.localeCompare(b.name));
  return { teams: leaves, all: list, basis, total: all, window_s: history ? window(history) : undefined };
}

function merged(status) {
  const teams = new Map();
  for (const lane of status?.lanes ?? []) {
    const seen = new Map();
    // What an inner team has is told twice: with all that is below it, and what its own requests have. That is less.
    for (const one of [...(lane.tenants ?? [])].sort((a, b) => b.usage - a.usage || b.queued - a.queued)) {
      const isOwn = one.own ?? seen.has(one.name);
      seen.set(one.name, one);
      const key = isOwn ? `${one.name}\nown` : one.name;
      const parent = isOwn ? one.name : one.parent ?? undefined;
      const team = teams.get(key) ?? { name: one.name, key, parent, queued: 0, usage: 0, guaranteed: 0, lanes: [] };
      team.queued += one.queued ?? 0;
      team.usage += one.usage ?? 0;
      if (!isOwn) {
        team.guaranteed += one.guaranteed ?? 0;
        team.told ??= one.entitled_share;
      }
      team.lanes.push({ lane: lane.name, ...one });
      teams.set(key, team);
    }
  }
  return teams;
}

function withParents(leaves, teams) {
  const found = new Set(leaves);
  for (const team of found) if (teams.has(team.parent)) found.add(teams.get(team.parent));
  return [...found];
}

// Its part of what is there for those that ask. Among siblings, what is told of all that could ask is as good as weights.
function part(team, teams, among, depth = 0) {
  const siblings = among.filter((one) => one.parent === team.parent);
  const all = siblings.reduce((total, one) => total + (one.told ?? 0), 0);
  const own = all > 0 ? (team.told ?? 0) / all : 0;
  const above = team.parent && depth < 32 ? teams.get(team.parent) : undefined;
  return above ? own * part(above, teams, among, depth + 1) : own;
}

/** The last five minutes of a history that may be longer. */
export const RECENT_S = 300;

function recent(history) {
  const steps = Math.max(1, Math.round(RECENT_S / (history?.step_s || 5)));
  return new Map(Object.entries(history?.tenants ?? {}).map(([name, seen]) => [name, sum((seen.tokens ?? []).slice(-steps)) ?? 0]));
}

function window(history) {
  const steps = Math.max(0, ...Object.values(history.tenants ?? {}).map((seen) => seen.tokens?.length ?? 0));
  return Math.min(RECENT_S, steps * (history.step_s || 5));
}

function judge(team, teams) {
  if (!team.used && !team.queued) return "idle";
  if (team.nominal === undefined) return "unknown";
  const used = team.used ?? 0;
  const isBeyond = (due) => used > due * OVER && used - due > OVER_AT_LEAST;
  if (isBeyond(team.fair) && teams.some((other) => other !== team && other.queued > 0)) return "over";
  if (team.queued > 0 && used < team.fair / OVER) return "short";
  return isBeyond(team.nominal) ? "borrows" : "within";
}

/** What states are called, and how they look. */
export const STATES = { over: ["over its share", "bad"], borrows: ["borrows", "warn"], short: ["below its share", "warn"], within: ["within its share", "ok"], idle: ["idle"] };

const rank = (team) => ({ over: 3, borrows: 2, short: 2, within: 1, unknown: 1, idle: 0 })[team.state];

/** A sentence about one team. */
export function sentence(team, teams) {
  const waiting = team.queued > 0 ? `, with ${plural(team.queued, "request")} waiting` : "";
  const uses = `uses ${percent(team.used ?? 0)}`;
  const due = `entitled to ${percent(team.entitled)}`;
  switch (team.state) {
    case "idle": return team.entitled === undefined ? "idle" : `idle, ${due} when all ask`;
    case "unknown": return `${uses}; what it is entitled to is not known here${waiting}`;
    case "over": {
      const others = teams.filter((other) => other !== team && other.queued > 0).sort((a, b) => b.queued - a.queued);
      return `${uses}, ${due}, while ${names(others)} ${others.length === 1 ? "waits" : "wait"}${waiting}`;
    }
    case "borrows": return `${uses}, ${due}, borrowing what others leave idle${waiting}`;
    default: return `${uses}, ${due}${waiting}`;
  }
}

function names(teams) {
  const first = teams.slice(0, 3).map((team) => (team.name.length > 40 ? `${team.name.slice(0, 40)}…` : team.name));
  const more = teams.length - first.length;
  if (more > 0) return `${first.join(", ")} and ${count(more)} more`;
  return first.length > 1 ? `${first.slice(0, -1).join(", ")} and ${first.at(-1)}` : first[0];
}
