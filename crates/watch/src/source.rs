//! How well a kind is known: for how long nothing was heard of it, and why.

use serde::Serialize;

/// A kind that is watched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// What it is called.
    pub kind: &'static str,
    /// Whether all there is was seen once, or there is no such kind.
    pub is_known: bool,
    /// When the API server last answered, in nanoseconds of the clock.
    pub heard_nanos: u64,
    /// Objects that are known.
    pub objects: usize,
    /// Why nothing is heard; none when all is well.
    pub error: Option<String>,
}

/// The same as the status has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    kind: &'static str,
    known: bool,
    objects: usize,
    heard_ms_ago: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Source {
    pub(crate) const fn of(kind: &'static str, now_nanos: u64) -> Self {
        Self { kind, is_known: false, heard_nanos: now_nanos, objects: 0, error: None }
    }

    /// As the status has it.
    pub fn told(&self, now_nanos: u64) -> Told {
        Told {
            kind: self.kind,
            known: self.is_known,
            objects: self.objects,
            heard_ms_ago: now_nanos.saturating_sub(self.heard_nanos) / 1_000_000,
            error: self.error.clone(),
        }
    }
}
