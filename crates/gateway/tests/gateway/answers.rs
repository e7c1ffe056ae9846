//! Requests that are answered: what the engine gets, and what the client gets.

use crate::support::{answer, chat, config, engine, gateway, send, text, until_idle};

const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hé\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[tokio::test]
async fn a_whole_answer_comes_back_as_it_is() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let body = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":1,"total_tokens":2}}"#;
    engine.json(200, body);
    let request = r#"{"messages":[], "model" : "alias","unknown":{"kept":[1, 2]}}"#;
    assert_eq!(answer(&gateway, chat(request)).await, (200, body.to_owned()));
    let seen = engine.seen.recv().await.unwrap();
    assert_eq!(
        seen.body,
        request.replace("\"alias\"", "\"served\""),
        "only the model's name changes"
    );
    assert_eq!(seen.headers["authorization"], "Bearer engine-key");
    assert_eq!(seen.headers["x-pilotage-band"], "standard");
    assert!(
        seen.headers["x-pilotage-deadline-ms"].to_str().unwrap().parse::<u64>().unwrap() <= 60_000
    );
    until_idle(&gateway).await;
}

#[tokio::test]
async fn the_envelope_is_the_gateways_own_and_traces_go_on() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    engine.json(200, "{}");
    let mut request = chat(r#"{"model":"public"}"#);
    for (name, value) in [
        ("x-pilotage-tenant", "99"),
        ("x-pilotage-band", "realtime"),
        ("x-request-id", "mine"),
        ("x-pilotage-why", "1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = send(&gateway, request).await;
    assert_eq!(response.headers()["x-request-id"], "mine");
    assert!(
        response.headers()["x-pilotage-why"].to_str().unwrap().contains("least_tokens replica=1")
    );
    let seen = engine.seen.recv().await.unwrap().headers;
    assert_eq!(seen["x-pilotage-tenant"], "0");
    assert_eq!(seen["x-pilotage-band"], "standard", "no more urgent than the tenant may be");
    assert_eq!(seen["x-request-id"], "mine");
    let trace = seen["traceparent"].to_str().unwrap();
    assert!(
        trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
            && !trace.contains("00f067aa0ba902b7")
    );
}

#[tokio::test]
async fn a_stream_is_passed_on_and_its_usage_kept_for_the_books() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    // Cut in the middle of a character and of an event.
    let all = [ROLE, HI, END, USAGE, DONE].concat().into_bytes();
    let at = ROLE.len() + HI.find('é').unwrap() + 1;
    for piece in [&all[..at], &all[at..at + 9], &all[at + 9..]] {
        feed.send(Ok(piece.to_vec().into())).unwrap();
    }
    let response = send(&gateway, chat(r#"{"model":"public","stream":true}"#)).await;
    assert_eq!(text(response).await, [ROLE, HI, END, DONE].concat(), "nobody asked for usage");
    let body = engine.seen.recv().await.unwrap().body;
    assert_eq!(body, r#"{"stream_options":{"include_usage":true},"model":"served","stream":true}"#);

    let feed = engine.stream();
    feed.send(Ok(all.into())).unwrap();
    let asked = r#"{"model":"public","stream":true,"stream_options":{"include_usage":true}}"#;
    let response = send(&gateway, chat(asked)).await;
    assert_eq!(text(response).await, [ROLE, HI, END, USAGE, DONE].concat());
    until_idle(&gateway).await;
}

#[tokio::test]
async fn errors_of_the_request_come_back_in_the_shape_of_the_api() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let told = r#"{"error":{"message":"too hot","type":"invalid_request_error","param":"temperature","code":null}}"#;
    for (status, said) in [
        (400, told),
        (
            400,
            r#"{"error":{"message":"too hot","param":"temperature","type":"BadRequestError","code":400}}"#,
        ),
        (
            422,
            r#"{"object":"error","message":"too hot","type":"x","param":"temperature","code":40001}"#,
        ),
    ] {
        engine.json(status, said);
        let answered = answer(&gateway, chat(r#"{"model":"public"}"#)).await;
        assert_eq!(answered, (400, told.to_owned()), "{said}");
    }
    engine.json(400, r#"{"detail":"no /models/x/y at 10.0.0.7:8000"}"#);
    let (_, answered) = answer(&gateway, chat(r#"{"model":"public"}"#)).await;
    assert!(!answered.contains("/models") && !answered.contains("10.0"), "{answered}");
    until_idle(&gateway).await;
}
