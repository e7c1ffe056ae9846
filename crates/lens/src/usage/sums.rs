//! Sums over rows, and how long replicas were there: what usage is asked by.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::row::name;
use crate::Record;

/// What sums are kept by, besides the hour. Empty where it is not known.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Group {
    /// Whose.
    pub tenant: String,
    /// The same below those above it, divided by `/`.
    pub tenant_path: String,
    /// The Model.
    pub model: String,
    /// What its weights are.
    pub version: String,
    /// The class of the hardware.
    pub hardware: String,
    /// How urgent.
    pub band: String,
}

impl Group {
    /// Where a request belongs.
    pub fn of(record: &Record) -> Self {
        let text = |text: Option<&str>| name(text.unwrap_or_default()).into_owned();
        Self {
            tenant: text(record.tenant.as_deref()),
            tenant_path: text(record.tenant_path.as_deref()),
            model: text(record.lane.as_deref()),
            version: text(record.version.as_deref()),
            hardware: text(record.hardware.as_deref()),
            band: record.band.name().to_owned(),
        }
    }

    /// Whose it is, and nothing more.
    #[must_use]
    pub fn coarse(self) -> Self {
        Self { tenant: self.tenant, tenant_path: self.tenant_path, ..Self::default() }
    }
}

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sums {
    /// How many.
    pub requests: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Of those, found in a cache.
    pub cached: u64,
    /// Generated tokens.
    pub output: u64,
    /// Of those, thoughts.
    pub reasoning: u64,
    /// What was charged, in millionths of the currency's unit.
    pub charged_micros: u64,
    /// KV token-milliseconds.
    pub kv_token_ms: u64,
    /// KV token-milliseconds of attempts that came to nothing, and of copies.
    pub overhead_kv_token_ms: u64,
    /// Accelerator-microseconds in which something ran.
    pub busy_us: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
        self.reasoning += other.reasoning;
        self.charged_micros = self.charged_micros.saturating_add(other.charged_micros);
        self.kv_token_ms = self.kv_token_ms.saturating_add(other.kv_token_ms);
        self.overhead_kv_token_ms =
            self.overhead_kv_token_ms.saturating_add(other.overhead_kv_token_ms);
        self.busy_us += other.busy_us;
    }
}

/// A replica that is up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// The Model it serves.
    pub model: String,
    /// The class of its hardware; empty where it is not known.
    pub hardware: String,
    /// Its accelerators; one for a processor.
    pub accelerators: u32,
    /// What it costs an hour, in millionths of the currency's unit: its part of its node's price.
    pub micros_per_hour: u64,
}

/// What a tenant may count on, of one Model.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entitled {
    /// Whose.
    pub tenant: String,
    /// What is its own before anybody else's, in thousandths of the capacity.
    pub guaranteed: u32,
    /// What it gets of the leftover beside others.
    pub weight: u32,
}

/// How long replicas of a Model on one class of hardware were up in an hour.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct UpTime {
    /// The hour, since 1970.
    pub hour: u64,
    /// The Model.
    pub model: String,
    /// The class of the hardware.
    pub hardware: String,
    /// Accelerator-milliseconds.
    pub up_ms: u64,
    /// What that cost, in millionths of the currency's unit.
    pub cost_micros: u64,
    /// Who may count on what of it.
    pub entitled: Vec<Entitled>,
}
