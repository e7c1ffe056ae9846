//! Which Gateways of ours an HTTPRoute is attached to, and at which of their listeners.

use serde_json::Value;

use super::translate::list;
use super::{GATEWAY_GROUP, Place, Verdict};

/// A Gateway of ours that a route names as its parent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parent<'a> {
    /// How the route names it.
    pub(super) named: &'a Value,
    /// Where it is.
    pub(super) place: Place,
    /// Places of the listeners that take it; or why none does.
    pub(super) listeners: Result<Vec<usize>, Verdict>,
}

/// The parents of a route among the Gateways that are found.
pub(super) fn parents<'a>(
    route: &'a Value,
    gateway: impl Fn(&Place) -> Option<&'a Value>,
) -> Vec<Parent<'a>> {
    let own = route["metadata"]["namespace"].as_str().unwrap_or_default();
    let parent = |named: &'a Value| {
        let place = gateway_named(named, own)?;
        let listeners = attach(named, own, gateway(&place)?);
        Some(Parent { named, place, listeners })
    };
    list(route, "/spec/parentRefs").iter().filter_map(parent).collect()
}

/// The Gateway that a reference names from within a namespace; none where it names something else.
pub(super) fn gateway_named(named: &Value, own: &str) -> Option<Place> {
    let is = |field: &str, usual: &str| named[field].as_str().unwrap_or(usual) == usual;
    if !is("group", GATEWAY_GROUP) || !is("kind", "Gateway") {
        return None;
    }
    let namespace = named["namespace"].as_str().filter(|one| !one.is_empty()).unwrap_or(own);
    Some((namespace.to_owned(), named["name"].as_str()?.to_owned()))
}

fn attach(named: &Value, own: &str, gateway: &Value) -> Result<Vec<usize>, Verdict> {
    let all = list(gateway, "/spec/listeners");
    let is_meant = |listener: &Value| {
        let of = |wanted: &Value, there: &Value| wanted.is_null() || wanted == there;
        of(&named["sectionName"], &listener["name"]) && of(&named["port"], &listener["port"])
    };
    let meant: Vec<(usize, &Value)> =
        all.iter().enumerate().filter(|(_, listener)| is_meant(listener)).collect();
    if meant.is_empty() {
        let what = "the Gateway has no such listener; name one of its listeners, or none";
        return Err(Verdict::new("NoMatchingParent", what));
    }
    let here = gateway["metadata"]["namespace"].as_str().unwrap_or_default();
    let (mut taken, mut why) = (Vec::new(), None);
    for (at, listener) in meant {
        let allowed = valid(listener, None).and_then(|()| allows(listener, own == here));
        match allowed {
            Ok(()) => taken.push(at),
            Err(verdict) => why = why.or(Some(verdict.message)),
        }
    }
    match why {
        Some(message) if taken.is_empty() => Err(Verdict::new("NotAllowedByListeners", message)),
        _ => Ok(taken),
    }
}

/// Whether a listener takes HTTPRoutes of the Gateway's own namespace, or of another.
fn allows(listener: &Value, is_same: bool) -> Result<(), Verdict> {
    let said = &listener["allowedRoutes"];
    let kinds = list(said, "kinds");
    let is_http = |kind: &Value| {
        kind["kind"] == "HTTPRoute"
            && kind["group"].as_str().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP
    };
    let refused = |what: &str| Err(Verdict::new("NotAllowedByListeners", what));
    if !kinds.is_empty() && !kinds.iter().any(is_http) {
        return refused("the listener takes no HTTPRoutes; add the kind to its `allowedRoutes`");
    }
    match said["namespaces"]["from"].as_str() {
        Some("All") => Ok(()),
        None | Some("Same") if is_same => Ok(()),
        None | Some("Same") => refused(
            "the listener takes routes of the Gateway's own namespace; say `from: All` there, or move the route",
        ),
        Some("Selector") => refused(
            "the listener selects namespaces by their labels, which are not looked at here; say `from: All` or `from: Same`",
        ),
        Some(_) => refused("the listener takes no routes"),
    }
}

/// Whether a listener can be what it says, where the gateways' Service has these ports; none where that is
/// not known.
pub(super) fn valid(listener: &Value, ports: Option<&[u64]>) -> Result<(), Verdict> {
    if listener["protocol"] != "HTTP" {
        return Err(Verdict::new(
            "UnsupportedProtocol",
            "connections are encrypted in front of the gateways or by their own `--tls-cert`; write the protocol `HTTP`",
        ));
    }
    if listener["hostname"].as_str().is_some_and(|host| !host.is_empty()) {
        let what = "requests are told apart by their model; leave `hostname` out";
        return Err(Verdict::new("UnsupportedValue", what));
    }
    let port = listener["port"].as_u64().unwrap_or_default();
    match ports {
        Some(ports) if !ports.contains(&port) => {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            let ports = ports.join(", ");
            let what = format!("the gateways' Service has the port {ports}; write that");
            Err(Verdict::new("PortUnavailable", what))
        }
        _ => Ok(()),
    }
}
