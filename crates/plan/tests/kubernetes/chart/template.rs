//! As much of Helm's templates as the chart uses: conditions, ranges, variables and a dozen functions. A word that is
//! not known here fails the test.

use std::collections::BTreeMap;

use pilotage_plan::render::kubernetes::yaml;
use serde_json::{Value, json};

#[derive(Debug)]
enum Node {
    Text(String),
    Show(String),
    Set(String, String),
    /// Conditions with what is there where they hold; the last one may have none.
    If(Vec<(String, Vec<Self>)>),
    With(String, Vec<Self>),
    /// The names of a key and a value, and what is gone through.
    Range(Option<(String, String)>, String, Vec<Self>),
}

/// What a template gives with such values. `there` is the Secret that a cluster has.
pub(super) fn render(template: &str, values: &Value, there: &Value) -> String {
    let mut pieces = pieces(template);
    pieces.reverse();
    let (nodes, end) = block(&mut pieces);
    assert_eq!(end, "", "an end too many");
    let root = json!({ "Values": values, "Release": { "Name": "ours", "Namespace": "pilotage" } });
    let mut scene = Scene { dot: root, vars: BTreeMap::new(), there };
    scene.show(&nodes)
}

/// Texts and actions by turns, with the space that actions take away.
fn pieces(template: &str) -> Vec<(bool, String)> {
    let mut all = Vec::new();
    let mut rest = template;
    while let Some((text, more)) = rest.split_once("{{") {
        let (action, after) = more.split_once("}}").unwrap();
        let trims = action.starts_with("- ");
        let text = if trims { text.trim_end() } else { text };
        assert!(!action.ends_with('-'), "{action}");
        all.push((false, text.to_owned()));
        all.push((true, action.trim_start_matches('-').trim().to_owned()));
        rest = after;
    }
    all.push((false, rest.to_owned()));
    all
}

/// Nodes until an `else` or an `end`, which comes with them.
fn block(pieces: &mut Vec<(bool, String)>) -> (Vec<Node>, String) {
    let mut nodes = Vec::new();
    while let Some((is_action, text)) = pieces.pop() {
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match (is_action, word) {
            (false, _) => nodes.push(Node::Text(text)),
            (true, "end" | "else") => return (nodes, text),
            (true, "if") => nodes.push(choice(rest, pieces)),
            (true, "with") => {
                let (body, end) = block(pieces);
                assert_eq!(end, "end");
                nodes.push(Node::With(rest.to_owned(), body));
            }
            (true, "range") => {
                let (body, end) = block(pieces);
                assert_eq!(end, "end");
                let (names, what) = match rest.split_once(" := ") {
                    Some((names, what)) => (names.split_once(", "), what),
                    None => (None, rest),
                };
                let names = names.map(|(key, value)| (key.to_owned(), value.to_owned()));
                nodes.push(Node::Range(names, what.to_owned(), body));
            }
            (true, name) if name.starts_with('$') && rest.starts_with(":= ") => {
                nodes.push(Node::Set(name.to_owned(), rest.replacen(":= ", "", 1)));
            }
            (true, _) => nodes.push(Node::Show(text)),
        }
    }
    (nodes, String::new())
}

fn choice(condition: &str, pieces: &mut Vec<(bool, String)>) -> Node {
    let mut arms = Vec::new();
    let mut condition = condition.to_owned();
    loop {
        let (body, end) = block(pieces);
        arms.push((condition, body));
        match end.strip_prefix("else") {
            Some(next) => condition = next.trim().replacen("if ", "", 1),
            None => break,
        }
    }
    Node::If(arms)
}

struct Scene<'a> {
    dot: Value,
    vars: BTreeMap<String, Value>,
    there: &'a Value,
}

impl Scene<'_> {
    fn show(&mut self, nodes: &[Node]) -> String {
        let mut out = String::new();
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Show(pipe) => out.push_str(&plain(&self.pipe(pipe))),
                Node::Set(name, pipe) => {
                    let value = self.pipe(pipe);
                    self.vars.insert(name.clone(), value);
                }
                Node::If(arms) => {
                    let holds = |scene: &mut Self, condition: &str| {
                        condition.is_empty() || is_true(&scene.pipe(condition))
                    };
                    if let Some(at) = arms.iter().position(|(when, _)| holds(self, when)) {
                        out.push_str(&self.show(&arms[at].1));
                    }
                }
                Node::With(pipe, body) => {
                    let value = self.pipe(pipe);
                    if is_true(&value) {
                        out.push_str(&self.within(value, body));
                    }
                }
                Node::Range(names, pipe, body) => match self.pipe(pipe) {
                    Value::Array(all) => {
                        out.extend(all.into_iter().map(|one| self.within(one, body)));
                    }
                    Value::Object(all) => {
                        for (key, value) in all {
                            let (first, second) = names.clone().unwrap();
                            self.vars.insert(first, key.into());
                            self.vars.insert(second, value.clone());
                            out.push_str(&self.within(value, body));
                        }
                    }
                    other => unreachable!("{other} is gone through"),
                },
            }
        }
        out
    }

    fn within(&mut self, dot: Value, body: &[Node]) -> String {
        let before = std::mem::replace(&mut self.dot, dot);
        let out = self.show(body);
        self.dot = before;
        out
    }

    fn pipe(&self, text: &str) -> Value {
        let mut last = None;
        for command in split(text, '|') {
            let mut words: Vec<String> = split(&command, ' ');
            words.retain(|word| !word.is_empty());
            let name = words.remove(0);
            let args = words.iter().map(|word| self.word(word)).chain(last.take());
            let args: Vec<Value> = args.collect();
            last = Some(if args.is_empty() { self.word(&name) } else { self.call(&name, &args) });
        }
        last.unwrap()
    }

    fn word(&self, word: &str) -> Value {
        if let Some(inner) = word.strip_prefix('(') {
            return self.pipe(inner.strip_suffix(')').unwrap());
        }
        if word.starts_with('"') || word.parse::<i64>().is_ok() {
            return serde_json::from_str(word).unwrap();
        }
        let (of, path) = word.split_once('.').unwrap_or((word, ""));
        let from = if of.is_empty() { &self.dot } else { &self.vars[of] };
        let steps = path.split('.').filter(|step| !step.is_empty());
        steps.fold(from.clone(), |value, step| {
            assert!(value.get(step).is_some(), "there is no value `{word}`");
            value[step].clone()
        })
    }

    fn call(&self, name: &str, args: &[Value]) -> Value {
        let text = |at: usize| plain(&args[at]);
        match name {
            "has" => args[1].as_array().unwrap().contains(&args[0]).into(),
            "eq" => (args[0] == args[1]).into(),
            "not" => (!is_true(&args[0])).into(),
            "and" => args.iter().find(|one| !is_true(one)).or_else(|| args.last()).unwrap().clone(),
            "or" => args.iter().find(|one| is_true(one)).or_else(|| args.last()).unwrap().clone(),
            "int" => args[0].clone(),
            "quote" => Value::String(text(0)).to_string().into(),
            "default" => args.iter().rev().find(|one| is_true(one)).unwrap().clone(),
            "toYaml" => yaml::document(&args[0]).trim_end().into(),
            "nindent" => {
                let pad = " ".repeat(args[0].as_u64().unwrap() as usize);
                let lines: Vec<String> =
                    text(1).lines().map(|line| format!("{pad}{line}")).collect();
                format!("\n{}", lines.join("\n")).into()
            }
            "printf" => {
                assert_eq!(text(0), "%s=%s");
                format!("{}={}", text(1), text(2)).into()
            }
            "lookup" => self.there.clone(),
            "dig" => {
                let (steps, ends) = args.split_at(args.len() - 2);
                let found = steps.iter().try_fold(&ends[1], |value, step| value.get(plain(step)));
                found.unwrap_or(&ends[0]).clone()
            }
            "randAlphaNum" => "x".repeat(args[0].as_u64().unwrap() as usize).into(),
            "b64enc" => format!("base64 of {}", text(0)).into(),
            other => unreachable!("{other} is not known here"),
        }
    }
}

/// Splits at a sign outside of quotes and parentheses.
fn split(text: &str, at: char) -> Vec<String> {
    let (mut all, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for sign in text.trim().chars() {
        match sign {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if sign == at && depth == 0 && !quoted {
            all.push(String::new());
        } else {
            all.last_mut().unwrap().push(sign);
        }
    }
    all.into_iter().map(|part| part.trim().to_owned()).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}
