//! Patches that are a list of operations on paths (RFC 6902).

use serde_json::Value;

/// Operations of a patch, as servers limit them.
const OPERATIONS_MAX: usize = 10_000;

/// Runs the operations of `patch` on `target`, one after the other.
pub(crate) fn operations(target: &mut Value, patch: &Value) -> Result<(), String> {
    let Some(all) = patch.as_array() else { return Err("a patch must be an array".into()) };
    if all.len() > OPERATIONS_MAX {
        return Err(format!("a patch has at most {OPERATIONS_MAX} operations"));
    }
    all.iter().try_for_each(|operation| run(target, operation))
}

fn run(target: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = text("path").ok_or("an operation lacks its path")?;
    let value =
        || operation.get("value").cloned().ok_or_else(|| "an operation lacks its value".to_owned());
    let from = || text("from").ok_or_else(|| "an operation lacks its source".to_owned());
    match text("op") {
        Some("add") => add(target, path, value()?),
        Some("remove") => remove(target, path).map(drop),
        Some("replace") => {
            let value = value()?;
            let place = target.pointer_mut(path).ok_or_else(|| missing("replace", path))?;
            *place = value;
            Ok(())
        }
        Some("move") => {
            let moved = remove(target, from()?)?;
            add(target, path, moved)
        }
        Some("copy") => {
            let from = from()?;
            let copied = target.pointer(from).cloned().ok_or_else(|| missing("copy", from))?;
            add(target, path, copied)
        }
        Some("test") => {
            let expected = value()?;
            let found = target.pointer(path).unwrap_or(&Value::Null);
            if *found == expected { Ok(()) } else { Err(format!("testing value {path} failed")) }
        }
        other => Err(format!("unknown operation {:?}", other.unwrap_or_default())),
    }
}

fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: {path}: missing value")
}

/// The path of a parent, and the name of its field.
fn parts(path: &str) -> Result<(&str, String), String> {
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| missing("patch", path))?;
    Ok((parent, name.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, name) = parts(path)?;
    match target.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(name, value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let at = if name == "-" { Some(items.len()) } else { name.parse().ok() };
            match at.filter(|at| *at <= items.len()) {
                Some(at) => {
                    items.insert(at, value);
                    Ok(())
                }
                None => Err(missing("add", path)),
            }
        }
        _ => Err(missing("add", path)),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let (parent, name) = parts(path)?;
    let removed = match target.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.shift_remove(&name),
        Some(Value::Array(items)) => {
            let at = name.parse().ok().filter(|at: &usize| *at < items.len());
            at.map(|at| items.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}
