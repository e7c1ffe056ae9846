//! What goes on, from where, and what its client sees of that.

use super::*;

fn chat(more: &str) -> Option<Resumable> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"stream":true{more}}}"#
    );
    new(body.as_bytes(), true, Way::Tokens)
}

#[test]
fn only_requests_that_go_on_exactly_are_resumable() {
    for more in [
        "",
        r#","temperature":0.7,"top_p":0.9,"max_tokens":5,"user":"u""#,
        r#","temperature":0,"seed":7,"stop":null,"tools":[],"n":1,"presence_penalty":0"#,
        r#","response_format":{"type":"text"},"repetition_penalty":1.0,"logprobs":false"#,
    ] {
        assert!(chat(more).is_some(), "{more}");
    }
    for more in [
        r#","stop":["x"]"#,
        r#","seed":7"#,
        r#","seed":7,"temperature":0.5"#,
        r#","n":2"#,
        r#","logprobs":true"#,
        r#","presence_penalty":0.5"#,
        r#","repetition_penalty":1.1"#,
        r#","response_format":{"type":"json_object"}"#,
        r#","tools":[{"type":"function"}]"#,
        r#","guided_json":{}"#,
        r#","return_token_ids":true"#,
    ] {
        assert_eq!(chat(more), None, "{more}");
    }
    let parts = |kind: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"{kind}"}}]}}]}}"#)
    };
    assert!(new(parts("text").as_bytes(), true, Way::Tokens).is_some());
    assert_eq!(new(parts("image_url").as_bytes(), true, Way::Tokens), None);
    assert!(new(br#"{"model":"m","prompt":[1,2]}"#, false, Way::Tokens).is_some());
    assert_eq!(new(br#"{"model":"m","prompt":["a","b"]}"#, false, Way::Tokens), None);
    assert_eq!(new(b"{", true, Way::Tokens), None);
}

fn new(body: &[u8], chat: bool, way: Way) -> Option<Resumable> {
    Resumable::new(&Bytes::copy_from_slice(body), chat, way)
}

/// What the client sees of a chunk, as an event in any case.
fn take(resume: &mut Resumable, data: &str) -> Option<Shown> {
    match resume.chunk(data, &Read::of(data)) {
        Some(Shown::Same) => {
            let mut event = Vec::new();
            sse::encode_data(&mut event, data.as_bytes());
            Some(Shown::Event(event))
        }
        shown => shown,
    }
}

fn data(shown: Option<Shown>) -> Value {
    let Some(Shown::Event(event)) = shown else { panic!("{shown:?}") };
    let text = String::from_utf8(event).unwrap();
    serde_json::from_str(text.strip_prefix("data: ").unwrap().trim_end()).unwrap()
}

#[test]
fn the_second_stream_is_the_rest_of_the_first() {
    let mut one = chat(r#","max_tokens":10,"temperature":0"#).unwrap();
    assert!(!one.can_continue());
    let first = r#"{"id":"a","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"prompt_token_ids":[1,2,3],"token_ids":[]}]}"#;
    let shown = data(take(&mut one, first));
    assert_eq!(
        shown["choices"][0],
        json!({"index": 0, "delta": {"role": "assistant", "content": ""}})
    );
    for (text, id) in [("He", 10), ("llo", 11), ("", 12)] {
        let chunk = json!({"id": "a", "object": "chat.completion.chunk", "created": 5, "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "token_ids": [id], "finish_reason": null}]});
        let shown = data(take(&mut one, &chunk.to_string()));
        assert_eq!(shown["choices"][0].get("token_ids"), None);
    }
    assert!(one.can_continue());
    assert_eq!(one.sent(), 2);
    let (path, body) = one.continuation("served");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(path, "/v1/completions");
    assert_eq!(body["prompt"], json!([1, 2, 3, 10, 11]), "what was held back is made again");
    assert_eq!((&body["max_tokens"], &body["model"]), (&json!(8), &json!("served")));
    assert_eq!((body.get("messages"), &body["temperature"]), (None, &json!(0)));

    let opened = r#"{"id":"b","object":"text_completion","created":9,"model":"served","choices":[{"index":0,"text":"","prompt_token_ids":[1,2,3,10,11],"token_ids":[]}]}"#;
    assert_eq!(take(&mut one, opened), Some(Shown::Nothing));
    let rest = r#"{"id":"b","object":"text_completion","created":9,"model":"served","choices":[{"index":0,"text":"é!","token_ids":[12,13],"finish_reason":"stop"}]}"#;
    let shown = data(take(&mut one, rest));
    assert_eq!(
        (&shown["id"], &shown["object"], &shown["model"]),
        (&json!("a"), &json!("chat.completion.chunk"), &json!("m"))
    );
    assert_eq!(shown["choices"][0]["delta"], json!({"content": "é!"}));
    assert_eq!(shown["choices"][0]["finish_reason"], "stop");
    let usage = r#"{"id":"b","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    let shown = data(take(&mut one, usage));
    assert_eq!(
        shown["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
    );
    assert_eq!(one.sent(), 4);
    assert!(!one.can_continue(), "it has its end");
}

#[test]
fn what_tells_no_ids_cannot_go_on() {
    let strange = [
        r#"{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}]}"#,
        r#"{"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{}]},"token_ids":[1]}]}"#,
        r#"{"id":"a","choices":[{"index":0,"delta":{"reasoning_content":"h"},"token_ids":[1]}]}"#,
        r#"{"id":"a"}"#,
        "[DONE]",
    ];
    for chunk in strange {
        let mut one = chat("").unwrap();
        let first = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"x"},"token_ids":[4]}],"prompt_token_ids":[1]}"#;
        take(&mut one, first);
        assert!(one.can_continue());
        let shown = take(&mut one, chunk);
        assert_eq!(shown.is_some(), chunk.contains("choices"), "{chunk}");
        assert_eq!(one.can_continue(), chunk == "[DONE]", "{chunk}");
        if shown.is_some() {
            assert_eq!(data(shown)["choices"][0].get("token_ids"), None, "{chunk}");
        }
    }
}

fn text_chat(more: &str) -> Option<Resumable> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"stream":true{more}}}"#
    );
    new(body.as_bytes(), true, Way::Text)
}

fn delta(text: &str, usage: Option<(u64, u64)>) -> String {
    let mut chunk = json!({"id": "a", "object": "chat.completion.chunk", "created": 5, "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    if let Some((prompt, answer)) = usage {
        chunk["usage"] = json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer});
    }
    chunk.to_string()
}

#[test]
fn only_plain_text_goes_on_as_text() {
    for more in
        ["", r#","stop":["x"],"temperature":0"#, r#","stream_options":{"include_usage":true}"#]
    {
        assert!(text_chat(more).is_some(), "{more}");
    }
    for more in [
        r#","tools":[{"type":"function"}]"#,
        r#","n":2"#,
        r#","logprobs":true"#,
        r#","response_format":{"type":"json_schema"}"#,
        r#","continue_final_message":true"#,
        r#","stream_options":{"continuous_usage_stats":true}"#,
    ] {
        assert_eq!(text_chat(more), None, "{more}");
    }
    let completion = |prompt: &str| {
        let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
        new(body.as_bytes(), false, Way::Text).is_some()
    };
    assert!(completion("\"a\"") && !completion("[1,2]") && !completion(r#"["a","b"]"#));
    // Templates take thoughts out of messages: what is left is another text.
    let mut one = text_chat("").unwrap();
    take(&mut one, &delta("<thi", None)).unwrap();
    assert!(one.can_continue());
    take(&mut one, &delta("nk>", None)).unwrap();
    assert!(!one.can_continue());
}

#[test]
fn text_goes_on_as_an_unfinished_message_with_its_counts_added_up() {
    let mut one = text_chat(r#","max_completion_tokens":10"#).unwrap();
    let shown = data(take(&mut one, &delta("", Some((7, 0)))));
    assert_eq!(shown.get("usage"), None, "the client did not ask for it");
    for (text, count) in [("One", 1), (" two", 3), ("  ", 4)] {
        data(take(&mut one, &delta(text, Some((7, count)))));
    }
    let (path, body) = one.continuation("served");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "One two"}));
    assert_eq!(
        (&body["continue_final_message"], &body["add_generation_prompt"]),
        (&json!(true), &json!(false))
    );
    assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(6), None));
    let role = r#"{"id":"b","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":10,"completion_tokens":0,"total_tokens":10}}"#;
    assert_eq!(take(&mut one, role), Some(Shown::Nothing));
    assert_eq!(
        take(&mut one, &delta(" ", Some((10, 1)))),
        Some(Shown::Nothing),
        "the client has it"
    );
    let shown = data(take(&mut one, &delta(" three", Some((10, 2)))));
    assert_eq!(shown["choices"][0]["delta"], json!({"content": "three"}));
    assert_eq!(shown["id"], "a");
    // It breaks again, and goes on once more.
    let (_, body) = one.continuation("served");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["messages"][1]["content"], "One two  three");
    assert_eq!(body["max_completion_tokens"], 4);
    data(take(&mut one, &delta(" four", Some((12, 1)))));
    let usage = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14}}"#;
    assert_eq!(
        data(take(&mut one, usage))["usage"],
        json!({"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15})
    );
}

#[test]
fn a_completion_goes_on_as_a_longer_prompt() {
    let mut one =
        new(br#"{"model":"m","prompt":"Say: ","max_tokens":9}"#, false, Way::Text).unwrap();
    let chunk =
        |text: &str| json!({"id": "a", "choices": [{"index": 0, "text": text}]}).to_string();
    data(take(&mut one, &chunk("a b\n")));
    data(take(&mut one, &chunk("c")));
    let (path, body) = one.continuation("m");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((path, &body["prompt"]), ("/v1/completions", &json!("Say: a b\nc")));
    assert_eq!(body["max_tokens"], 7, "chunks are counted where the engine does not");
    assert_eq!(data(take(&mut one, &chunk(" d")))["choices"][0]["text"], " d");
}

#[test]
fn an_answer_that_ended_before_its_stream_has_a_usage() {
    let mut one = chat("").unwrap();
    assert_eq!(one.usage(), None);
    let first = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"x"},"token_ids":[4]}],"prompt_token_ids":[1,2,3]}"#;
    take(&mut one, first).unwrap();
    let last = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"y"},"token_ids":[5],"finish_reason":"stop"}]}"#;
    take(&mut one, last).unwrap();
    assert!(one.is_finished());
    let usage = data(one.usage().map(Shown::Event));
    assert_eq!(
        (&usage["id"], &usage["usage"]),
        (&json!("a"), &json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}))
    );
}

#[test]
fn the_quick_way_says_what_the_slow_one_does() {
    let first = r#"{"id":"a","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"prompt_token_ids":[1,2],"token_ids":[]}]}"#;
    let chunks = [
        r#"{"id":"a","choices":[{"index":0,"delta":{"content":"b"}}]}"#,
        r#"{"id":"a","choices":[{"index":0,"delta":{"content":"<th"},"token_ids":[3]}],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}"#,
        r#"{"usage" : {"prompt_tokens":2,"completion_tokens":2} , "choices":[{"token_ids" : [4, 5],"index":0,"delta":{"content":"ink>\n\u00e9"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":""},"token_ids":[6],"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"x","reasoning":"y"},"token_ids":[7]}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"token_ids":[8],"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":5,"total_tokens":7}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":-2}}"#,
        r#"{"object":"none"}"#,
    ];
    for way in [Way::Tokens, Way::Text] {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
        let mut quick = new(body, true, way).unwrap();
        let mut slow = quick.clone();
        for chunk in std::iter::once(&first).chain(&chunks) {
            let (one, other) = (take(&mut quick, chunk), slow.slow_chunk(chunk));
            assert_eq!(one.is_some(), other.is_some(), "{way:?} {chunk}");
            if one.is_some() {
                assert_eq!(data(one), data(other), "{way:?} {chunk}");
            }
            assert_eq!(quick, slow, "{way:?} {chunk}");
        }
    }
}
