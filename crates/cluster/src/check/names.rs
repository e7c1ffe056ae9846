//! The forms of names: labels and subdomains of DNS, keys and values of labels, names of ports.

/// Letters of a name, of a label of DNS, and of a port's name.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
const PORT_MAX: usize = 15;

/// Why something is no name of that form.
pub(crate) type Why = Option<&'static str>;

/// A label of DNS that may begin with a digit.
pub(crate) fn label(name: &str) -> Why {
    if name.len() > LABEL_MAX {
        return Some("must be no more than 63 bytes");
    }
    (!is_label(name)).then_some(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
         must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex \
         used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// A label of DNS that begins with a letter.
pub(crate) fn host(name: &str) -> Why {
    if name.len() > LABEL_MAX {
        return Some("must be no more than 63 bytes");
    }
    let fits = is_label(name) && name.starts_with(|letter: char| letter.is_ascii_lowercase());
    (!fits).then_some(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
         alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or \
         'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// Labels of DNS with dots between.
pub(crate) fn subdomain(name: &str) -> Why {
    if name.len() > NAME_MAX {
        return Some("must be no more than 253 bytes");
    }
    (!name.split('.').all(is_label)).then_some(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
         '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
         for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    )
}

/// The part of a path that nearly anything may be.
pub(crate) fn segment(name: &str) -> Why {
    let fits = !name.is_empty() && !name.contains(['/', '%']) && name != "." && name != "..";
    (!fits).then_some("may not contain '/' or '%'")
}

/// The key of a label or an annotation, a finalizer: `prefix/name`, or a name alone.
pub(crate) fn qualified(key: &str) -> Why {
    let (prefix, name) =
        key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.contains('/') {
        return Some(
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an \
             optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        );
    }
    if name.is_empty() {
        return Some("name part must be non-empty");
    }
    if name.len() > LABEL_MAX {
        return Some("name part must be no more than 63 bytes");
    }
    if !is_word(name) {
        return Some(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
             end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
             used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        );
    }
    prefix.and_then(subdomain)
}

/// The value of a label.
pub(crate) fn value(text: &str) -> Why {
    if text.len() > LABEL_MAX {
        return Some("must be no more than 63 bytes");
    }
    (!text.is_empty() && !is_word(text)).then_some(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
         '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
         'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    )
}

/// The name of a port.
pub(crate) fn port(name: &str) -> Why {
    if name.len() > PORT_MAX {
        return Some("must be no more than 15 characters");
    }
    let fits = is_label(name)
        && !name.contains("--")
        && name.contains(|letter: char| letter.is_ascii_lowercase());
    (!fits).then_some(
        "must contain at least one letter (a-z), and otherwise only letters, digits and single '-' \
         that are not at its ends",
    )
}

/// The name of an entry of a Secret or ConfigMap.
pub(crate) fn entry(name: &str) -> Why {
    let fits = !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && !name.starts_with("..")
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-._".contains(&letter));
    (!fits).then_some(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
         'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    )
}

fn is_label(name: &str) -> bool {
    let edge = |letter: &u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.iter().all(|letter| edge(letter) || *letter == b'-')
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
}

fn is_word(name: &str) -> bool {
    let edge = |letter: &u8| letter.is_ascii_alphanumeric();
    let bytes = name.as_bytes();
    bytes.iter().all(|letter| edge(letter) || b"-_.".contains(letter))
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_forms() {
        let check = |form: fn(&str) -> Why, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|name| assert_eq!(form(name), None, "{name:?}"));
            bad.iter().for_each(|name| assert!(form(name).is_some(), "{name:?}"));
        };
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        check(label, &["a", "0-b", &long], &["", "A", "-a", "a-", "a.b", &longer]);
        check(host, &["a0"], &["0a", &longer]);
        check(subdomain, &["a", "a-b.c0", &longer], &["", "a..b", "-a", &"a".repeat(254)]);
        check(segment, &["system:node"], &["", "a/b", ".."]);
        check(qualified, &["a", "x.y/A_b", &long], &["", "a/b/c", "X/y", "/a", "a/", &longer]);
        check(value, &["", "A_b.c", &long], &["-a", "a b", &longer]);
        check(port, &["http", "a-1"], &["", "8080", "a--b", "sixteen-letters-"]);
        check(entry, &["a", "team-a.model", ".x"], &["", "a/b", "..a", "a b"]);
    }
}
