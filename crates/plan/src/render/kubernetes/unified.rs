//! Two states of an object as people compare them: the lines of their YAML, with those that go and those that come.
//!
//! Contract: what the API server keeps for itself is left out, and what is in a Secret is never shown. The same
//! states give the same lines, and no input takes more than its lines and [`CELLS_MAX`] steps.

use std::fmt;

use serde_json::Value;

use super::yaml;
use crate::cluster::{PODS, RENDERED};

/// Lines around a change that stay as they are.
const AROUND: usize = 3;

/// Most pairs of lines that are compared; beyond, what lies between the first and the last change is shown as a whole.
pub const CELLS_MAX: usize = 4_000_000;

/// Fields of metadata that the API server keeps for itself.
const KEPT: [&str; 6] =
    ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"];

/// What tools note down for themselves: the object once more, and its digest.
const NOTED: [&str; 3] = ["kubectl.kubernetes.io/last-applied-configuration", RENDERED, PODS];

/// A run of lines with changes in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hunk {
    /// The first line of it before, counted from 1, and how many there are.
    pub before: (usize, usize),
    /// The same afterwards.
    pub after: (usize, usize),
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// It stays.
    Same(String),
    /// It goes.
    Gone(String),
    /// It comes.
    Come(String),
}

/// What differs between two states of an object, none being that it is not there.
pub fn unified(before: Option<&Value>, after: Option<&Value>) -> Vec<Hunk> {
    let (mut before, mut after) = (before.map(tidied), after.map(tidied));
    veil(before.as_mut(), after.as_mut());
    let text = |value: Option<Value>| value.map(|value| yaml::document(&value)).unwrap_or_default();
    hunks(&text(before), &text(after))
}

/// An object without what its API server keeps for itself, and without its status.
fn tidied(object: &Value) -> Value {
    let mut object = object.clone();
    let Some(fields) = object.as_object_mut() else { return object };
    fields.remove("status");
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        return object;
    };
    for name in KEPT {
        metadata.remove(name);
    }
    if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        for name in NOTED {
            notes.remove(name);
        }
        if notes.is_empty() {
            metadata.remove("annotations");
        }
    }
    sorted(&mut object);
    object
}

/// With fields by their names, but those first that say what it is.
fn sorted(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(sorted);
            let place = |name: &str| {
                ["apiVersion", "kind", "metadata"].iter().position(|first| *first == name)
            };
            let mut all: Vec<(String, Value)> = std::mem::take(fields).into_iter().collect();
            all.sort_by(|(a, _), (b, _)| {
                (place(a).unwrap_or(3), a.as_str()).cmp(&(place(b).unwrap_or(3), b.as_str()))
            });
            fields.extend(all);
        }
        Value::Array(items) => items.iter_mut().for_each(sorted),
        _ => {}
    }
}

/// Takes out what Secrets hold; whether it changes stays to be seen.
fn veil(mut before: Option<&mut Value>, mut after: Option<&mut Value>) {
    for list in ["data", "stringData"] {
        let of = |value: &Option<&mut Value>| -> Value {
            let secret = value.as_ref().filter(|value| value["kind"] == "Secret");
            secret.map_or(Value::Null, |value| value[list].clone())
        };
        let (was, is) = (of(&before), of(&after));
        let states =
            [(before.as_deref_mut(), &is, "before"), (after.as_deref_mut(), &was, "after")];
        for (value, other, when) in states {
            let Some(value) = value.filter(|value| value["kind"] == "Secret") else { continue };
            let Some(entries) = value.get_mut(list).and_then(Value::as_object_mut) else {
                continue;
            };
            for (name, entry) in entries {
                let differs = other.get(name) != Some(&*entry);
                let shown =
                    if differs { format!("not shown ({when})") } else { "not shown".into() };
                *entry = shown.into();
            }
        }
    }
}

/// The runs of lines in which two texts differ.
fn hunks(before: &str, after: &str) -> Vec<Hunk> {
    let lines = compared(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let is_change = |line: &Line| !matches!(line, Line::Same(_));
    let changes: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| is_change(line)).map(|(at, _)| at).collect();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in changes {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(lines.len()));
        match runs.last_mut() {
            Some((_, end)) if *end >= from => *end = to,
            _ => runs.push((from, to)),
        }
    }
    runs.into_iter().map(|(from, to)| hunk(&lines, from, to)).collect()
}

fn hunk(lines: &[Line], from: usize, to: usize) -> Hunk {
    let was = |line: &&Line| !matches!(line, Line::Come(_));
    let is = |line: &&Line| !matches!(line, Line::Gone(_));
    let (head, own) = (&lines[..from], &lines[from..to]);
    let span = |first: usize, count: usize| (if count == 0 { first } else { first + 1 }, count);
    Hunk {
        before: span(head.iter().filter(was).count(), own.iter().filter(was).count()),
        after: span(head.iter().filter(is).count(), own.iter().filter(is).count()),
        lines: own.to_vec(),
    }
}

/// All lines of two texts, those that stay once.
fn compared(before: &[&str], after: &[&str]) -> Vec<Line> {
    let pairs = || before.iter().zip(after);
    let head = pairs().take_while(|(a, b)| a == b).count();
    let (was, is) = (&before[head..], &after[head..]);
    let tail = was.iter().rev().zip(is.iter().rev()).take_while(|(a, b)| a == b).count();
    let (was, is) = (&was[..was.len() - tail], &is[..is.len() - tail]);
    let same = |lines: &[&str]| lines.iter().map(|line| Line::Same((*line).to_owned())).collect();
    let mut all: Vec<Line> = same(&before[..head]);
    all.extend(between(was, is));
    all.extend::<Vec<Line>>(same(&before[before.len() - tail..]));
    all
}

/// The lines of two texts that begin and end differently, by their longest common part.
fn between(was: &[&str], is: &[&str]) -> Vec<Line> {
    let gone = |line: &&str| Line::Gone((*line).to_owned());
    let come = |line: &&str| Line::Come((*line).to_owned());
    let width = is.len() + 1;
    if (was.len() + 1).saturating_mul(width) > CELLS_MAX {
        return was.iter().map(gone).chain(is.iter().map(come)).collect();
    }
    // How many lines the rests from there have in common.
    let mut common = vec![0_u32; (was.len() + 1) * width];
    for (row, line) in was.iter().enumerate().rev() {
        for (column, other) in is.iter().enumerate().rev() {
            common[row * width + column] = if line == other {
                common[(row + 1) * width + column + 1] + 1
            } else {
                common[(row + 1) * width + column].max(common[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column, mut all) = (0, 0, Vec::new());
    while row < was.len() && column < is.len() {
        if was[row] == is[column] {
            all.push(Line::Same(was[row].to_owned()));
            (row, column) = (row + 1, column + 1);
        } else if common[(row + 1) * width + column] >= common[row * width + column + 1] {
            all.push(gone(&was[row]));
            row += 1;
        } else {
            all.push(come(&is[column]));
            column += 1;
        }
    }
    all.extend(was[row..].iter().map(gone));
    all.extend(is[column..].iter().map(come));
    all
}

impl Hunk {
    /// Where it is, as the line above it says.
    pub fn head(&self) -> String {
        let ((from, count), (to, there)) = (self.before, self.after);
        format!("@@ -{from},{count} +{to},{there} @@")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(text) => write!(f, " {text}"),
            Self::Gone(text) => write!(f, "-{text}"),
            Self::Come(text) => write!(f, "+{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(before: Option<&Value>, after: Option<&Value>) -> String {
        let hunks = unified(before, after);
        let text = |hunk: &Hunk| {
            let lines: Vec<String> = hunk.lines.iter().map(ToString::to_string).collect();
            format!("{}\n{}\n", hunk.head(), lines.join("\n"))
        };
        hunks.iter().map(text).collect()
    }

    #[test]
    fn what_differs_is_shown_and_nothing_else() {
        let before = json!({"kind": "A", "apiVersion": "v1", "metadata": {"uid": "1", "name": "a"},
            "spec": {"b": 1, "a": [1, 2, 3, 4, 5, 6, 7, 8]}, "status": {"x": 1}});
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = "7".into();
        after["status"]["x"] = 2.into();
        assert_eq!(unified(Some(&before), Some(&after)), []);
        after["spec"]["b"] = 2.into();
        assert_eq!(
            text(Some(&before), Some(&after)),
            "@@ -12,4 +12,4 @@\n   - 6\n   - 7\n   - 8\n-  b: 1\n+  b: 2\n"
        );
        let small = json!({"kind": "A"});
        assert_eq!(text(None, Some(&small)), "@@ -0,0 +1,1 @@\n+kind: A\n");
        assert_eq!(text(Some(&small), None), "@@ -1,1 +0,0 @@\n-kind: A\n");
    }

    #[test]
    fn secrets_stay_secret() {
        let secret = |key: &str, other: &str| {
            json!({"kind": "Secret", "data": {"key": key, "other": other},
            "metadata": {"annotations": {NOTED[0]: "{\"data\":{\"key\":\"c2VjcmV0\"}}"}}})
        };
        let (before, after) = (secret("c2VjcmV0", "b3RoZXI="), secret("bmV3", "b3RoZXI="));
        let all = [
            text(Some(&before), Some(&after)),
            text(None, Some(&after)),
            text(Some(&before), None),
        ];
        for text in &all {
            let holds = ["c2VjcmV0", "bmV3", "b3RoZXI="].iter().any(|key| text.contains(key));
            assert!(!holds && text.contains("not shown"), "{text}");
        }
        let (before, after) = ("-  key: not shown (before)", "+  key: not shown (after)");
        assert!(
            all[0].contains(&format!("{before}\n{after}\n   other: not shown\n")),
            "{}",
            all[0]
        );
    }

    proptest! {
        /// Lines that stay or go are those before, lines that stay or come those afterwards.
        #[test]
        fn nothing_is_lost(before in prop::collection::vec("[a-d]", 0..20), after in prop::collection::vec("[a-d]", 0..20)) {
            let (was, is): (Vec<&str>, Vec<&str>) =
                (before.iter().map(String::as_str).collect(), after.iter().map(String::as_str).collect());
            let all = compared(&was, &is);
            let keep = |left_out: fn(&Line) -> bool| -> Vec<&str> {
                let lines = all.iter().filter(|line| !left_out(line));
                lines.map(|line| match line { Line::Same(text) | Line::Gone(text) | Line::Come(text) => text.as_str() }).collect()
            };
            prop_assert_eq!(keep(|line| matches!(line, Line::Come(_))), was.clone());
            prop_assert_eq!(keep(|line| matches!(line, Line::Gone(_))), is.clone());
        }
    }
}
