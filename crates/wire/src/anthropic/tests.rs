//! The translation both ways, as tables; streams as the events that come out.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chunks::{ROLE, STOP, TEXT, THOUGHT_TEXT_CALLS, USAGE};
use crate::sse::{Decoder, Event};

fn chat(members: &str) -> Value {
    let body = format!(r#"{{"model":"m","max_tokens":9,{members}}}"#);
    let asked = to_chat(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    serde_json::from_slice(&asked.chat).unwrap()
}

const HI: &str = r#""messages":[{"role":"user","content":"Hi"}]"#;

#[test]
fn members_become_those_of_a_chat() {
    let check = |members: &str, expect: Value| {
        let mut chat = chat(&format!("{HI}{members}"));
        let chat = chat.as_object_mut().unwrap();
        assert_eq!(chat.shift_remove("messages"), Some(json!([{"role": "user", "content": "Hi"}])));
        assert_eq!(chat.shift_remove("model"), Some(json!("m")));
        assert_eq!(chat.shift_remove("max_tokens"), Some(json!(9)));
        assert_eq!(Value::Object(chat.clone()), expect, "{members}");
    };
    check("", json!({}));
    check(
        r#","temperature":0,"top_p":0.5,"top_k":4"#,
        json!({"temperature": 0, "top_p": 0.5, "top_k": 4}),
    );
    check(
        r#","stop_sequences":["a"],"metadata":{"user_id":"u"}"#,
        json!({"stop": ["a"], "user": "u"}),
    );
    check(r#","stream":true"#, json!({"stream": true, "stream_options": {"include_usage": true}}));
    check(
        r#","stream":null,"service_tier":"auto","cache_control":{"type":"ephemeral"}"#,
        json!({}),
    );
    check(
        r#","tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"cache_control":{}}]"#,
        json!({"tools": [{"type": "function", "function":
            {"name": "f", "description": "d", "parameters": {"type": "object"}}}]}),
    );
    check(r#","tools":[]"#, json!({}));
    check(r#","tool_choice":{"type":"auto"}"#, json!({"tool_choice": "auto"}));
    check(
        r#","tool_choice":{"type":"any","disable_parallel_tool_use":true}"#,
        json!({"tool_choice": "required", "parallel_tool_calls": false}),
    );
    check(r#","tool_choice":{"type":"none"}"#, json!({"tool_choice": "none"}));
    check(
        r#","tool_choice":{"type":"tool","name":"f"}"#,
        json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
    );
    check(
        r#","thinking":{"type":"enabled","budget_tokens":1024}"#,
        json!({"chat_template_kwargs": {"enable_thinking": true}}),
    );
    check(
        r#","output_config":{"effort":"max","format":{"type":"json_schema","schema":{"type":"object"}}}"#,
        json!({"reasoning_effort": "high", "response_format": {"type": "json_schema",
            "json_schema": {"name": "answer", "strict": true, "schema": {"type": "object"}}}}),
    );
}

#[test]
fn turns_become_messages() {
    let check =
        |members: &str, expect: Value| assert_eq!(chat(members)["messages"], expect, "{members}");
    check(
        &format!(r#""system":"Be brief",{HI}"#),
        json!([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]),
    );
    check(
        &format!(
            r#""system":[{{"type":"text","text":"a"}},{{"type":"text","text":"b","cache_control":{{}}}}],{HI}"#
        ),
        json!([{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "Hi"}]),
    );
    check(
        r#""messages":[{"role":"user","content":[
            {"type":"text","text":"What?"},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA"}},
            {"type":"image","source":{"type":"url","url":"https://x/y"}},
            {"type":"document","title":"t","source":{"type":"text","data":"d"}},
            {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"BB"}},
            {"type":"search_result","title":"T","source":"S","content":[{"type":"text","text":"C"}]}]}]"#,
        json!([{"role": "user", "content": [
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
            {"type": "image_url", "image_url": {"url": "https://x/y"}},
            {"type": "text", "text": "t\nd"},
            {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,BB"}},
            {"type": "text", "text": "T\nS\nC"}]}]),
    );
    check(
        r#""messages":[
            {"role":"user","content":"Weather?"},
            {"role":"assistant","content":[
                {"type":"thinking","thinking":"hm","signature":"s"},
                {"type":"redacted_thinking","data":"x"},
                {"type":"text","text":"I look."},
                {"type":"tool_use","id":"t1","name":"f","input":{"b":1,"a":2}},
                {"type":"tool_use","id":"t2","name":"g","input":{}}]},
            {"role":"user","content":[
                {"type":"tool_result","tool_use_id":"t1","content":"rain"},
                {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"a"},
                    {"type":"image","source":{"type":"url","url":"u"}}]},
                {"type":"text","text":"So?"}]}]"#,
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"b\":1,\"a\":2}"}},
                {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "rain"},
            {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "u"}}]},
            {"role": "user", "content": "So?"}]),
    );
    check(
        r#""messages":[{"role":"user","content":"a"},{"role":"assistant","content":[
            {"type":"tool_use","id":"t","name":"f","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]"#,
        json!([{"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "t", "content": ""}]),
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |body: &str, param: Option<&str>| {
        let error = to_chat(body.as_bytes()).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, param), "{body}: {error}");
    };
    let with = |members: &str| format!(r#"{{"model":"m","max_tokens":9,{HI},{members}}}"#);
    let user = |block: &str| {
        format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":[{block}]}}]}}"#
        )
    };
    check("{", None);
    check("[]", None);
    check(&format!("{{{HI}}}"), Some("model"));
    check(&format!(r#"{{"model":"m",{HI}}}"#), Some("max_tokens"));
    check(&format!(r#"{{"model":"m","max_tokens":0,{HI}}}"#), Some("max_tokens"));
    check(r#"{"model":"m","max_tokens":9}"#, Some("messages"));
    check(r#"{"model":"m","max_tokens":9,"messages":[]}"#, Some("messages"));
    check(
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"x","content":"a"}]}"#,
        Some("messages[0].role"),
    );
    check(
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":"a"}]}"#,
        Some("messages[0].role"),
    );
    check(&with(r#""container":"c""#), Some("container"));
    check(&with(r#""mcp_servers":[{}]"#), Some("mcp_servers"));
    check(&with(r#""stream":1"#), Some("stream"));
    check(&with(r#""system":5"#), Some("system"));
    check(&with(r#""tools":[{"type":"web_search_20250305","name":"w"}]"#), Some("tools[0].type"));
    check(&with(r#""tools":[{"name":"w"}]"#), Some("tools[0].input_schema"));
    check(&with(r#""tool_choice":{"type":"tool"}"#), Some("tool_choice.name"));
    check(&with(r#""thinking":{"type":"?"}"#), Some("thinking.type"));
    check(&user(r#"{"type":"text"}"#), Some("messages[0].content[0].text"));
    check(&user(r#"{"type":"container_upload"}"#), Some("messages[0].content[0].type"));
    check(&user(r#"{"type":"tool_result"}"#), Some("messages[0].content[0].tool_use_id"));
    check(
        &user(r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#),
        Some("messages[0].content[0].source.type"),
    );
    check(
        &user(r#"{"type":"document","source":{"type":"url","url":"u"}}"#),
        Some("messages[0].content[0].source.type"),
    );
}

#[test]
fn a_count_asks_for_what_the_template_reads() {
    let body = format!(r#"{{"model":"m","system":"s",{HI},"temperature":1}}"#);
    let asked = to_count(body.as_bytes()).unwrap();
    let chat: Value = serde_json::from_slice(&asked.chat).unwrap();
    assert_eq!(
        chat,
        json!({"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}]})
    );
}

#[test]
fn completions_become_messages() {
    let check = |choice: &str, usage: &str, expect: Value| {
        let completion =
            format!(r#"{{"id":"c","model":"served","choices":[{choice}],"usage":{usage}}}"#);
        let message = from_chat(completion.as_bytes(), "msg_1", "m").unwrap();
        let mut message: Value = serde_json::from_slice(&message).unwrap();
        let fixed =
            ["id", "type", "role", "model"].map(|name| message[name].as_str().unwrap().to_owned());
        assert_eq!(fixed, ["msg_1", "message", "assistant", "m"]);
        message
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !matches!(name.as_str(), "id" | "type" | "role" | "model"));
        assert_eq!(message, expect, "{choice}");
    };
    check(
        r#"{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop","stop_reason":null}"#,
        r#"{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}"#,
        json!({"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 2}}),
    );
    let none = json!({"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0});
    let rest = |content: Value, reason: &str, stop: Value| json!({"content": content, "stop_reason": reason, "stop_sequence": stop, "usage": none});
    check(
        r#"{"message":{"content":""},"finish_reason":"length"}"#,
        "null",
        rest(json!([]), "max_tokens", Value::Null),
    );
    check(
        r#"{"message":{"content":"a"},"finish_reason":"stop","stop_reason":"END"}"#,
        "null",
        rest(json!([{"type": "text", "text": "a"}]), "stop_sequence", json!("END")),
    );
    check(
        r#"{"message":{"content":"a"},"finish_reason":"content_filter"}"#,
        "null",
        rest(json!([{"type": "text", "text": "a"}]), "refusal", Value::Null),
    );
    let call = |id: &str, arguments: &str| {
        let call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        call.to_string()
    };
    check(
        &format!(
            r#"{{"message":{{"reasoning":"hm","content":null,"tool_calls":[{},{},{}]}},"finish_reason":"stop"}}"#,
            call("c1", "{\"a\":1}"),
            call("", ""),
            call("c3", "{\"a\":")
        ),
        "null",
        rest(
            json!([
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "c3", "name": "f", "input": {"INVALID_JSON": "{\"a\":"}},
            ]),
            "tool_use",
            Value::Null,
        ),
    );
    assert_eq!(from_chat(b"{}", "i", "m"), None);
    assert_eq!(from_chat(b"oops", "i", "m"), None);
}

/// Names and data of the events that these chunks become.
fn events(chunks: &[&str]) -> Vec<(String, Value)> {
    let mut stream = Stream::new("msg_1", "m");
    let mut out = Vec::new();
    for chunk in chunks {
        stream.push(chunk, "req", &mut out);
    }
    read(&out)
}

fn read(bytes: &[u8]) -> Vec<(String, Value)> {
    let mut decoder = Decoder::default();
    decoder.push(bytes).unwrap();
    decoder.finish().unwrap();
    let one = |Event { name, data }| (name.unwrap(), serde_json::from_str(&data).unwrap());
    std::iter::from_fn(|| decoder.next()).map(one).collect()
}

#[test]
fn a_stream_of_text_has_anthropics_events_in_their_order() {
    let events = events(&[ROLE, TEXT, TEXT, STOP, USAGE, "[DONE]", TEXT]);
    let (names, data): (Vec<String>, Vec<Value>) = events.into_iter().unzip();
    assert_eq!(
        names,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(names.iter().zip(&data).all(|(name, data)| data["type"] == **name));
    let message = &data[0]["message"];
    assert_eq!((&message["id"], &message["content"]), (&json!("msg_1"), &json!([])));
    assert_eq!(
        data[2],
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    );
    assert_eq!(
        data[3],
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}})
    );
    assert_eq!(data[6]["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
    assert_eq!(
        (&data[6]["usage"]["input_tokens"], &data[6]["usage"]["output_tokens"]),
        (&json!(9), &json!(2))
    );
}

#[test]
fn thoughts_texts_and_calls_are_blocks_one_after_the_other() {
    let end = [r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#, "[DONE]"];
    let events = events(&[&THOUGHT_TEXT_CALLS[..], &end].concat());
    let brief: Vec<String> = events
        .iter()
        .filter(|(name, _)| name.starts_with("content_block"))
        .map(|(name, data)| {
            let kind = name.trim_start_matches("content_block_");
            let block = data["content_block"].to_string();
            let delta = data["delta"].to_string();
            format!("{} {kind} {}", data["index"], if kind == "start" { block } else { delta })
        })
        .collect();
    assert_eq!(
        brief,
        [
            r#"0 start {"type":"thinking","thinking":"","signature":""}"#,
            r#"0 delta {"type":"thinking_delta","thinking":"hm"}"#,
            "0 stop null",
            r#"1 start {"type":"text","text":""}"#,
            r#"1 delta {"type":"text_delta","text":"Hi"}"#,
            "1 stop null",
            r#"2 start {"type":"tool_use","id":"a","name":"f","input":{}}"#,
            r#"2 delta {"type":"input_json_delta","partial_json":"{\"x\":"}"#,
            r#"2 delta {"type":"input_json_delta","partial_json":"1}"}"#,
            "2 stop null",
            r#"3 start {"type":"tool_use","id":"b","name":"g","input":{}}"#,
            r#"3 delta {"type":"input_json_delta","partial_json":"{}"}"#,
            "3 stop null",
        ]
    );
    assert_eq!(events[events.len() - 2].1["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_stream_that_breaks_ends_with_an_error_and_nothing_else() {
    for broken in [r#"{"error":{"message":"no"}}"#, "no JSON"] {
        let events = events(&[ROLE, TEXT, broken, TEXT, "[DONE]"]);
        let (name, data) = events.last().unwrap();
        assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("api_error")));
        assert!(events.iter().all(|(name, _)| name != "message_stop"));
    }
    let mut stream = Stream::new("i", "m");
    let mut out = Vec::new();
    stream.fail(503, "late", "req-1", &mut out);
    stream.fail(503, "again", "req-1", &mut out);
    stream.push("[DONE]", "req", &mut out);
    assert!(stream.is_over());
    assert_eq!(
        read(&out),
        [(
            "error".to_owned(),
            json!({"type": "error", "request_id": "req-1",
            "error": {"type": "overloaded_error", "message": "late"}})
        )]
    );
}

#[test]
fn errors_have_anthropics_names() {
    let check = |code: u16, expect: &str, sent: u16| {
        let body: Value = serde_json::from_slice(&error(code, "m", "r")).unwrap();
        assert_eq!((body["error"]["type"].as_str(), status(code)), (Some(expect), sent));
    };
    check(400, "invalid_request_error", 400);
    check(401, "authentication_error", 401);
    check(402, "billing_error", 402);
    check(403, "permission_error", 403);
    check(404, "not_found_error", 404);
    check(408, "invalid_request_error", 408);
    check(413, "request_too_large", 413);
    check(429, "rate_limit_error", 429);
    check(500, "api_error", 500);
    check(502, "api_error", 502);
    check(503, "overloaded_error", 529);
    check(504, "timeout_error", 504);
}

proptest! {
    /// However an engine cuts its text and arguments, the blocks hold the same.
    #[test]
    fn any_cut_of_an_answer_makes_the_same_message(
        text in "[a-zé\n]{0,12}",
        arguments in "[a-z{}\":]{0,12}",
        size in 1usize..5,
    ) {
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
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        let events = events(&chunks);
        let joined = |member: &str| -> String {
            events.iter().filter_map(|(_, data)| data["delta"][member].as_str()).collect()
        };
        prop_assert_eq!(joined("text"), text);
        prop_assert_eq!(joined("partial_json"), arguments);
        let starts = events.iter().filter(|(name, _)| name == "content_block_start").count();
        let stops = events.iter().filter(|(name, _)| name == "content_block_stop").count();
        prop_assert_eq!(starts, stops);
        prop_assert!(events.last().unwrap().0 == "message_stop");
    }

    #[test]
    fn no_body_and_no_chunk_panics(text in "[\\[\\]{}:,\"a-z0-9]{0,40}", chunk in "[\\[\\]{}:,\"a-z]{0,40}") {
        let _ = to_chat(text.as_bytes());
        let _ = to_chat(format!(r#"{{"model":"m","max_tokens":1,"messages":[{text}]}}"#).as_bytes());
        let mut stream = Stream::new("i", "m");
        stream.push(&chunk, "req", &mut Vec::new());
    }
}
