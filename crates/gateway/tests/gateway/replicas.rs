//! Replicas that come and go while requests are with them, and time that runs out.

use std::time::Duration;

use crate::support::{
    answer, chat, config, ended, engine, gateway, send, status, text, until_idle, until_queued, up,
};
use http_body_util::BodyExt as _;
use pilotage_core::ReplicaId;

const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const STREAM: &str = r#"{"model":"public","stream":true}"#;
const WHOLE: &str = r#"{"model":"public"}"#;

// Time is paused in these tests: without the news that a replica is gone, they would see timeouts.

#[tokio::test(start_paused = true)]
async fn a_request_at_a_replica_that_goes_down_is_answered_by_another() {
    let (mut silent, other) = (engine().await, engine().await);
    let gateway = gateway(config(), &[&silent, &other]);
    let feed = silent.slow();
    other.json(200, r#"{"fine":true}"#);
    let down = async {
        silent.seen.recv().await.unwrap();
        gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    };
    let (answer, ()) = tokio::join!(answer(&gateway, chat(WHOLE)), down);
    assert_eq!(answer, (200, r#"{"fine":true}"#.to_owned()));
    feed.closed().await;
    let replica = &status(&gateway).await["lanes"][0]["replicas"][0];
    assert_eq!(replica["up"], false);
    assert_eq!(replica["last_error"]["kind"], "broken", "{replica}");
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_from_a_replica_that_goes_down_ends_with_an_error() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let response = send(&gateway, chat(STREAM)).await;
    gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    let body = text(response).await;
    assert!(body.starts_with(HI) && !body.contains("[DONE]"), "{body}");
    assert!(body.contains("\"code\":\"upstream_disconnected\""), "{body}");
    feed.closed().await;
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "upstream_interrupted").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_replica_that_comes_back_is_served_there() {
    let (first, second) = (engine().await, engine().await);
    let gateway = gateway(config(), &[&first]);
    first.json(500, "{}");
    let first_feed = first.stream();
    second.json(200, "{}");
    let swap = async {
        while status(&gateway).await["lanes"][0]["replicas"][0]["last_error"].is_null() {
            tokio::task::yield_now().await;
        }
        gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
        until_queued(&gateway, 1).await;
        up(&gateway, 2, &second.url);
    };
    let (answer, ()) = tokio::join!(answer(&gateway, chat(WHOLE)), swap);
    assert_eq!(answer.0, 200);
    drop(first_feed);
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_longer_than_the_queues_time_is_blamed_on_the_engine() {
    let mut config = config();
    config.routes[0].timeouts.queue = Duration::from_secs(5);
    config.routes[0].timeouts.first_token = Duration::from_secs(10);
    let engine = engine().await;
    let gateway = gateway(config, &[&engine]);
    let feeds = [engine.stream(), engine.stream(), engine.stream()];
    let (status, body) = answer(&gateway, chat(STREAM)).await;
    assert!(status == 504 && body.contains("no answer came in time"), "{status} {body}");
    drop(feeds);
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_for_a_whole_request_ends_streams_that_never_pause() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let mut body = send(&gateway, chat(STREAM)).await.into_body();
    body.frame().await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    for _ in 0..100 {
        feed.send(Ok(HI.into())).unwrap();
    }
    feed.send(Ok(DONE.into())).unwrap();
    let mut rest = String::new();
    loop {
        // Lets the next event come in, so that there is always one to read.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let Some(frame) = body.frame().await else { break };
        rest.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    assert!(rest.contains("\"code\":\"timeout\"") && !rest.contains("[DONE]"), "{rest}");
    until_idle(&gateway).await;
}

#[tokio::test]
async fn draining_serves_what_waits_already() {
    let engine = engine().await;
    let gateway = gateway(config(), &[]);
    engine.json(200, "{}");
    let drain = async {
        until_queued(&gateway, 1).await;
        gateway.drain();
        let response = send(&gateway, chat(WHOLE)).await;
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
        up(&gateway, 1, &engine.url);
    };
    let (answer, ()) = tokio::join!(answer(&gateway, chat(WHOLE)), drain);
    assert_eq!(answer.0, 200);
    assert_eq!(ended(&gateway, "draining").await, 1);
    until_idle(&gateway).await;
}
