//! An object as watches hear of it: JSON, without what nobody here looks at.
//!
//! Lists of thousands of objects are read at once when an operator starts, so that what is not kept is skipped
//! while it is read: who wrote which field is often the longer half of an object.

use std::borrow::Cow;
use std::fmt;

use kube::Resource;
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An object of whatever kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// What a watch has to know of it: its name, and its version.
    metadata: ObjectMeta,
    /// All of it but its `managedFields`.
    pub(super) value: Value,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::Object(deserializer.deserialize_map(Whole)?);
        let text = |name: &str| value["metadata"][name].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, value })
    }
}

/// Reads an object.
struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = all.next_key::<String>()? {
            let value = match name.as_str() {
                "metadata" => Value::Object(all.next_value::<Metadata>()?.0),
                _ => all.next_value()?,
            };
            fields.insert(name, value);
        }
        Ok(fields)
    }
}

/// The metadata of an object.
struct Metadata(Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the metadata of an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let mut fields = Map::new();
                while let Some(name) = all.next_key::<String>()? {
                    if name == "managedFields" {
                        all.next_value::<IgnoredAny>()?;
                    } else {
                        fields.insert(name, all.next_value()?);
                    }
                }
                Ok(Metadata(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(of)
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(of)
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(of)
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_looks_at_is_skipped() {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"nodeName": "x"}, "status": null,
        });
        let wanted = object.clone();
        object["metadata"]["managedFields"] = json!([{"manager": "m", "fieldsV1": {"f:spec": {}}}]);
        let read: Object = serde_json::from_value(object).unwrap();
        assert_eq!(read.value, wanted);
        let of = read.meta();
        let [name, namespace, version] =
            [&of.name, &of.namespace, &of.resource_version].map(|text| text.as_deref().unwrap());
        assert_eq!((name, namespace, version), ("p", "n", "7"));
    }
}
