//! What the status tells of the cluster: how well it is known, what does not count, and why.

use pilotage_plan::cluster::Refused;
use pilotage_watch::{Known, Source};
use serde::Serialize;
use serde_json::{Value, json};

/// Most resources that are listed.
const LISTED_MAX: usize = 100;

/// What was made of what is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// Gateways that are ready, this one among them, which share quotas.
    pub(super) gateways: u32,
    /// The zone that was found out.
    pub(super) zone: Option<String>,
    /// Why what is known cannot be served.
    pub(super) error: Option<String>,
    /// Endpoints that nothing is sent to.
    pub(super) left_out: Vec<String>,
    /// Resources that do not count.
    refused: Vec<Line>,
    refused_count: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    kind: &'static str,
    namespace: String,
    name: String,
    reason: &'static str,
    message: String,
}

impl Default for View {
    fn default() -> Self {
        Self {
            gateways: 1,
            zone: None,
            error: None,
            left_out: Vec::new(),
            refused: Vec::new(),
            refused_count: 0,
        }
    }
}

impl View {
    /// These do not count.
    pub(super) fn refuse(&mut self, refused: &[Refused]) {
        let line = |one: &Refused| Line {
            kind: one.identity.kind.name(),
            namespace: one.identity.namespace.clone(),
            name: one.identity.name.clone(),
            reason: one.refusal.reason.name(),
            message: one.refusal.message.clone(),
        };
        self.refused = refused.iter().take(LISTED_MAX).map(line).collect();
        self.refused_count = refused.len();
    }
}

/// The part of the status.
pub(super) fn status(now_nanos: u64, known: &Known, view: &View) -> Value {
    let sources: Vec<_> = known.sources().map(|source: &Source| source.told(now_nanos)).collect();
    let mut told = serde_json::to_value(view).unwrap_or_default();
    told["known"] = known.is_known().into();
    told["sources"] = json!(sources);
    told
}
