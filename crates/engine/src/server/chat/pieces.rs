//! An answer's text as it comes, told apart: what is for the user, and what is a function call.

use pilotage_wire::openai::chat::{CalledFunction, Delta, ToolCall};

use crate::server::answer::answer_id;
use crate::text::TextOut;
use crate::tools::{self, Call, Callable, Calling, Forced, MARKERS};

/// One answer's text.
pub(super) struct Pieces {
    how: How,
    /// Everything so far.
    gathered: String,
    called: bool,
}

enum How {
    /// All of it is text.
    Text,
    /// It may turn into calls at a marker, or be nothing but a call.
    Watching {
        callable: Callable,
        before: TextOut,
        begun: bool,
        space: String,
        held: Option<String>,
    },
    /// All of it is one call.
    Forced(Forced),
}

impl Pieces {
    pub(super) fn new(calling: &Calling) -> Self {
        let how = match calling {
            Calling::Never => How::Text,
            Calling::May(callable) => How::Watching {
                callable: callable.clone(),
                before: TextOut::new(&MARKERS.map(str::to_owned)),
                begun: false,
                space: String::new(),
                held: None,
            },
            Calling::Must(_) => How::Forced(Forced::default()),
        };
        Self { how, gathered: String::new(), called: false }
    }

    /// Takes in a piece of an answer that is wanted whole.
    pub(super) fn gather(&mut self, text: &str) {
        self.gathered.push_str(text);
    }

    /// The whole text and calls of a gathered answer.
    pub(super) fn end(&mut self, rest: &str) -> (String, Vec<Call>) {
        self.gathered.push_str(rest);
        let said = std::mem::take(&mut self.gathered);
        match &mut self.how {
            How::Text => (said, Vec::new()),
            How::Watching { callable, .. } => tools::find(&said, callable),
            How::Forced(forced) => {
                let parts = forced.push(&said);
                let arguments = parts.arguments + &forced.finish();
                let call = parts.name.map(|name| Call { name, arguments });
                (String::new(), call.into_iter().collect())
            }
        }
    }

    /// What a piece of a stream brings for the client.
    pub(super) fn push(&mut self, text: &str) -> Vec<Delta> {
        match &mut self.how {
            How::Text => content(text.to_owned()),
            How::Watching { held: Some(held), .. } => {
                held.push_str(text);
                Vec::new()
            }
            How::Watching { before, begun, space, held, .. } => {
                let first = text.trim_start();
                if !*begun && first.starts_with(['{', '[']) {
                    // It may be nothing but the JSON of a call, which shows at its end.
                    *held = Some(text.to_owned());
                    return Vec::new();
                }
                *begun |= !first.is_empty();
                let sure = before.push(text.as_bytes());
                self.gathered.push_str(text);
                if let Some(marker) = sure.stopped {
                    let at = self.gathered.find(&marker).unwrap_or(0);
                    *held = Some(self.gathered.split_off(at));
                }
                content(without_space(space, &sure.text))
            }
            How::Forced(forced) => {
                let parts = forced.push(text);
                let mut deltas: Vec<Delta> =
                    parts.name.into_iter().map(|name| opened(0, name)).collect();
                self.called |= !deltas.is_empty();
                deltas.extend(more(0, parts.arguments));
                deltas
            }
        }
    }

    /// What the end of a stream brings.
    pub(super) fn finish(&mut self, rest: &str) -> Vec<Delta> {
        let mut deltas = self.push(rest);
        match &mut self.how {
            How::Text => {}
            How::Watching { held: Some(held), callable, space, .. } => {
                let (text, calls) = tools::find(held, callable);
                self.called = !calls.is_empty();
                if !self.called {
                    deltas.extend(content(std::mem::take(space) + &text));
                }
                for (index, call) in (0..).zip(calls) {
                    deltas.push(opened(index, call.name));
                    deltas.extend(more(index, call.arguments));
                }
            }
            How::Watching { before, space, .. } => {
                deltas.extend(content(std::mem::take(space) + &before.finish()));
            }
            How::Forced(forced) => deltas.extend(more(0, forced.finish())),
        }
        deltas
    }

    /// Whether the answer called a function.
    pub(super) const fn called(&self) -> bool {
        self.called
    }
}

/// The text after the space held before it, without its own space at the end: before a call that
/// would be nothing but layout, as it is in whole answers.
fn without_space(space: &mut String, text: &str) -> String {
    let mut whole = std::mem::take(space) + text;
    *space = whole.split_off(whole.trim_end().len());
    whole
}

fn content(text: String) -> Vec<Delta> {
    if text.is_empty() {
        return Vec::new();
    }
    vec![Delta { content: Some(text), ..Delta::default() }]
}

/// The first part of a call.
fn opened(index: u32, name: String) -> Delta {
    let function = CalledFunction { name: Some(name), arguments: String::new() };
    let call = ToolCall {
        index: Some(index),
        id: Some(answer_id("call")),
        kind: Some("function"),
        function,
    };
    Delta { tool_calls: vec![call], ..Delta::default() }
}

/// A further part of a call.
fn more(index: u32, arguments: String) -> Option<Delta> {
    if arguments.is_empty() {
        return None;
    }
    let function = CalledFunction { name: None, arguments };
    let call = ToolCall { index: Some(index), id: None, kind: None, function };
    Some(Delta { tool_calls: vec![call], ..Delta::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and calls of a stream of pieces.
    fn streamed(calling: &Calling, pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let mut state = Pieces::new(calling);
        let mut deltas: Vec<Delta> = pieces.iter().flat_map(|piece| state.push(piece)).collect();
        deltas.extend(state.finish(""));
        let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
        for delta in deltas {
            text.push_str(delta.content.as_deref().unwrap_or_default());
            for call in delta.tool_calls {
                if let Some(name) = call.function.name {
                    calls.push((name, String::new()));
                }
                calls[call.index.unwrap() as usize].1.push_str(&call.function.arguments);
            }
        }
        (text, calls)
    }

    #[test]
    fn text_and_calls_are_told_apart_in_streams_as_in_wholes() {
        let check = |said: &str, text: &str, calls: &[(&str, &str)]| {
            let expect: Vec<_> =
                calls.iter().map(|(name, args)| ((*name).to_owned(), (*args).to_owned())).collect();
            let chars: Vec<String> = said.chars().map(String::from).collect();
            let singles: Vec<&str> = chars.iter().map(String::as_str).collect();
            let may = Calling::May(Callable { names: vec!["f".to_owned()], parallel: true });
            for pieces in [&[said][..], &singles] {
                let expect = (text.to_owned(), expect.clone());
                assert_eq!(streamed(&may, pieces), expect, "{pieces:?}");
            }
            let (whole, calls) = Pieces::new(&may).end(said);
            let calls: Vec<_> = calls.into_iter().map(|call| (call.name, call.arguments)).collect();
            assert_eq!((whole.as_str(), calls), (text, expect), "{said}");
        };
        check("plain < text \n", "plain < text \n", &[]);
        check(
            "Well. <tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>",
            "Well.",
            &[("f", r#"{"a":1}"#)],
        );
        check("{\"name\":\"f\",\"arguments\":{}}", "", &[("f", "{}")]);
        check("{\"a\":1}", "{\"a\":1}", &[]);
        check("{\"name\":\"g\",\"arguments\":{}}", "{\"name\":\"g\",\"arguments\":{}}", &[]);
        check("a <tool_call>broken", "a <tool_call>broken", &[]);
    }
}
