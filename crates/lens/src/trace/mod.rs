//! Traces: where a request was at which time, as a tree of spans that any OpenTelemetry collector shows.
//!
//! Spans are made from the [record](crate::Record) of a request that is over, so that whether a trace is worth
//! keeping is decided by how its request went, and a request that is not kept costs nothing. Whoever has the record makes
//! the same spans of it, with the same ids. They hold no prompt, no answer and no key, as the record has none.

mod keep;
mod key;
mod reference;
mod sample;
mod span;
mod tree;

#[cfg(test)]
mod tests;

pub use keep::{Drawn, Head, Tracer};
pub use key::{Convention, Key, OptInError, Row, TABLE};
pub use reference::reference;
pub use sample::{Goals, Kept, Reasons, Sampler, SamplerError, Tail};
pub use span::{Event, Kind, Outcome, TraceSpan, Value};
pub use tree::spans;
