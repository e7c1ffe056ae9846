//! Who may do what: a ServiceAccount for each part, the operator's rights, those of the gateway to read,
//! and the policy that refuses Models without a digest.

use serde_json::{Value, json};

use super::super::labels;
use super::super::object::Object;
use super::{Installation, Scope, metadata, named};
use crate::api::Kind;
use crate::crd::{GROUP, Names, VERSION};
use crate::gateway_api::{GATEWAY_GROUP, POOL_GROUP};

const OPERATOR: &str = "operator";
const GATEWAY: &str = "gateway";

/// What the operator makes and keeps as it should be.
const MADE: [(&str, &[&str]); 11] = [
    ("apps", &["deployments", "statefulsets"]),
    ("", &["configmaps", "persistentvolumeclaims", "services"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["jobs"]),
    ("keda.sh", &["scaledobjects"]),
    ("leaderworkerset.x-k8s.io", &["leaderworkersets"]),
    ("monitoring.coreos.com", &["podmonitors"]),
    ("networking.istio.io", &["virtualservices"]),
    ("networking.k8s.io", &["networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
    ("autoscaling.k8s.io", &["verticalpodautoscalers"]),
];

const LOOK: [&str; 3] = ["get", "list", "watch"];
const KEEP: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

pub(super) fn objects(installation: &Installation) -> Vec<Object> {
    let mut all: Vec<Object> =
        [GATEWAY, OPERATOR].map(|part| account(installation, part)).into_iter().collect();
    let (role, binding) = match installation.scope {
        Scope::Namespace => ("Role", "RoleBinding"),
        Scope::Cluster => ("ClusterRole", "ClusterRoleBinding"),
    };
    let mut about = metadata(installation, OPERATOR);
    if installation.scope == Scope::Cluster {
        unplaced(&mut about);
    }
    let mut rules = rules();
    if installation.scope == Scope::Cluster {
        rules.push(rule("", &["nodes"], &LOOK));
    }
    all.push(Object::new(RBAC, role, about.clone(), json!({ "rules": rules })));
    all.push(bind(installation, binding, about, (role, &named(OPERATOR))));
    // Who leads is settled in the operator's own namespace.
    let mut about = metadata(installation, OPERATOR);
    about["name"] = format!("{}-lease", named(OPERATOR)).into();
    let lease = rule("coordination.k8s.io", &["leases"], &["get", "create", "patch", "update"]);
    all.push(Object::new(RBAC, "Role", about.clone(), json!({ "rules": [lease] })));
    let name = about["name"].as_str().unwrap_or_default().to_owned();
    all.push(bind(installation, "RoleBinding", about, ("Role", &name)));
    if installation.external_metrics {
        all.extend(metrics(installation));
    }
    all.extend(gateway(installation));
    if installation.scope == Scope::Cluster {
        all.extend(people());
    }
    all
}

/// What our kinds add to the roles that people have in their namespaces: who edits there writes Models and Routes,
/// who looks sees them, and who has a namespace is a Tenant's and a Fleet's master.
fn people() -> [Object; 3] {
    let aggregated = |name: &str, into: &str, rules: Vec<Value>| {
        let mut labels = labels::own(OPERATOR);
        labels[format!("rbac.authorization.k8s.io/aggregate-to-{into}")] = "true".into();
        let about = json!({ "name": name, "labels": labels });
        Object::new(RBAC, "ClusterRole", about, json!({ "rules": rules }))
    };
    let of = |kinds: &[Kind]| -> Vec<&'static str> {
        kinds.iter().map(|kind| Names::of(*kind).plural).collect()
    };
    let (theirs, masters) = ([Kind::Model, Kind::Route], [Kind::Tenant, Kind::Fleet]);
    let write = ["create", "delete", "deletecollection", "patch", "update"];
    let scale = rule(GROUP, &["models/scale"], &["get", "patch", "update"]);
    // A Kubernetes' own admin has what edit has, and edit what view has.
    [
        aggregated("pilotage-view", "view", vec![rule(GROUP, &of(&Kind::ALL), &LOOK)]),
        aggregated("pilotage-edit", "edit", vec![rule(GROUP, &of(&theirs), &write), scale]),
        aggregated("pilotage-admin", "admin", vec![rule(GROUP, &of(&masters), &write)]),
    ]
}

/// What the gateway looks at, and nothing that it writes: resources, where pods are reached, and of all
/// secrets the one with the keys of engines.
fn gateway(installation: &Installation) -> Vec<Object> {
    let plurals = Kind::ALL.map(|kind| Names::of(kind).plural);
    let mut rules = vec![
        rule(GROUP, &plurals, &LOOK),
        rule("discovery.k8s.io", &["endpointslices"], &LOOK),
        // Those of InferencePools, which have no Service.
        rule("", &["pods"], &LOOK),
    ];
    rules.extend(gateway_api(&LOOK, ""));
    let mut keys = rule("", &["secrets"], &LOOK);
    keys["resourceNames"] = json!(["pilotage-engine-keys"]);
    let own = vec![rule("discovery.k8s.io", &["endpointslices"], &LOOK), keys];
    let (role, binding) = match installation.scope {
        Scope::Namespace => ("Role", "RoleBinding"),
        Scope::Cluster => ("ClusterRole", "ClusterRoleBinding"),
    };
    let mut about = metadata(installation, GATEWAY);
    if installation.scope == Scope::Cluster {
        unplaced(&mut about);
    }
    let mut placed = metadata(installation, GATEWAY);
    let name = format!("{}-keys", named(GATEWAY));
    placed["name"] = name.as_str().into();
    vec![
        Object::new(RBAC, role, about.clone(), json!({ "rules": rules })),
        bound(installation, GATEWAY, binding, about, (role, &named(GATEWAY))),
        Object::new(RBAC, "Role", placed.clone(), json!({ "rules": own })),
        bound(installation, GATEWAY, "RoleBinding", placed, ("Role", &name)),
    ]
}

/// Rights to kinds of the Gateway API, or to their status.
fn gateway_api(verbs: &[&str], part: &str) -> [Value; 2] {
    let of = |plurals: &[&str]| -> Vec<String> {
        plurals.iter().map(|plural| format!("{plural}{part}")).collect()
    };
    let gateways = of(&["gatewayclasses", "gateways", "httproutes"]);
    let pools = of(&["inferencepools"]);
    [(GATEWAY_GROUP, gateways), (POOL_GROUP, pools)].map(|(group, plurals)| {
        let plurals: Vec<&str> = plurals.iter().map(String::as_str).collect();
        rule(group, &plurals, verbs)
    })
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn account(installation: &Installation, part: &str) -> Object {
    let rest = json!({ "automountServiceAccountToken": false });
    Object::new("v1", "ServiceAccount", metadata(installation, part), rest)
}

fn rules() -> Vec<Value> {
    let plurals = Kind::ALL.map(|kind| Names::of(kind).plural);
    let status = plurals.map(|plural| format!("{plural}/status"));
    let status: Vec<&str> = status.iter().map(String::as_str).collect();
    let mut rules = vec![
        rule(GROUP, &plurals, &LOOK),
        rule(GROUP, &status, &["patch"]),
        // What keeps a Model until all that is made of it is gone.
        rule(GROUP, &["models/finalizers"], &["patch", "update"]),
        // The number of copies.
        rule("apps", &["deployments/scale"], &["get", "patch"]),
        rule("leaderworkerset.x-k8s.io", &["leaderworkersets/scale"], &["get", "patch"]),
        // Copies whose nodes go: let go of by a label, and told to end.
        rule("", &["pods"], &["get", "list", "watch", "patch", "delete"]),
        rule("discovery.k8s.io", &["endpointslices"], &LOOK),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ];
    // Keys between gateway and engines. It never lists the secrets of others.
    rules.push(rule("", &["secrets"], &["get", "create", "patch", "delete"]));
    rules.extend(gateway_api(&LOOK, ""));
    rules.extend(gateway_api(&["patch"], "/status"));
    rules.extend(MADE.map(|(group, kinds)| rule(group, kinds, &KEEP)));
    rules
}

fn rule(group: &str, kinds: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": kinds, "verbs": verbs })
}

fn bind(installation: &Installation, kind: &str, about: Value, role: (&str, &str)) -> Object {
    bound(installation, OPERATOR, kind, about, role)
}

fn bound(
    installation: &Installation,
    part: &str,
    kind: &str,
    about: Value,
    role: (&str, &str),
) -> Object {
    let subject = json!({
        "kind": "ServiceAccount",
        "name": named(part),
        "namespace": installation.cluster.namespace,
    });
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1 });
    Object::new(RBAC, kind, about, json!({ "roleRef": role, "subjects": [subject] }))
}

fn unplaced(metadata: &mut Value) {
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("namespace");
    }
}

/// What an API server's extension needs: to know the API server by its certificate, to write its own
/// authority into its registration, and that autoscalers may read. Who may read what is settled by the API
/// server before it asks.
fn metrics(installation: &Installation) -> Vec<Object> {
    let about = |name: &str| json!({ "name": name, "labels": labels::own(OPERATOR) });
    let placed = |name: &str, namespace: &str| json!({ "name": name, "namespace": namespace, "labels": labels::own(OPERATOR) });
    let registration = json!({
        "apiGroups": ["apiregistration.k8s.io"],
        "resources": ["apiservices"],
        "resourceNames": ["v1beta1.external.metrics.k8s.io"],
        "verbs": ["get", "patch"],
    });
    let read = rule("external.metrics.k8s.io", &["*"], &["get", "list"]);
    let autoscaler = json!({
        "kind": "ServiceAccount",
        "name": "horizontal-pod-autoscaler",
        "namespace": "kube-system",
    });
    let reader = "pilotage-external-metrics-reader";
    let role =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": reader });
    vec![
        bind(
            installation,
            "RoleBinding",
            placed("pilotage-operator-auth-reader", "kube-system"),
            ("Role", "extension-apiserver-authentication-reader"),
        ),
        Object::new(
            RBAC,
            "ClusterRole",
            about("pilotage-operator-registration"),
            json!({ "rules": [registration] }),
        ),
        bind(
            installation,
            "ClusterRoleBinding",
            about("pilotage-operator-registration"),
            ("ClusterRole", "pilotage-operator-registration"),
        ),
        Object::new(RBAC, "ClusterRole", about(reader), json!({ "rules": [read] })),
        Object::new(
            RBAC,
            "ClusterRoleBinding",
            about(reader),
            json!({ "roleRef": role, "subjects": [autoscaler] }),
        ),
    ]
}

/// Models that are downloaded are refused without a digest, whoever applies them.
pub(super) fn admission() -> [Object; 2] {
    let name = "pilotage-models-have-digests";
    let about = json!({ "name": name, "labels": labels::own("admission") });
    let spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [{
            "apiGroups": [GROUP],
            "apiVersions": [VERSION],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["models"],
        }] },
        "validations": [{
            "expression": "!has(object.spec.source) || object.spec.source.startsWith('file:') || has(object.spec.digest)",
            "message": "weights that are downloaded need a digest here; add `digest: sha256:…`",
            "reason": "Invalid",
        }],
    });
    let binding = json!({ "policyName": name, "validationActions": ["Deny"] });
    let version = "admissionregistration.k8s.io/v1";
    [
        Object::new(version, "ValidatingAdmissionPolicy", about.clone(), json!({ "spec": spec })),
        Object::new(version, "ValidatingAdmissionPolicyBinding", about, json!({ "spec": binding })),
    ]
}
