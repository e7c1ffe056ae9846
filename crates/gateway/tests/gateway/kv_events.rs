//! Feeds of KV events, followed from a scripted publisher on loopback.

use std::time::Duration;

use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, Replica};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Engine, answer, chat, config, engine, gateway, metrics};

/// What an engine sends first: greeting and READY of a PUB socket.
fn hello() -> Vec<u8> {
    let mut hello = vec![0; 64];
    hello[0] = 0xff;
    hello[9] = 0x7f;
    hello[10] = 3;
    hello[12..16].copy_from_slice(b"NULL");
    hello.extend(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB");
    hello
}

/// A message of one event, an array in MessagePack.
fn message(number: u64, event: &[u8]) -> Vec<u8> {
    let batch = [&b"\x93\xcb\0\0\0\0\0\0\0\0\x91"[..], event, b"\x00"].concat();
    let length = u8::try_from(batch.len()).unwrap();
    [&b"\x01\x00\x01\x08"[..], &number.to_be_bytes(), &[0, length], &batch].concat()
}

/// `count` blocks of 64 tokens, with the hashes one to `count`; fewer than 16.
fn blocks(kind: &str, count: u8) -> Vec<u8> {
    let hashes: Vec<u8> = std::iter::once(0x90 | count).chain(1..=count).collect();
    let name = [&[0xa0 | u8::try_from(kind.len()).unwrap()], kind.as_bytes()].concat();
    match kind {
        "BlockStored" => [&[0x95], &name[..], &hashes, b"\xc0\x90\x40"].concat(),
        _ => [&[0x92], &name[..], &hashes].concat(),
    }
}

/// The publisher's side of a connection, with the handshake done.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.write_all(&hello()).await.unwrap();
    // Greeting, READY, and the subscription to everything.
    let mut said = [0; 64 + 27 + 3];
    socket.read_exact(&mut said).await.unwrap();
    assert_eq!(said[64 + 27..], *b"\x00\x01\x01");
    socket
}

async fn fed(engine: &Engine) -> (Gateway, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = gateway(config(), &[]);
    let replica = Replica {
        kv_events: Some(format!("tcp://{}", listener.local_addr().unwrap())),
        ..Replica::at("one", &engine.url, Capacity::of_requests(4))
    };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(1), replica);
    (gateway, listener)
}

/// Waits until a series of the feed has this value.
async fn until(gateway: &Gateway, series: &str, value: u64) {
    let line = format!("pilotage_kv_event{series}\"}} {value}\n");
    for _ in 0..20_000 {
        if metrics(gateway).await.contains(&line) {
            return;
        }
        tokio::task::yield_now().await;
    }
    let metrics = metrics(gateway).await;
    let lines: Vec<&str> = metrics.lines().filter(|line| line.contains("_kv_event")).collect();
    panic!("never `{line}`: {lines:#?}");
}

const EVENTS: &str = "s_total{lane=\"lane\",kind=\"";
const FEEDS: &str = "_feeds{lane=\"lane\",state=\"";

async fn counted(gateway: &Gateway, kind: &str, value: u64) {
    until(gateway, &format!("{EVENTS}{kind}"), value).await;
}

async fn feeds(gateway: &Gateway, state: &str, value: u64) {
    until(gateway, &format!("{FEEDS}{state}"), value).await;
}

#[tokio::test]
async fn what_comes_is_counted_and_what_is_lost_is_shown() {
    let engine = engine().await;
    let (gateway, listener) = fed(&engine).await;
    let mut socket = accept(&listener).await;
    feeds(&gateway, "live", 1).await;
    socket.write_all(&message(0, &blocks("BlockStored", 9))).await.unwrap();
    socket.write_all(&message(1, &blocks("BlockRemoved", 2))).await.unwrap();
    socket.write_all(&message(2, b"\x91\xb0AllBlocksCleared")).await.unwrap();
    socket.write_all(&message(3, b"\x91\xa3New")).await.unwrap();
    counted(&gateway, "stored", 9).await;
    counted(&gateway, "removed", 2).await;
    counted(&gateway, "cleared", 1).await;
    counted(&gateway, "unknown", 1).await;
    feeds(&gateway, "live", 1).await;
    // Three are missing: it goes on.
    socket.write_all(&message(7, &blocks("BlockStored", 1))).await.unwrap();
    counted(&gateway, "lost", 3).await;
    feeds(&gateway, "stale", 1).await;
    counted(&gateway, "stored", 10).await;
    // Nothing is left of one that is gone.
    gateway.lane("lane").unwrap().replica_down(ReplicaId(1));
    feeds(&gateway, "stale", 0).await;
    feeds(&gateway, "live", 0).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew() {
    let engine = engine().await;
    let (gateway, listener) = fed(&engine).await;
    let mut socket = accept(&listener).await;
    socket.write_all(&message(0, &blocks("BlockStored", 1))).await.unwrap();
    counted(&gateway, "stored", 1).await;
    drop(socket);
    // Whoever answers with something else is left, and tried again.
    let (mut other, _) = listener.accept().await.unwrap();
    other.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let mut socket = accept(&listener).await;
    socket.write_all(&message(3, &blocks("BlockStored", 1))).await.unwrap();
    counted(&gateway, "lost", 2).await;
    counted(&gateway, "stored", 2).await;
}

#[tokio::test]
async fn a_feed_that_says_nothing_while_requests_run_is_told() {
    let engine = engine().await;
    let (gateway, listener) = fed(&engine).await;
    let _socket = accept(&listener).await;
    feeds(&gateway, "live", 1).await;
    for _ in 0..8 {
        engine.json(200, "{}");
        // Nothing waits for what a feed says.
        assert_eq!(answer(&gateway, chat(r#"{"model":"public"}"#)).await.0, 200);
    }
    tokio::time::pause();
    feeds(&gateway, "live", 1).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    feeds(&gateway, "silent", 0).await;
    tokio::time::advance(Duration::from_secs(21)).await;
    feeds(&gateway, "silent", 1).await;
    feeds(&gateway, "live", 0).await;
    // It is connected to anew, and one message is enough.
    let mut socket = accept(&listener).await;
    socket.write_all(&message(9, &blocks("BlockStored", 1))).await.unwrap();
    feeds(&gateway, "live", 1).await;
}
