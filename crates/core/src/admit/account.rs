//! One tenant's account: its buckets, its counts and its budgets, and totals that must add up.

use super::bucket::Bucket;
use super::{Budget, Demand, Denial, Headroom, Left, Limit, Now, Quota, Use, Window};
use crate::{Span, TenantId, Time};

/// How much the newest request counts in the mean time that requests take.
const NEWEST: f64 = 0.2;

/// Everything an account has seen, in money: reserved + over = settled + refunded + open.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Totals {
    /// Reserved by requests.
    pub reserved: Use128,
    /// Used beyond what was reserved.
    pub over: Use128,
    /// Used.
    pub settled: Use128,
    /// Given back.
    pub refunded: Use128,
    /// Reserved by requests that have not ended.
    pub open: Use128,
}

/// A sum of [`Use`], wide enough never to overflow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Use128 {
    /// Prompt tokens.
    pub input: u128,
    /// Generated tokens.
    pub output: u128,
    /// Money, in millionths.
    pub money: u128,
}

#[derive(Debug)]
pub(super) struct Account {
    quota: Quota,
    requests: Option<Bucket>,
    input: Option<Bucket>,
    output: Option<Bucket>,
    concurrent: u64,
    queued: u64,
    queued_bytes: u64,
    budgets: Vec<Purse>,
    /// Of budgets that were taken away: one that comes back in the same window is as spent as before.
    retired: Vec<Purse>,
    /// Mean nanoseconds from a request's arrival to its end.
    lasts: f64,
    pub(super) totals: Totals,
}

/// What was spent of a budget.
#[derive(Clone, Copy, Debug)]
struct Purse {
    budget: Budget,
    /// The window that `spent` is of; it only grows.
    number: u64,
    spent: u64,
    /// Of requests that have not ended.
    reserved: u64,
}

impl Account {
    pub(super) fn new(now: Now, quota: Quota) -> Self {
        let mut account = Self {
            quota: Quota::default(),
            requests: None,
            input: None,
            output: None,
            concurrent: 0,
            queued: 0,
            queued_bytes: 0,
            budgets: Vec::new(),
            retired: Vec::new(),
            lasts: 0.0,
            totals: Totals::default(),
        };
        account.set_quota(now, quota);
        account
    }

    pub(super) fn set_quota(&mut self, now: Now, quota: Quota) {
        let set = |bucket: &mut Option<Bucket>, limit: Option<u64>| match (bucket.as_mut(), limit) {
            (Some(bucket), Some(limit)) => bucket.set_limit(now.time, limit),
            (None, Some(limit)) => *bucket = Some(Bucket::full(now.time, limit)),
            (_, None) => *bucket = None,
        };
        set(&mut self.requests, quota.requests_per_minute);
        set(&mut self.input, quota.input_tokens_per_minute);
        set(&mut self.output, quota.output_tokens_per_minute);
        let open = u64::try_from(self.totals.open.money).unwrap_or(u64::MAX);
        let mut known = std::mem::take(&mut self.budgets);
        known.append(&mut self.retired);
        let purse = |budget: &Budget| {
            let old = known.iter().position(|purse| purse.budget.window == budget.window);
            let fresh = Purse { budget: *budget, number: 0, spent: 0, reserved: open };
            Purse { budget: *budget, ..old.map_or(fresh, |old| known.swap_remove(old)) }
        };
        self.budgets = quota.budgets.iter().map(purse).collect();
        // What was spent in a window that is over is nobody's concern.
        known.iter_mut().for_each(|purse| purse.turn(now));
        known.retain(|purse| purse.spent > 0 || purse.reserved > 0);
        self.retired = known;
        self.quota = quota;
    }

    /// The limit that has no room for longest; none when all have.
    pub(super) fn check(&mut self, now: Now, demand: Demand) -> Option<Denial> {
        let mut denials = Vec::new();
        let Use { input, output, .. } = demand.most;
        let buckets = [
            (Limit::Requests, &mut self.requests, 1),
            (Limit::InputTokens, &mut self.input, input),
            (Limit::OutputTokens, &mut self.output, output),
        ];
        for (limit, bucket, asked) in buckets {
            let Some(bucket) = bucket else { continue };
            // How long an answer gets is not known: at most a full bucket is reserved, the rest is
            // settled at the end.
            let asked =
                if limit == Limit::OutputTokens { asked.min(bucket.limit()) } else { asked };
            let wait = bucket.wait_for(now.time, asked);
            if wait != Some(Span::ZERO) {
                let used = bucket.limit() - bucket.remaining(now.time).min(bucket.limit());
                denials.push(denial(limit, bucket.limit(), used, asked, wait));
            }
        }
        denials.extend(self.check_counts(demand));
        let money = demand.most.money;
        denials.extend(self.budgets.iter_mut().filter_map(|purse| purse.check(now, money)));
        denials.into_iter().max_by_key(|denial| denial.retry_after.map_or(u64::MAX, Span::as_nanos))
    }

    fn check_counts(&self, demand: Demand) -> impl Iterator<Item = Denial> + use<> {
        let counts = [
            (Limit::Concurrency, self.quota.concurrency, self.concurrent, 1),
            (Limit::QueuedRequests, self.quota.queued_requests, self.queued, 1),
            (Limit::QueuedBytes, self.quota.queued_bytes, self.queued_bytes, demand.bytes),
        ];
        // Of so many that run, one ends after the mean time through their number.
        let next = self.lasts / (self.concurrent.max(1) as f64);
        let next =
            if self.lasts > 0.0 { Span::from_nanos(next as u64) } else { Span::from_secs(1) };
        counts.into_iter().filter_map(move |(limit, most, used, asked)| {
            let most = most?;
            let fits = used.saturating_add(asked) <= most;
            (!fits).then(|| denial(limit, most, used, asked, (asked <= most).then_some(next)))
        })
    }

    pub(super) fn reserve(&mut self, now: Now, demand: Demand) {
        let Demand { most, bytes } = demand;
        let held = self.held(most);
        self.change(now.time, 1, held, Bucket::take);
        self.concurrent += 1;
        self.queued += 1;
        self.queued_bytes = self.queued_bytes.saturating_add(bytes);
        for purse in &mut self.budgets {
            purse.turn(now);
            purse.reserved = purse.reserved.saturating_add(most.money);
        }
        self.totals.reserved.add(most);
        self.totals.open.add(most);
    }

    pub(super) fn leave_queue(&mut self, bytes: u64) {
        self.queued = self.queued.saturating_sub(1);
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
    }

    pub(super) fn settle(&mut self, now: Now, most: Use, actual: Use, lasted: Span) {
        let held = self.held(most);
        self.change(now.time, 0, actual.beyond(held), Bucket::take);
        self.change(now.time, 0, held.beyond(actual), Bucket::give_back);
        let (over, left) = (actual.beyond(most), most.beyond(actual));
        self.close(now, most, actual.money);
        let lasted = lasted.as_nanos() as f64;
        self.lasts =
            if self.lasts > 0.0 { self.lasts + NEWEST * (lasted - self.lasts) } else { lasted };
        self.totals.over.add(over);
        self.totals.settled.add(actual);
        self.totals.refunded.add(left);
    }

    pub(super) fn refund(&mut self, now: Now, most: Use) {
        let held = self.held(most);
        self.change(now.time, 1, held, Bucket::give_back);
        self.close(now, most, 0);
        self.totals.refunded.add(most);
    }

    /// What a reservation takes out of the buckets: of an answer, whose length nobody knows, at most a
    /// full bucket.
    fn held(&self, most: Use) -> Use {
        let limit = self.output.map_or(u64::MAX, |bucket| bucket.limit());
        Use { output: most.output.min(limit), ..most }
    }

    fn close(&mut self, now: Now, most: Use, spent: u64) {
        self.concurrent = self.concurrent.saturating_sub(1);
        for purse in self.budgets.iter_mut().chain(&mut self.retired) {
            purse.turn(now);
            purse.reserved = purse.reserved.saturating_sub(most.money);
            purse.spent = purse.spent.saturating_add(spent);
        }
        self.totals.open.sub(most);
    }

    fn change(
        &mut self,
        now: Time,
        requests: u64,
        by: Use,
        apply: impl Fn(&mut Bucket, Time, u64),
    ) {
        let buckets = [
            (&mut self.requests, requests),
            (&mut self.input, by.input),
            (&mut self.output, by.output),
        ];
        for (bucket, amount) in buckets {
            if let Some(bucket) = bucket {
                apply(bucket, now, amount);
            }
        }
    }

    pub(super) fn left(&mut self, now: Now) -> Left {
        let of = |bucket: &mut Option<Bucket>| {
            let bucket = bucket.as_mut()?;
            Some(Headroom {
                limit: bucket.limit(),
                remaining: bucket.remaining(now.time),
                reset: bucket.wait_until_full(now.time),
            })
        };
        let warning = self.budgets.iter().find_map(|purse| {
            let over = purse.budget.soft.is_some_and(|soft| purse.spent >= soft);
            over.then_some((purse.budget.window, purse.spent, purse.budget.hard))
        });
        Left {
            requests: of(&mut self.requests),
            input_tokens: of(&mut self.input),
            output_tokens: of(&mut self.output),
            warning,
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.concurrent > 0 || self.budgets.iter().chain(&self.retired).any(|purse| purse.spent > 0)
    }

    pub(super) fn spent(&self) -> impl Iterator<Item = (Window, u64, u64)> {
        let purses = self.budgets.iter().chain(&self.retired);
        purses.map(|purse| (purse.budget.window, purse.number, purse.spent))
    }

    pub(super) fn restore(&mut self, window: Window, number: u64, spent: u64) {
        let purse = self.budgets.iter_mut().find(|purse| purse.budget.window == window);
        if let Some(purse) = purse.filter(|purse| purse.number <= number) {
            (purse.number, purse.spent) = (number, spent);
        }
    }
}

impl Purse {
    /// A later window begins with nothing spent; what is reserved stays reserved.
    fn turn(&mut self, now: Now) {
        let number = self.budget.window.number(now.unix_ms);
        if number > self.number {
            (self.number, self.spent) = (number, 0);
        }
    }

    fn check(&mut self, now: Now, money: u64) -> Option<Denial> {
        self.turn(now);
        let used = self.spent.saturating_add(self.reserved);
        let most = self.budget.hard;
        if used.saturating_add(money) <= most && used < most {
            return None;
        }
        // What is only reserved may come back before the window ends, but nobody can say so.
        let wait = (money <= most).then(|| self.budget.window.left(now.unix_ms));
        Some(denial(Limit::Budget(self.budget.window), most, used, money, wait))
    }
}

const fn denial(
    limit: Limit,
    most: u64,
    used: u64,
    asked: u64,
    retry_after: Option<Span>,
) -> Denial {
    Denial { tenant: TenantId(0), limit, most, used, asked, retry_after }
}

impl Use {
    /// What this has more than the other.
    const fn beyond(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            money: self.money.saturating_sub(other.money),
        }
    }
}

impl Use128 {
    fn add(&mut self, by: Use) {
        self.input += u128::from(by.input);
        self.output += u128::from(by.output);
        self.money += u128::from(by.money);
    }

    fn sub(&mut self, by: Use) {
        self.input = self.input.saturating_sub(by.input.into());
        self.output = self.output.saturating_sub(by.output.into());
        self.money = self.money.saturating_sub(by.money.into());
    }
}
