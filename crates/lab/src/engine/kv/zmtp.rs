//! The publishing side of ZMTP 3.0, the protocol of ZeroMQ's sockets, without security: greeting,
//! READY, subscriptions, and messages of several frames.

use std::io;
use std::sync::Arc;

use pilotage_shell::tasks;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Bytes of what a subscriber sends in one frame, at most.
const FRAME_BYTES_MAX: u64 = 64 << 10;
/// Subscriptions of one subscriber, at most.
const TOPICS_MAX: usize = 1000;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// One message: its frames; the first is what subscriptions are compared with.
pub(super) type Message = Arc<[Vec<u8>]>;

/// Serves subscribers. One that is too slow loses messages, as with ZeroMQ's own.
pub(super) async fn publish(listener: TcpListener, messages: broadcast::WeakSender<Message>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let Some(sender) = messages.upgrade() else { return };
        let receiver = sender.subscribe();
        // A subscriber that breaks the protocol, or goes, is of no concern to the others.
        drop(tasks::spawn("scripted subscriber", async move {
            let _ = serve(socket, receiver).await;
        }));
    }
}

/// The signature, version 3.0, the mechanism NULL, and that this is no security server.
pub(super) fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    for (to, from) in greeting.iter_mut().zip([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0]) {
        *to = from;
    }
    for (to, from) in greeting.iter_mut().skip(12).zip(*b"NULL") {
        *to = from;
    }
    greeting
}

/// The command that ends the handshake.
pub(super) fn ready(socket_type: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend((socket_type.len() as u32).to_be_bytes());
    body.extend(socket_type.bytes());
    let mut out = Vec::new();
    put_frame(&mut out, COMMAND, &body);
    out
}

fn put_frame(out: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(length) => out.extend([flags, length]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend((body.len() as u64).to_be_bytes());
        }
    }
    out.extend(body);
}

async fn serve(
    mut socket: TcpStream,
    mut messages: broadcast::Receiver<Message>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.write_all(&greeting()).await?;
    let mut theirs = [0; 64];
    socket.read_exact(&mut theirs).await?;
    let (version, mechanism) = (theirs.get(10).copied().unwrap_or_default(), theirs.get(12..17));
    if theirs.first() != Some(&0xff) || version < 3 || mechanism != Some(b"NULL\0") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    socket.write_all(&ready("PUB")).await?;
    let (read, mut write) = socket.into_split();
    let mut read = tokio::io::BufReader::new(read);
    let mut topics: Vec<Vec<u8>> = Vec::new();
    // What is read of a frame must not be lost when a message comes meanwhile: it is read by a task.
    let (frames, mut came) = tokio::sync::mpsc::channel(16);
    let reading = tasks::spawn("scripted subscriptions", async move {
        while let Ok(frame) = read_frame(&mut read).await {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
    });
    let _reading = AbortOnDrop(reading);
    loop {
        tokio::select! {
            frame = came.recv() => {
                let Some((flags, body)) = frame else { return Ok(()) };
                if let Some(pong) = heed(flags, &body, &mut topics) {
                    write.write_all(&pong).await?;
                }
            }
            message = messages.recv() => match message {
                Ok(message) if is_wanted(&message, &topics) => write.write_all(&framed(&message)).await?,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes in a subscription, said as a message or as a command; what is to be answered.
fn heed(flags: u8, body: &[u8], topics: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let (subscribes, topic) = if flags & COMMAND == 0 {
        let (first, topic) = body.split_first()?;
        (*first == 1, topic)
    } else if let Some(topic) = body.strip_prefix(b"\x09SUBSCRIBE") {
        (true, topic)
    } else if let Some(topic) = body.strip_prefix(b"\x06CANCEL") {
        (false, topic)
    } else {
        let context = body.strip_prefix(b"\x04PING")?.get(2..)?;
        let mut pong = Vec::new();
        put_frame(&mut pong, COMMAND, &[b"\x04PONG", context].concat());
        return Some(pong);
    };
    if !subscribes {
        let at = topics.iter().position(|other| other == topic)?;
        topics.swap_remove(at);
    } else if topics.len() < TOPICS_MAX {
        topics.push(topic.to_vec());
    }
    None
}

fn is_wanted(message: &Message, topics: &[Vec<u8>]) -> bool {
    let first = message.first().map_or(&[][..], Vec::as_slice);
    topics.iter().any(|topic| first.starts_with(topic))
}

/// A message's frames, with what says that more come.
fn framed(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, frame) in message.iter().enumerate() {
        put_frame(&mut out, if index + 1 < message.len() { MORE } else { 0 }, frame);
    }
    out
}

/// The next frame that a peer sends: its flags and its body.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let flags = from.read_u8().await?;
    let length =
        if flags & LONG == 0 { u64::from(from.read_u8().await?) } else { from.read_u64().await? };
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
    from.read_exact(&mut body).await?;
    Ok((flags, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heeds_subscriptions_of_both_versions() {
        let mut topics = Vec::new();
        let message =
            |topic: &str| -> Message { vec![topic.as_bytes().to_vec(), b"x".to_vec()].into() };
        assert!(!is_wanted(&message("kv"), &topics));
        heed(0, b"\x01kv", &mut topics);
        heed(COMMAND, b"\x09SUBSCRIBEother", &mut topics);
        assert!(is_wanted(&message("kv-events"), &topics) && is_wanted(&message("other"), &topics));
        assert!(!is_wanted(&message("k"), &topics));
        heed(0, b"\x00kv", &mut topics);
        heed(COMMAND, b"\x06CANCELother", &mut topics);
        assert!(topics.is_empty());
        let pong = heed(COMMAND, b"\x04PING\x00\x01ctx", &mut topics).unwrap();
        assert_eq!(pong, b"\x04\x08\x04PONGctx");
    }

    #[test]
    fn frames_messages() {
        let message: Message = vec![b"t".to_vec(), vec![7; 300]].into();
        let bytes = framed(&message);
        assert_eq!(bytes[..4], [MORE, 1, b't', LONG]);
        assert_eq!(bytes[4..12], 300_u64.to_be_bytes());
        assert_eq!(bytes.len(), 12 + 300);
    }
}
