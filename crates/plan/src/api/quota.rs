//! What a tenant may use: its share of a lane beside others, its limits per minute and at once, and
//! its budgets.

use pilotage_core::admit::{self, BUDGETS_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::money::Money;

/// A tenant's share of each lane's capacity, which is the tokens that the KV caches of its replicas
/// hold.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Share {
    /// Percent that is the tenant's own before anybody else's. Guarantees of tenants with one parent
    /// add up to at most the parent's own, at the top to at most 100.
    #[schemars(range(min = 0, max = 100))]
    pub guaranteed_percent: u32,
    /// Percent that it may use above its guarantee while others leave it unused. Without it as much
    /// as there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub borrowing_limit_percent: Option<u32>,
    /// Percent that others may use of its guarantee while it leaves that unused. Without it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub lending_limit_percent: Option<u32>,
}

/// Limits of a tenant and all that belong to it together. What is not set is not limited.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Quota {
    /// Requests accepted per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u64>,
    /// Prompt tokens per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub input_tokens_per_minute: Option<u64>,
    /// Generated tokens per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub output_tokens_per_minute: Option<u64>,
    /// Requests at once, each from its arrival to the last byte of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u64>,
    /// Requests that wait for their turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub queued_requests: Option<u64>,
    /// Bytes of the bodies of requests that wait for their turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub queued_bytes: Option<u64>,
    /// Limits on money, at most one for each window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = BUDGETS_MAX))]
    pub budgets: Vec<Budget>,
}

/// A limit on money in a window of the calendar.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Budget {
    /// The window, in UTC.
    pub window: BudgetWindow,
    /// What can be spent in it, as text: `"100"` or `"0.15"`. Prices are those of each `Model`.
    pub hard: Money,
    /// From where on answers carry a warning; at most `hard`. Without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<Money>,
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetWindow {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From the first of the month.
    Month,
}

impl From<BudgetWindow> for admit::Window {
    fn from(window: BudgetWindow) -> Self {
        match window {
            BudgetWindow::Hour => Self::Hour,
            BudgetWindow::Day => Self::Day,
            BudgetWindow::Month => Self::Month,
        }
    }
}

impl From<&Quota> for admit::Quota {
    fn from(quota: &Quota) -> Self {
        let budget = |budget: &Budget| admit::Budget {
            window: budget.window.into(),
            hard: budget.hard.millionths(),
            soft: budget.soft.map(Money::millionths),
        };
        Self {
            requests_per_minute: quota.requests_per_minute,
            input_tokens_per_minute: quota.input_tokens_per_minute,
            output_tokens_per_minute: quota.output_tokens_per_minute,
            concurrency: quota.concurrency,
            queued_requests: quota.queued_requests,
            queued_bytes: quota.queued_bytes,
            budgets: quota.budgets.iter().map(budget).collect(),
        }
    }
}
