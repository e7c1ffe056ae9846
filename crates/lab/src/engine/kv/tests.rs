//! A subscriber by hand, byte by byte.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn a_subscriber_gets_numbered_batches_of_its_topic() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let events = KvEvents { listener, topic: "kv".to_owned(), layout: Layout::Array };
    let mut publisher = Publisher::start(events, 16, Vec::new());
    let removed = [CacheEvent::Removed { hashes: vec![7] }];
    publisher.publish(1000, &removed);

    let mut socket = TcpStream::connect(at).await.unwrap();
    socket.write_all(&zmtp::greeting()).await.unwrap();
    let mut greeting = [0; 64];
    socket.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, zmtp::greeting());
    socket.write_all(&zmtp::ready("SUB")).await.unwrap();
    let ready = zmtp::ready("PUB");
    let mut theirs = vec![0; ready.len()];
    socket.read_exact(&mut theirs).await.unwrap();
    assert_eq!(theirs, ready);
    // Subscribed, as a pong proves that was sent after it.
    socket.write_all(b"\x00\x03\x01kv\x04\x07\x04PING\x00\x00").await.unwrap();
    let mut pong = [0; 7];
    socket.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x04\x05\x04PONG");

    publisher.publish(2500, &removed);
    let batch =
        b"\x93\xcb\x40\x04\x00\x00\x00\x00\x00\x00\x91\x93\xacBlockRemoved\x91\x07\xa3GPU\x00";
    let expect =
        [b"\x01\x02kv\x01\x08\0\0\0\0\0\0\0\x01\x00".as_slice(), &[batch.len() as u8], batch]
            .concat();
    let mut message = vec![0; expect.len()];
    socket.read_exact(&mut message).await.unwrap();
    assert_eq!(message, expect);
}
