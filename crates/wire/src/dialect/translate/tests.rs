//! Requests as they go out, and answers of documented and recorded shape as they come back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const COMPLETION: &str =
    r#"{"model":"m","prompt":"Once","max_tokens":5,"temperature":0,"stop":"\n","seed":3}"#;

fn told(own: Own, path: &str, body: &str) -> Told {
    tell(own, path, body.as_bytes(), ("7", 99)).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn requests_are_told() {
    let check = |own: Own, path: &str, expect: &[(&str, Value)]| {
        let told = told(own, COMPLETIONS, COMPLETION);
        assert_eq!(told.path, path);
        let body = json(&told.body);
        for (member, value) in expect {
            assert_eq!(body.pointer(member), Some(value), "{member} of {body}");
        }
    };
    check(
        Own::Triton,
        "/v2/models/m/generate",
        &[
            ("/text_input", json!("Once")),
            ("/max_tokens", json!(5)),
            ("/stop_words", json!("\n")),
            ("/exclude_input_in_output", json!(true)),
            ("/stream", json!(false)),
            (
                "/sampling_parameters",
                json!(r#"{"max_tokens":5,"temperature":0.0,"seed":3,"stop":["\n"]}"#),
            ),
        ],
    );
    check(
        Own::Tgi,
        "/generate",
        &[
            ("/inputs", json!("Once")),
            (
                "/parameters",
                json!({"details":true,"return_full_text":false,"max_new_tokens":5,"seed":3,"stop":["\n"]}),
            ),
        ],
    );
    check(
        Own::Ollama,
        "/api/generate",
        &[
            ("/prompt", json!("Once")),
            ("/raw", json!(true)),
            ("/options/num_predict", json!(5)),
            ("/options/stop", json!(["\n"])),
        ],
    );
    let body = r#"{"model":"a/b","prompt":["Once"],"max_tokens":5,"temperature":0}"#;
    let told = told(Own::DeepSpeed, COMPLETIONS, body);
    assert_eq!(told.path, "/mii/a%2Fb");
    assert_eq!(
        json(&told.body),
        json!({"prompts":["Once"],"return_full_text":false,"max_new_tokens":5,"do_sample":false})
    );
}

#[test]
fn chats_are_told_to_who_has_templates() {
    let chat = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"What?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object"}}},"max_completion_tokens":9}"#;
    let ollama = told(Own::Ollama, CHAT, chat);
    assert_eq!(ollama.path, "/api/chat");
    let body = json(&ollama.body);
    assert_eq!(body["messages"][1], json!({"role":"user","content":"What?","images":["AAAA"]}));
    assert_eq!(
        (&body["format"], &body["options"]["num_predict"]),
        (&json!({"type":"object"}), &json!(9))
    );
    for own in [Own::Triton, Own::Tgi, Own::DeepSpeed] {
        let error = tell(own, CHAT, chat.as_bytes(), ("7", 0)).unwrap_err();
        assert_eq!((error.status, error.code.as_deref()), (400, Some(UNSUPPORTED)), "{error}");
    }
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let check = |own: Own, members: &str, param: &str| {
        let body = format!(r#"{{"model":"m","prompt":"x","messages":[],{members}}}"#);
        let path = if own == Own::Ollama { CHAT } else { COMPLETIONS };
        let error = tell(own, path, body.as_bytes(), ("7", 0)).unwrap_err();
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, Some(param)),
            "{members}: {error}"
        );
    };
    for own in [Own::Triton, Own::Tgi, Own::DeepSpeed, Own::Ollama] {
        check(own, r#""tools":[{"type":"function"}]"#, "tools");
        check(own, r#""logprobs":true"#, "logprobs");
        check(own, r#""n":2"#, "n");
        check(own, r#""logit_bias":{"5":1}"#, "logit_bias");
        check(own, r#""guided_json":{"type":"object"}"#, "guided_json");
        check(own, r#""top_k":-1,"min_p":0,"repetition_penalty":1.1"#, "repetition_penalty");
        check(own, r#""stop":[1]"#, "stop");
        check(own, r#""response_format":{"type":"grammar"}"#, "response_format");
    }
    check(Own::Triton, r#""stop":["a","b"]"#, "stop");
    check(Own::Triton, r#""response_format":{"type":"json_object"}"#, "response_format");
    check(Own::DeepSpeed, r#""seed":1"#, "seed");
    let refused = |path: &str, body: &str| {
        tell(Own::Triton, path, body.as_bytes(), ("7", 0)).unwrap_err().status
    };
    assert_eq!(refused(COMPLETIONS, r#"{"prompt":[1,2]}"#), 400);
    assert_eq!(refused(COMPLETIONS, r#"{"prompt":["a","b"]}"#), 400);
    assert_eq!(refused(COMPLETIONS, r"{}"), 400);
    assert_eq!(refused(COMPLETIONS, "{"), 400);
    assert_eq!(refused("/v1/embeddings", r#"{"input":"x"}"#), 400);
    let remote = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#;
    assert_eq!(
        tell(Own::Ollama, CHAT, remote.as_bytes(), ("7", 0)).unwrap_err().param.as_deref(),
        Some("image_url.url")
    );
    // What is only a hint, or says what is so anyway, is left out.
    let hints = r#"{"model":"m","prompt":"x","user":"u","n":1,"logprobs":null,"tools":[],"echo":false,"response_format":{"type":"text"}}"#;
    told(Own::Triton, COMPLETIONS, hints);
}

#[test]
fn whole_answers_come_back() {
    let check = |own: Own, body: &str, expect: (&str, &str, Value)| {
        let answer = json(
            &told(own, COMPLETIONS, r#"{"model":"m","prompt":"x"}"#)
                .reader
                .whole(body.as_bytes())
                .unwrap(),
        );
        let choice = &answer["choices"][0];
        assert_eq!(
            (
                choice["text"].as_str().unwrap(),
                choice["finish_reason"].as_str().unwrap(),
                answer["usage"].clone()
            ),
            expect
        );
        assert_eq!(
            (&answer["id"], &answer["object"], &answer["created"]),
            (&json!("cmpl-7"), &json!("text_completion"), &json!(99))
        );
    };
    let usage = |prompt: u64, answer: u64| json!({"prompt_tokens":prompt,"completion_tokens":answer,"total_tokens":prompt+answer});
    // The vLLM backend's README.
    check(
        Own::Triton,
        r#"{"model_name":"vllm_model","model_version":"1","text_output":"What is Triton Inference Server?\n\nTriton Inference Server is a server that is used by many"}"#,
        (
            "What is Triton Inference Server?\n\nTriton Inference Server is a server that is used by many",
            "stop",
            Value::Null,
        ),
    );
    check(
        Own::Triton,
        r#"{"text_output":"a","finish_reason":"length","num_input_tokens":4,"num_output_tokens":2}"#,
        ("a", "length", usage(4, 2)),
    );
    check(
        Own::DeepSpeed,
        r#"[{"generated_text":" a","prompt_length":3,"generated_length":2,"finish_reason":"length"}]"#,
        (" a", "length", usage(3, 2)),
    );
    check(
        Own::Tgi,
        r#"{"generated_text":"test","details":{"finish_reason":"eos_token","generated_tokens":1,"prefill":[],"tokens":[]}}"#,
        ("test", "stop", Value::Null),
    );
    check(
        Own::Ollama,
        r#"{"model":"m","response":"Hi","done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":298}"#,
        ("Hi", "stop", usage(26, 298)),
    );
    let reader = told(Own::Triton, COMPLETIONS, COMPLETION).reader;
    assert_eq!(json(&reader.whole(br#"{"error":"bad"}"#).unwrap())["error"]["message"], "bad");
    for garbage in ["", "[]", "{}", "null", r#"{"text_output":7}"#] {
        let reader = told(Own::Triton, COMPLETIONS, COMPLETION).reader;
        assert_eq!(reader.whole(garbage.as_bytes()), Err(Garbled), "{garbage}");
    }
}

/// A stream as it comes back, fed in pieces of that size; texts, reason and usage.
fn streamed(
    own: Own,
    path: &str,
    body: &str,
    size: usize,
) -> Result<(String, Option<String>, Value), Garbled> {
    let request = r#"{"model":"m","prompt":"x","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let mut reader = told(own, path, request).reader;
    assert!(reader.is_stream());
    let mut out = Vec::new();
    for piece in body.as_bytes().chunks(size) {
        reader.push(piece, &mut out)?;
    }
    reader.end(&mut out)?;
    assert_eq!(reader.end(&mut out), Ok(false), "it ends once");
    let mut decoder = crate::sse::Decoder::default();
    decoder.push(&out).unwrap();
    let (mut text, mut reason, mut usage) = (String::new(), None, Value::Null);
    let mut done = false;
    while let Some(event) = decoder.next() {
        if event.data == "[DONE]" {
            done = true;
            continue;
        }
        assert!(!done, "nothing comes after the end");
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        if let Some(message) = chunk["error"]["message"].as_str() {
            return Ok((text, Some(format!("error: {message}")), usage));
        }
        let choice = &chunk["choices"][0];
        let new = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
        text.push_str(new.unwrap_or_default());
        reason = choice["finish_reason"].as_str().map(str::to_owned).or(reason);
        if chunk["usage"].is_object() {
            usage = chunk["usage"].clone();
        }
    }
    assert!(done);
    Ok((text, reason, usage))
}

const OLLAMA: &str = "{\"model\":\"llama3.2\",\"created_at\":\"2023-08-04T08:52:19.385406455-07:00\",\"message\":{\"role\":\"assistant\",\"content\":\"The\",\"images\":null},\"done\":false}\n\
    {\"model\":\"llama3.2\",\"created_at\":\"2023-08-04T19:22:45.499127Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"total_duration\":4883583458,\"prompt_eval_count\":26,\"eval_count\":282}\n";

const TRITON: &str = "data: {\"model_name\":\"m\",\"text_output\":\"Once\",\"finish_reason\":\"None\",\"num_input_tokens\":4,\"num_output_tokens\":1}\n\n\
    data: {\"model_name\":\"m\",\"text_output\":\" more\",\"finish_reason\":\"length\",\"num_input_tokens\":4,\"num_output_tokens\":2}\n\n";

const TGI: &str = "data:{\"index\":1,\"token\":{\"id\":1,\"text\":\" a\",\"logprob\":-0.6,\"special\":false},\"generated_text\":null,\"details\":null}\n\n\
    data:{\"index\":2,\"token\":{\"id\":2,\"text\":\"</s>\",\"logprob\":-0.6,\"special\":true},\"generated_text\":\" a\",\"details\":{\"finish_reason\":\"eos_token\",\"generated_tokens\":2,\"seed\":null,\"input_length\":3}}\n\n";

const DEEPSPEED: &str =
    r#"[{"generated_text":" all","prompt_length":3,"generated_length":2,"finish_reason":"stop"}]"#;

#[test]
fn streams_come_back() {
    let usage = |prompt: u64, answer: u64| json!({"prompt_tokens":prompt,"completion_tokens":answer,"total_tokens":prompt+answer});
    let check = |own: Own, path: &str, body: &str, (text, reason, usage): (&str, &str, Value)| {
        for size in [1, 7, 4096] {
            let (seen, why, tokens) = streamed(own, path, body, size).unwrap();
            assert_eq!(
                (&*seen, why.as_deref(), tokens),
                (text, Some(reason), usage.clone()),
                "{size}"
            );
        }
    };
    check(Own::Ollama, CHAT, OLLAMA, ("The", "stop", usage(26, 282)));
    check(Own::Triton, COMPLETIONS, TRITON, ("Once more", "length", usage(4, 3)));
    check(Own::Tgi, COMPLETIONS, TGI, (" a", "stop", usage(3, 2)));
    check(Own::DeepSpeed, COMPLETIONS, DEEPSPEED, (" all", "stop", usage(3, 2)));
    // Without counts nothing is made up.
    let plain = "data: {\"text_output\":\"x\"}\n\n";
    check(Own::Triton, COMPLETIONS, plain, ("x", "stop", Value::Null));
    // An error in the middle is one.
    let failed = "data: {\"text_output\":\"x\"}\n\ndata: {\"error\":\"gone\"}\n\n";
    let (text, why, _) = streamed(Own::Triton, COMPLETIONS, failed, 5).unwrap();
    assert_eq!((&*text, why.as_deref()), ("x", Some("error: gone")));
    let failed = "{\"error\":\"an error was encountered while running the model\"}\n";
    let (_, why, _) = streamed(Own::Ollama, CHAT, failed, 5).unwrap();
    assert_eq!(why.as_deref(), Some("error: an error was encountered while running the model"));
}

#[test]
fn a_stream_that_is_cut_off_is_not_complete() {
    let first = |text: &'static str| text.split_inclusive('\n').next().unwrap();
    assert_eq!(streamed(Own::Ollama, CHAT, first(OLLAMA), 9), Err(Garbled));
    assert_eq!(
        streamed(Own::Tgi, COMPLETIONS, &TGI[..TGI.find("data:{\"index\":2").unwrap()], 9),
        Err(Garbled)
    );
    assert_eq!(streamed(Own::Triton, COMPLETIONS, &TRITON[..TRITON.len() - 1], 9), Err(Garbled));
    assert_eq!(streamed(Own::Triton, COMPLETIONS, "", 9), Err(Garbled));
    assert_eq!(streamed(Own::DeepSpeed, COMPLETIONS, "[{\"gen", 9), Err(Garbled));
    assert_eq!(streamed(Own::DeepSpeed, COMPLETIONS, "", 9), Err(Garbled));
    assert_eq!(streamed(Own::Ollama, CHAT, "<html>\n", 9), Err(Garbled));
}

#[test]
fn errors_are_told_in_openais_words() {
    let check = |own: Own, status: u16, body: &str, expect: (u16, Option<&str>)| {
        let error = error(own, status, body.as_bytes());
        assert_eq!((error.status, error.code.as_deref()), expect, "{body}");
    };
    let long = r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 9031","error_type":"validation"}"#;
    check(Own::Tgi, 422, long, (400, Some("context_length_exceeded")));
    check(
        Own::Tgi,
        422,
        r#"{"error":"`top_p` must be > 0.0 and < 1.0","error_type":"validation"}"#,
        (400, None),
    );
    check(
        Own::Triton,
        400,
        r#"{"error":"Request for unknown model: 'm' is not found"}"#,
        (502, Some("upstream_disconnected")),
    );
    check(Own::Triton, 503, "", (503, Some("overloaded")));
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
        for own in [Own::Triton, Own::Tgi, Own::DeepSpeed, Own::Ollama] {
            let mut reader = told(own, COMPLETIONS, r#"{"model":"m","prompt":"x","stream":true}"#).reader;
            let mut out = Vec::new();
            let read = bytes.chunks(size).try_for_each(|piece| reader.push(piece, &mut out));
            let _ = read.and_then(|()| reader.end(&mut out).map(drop));
            let _ = told(own, COMPLETIONS, r#"{"model":"m","prompt":"x"}"#).reader.whole(&bytes);
            let _ = tell(own, CHAT, &bytes, ("7", 0));
            let _ = error(own, 400, &bytes);
        }
    }
}
