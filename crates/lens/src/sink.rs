//! Where records go when requests are over: to ledgers, traces, and whoever looks on.

use std::fmt::Debug;
use std::sync::Arc;

use crate::Record;

/// Takes records of requests that ended.
///
/// It is called on the way of requests: it hands over in far less than a microsecond, allocates nothing, and
/// never waits. What does not fit is its own to count.
pub trait Sink: Debug + Send + Sync {
    /// A request is over.
    fn take(&self, record: &Arc<Record>);
}
