//! Where requests go, as the endpoint picker protocol names it: in a header and in metadata.

use std::collections::BTreeMap;

use super::message::{Kind, Metadata, Struct, Value};

/// The header and the entry of metadata that name the replica, or several in their order.
pub const DESTINATION: &str = "x-gateway-destination-endpoint";

/// The entry of metadata that names the replica which answered.
pub const SERVED: &str = "x-gateway-destination-endpoint-served";

/// The entry of metadata that names the replicas to choose from.
pub const SUBSET: &str = "x-gateway-destination-endpoint-subset";

/// The namespace of those that are told.
const NAMESPACE: &str = "envoy.lb";

/// The namespace of those to choose from.
const HINT_NAMESPACE: &str = "envoy.lb.subset_hint";

/// Replicas of a hint that are read.
const SUBSET_MAX: usize = 4096;

/// The metadata that names the replica.
pub(super) fn destination(endpoint: &str) -> Struct {
    let text = Value { kind: Some(Kind::Text(endpoint.to_owned())) };
    let inner = Struct { fields: BTreeMap::from([(DESTINATION.to_owned(), text)]) };
    let inner = Value { kind: Some(Kind::Struct(inner)) };
    Struct { fields: BTreeMap::from([(NAMESPACE.to_owned(), inner)]) }
}

/// The replicas to choose from; none where any may be chosen. An entry that names nobody, in whatever
/// form, leaves nobody to choose.
pub(super) fn subset(metadata: Option<&Metadata>) -> Option<Vec<String>> {
    let entry = metadata?.filter_metadata.get(HINT_NAMESPACE)?.fields.get(SUBSET)?;
    let mut names = Vec::new();
    match &entry.kind {
        Some(Kind::Text(text)) => split(text, &mut names),
        Some(Kind::List(list)) => {
            for value in &list.values {
                if let Some(Kind::Text(text)) = &value.kind {
                    split(text, &mut names);
                }
            }
        }
        _ => {}
    }
    names.truncate(SUBSET_MAX);
    Some(names)
}

/// Proxies that copy a header send all of it as one text.
fn split(text: &str, names: &mut Vec<String>) {
    let all = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.extend(all.map(str::to_owned));
}

/// The replica that answered, where the proxy says so.
pub(super) fn served(metadata: Option<&Metadata>) -> Option<&str> {
    match &metadata?.filter_metadata.get(NAMESPACE)?.fields.get(SERVED)?.kind {
        Some(Kind::Text(text)) => Some(text),
        _ => None,
    }
}

/// Why a response is what it is, where the proxy was told to add it as an attribute.
pub(super) fn details(attributes: &BTreeMap<String, Struct>) -> Option<&str> {
    let told = attributes.values().find_map(|told| told.fields.get("response.code_details"))?;
    match &told.kind {
        Some(Kind::Text(text)) => Some(text),
        _ => None,
    }
}
