//! The statements of both drivers. Values are bound, never written into them: a name can be any text.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use pilotage_lens::usage::{
    Added, Entitled, Entitlement, Group, Meters, Reading, Row, Seconds, Sums, UpTime, name,
};

use super::{Ask, AskRows, Batch, Dimension, PageKey, Range, Used};
use crate::entry::{Entry, hour};
use crate::meter::Key;

/// Hours of a day.
const DAY: u64 = 24;

/// A value that is bound.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(i64),
    Text(String),
}

/// A statement and its values, numbered from 1.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

/// What a batch comes to: rows one by one, the rest as sums.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) rows: Vec<(u64, Box<Row>)>,
    sums: BTreeMap<(i64, u64, Group), Sums>,
    ups: BTreeMap<(i64, u64, String, String), Up>,
    /// What was seen of replicas, each with the digest of who could count on what.
    readings: Vec<(Key, String, Reading)>,
    /// Lists of who could count on what, by digest and part: the hour, and the part.
    pub(super) entitled: BTreeMap<(String, i64), (i64, String)>,
}

/// What is added to a row of `ups`.
#[derive(Debug, Default)]
struct Up {
    added: Added,
    /// The list as JSON, or its digest.
    entitled: String,
}

/// The keys and sums of one row of `sums`, or of `ups`.
pub(super) type Texts<const N: usize> = [String; N];

pub(super) const INSERT_ROW: &str = "INSERT INTO rows (instance, seq, unix_ms, request_id, tenant, model, input, \
     cached, output, charged_micros, body, detail)";

pub(super) const INSERT_SUMS: &str = "INSERT INTO sums (step, at, tenant, tenant_path, model, version, hardware, band, \
     requests, input, cached, output, reasoning, charged, kv, lost_kv, busy)";

pub(super) const ADD_SUMS: &str = "ON CONFLICT (step, at, model, hardware, tenant, tenant_path, version, band) DO UPDATE \
     SET requests = sums.requests + excluded.requests, input = sums.input + excluded.input, \
     cached = sums.cached + excluded.cached, output = sums.output + excluded.output, \
     reasoning = sums.reasoning + excluded.reasoning, charged = sums.charged + excluded.charged, \
     kv = sums.kv + excluded.kv, lost_kv = sums.lost_kv + excluded.lost_kv, busy = sums.busy + excluded.busy";

pub(super) const INSERT_UPS: &str =
    "INSERT INTO ups (step, at, model, hardware, up_ms, cost, entitled)";

pub(super) const ADD_UPS: &str = "ON CONFLICT (step, at, model, hardware) DO UPDATE SET up_ms = ups.up_ms + excluded.up_ms, \
     cost = ups.cost + excluded.cost, entitled = excluded.entitled";

impl Sorted {
    /// What of a batch has a number above that.
    pub(super) fn of(batch: Batch, above: u64) -> Self {
        let mut this = Self::default();
        for (sequence, entry) in batch.entries.into_iter().filter(|(sequence, _)| *sequence > above)
        {
            match entry {
                Entry::Row(row) => this.rows.push((sequence, row)),
                Entry::Folded(folded) => this.add(folded.hour, folded.group, folded.sums),
                Entry::Up(up) => this.add_whole(*up),
                Entry::Meters(meters) => this.read(*meters),
                Entry::Entitled(list) => this.list(*list),
            }
        }
        this
    }

    fn read(&mut self, meters: Meters) {
        for reading in meters.readings {
            let model = name(&reading.model).into_owned();
            let replica = name(&reading.replica).into_owned();
            let key = Key { hour: meters.hour, model, replica };
            self.readings.push((key, name(&meters.entitled).into_owned(), reading));
        }
    }

    fn list(&mut self, list: Entitlement) {
        let body = serde_json::to_string(&list.entitled).unwrap_or_default();
        let key = (name(&list.digest).into_owned(), int(list.part));
        self.entitled.insert(key, (int(list.hour), body));
    }

    /// Of what there are readings, in order, so that gateways that write at once never wait for each other in a
    /// circle. Those of hours before `floor` are dropped: what others saw then is forgotten.
    pub(super) fn read_keys(&mut self, floor: i64) -> Vec<Key> {
        self.readings.retain(|(key, _, _)| int(key.hour) >= floor);
        let keys: BTreeSet<&Key> = self.readings.iter().map(|(key, _, _)| key).collect();
        keys.into_iter().cloned().collect()
    }

    pub(super) fn has_readings(&self) -> bool {
        !self.readings.is_empty()
    }

    /// Counts readings beyond what is known; what is known then, where that is more than it was.
    pub(super) fn meter(&mut self, mut known: BTreeMap<Key, Seconds>) -> Vec<(Key, String)> {
        let mut grown = BTreeSet::new();
        for (key, digest, reading) in std::mem::take(&mut self.readings) {
            let added = reading.add_to(known.entry(key.clone()).or_default());
            if added.up_ms == 0 {
                continue;
            }
            self.add_up(key.hour, (&reading.model, &reading.hardware), added, &digest);
            grown.insert(key);
        }
        let text = |key: &Key| known.get(key).map(Seconds::to_string).unwrap_or_default();
        grown.into_iter().map(|key| (key.clone(), text(&key))).collect()
    }

    /// A row was stored: its sums count.
    pub(super) fn count(&mut self, row: &Row) {
        for (group, sums) in row.shares() {
            self.add(hour(row.unix_ms), group, sums);
        }
    }

    fn add(&mut self, hour: u64, group: Group, sums: Sums) {
        *self.sums.entry((1, hour / DAY * DAY, group.clone())).or_default() += sums;
        *self.sums.entry((0, hour, group)).or_default() += sums;
    }

    fn add_whole(&mut self, up: UpTime) {
        let added = Added { up_ms: up.up_ms, cost_micros: up.cost_micros };
        let entitled = serde_json::to_string(&up.entitled).unwrap_or_default();
        self.add_up(up.hour, (&up.model, &up.hardware), added, &entitled);
    }

    fn add_up(&mut self, hour: u64, pool: (&str, &str), added: Added, entitled: &str) {
        let (model, hardware) = (name(pool.0), name(pool.1));
        for (step, at) in [(0, hour), (1, hour / DAY * DAY)] {
            let key = (step, at, model.clone().into_owned(), hardware.clone().into_owned());
            let sum = self.ups.entry(key).or_default();
            sum.added.up_ms += added.up_ms;
            sum.added.cost_micros += added.cost_micros;
            entitled.clone_into(&mut sum.entitled);
        }
    }

    /// Rows of `sums` to add: step and hour, names, numbers. In the order of their keys, so that gateways that
    /// write at once never wait for each other in a circle.
    pub(super) fn sums(self) -> (Vec<Adds<6, 9>>, Vec<Adds<3, 2>>) {
        let sums = self.sums.into_iter().map(|((step, at, group), sums)| Adds {
            step,
            at: int(at),
            names: [
                group.tenant,
                group.tenant_path,
                group.model,
                group.version,
                group.hardware,
                group.band,
            ],
            numbers: [
                sums.requests,
                sums.input,
                sums.cached,
                sums.output,
                sums.reasoning,
                sums.charged_micros,
                sums.kv_token_ms,
                sums.overhead_kv_token_ms,
                sums.busy_us,
            ]
            .map(int),
        });
        let ups = self.ups.into_iter().map(|((step, at, model, hardware), up)| {
            let names = [model, hardware, up.entitled];
            let numbers = [up.added.up_ms, up.added.cost_micros].map(int);
            Adds { step, at: int(at), names, numbers }
        });
        (sums.collect(), ups.collect())
    }
}

/// What is added to one row of sums.
#[derive(Debug)]
pub(super) struct Adds<const NAMES: usize, const NUMBERS: usize> {
    pub(super) step: i64,
    pub(super) at: i64,
    pub(super) names: Texts<NAMES>,
    pub(super) numbers: [i64; NUMBERS],
}

/// Numbers as databases have them.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// And back.
pub(super) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Pieces of a range that are all hours (0) or all days (1).
pub(super) fn pieces(range: Range, by_hour: bool) -> Vec<(i64, Range)> {
    let Range { from, until } = range;
    let (first, last) = (from.div_ceil(DAY) * DAY, until / DAY * DAY);
    let pieces = match by_hour || first >= last {
        true => vec![(0, range)],
        false => vec![
            (0, Range { from, until: first }),
            (1, Range { from: first, until: last }),
            (0, Range { from: last, until }),
        ],
    };
    pieces.into_iter().filter(|(_, piece)| piece.from < piece.until).collect()
}

/// Sums over one piece.
///
/// A pool is a Model on one class of hardware in one step of time. Of its busy time, and of what that cost, a
/// group has what its KV token-seconds are of the pool's.
pub(super) fn sums(step: i64, range: Range, ask: &Ask) -> Statement {
    let mut values =
        vec![Value::Int(step), Value::Int(int(range.from)), Value::Int(int(range.until))];
    let mut wheres = String::new();
    let mut filter = |text: &str, value: &str| {
        values.push(Value::Text(value.to_owned()));
        wheres.push_str(&format!(" AND {}", text.replace('#', &values.len().to_string())));
    };
    if let Some(tenant) = &ask.tenant {
        filter("s.tenant = $#", tenant);
    }
    if let Some(model) = &ask.model {
        filter("s.model = $#", model);
    }
    if let Some(path) = &ask.below {
        let text = "(s.tenant_path = $# OR SUBSTR(s.tenant_path, 1, LENGTH($#) + 1) = $# || '/')";
        filter(text, path);
    }
    let columns: Vec<&str> = ask.by.iter().map(|by| column(*by)).collect();
    let keys: String = columns.iter().map(|column| format!("CAST({column} AS TEXT), ")).collect();
    let group = if columns.is_empty() {
        String::new()
    } else {
        format!(" GROUP BY {}", columns.join(", "))
    };
    values.push(Value::Int(i64::from(ask.groups_max)));
    let limit = values.len();
    let sums =
        ["requests", "input", "cached", "output", "reasoning", "charged", "kv", "lost_kv", "busy"];
    let sums: String =
        sums.iter().map(|name| format!("CAST(COALESCE(SUM(s.{name}), 0) AS BIGINT), ")).collect();
    let text = format!(
        "WITH pools AS (SELECT at, model, hardware, CAST(SUM(kv) + SUM(lost_kv) AS DOUBLE PRECISION) AS kv, \
         CAST(SUM(busy) AS DOUBLE PRECISION) AS busy FROM sums WHERE step = $1 AND at >= $2 AND at < $3 \
         GROUP BY at, model, hardware), \
         bills AS (SELECT at, model, hardware, CAST(cost AS DOUBLE PRECISION) AS cost, \
         CAST(up_ms AS DOUBLE PRECISION) * 1000 AS up FROM ups WHERE step = $1 AND at >= $2 AND at < $3) \
         SELECT {keys}{sums}\
         CAST(COALESCE(SUM(CASE WHEN p.kv > 0 THEN s.kv / p.kv * p.busy ELSE 0 END), 0) AS DOUBLE PRECISION), \
         CAST(SUM(CASE WHEN p.kv > 0 AND b.up > 0 THEN s.kv / p.kv * b.cost * \
         CASE WHEN p.busy < b.up THEN p.busy / b.up ELSE 1 END WHEN b.up > 0 THEN 0 END) AS DOUBLE PRECISION) \
         FROM sums s JOIN pools p ON p.at = s.at AND p.model = s.model AND p.hardware = s.hardware \
         LEFT JOIN bills b ON b.at = s.at AND b.model = s.model AND b.hardware = s.hardware \
         WHERE s.step = $1 AND s.at >= $2 AND s.at < $3{wheres}{group} LIMIT ${limit}"
    );
    Statement { text, values }
}

const fn column(by: Dimension) -> &'static str {
    match by {
        Dimension::Tenant => "s.tenant",
        Dimension::TenantPath => "s.tenant_path",
        Dimension::Model => "s.model",
        Dimension::Version => "s.version",
        Dimension::Hardware => "s.hardware",
        Dimension::Band => "s.band",
        Dimension::Day => "s.at / 24",
        Dimension::Hour => "s.at",
    }
}

/// The parts of a list, in order.
pub(super) fn list(digest: &str) -> Statement {
    let text = "SELECT body FROM entitled WHERE digest = $1 ORDER BY part";
    Statement { text: text.to_owned(), values: vec![Value::Text(digest.to_owned())] }
}

/// What each tenant used of each pool, and pools that nobody used.
pub(super) fn pools(step: i64, range: Range) -> Statement {
    let text = "SELECT s.at, s.model, s.hardware, s.tenant, CAST(SUM(s.kv) AS BIGINT), \
         CAST(SUM(s.lost_kv) AS BIGINT), CAST(SUM(s.busy) AS BIGINT), MAX(COALESCE(u.up_ms, 0)), \
         MAX(COALESCE(u.cost, 0)), MAX(COALESCE(u.entitled, '[]')) \
         FROM sums s LEFT JOIN ups u ON u.step = s.step AND u.at = s.at AND u.model = s.model AND u.hardware = s.hardware \
         WHERE s.step = $1 AND s.at >= $2 AND s.at < $3 GROUP BY s.at, s.model, s.hardware, s.tenant \
         UNION ALL SELECT u.at, u.model, u.hardware, '', 0, 0, 0, u.up_ms, u.cost, u.entitled FROM ups u \
         WHERE u.step = $1 AND u.at >= $2 AND u.at < $3 AND NOT EXISTS (SELECT 1 FROM sums s WHERE s.step = u.step \
         AND s.at = u.at AND s.model = u.model AND s.hardware = u.hardware) ORDER BY 1, 2, 3, 4";
    let values = vec![Value::Int(step), Value::Int(int(range.from)), Value::Int(int(range.until))];
    Statement { text: text.to_owned(), values }
}

/// One page, and one row more to tell whether another comes.
pub(super) fn rows(ask: &AskRows) -> Statement {
    let mut values = vec![Value::Int(int(ask.from_ms)), Value::Int(int(ask.until_ms))];
    let mut wheres = String::new();
    let mut bind = |value| {
        values.push(value);
        values.len()
    };
    let names = [("tenant", &ask.tenant), ("model", &ask.model), ("request_id", &ask.request_id)];
    for (column, name) in names {
        if let Some(name) = name {
            wheres.push_str(&format!(" AND {column} = ${}", bind(Value::Text(name.clone()))));
        }
    }
    if let Some(PageKey { unix_ms, id }) = ask.after {
        let (at, id) = (bind(Value::Int(int(unix_ms))), bind(Value::Int(int(id))));
        wheres.push_str(&format!(" AND (unix_ms, id) < (${at}, ${id})"));
    }
    let limit = bind(Value::Int(i64::from(ask.limit) + 1));
    let detail = if ask.detail { "detail" } else { "''" };
    let text = format!(
        "SELECT unix_ms, id, body, {detail} FROM rows WHERE unix_ms >= $1 AND unix_ms < $2{wheres} \
         ORDER BY unix_ms DESC, id DESC LIMIT ${limit}"
    );
    Statement { text, values }
}

/// A row of a page: when it ended, its place, itself and its detail.
pub(super) type Found = (i64, i64, String, String);

/// The page of the rows found.
pub(super) fn page(mut found: Vec<Found>, limit: u32) -> super::Page {
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let next = last.map(|(unix_ms, id, ..)| PageKey { unix_ms: uint(*unix_ms), id: uint(*id) });
    super::Page { rows: found.into_iter().map(whole).collect(), next }
}

/// A row with its detail in it, where that was asked for and is kept.
fn whole((_, _, mut body, detail): Found) -> String {
    if !detail.is_empty() && body.pop() == Some('}') {
        body.push_str(&format!(",\"detail\":{detail}}}"));
    }
    body
}

/// A row and its detail as they are kept, apart: pages of many rows are read without details.
pub(super) fn texts(row: &mut Row) -> (String, String) {
    let detail = row.detail.take();
    let body = serde_json::to_string(row).unwrap_or_default();
    let detail = detail.and_then(|detail| serde_json::to_string(&detail).ok());
    (body, detail.unwrap_or_default())
}

/// What was charged, by paths of tenants and steps of time.
pub(super) fn spent(step: i64, range: Range) -> Statement {
    let text = "SELECT tenant_path, at, CAST(SUM(charged) AS BIGINT) FROM sums \
         WHERE step = $1 AND at >= $2 AND at < $3 AND charged > 0 GROUP BY tenant_path, at";
    let values = vec![Value::Int(step), Value::Int(int(range.from)), Value::Int(int(range.until))];
    Statement { text: text.to_owned(), values }
}

/// What is deleted at a time of each table, as statements that take a moment and a number of rows; `{ROW}` is what a
/// database itself calls a row by, `{IN}` and `{END}` are how it looks for some. Of lists of who could count on what, those go that nothing names.
pub(super) const FORGET: [(&str, Age); 5] = [
    (
        "DELETE FROM rows WHERE id IN (SELECT id FROM rows WHERE unix_ms < $1 ORDER BY unix_ms LIMIT $2)",
        Age::Rows,
    ),
    (
        "DELETE FROM sums WHERE {IN}(SELECT {ROW} FROM sums WHERE step = 0 AND at < $1 LIMIT $2{END}",
        Age::Hours,
    ),
    (
        "DELETE FROM ups WHERE {IN}(SELECT {ROW} FROM ups WHERE step = 0 AND at < $1 LIMIT $2{END}",
        Age::Hours,
    ),
    (
        "DELETE FROM meters WHERE {IN}(SELECT {ROW} FROM meters WHERE hour < $1 LIMIT $2{END}",
        Age::Meters,
    ),
    (
        "DELETE FROM entitled WHERE {IN}(SELECT {ROW} FROM entitled WHERE hour < $1 \
         AND digest NOT IN (SELECT entitled FROM ups) LIMIT $2{END}",
        Age::Hours,
    ),
];

/// Which age counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Age {
    Rows,
    Hours,
    Meters,
}

impl super::Old {
    pub(super) fn before(&self, age: Age) -> i64 {
        int(match age {
            Age::Rows => self.rows_before_ms,
            Age::Hours => self.hours_before,
            Age::Meters => self.meters_before,
        })
    }
}

/// Rows of each table that are forgotten at a time.
pub(super) const FORGET_ROWS: i64 = 5000;

impl super::Forgotten {
    /// So many rows of a table went.
    pub(super) fn count(&mut self, age: Age, gone: u64) {
        if matches!(age, Age::Rows) {
            self.rows += gone;
        }
        self.more |= gone >= FORGET_ROWS.unsigned_abs();
    }
}

/// The hour before which readings count for nothing.
pub(super) const FLOOR: &str = "SELECT hour FROM floors WHERE name = 'meters'";

/// Those of hours before the floor are forgotten; it only goes up.
pub(super) const RAISE_FLOOR: &str =
    "UPDATE floors SET hour = $1 WHERE name = 'meters' AND hour < $1";

/// Fills in who could count on what: `texts` are what `ups` has of each, `lists` those that were looked up by their
/// digests. Each list is read once, however many pools have it.
pub(super) fn entitle(
    used: Vec<(Used, String)>,
    lists: &BTreeMap<String, Vec<String>>,
) -> Vec<Used> {
    let mut read: BTreeMap<String, Arc<[Entitled]>> = BTreeMap::new();
    let list = |text: &str| -> Vec<Entitled> {
        let one = |body: &String| serde_json::from_str::<Vec<Entitled>>(body).unwrap_or_default();
        match text.starts_with('#') {
            true => lists.get(text).into_iter().flatten().flat_map(one).collect(),
            false => serde_json::from_str(text).unwrap_or_default(),
        }
    };
    let filled = used.into_iter().map(|(mut used, text)| {
        if !read.contains_key(&text) {
            read.insert(text.clone(), list(&text).into());
        }
        used.entitled = read.get(&text).cloned().unwrap_or_default();
        used
    });
    filled.collect()
}

/// The digests that are to be looked up.
pub(super) fn digests(used: &[(Used, String)]) -> BTreeSet<String> {
    let texts = used.iter().map(|(_, text)| text);
    texts.filter(|text| text.starts_with('#')).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_days_with_hours_around() {
        let check = |from, until, expect: &[(i64, u64, u64)]| {
            let pieces = pieces(Range { from, until }, false);
            let got: Vec<_> =
                pieces.iter().map(|(step, piece)| (*step, piece.from, piece.until)).collect();
            assert_eq!(got, expect, "{from} {until}");
        };
        check(24, 48, &[(1, 24, 48)]);
        check(20, 50, &[(0, 20, 24), (1, 24, 48), (0, 48, 50)]);
        check(25, 47, &[(0, 25, 47)]);
        check(20, 30, &[(0, 20, 30)]);
        check(5, 5, &[]);
        assert_eq!(pieces(Range { from: 0, until: 48 }, true).len(), 1);
    }
}
