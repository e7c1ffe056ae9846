//! Rules that hold for all kinds.

use serde_json::Value;

use crate::api::failure::Cause;

/// Letters of a name.
const NAME_MAX: usize = 253;

/// Whether an object's name is one: a DNS subdomain, but for kinds of permissions, which take
/// nearly anything.
pub(crate) fn name(group: &str, name: &str) -> Option<Cause> {
    let value = Value::from(name);
    if group == "rbac.authorization.k8s.io" {
        let fits = !name.is_empty() && !name.contains(['/', '%']) && name != "." && name != "..";
        let why = "may not contain '/' or '%'";
        return (!fits).then(|| Cause::invalid("metadata.name", &value, why));
    }
    let edge = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let inner = |letter: u8| edge(letter) || letter == b'-';
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|letter| inner(*letter))
            && bytes.first().is_some_and(|letter| edge(*letter))
            && bytes.last().is_some_and(|letter| edge(*letter))
    };
    let fits = name.len() <= NAME_MAX && name.split('.').all(label);
    let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
               '-' or '.', and must start and end with an alphanumeric character (e.g. \
               'example.com', regex used for validation is \
               '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    (!fits).then(|| Cause::invalid("metadata.name", &value, why))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_subdomains() {
        let check = |name: &str, fits: bool| {
            assert_eq!(super::name("", name).is_none(), fits, "{name:?}");
        };
        check("a", true);
        check("a-b.c0", true);
        check("", false);
        check("A", false);
        check("-a", false);
        check("a..b", false);
        check(&"a".repeat(254), false);
    }
}
