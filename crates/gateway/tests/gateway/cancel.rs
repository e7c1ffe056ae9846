//! Clients that hang up, over real connections: wherever their request is, it stops there, and the
//! engine is told by its connection being closed.

use std::net::SocketAddr;

use crate::support::{KEY, config, ended, engine, gateway, listen, until_idle, until_queued, up};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";

async fn ask(at: SocketAddr, body: &str) -> TcpStream {
    let mut client = TcpStream::connect(at).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
        body.len(),
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    client
}

async fn read_until(client: &mut TcpStream, part: &str) {
    let mut seen = String::new();
    while !seen.contains(part) {
        let mut buffer = [0; 1024];
        let count = client.read(&mut buffer).await.unwrap();
        assert!(count > 0, "closed after {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
}

#[tokio::test]
async fn in_the_queue() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[]);
    let client = ask(listen(&gateway).await, r#"{"model":"public"}"#).await;
    until_queued(&gateway, 1).await;
    drop(client);
    until_queued(&gateway, 0).await;
    up(&gateway, 1, &engine.url);
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "client_cancel").await, 1);
    assert!(engine.seen.try_recv().is_err(), "nobody wants the answer");
}

#[tokio::test]
async fn before_the_first_token() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(ROLE.into())).unwrap();
    let client = ask(listen(&gateway).await, r#"{"model":"public","stream":true}"#).await;
    engine.seen.recv().await.unwrap();
    drop(client);
    feed.closed().await;
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "client_cancel").await, 1);
}

/// The connection over which an engine is asked for an answer.
async fn asked(engine: &TcpListener) -> TcpStream {
    loop {
        let (mut connection, _) = engine.accept().await.unwrap();
        let mut begin = [0; 4];
        connection.read_exact(&mut begin).await.unwrap();
        if &begin == b"POST" {
            return connection;
        }
    }
}

#[tokio::test]
async fn while_the_engine_computes_the_prompt() {
    for stream in [true, false] {
        // It says nothing, not even that it will answer.
        let engine = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = gateway(config(), &[]);
        up(&gateway, 1, &format!("http://{}", engine.local_addr().unwrap()));
        let body = format!("{{\"model\":\"public\",\"stream\":{stream}}}");
        let client = ask(listen(&gateway).await, &body).await;
        let mut connection = asked(&engine).await;
        drop(client);
        // To the end, which comes with the connection's.
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).await.unwrap();
        until_idle(&gateway).await;
        assert_eq!(ended(&gateway, "client_cancel").await, 1);
    }
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let mut client = ask(listen(&gateway).await, r#"{"model":"public","stream":true}"#).await;
    read_until(&mut client, "Hi").await;
    drop(client);
    feed.closed().await;
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "client_cancel").await, 1);
}

#[tokio::test]
async fn while_the_body_is_still_coming() {
    let gateway = gateway(config(), &[]);
    let at = listen(&gateway).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 1000\r\n\r\n{{",
    );
    client.write_all(head.as_bytes()).await.unwrap();
    drop(client);
    // Whether the end or the break of the body is seen first, it is one request, and it ended.
    while ended(&gateway, "client_cancel").await + ended(&gateway, "bad_request").await == 0 {
        tokio::task::yield_now().await;
    }
    until_idle(&gateway).await;
}
