//! Answers that break in the middle and go on elsewhere: the client sees one stream.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use http_body_util::BodyExt as _;
use pilotage_core::ReplicaId;
use pilotage_gateway::{GatewayConfig, Resume};
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    Engine, Seen, answer, chat, config, ended, engine, gateway, metrics, send, status, text,
    until_idle, until_up, up,
};

type Feed = mpsc::UnboundedSender<Result<axum::body::Bytes, std::io::Error>>;

const STREAM: &str = r#"{"model":"public","stream":true,"max_tokens":99,"messages":[{"role":"user","content":"hi"}],"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

fn resuming(resume: Resume) -> GatewayConfig {
    let mut config = config();
    config.lanes[0].resume = resume;
    config
}

/// A chunk of a chat, with ids.
fn chunk(text: &str, ids: &[i64]) -> String {
    let choice =
        json!({"index": 0, "delta": {"content": text}, "finish_reason": null, "token_ids": ids});
    event(
        &json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [choice]}),
    )
}

fn opening() -> String {
    let choice =
        json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null});
    event(&json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served",
        "choices": [choice], "prompt_token_ids": [7, 8]}))
}

/// A chunk of the completion that goes on.
fn rest(text: &str, ids: &[i64], finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "text": text, "finish_reason": finish, "token_ids": ids});
    event(
        &json!({"id": "x", "object": "text_completion", "created": 9, "model": "served", "choices": [choice]}),
    )
}

fn usage(prompt: u32, answer: u32) -> String {
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer});
    event(
        &json!({"id": "x", "object": "text_completion", "created": 9, "model": "served", "choices": [], "usage": usage}),
    )
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn say(feed: &Feed, events: &[String]) {
    feed.send(Ok(events.concat().into())).unwrap();
}

fn gone() -> std::io::Error {
    std::io::Error::other("gone")
}

/// Reads until the client has this text.
async fn read_until(response: &mut Response<Body>, seen: &mut String, what: &str) {
    while !seen.contains(what) {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

/// Reads until the client has more than it had.
async fn read_until_longer(response: &mut Response<Body>, seen: &mut String, than: usize) {
    while seen.len() <= than {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

/// What a client puts together: text, ids of answers, ends, usages, and how often it was told that
/// it is all.
#[derive(Debug, Default, PartialEq)]
struct Put {
    text: String,
    finishes: Vec<String>,
    usages: Vec<Value>,
    dones: usize,
}

fn put_together(stream: &str) -> Put {
    let mut put = Put::default();
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if line == "[DONE]" {
            put.dones += 1;
            continue;
        }
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&value["id"], &value["object"]),
            (&json!("c1"), &json!("chat.completion.chunk")),
            "{stream}"
        );
        assert!(!line.contains("token_ids"), "{line}");
        for choice in value["choices"].as_array().unwrap() {
            put.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            put.finishes.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
        put.usages.extend(value.get("usage").filter(|usage| usage.is_object()).cloned());
    }
    put
}

fn whole(text: &str) -> Put {
    Put {
        text: text.to_owned(),
        finishes: vec!["stop".to_owned()],
        usages: vec![json!({"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6})],
        dones: 1,
    }
}

fn continuation(seen: &Seen) -> Value {
    serde_json::from_str(&seen.body).unwrap()
}

async fn resumes(gateway: &pilotage_gateway::Gateway, outcome: &str) -> u64 {
    let metrics = metrics(gateway).await;
    let name = format!("pilotage_resumes_total{{lane=\"lane\",outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// How a replica is lost in the middle of an answer.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Reset,
    Truncated,
    Garbage,
    Error,
    Abort,
    Silence,
    Down,
}

fn lose(gateway: &pilotage_gateway::Gateway, feed: Feed, loss: Loss) -> Option<Feed> {
    match loss {
        Loss::Reset => feed.send(Err(gone())).unwrap(),
        Loss::Truncated => return None,
        Loss::Garbage => say(&feed, &["data: <html>oops\n\n".to_owned()]),
        Loss::Error => say(&feed, &[event(&json!({"error": {"message": "secret"}}))]),
        Loss::Abort => {
            let choice = json!({"index": 0, "delta": {}, "finish_reason": "abort"});
            say(&feed, &[event(&json!({"id": "c1", "choices": [choice]}))]);
        }
        Loss::Silence => {}
        Loss::Down => gateway.lane("lane").unwrap().replica_down(ReplicaId(1)),
    }
    Some(feed)
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_a_stream_its_client_gets_one_whole_answer() {
    use Loss::{Abort, Down, Error, Garbage, Reset, Silence, Truncated};
    for loss in [Reset, Truncated, Garbage, Error, Abort, Silence, Down] {
        let (mut one, mut other) = (engine().await, engine().await);
        let gateway = gateway(resuming(Resume::Tokens), &[&one, &other]);
        until_up(&gateway, 2).await;
        let (first, second) = (one.stream(), other.stream());
        // What comes last is in the middle of a character: it is generated again.
        say(&first, &[opening(), chunk("one ", &[1]), chunk("", &[2])]);
        say(
            &second,
            &[rest("", &[], None), rest("two ", &[2], None), rest("three", &[3, 4], Some("stop"))],
        );
        say(&second, &[usage(3, 3), DONE.to_owned()]);
        let mut response = send(&gateway, chat(STREAM)).await;
        let mut seen = String::new();
        read_until(&mut response, &mut seen, "one ").await;
        let first = lose(&gateway, first, loss);
        seen.push_str(&text(response).await);
        assert_eq!(put_together(&seen), whole("one two three"), "{loss:?}: {seen}");
        if let Some(first) = first {
            first.closed().await;
        }
        assert!(one.seen.recv().await.unwrap().body.contains("\"return_token_ids\":true"));
        let body = continuation(&other.seen.recv().await.unwrap());
        assert_eq!(
            (&body["prompt"], &body["max_tokens"]),
            (&json!([7, 8, 1]), &json!(98)),
            "{loss:?}"
        );
        until_idle(&gateway).await;
        assert_eq!((ended(&gateway, "ok").await, resumes(&gateway, "resumed").await), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_go_on_is_followed_by_the_next() {
    let engines = [engine().await, engine().await, engine().await];
    let gateway = gateway(resuming(Resume::Tokens), &[&engines[0], &engines[1], &engines[2]]);
    until_up(&gateway, 3).await;
    let feeds: Vec<Feed> = [0, 2].map(|at: usize| engines[at].stream()).into();
    say(&feeds[0], &[opening(), chunk("one", &[1])]);
    engines[1].json(503, "{}");
    say(&feeds[1], &[rest(" two", &[2, 3, 4], Some("stop")), usage(3, 3), DONE.to_owned()]);
    let response = send(&gateway, chat(STREAM)).await;
    feeds[0].send(Err(gone())).unwrap();
    assert_eq!(put_together(&text(response).await), whole("one two"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_again_goes_on_again_until_its_attempts_are_used_up() {
    for last_breaks in [false, true] {
        let engines = [engine().await, engine().await, engine().await];
        let gateway = gateway(resuming(Resume::Tokens), &[&engines[0], &engines[1], &engines[2]]);
        until_up(&gateway, 3).await;
        let feeds: Vec<Feed> = engines.iter().map(Engine::stream).collect();
        say(&feeds[0], &[opening(), chunk("one", &[1])]);
        let mut response = send(&gateway, chat(STREAM)).await;
        let mut seen = String::new();
        read_until(&mut response, &mut seen, "one").await;
        feeds[0].send(Err(gone())).unwrap();
        // So much that it is not for the request's sake when the second replica is lost, too.
        let two: Vec<String> = (2..22).map(|id| rest(" two", &[id], None)).collect();
        say(&feeds[1], &two);
        while seen.matches(" two").count() < two.len() {
            let more = seen.len();
            read_until_longer(&mut response, &mut seen, more).await;
        }
        feeds[1].send(Err(gone())).unwrap();
        say(&feeds[2], &[rest(" three", &[3], None)]);
        read_until(&mut response, &mut seen, " three").await;
        if last_breaks {
            feeds[2].send(Err(gone())).unwrap();
        } else {
            say(&feeds[2], &[rest("", &[4], Some("stop")), usage(5, 2), DONE.to_owned()]);
        }
        seen.push_str(&text(response).await);
        if last_breaks {
            assert!(seen.contains("upstream_disconnected") && !seen.contains("[DONE]"), "{seen}");
            assert_eq!(
                (resumes(&gateway, "resumed").await, resumes(&gateway, "failed").await),
                (2, 1)
            );
        } else {
            let put = put_together(&seen);
            assert_eq!(put.text, format!("one{} three", " two".repeat(two.len())));
            assert_eq!((put.finishes.len(), put.dones), (1, 1));
            assert_eq!(put.usages[0]["completion_tokens"], 21 + 2, "of all three");
        }
        until_idle(&gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_replica_that_comes_back_in_time_goes_on() {
    let (one, again) = (engine().await, engine().await);
    let mut config = resuming(Resume::Tokens);
    config.lanes[0].resume_from = 0;
    let gateway = gateway(config, &[&one]);
    until_up(&gateway, 1).await;
    let (first, second) = (one.stream(), again.stream());
    say(&first, &[opening(), chunk("one", &[1])]);
    say(&second, &[rest(" two", &[2, 3, 4], Some("stop")), usage(3, 3), DONE.to_owned()]);
    let response = send(&gateway, chat(STREAM)).await;
    gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    let reading = tasks::spawn("client", text(response));
    while status(&gateway).await["lanes"][0]["queue"]["requests"] != 1 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(9)).await;
    up(&gateway, 2, &again.url);
    assert_eq!(put_together(&reading.await.unwrap().unwrap()), whole("one two"));
}

#[tokio::test(start_paused = true)]
async fn without_a_replica_the_client_is_told_after_a_while() {
    let one = engine().await;
    let mut config = resuming(Resume::Tokens);
    config.lanes[0].resume_from = 1;
    let gateway = gateway(config, &[&one]);
    until_up(&gateway, 1).await;
    let first = one.stream();
    say(&first, &[opening(), chunk("one", &[1])]);
    let response = send(&gateway, chat(STREAM)).await;
    gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    let body = text(response).await;
    assert!(body.contains("upstream_disconnected") && !body.contains("[DONE]"), "{body}");
    assert_eq!(ended(&gateway, "upstream_interrupted").await, 1);
    assert_eq!(resumes(&gateway, "failed").await, 1);
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_answer_waits_leaves_nothing_behind() {
    let one = engine().await;
    let mut config = resuming(Resume::Tokens);
    config.lanes[0].resume_from = 1;
    let gateway = gateway(config, &[&one]);
    until_up(&gateway, 1).await;
    let first = one.stream();
    say(&first, &[opening(), chunk("one", &[1])]);
    let mut response = send(&gateway, chat(STREAM)).await;
    read_until(&mut response, &mut String::new(), "one").await;
    gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    let mut waiting = Box::pin(response.body_mut().frame());
    while status(&gateway).await["lanes"][0]["queue"]["requests"] != 1 {
        tokio::select! {
            biased;
            _ = &mut waiting => unreachable!("it waits"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(waiting);
    drop(response);
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "client_cancel").await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_on_ends_with_an_error() {
    let tools = STREAM.replace(
        "\"max_tokens\":99",
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]",
    );
    let schema =
        STREAM.replace("\"max_tokens\":99", "\"response_format\":{\"type\":\"json_object\"}");
    for body in [&tools, &schema] {
        let (mut one, other) = (engine().await, engine().await);
        let gateway = gateway(resuming(Resume::Tokens), &[&one, &other]);
        until_up(&gateway, 2).await;
        let feed = one.stream();
        say(&feed, &[opening(), chunk("one", &[1])]);
        let response = send(&gateway, chat(body)).await;
        feed.send(Err(gone())).unwrap();
        let seen = text(response).await;
        assert!(seen.contains("upstream_disconnected") && !seen.contains("[DONE]"), "{seen}");
        assert!(!one.seen.recv().await.unwrap().body.contains("return_token_ids"));
        assert_eq!(resumes(&gateway, "impossible").await, 1);
    }
}

#[tokio::test]
async fn an_engine_that_hangs_after_its_error_is_left_at_once() {
    let one = engine().await;
    let gateway = gateway(config(), &[&one]);
    until_up(&gateway, 1).await;
    let feed = one.stream();
    say(&feed, &[chunk("one", &[]), event(&json!({"error": {"message": "secret"}}))]);
    let mut response = send(&gateway, chat(STREAM)).await;
    let mut seen = String::new();
    read_until(&mut response, &mut seen, "upstream_disconnected").await;
    // The client still holds its response.
    feed.closed().await;
    until_idle(&gateway).await;
    drop(response);
}

#[tokio::test]
async fn a_lone_replica_is_not_asked_for_what_nobody_can_use() {
    let mut one = engine().await;
    let gateway = gateway(resuming(Resume::Tokens), &[&one]);
    until_up(&gateway, 1).await;
    one.json(200, "{}");
    answer(&gateway, chat(STREAM)).await;
    assert!(!one.seen.recv().await.unwrap().body.contains("return_token_ids"));
}

#[tokio::test(start_paused = true)]
async fn text_goes_on_where_engines_return_no_ids() {
    let (mut one, mut other) = (engine().await, engine().await);
    let gateway = gateway(resuming(Resume::Text), &[&one, &other]);
    until_up(&gateway, 2).await;
    let (first, second) = (one.stream(), other.stream());
    let counted = |id: &str, text: &str, count: u32, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish});
        let usage =
            json!({"prompt_tokens": 2, "completion_tokens": count, "total_tokens": 2 + count});
        event(
            &json!({"id": id, "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [choice], "usage": usage}),
        )
    };
    say(
        &first,
        &[counted("c1", "", 0, None), counted("c1", "one", 1, None), counted("c1", " ", 2, None)],
    );
    let end = json!({"id": "x", "object": "chat.completion.chunk", "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}});
    say(
        &second,
        &[
            counted("x", "", 0, None),
            counted("x", " two", 1, None),
            counted("x", "", 2, Some("stop")),
        ],
    );
    say(&second, &[event(&end), DONE.to_owned()]);
    let mut response = send(&gateway, chat(STREAM)).await;
    let mut seen = String::new();
    read_until(&mut response, &mut seen, "\" \"").await;
    first.send(Err(gone())).unwrap();
    seen.push_str(&text(response).await);
    assert_eq!(put_together(&seen), whole("one two"), "{seen}");
    assert!(one.seen.recv().await.unwrap().body.contains("\"continuous_usage_stats\":true"));
    let body = continuation(&other.seen.recv().await.unwrap());
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "one"}));
    assert_eq!((&body["continue_final_message"], &body["max_tokens"]), (&json!(true), &json!(97)));
}

#[tokio::test]
async fn ends_are_put_right() {
    let one = engine().await;
    let gateway = gateway(resuming(Resume::Off), &[&one]);
    until_up(&gateway, 1).await;
    let end = |reason: &str| {
        let choice = json!({"index": 0, "delta": {}, "finish_reason": reason});
        event(&json!({"id": "c1", "object": "chat.completion.chunk", "choices": [choice]}))
    };
    // An end twice, in a word that the API does not know, and then nothing: the answer is complete.
    let feed = one.stream();
    say(
        &feed,
        &[chunk("one", &[]).replace(",\"token_ids\":[]", ""), end("eos_token"), end("stop")],
    );
    drop(feed);
    let put = put_together(&text(send(&gateway, chat(STREAM)).await).await);
    assert_eq!((put.text.as_str(), put.finishes, put.dones), ("one", vec!["stop".to_owned()], 1));
    assert_eq!(ended(&gateway, "ok").await, 1);
}
