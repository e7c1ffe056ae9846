//! `/usage/cost`: what replicas cost, shared out among tenants such that it sums up to the bill.

use std::collections::BTreeMap;

use axum::extract::State;
use pilotage_lens::usage::{Part, Pool, Share, attribute};
use serde::Deserialize;
use serde_json::json;

use super::answer::{self, Answer, Wrong, money};
use super::params::{Ask, Span, ends};
use super::sums::currency;
use crate::ledger::Ledger;
use crate::store::{Range, Used};

/// The longest range: every Model and day of it is shared out by itself.
const DAYS_MAX: u64 = 400;

/// Hours that are read from the store at a time.
const HOURS_AT_ONCE: u64 = 7 * 24;

/// What can be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    from: Option<String>,
    to: Option<String>,
}

/// A bill and its shares, in millionths.
#[derive(Debug, Default)]
struct Bill {
    bill: u64,
    overhead: u64,
    unshared: u64,
    tenants: BTreeMap<String, Share>,
}

pub(super) async fn answer(State(ledger): State<Ledger>, Ask(params): Ask<Params>) -> Answer {
    let now = ledger.inner.clock.unix_ms();
    let span = Span::of(now, params.from.as_deref(), params.to.as_deref())?;
    let range = span.hours();
    if range.until - range.from > DAYS_MAX * 24 {
        return Err(Wrong::question(format!("ask for at most {DAYS_MAX} days of cost")));
    }
    let mut bill = Bill::default();
    let mut from = range.from;
    while from < range.until {
        // Cut at midnight, so that whole days stay whole.
        let until = ((from + HOURS_AT_ONCE) / 24 * 24).min(range.until);
        for pool in pools(ledger.inner.store.pools(Range { from, until }).await?) {
            bill.add(&pool);
        }
        from = until;
    }
    let sum = |part: fn(&Share) -> u64| bill.tenants.values().map(part).sum::<u64>();
    let (usage, reserved, idle) =
        (sum(|share| share.usage), sum(|share| share.reserved), sum(|share| share.idle));
    let tenants: Vec<_> = bill
        .tenants
        .values()
        .map(|share| {
            json!({
                "tenant": share.tenant,
                "usage": money(share.usage),
                "reserved": money(share.reserved),
                "idle": money(share.idle),
                "total": money(share.usage + share.reserved + share.idle),
            })
        })
        .collect();
    let (from, to) = ends(range);
    Ok(answer::json(&json!({
        "from": from,
        "to": to,
        "bill": money(bill.bill),
        "usage": money(usage),
        "reserved": money(reserved),
        "idle": money(idle),
        "overhead": money(bill.overhead),
        "unshared": money(bill.unshared),
        "tenants": tenants,
        "sums": usage + reserved + idle + bill.overhead + bill.unshared == bill.bill,
        "currency": currency(&ledger),
    })))
}

impl Bill {
    fn add(&mut self, pool: &Pool) {
        let split = attribute(pool);
        self.bill += pool.bill;
        self.overhead += split.overhead;
        self.unshared += split.unshared;
        for Share { tenant, usage, reserved, idle } in split.shares {
            let sum = self.tenants.entry(tenant.clone()).or_default();
            *sum = Share {
                tenant,
                usage: sum.usage + usage,
                reserved: sum.reserved + reserved,
                idle: sum.idle + idle,
            };
        }
    }
}

/// Pools, from what tenants used of each.
fn pools(used: Vec<Used>) -> Vec<Pool> {
    let key = |one: &Used| (one.at, one.group.model.clone(), one.group.hardware.clone());
    used.chunk_by(|one, next| key(one) == key(next)).map(pool).collect()
}

fn pool(used: &[Used]) -> Pool {
    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    let mut pool = Pool::default();
    for one in used {
        // The same in each.
        pool.bill = one.cost_micros;
        pool.up = one.up_ms.saturating_mul(1000);
        pool.busy += one.sums.busy_us;
        pool.overhead += one.sums.overhead_kv_token_ms;
        if one.sums.kv_token_ms > 0 {
            parts.entry(&one.group.tenant).or_default().used += one.sums.kv_token_ms;
        }
    }
    // The same in each, too.
    for entitled in used.first().iter().flat_map(|one| one.entitled.iter()) {
        let part = parts.entry(&entitled.tenant).or_default();
        (part.guaranteed, part.weight) = (entitled.guaranteed, entitled.weight);
    }
    pool.parts = parts
        .into_iter()
        .map(|(tenant, part)| Part { tenant: tenant.to_owned(), ..part })
        .collect();
    pool
}
