//! What is counted of what engines publish of their KV caches.

use pilotage_shell::metrics::{About, Family, Labels, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// What a feed is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FeedState {
    /// There is no connection.
    Connecting,
    /// It is heard.
    Live,
    /// Some of it was lost a short time ago.
    Stale,
    /// Nothing comes though requests run.
    Silent,
}

impl FeedState {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Connecting, "connecting"),
        (Self::Live, "live"),
        (Self::Stale, "stale"),
        (Self::Silent, "silent"),
    ];
}

const KINDS: [&str; 5] = ["stored", "removed", "cleared", "unknown", "lost"];

/// All lanes'.
#[derive(Clone, Debug)]
pub(super) struct Feeds {
    events: Family<Counter>,
    feeds: Family<Gauge>,
}

/// One lane's.
#[derive(Clone, Debug)]
pub(crate) struct KvCounts {
    /// In the order of [`KINDS`].
    events: [Counter; KINDS.len()],
    /// In the order of [`FeedState::ALL`].
    feeds: [Gauge; FeedState::ALL.len()],
}

impl Feeds {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            events: metrics.family(About::new(
                "pilotage_kv_events",
                "What engines published of their KV caches, by kind: blocks stored and removed, caches cleared, events unknown, messages lost",
                Labels::new(&["lane"], &["kind"]),
            )),
            feeds: metrics.family(About::new(
                "pilotage_kv_event_feeds",
                "Replicas whose KV events are followed, by state: connecting, live, stale (messages were lost), silent (nothing comes though requests run)",
                Labels::new(&["lane"], &["state"]),
            )),
        }
    }

    pub(super) fn lane(&self, lane: &str) -> KvCounts {
        KvCounts {
            events: KINDS.map(|kind| self.events.get(&[lane], &[kind])),
            feeds: FeedState::ALL.map(|(_, state)| self.feeds.get(&[lane], &[state])),
        }
    }

    /// A lane is gone.
    pub(super) fn forget(&self, lane: &str) {
        self.events.remove(&[lane]);
        self.feeds.remove(&[lane]);
    }
}

impl KvCounts {
    /// Blocks that came into a cache.
    pub(crate) fn stored(&self, blocks: u64) {
        self.events[0].inc_by(blocks);
    }

    /// Blocks that left one.
    pub(crate) fn removed(&self, blocks: u64) {
        self.events[1].inc_by(blocks);
    }

    /// A cache was cleared.
    pub(crate) fn cleared(&self) {
        self.events[2].inc();
    }

    /// Something that nobody here knows.
    pub(crate) fn unknown(&self) {
        self.events[3].inc();
    }

    /// Messages that never came.
    pub(crate) fn lost(&self, messages: u64) {
        self.events[4].inc_by(messages);
    }

    /// A feed, which is shown until it is dropped.
    pub(crate) fn feed(&self) -> ShownFeed {
        ShownFeed { gauges: self.feeds.clone(), at: None }
    }
}

/// A feed as the metrics show it.
#[derive(Debug)]
pub(crate) struct ShownFeed {
    gauges: [Gauge; FeedState::ALL.len()],
    at: Option<usize>,
}

impl ShownFeed {
    /// It is in this state from now on.
    pub(crate) fn show(&mut self, state: FeedState) {
        let at = FeedState::ALL.iter().position(|(other, _)| *other == state);
        if at == self.at {
            return;
        }
        self.leave();
        if let Some(gauge) = at.and_then(|at| self.gauges.get(at)) {
            gauge.inc();
        }
        self.at = at;
    }

    fn leave(&mut self) {
        if let Some(gauge) = self.at.take().and_then(|at| self.gauges.get(at)) {
            gauge.dec();
        }
    }
}

impl Drop for ShownFeed {
    fn drop(&mut self) {
        self.leave();
    }
}
