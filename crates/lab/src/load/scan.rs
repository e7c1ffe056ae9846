//! Finds tokens in a stream without reading it: lines are cut where they end, and an event is parsed
//! only when its bytes do not already say that it has content.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Bytes that one line of a stream has at most; a longer one ends the stream.
const LINE_BYTES_MAX: usize = 16 << 20;

/// What events look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// As those of OpenAI's streams.
    OpenAi,
    /// In any way: every event counts.
    Any,
}

/// Tokens as a server counts them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Usage {
    /// Of the prompt.
    #[serde(default)]
    pub prompt_tokens: u32,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: u32,
    /// More about those of the prompt.
    #[serde(default)]
    pub prompt_tokens_details: Option<PromptDetails>,
}

/// What a server tells of a prompt's tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct PromptDetails {
    /// Those that it found in its cache.
    #[serde(default)]
    pub cached_tokens: Option<u32>,
}

impl Usage {
    /// Tokens of the prompt that were found in a cache; zero where nothing is said.
    pub fn cached_tokens(&self) -> u32 {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or_default()
    }
}

/// A stream as far as it has come.
#[derive(Debug)]
pub struct Scan {
    dialect: Dialect,
    /// The begin of a line whose end has not come.
    partial: Vec<u8>,
    /// The last event that was not parsed: it may say how many tokens there were.
    unread: Vec<u8>,
    /// Tokens, where the server said.
    pub usage: Option<Usage>,
    /// Whether the stream said that it is over.
    pub finished: bool,
    /// Whether the stream said that something failed, or is none.
    pub failed: bool,
    /// The answer, where it is wanted.
    pub text: Option<String>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default, alias = "message")]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(default)]
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
}

impl Scan {
    /// A stream before its first byte. `capture` keeps the answer's text.
    pub fn new(dialect: Dialect, capture: bool) -> Self {
        Self {
            dialect,
            partial: Vec::new(),
            unread: Vec::new(),
            usage: None,
            finished: dialect == Dialect::Any,
            failed: false,
            text: capture.then(String::new),
        }
    }

    /// What its events look like.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Takes in the next bytes; gives how many events with content ended in them.
    pub fn push(&mut self, mut bytes: &[u8]) -> u32 {
        let mut tokens = 0;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.partial.is_empty() {
                tokens += u32::from(self.line(line));
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                tokens += u32::from(self.line(&whole));
                whole.clear();
                self.partial = whole;
            }
        }
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            self.failed = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(bytes);
        }
        tokens
    }

    /// The stream is over: what was left unread may hold the count of tokens.
    pub fn end(&mut self) {
        if self.usage.is_none() && !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            let chunk: Option<Chunk<'_>> = serde_json::from_slice(&unread).ok();
            if let Some(chunk) = chunk {
                self.usage = chunk.usage;
                let choices = chunk.choices.unwrap_or_default();
                self.finished |= choices.iter().any(|choice| choice.finish_reason.is_some());
            }
        }
    }

    /// Whether the line is an event with content.
    fn line(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(data) = line.strip_prefix(b"data:") else { return false };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if self.dialect == Dialect::Any {
            return true;
        }
        if data == b"[DONE]" {
            self.finished = true;
            return false;
        }
        if self.text.is_none() && says_content(data) {
            self.unread.clear();
            self.unread.extend_from_slice(data);
            return true;
        }
        self.unread.clear();
        self.read(data)
    }

    /// Parses an event, or a whole answer that is no stream: whether it has content.
    pub fn read(&mut self, data: &[u8]) -> bool {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            self.failed = true;
            return false;
        };
        self.failed |= chunk.error.is_some();
        self.usage = chunk.usage.or(self.usage);
        let mut content = false;
        for choice in chunk.choices.unwrap_or_default() {
            self.finished |= choice.finish_reason.is_some();
            let delta = choice.delta;
            content |= delta.as_ref().is_some_and(Delta::has_content);
            let text = delta.and_then(|delta| delta.content).or(choice.text);
            content |= text.as_ref().is_some_and(|text| !text.is_empty());
            if let (Some(kept), Some(text)) = (&mut self.text, text) {
                kept.push_str(&text);
            }
        }
        content
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        let texts = [&self.content, &self.reasoning_content, &self.reasoning];
        let text = texts.into_iter().flatten().any(|text| !text.is_empty());
        text || self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
    }
}

/// Whether the bytes show content. In a JSON string a quote has a backslash before it, so that these
/// keys cannot be part of a text.
fn says_content(data: &[u8]) -> bool {
    let after = |key: &[u8]| {
        let from = memmem::find(data, key)? + key.len();
        let rest = data.get(from..)?;
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        (rest.first() == Some(&b'"')).then(|| rest.get(1).is_some_and(|first| *first != b'"'))
    };
    after(b"\"content\":").or_else(|| after(b"\"text\":")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        ": hello\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"One\"}}]}\r\n\r\n",
        "data: {\"choices\": [{\"delta\": {\"content\": \" \\\"two\\\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":4}}\n\n",
        "data: [DONE]\n\n",
    );

    fn scanned(capture: bool, pieces: &[&[u8]]) -> (u32, Scan) {
        let mut scan = Scan::new(Dialect::OpenAi, capture);
        let tokens = pieces.iter().map(|piece| scan.push(piece)).sum();
        scan.end();
        (tokens, scan)
    }

    #[test]
    fn tokens_usage_and_the_end_are_found() {
        for capture in [false, true] {
            let (tokens, scan) = scanned(capture, &[STREAM.as_bytes()]);
            assert_eq!(tokens, 4);
            let usage = Usage { prompt_tokens: 7, completion_tokens: 4, ..Usage::default() };
            assert_eq!((scan.usage, scan.finished, scan.failed), (Some(usage), true, false));
            assert_eq!(scan.text.as_deref(), capture.then_some("One \"two\""));
        }
    }

    #[test]
    fn other_streams() {
        let check = |data: &str, expect: (u32, Option<u32>, bool, bool)| {
            let (tokens, scan) = scanned(false, &[data.as_bytes()]);
            let counted = scan.usage.map(|usage| usage.completion_tokens);
            assert_eq!((tokens, counted, scan.finished, scan.failed), expect, "{data}");
        };
        check("data: {\"choices\":[{\"text\":\"a\"}]}\n\n", (1, None, false, false));
        check(
            "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"length\"}],\
             \"usage\":{\"completion_tokens\":1}}\n\n",
            (1, Some(1), true, false),
        );
        check("data: {\"error\":{\"message\":\"out of memory\"}}\n\n", (0, None, false, true));
        check("data: <html>\n\n", (0, None, false, true));
        check(
            "data: {\"choices\":[{\"delta\":{\"content\":null}}],\"usage\":null}\n\n",
            (0, None, false, false),
        );
        check("event: x\nid: 1\n\n", (0, None, false, false));
    }

    #[test]
    fn any_event_counts_where_the_dialect_is_unknown() {
        let mut scan = Scan::new(Dialect::Any, false);
        assert_eq!(scan.push(b"data: x\n\nevent: y\ndata: y\n\ndata"), 2);
        assert!(scan.finished && !scan.failed);
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_does_not_matter(cuts in prop::collection::vec(0..STREAM.len(), 0..9)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|ends| &STREAM.as_bytes()[ends[0]..ends[1]]).collect();
            let (tokens, scan) = scanned(false, &pieces);
            prop_assert_eq!((tokens, scan.finished, scan.failed), (4, true, false));
            prop_assert_eq!(scan.usage.map(|usage| usage.prompt_tokens), Some(7));
        }
    }
}
