//! Where an object is at an API server: plurals follow from kinds, as all kinds that are installed keep to.

use serde_json::Value;

use crate::kubernetes::call::Path;

/// An object's place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) api_version: String,
    pub(super) plural: String,
    /// None for what belongs to the whole cluster.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    /// That of an object.
    pub(super) fn of(object: &Value) -> Self {
        let text = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self {
            api_version: text("/apiVersion"),
            plural: plural(&text("/kind")),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        }
    }

    /// One that is not rendered.
    pub(super) fn named((api_version, plural): (&str, &str), namespace: &str, name: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its group; none for those of the core.
    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn path(&self) -> Path<'_> {
        Path {
            api_version: &self.api_version,
            plural: &self.plural,
            namespace: &self.namespace,
            name: &self.name,
            part: "",
        }
    }
}

/// A kind in paths.
fn plural(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::plural;

    #[test]
    fn plurals_are_those_of_paths() {
        let check = |kind: &str, expect: &str| assert_eq!(plural(kind), expect);
        check("NetworkPolicy", "networkpolicies");
        check("Deployment", "deployments");
        check("APIService", "apiservices");
        check("GatewayClass", "gatewayclasses");
        check("CustomResourceDefinition", "customresourcedefinitions");
    }
}
