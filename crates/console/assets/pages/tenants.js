// The teams: what each uses, what is theirs, who waits.
import { withQuery } from "../api.js";
import { shareBar } from "../bars.js";
import { h, slot } from "../dom.js";
import { count, percent, plural, short } from "../format.js";
import { empty, head, named, tag } from "../parts.js";
import { shares } from "../shares.js";
import { Table } from "../table.js";
import { legend, stateTag } from "./overview.js";

const ORDER = ["over", "short", "borrows", "within", "unknown", "idle"];

const columns = (seen) => [
  { name: "Team", width: 200, of: (team) => named("tenants", team.name), by: (team) => team.name },
  { name: "Is", width: 120, of: stateTag, by: (team) => ORDER.indexOf(team.state) },
  { name: "Uses", width: 76, num: true, of: (team) => percent(team.used ?? 0), by: (team) => team.used },
  { name: "Entitled", width: 84, num: true, of: (team) => percent(team.entitled), by: (team) => team.entitled },
  { name: "Against each other", width: 180, wide: true, of: (team) => shareBar(team.used, team.entitled, team.state === "over" || team.state === "borrows") },
  { name: "Waiting", width: 84, num: true, of: (team) => count(team.queued), by: (team) => team.queued },
  { name: "KV tokens", width: 96, num: true, wide: true, of: (team) => short(team.usage), by: (team) => team.usage },
  { name: "Guaranteed", width: 100, num: true, wide: true, of: (team) => (team.guaranteed ? short(team.guaranteed) : "–"), by: (team) => team.guaranteed },
  { name: "In", width: 130, wide: true, of: (team) => (team.parent ? named("tenants", team.parent) : h("span", { class: "muted" }, "–")), by: (team) => team.parent },
];

export function open(page) {
  const seen = { shares: { teams: [] } };
  const table = new Table({
    label: "Teams", columns: columns(seen), key: (team) => team.key, height: Math.max(320, innerHeight - 250), sort: { by: "Is", down: false },
    empty: () => (seen.status ? empty("No team is known yet", "A Tenant says whose key a request comes with, its weight, and what is guaranteed to it. All others are `local`.", "pilotage key new --help") : h("p", { class: "empty" }, "Loading…")),
  });
  const refresh = () => {
    if (!seen.status) return table.set([]);
    seen.shares = shares(seen.status, seen.history);
    return table.set(seen.shares.teams);
  };
  page.poll("/status", 2, (status) => { seen.status = status; refresh(); });
  page.poll(withQuery("/history", { seconds: 300 }), 5, (history) => { seen.history = history; refresh(); });
  refresh();
  page.view(() => [head("Teams", lead(seen.shares)), h("div", {}, slot(table.el)), legend()]);
}

function lead({ teams, basis, window_s }) {
  const over = teams.filter((team) => team.state === "over");
  const what = basis === "tokens" ? `by tokens of the last ${window_s >= 60 ? plural(Math.round(window_s / 60), "minute") : `${window_s ?? 0} s`}` : "by KV tokens in flight";
  return [over.length ? tag(`${count(over.length)} over their share`, "bad") : tag("nobody is over its share at the cost of others", "ok"), ` ${plural(teams.length, "team")}, ${what}`];
}
