//! The statements of both drivers. Values are bound, never written into them: a name can be any text.

use std::collections::BTreeMap;

use pilotage_lens::usage::{Group, Row, Sums, UpTime};

use super::{Ask, AskRows, Batch, Dimension, PageKey, Range};
use crate::entry::{Entry, hour};

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
    ups: BTreeMap<(i64, u64, String, String), UpTime>,
}

/// The keys and sums of one row of `sums`, or of `ups`.
pub(super) type Texts<const N: usize> = [String; N];

pub(super) const INSERT_ROW: &str = "INSERT INTO rows (instance, seq, unix_ms, request_id, tenant, model, input, \
     cached, output, charged_micros, body)";

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
                Entry::Up(up) => this.add_up(*up),
            }
        }
        this
    }

    /// A row was stored: its sums count.
    pub(super) fn count(&mut self, row: &Row) {
        self.add(hour(row.unix_ms), row.group(), row.sums());
    }

    fn add(&mut self, hour: u64, group: Group, sums: Sums) {
        *self.sums.entry((1, hour / DAY * DAY, group.clone())).or_default() += sums;
        *self.sums.entry((0, hour, group)).or_default() += sums;
    }

    fn add_up(&mut self, up: UpTime) {
        for (step, at) in [(0, up.hour), (1, up.hour / DAY * DAY)] {
            let key = (step, at, up.model.clone(), up.hardware.clone());
            let sum = self.ups.entry(key).or_default();
            sum.up_ms += up.up_ms;
            sum.cost_micros += up.cost_micros;
            sum.entitled.clone_from(&up.entitled);
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
            let entitled = serde_json::to_string(&up.entitled).unwrap_or_default();
            let names = [model, hardware, entitled];
            Adds { step, at: int(at), names, numbers: [up.up_ms, up.cost_micros].map(int) }
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
    let text = format!(
        "SELECT unix_ms, id, body FROM rows WHERE unix_ms >= $1 AND unix_ms < $2{wheres} \
         ORDER BY unix_ms DESC, id DESC LIMIT ${limit}"
    );
    Statement { text, values }
}

/// The page of the rows found.
pub(super) fn page(mut found: Vec<(i64, i64, String)>, limit: u32) -> super::Page {
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let next = last.map(|(unix_ms, id, _)| PageKey { unix_ms: uint(*unix_ms), id: uint(*id) });
    super::Page { rows: found.into_iter().map(|(_, _, body)| body).collect(), next }
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
