//! Which kinds a cluster has beyond Kubernetes' own, and which Kubernetes it is.

use pilotage_plan::api::API_VERSION;
use pilotage_plan::cluster::Failure;
use pilotage_plan::render::kubernetes::{Installed, MINOR_DEFAULT};
use serde_json::Value;

use super::call::Calls;

/// How often it is looked again.
pub(crate) const EVERY_MS: u64 = 60_000;

/// What a cluster offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Offered {
    pub(crate) minor: u32,
    pub(crate) has: Installed,
    /// Whether Istio's definitions are there.
    pub(crate) has_istio: bool,
    /// Whether Pilotage's own definitions are there, of the version that is read here.
    pub(crate) is_ours: bool,
}

/// Asks.
pub(crate) async fn offered(calls: &Calls) -> Result<Offered, Failure> {
    let version = calls.read("/version").await?;
    let groups = calls.read("/apis").await?;
    Ok(read(&version, &groups))
}

fn read(version: &Value, groups: &Value) -> Offered {
    let minor = version["minor"].as_str().unwrap_or_default();
    // Some write `32+`.
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let all = groups["groups"].as_array();
    let versions = all.into_iter().flatten().flat_map(|group| {
        let versions = group["versions"].as_array();
        versions.into_iter().flatten().filter_map(|one| one["groupVersion"].as_str())
    });
    let versions: Vec<&str> = versions.collect();
    let has = |version: &str| versions.contains(&version);
    Offered {
        minor: digits.parse().unwrap_or(MINOR_DEFAULT),
        has: Installed {
            leader_worker_set: has("leaderworkerset.x-k8s.io/v1"),
            keda: has("keda.sh/v1alpha1"),
            monitors: has("monitoring.coreos.com/v1"),
            vertical: has("autoscaling.k8s.io/v1"),
        },
        has_istio: has("networking.istio.io/v1"),
        is_ours: has(API_VERSION),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_found_by_their_groups() {
        let groups = json!({ "groups": [
            { "name": "keda.sh", "versions": [{ "groupVersion": "keda.sh/v1alpha1" }] },
            { "name": "pilotage.dev", "versions": [{ "groupVersion": "pilotage.dev/v1alpha1" }] },
        ] });
        let offered = read(&json!({ "minor": "33+" }), &groups);
        assert_eq!((offered.minor, offered.is_ours), (33, true));
        assert!(offered.has.keda && !offered.has.leader_worker_set && !offered.has.monitors);
        assert!(!read(&json!({}), &json!({})).is_ours);
    }
}
