//! What a client counts of its connections: whether one was there already, and how long a new one took.

use prometheus_client::metrics::counter::Counter;

use crate::metrics::{About, Histogram, Labels, Metrics, OVERHEAD_SECONDS};

/// Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) new: Counter,
    pub(super) reused: Counter,
    pub(super) connect: Histogram,
}

impl Counts {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let labels = Labels::new(&[], &["reused"]);
        let help =
            "Connections to replicas that requests went over, by whether they were open already";
        let about = About::new("pilotage_upstream_connections", help, labels);
        let connections = metrics.family::<Counter>(about);
        let help = "Opening a connection to a replica, its name looked up and encryption included";
        let about = About::new("pilotage_upstream_connect_seconds", help, Labels::new(&[], &[]));
        let connect = metrics.histograms(about, &OVERHEAD_SECONDS).get(&[], &[]);
        Self {
            new: connections.get(&[], &["false"]),
            reused: connections.get(&[], &["true"]),
            connect,
        }
    }
}
