//! Events are told in two groups, and are the same objects: stored as the core group has them, read and
//! written by the other one in fields of other names.

use serde_json::{Map, Value};

/// Fields by their names in the core group and in `events.k8s.io`.
const NAMES: [(&str, &str); 8] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingInstance", "reportingInstance"),
];

/// An event as it is stored, of one of `events.k8s.io`.
pub(super) fn stored(event: &mut Value) {
    rename(event, |name| NAMES.iter().find(|(_, new)| *new == name).map(|(core, _)| *core));
}

/// An event of `events.k8s.io`, of one as it is stored.
pub(crate) fn told(event: &mut Value) {
    rename(event, |name| NAMES.iter().find(|(core, _)| *core == name).map(|(_, new)| *new));
}

fn rename(event: &mut Value, other: impl Fn(&str) -> Option<&'static str>) {
    let Value::Object(fields) = event else { return };
    let renamed: Map<String, Value> = std::mem::take(fields)
        .into_iter()
        .map(|(name, value)| (other(&name).map_or(name, str::to_owned), value))
        .collect();
    *fields = renamed;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn names_go_there_and_back() {
        let event = json!({"metadata": {"name": "e"}, "note": "n", "regarding": {"kind": "Pod"}, "reason": "R"});
        let mut value = event.clone();
        super::stored(&mut value);
        assert_eq!(
            (&value["message"], &value["involvedObject"]["kind"]),
            (&json!("n"), &json!("Pod"))
        );
        super::told(&mut value);
        assert_eq!(value, event);
    }
}
