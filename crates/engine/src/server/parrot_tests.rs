//! The API on a model that says what it is told: what answers look like, whole and in pieces, and
//! what happens to them when something goes wrong.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use pilotage_wire::openai::chunk::Read;
use pilotage_wire::resume::{Resumable, Shown, Way};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::BODY_BYTES_MAX;
use super::parrot::{BEGIN, CONTEXT, DIE, END, FAIL, Parrot, WAIT, chat, completion, read, script};
use crate::job::Token;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Without what differs from one answer to the next.
fn timeless(mut chunk: Value) -> Value {
    for name in ["id", "created", "system_fingerprint"] {
        assert!(chunk.as_object_mut().unwrap().remove(name).is_some(), "{name} is missing");
    }
    chunk
}

fn tools() -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    json!([tool("look"), tool("tell")])
}

/// The text of a stream's only choice.
fn joined(chunks: &[Value]) -> String {
    let texts = chunks.iter().filter_map(|chunk| {
        let choice = &chunk["choices"][0];
        choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str())
    });
    texts.collect()
}

#[tokio::test]
async fn a_chat_stream_has_vllms_shape() {
    let options =
        json!({"stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    let chunks = Parrot::new(1, 4).chunks(CHAT, &chat("ab", &options)).await;
    let prompt = chunks[0]["usage"]["prompt_tokens"].as_u64().unwrap();
    let usage = |generated: u64| {
        json!({"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated,
            "prompt_tokens_details": {"cached_tokens": 0}})
    };
    let chunk = |delta: Value, finish: Option<&str>, generated: u64| {
        json!({"object": "chat.completion.chunk", "model": "org/parrot", "usage": usage(generated),
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]})
    };
    let mut last = chunk(json!({}), None, 3);
    last["choices"] = json!([]);
    let expect = [
        chunk(json!({"role": "assistant", "content": ""}), None, 0),
        chunk(json!({"content": "a"}), None, 1),
        chunk(json!({"content": "b"}), None, 2),
        chunk(json!({}), Some("stop"), 3),
        last,
    ];
    let ids: Vec<&Value> = chunks.iter().map(|chunk| &chunk["id"]).collect();
    assert!(
        ids.iter().all(|id| *id == ids[0]) && ids[0].as_str().unwrap().starts_with("chatcmpl-")
    );
    assert_eq!(chunks.into_iter().map(timeless).collect::<Vec<_>>(), expect);
}

#[tokio::test]
async fn a_completion_stream_has_vllms_shape() {
    let options = json!({"max_tokens": 2, "stream_options": {"include_usage": true}});
    let chunks = Parrot::new(1, 4).chunks(COMPLETIONS, &completion("abc", &options)).await;
    let chunk = |text: &str, finish: Option<&str>| {
        json!({"object": "text_completion", "model": "org/parrot", "choices": [
            {"index": 0, "text": text, "logprobs": null, "finish_reason": finish, "stop_reason": null}]})
    };
    let usage = json!({"prompt_tokens": 6, "total_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}});
    let last =
        json!({"object": "text_completion", "model": "org/parrot", "choices": [], "usage": usage});
    let expect = [chunk("a", None), chunk("b", None), chunk("", Some("length")), last];
    assert_eq!(chunks.into_iter().map(timeless).collect::<Vec<_>>(), expect);
}

#[tokio::test]
async fn characters_come_whole_and_every_token_has_its_logprob() {
    let parrot = Parrot::new(1, 4);
    let body = chat("é😀!", &json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 7}));
    let chunks = parrot.chunks(CHAT, &body).await;
    assert_eq!(joined(&chunks), "é😀!");
    assert!(
        !chunks.iter().any(|chunk| chunk.to_string().contains('\u{fffd}')
            && chunk["choices"][0]["logprobs"].is_null())
    );
    let lists = |choices: &[Value]| -> Vec<Value> {
        let each = choices.iter().filter_map(|choice| choice["logprobs"]["content"].as_array());
        each.flatten().cloned().collect()
    };
    let streamed =
        lists(&chunks.iter().map(|chunk| chunk["choices"][0].clone()).collect::<Vec<_>>());
    let whole = parrot.whole(CHAT, &body).await;
    assert_eq!(whole["choices"][0]["message"]["content"], "é😀!");
    assert_eq!(streamed, lists(whole["choices"].as_array().unwrap()));
    let bytes: Vec<u64> = streamed.iter().map(|each| each["bytes"][0].as_u64().unwrap()).collect();
    assert_eq!(bytes, "é😀!".bytes().map(u64::from).collect::<Vec<_>>());
    assert_eq!(streamed[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(streamed[0]["top_logprobs"][0]["logprob"], streamed[0]["logprob"]);
}

#[tokio::test]
async fn stop_texts_end_answers_and_are_not_said() {
    let parrot = Parrot::new(1, 4);
    for stop in [json!("END"), json!(["never", "END"])] {
        let body = chat("well, ENE END more", &json!({"stop": stop}));
        let choice = parrot.whole(CHAT, &body).await["choices"][0].clone();
        assert_eq!(choice["message"]["content"], "well, ENE ");
        assert_eq!(
            (&choice["finish_reason"], &choice["stop_reason"]),
            (&json!("stop"), &json!("END"))
        );
        let chunks = parrot.chunks(CHAT, &body).await;
        assert_eq!(joined(&chunks), "well, ENE ");
        assert_eq!(chunks.last().unwrap()["choices"][0]["stop_reason"], "END");
    }
}

#[tokio::test]
async fn calls_stream_in_openais_order() {
    let parrot = Parrot::new(1, 4);
    let call = |name: &str| {
        format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{\"q\": 1}}}}\n</tool_call>")
    };
    let both = format!("Let me see.\n{}{}", call("look"), call("tell"));
    let forced = r#"{"name": "look", "arguments": {"q": {"r": "}"}}}"#;
    let check = async |said: &str, more: Value, text: Option<&str>, names: &[&str]| {
        let mut body = chat(said, &json!({"tools": tools()}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let whole = parrot.whole(CHAT, &body).await["choices"][0].clone();
        let calls = whole["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            calls.iter().map(|call| call["function"]["name"].as_str().unwrap()).collect::<Vec<_>>(),
            names
        );
        assert_eq!(whole["message"]["content"].as_str(), text);
        let reason = if names.is_empty() { "stop" } else { "tool_calls" };
        assert_eq!(whole["finish_reason"], reason);
        let chunks = parrot.chunks(CHAT, &body).await;
        assert_eq!(joined(&chunks), text.unwrap_or_default());
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], reason);
        let mut arguments = Vec::<String>::new();
        for part in
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0))
        {
            let index = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            if index == arguments.len() {
                assert_eq!(
                    (&part["type"], &part["function"]["name"]),
                    (&json!("function"), &json!(names[index]))
                );
                assert!(part["id"].as_str().unwrap().starts_with("call-"));
                arguments.push(String::new());
            } else {
                assert_eq!(
                    part.as_object().unwrap().len(),
                    2,
                    "only the first part says what it is: {part}"
                );
            }
            arguments[index].push_str(part["function"]["arguments"].as_str().unwrap());
        }
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let expect = calls.iter().map(|call| json(call["function"]["arguments"].as_str().unwrap()));
        assert_eq!(
            arguments.iter().map(|text| json(text)).collect::<Vec<_>>(),
            expect.collect::<Vec<_>>()
        );
    };
    check(&both, json!({}), Some("Let me see."), &["look", "tell"]).await;
    check(&both, json!({"parallel_tool_calls": false}), Some("Let me see."), &["look"]).await;
    check(&both, json!({"tool_choice": "none"}), Some(&both), &[]).await;
    check(forced, json!({"tool_choice": "required"}), None, &["look"]).await;
    check(
        forced,
        json!({"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        None,
        &["look"],
    )
    .await;
    check("no call at all\n", json!({}), Some("no call at all\n"), &[]).await;
    check(
        r#"{"name":"Ada","arguments":{}}"#,
        json!({}),
        Some(r#"{"name":"Ada","arguments":{}}"#),
        &[],
    )
    .await;
}

#[tokio::test]
async fn several_answers_each_end_and_the_prompt_counts_once() {
    let parrot = Parrot::new(4, 8);
    let body = chat("abc", &json!({"n": 3, "stream_options": {"include_usage": true}}));
    let chunks = parrot.chunks(CHAT, &body).await;
    for index in 0..3 {
        let own: Vec<Value> =
            chunks.iter().filter(|chunk| chunk["choices"][0]["index"] == index).cloned().collect();
        assert_eq!(joined(&own), "abc");
        assert_eq!(own.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(
        (&usage["completion_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
        (&json!(12), &json!(0))
    );
    let again = parrot.whole(CHAT, &body).await;
    let prompt = again["usage"]["prompt_tokens"].as_u64().unwrap();
    let cached = again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached > 0 && cached < prompt, "{cached} of {prompt}");
}

#[tokio::test]
async fn prompts_and_ids_are_taken_and_given() {
    let parrot = Parrot::new(2, 8);
    let ids = |text: &str| text.bytes().map(Token::from).collect::<Vec<_>>();
    let options = json!({"return_token_ids": true, "echo": true});
    let answer = parrot.whole(COMPLETIONS, &completion("ab", &options)).await["choices"][0].clone();
    assert_eq!(answer["text"], script("ab") + "ab");
    assert_eq!(answer["token_ids"], json!(ids("ab")));
    assert_eq!(answer["prompt_token_ids"], json!([vec![BEGIN], ids(&script("ab"))].concat()));
    let bare = completion("ab", &json!({"return_token_ids": true, "add_special_tokens": false}));
    let chunks = parrot.chunks(COMPLETIONS, &bare).await;
    assert_eq!(chunks[0]["choices"][0]["prompt_token_ids"], json!(ids(&script("ab"))));
    assert_eq!(joined(&chunks), "ab");
    let several = completion("", &json!({"prompt": [ids(&script("one")), ids(&script("two"))]}));
    let choices = parrot.whole(COMPLETIONS, &several).await["choices"].clone();
    assert_eq!((&choices[0]["text"], &choices[1]["text"]), (&json!("one"), &json!("two")));
    let more =
        completion("ab", &json!({"ignore_eos": true, "max_tokens": 4, "return_token_ids": true}));
    let choice = parrot.whole(COMPLETIONS, &more).await["choices"][0].clone();
    assert_eq!(
        (&choice["token_ids"], &choice["finish_reason"]),
        (&json!([97, 98, END, END]), &json!("length"))
    );
}

#[tokio::test]
async fn failures_in_mid_answer_are_said() {
    for (end, slots) in [(FAIL, 1), (DIE, 1), (FAIL, 2)] {
        for path in [CHAT, COMPLETIONS] {
            let body = if path == CHAT { chat } else { completion };
            let parrot = Parrot::new(slots, 4);
            let events = parrot.events(path, &body(&format!("ab{end}c"), &json!({}))).await;
            let error: Value = serde_json::from_str(events.last().unwrap()).unwrap();
            assert_eq!(error["error"]["type"], "server_error", "{events:?}");
            assert!(!events.iter().any(|event| event == "[DONE]"), "{events:?}");
            let parrot = Parrot::new(slots, 4);
            let (status, text) =
                read(parrot.post(path, body(&format!("ab{end}c"), &json!({})).to_string()).await)
                    .await;
            assert!(status == 500 && text.contains("server_error"), "{status} {text}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let parrot = Parrot::new(1, 4);
    let body = chat(&format!("ab{WAIT}cdef"), &json!({"stream": true}));
    let mut response = parrot.post(CHAT, body.to_string()).await;
    while let Some(frame) = response.body_mut().frame().await {
        let data = frame.unwrap().into_data().unwrap();
        if String::from_utf8_lossy(&data).contains("\"content\":\"b\"") {
            break;
        }
    }
    drop(response);
    parrot.go_on();
    parrot.engine.drain().await;
    let stats = parrot.engine.stats();
    assert_eq!((stats.running.get(), stats.cells_held.get()), (0, 0));
    assert!(stats.generation_tokens.get() < 6, "the rest was not generated");
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let (_, text) = read(parrot.router().oneshot(request).await.unwrap()).await;
    assert!(
        text.contains(
            "vllm:request_success_total{model_name=\"org/parrot\",finished_reason=\"abort\"} 1"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn a_first_answer_does_not_wait_for_the_others_turn() {
    let parrot = Parrot::new(1, 4);
    let prompts = json!([script(&format!("ab{WAIT}")), script("cd")]);
    let body = completion("", &json!({"prompt": prompts, "stream": true}));
    // One slot: the second prompt begins when the first one is done, and that waits for the test.
    let mut response = parrot.post(COMPLETIONS, body.to_string()).await;
    let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&frame).contains("\"text\":\"a\""), "{frame:?}");
    parrot.go_on();
    let (_, rest) = read(response).await;
    assert!(rest.contains("\"text\":\"c\"") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_time_to_retry() {
    let parrot = Parrot::new(1, 1);
    let held = completion(&format!("a{WAIT}"), &json!({"stream": true}));
    let running = parrot.post(COMPLETIONS, held.to_string()).await;
    let too_many = completion("a", &json!({"n": 2}));
    let response = parrot.post(COMPLETIONS, too_many.to_string()).await;
    assert!(response.headers().contains_key("retry-after"));
    let (status, text) = read(response).await;
    assert!(status == 503 && text.contains("\"queue_full\""), "{status} {text}");
    parrot.go_on();
    assert!(read(running).await.1.ends_with("data: [DONE]\n\n"));
    parrot.whole(COMPLETIONS, &completion("a", &json!({}))).await;
}

#[tokio::test]
async fn models_ids_and_refusals_without_a_body() {
    let parrot = Parrot::new(1, 4);
    let send = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("x-request-id", "mine-1");
        let response = parrot.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-request-id"], "mine-1");
        assert!(
            response.headers()["content-type"].to_str().unwrap().starts_with("application/json")
        );
        let allow = response.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
        let (status, text) = read(response).await;
        (status, serde_json::from_str::<Value>(&text).unwrap(), allow)
    };
    let (status, list, _) = send("GET", "/v1/models").await;
    assert_eq!((status, &list["data"][0]["id"]), (200, &json!("org/parrot")));
    for path in ["/v1/models/org/parrot", "/v1/models/org%2Fparrot"] {
        let (status, model, _) = send("GET", path).await;
        assert_eq!((status, &model["max_model_len"]), (200, &json!(CONTEXT)), "{path}");
    }
    let (status, error, _) = send("GET", "/v1/models/other").await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(send("GET", "/v1/models/%ff").await.0, 404);
    assert_eq!(send("GET", "/v1/nothing").await.1["error"]["code"], "not_found");
    let (status, error, allow) = send("GET", CHAT).await;
    assert_eq!(
        (status, &error["error"]["code"], allow.as_deref()),
        (405, &json!("method_not_allowed"), Some("POST"))
    );
    let odd = Request::get("/health").header("x-request-id", "a b").body(Body::empty()).unwrap();
    assert!(!parrot.router().oneshot(odd).await.unwrap().headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn conversations_are_counted_as_the_model_reads_them() {
    let parrot = Parrot::new(1, 4);
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let body = json!({"model": "org/parrot", "messages": messages, "return_token_strs": true});
    let answer = parrot.whole("/tokenize", &body).await;
    let text: String = answer["token_strs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(answer["count"].as_u64().unwrap() as usize, text.len());
    let plain = parrot.whole("/tokenize", &json!({"prompt": "a"})).await;
    assert_eq!((&plain["tokens"], &plain["token_strs"]), (&json!([BEGIN, 97]), &Value::Null));
    for (path, body, expect) in [
        ("/tokenize", json!({}), 400),
        ("/tokenize", json!({"prompt": "a", "messages": messages}), 400),
        ("/tokenize", json!({"prompt": "a", "model": "other"}), 404),
        ("/detokenize", json!({"tokens": [97], "model": "other"}), 404),
        ("/detokenize", json!({"tokens": [999_999]}), 400),
        ("/detokenize", json!({"tokens": "a"}), 400),
    ] {
        assert_eq!(
            parrot.post(path, body.to_string()).await.status().as_u16(),
            expect,
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name_and_the_next_is_served() {
    let parrot = Parrot::new(1, 4);
    let nested = (0..40).fold(json!({}), |inner, _| json!({"type": "array", "items": inner}));
    let wide = json!({"enum": ["x".repeat(70_000)]});
    let format = |schema: &Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    for (more, param, part) in [
        (json!({"temperature": -3}), "temperature", "0 to 2"),
        (json!({"top_p": 0}), "top_p", "above 0"),
        (json!({"top_p": 1.5}), "top_p", "1.5"),
        (json!({"n": 17}), "n", "16"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens", "at least 1"),
        (
            json!({"max_tokens": CONTEXT - 20}),
            "max_tokens",
            "maximum context length is 1024 tokens",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x".repeat(1100)}]}),
            "messages",
            "maximum context length is 1024",
        ),
        (json!({"stop": vec!["x"; 17]}), "stop", "16"),
        (json!({"stop": "x".repeat(257)}), "stop", "256"),
        (json!({"logit_bias": {"258": 1}}), "logit_bias", "0 to 257"),
        (json!({"logit_bias": {"a": 1}}), "logit_bias", "`a`"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias", "-100 to 100"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "20"),
        (json!({"top_logprobs": 1}), "top_logprobs", "logprobs"),
        (format(&nested), "response_format", "deeper"),
        (format(&wide), "response_format", "larger"),
        (format(&json!({"type": "nonsense"})), "response_format", ""),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0]",
            "image_url",
        ),
    ] {
        let (status, text) = read(parrot.post(CHAT, chat("a", &more).to_string()).await).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, error["error"]["param"].as_str()), (400, Some(param)), "{text}");
        assert!(text.contains(part), "{part}: {text}");
    }
    for (more, param) in [
        (json!({"suffix": "x"}), "suffix"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"echo": true, "logprobs": 1}), "logprobs"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [[]]}), "prompt"),
        (json!({"prompt": [-1]}), "prompt"),
    ] {
        let (status, text) =
            read(parrot.post(COMPLETIONS, completion("a", &more).to_string()).await).await;
        assert!(
            status == 400 && text.contains(&format!("\"param\":\"{param}\"")),
            "{status} {text}"
        );
    }
    for body in [&b""[..], b"{", b"[]", b"{} {}", b"{\"model\":\"\xff\"}"] {
        assert_eq!(parrot.post(CHAT, body.to_vec()).await.status(), 400, "{body:?}");
    }
    let (status, text) = read(parrot.post(CHAT, vec![b' '; BODY_BYTES_MAX + 1]).await).await;
    assert!(status == 413 && text.contains("request_too_large"), "{status} {text}");
    assert_eq!(
        parrot.whole(CHAT, &chat("ok", &json!({}))).await["choices"][0]["message"]["content"],
        "ok"
    );
}

#[tokio::test]
async fn an_answer_goes_on_from_its_ids_wherever_it_was_cut() {
    let said = "One é, 😀 and — two.";
    let parrot = Parrot::new(2, 8);
    for (path, body) in [
        (
            "/v1/chat/completions",
            chat(said, &json!({"max_tokens": 60, "stream_options": {"include_usage": true}})),
        ),
        (
            "/v1/completions",
            completion(said, &json!({"max_tokens": 60, "stream_options": {"include_usage": true}})),
        ),
    ] {
        let mut asked = body.clone();
        asked["return_token_ids"] = true.into();
        let whole = parrot.chunks(path, &asked).await;
        let is_chat = path.contains("chat");
        for cut in 2..whole.len() - 2 {
            let mut one = Resumable::new(&body.to_string().into(), is_chat, Way::Tokens).unwrap();
            let mut shown = Vec::new();
            let mut show = |one: &mut Resumable, chunks: &[Value]| {
                for chunk in chunks {
                    let data = chunk.to_string();
                    match one.chunk(&data, &Read::of(&data)) {
                        Some(Shown::Event(event)) => {
                            let text = String::from_utf8(event).unwrap();
                            shown.push(serde_json::from_str(text[6..].trim_end()).unwrap());
                        }
                        Some(Shown::Same) => shown.push(chunk.clone()),
                        Some(Shown::Nothing) | None => {}
                    }
                }
            };
            show(&mut one, &whole[..cut]);
            let (path, body) = one.continuation("org/parrot");
            let rest = parrot.chunks(path, &serde_json::from_slice(&body).unwrap()).await;
            show(&mut one, &rest);
            let text: String = shown
                .iter()
                .map(|chunk: &Value| {
                    let choice = &chunk["choices"][0];
                    choice["text"]
                        .as_str()
                        .or_else(|| choice["delta"]["content"].as_str())
                        .unwrap_or("")
                        .to_owned()
                })
                .collect();
            assert_eq!(text, said, "cut at {cut}");
            let usage = &shown.last().unwrap()["usage"];
            let expect = &whole.last().unwrap()["usage"];
            for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
                assert_eq!(usage[name], expect[name], "{name}, cut at {cut}");
            }
        }
    }
}
