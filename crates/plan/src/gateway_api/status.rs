//! Verdicts: what the status of GatewayClasses, Gateways, HTTPRoutes and InferencePools has to say, where it
//! says something else.
//!
//! Contract: what other controllers say stays as it is and where it is; what is said already is not said
//! again; since when something holds changes only when it does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::attach::{Parent, gateway_named, valid};
use super::catalogue::Catalogue;
use super::conditions::About;
use super::translate::{list, pools};
use super::{CONTROLLER, GATEWAY_GROUP, POOL_GROUP, Place, Pool, Verdict, translate};
use crate::api::Kind;
use crate::cluster::Admission;
use crate::cluster::admit::Reason;

/// A status to write, where the object is still of that version.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// `GROUP/VERSION`.
    pub api_version: String,
    /// The kind's plural.
    pub plural: &'static str,
    /// Its namespace; empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The version of the object that was seen.
    pub resource_version: String,
    /// What is merged into its status.
    pub status: Value,
}

/// What is said of a route: whether it is accepted, and whether all that it names is there.
struct Said {
    accepted: Result<(), Verdict>,
    resolved: Result<(), Verdict>,
}

impl Catalogue {
    /// The statuses that differ from what there is to say, by what counts among our resources
    /// ([`Self::seen`] included). `now` is the time of day as the API server writes it.
    pub fn verdicts(&self, admission: &Admission, now: &str) -> Vec<Write> {
        let mut attached: BTreeMap<(Place, usize), u32> = BTreeMap::new();
        let mut led: BTreeMap<Place, BTreeMap<Place, bool>> = BTreeMap::new();
        let mut writes = Vec::new();
        for route in self.routes.values() {
            let parents = self.parents(route);
            let said = self.said(route, admission);
            for parent in &parents {
                let Ok(listeners) = &parent.listeners else { continue };
                if said.accepted.is_ok() {
                    for at in listeners {
                        *attached.entry((parent.place.clone(), *at)).or_default() += 1;
                    }
                }
                let namespace = route["metadata"]["namespace"].as_str().unwrap_or_default();
                for pool in pools(route) {
                    let of = led.entry((namespace.to_owned(), pool.to_owned())).or_default();
                    *of.entry(parent.place.clone()).or_default() |= said.accepted.is_ok();
                }
            }
            let status = self.route_status(route, &parents, &said, now);
            writes.extend(differs(route, "httproutes", status));
        }
        for class in self.classes.values().filter(|one| one["spec"]["controllerName"] == CONTROLLER)
        {
            writes.extend(differs(class, "gatewayclasses", class_status(class, now)));
        }
        for (place, gateway) in self.gateways.iter().filter(|(_, one)| self.is_own(one)) {
            let count = |at| attached.get(&(place.clone(), at)).copied().unwrap_or_default();
            let status = gateway_status(gateway, self.services.values().next(), count, now);
            writes.extend(differs(gateway, "gateways", status));
        }
        for (place, pool) in &self.pools {
            let led = led.remove(place).unwrap_or_default();
            writes.extend(differs(pool, "inferencepools", self.pool_status(pool, &led, now)));
        }
        writes
    }

    fn said(&self, route: &Value, admission: &Admission) -> Said {
        let metadata = &route["metadata"];
        let is_it = |kind: Kind, namespace: &str, name: &str| {
            kind == Kind::Route && metadata["namespace"] == namespace && metadata["name"] == name
        };
        let fine = |verdict: Verdict| match verdict.reason {
            "InvalidKind" | "RefNotPermitted" => Said { accepted: Ok(()), resolved: Err(verdict) },
            _ => Said { accepted: Err(verdict), resolved: Ok(()) },
        };
        if let Err(verdict) = translate(route) {
            return fine(verdict);
        }
        let refused = admission.refused.iter().find(|one| {
            is_it(one.identity.kind, &one.identity.namespace, &one.identity.name)
                && metadata["uid"] == one.identity.uid.as_str()
        });
        let Some(refused) = refused else { return Said { accepted: Ok(()), resolved: Ok(()) } };
        let (reason, message) = (refused.refusal.reason, refused.refusal.message.clone());
        match reason {
            Reason::ReferenceMissing | Reason::ReferenceRefused => {
                Said { accepted: Ok(()), resolved: Err(Verdict::new("BackendNotFound", message)) }
            }
            other => fine(Verdict::new(other.name(), message)),
        }
    }

    fn route_status(&self, route: &Value, parents: &[Parent<'_>], said: &Said, now: &str) -> Value {
        let about = About::of(route, now);
        let before = list(route, "/status/parents");
        let is_own = |entry: &Value| entry["controllerName"] == CONTROLLER;
        let entry = |parent: &Parent<'_>| {
            let old = before.iter().find(|one| is_own(one) && one["parentRef"] == *parent.named);
            let old = old.map_or(&Value::Null, |old| &old["conditions"]);
            let accepted = match (&parent.listeners, &said.accepted) {
                (Err(verdict), _) | (_, Err(verdict)) => Err(verdict),
                _ => Ok(("Accepted", "requests are sent as it says")),
            };
            let resolved = said
                .resolved
                .as_ref()
                .map_or_else(Err, |()| Ok(("ResolvedRefs", "all that it leads to is there")));
            json!({
                "parentRef": parent.named,
                "controllerName": CONTROLLER,
                "conditions": [
                    about.condition(old, "Accepted", accepted),
                    about.condition(old, "ResolvedRefs", resolved),
                ],
            })
        };
        let wanted: Vec<Value> = parents.iter().map(entry).collect();
        json!({ "parents": merged(before, &wanted, is_own) })
    }

    fn pool_status(&self, pool: &Value, led: &BTreeMap<Place, bool>, now: &str) -> Value {
        let about = About::of(pool, now);
        let own = pool["metadata"]["namespace"].as_str().unwrap_or_default();
        let before = list(pool, "/status/parents");
        let place = |entry: &Value| gateway_named(&entry["parentRef"], own);
        // Older definitions have no room for the name of a controller: whose Gateway it is says it, too.
        let is_own = |entry: &Value| match entry["controllerName"].as_str() {
            Some(name) => name == CONTROLLER,
            None => place(entry)
                .and_then(|place| self.gateways.get(&place))
                .is_some_and(|gateway| self.is_own(gateway)),
        };
        let read = Pool::read(pool).err();
        let wanted = led.iter().map(|(at, is_accepted)| {
            let old = before.iter().find(|one| is_own(one) && place(one).as_ref() == Some(at));
            let conditions = old.map_or(&Value::Null, |old| &old["conditions"]);
            let why = read.clone().or_else(|| (!is_accepted).then(not_accepted));
            let accepted = why.as_ref().map_or(Ok(("Accepted", "its pods get requests")), Err);
            let resolved = Ok(("ResolvedRefs", "requests are divided by the gateways themselves"));
            let mut entry = json!({
                "parentRef": { "group": GATEWAY_GROUP, "kind": "Gateway", "namespace": at.0, "name": at.1 },
                "controllerName": CONTROLLER,
                "conditions": [
                    about.condition(conditions, "Accepted", accepted),
                    about.condition(conditions, "ResolvedRefs", resolved),
                ],
            });
            if old.is_some_and(|old| old["controllerName"].is_null()) {
                entry.as_object_mut().map(|entry| entry.remove("controllerName"));
            }
            entry
        });
        let wanted: Vec<Value> = wanted.collect();
        json!({ "parents": merged(before, &wanted, is_own) })
    }
}

fn not_accepted() -> Verdict {
    let what = "the HTTPRoute that leads here is refused; its status says why";
    Verdict::new("HTTPRouteNotAccepted", what)
}

/// A list of what parents say with our part of it as it is to be, each at its place; new ones come last.
fn merged(before: &[Value], wanted: &[Value], is_own: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut left: BTreeSet<usize> = (0..wanted.len()).collect();
    let mut all = Vec::new();
    for entry in before {
        if !is_own(entry) {
            all.push(entry.clone());
            continue;
        }
        let at = left
            .iter()
            .copied()
            .find(|at| wanted.get(*at).is_some_and(|one| one["parentRef"] == entry["parentRef"]));
        if let Some(at) = at {
            left.remove(&at);
            all.extend(wanted.get(at).cloned());
        }
    }
    all.extend(left.into_iter().filter_map(|at| wanted.get(at).cloned()));
    all
}

fn class_status(class: &Value, now: &str) -> Value {
    let said = Ok(("Accepted", "Gateways of this class are served by Pilotage"));
    let before = &class["status"]["conditions"];
    json!({ "conditions": [About::of(class, now).condition(before, "Accepted", said)] })
}

fn gateway_status(
    gateway: &Value,
    service: Option<&Value>,
    attached: impl Fn(usize) -> u32,
    now: &str,
) -> Value {
    let about = About::of(gateway, now);
    let ports = service.map(|service| -> Vec<u64> {
        list(service, "/spec/ports").iter().filter_map(|port| port["port"].as_u64()).collect()
    });
    let addresses = service.map(addresses).unwrap_or_default();
    let before = list(gateway, "/status/listeners");
    let listeners = list(gateway, "/spec/listeners");
    let verdicts: Vec<_> = listeners.iter().map(|one| valid(one, ports.as_deref())).collect();
    let told = listeners.iter().zip(&verdicts).enumerate().map(|(at, (listener, verdict))| {
        let old = before.iter().find(|one| one["name"] == listener["name"]);
        let old = old.map_or(&Value::Null, |old| &old["conditions"]);
        listener_status(&about, old, (listener, verdict), attached(at))
    });
    let told: Vec<Value> = told.collect();
    let wrong = verdicts.iter().find_map(|verdict| verdict.as_ref().err());
    let none = wrong.filter(|_| verdicts.iter().all(Result::is_err));
    let accepted = none.map(|wrong| Verdict::new("ListenersNotValid", wrong.message.clone()));
    let reason = if wrong.is_some() { "ListenersNotValid" } else { "Accepted" };
    let programmed = match (&accepted, addresses.is_empty()) {
        (Some(_), _) => Some(Verdict::new("Invalid", "none of its listeners is accepted")),
        (None, true) => Some(Verdict::new("AddressNotAssigned", unaddressed(service))),
        (None, false) => None,
    };
    let old = &gateway["status"]["conditions"];
    let said = |verdict: &Option<Verdict>, kind: &str, reason: &str, what: &str| {
        about.condition(old, kind, verdict.as_ref().map_or(Ok((reason, what)), Err))
    };
    json!({
        "addresses": addresses,
        "conditions": [
            said(&accepted, "Accepted", reason, "the gateways know it"),
            said(&programmed, "Programmed", "Programmed", "the gateways serve it"),
        ],
        "listeners": told,
    })
}

fn listener_status(
    about: &About<'_>,
    before: &Value,
    (listener, verdict): (&Value, &Result<(), Verdict>),
    attached: u32,
) -> Value {
    let invalid = Verdict::new("Invalid", "the listener is not accepted");
    let fine = |reason| Ok((reason, "it is served"));
    let (accepted, programmed) = match verdict {
        Ok(()) => (fine("Accepted"), fine("Programmed")),
        Err(verdict) => (Err(verdict), Err(&invalid)),
    };
    let resolved = Ok(("ResolvedRefs", "it names nothing else"));
    json!({
        "name": listener["name"],
        "supportedKinds": [{ "group": GATEWAY_GROUP, "kind": "HTTPRoute" }],
        "attachedRoutes": attached,
        "conditions": [
            about.condition(before, "Accepted", accepted),
            about.condition(before, "Programmed", programmed),
            about.condition(before, "ResolvedRefs", resolved),
        ],
    })
}

const fn unaddressed(service: Option<&Value>) -> &'static str {
    match service {
        Some(_) => "the gateways' Service has no address yet",
        None => "there is no Service of gateways; `pilotage install` makes one",
    }
}

/// Where a Service is reached: from outside where it is to be, else within the cluster.
fn addresses(service: &Value) -> Vec<Value> {
    let address = |kind: &str, value: &Value| json!({ "type": kind, "value": value });
    if service["spec"]["type"] == "LoadBalancer" {
        let of = |one: &Value| match (&one["ip"], &one["hostname"]) {
            (Value::Null, Value::Null) => None,
            (Value::Null, host) => Some(address("Hostname", host)),
            (ip, _) => Some(address("IPAddress", ip)),
        };
        return list(service, "/status/loadBalancer/ingress").iter().filter_map(of).collect();
    }
    let own = &service["spec"]["clusterIP"];
    let is_one = own.as_str().is_some_and(|own| !own.is_empty() && own != "None");
    is_one.then(|| address("IPAddress", own)).into_iter().collect()
}

/// The status to write, where it differs from what is there. One that is to be empty, and of which nothing
/// is there, does not.
fn differs(object: &Value, plural: &'static str, status: Value) -> Option<Write> {
    let there = &object["status"];
    let is_said = |(name, value): (&String, &Value)| match (value, &there[name]) {
        (Value::Array(all), Value::Null) if all.is_empty() => true,
        (value, there) => value == there,
    };
    if !object["metadata"]["deletionTimestamp"].is_null()
        || status.as_object().into_iter().flatten().all(is_said)
    {
        return None;
    }
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let group = if plural == "inferencepools" { POOL_GROUP } else { GATEWAY_GROUP };
    Some(Write {
        api_version: format!("{group}/v1"),
        plural,
        namespace: text("namespace"),
        name: text("name"),
        resource_version: text("resourceVersion"),
        status,
    })
}
