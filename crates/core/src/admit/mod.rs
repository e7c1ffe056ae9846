//! Who may: quotas and budgets, all or nothing over the whole path of the tenant tree.
//!
//! A request *reserves* what it will use at most at its tenant and at everybody that belongs above
//! it; at its end that is *settled* with what it did use and the rest *refunded*. When any limit of
//! the path has no room, nothing is reserved, and the [`Denial`] says which limit of whose, how much
//! it is, how much is used, and when to try again.
//!
//! Two clocks: limits per minute follow the host's steady [`Time`]; budgets follow the calendar,
//! and their window never goes back, so that a wall clock put back opens no budget again.

mod account;
mod bucket;
pub mod calendar;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use account::{Totals, Use128};
pub use calendar::Window;

use crate::retry::spread;
use crate::{RequestId, Span, TenantId, TenantTree, Time};
use account::Account;

/// Budgets of one tenant.
pub const BUDGETS_MAX: usize = 8;

/// One tenant's limits; what is none is not limited. A limit holds for all below the tenant together.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Quota {
    /// Requests accepted per minute.
    pub requests_per_minute: Option<u64>,
    /// Prompt tokens per minute.
    pub input_tokens_per_minute: Option<u64>,
    /// Generated tokens per minute.
    pub output_tokens_per_minute: Option<u64>,
    /// Requests at once, from their arrival to the last byte of their answer.
    pub concurrency: Option<u64>,
    /// Requests that wait for their turn.
    pub queued_requests: Option<u64>,
    /// Bytes of the bodies of those.
    pub queued_bytes: Option<u64>,
    /// Money.
    pub budgets: Vec<Budget>,
}

impl Quota {
    /// The part of one of so many gateways, which know nothing of each other: together they let through
    /// what is allowed, and a little more where that cannot be divided, as long as each gets as much work.
    #[must_use]
    pub fn shared_by(&self, gateways: u32) -> Self {
        let of = u64::from(gateways.max(1));
        let part = |limit: Option<u64>| limit.map(|limit| limit.div_ceil(of));
        let money = |budget: &Budget| Budget {
            hard: budget.hard.div_ceil(of),
            soft: part(budget.soft),
            ..*budget
        };
        Self {
            requests_per_minute: part(self.requests_per_minute),
            input_tokens_per_minute: part(self.input_tokens_per_minute),
            output_tokens_per_minute: part(self.output_tokens_per_minute),
            concurrency: part(self.concurrency),
            queued_requests: part(self.queued_requests),
            queued_bytes: part(self.queued_bytes),
            budgets: self.budgets.iter().map(money).collect(),
        }
    }
}

/// A limit on money in a window of the calendar.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Budget {
    /// Which window.
    pub window: Window,
    /// What can be spent, in millionths of the currency's unit.
    pub hard: u64,
    /// From where on spending is warned of.
    pub soft: Option<u64>,
}

/// What a request uses, or is expected to use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Use {
    /// Prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Money, in millionths.
    pub money: u64,
}

/// What a request asks for on its arrival.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// What it is expected to use at most.
    pub most: Use,
    /// Bytes of its body.
    pub bytes: u64,
}

/// The two clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// Steady.
    pub time: Time,
    /// The calendar's, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// What is limited.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Requests per minute.
    Requests,
    /// Prompt tokens per minute.
    InputTokens,
    /// Generated tokens per minute.
    OutputTokens,
    /// Requests at once.
    Concurrency,
    /// Requests waiting.
    QueuedRequests,
    /// Bytes waiting.
    QueuedBytes,
    /// Money.
    Budget(Window),
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 9] = [
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Concurrency,
        Self::QueuedRequests,
        Self::QueuedBytes,
        Self::Budget(Window::Hour),
        Self::Budget(Window::Day),
        Self::Budget(Window::Month),
    ];

    /// The name used in errors, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::InputTokens => "input_tokens_per_minute",
            Self::OutputTokens => "output_tokens_per_minute",
            Self::Concurrency => "concurrency",
            Self::QueuedRequests => "queued_requests",
            Self::QueuedBytes => "queued_bytes",
            Self::Budget(Window::Hour) => "budget_per_hour",
            Self::Budget(Window::Day) => "budget_per_day",
            Self::Budget(Window::Month) => "budget_per_month",
        }
    }
}

/// Why a request may not. Nothing was reserved.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{} of tenant {} is {most}, {used} are used and {asked} were asked for", limit.name(), tenant.0)]
pub struct Denial {
    /// Whose limit it is: the request's tenant, or one above it.
    pub tenant: TenantId,
    /// Which one.
    pub limit: Limit,
    /// How much it is.
    pub most: u64,
    /// How much of it is used or reserved.
    pub used: u64,
    /// How much the request needs.
    pub asked: u64,
    /// When there will be room, spread a little; none when this request is larger than the limit
    /// itself, so that waiting does not help.
    pub retry_after: Option<Span>,
}

/// What is left of one limit, for headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headroom {
    /// How much it is.
    pub limit: u64,
    /// How much can be used now.
    pub remaining: u64,
    /// When all of it can be used again.
    pub reset: Span,
}

/// What is left after a reservation: of each limit the tightest on the path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Left {
    /// Requests per minute.
    pub requests: Option<Headroom>,
    /// Prompt tokens per minute.
    pub input_tokens: Option<Headroom>,
    /// Generated tokens per minute.
    pub output_tokens: Option<Headroom>,
    /// A budget that is over its soft threshold: the spent and the hard amount.
    pub warning: Option<(Window, u64, u64)>,
}

/// All accounts, and what is reserved.
#[derive(Debug, Default)]
pub struct Admit {
    tree: TenantTree,
    accounts: BTreeMap<TenantId, Account>,
    open: BTreeMap<RequestId, Reserved>,
}

/// What one request holds.
#[derive(Clone, Debug)]
struct Reserved {
    path: Vec<TenantId>,
    most: Use,
    bytes: u64,
    since: Time,
    queued: bool,
}

impl Admit {
    /// Tenants and limits from now on. What is used and reserved stays so, even where it is more
    /// than a limit that shrank: then nothing is granted until it is below again.
    pub fn set_quotas(&mut self, now: Now, tree: TenantTree, quotas: BTreeMap<TenantId, Quota>) {
        let mut old = std::mem::take(&mut self.accounts);
        for (tenant, quota) in quotas {
            let account = match old.remove(&tenant) {
                Some(mut account) => {
                    account.set_quota(now, quota);
                    account
                }
                None => Account::new(now, quota),
            };
            self.accounts.insert(tenant, account);
        }
        // Who has nothing reserved is forgotten; the others are settled first, without limits.
        for (tenant, mut account) in old {
            if account.is_in_use() {
                account.set_quota(now, Quota::default());
                self.accounts.insert(tenant, account);
            }
        }
        self.tree = tree;
    }

    /// Reserves what a request needs, at every tenant of its path or at none.
    ///
    /// # Errors
    /// [`Denial`], of the limit that takes longest to have room.
    pub fn reserve(
        &mut self,
        now: Now,
        id: RequestId,
        tenant: TenantId,
        demand: Demand,
    ) -> Result<Left, Denial> {
        debug_assert!(!self.open.contains_key(&id), "A-1: reserved twice");
        let path: Vec<TenantId> = self.tree.path(tenant).collect();
        let denials = path.iter().filter_map(|tenant| {
            let denial = self.accounts.get_mut(tenant)?.check(now, demand)?;
            Some(Denial { tenant: *tenant, ..denial })
        });
        let worst =
            denials.max_by_key(|denial| denial.retry_after.map_or(u64::MAX, Span::as_nanos));
        if let Some(mut denial) = worst {
            denial.retry_after = denial.retry_after.map(|span| spread(span, id.0));
            return Err(denial);
        }
        for tenant in &path {
            if let Some(account) = self.accounts.get_mut(tenant) {
                account.reserve(now, demand);
            }
        }
        let left = self.left(now, &path);
        let Demand { most, bytes } = demand;
        self.open.insert(id, Reserved { path, most, bytes, since: now.time, queued: true });
        Ok(left)
    }

    /// A request has its turn: it waits no more.
    pub fn started(&mut self, id: RequestId) {
        let Some(reserved) = self.open.get_mut(&id) else { return };
        if !std::mem::replace(&mut reserved.queued, false) {
            return;
        }
        for tenant in &reserved.path {
            if let Some(account) = self.accounts.get_mut(tenant) {
                account.leave_queue(reserved.bytes);
            }
        }
    }

    /// A request ended, and used this much. What was reserved beyond is given back; what was used
    /// beyond is taken.
    pub fn settle(&mut self, now: Now, id: RequestId, actual: Use) {
        self.started(id);
        let Some(reserved) = self.open.remove(&id) else { return };
        for tenant in &reserved.path {
            if let Some(account) = self.accounts.get_mut(tenant) {
                account.settle(now, reserved.most, actual, now.time.since(reserved.since));
            }
        }
    }

    /// A request ended without any use: all of it is given back, its place among the requests per
    /// minute too.
    pub fn refund(&mut self, now: Now, id: RequestId) {
        self.started(id);
        let Some(reserved) = self.open.remove(&id) else { return };
        for tenant in &reserved.path {
            if let Some(account) = self.accounts.get_mut(tenant) {
                account.refund(now, reserved.most);
            }
        }
    }

    /// What is left on the path of a tenant.
    pub fn headroom(&mut self, now: Now, tenant: TenantId) -> Left {
        let path: Vec<TenantId> = self.tree.path(tenant).collect();
        self.left(now, &path)
    }

    fn left(&mut self, now: Now, path: &[TenantId]) -> Left {
        let mut left = Left::default();
        for tenant in path {
            if let Some(account) = self.accounts.get_mut(tenant) {
                left = left.and(account.left(now));
            }
        }
        left
    }

    /// Requests that have reserved and not ended.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What one tenant's account has added up to, for tests, status and the ledger.
    pub fn totals(&self, tenant: TenantId) -> Option<Totals> {
        self.accounts.get(&tenant).map(|account| account.totals)
    }

    /// What tenants have spent in their budgets' windows, to be kept over a restart.
    pub fn spent(&self) -> Vec<(TenantId, Window, u64, u64)> {
        let of = |(tenant, account): (&TenantId, &Account)| {
            let tenant = *tenant;
            account
                .spent()
                .map(move |(window, number, spent)| (tenant, window, number, spent))
                .collect::<Vec<_>>()
        };
        self.accounts.iter().flat_map(of).collect()
    }

    /// Takes over what was spent before a restart, where it is of the same window.
    pub fn restore(&mut self, tenant: TenantId, window: Window, number: u64, spent: u64) {
        if let Some(account) = self.accounts.get_mut(&tenant) {
            account.restore(window, number, spent);
        }
    }
}

impl Left {
    /// The tighter of two, limit by limit.
    fn and(self, other: Self) -> Self {
        let tighter = |one: Option<Headroom>, other: Option<Headroom>| match (one, other) {
            (Some(one), Some(other)) => {
                Some(if other.remaining < one.remaining { other } else { one })
            }
            (one, other) => one.or(other),
        };
        Self {
            requests: tighter(self.requests, other.requests),
            input_tokens: tighter(self.input_tokens, other.input_tokens),
            output_tokens: tighter(self.output_tokens, other.output_tokens),
            warning: self.warning.or(other.warning),
        }
    }
}
