//! A call as it comes in, and what it asks for.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;

/// A call: what of a request the API looks at.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, with escapes.
    pub path: String,
    /// The query, with escapes.
    pub query: String,
    /// What the body is in.
    pub content_type: String,
    /// What the answer may be in.
    pub accept: String,
    /// Who calls, by program.
    pub user_agent: String,
    /// Who calls, by name; of nobody, an administrator.
    pub user: String,
    /// The body.
    pub body: Bytes,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Versions of the core group.
    Core,
    /// All other groups.
    Groups,
    Group(String),
    /// The resources of a version of a group.
    Resources(String, String),
    Version,
    Health,
    Objects(Target),
    Unknown,
}

/// Objects that a path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    /// None where the path names none.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: String,
}

/// What a path names.
pub(crate) fn path(text: &str) -> Path {
    let parts: Vec<String> =
        text.split('/').filter(|part| !part.is_empty()).map(|part| unescape(part, false)).collect();
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["api"] => Path::Core,
        ["apis"] => Path::Groups,
        ["version"] => Path::Version,
        ["healthz" | "livez" | "readyz", ..] => Path::Health,
        ["api", version] => Path::Resources(String::new(), (*version).into()),
        ["apis", group] => Path::Group((*group).into()),
        ["apis", group, version] => Path::Resources((*group).into(), (*version).into()),
        ["api", version, rest @ ..] => target("", version, rest),
        ["apis", group, version, rest @ ..] => target(group, version, rest),
        _ => Path::Unknown,
    }
}

fn target(group: &str, version: &str, rest: &[&str]) -> Path {
    let (namespace, rest) = match rest {
        // A namespace's own parts, not resources in it.
        ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, ""),
        [plural, name] => (*plural, Some(*name), ""),
        [plural, name, subresource] => (*plural, Some(*name), *subresource),
        _ => return Path::Unknown,
    };
    Path::Objects(Target {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        namespace: namespace.map(Into::into),
        name: name.map(Into::into),
        subresource: subresource.into(),
    })
}

/// The parameters of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn read(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name, true), unescape(value, true))
        });
        Self(pairs.collect())
    }

    /// A parameter that says something.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        // A bare name counts as set, as it does for servers.
        self.0.get(name).is_some_and(|value| !matches!(value.as_str(), "false" | "0" | "False"))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|value| value.parse().ok())
    }
}

/// Without escapes; what is not UTF-8 is replaced.
fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = if *byte == b'%' { bytes.get(at + 1..at + 3).and_then(hex) } else { None };
        match escaped {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if plus && *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_things() {
        let check = |text: &str, expect: [&str; 6]| {
            let Path::Objects(got) = path(text) else { panic!("{text}") };
            let got = [
                got.group,
                got.version,
                got.plural,
                got.namespace.unwrap_or_default(),
                got.name.unwrap_or_default(),
                got.subresource,
            ];
            assert_eq!(got, expect, "{text}");
        };
        check("/api/v1/pods", ["", "v1", "pods", "", "", ""]);
        check("/api/v1/namespaces/a/pods/b", ["", "v1", "pods", "a", "b", ""]);
        check("/api/v1/namespaces/a", ["", "v1", "namespaces", "", "a", ""]);
        check("/api/v1/namespaces/a/status", ["", "v1", "namespaces", "", "a", "status"]);
        check(
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            ["apps", "v1", "deployments", "a", "b", "scale"],
        );
        check("/apis/g/v1/things/x", ["g", "v1", "things", "", "x", ""]);
        assert_eq!(path("/apis/apps"), Path::Group("apps".into()));
        assert_eq!(path("/nothing"), Path::Unknown);
    }

    #[test]
    fn queries_are_unescaped() {
        let query =
            Query::read("labelSelector=a%3Db%2Cc+in+%28d%29&watch&force=false&limit=5&x=%zz");
        assert_eq!(query.text("labelSelector"), Some("a=b,c in (d)"));
        assert!(query.flag("watch") && !query.flag("force") && !query.flag("dryRun"));
        assert_eq!((query.number("limit"), query.text("x")), (Some(5), Some("%zz")));
    }
}
