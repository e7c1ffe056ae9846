//! Conditions of the Gateway API: what is said, since when, and of which generation.

use serde_json::{Value, json};

use super::Verdict;

/// Of an object, what goes into its conditions.
pub(super) struct About<'a> {
    /// Counts changes of what it says.
    pub(super) generation: u64,
    /// The time of day, as the API server writes it.
    pub(super) now: &'a str,
}

impl<'a> About<'a> {
    pub(super) fn of(object: &Value, now: &'a str) -> Self {
        Self { generation: object["metadata"]["generation"].as_u64().unwrap_or_default(), now }
    }

    /// A condition: true with that reason, or false with why. Where it was the same before, since then.
    pub(super) fn condition(
        &self,
        before: &Value,
        kind: &str,
        said: Result<(&str, &str), &Verdict>,
    ) -> Value {
        let (status, reason, message) = match said {
            Ok((reason, message)) => ("True", reason, message),
            Err(verdict) => ("False", verdict.reason, verdict.message.as_str()),
        };
        let old = before.as_array().into_iter().flatten().find(|one| one["type"] == kind);
        let since = old
            .filter(|old| old["status"] == status)
            .and_then(|old| old["lastTransitionTime"].as_str())
            .unwrap_or(self.now);
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": self.generation,
            "lastTransitionTime": since,
        })
    }
}
