//! Objects as templates of the chart.
//!
//! They are rendered with marks in the place of values, and the marks in the YAML become expressions. What is there
//! only sometimes is rendered with it and put into a condition. A place that is looked for and is not there is a
//! mistake of ours, and stops the rendering: a chart that lacks it would install something else than it was told.

use std::fmt::Write as _;

use serde_json::json;

use super::super::install::{self, ADMIN_SECRET, Installation, Scope, UsageDatabase};
use super::super::{Cluster, Installed, Mesh, Object, Platform, labels, mesh, yaml};
use super::values::PARTS;

/// Marks, and what they become. Numbers are marked by numbers that nothing else has.
const MARKS: [(&str, &str); 4] = [
    ("pilotage-namespace-mark", "{{ .Release.Namespace | quote }}"),
    ("pilotage-image-mark", "{{ .Values.image | quote }}"),
    ("918273001", "{{ int .Values.gateway.replicas.min }}"),
    ("918273002", "{{ int .Values.gateway.replicas.max }}"),
];

/// The mark of a secret that images are pulled with.
const PULL_MARK: &str = "pilotage-pull-mark";

/// The port that marks those of the API server.
const API_MARK: u16 = 64_321;

/// The marks of the Secret that names the database of usage, and of its entry.
const DATABASE_MARKS: (&str, &str) = ("pilotage-usage-mark", "pilotage-entry-mark");

/// The port that marks that database's.
const DATABASE_PORT_MARK: u16 = 64_322;

/// Whether there is one.
const DATABASE: &str = ".Values.usageDatabase.secret";

/// The Secret with the key of listeners for operators: another one, or ours.
const ADMIN: &str = "{{ .Values.adminSecret | default \"pilotage-admin\" | quote }}";

/// An installation with marks for values, and with everything that can be there.
fn marked(scope: Scope) -> Installation {
    let cluster = Cluster {
        namespace: MARKS[0].0.to_owned(),
        system: MARKS[0].0.to_owned(),
        image: MARKS[1].0.to_owned(),
        has: Installed { vertical: true, monitors: true, ..Cluster::default().has },
        ..Cluster::default()
    };
    Installation {
        cluster,
        scope,
        gateways: (918_273_001, 918_273_002),
        external_metrics: scope == Scope::Cluster,
        requires_digest: scope == Scope::Cluster,
        balanced: false,
        pull_secrets: vec![PULL_MARK.to_owned()],
        api_ports: vec![API_MARK],
        usage_database: Some(UsageDatabase {
            secret: DATABASE_MARKS.0.to_owned(),
            entry: DATABASE_MARKS.1.to_owned(),
            port: DATABASE_PORT_MARK,
        }),
    }
}

/// The documents of a part: all of an installation for the cluster, and those of one for a namespace
/// where they differ.
pub(super) fn template(parts: &[&str]) -> String {
    let (whole, part) =
        (install::objects(&marked(Scope::Cluster)), install::objects(&marked(Scope::Namespace)));
    let is_access = |object: &Object| {
        object.api_version().starts_with("rbac.") || object.kind() == "ServiceAccount"
    };
    let belongs = |object: &&Object| {
        let component =
            object.value()["metadata"]["labels"]["app.kubernetes.io/component"].as_str();
        let by_kind = parts.contains(&object.kind());
        by_kind
            || (!is_access(object) && component.is_some_and(|component| parts.contains(&component)))
    };
    let mut out = String::new();
    for object in whole.iter().filter(belongs) {
        let condition = match part.contains(object) {
            true => condition(object).map(str::to_owned),
            false => Some(both(object)),
        };
        document(object, condition.as_deref(), &mut out);
    }
    for object in part.iter().filter(belongs).filter(|object| !whole.contains(object)) {
        document(object, Some("eq .Values.scope \"namespace\""), &mut out);
    }
    if parts == ["gateway"] {
        let about = json!({ "name": "pilotage-gateway", "namespace": MARKS[0].0, "labels": labels::own("gateway") });
        let once = mesh::once(Some(Mesh::Istio), about, 80);
        once.iter().for_each(|object| document(object, Some(&overlaid("istio")), &mut out));
    }
    out
}

/// The Secret with the key, made by chance and kept. One that somebody else made stays as it is.
pub(super) fn secret() -> String {
    let object = install::admin_secret(MARKS[0].0, "");
    let mut about = object["metadata"].clone();
    about["annotations"] = json!({ "helm.sh/resource-policy": "keep" });
    let head = json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": about });
    let head = yaml::document(&head).replace(MARKS[0].0, MARKS[0].1);
    format!(
        "{{{{- if not .Values.adminSecret }}}}\n\
         {{{{- $is := lookup \"v1\" \"Secret\" .Release.Namespace \"{ADMIN_SECRET}\" }}}}\n\
         {{{{- $of := dig \"metadata\" \"annotations\" \"meta.helm.sh/release-name\" \"\" $is }}}}\n\
         {{{{- if or (not $is) (eq $of .Release.Name) }}}}\n\
         ---\n{head}data:\n  key: {{{{ dig \"data\" \"key\" (randAlphaNum 64 | b64enc) $is | quote }}}}\n\
         {{{{- end }}}}\n{{{{- end }}}}\n"
    )
}

/// The condition that an overlay is among the values.
fn overlaid(name: &str) -> String {
    format!("has \"{name}\" .Values.overlays")
}

/// Whether an object is there, that an installation for one namespace does not have.
fn both(object: &Object) -> String {
    let whole = "eq .Values.scope \"cluster\"";
    condition(object).map_or_else(|| whole.to_owned(), |more| format!("and ({whole}) {more}"))
}

/// The value that an object depends on.
fn condition(object: &Object) -> Option<&'static str> {
    let name = object.name();
    let is_for_metrics = object.kind() == "APIService"
        || ["auth-delegator", "auth-reader", "registration", "metrics-reader"]
            .iter()
            .any(|part| name.ends_with(part));
    match object.kind() {
        "ServiceMonitor" => Some(".Values.monitors"),
        "VerticalPodAutoscaler" => Some(".Values.verticalPodAutoscaler"),
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => {
            Some(".Values.requireDigest")
        }
        _ if is_for_metrics => Some(".Values.externalMetrics"),
        _ => None,
    }
}

fn document(object: &Object, condition: Option<&str>, out: &mut String) {
    let mut text = adapted(object);
    for (mark, value) in MARKS {
        // What is a part of a text has no quotes of its own.
        let whole =
            [": ", "- "].map(|before| (format!("{before}{mark}\n"), format!("{before}{value}\n")));
        for (from, to) in whole {
            text = text.replace(&from, &to);
        }
        text = text.replace(mark, &value.replace(" | quote", ""));
    }
    out.push_str(&match condition {
        Some(condition) => format!("{{{{- if {condition} }}}}\n---\n{text}{{{{- end }}}}\n"),
        None => format!("---\n{text}"),
    });
}

/// What follows from values that objects have parts for.
fn adapted(object: &Object) -> String {
    let text = object.to_yaml();
    let part = PARTS.into_iter().find(|part| object.name() == format!("pilotage-{part}"));
    match (object.kind(), part) {
        ("Deployment", Some(part)) => deployment(&text, part),
        ("NetworkPolicy", Some(_)) => policy(&text),
        ("Service", Some("gateway")) => clients(&text),
        ("Service", Some("operator")) => for_metrics(&text, SERVICE_PORT),
        ("ServiceMonitor", Some(part)) => monitor(&text, part),
        _ => text,
    }
}

/// Replaces text that is there.
fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the chart has no place for `{to}`: `{from}` is not in\n{text}");
    text.replace(from, to)
}

/// Puts text that is there into a condition.
fn only(text: &str, condition: &str, part: &str) -> String {
    swap(text, part, &format!("{{{{- if {condition} }}}}\n{part}{{{{- end }}}}\n"))
}

const SERVICE_PORT: &str = "  - name: metrics-api\n    port: 443\n    targetPort: metrics-api\n    protocol: TCP\n    appProtocol: https\n";
const CONTAINER_PORT: &str =
    "        - name: metrics-api\n          containerPort: 6443\n          protocol: TCP\n";
const ARGUMENTS: &str = "        - \"--metrics-api-listen\"\n        - \"0.0.0.0:6443\"\n";
const INGRESS: &str = "  - ports:\n    - port: metrics-api\n      protocol: TCP\n";

/// What is there for external metrics alone. One for a namespace has none of it.
fn for_metrics(text: &str, part: &str) -> String {
    if text.contains("metrics-api") {
        only(text, ".Values.externalMetrics", part)
    } else {
        text.to_owned()
    }
}

/// A value of a part, below a field of a pod's `spec`.
fn field(part: &str, name: &str) -> String {
    format!(
        "      {{{{- with .Values.{part}.{name} }}}}\n      {name}:\n        {{{{- toYaml . | nindent 8 }}}}\n      {{{{- end }}}}\n"
    )
}

fn deployment(text: &str, part: &str) -> String {
    let users = "        runAsUser: 10001\n        runAsGroup: 10001\n        fsGroup: 10001\n        fsGroupChangePolicy: OnRootMismatch\n";
    let mut out = only(text, &format!("not ({})", overlaid("openshift")), users);
    let secrets = format!("      imagePullSecrets:\n      - name: {PULL_MARK}\n");
    let theirs = "      {{- with .Values.imagePullSecrets }}\n      imagePullSecrets:\n        {{- toYaml . | nindent 8 }}\n      {{- end }}\n";
    out = swap(&out, &secrets, theirs);
    out = swap(&out, &format!("name: {ADMIN_SECRET}\n"), &format!("name: {ADMIN}\n"));
    let own = "        app.kubernetes.io/managed-by: pilotage\n    spec:\n";
    out = swap(&out, own, &meshed(part));
    let class = format!(
        "      {{{{- with .Values.{part}.priorityClassName }}}}\n      priorityClassName: {{{{ . | quote }}}}\n      {{{{- end }}}}\n"
    );
    let places = ["nodeSelector", "tolerations", "affinity"].map(|name| field(part, name));
    out = swap(
        &out,
        "      containers:\n",
        &format!("{class}{}      containers:\n", places.concat()),
    );
    let (before, rest) = out.split_once("        resources:\n").unwrap_or_default();
    let (_, after) = rest.split_once("        securityContext:\n").unwrap_or_default();
    assert!(!after.is_empty(), "the chart has no place for the resources of {part}:\n{text}");
    out = format!(
        "{before}        resources:\n          {{{{- toYaml .Values.{part}.resources | nindent 10 }}}}\n        securityContext:\n{after}"
    );
    if part == "operator" { operator(&out) } else { ledger(&out) }
}

/// The variables of a database of usage, where there is one.
fn ledger(text: &str) -> String {
    let (secret, entry) = DATABASE_MARKS;
    let fleet = MARKS[0].0;
    let block = format!(
        "        - name: DATABASE_URL\n          valueFrom:\n            secretKeyRef:\n              name: {secret}\n              \
         key: {entry}\n        - name: PILOTAGE_USAGE_FLEET\n          value: {fleet}\n"
    );
    let out = only(text, DATABASE, &block);
    let out = swap(&out, secret, "{{ .Values.usageDatabase.secret | quote }}");
    swap(&out, entry, "{{ .Values.usageDatabase.entry | quote }}")
}

/// The operator makes objects of Models for the same cluster.
fn operator(text: &str) -> String {
    let image = format!("        - \"--image\"\n        - {}\n", MARKS[1].0);
    let more = "        {{- range .Values.overlays }}\n        - \"--overlay\"\n        - {{ . | quote }}\n        {{- end }}\n        {{- range $key, $value := .Values.monitorLabels }}\n        - \"--monitor-label\"\n        - {{ printf \"%s=%s\" $key $value | quote }}\n        {{- end }}\n";
    let out = swap(text, &image, &format!("{image}{more}"));
    for_metrics(&for_metrics(&out, ARGUMENTS), CONTAINER_PORT)
}

/// The end of a pod's metadata: what a mesh wants there, and what somebody else does.
fn meshed(part: &str) -> String {
    let mut labels = String::new();
    let mut annotations = String::new();
    for mesh in Mesh::ALL {
        let open = format!("        {{{{- if {} }}}}\n", overlaid(mesh.name()));
        let block = |out: &mut String, pairs: Vec<(String, String)>| {
            if pairs.is_empty() {
                return;
            }
            out.push_str(&open);
            for (key, value) in pairs {
                // Writing to a text does not fail.
                let _ = writeln!(out, "        {key}: {}", json!(value));
            }
            out.push_str("        {{- end }}\n");
        };
        let pairs = mesh.pod_labels().iter();
        block(&mut labels, pairs.map(|(key, value)| ((*key).into(), (*value).into())).collect());
        block(&mut annotations, mesh.part_annotations(install::past(part)));
    }
    let any = Mesh::ALL.map(|mesh| format!("({})", overlaid(mesh.name()))).join(" ");
    format!(
        "        app.kubernetes.io/managed-by: pilotage\n{labels}      {{{{- if or .Values.{part}.podAnnotations {any} }}}}\n      annotations:\n{annotations}        {{{{- with .Values.{part}.podAnnotations }}}}\n        {{{{- toYaml . | nindent 8 }}}}\n        {{{{- end }}}}\n      {{{{- end }}}}\n    spec:\n"
    )
}

fn policy(text: &str) -> String {
    let names = "    - port: 53\n      protocol: TCP\n";
    let lookups = |name: &str, rest: &str| {
        format!("{{{{- if {} }}}}\n{rest}{{{{- end }}}}\n", overlaid(name))
    };
    let mut more = String::new();
    for platform in Platform::ALL {
        let Some(port) = platform.row().dns else { continue };
        let tcp = names.replace("53", &port.to_string());
        more.push_str(&lookups(platform.name(), &format!("{}{tcp}", tcp.replace("TCP", "UDP"))));
    }
    for mesh in Mesh::ALL {
        let item = yaml::document(&json!([mesh.control_plane()]));
        let item: String = item.lines().map(|line| format!("  {line}\n")).collect();
        more.push_str(&lookups(mesh.name(), &item));
    }
    let database = format!("  - ports:\n    - port: {DATABASE_PORT_MARK}\n      protocol: TCP\n");
    let out = match text.contains(&database) {
        true => only(text, DATABASE, &database),
        false => text.to_owned(),
    };
    let value = "{{ int .Values.usageDatabase.port }}";
    let out = out.replace(&DATABASE_PORT_MARK.to_string(), value);
    let out = swap(&out, names, &format!("{names}{more}"));
    let ports = format!("    - port: {API_MARK}\n      protocol: TCP\n");
    let theirs = "    {{- range .Values.apiServerPorts }}\n    - port: {{ int . }}\n      protocol: TCP\n    {{- end }}\n";
    for_metrics(&swap(&out, &ports, theirs), INGRESS)
}

/// The Service of clients has its type and its annotations from the values, or those of the platform's balancers.
fn clients(text: &str) -> String {
    let mut theirs = "  {{- if .Values.gateway.service.annotations }}\n  annotations:\n    {{- toYaml .Values.gateway.service.annotations | nindent 4 }}\n".to_owned();
    for platform in Platform::ALL {
        let row = platform.row();
        if row.balancer.is_empty() {
            continue;
        }
        // Writing to a text does not fail.
        let _ = writeln!(
            theirs,
            "  {{{{- else if and ({}) (eq .Values.gateway.service.type \"LoadBalancer\") }}}}\n  annotations:",
            overlaid(platform.name())
        );
        for (key, value) in row.balancer {
            let _ = writeln!(theirs, "    {key}: {}", json!(value));
        }
    }
    theirs.push_str("  {{- end }}\nspec:\n");
    let out = swap(text, "\nspec:\n", &format!("\n{theirs}"));
    swap(&out, "type: ClusterIP", "type: {{ .Values.gateway.service.type }}")
}

fn monitor(text: &str, part: &str) -> String {
    let own = "    app.kubernetes.io/managed-by: pilotage\nspec:\n";
    let theirs = "    app.kubernetes.io/managed-by: pilotage\n    {{- with .Values.monitorLabels }}\n    {{- toYaml . | nindent 4 }}\n    {{- end }}\nspec:\n";
    let out = swap(text, own, theirs);
    match part {
        "gateway" => swap(&out, &format!("name: {ADMIN_SECRET}\n"), &format!("name: {ADMIN}\n")),
        _ => out,
    }
}
