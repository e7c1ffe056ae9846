//! What a patch makes of an object: merge patches, patches of operations, and strategic ones.

mod operations;
mod strategic;

use serde_json::{Map, Value};

pub(crate) use operations::operations;
pub(crate) use strategic::strategic;

/// A JSON merge patch: null removes, maps merge, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.shift_remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Types, builtin};
    use serde_json::json;

    #[test]
    fn merge_patches_follow_the_standard() {
        let check = |target: Value, patch: Value, expect: Value| {
            let mut got = target;
            merge(&mut got, patch);
            assert_eq!(got, expect);
        };
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        );
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }

    #[test]
    fn operations_follow_the_standard() {
        let check = |target: Value, patch: Value, expect: Result<Value, &str>| {
            let mut got = target;
            let result = operations(&mut got, &patch);
            match expect {
                Ok(expect) => assert_eq!((result, got), (Ok(()), expect)),
                Err(part) => assert!(result.is_err_and(|what| what.contains(part)), "{part}"),
            }
        };
        let add = json!([{"op": "add", "path": "/a/1", "value": 9}]);
        check(json!({"a": [1, 2]}), add, Ok(json!({"a": [1, 9, 2]})));
        let end = json!([{"op": "add", "path": "/a/-", "value": 9}]);
        check(json!({"a": [1]}), end, Ok(json!({"a": [1, 9]})));
        let escaped = json!([{"op": "remove", "path": "/a~1b/c~0d"}]);
        check(json!({"a/b": {"c~d": 1}}), escaped, Ok(json!({"a/b": {}})));
        let moved = json!([{"op": "move", "from": "/a", "path": "/b"}]);
        check(json!({"a": 1}), moved, Ok(json!({"b": 1})));
        let test = json!([{"op": "test", "path": "/a", "value": 2}]);
        check(json!({"a": 1}), test, Err("testing value /a failed"));
        let gone = json!([{"op": "remove", "path": "/b"}]);
        check(json!({"a": 1}), gone, Err("/b"));
    }

    #[test]
    fn strategic_patches_merge_lists_by_key() {
        let mut types = Types::new();
        let pod = builtin(&mut types, "Pod");
        let check = |target: Value, patch: Value, expect: Value| {
            let mut got = target;
            strategic(&types, pod, &mut got, patch).unwrap();
            assert_eq!(got, expect);
        };
        let two = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}});
        check(
            two.clone(),
            json!({"spec": {"containers": [{"name": "a", "image": "y"}, {"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "y"}, {"name": "b"}, {"name": "c"}]}}),
        );
        check(
            two.clone(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        );
        check(
            two,
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            json!({"spec": {"containers": [{"name": "z"}]}}),
        );
        check(
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        );
    }
}
