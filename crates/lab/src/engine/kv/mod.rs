//! What becomes of a modelled engine's KV cache, published as vLLM does: over ZeroMQ, in numbered
//! batches of MessagePack.

mod batch;
mod msgpack;
#[cfg(test)]
mod tests;
mod zmtp;

use std::sync::Arc;

use pilotage_shell::tasks;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

pub use batch::Layout;
use batch::Style;

use super::model::CacheEvent;

/// Batches that a slow subscriber may be behind before it loses some.
const BEHIND_MAX: usize = 10_000;

/// Publishes one engine's news.
#[derive(Debug)]
pub(super) struct Publisher {
    messages: broadcast::Sender<zmtp::Message>,
    style: Style,
    topic: Vec<u8>,
    sequence: u64,
    /// Dropped, it ends the serving of new subscribers.
    serving: tokio::task::JoinHandle<Option<()>>,
}

/// How KV events are published.
#[derive(Debug)]
pub struct KvEvents {
    /// Where subscribers connect.
    pub listener: TcpListener,
    /// The first frame of each message.
    pub topic: String,
    /// How batches are written.
    pub layout: Layout,
}

impl Publisher {
    /// Publishes what an engine with these adapters, and blocks of so many tokens, tells.
    pub(super) fn start(events: KvEvents, block_tokens: usize, adapters: Vec<String>) -> Self {
        let (messages, _) = broadcast::channel(BEHIND_MAX);
        let serving =
            tasks::spawn("kv events", zmtp::publish(events.listener, messages.downgrade()));
        Self {
            messages,
            style: Style { layout: events.layout, block_tokens, adapters },
            topic: events.topic.into_bytes(),
            sequence: 0,
            serving,
        }
    }

    /// One batch: topic, number, and what happened.
    pub(super) fn publish(&mut self, unix_ms: u64, events: &[CacheEvent]) {
        let number = self.sequence.to_be_bytes().to_vec();
        self.sequence += 1;
        if self.messages.receiver_count() > 0 {
            let batch = batch::encode(&self.style, unix_ms as f64 / 1000.0, events);
            // Nobody left to hear it is what it is for a publisher.
            let _ = self.messages.send(Arc::from([self.topic.clone(), number, batch]));
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
