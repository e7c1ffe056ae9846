//! A watch that somebody holds.

use super::Cluster;
use crate::api::kinds::ResourceId;
use crate::store::{Pulled, Watch};

/// A watch. Nothing is kept of it in the cluster: who drops it is done with it.
#[derive(Debug)]
pub struct Stream {
    watch: Watch,
    id: ResourceId,
    number: u64,
}

impl Stream {
    pub(super) fn of(watch: Watch, id: ResourceId, number: u64) -> Self {
        Self { watch, id, number }
    }
}

impl Cluster {
    /// What a watch sends next.
    pub fn pull(&mut self, now_ms: u64, stream: &mut Stream) -> Pulled {
        self.establish(now_ms);
        let due_ms = self.promised.first().map_or(u64::MAX, |(due_ms, _)| *due_ms);
        match self.pulled(now_ms, stream) {
            Pulled::Nothing(until_ms) => Pulled::Nothing(until_ms.min(due_ms)),
            other => other,
        }
    }

    fn pulled(&self, now_ms: u64, stream: &mut Stream) -> Pulled {
        if stream.number <= self.watches_broken || self.faults.is_away(now_ms) {
            return Pulled::End(Some("the connection was lost"));
        }
        let known = self.kinds.get(stream.id).and_then(|_| self.tables.get(stream.id));
        match known {
            Some(table) if stream.number > self.watches_since => {
                stream.watch.pull(now_ms, table, self.revision)
            }
            _ => Pulled::End(None),
        }
    }
}
