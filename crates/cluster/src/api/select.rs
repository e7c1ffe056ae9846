//! Selectors of labels and fields, as queries tell them.

use crate::api::failure::Failure;

/// What must hold of a label or field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    pub(crate) key: Box<str>,
    pub(crate) test: Test,
}

/// What must hold of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    In(Vec<Box<str>>),
    NotIn(Vec<Box<str>>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl Requirement {
    /// Whether it holds of what a label is, if it is there.
    pub(crate) fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(all) => value.is_some_and(|value| all.iter().any(|one| **one == *value)),
            Test::NotIn(all) => !value.is_some_and(|value| all.iter().any(|one| **one == *value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Above(least) => number().is_some_and(|value| value > *least),
            Test::Below(most) => number().is_some_and(|value| value < *most),
        }
    }
}

/// Reads a selector of labels: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
pub(crate) fn labels(text: &str) -> Result<Vec<Requirement>, Failure> {
    let wrong = || Failure::bad_request(format!("unable to parse requirement: {text:?}"));
    parts(text).map(|part| label(part).ok_or_else(wrong)).collect()
}

/// Commas within brackets part values, not requirements.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let parts = text.split(move |letter: char| {
        match letter {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        letter == ',' && !inside
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn label(part: &str) -> Option<Requirement> {
    let one = |value: &str| vec![Box::from(value.trim())];
    if let Some(key) = part.strip_prefix('!') {
        return requirement(key, Test::Absent);
    }
    for (word, negated) in [(" notin ", true), (" in ", false), (" notin(", true), (" in(", false)]
    {
        if let Some((key, rest)) = part.split_once(word) {
            let all = rest.trim().trim_start_matches('(').strip_suffix(')')?;
            let all = all.split(',').map(|value| value.trim().into()).collect();
            return requirement(key, if negated { Test::NotIn(all) } else { Test::In(all) });
        }
    }
    if let Some((key, value)) = part.split_once("!=") {
        return requirement(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = part.split_once('=') {
        return requirement(key, Test::In(one(value.strip_prefix('=').unwrap_or(value))));
    }
    if let Some((key, value)) = part.split_once('>') {
        return requirement(key, Test::Above(value.trim().parse().ok()?));
    }
    if let Some((key, value)) = part.split_once('<') {
        return requirement(key, Test::Below(value.trim().parse().ok()?));
    }
    requirement(part, Test::Exists)
}

fn requirement(key: &str, test: Test) -> Option<Requirement> {
    let key = key.trim();
    let fits = !key.is_empty() && !key.contains([' ', '(', ')', '=', '!']);
    fits.then(|| Requirement { key: key.into(), test })
}

/// Reads a selector of fields: `a=b,c!=d`.
pub(crate) fn fields(text: &str) -> Result<Vec<Requirement>, Failure> {
    let wrong = || Failure::bad_request(format!("invalid field selector: {text:?}"));
    let one = |part: &str| {
        let one = |value: &str| vec![Box::from(value)];
        if let Some((key, value)) = part.split_once("!=") {
            return requirement(key, Test::NotIn(one(value)));
        }
        let (key, value) = part.split_once('=')?;
        requirement(key, Test::In(one(value.strip_prefix('=').unwrap_or(value))))
    };
    parts(text).map(|part| one(part).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let check = |selector: &str, labels_of: &[(&str, &str)], expect: bool| {
            let all = labels(selector).unwrap();
            let value = |key: &str| labels_of.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
            let got = all.iter().all(|one| one.holds(value(&one.key)));
            assert_eq!(got, expect, "{selector}");
        };
        let some = [("app", "x"), ("tier", "front"), ("rank", "3")];
        check("app=x,tier==front", &some, true);
        check("app!=x", &some, false);
        check("zone!=a", &some, true);
        check("app in (x, y),tier notin (back)", &some, true);
        check("app in(y)", &some, false);
        check("app,!zone", &some, true);
        check("!app", &some, false);
        check("rank>2,rank<4", &some, true);
        check("", &some, true);
        assert!(labels("a b").is_err());
        assert!(fields("metadata.name").is_err());
        assert_eq!(fields("metadata.name=x").unwrap()[0].test, Test::In(vec!["x".into()]));
    }
}
