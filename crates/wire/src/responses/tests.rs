//! The translation both ways, as tables; streams as the events that come out.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chunks::{ROLE, STOP, TEXT, THOUGHT_TEXT_CALLS, USAGE};
use crate::sse::{Decoder, Event};

fn request(members: &str) -> Request {
    let body = format!(r#"{{"model":"m",{members}}}"#);
    Request::read(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn chat(members: &str, history: &[Value]) -> Value {
    serde_json::from_slice(&request(members).chat(history).unwrap()).unwrap()
}

#[test]
fn members_become_those_of_a_chat() {
    let check = |members: &str, expect: Value| {
        let mut chat = chat(&format!(r#""input":"Hi"{members}"#), &[]);
        let chat = chat.as_object_mut().unwrap();
        assert_eq!(chat.shift_remove("messages"), Some(json!([{"role": "user", "content": "Hi"}])));
        assert_eq!(chat.shift_remove("model"), Some(json!("m")));
        assert_eq!(Value::Object(chat.clone()), expect, "{members}");
    };
    check("", json!({}));
    check(
        r#","max_output_tokens":5,"temperature":0,"top_p":1"#,
        json!({"temperature": 0, "top_p": 1, "max_tokens": 5}),
    );
    check(
        r#","metadata":{"a":"b"},"truncation":"disabled","background":false,"store":false"#,
        json!({}),
    );
    check(r#","stream":true"#, json!({"stream": true, "stream_options": {"include_usage": true}}));
    check(r#","reasoning":{"effort":"low","summary":"auto"}"#, json!({"reasoning_effort": "low"}));
    check(
        r#","tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true,"description":null}],"tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false"#,
        json!({"parallel_tool_calls": false, "tools": [{"type": "function", "function":
            {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    );
    check(r#","tool_choice":"required""#, json!({"tool_choice": "required"}));
    check(r#","text":{"format":{"type":"text"}}"#, json!({}));
    check(
        r#","text":{"format":{"type":"json_object"}}"#,
        json!({"response_format": {"type": "json_object"}}),
    );
    check(
        r#","text":{"format":{"type":"json_schema","name":"n","schema":{},"strict":true},"verbosity":"low"}"#,
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": true}}}),
    );
    check(
        r#","include":["message.output_text.logprobs"],"top_logprobs":2"#,
        json!({"logprobs": true, "top_logprobs": 2}),
    );
}

#[test]
fn items_become_messages() {
    let check = |members: &str, expect: Value| {
        assert_eq!(chat(members, &[])["messages"], expect, "{members}");
    };
    check(
        r#""instructions":"Be brief","input":[{"role":"developer","content":"Be kind"},{"role":"user","content":"Hi"}]"#,
        json!([{"role": "system", "content": "Be brief\n\nBe kind"}, {"role": "user", "content": "Hi"}]),
    );
    check(
        r#""input":[{"type":"message","role":"user","content":[
            {"type":"input_text","text":"a"},{"type":"input_image","image_url":"data:x","detail":"low"},
            {"type":"input_file","filename":"f","file_data":"data:y"},
            {"type":"input_audio","input_audio":{"data":"A","format":"wav"}}]}]"#,
        json!([{"role": "user", "content": [
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
            {"type": "file", "file": {"filename": "f", "file_data": "data:y"}},
            {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}}]}]),
    );
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    check(
        r#""input":[
            {"role":"user","content":"Weather?"},
            {"type":"reasoning","id":"rs","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
            {"type":"message","role":"assistant","id":"m1","status":"completed","content":[{"type":"output_text","text":"I look.","annotations":[]}]},
            {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
            {"type":"function_call","call_id":"c2","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c1","output":"rain"},
            {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"sun"}]},
            {"type":"function_call","call_id":"c3","name":"f","arguments":"{}"}]"#,
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [call("c1"), call("c2")]},
            {"role": "tool", "content": "rain", "tool_call_id": "c1"},
            {"role": "tool", "content": "sun", "tool_call_id": "c2"},
            {"role": "assistant", "content": null, "tool_calls": [call("c3")]}]),
    );
}

#[test]
fn a_response_goes_on_from_what_was_kept() {
    let first = request(r#""input":"My name is Ada.","instructions":"Forget me""#);
    let frame = Frame::new(&first, "resp_1", 5);
    let mut history = frame.input(&first);
    assert_eq!(
        history,
        [json!({"id": "in_1_0", "type": "message", "role": "user", "status": "completed",
            "content": [{"type": "input_text", "text": "My name is Ada."}]})]
    );
    let response =
        frame.from_chat(br#"{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}"#);
    history.extend(response.unwrap()["output"].as_array().unwrap().clone());
    let second = r#""previous_response_id":"resp_1","input":"What is it?""#;
    assert_eq!(request(second).previous.as_deref(), Some("resp_1"));
    assert_eq!(
        chat(second, &history)["messages"],
        json!([{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "What is it?"}]),
        "instructions are not carried over"
    );
}

#[test]
fn what_is_wrong_or_not_here_is_named() {
    let check = |body: &str, param: Option<&str>| {
        let error =
            Request::read(body.as_bytes()).and_then(|request| request.chat(&[])).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, param), "{body}: {error}");
    };
    let with = |members: &str| format!(r#"{{"model":"m","input":"Hi",{members}}}"#);
    let item = |item: &str| format!(r#"{{"model":"m","input":[{item}]}}"#);
    check("{", None);
    check(r#"{"input":"a"}"#, Some("model"));
    check(r#"{"model":"m"}"#, Some("input"));
    check(r#"{"model":"m","input":[]}"#, Some("input"));
    check(&with(r#""background":true"#), Some("background"));
    check(&with(r#""conversation":"c""#), Some("conversation"));
    check(&with(r#""prompt":{"id":"p"}"#), Some("prompt"));
    check(&with(r#""truncation":"auto""#), Some("truncation"));
    check(&with(r#""store":1"#), Some("store"));
    check(&with(r#""max_output_tokens":0"#), Some("max_output_tokens"));
    for tool in ["web_search", "file_search", "computer_use_preview", "mcp", "custom"] {
        check(&with(&format!(r#""tools":[{{"type":"{tool}"}}]"#)), Some("tools[0].type"));
    }
    check(&with(r#""tool_choice":{"type":"file_search"}"#), Some("tool_choice"));
    check(&with(r#""text":{"format":{"type":"xml"}}"#), Some("text.format.type"));
    check(&item(r#"{"type":"item_reference","id":"x"}"#), Some("input[0].type"));
    check(&item(r#"{"role":"robot","content":"x"}"#), Some("input[0].role"));
    check(
        &item(r#"{"role":"user","content":[{"type":"input_image","file_id":"f"}]}"#),
        Some("input[0].content[0].file_id"),
    );
    check(
        &item(r#"{"role":"user","content":[{"type":"input_video"}]}"#),
        Some("input[0].content[0].type"),
    );
    check(&item(r#"{"type":"function_call","name":"f"}"#), Some("input[0]"));
}

#[test]
fn completions_become_responses() {
    let asked = request(r#""input":"Hi","max_output_tokens":5,"metadata":{"a":"b"}"#);
    let frame = Frame::new(&asked, "resp_1", 77);
    let response = frame
        .from_chat(
            br#"{"choices":[{"message":{"reasoning":"hm","content":"Hi","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],
                "usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        )
        .unwrap();
    assert_eq!(
        response["output"],
        json!([
            {"id": "rs_1_0", "type": "reasoning", "status": "completed", "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"id": "msg_1_1", "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]},
            {"id": "fc_1_2", "type": "function_call", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"},
        ])
    );
    assert_eq!(
        response["usage"],
        json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 11})
    );
    let told = |name: &str| response[name].clone();
    assert_eq!(
        [
            told("id"),
            told("object"),
            told("created_at"),
            told("status"),
            told("store"),
            told("metadata"),
            told("max_output_tokens")
        ],
        [
            json!("resp_1"),
            json!("response"),
            json!(77),
            json!("completed"),
            json!(true),
            json!({"a": "b"}),
            json!(5)
        ]
    );
    let cut = frame
        .from_chat(br#"{"choices":[{"message":{"content":"H"},"finish_reason":"length"}]}"#)
        .unwrap();
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"], &cut["output"][0]["status"]),
        (&json!("incomplete"), &json!({"reason": "max_output_tokens"}), &json!("incomplete"))
    );
    assert_eq!(frame.from_chat(b"{}"), None);
}

fn stream() -> Stream {
    Stream::new(Frame::new(&request(r#""input":"Hi""#), "resp_1", 5))
}

fn events(stream: &mut Stream, chunks: &[&str]) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for chunk in chunks {
        stream.push(chunk, &mut out);
    }
    let mut decoder = Decoder::default();
    decoder.push(&out).unwrap();
    decoder.finish().unwrap();
    let one = |Event { name, data }| (name.unwrap(), serde_json::from_str(&data).unwrap());
    let events: Vec<(String, Value)> = std::iter::from_fn(|| decoder.next()).map(one).collect();
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
    }
    events
}

#[test]
fn a_stream_of_text_has_typed_events_in_their_order() {
    let mut stream = stream();
    let events = events(&mut stream, &[ROLE, TEXT, TEXT, STOP, USAGE, "[DONE]", TEXT]);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(
        events[4].1,
        json!({"type": "response.output_text.delta", "sequence_number": 4, "output_index": 0,
            "item_id": "msg_1_0", "content_index": 0, "delta": "Hi", "logprobs": []})
    );
    assert_eq!(events[6].1["text"], "HiHi");
    let last = &events[9].1["response"];
    assert_eq!((&last["status"], &last["output"][0]), (&json!("completed"), &events[8].1["item"]));
    assert_eq!(last["usage"]["total_tokens"], 11);
    assert_eq!(stream.take_response().as_ref(), Some(last));
}

#[test]
fn thoughts_texts_and_calls_are_items_one_after_the_other() {
    let mut stream = stream();
    let end = [r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#, "[DONE]"];
    let events = events(&mut stream, &[&THOUGHT_TEXT_CALLS[..], &end].concat());
    let brief: Vec<String> = events
        .iter()
        .filter(|(name, _)| name.ends_with("delta") || name.ends_with("item.done"))
        .map(|(name, data)| {
            let item = &data["item"];
            let what = if item.is_null() {
                data["delta"].to_string()
            } else {
                format!("{} {}", item["type"], item["status"])
            };
            format!("{} {} {what}", data["output_index"], name.trim_start_matches("response."))
        })
        .collect();
    assert_eq!(
        brief,
        [
            r#"0 reasoning_text.delta "hm""#,
            r#"0 output_item.done "reasoning" "completed""#,
            r#"1 output_text.delta "Hi""#,
            r#"1 output_item.done "message" "completed""#,
            r#"2 function_call_arguments.delta "{\"x\":""#,
            r#"2 function_call_arguments.delta "1}""#,
            r#"2 output_item.done "function_call" "completed""#,
            r#"3 function_call_arguments.delta "{}""#,
            r#"3 output_item.done "function_call" "completed""#,
        ]
    );
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "response.incomplete");
    assert_eq!(data["response"]["output"][2]["arguments"], "{\"x\":1}");
    assert_eq!(data["response"]["output"][3]["call_id"], "b");
}

#[test]
fn a_stream_that_breaks_ends_as_failed_and_is_no_response() {
    for broken in [r#"{"error":{"message":"no"}}"#, "no JSON"] {
        let mut stream = stream();
        let events = events(&mut stream, &[TEXT, broken, TEXT, "[DONE]"]);
        let (name, data) = events.last().unwrap();
        assert_eq!(
            (name.as_str(), &data["response"]["status"]),
            ("response.failed", &json!("failed"))
        );
        assert_eq!(data["response"]["error"]["code"], "server_error");
        assert_eq!(stream.take_response(), None);
    }
    let mut out = Vec::new();
    let mut stream = stream();
    stream.fail("late", &mut out);
    assert!(stream.is_over());
    assert!(String::from_utf8(out).unwrap().starts_with("event: response.created"));
}

proptest! {
    /// However an engine cuts its text and arguments, the response is the same.
    #[test]
    fn any_cut_of_an_answer_makes_the_same_response(
        text in "[a-zé\n]{0,12}",
        arguments in "[a-z{}\":]{0,12}",
        size in 1usize..5,
    ) {
        let chunks = |size: usize| {
            let mut chunks = Vec::new();
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(size) {
                chunks.push(json!({"choices": [{"delta": {"content": piece.iter().collect::<String>()}}]}).to_string());
            }
            chunks.push(json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}}]}).to_string());
            for piece in arguments.as_bytes().chunks(size) {
                let piece = String::from_utf8(piece.to_vec()).unwrap();
                chunks.push(json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]}).to_string());
            }
            chunks.push("[DONE]".to_owned());
            chunks
        };
        let response = |size: usize| {
            let mut stream = stream();
            for chunk in chunks(size) {
                stream.push(&chunk, &mut Vec::new());
            }
            stream.take_response()
        };
        prop_assert_eq!(response(size), response(100));
        prop_assert_eq!(stream().take_response(), None);
    }

    #[test]
    fn no_body_and_no_chunk_panics(text in "[\\[\\]{}:,\"a-z0-9]{0,40}", chunk in "[\\[\\]{}:,\"a-z]{0,40}") {
        let body = format!(r#"{{"model":"m","input":[{text}]}}"#);
        let _ = Request::read(body.as_bytes()).and_then(|request| request.chat(&[]));
        stream().push(&chunk, &mut Vec::new());
    }
}
