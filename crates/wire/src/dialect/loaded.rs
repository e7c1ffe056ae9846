//! Which adapters a server has loaded, as its list of models tells it, and how requests ask for one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::Dialect;

/// The path of the list.
pub const PATH: &str = "/v1/models";

/// Most adapters that are read.
const ADAPTERS_MAX: usize = 1024;

/// The adapters that a server lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// Where each was read from, if that is told, by their names.
    pub adapters: BTreeMap<String, Option<String>>,
    /// Whether one that is not among them is not loaded: some releases list none.
    pub is_sure: bool,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    /// Where it is, of an adapter.
    #[serde(default)]
    root: Option<String>,
    /// What it belongs to, of an adapter.
    #[serde(default)]
    parent: Option<String>,
}

/// Reads a list; why it is none.
///
/// # Errors
/// It is no list of models.
pub fn read(dialect: Dialect, body: &[u8]) -> Result<Loaded, serde_json::Error> {
    let list: List = serde_json::from_slice(body)?;
    let own = list.data.into_iter().filter(|entry| entry.parent.is_some());
    let adapters: BTreeMap<_, _> =
        own.take(ADAPTERS_MAX).map(|entry| (entry.id, entry.root)).collect();
    // SGLang has listed them only for a while.
    let is_sure = dialect == Dialect::Vllm || !adapters.is_empty();
    Ok(Loaded { adapters, is_sure })
}

/// What a server is to be asked for, so that an adapter of a model answers. SGLang does not look at a name without a
/// colon, and the model itself would answer (`_parse_model_parameter` of its `entrypoints/openai/serving_base.py`).
pub fn asked_for<'a>(dialect: Dialect, model: &str, adapter: &'a str) -> Cow<'a, str> {
    match dialect {
        Dialect::Sglang => format!("{model}:{adapter}").into(),
        _ => adapter.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_servers_write_them() {
        let check = |dialect, text: &str, expect: (bool, &[(&str, Option<&str>)])| {
            let adapters = expect.1.iter();
            let adapters = adapters.map(|(name, at)| ((*name).to_owned(), at.map(str::to_owned)));
            let expect = Loaded { adapters: adapters.collect(), is_sure: expect.0 };
            assert_eq!(read(dialect, text.as_bytes()).unwrap(), expect, "{text}");
        };
        let base = r#"{"id":"m","object":"model","root":"/weights/m","parent":null}"#;
        check(Dialect::Vllm, &format!(r#"{{"data":[{base}]}}"#), (true, &[]));
        check(Dialect::Sglang, &format!(r#"{{"data":[{base}]}}"#), (false, &[]));
        let sql = r#"{"id":"sql","root":"/a/sql","parent":"m"}"#;
        let both = format!(r#"{{"data":[{base},{sql}]}}"#);
        check(Dialect::Vllm, &both, (true, &[("sql", Some("/a/sql"))]));
        check(Dialect::Sglang, &both, (true, &[("sql", Some("/a/sql"))]));
        check(Dialect::Vllm, r#"{"data":[{"id":"sql","parent":"m"}]}"#, (true, &[("sql", None)]));
        assert!(read(Dialect::Vllm, b"{}").is_err());
    }

    #[test]
    fn each_is_asked_in_its_own_way() {
        assert_eq!(asked_for(Dialect::Vllm, "m", "sql"), "sql");
        assert_eq!(asked_for(Dialect::Sglang, "m", "sql"), "m:sql");
    }
}
