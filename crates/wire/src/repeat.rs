//! Whether asking again gives the same answer, and whether an answer is one to give again.
//!
//! Both err on the side of no: a request whose answer is taken for another's must not have chance in
//! it, and an answer that is kept must be complete.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sse::Decoder;

/// Whether a body that asks for generated text leaves nothing to chance: one answer, and temperature
/// zero or a seed, each said outright. What else there is must be equal, which is for the caller to
/// see to.
pub fn is_deterministic(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Chance<'a> {
        #[serde(borrow, default)]
        temperature: Option<&'a RawValue>,
        #[serde(borrow, default)]
        seed: Option<&'a RawValue>,
        #[serde(borrow, default)]
        n: Option<&'a RawValue>,
        #[serde(borrow, default)]
        best_of: Option<&'a RawValue>,
    }
    let Ok(chance) = serde_json::from_slice::<Chance<'_>>(body) else { return false };
    let one = |count: Option<&RawValue>| count.is_none_or(|count| count.get() == "1");
    let cold = chance.temperature.is_some_and(|temperature| {
        serde_json::from_str::<f64>(temperature.get()).is_ok_and(|degrees| degrees == 0.0)
    });
    let seeded = chance.seed.is_some_and(|seed| serde_json::from_str::<i64>(seed.get()).is_ok());
    one(chance.n) && one(chance.best_of) && (cold || seeded)
}

/// Whether a whole answer is complete: text that ended by itself or at the length that was asked
/// for, or lists of embeddings or scores.
pub fn is_complete(body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else { return false };
    let listed = answer.data.is_some() || answer.results.is_some();
    match &answer.choices[..] {
        _ if answer.error.is_some() => false,
        [] => listed,
        choices => choices.iter().all(|choice| choice.ended() == Some(true)),
    }
}

/// Whether a stream is complete: its text ended as [`is_complete`] says, and it said that it is over.
pub fn is_complete_stream(stream: &[u8], event_bytes_max: usize) -> bool {
    let mut decoder = Decoder::new(event_bytes_max);
    if decoder.push(stream).is_err() {
        return false;
    }
    let (mut ended, mut done) = (false, false);
    for event in std::iter::from_fn(|| decoder.next()) {
        if done || event.name.as_deref() == Some("error") {
            return false;
        }
        if event.data == "[DONE]" {
            done = true;
            continue;
        }
        let Ok(chunk) = serde_json::from_str::<Answer<'_>>(&event.data) else { return false };
        if chunk.error.is_some() {
            return false;
        }
        for choice in &chunk.choices {
            match choice.ended() {
                Some(true) => ended = true,
                Some(false) => return false,
                None => {}
            }
        }
    }
    ended && done
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    results: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    finish_reason: Option<String>,
}

impl Choice {
    /// Whether its end is one to give again; none before its end.
    fn ended(&self) -> Option<bool> {
        self.finish_reason.as_deref().map(|reason| matches!(reason, "stop" | "length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_nothing_to_chance_is_deterministic() {
        let check = |more: &str, expect: bool| {
            let body = format!(r#"{{"model":"m"{more}}}"#);
            assert_eq!(is_deterministic(body.as_bytes()), expect, "{more}");
        };
        for more in [
            r#","temperature":0"#,
            r#","temperature":0.0,"n":1"#,
            r#","temperature":-0e3,"best_of":1"#,
            r#","temperature":1.5,"seed":7"#,
            r#","seed":-7,"n":null"#,
        ] {
            check(more, true);
        }
        for more in [
            "",
            r#","temperature":null"#,
            r#","temperature":0.1"#,
            r#","temperature":"0""#,
            r#","temperature":0,"n":2"#,
            r#","temperature":0,"n":1.0"#,
            r#","temperature":0,"best_of":3"#,
            r#","temperature":0,"temperature":1"#,
            r#","seed":"7""#,
            r#","seed":null"#,
            r#","top_p":0"#,
        ] {
            check(more, false);
        }
        assert!(!is_deterministic(b"--boundary"));
    }

    #[test]
    fn only_what_is_complete_is_given_again() {
        let check =
            |body: &str, expect: bool| assert_eq!(is_complete(body.as_bytes()), expect, "{body}");
        check(r#"{"choices":[{"finish_reason":"stop","message":{}}],"usage":null}"#, true);
        check(r#"{"choices":[{"finish_reason":"length"}]}"#, true);
        check(r#"{"object":"list","data":[{"embedding":[1]}]}"#, true);
        check(r#"{"results":[{"index":0}]}"#, true);
        check(r#"{"choices":[{"finish_reason":"tool_calls"}]}"#, false);
        check(r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":null}]}"#, false);
        check(r#"{"choices":[{}]}"#, false);
        check(r#"{"error":{"message":"x"},"data":[]}"#, false);
        check("{}", false);
        check("x", false);
    }

    #[test]
    fn a_stream_is_complete_when_it_says_so() {
        let check = |parts: &[&str], expect: bool| {
            let stream: String = parts.iter().map(|part| format!("data: {part}\n\n")).collect();
            assert_eq!(is_complete_stream(stream.as_bytes(), 1000), expect, "{stream}");
        };
        let text = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
        let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;
        check(&[text, stop, usage, "[DONE]"], true);
        check(&[text, stop, usage], false);
        check(&[text, "[DONE]"], false);
        check(&[text, r#"{"choices":[{"finish_reason":"tool_calls"}]}"#, "[DONE]"], false);
        check(&[text, r#"{"error":{}}"#, stop, "[DONE]"], false);
        check(&[stop, "[DONE]", text], false);
        check(&[stop, "not json", "[DONE]"], false);
        assert!(!is_complete_stream(b"event: error\ndata: {}\n\ndata: [DONE]\n\n", 1000));
        assert!(!is_complete_stream(format!("data: {}\n\n", "x".repeat(2000)).as_bytes(), 1000));
    }
}
