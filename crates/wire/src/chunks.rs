//! Chunks of chat streams that the tests of several translators read.

pub(crate) const ROLE: &str =
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;

pub(crate) const TEXT: &str = r#"{"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#;

pub(crate) const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

pub(crate) const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

/// A thought, a text, and two calls, the first of them in pieces.
pub(crate) const THOUGHT_TEXT_CALLS: [&str; 5] = [
    r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
    TEXT,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}},{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}}]}"#,
];
