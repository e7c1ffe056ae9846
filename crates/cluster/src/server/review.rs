//! Who may do what, asked beforehand: rights are what no fault forbids.

use serde_json::Value;

use super::{Answer, Cluster};
use crate::api::call::Call;
use crate::api::failure::Failure;
use crate::fault::Subject;

impl Cluster {
    /// Answers a review of the caller's own rights.
    pub(super) fn review(&self, call: &Call) -> Result<Answer, Failure> {
        let mut review: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let asked = review.pointer("/spec/resourceAttributes").cloned().unwrap_or_default();
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        let verbs: &[&'static str] = match text("verb") {
            "create" => &["create"],
            // What is applied is patched.
            "patch" => &["patch", "apply"],
            "delete" => &["delete"],
            "get" => &["get"],
            "list" => &["list"],
            _ => return Err(Failure::method_not_allowed()),
        };
        let is_forbidden = verbs.iter().any(|verb| {
            self.faults.forbids(&Subject {
                verb,
                group: text("group"),
                resource: text("resource").to_owned(),
                namespace: text("namespace"),
                name: text("name"),
                user: &call.user,
            })
        });
        review["status"]["allowed"] = (!is_forbidden).into();
        Ok(Answer::json(201, &review))
    }
}
