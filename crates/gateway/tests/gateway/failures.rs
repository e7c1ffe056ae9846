//! Engines that fail: before the first token somebody else answers, after it the client is told.

use std::time::Duration;

use crate::support::{answer, chat, config, engine, gateway, send, status, text, until_idle, up};
use http_body_util::BodyExt as _;
use pilotage_core::{QueueLimits, ReplicaId};

const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const STREAM: &str = r#"{"model":"public","stream":true}"#;
const WHOLE: &str = r#"{"model":"public"}"#;

#[tokio::test]
async fn a_dead_replica_is_skipped() {
    let engine = engine().await;
    let gateway = gateway(config(), &[]);
    // Nobody listens there; it has the lower id, so it is asked first.
    up(&gateway, 1, &format!("http://127.0.0.1:{}", pilotage_shell::port::free().unwrap()));
    up(&gateway, 2, &engine.url);
    engine.json(200, "{}");
    assert_eq!(answer(&gateway, chat(WHOLE)).await.0, 200);
    until_idle(&gateway).await;
}

#[tokio::test]
async fn a_replica_that_says_when_to_come_back_is_left_alone_until_then() {
    let (one, other) = (engine().await, engine().await);
    let gateway = gateway(config(), &[&one, &other]);
    one.sent_away(429, "30");
    other.json(200, r#"{"n":1}"#);
    assert_eq!(answer(&gateway, chat(WHOLE)).await, (200, r#"{"n":1}"#.to_owned()));
    until_idle(&gateway).await;
    // Among equals it was the first.
    other.json(200, r#"{"n":2}"#);
    assert_eq!(answer(&gateway, chat(WHOLE)).await, (200, r#"{"n":2}"#.to_owned()));
    let lane = status(&gateway).await["lanes"][0].clone();
    let health = lane["replicas"][0]["health"].as_str().unwrap();
    assert!(health.starts_with("busy"), "{lane}");
    // Where all say so, the client is told when the first has room, as it cannot wait for that.
    other.sent_away(503, "20");
    let response = send(&gateway, chat(WHOLE)).await;
    assert_eq!(response.status(), 503);
    let number = |name: &str| response.headers()[name].to_str().unwrap().parse::<u64>().unwrap();
    let (secs, ms) = (number("retry-after"), number("retry-after-ms"));
    assert!((20..=25).contains(&secs) && secs == ms.div_ceil(1000), "{secs} s, {ms} ms");
    drop(response);
    until_idle(&gateway).await;
}

#[tokio::test]
async fn server_errors_and_overload_go_to_another_replica() {
    for failing in [500, 503, 429, 401] {
        let (one, other) = (engine().await, engine().await);
        let gateway = gateway(config(), &[&one, &other]);
        one.json(failing, "{}");
        other.json(200, r#"{"fine":true}"#);
        assert_eq!(
            answer(&gateway, chat(WHOLE)).await,
            (200, r#"{"fine":true}"#.to_owned()),
            "{failing}"
        );
    }
}

#[tokio::test]
async fn when_every_attempt_fails_the_client_learns_how() {
    let (one, other) = (engine().await, engine().await);
    let gateway = gateway(config(), &[&one, &other]);
    // A request under which two replicas failed is not shown to a third.
    for engine in [&one, &other, &one, &other] {
        engine.json(500, "{}");
    }
    let (code, body) = answer(&gateway, chat(WHOLE)).await;
    assert_eq!(code, 502);
    assert!(body.contains("upstream_disconnected") && body.contains("2 attempts"), "{body}");
    until_idle(&gateway).await;
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_token_is_started_elsewhere() {
    let (one, other) = (engine().await, engine().await);
    let gateway = gateway(config(), &[&one, &other]);
    let feed = one.stream();
    feed.send(Ok(ROLE.into())).unwrap();
    feed.send(Err(std::io::Error::other("gone"))).unwrap();
    let feed = other.stream();
    feed.send(Ok([ROLE, HI, "data: [DONE]\n\n"].concat().into())).unwrap();
    let response = send(&gateway, chat(STREAM)).await;
    assert_eq!(
        text(response).await,
        [ROLE, HI, "data: [DONE]\n\n"].concat(),
        "the first role is not repeated"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_later_ends_with_an_error_and_without_done() {
    for ending in [Some(Err(std::io::Error::other("gone"))), None] {
        let engine = engine().await;
        let gateway = gateway(config(), &[&engine]);
        let feed = engine.stream();
        feed.send(Ok([ROLE, HI].concat().into())).unwrap();
        let response = send(&gateway, chat(STREAM)).await;
        if let Some(ending) = ending {
            feed.send(ending).unwrap();
        }
        drop(feed);
        let body = text(response).await;
        assert!(body.starts_with(&[ROLE, HI].concat()), "{body}");
        assert!(
            body.contains("\"code\":\"upstream_disconnected\"") && !body.contains("[DONE]"),
            "{body}"
        );
        until_idle(&gateway).await;
    }
}

#[tokio::test]
async fn an_error_event_of_the_engine_is_an_error_of_the_stream() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok([HI, "data: {\"error\":{\"message\":\"secret inner words\"}}\n\n"]
        .concat()
        .into()))
        .unwrap();
    let body = text(send(&gateway, chat(STREAM)).await).await;
    assert!(
        body.contains("upstream_disconnected") && !body.contains("secret inner words"),
        "{body}"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_in_the_middle_ends_the_stream() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let body = text(send(&gateway, chat(STREAM)).await).await;
    assert!(body.contains("\"code\":\"timeout\"") && !body.contains("[DONE]"), "{body}");
    drop(feed);
}

#[tokio::test(start_paused = true)]
async fn without_a_replica_a_request_waits_and_is_then_refused() {
    let gateway = gateway(config(), &[]);
    let (code, body) = answer(&gateway, chat(WHOLE)).await;
    assert_eq!(code, 503);
    assert!(body.contains("5000 ms"), "{body}");
}

#[tokio::test]
async fn a_waiting_request_is_served_when_a_replica_comes() {
    let engine = engine().await;
    let gateway = gateway(config(), &[]);
    engine.json(200, "{}");
    let waiting = answer(&gateway, chat(WHOLE));
    let coming = async {
        while status(&gateway).await["lanes"][0]["queue"]["requests"] != 1 {
            tokio::task::yield_now().await;
        }
        up(&gateway, 1, &engine.url);
    };
    let ((code, _), ()) = tokio::join!(waiting, coming);
    assert_eq!(code, 200);
}

#[tokio::test]
async fn a_full_queue_refuses_with_retry_after() {
    let mut config = config();
    config.lanes[0].scheduler.queue = QueueLimits { requests_max: 1, tokens_max: 1_000_000 };
    let gateway = gateway(config, &[]);
    let first = send(&gateway, chat(WHOLE));
    let second = async {
        while status(&gateway).await["lanes"][0]["queue"]["requests"] != 1 {
            tokio::task::yield_now().await;
        }
        send(&gateway, chat(WHOLE)).await
    };
    tokio::select! {
        _ = first => unreachable!("nobody serves it"),
        response = second => {
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key("retry-after"));
            assert!(response.headers().contains_key("retry-after-ms"));
        }
    }
    // The first one's future was dropped: its place is free.
    until_idle(&gateway).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_frees_the_replica_and_the_engine() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let response = send(&gateway, chat(STREAM)).await;
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    until_idle(&gateway).await;
    // The engine notices by its body being dropped, which closes the channel.
    for _ in 0..100_000 {
        if feed.send(Ok(HI.into())).is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    unreachable!("the engine still sends");
}

#[tokio::test]
async fn draining_refuses_the_new_and_finishes_the_old() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let running = send(&gateway, chat(STREAM)).await;
    gateway.drain();
    assert_eq!(gateway.unready(), ["the gateway is stopping"]);
    assert_eq!(answer(&gateway, chat(WHOLE)).await.0, 503);
    feed.send(Ok("data: [DONE]\n\n".into())).unwrap();
    assert!(text(running).await.ends_with("[DONE]\n\n"));
}

#[tokio::test]
async fn readiness_follows_the_replicas() {
    let engine = engine().await;
    let gateway = gateway(config(), &[]);
    assert_eq!(gateway.unready(), ["`lane` has no replica that takes work"]);
    up(&gateway, 1, &engine.url);
    assert!(gateway.unready().is_empty());
    gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    assert!(!gateway.unready().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_begin_in_time_is_given_up() {
    let mut config = config();
    config.routes[0].timeouts.first_token = Duration::from_secs(1);
    let engine = engine().await;
    let gateway = gateway(config, &[&engine]);
    let feeds = [engine.stream(), engine.stream(), engine.stream()];
    let (code, body) = answer(&gateway, chat(STREAM)).await;
    assert_eq!(code, 504, "{body}");
    drop(feeds);
}
