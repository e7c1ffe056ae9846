//! Strategic merge patches: lists with keys merge entry by entry, and directives say what goes.
//!
//! The first of a list's keys is taken to be its merge key, as it is in nearly all kinds.
//! `$setElementOrder` is read over: entries keep their places.

use serde_json::{Map, Value};

use crate::shape::{Merge, Node, NodeId, Types};

/// Patches `target`, which has the type `at`.
pub(crate) fn strategic(
    types: &Types,
    at: NodeId,
    target: &mut Value,
    patch: Value,
) -> Result<(), String> {
    let Value::Object(mut patch) = patch else {
        *target = patch;
        return Ok(());
    };
    if let Some(directive) = patch.shift_remove("$patch") {
        match directive.as_str() {
            Some("replace") => {
                *target = Value::Object(patch);
                return Ok(());
            }
            Some("delete") => {
                *target = Value::Object(Map::new());
                return Ok(());
            }
            Some("merge") => {}
            _ => return Err(format!("unknown patch type found: {directive}")),
        }
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return Ok(()) };
    if let Some(Value::Array(keep)) = patch.shift_remove("$retainKeys") {
        fields.retain(|name, _| keep.iter().any(|kept| kept.as_str() == Some(name)));
    }
    let node = types.node(at);
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            delete(fields, list, &value);
        } else if name.starts_with("$setElementOrder/") {
        } else if value.is_null() {
            fields.shift_remove(&name);
        } else {
            let of = types.field(node, &name);
            let place = fields.entry(name).or_insert(Value::Null);
            field(types, of, place, value)?;
        }
    }
    Ok(())
}

fn delete(fields: &mut Map<String, Value>, list: &str, gone: &Value) {
    if let (Some(Value::Array(items)), Some(gone)) = (fields.get_mut(list), gone.as_array()) {
        items.retain(|item| !gone.contains(item));
    }
}

fn field(types: &Types, at: NodeId, place: &mut Value, value: Value) -> Result<(), String> {
    let node = types.node(at);
    match (&node.merge, value) {
        (Merge::Keys(keys), Value::Array(patch)) => {
            let Some(key) = keys.first() else { return Ok(()) };
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            let Value::Array(items) = place else { return Ok(()) };
            entries(types, (node, key), items, patch)
        }
        (Merge::Set, Value::Array(patch)) => {
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            if let Value::Array(items) = place {
                for item in patch {
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
            }
            Ok(())
        }
        (_, value @ Value::Object(_)) => strategic(types, at, place, value),
        (_, value) => {
            *place = value;
            Ok(())
        }
    }
}

fn entries(
    types: &Types,
    (node, key): (&Node, &str),
    items: &mut Vec<Value>,
    patch: Vec<Value>,
) -> Result<(), String> {
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        let kept = patch.into_iter().filter(|item| directive(item).is_none());
        *items = kept.collect();
        return Ok(());
    }
    for item in patch {
        let Some(id) = item.get(key).cloned() else {
            return Err(format!("map: {item} does not contain declared merge key: {key}"));
        };
        let at = items.iter().position(|known| known.get(key) == Some(&id));
        match (at, directive(&item).as_deref()) {
            (Some(at), Some("delete")) => {
                items.remove(at);
            }
            (None, Some("delete")) => {}
            (Some(at), _) => strategic(types, node.item, &mut items[at], item)?,
            (None, _) => {
                items.push(Value::Null);
                if let Some(place) = items.last_mut() {
                    strategic(types, node.item, place, item)?;
                }
            }
        }
    }
    Ok(())
}
