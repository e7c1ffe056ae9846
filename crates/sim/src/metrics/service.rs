//! What a tenant got, and when: tokens, weighted by what they cost, spread over a request's answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Served;

/// Answers shorter than this, in seconds, cannot be spread over time.
const ANSWER_SECONDS_MIN: f64 = 1e-5;

/// What a token costs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cost {
    /// One of a prompt.
    pub input: f64,
    /// One of an answer.
    pub output: f64,
}

impl Default for Cost {
    /// As in the paper.
    fn default() -> Self {
        Self { input: 1.0, output: 2.0 }
    }
}

impl Cost {
    /// What a request costs.
    pub fn of(self, request: &Served) -> f64 {
        self.input * f64::from(request.input) + self.output * f64::from(request.output)
    }
}

/// The service of a run by tenant and time. A request's service comes evenly between its first token
/// and its end.
#[derive(Clone, Debug)]
pub struct Service {
    tenants: BTreeMap<u32, Vec<Piece>>,
}

/// The service of one request.
#[derive(Clone, Copy, Debug)]
struct Piece {
    arrived: f64,
    begin: f64,
    end: f64,
    cost: f64,
}

impl Service {
    /// Of these requests; rejected ones count as if they had never come.
    pub fn new(served: &[Served], cost: Cost) -> Self {
        let mut tenants: BTreeMap<u32, Vec<Piece>> = BTreeMap::new();
        for request in served {
            let Some(begin) = request.first_token else { continue };
            let (arrived, end, cost) = (request.arrived, request.end, cost.of(request));
            tenants.entry(request.tenant).or_default().push(Piece { arrived, begin, end, cost });
        }
        Self { tenants }
    }

    /// Tenants that were served at all, ascending.
    pub fn tenants(&self) -> impl Iterator<Item = u32> {
        self.tenants.keys().copied()
    }

    /// What a tenant got between two moments.
    pub fn got(&self, tenant: u32, from: f64, to: f64) -> f64 {
        let pieces = self.tenants.get(&tenant).into_iter().flatten();
        pieces.map(|piece| piece.within(from, to)).sum()
    }

    /// What a tenant asked for between two moments, both included: the cost of all requests that
    /// arrived then and were served some time.
    pub fn asked(&self, tenant: u32, from: f64, to: f64) -> f64 {
        let pieces = self.tenants.get(&tenant).into_iter().flatten();
        pieces
            .filter(|piece| from <= piece.arrived && piece.arrived <= to)
            .map(|piece| piece.cost)
            .sum()
    }

    /// What each tenant got in all.
    pub fn totals(&self) -> BTreeMap<u32, f64> {
        let total = |pieces: &Vec<Piece>| pieces.iter().map(|piece| piece.cost).sum();
        self.tenants.iter().map(|(tenant, pieces)| (*tenant, total(pieces))).collect()
    }
}

impl Piece {
    fn within(&self, from: f64, to: f64) -> f64 {
        let length = self.end - self.begin;
        if length < ANSWER_SECONDS_MIN {
            return 0.0;
        }
        let overlap = (to.min(self.end) - from.max(self.begin)).max(0.0);
        self.cost * overlap / length
    }
}

/// Tokens of prompts and answers in a second of a run; zero where that took no time.
pub fn tokens_per_second(served: &[Served], total_seconds: f64) -> f64 {
    let served = served.iter().filter(|request| request.first_token.is_some());
    let tokens: u64 =
        served.map(|request| u64::from(request.input) + u64::from(request.output)).sum();
    if total_seconds > 0.0 { tokens as f64 / total_seconds } else { 0.0 }
}
