//! What the specification of pods must be like, alone or as the template of a workload.
//!
//! The rules that renderers of pods meet; not all of a server's.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::names::{self, Why};
use super::quantity::Quantity;
use crate::api::failure::Cause;

/// What is wrong with the specification at `path`. `restarts` are the restart policies that its owner
/// allows.
pub(super) fn pod(spec: &Value, path: &str, restarts: &[&str]) -> Vec<Cause> {
    let mut look = Look { causes: Vec::new() };
    look.one_of(spec, path, "restartPolicy", restarts);
    look.one_of(
        spec,
        path,
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    );
    let volumes = look.volumes(spec, path);
    let mut seen = BTreeSet::new();
    if list(spec, "containers").is_empty() {
        look.causes.push(Cause::required(format!("{path}.containers")));
    }
    for kind in ["initContainers", "containers"] {
        for (at, container) in list(spec, kind).iter().enumerate() {
            let path = format!("{path}.{kind}[{at}]");
            look.container(container, &path, &volumes);
            let name = text(container, "name");
            if !name.is_empty() && !seen.insert(name) {
                look.duplicate(format!("{path}.name"), name);
            }
        }
    }
    for (at, toleration) in list(spec, "tolerations").iter().enumerate() {
        look.toleration(toleration, &format!("{path}.tolerations[{at}]"));
    }
    for (at, spread) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        look.spread(spread, &format!("{path}.topologySpreadConstraints[{at}]"));
    }
    let selector = spec.get("nodeSelector");
    super::meta::labels(selector, &format!("{path}.nodeSelector"), &mut look.causes);
    look.causes
}

struct Look {
    causes: Vec<Cause>,
}

impl Look {
    /// The names of all volumes.
    fn volumes<'a>(&mut self, spec: &'a Value, path: &str) -> BTreeSet<&'a str> {
        let mut all = BTreeSet::new();
        for (at, volume) in list(spec, "volumes").iter().enumerate() {
            let path = format!("{path}.volumes[{at}]");
            let name = text(volume, "name");
            self.named(name, &format!("{path}.name"), names::label);
            if !name.is_empty() && !all.insert(name) {
                self.duplicate(format!("{path}.name"), name);
            }
            let sources = volume.as_object().map_or(0, Map::len).saturating_sub(1);
            if sources == 0 {
                let message = "Required value: must specify a volume type".to_owned();
                self.causes.push(Cause::of("FieldValueRequired", path, message));
            } else if sources > 1 {
                self.causes.push(Cause::forbidden(path, "may not specify more than 1 volume type"));
            }
        }
        all
    }

    fn container(&mut self, container: &Value, path: &str, volumes: &BTreeSet<&str>) {
        self.named(text(container, "name"), &format!("{path}.name"), names::label);
        if text(container, "image").is_empty() {
            self.causes.push(Cause::required(format!("{path}.image")));
        }
        self.ports(container, path);
        for (at, env) in list(container, "env").iter().enumerate() {
            let path = format!("{path}.env[{at}]");
            if text(env, "name").is_empty() {
                self.causes.push(Cause::required(format!("{path}.name")));
            }
            if env.get("valueFrom").is_some() && !text(env, "value").is_empty() {
                let why = "may not be specified when `value` is not empty";
                self.causes.push(Cause::invalid(
                    format!("{path}.valueFrom"),
                    &Value::from(""),
                    why,
                ));
            }
        }
        let mut paths = BTreeSet::new();
        for (at, mount) in list(container, "volumeMounts").iter().enumerate() {
            let path = format!("{path}.volumeMounts[{at}]");
            let name = text(mount, "name");
            if !volumes.contains(name) {
                let message = format!("Not found: {name:?}");
                self.causes.push(Cause::of("FieldValueNotFound", format!("{path}.name"), message));
            }
            let place = text(mount, "mountPath");
            if place.is_empty() {
                self.causes.push(Cause::required(format!("{path}.mountPath")));
            } else if !paths.insert(place) {
                let why = "must be unique";
                let field = format!("{path}.mountPath");
                self.causes.push(Cause::invalid(field, &Value::from(place), why));
            }
        }
        self.resources(container.get("resources"), &format!("{path}.resources"));
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if let Some(probe) = container.get(name) {
                self.probe(probe, &format!("{path}.{name}"), name != "readinessProbe");
            }
        }
        let pulls = ["Always", "Never", "IfNotPresent"];
        self.one_of(container, path, "imagePullPolicy", &pulls);
    }

    fn ports(&mut self, container: &Value, path: &str) {
        let mut seen = BTreeSet::new();
        for (at, port) in list(container, "ports").iter().enumerate() {
            let path = format!("{path}.ports[{at}]");
            let name = text(port, "name");
            if !name.is_empty() {
                self.named(name, &format!("{path}.name"), names::port);
                if !seen.insert(name) {
                    self.duplicate(format!("{path}.name"), name);
                }
            }
            self.port(port, &path, "containerPort");
            self.one_of(port, &path, "protocol", &["SCTP", "TCP", "UDP"]);
        }
    }

    fn port(&mut self, of: &Value, path: &str, field: &str) {
        let number = of.get(field).cloned().unwrap_or_default();
        if number.as_u64().is_none_or(|number| !(1..=65535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            self.causes.push(Cause::invalid(format!("{path}.{field}"), &number, why));
        }
    }

    fn resources(&mut self, resources: Option<&Value>, path: &str) {
        let amounts = |of: &str| {
            let all = resources.and_then(|all| all.get(of)?.as_object());
            let all = all.into_iter().flatten();
            all.filter_map(|(name, value)| Some((name.as_str(), Quantity::parse(value.as_str()?)?)))
        };
        for of in ["limits", "requests"] {
            for (name, amount) in amounts(of) {
                let shown = Value::from(amount.to_string());
                let field = format!("{path}.{of}[{name}]");
                if amount.is_negative() {
                    let why = "must be greater than or equal to 0";
                    self.causes.push(Cause::invalid(&*field, &shown, why));
                }
                if name.contains('/') && !amount.is_whole() {
                    self.causes.push(Cause::invalid(field, &shown, "must be an integer"));
                }
            }
        }
        for (name, request) in amounts("requests") {
            let limit = amounts("limits").find(|(one, _)| *one == name).map(|(_, limit)| limit);
            let shown = Value::from(request.to_string());
            let field = format!("{path}.requests[{name}]");
            match limit {
                Some(limit) if request.exceeds(limit) => {
                    let why = format!("must be less than or equal to {name} limit of {limit}");
                    self.causes.push(Cause::invalid(field, &shown, &why));
                }
                Some(limit) if name.contains('/') && limit.exceeds(request) => {
                    let why = format!("must be equal to {name} limit of {limit}");
                    self.causes.push(Cause::invalid(field, &shown, &why));
                }
                None if name.contains('/') => {
                    let message =
                        "Required value: Limit must be set for non overcommitable resources";
                    let field = format!("{path}.limits");
                    self.causes.push(Cause::of("FieldValueRequired", field, message.to_owned()));
                }
                _ => {}
            }
        }
    }

    fn probe(&mut self, probe: &Value, path: &str, succeeds_once: bool) {
        let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
        let count = handlers.iter().filter(|name| probe.get(**name).is_some()).count();
        if count == 0 {
            let message = "Required value: must specify a handler type".to_owned();
            self.causes.push(Cause::of("FieldValueRequired", path, message));
        } else if count > 1 {
            let why = "may not specify more than 1 handler type";
            self.causes.push(Cause::forbidden(path, why));
        }
        let successes = probe.get("successThreshold").and_then(Value::as_u64).unwrap_or(1);
        if succeeds_once && successes != 1 {
            let field = format!("{path}.successThreshold");
            self.causes.push(Cause::invalid(field, &Value::from(successes), "must be 1"));
        }
    }

    fn toleration(&mut self, toleration: &Value, path: &str) {
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        self.one_of(toleration, path, "operator", &["Equal", "Exists"]);
        self.one_of(toleration, path, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if key.is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            let field = format!("{path}.operator");
            self.causes.push(Cause::invalid(field, &Value::from(operator), why));
        }
        if operator == "Exists" && !text(toleration, "value").is_empty() {
            let why = "value must be empty when `operator` is 'Exists'";
            let field = format!("{path}.operator");
            self.causes.push(Cause::invalid(field, &Value::from(operator), why));
        }
    }

    fn spread(&mut self, spread: &Value, path: &str) {
        if spread.get("maxSkew").and_then(Value::as_u64).unwrap_or_default() == 0 {
            let why = "must be greater than zero";
            self.causes.push(Cause::invalid(format!("{path}.maxSkew"), &Value::from(0), why));
        }
        if text(spread, "topologyKey").is_empty() {
            let message = "Required value: can not be empty".to_owned();
            let field = format!("{path}.topologyKey");
            self.causes.push(Cause::of("FieldValueRequired", field, message));
        }
        if spread.get("whenUnsatisfiable").is_none() {
            self.causes.push(Cause::required(format!("{path}.whenUnsatisfiable")));
        }
        self.one_of(spread, path, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]);
    }

    fn named(&mut self, name: &str, path: &str, form: fn(&str) -> Why) {
        if name.is_empty() {
            self.causes.push(Cause::required(path));
        } else if let Some(why) = form(name) {
            self.causes.push(Cause::invalid(path, &Value::from(name), why));
        }
    }

    fn one_of(&mut self, of: &Value, path: &str, field: &str, all: &[&str]) {
        let said = text(of, field);
        if !said.is_empty() && !all.contains(&said) {
            self.causes.push(unsupported(format!("{path}.{field}"), said, all));
        }
    }

    fn duplicate(&mut self, field: String, value: &str) {
        let message = format!("Duplicate value: {value:?}");
        self.causes.push(Cause::of("FieldValueDuplicate", field, message));
    }
}

/// A word that is none of those that may be.
pub(super) fn unsupported(field: String, said: &str, all: &[&str]) -> Cause {
    let all: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
    let message = format!("Unsupported value: {said:?}: supported values: {}", all.join(", "));
    Cause::of("FieldValueNotSupported", field, message)
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
