//! What is known of the gateway, and of the requests that came through it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Lasted;
use crate::record::Termination;

/// The gateway.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Gateway {
    /// Where the time of its requests went.
    pub phases: PhaseSeconds,
    /// Making connections to replicas, names and certificates included.
    pub dial: Lasted,
    /// How requests ended; none where nobody counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<BTreeMap<Termination, f64>>,
    /// Statuses that replicas answered with; none where nobody counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<BTreeMap<u16, f64>>,
    /// Requests sent to each replica; none where nobody counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picks: Option<BTreeMap<String, f64>>,
    /// Its own counters and gauges.
    pub traffic: Traffic,
}

group! {
    /// Seconds that all requests of the window spent in each phase (see [`crate::timeline::Phases`]).
    PhaseSeconds {
        /// Reading and checking.
        read: f64,
        /// Waiting for a turn.
        queue: f64,
        /// Attempts that failed.
        retry: f64,
        /// From the dispatch until the replica began to answer, its queue included.
        connect: f64,
        /// From then to the first token.
        prefill: f64,
        /// From the first to the last token.
        decode: f64,
        /// From the last token to the end.
        flush: f64,
        /// All of it.
        total: f64,
    }
}

group! {
    /// The gateway's own counters and gauges.
    Traffic {
        /// Requests that ended.
        requests: f64,
        /// Requests under way, at a mean.
        in_flight: f64,
        /// Requests waiting for a turn, at a mean.
        queued: f64,
        /// How late its event loop is, 99th percentile.
        loop_delay_s: f64,
        /// Share of its processors that it used.
        cpu_use: f64,
        /// Connections that were made.
        connections_new: f64,
        /// Requests that went over a connection that was there.
        connections_reused: f64,
        /// First packets of connections that had to be sent again.
        syn_retransmits: f64,
        /// Seconds in which an answer was there and the client did not take it.
        client_blocked_s: f64,
        /// Age of what it knew of replicas when it chose one.
        metrics_age_s: f64,
        /// Time between two looks at replicas.
        metrics_interval_s: f64,
        /// Share of the picks between two looks that went to one replica.
        herd_share: f64,
        /// Replicas that requests with the same beginning went to, at a mean.
        prefix_homes: f64,
        /// Clients that went away.
        disconnects: f64,
        /// Requests with an id or a body that had come before in the window.
        repeated: f64,
        /// Answers of replicas that said when to come again.
        retry_after: f64,
        /// Demand by capacity, as admission sees it.
        saturation: f64,
    }
}

impl Gateway {
    /// How many requests ended in one of these ways; none where nobody counted.
    pub fn ended(&self, ways: &[Termination]) -> Option<f64> {
        let outcomes = self.outcomes.as_ref()?;
        Some(ways.iter().filter_map(|way| outcomes.get(way)).sum())
    }
}

impl PhaseSeconds {
    /// Each phase that is known, added up.
    pub fn sum(&self) -> Option<f64> {
        let all = [
            self.read,
            self.queue,
            self.retry,
            self.connect,
            self.prefill,
            self.decode,
            self.flush,
        ];
        all.into_iter().flatten().fold(None, |sum, part| Some(sum.unwrap_or(0.0) + part))
    }
}
