//! Who decides which traces there are: at the begin of a request, of which its replica is told, and at its end.

use core::fmt::Debug;

use super::sample::{Reasons, Sampler, Tail};
use crate::Record;

/// Decides which traces there are.
///
/// It is called on the way of requests: it takes far less than a microsecond, allocates nothing, and never waits.
pub trait Tracer: Debug + Send + Sync {
    /// Whether the trace of a request that begins is recorded. `parent` is what its client decided, where that sent a
    /// trace.
    fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool;

    /// Why the trace of a request that is over is kept; no reason where it is not. What is kept has its place from
    /// then on, so that whoever names its number names one that will be there.
    fn keeps(&self, record: &Record) -> Reasons;
}

/// What is drawn at the begin, and no more.
impl Tracer for Sampler {
    fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        Self::samples(self, trace_id, parent)
    }

    fn keeps(&self, record: &Record) -> Reasons {
        Reasons::sampled(record.sampled)
    }
}

/// What a sampler says of a request that begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drawn {
    /// Its trace is recorded.
    Recorded,
    /// It is not.
    Left,
    /// It is not, though its client asked for it: too many do.
    TooMany,
}

/// A sampler that heeds clients only so far: what they ask for beside what is drawn anyway is so much a second, so
/// that no client takes the room of what went wrong.
#[derive(Debug)]
pub struct Head {
    sampler: Sampler,
    clients: Tail,
}

impl Head {
    /// That sampler, with so many traces a second that are recorded only as clients ask for them.
    pub const fn new(sampler: Sampler, clients_per_second_max: u32) -> Self {
        Self { sampler, clients: Tail::new(clients_per_second_max) }
    }

    /// What becomes of a request that begins at that time.
    pub fn draws(&self, trace_id: u128, parent: Option<bool>, unix_ms: u64) -> Drawn {
        if !self.sampler.samples(trace_id, parent) {
            return Drawn::Left;
        }
        let by_client = parent == Some(true) && !self.sampler.samples(trace_id, None);
        if by_client && !self.clients.admits(unix_ms) { Drawn::TooMany } else { Drawn::Recorded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_heeded_so_often_a_second() {
        let sampler = Sampler::parse(Some("parentbased_traceidratio"), Some("0.5")).unwrap();
        let head = Head::new(sampler, 2);
        let (high, low) = (0x00ff_ffff_ffff_ffff, 0);
        let asks = |trace, ms| head.draws(trace, Some(true), ms);
        assert_eq!(asks(low, 1000), Drawn::Recorded);
        // What is drawn anyway takes no part of that.
        assert_eq!([asks(high, 1000); 3], [Drawn::Recorded; 3]);
        assert_eq!(asks(low, 1001), Drawn::Recorded);
        assert_eq!(asks(low, 1002), Drawn::TooMany);
        assert_eq!(asks(high, 1002), Drawn::Recorded);
        assert_eq!(head.draws(high, None, 1002), Drawn::Recorded);
        assert_eq!(head.draws(low, None, 1002), Drawn::Left);
        assert_eq!(
            head.draws(high, Some(false), 1002),
            Drawn::Left,
            "clients may always do without"
        );
        assert_eq!(asks(low, 2000), Drawn::Recorded);
        // Who heeds no client has nothing to bound.
        let own = Head::new(Sampler::parse(Some("traceidratio"), Some("0.5")).unwrap(), 0);
        assert_eq!(own.draws(low, Some(true), 0), Drawn::Left);
        assert_eq!(own.draws(high, Some(true), 0), Drawn::Recorded);
    }
}
