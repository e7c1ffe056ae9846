//! A server that answers by script, byte for byte, and remembers what it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pilotage_shell::tasks;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a connection does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A stream of these events, each in a piece of its own.
    Stream(Vec<String>),
    /// The same, once the gate is open.
    Gated(Vec<String>),
    /// A stream that breaks off after these events.
    Cut(Vec<String>),
    /// A status with a body.
    Status(u16, String),
    /// Closes without an answer.
    Hang,
    /// Closes within the first line of one.
    Begun,
    /// Answers so many tokens, and closes the connection politely afterwards.
    Closing(Vec<String>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub head: String,
    pub body: Value,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Server {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub connections: Arc<AtomicUsize>,
    pub gate: watch::Sender<bool>,
}

type Script = Arc<dyn Fn(usize, &Asked) -> Reply + Send + Sync>;

/// Events that say these words and then end as OpenAI's streams do.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    let event = |value: Value| format!("data: {value}\n\n");
    let mut events = vec![event(
        serde_json::json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
    )];
    events.extend(words.iter().map(|word| {
        event(serde_json::json!({"choices": [{"index": 0, "delta": {"content": word}}]}))
    }));
    events.push(event(serde_json::json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})));
    let usage = serde_json::json!({"prompt_tokens": 11, "completion_tokens": words.len()});
    events.push(event(serde_json::json!({"choices": [], "usage": usage})));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

impl Server {
    /// Starts one that asks the script what to do with each request, by its number.
    pub(crate) async fn start(
        script: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            asked: Arc::default(),
            connections: Arc::default(),
            gate: watch::Sender::new(false),
        };
        let script: Script = Arc::new(script);
        let accepting = server.clone();
        drop(tasks::spawn("server", async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                stream.set_nodelay(true).unwrap();
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                drop(tasks::spawn("connection", accepting.clone().serve(stream, script.clone())));
            }
        }));
        server
    }

    async fn serve(self, mut stream: TcpStream, script: Script) {
        let mut buffer = Vec::new();
        while let Some(asked) = read(&mut stream, &mut buffer).await {
            let number = {
                let mut all = self.asked.lock();
                all.push(asked.clone());
                all.len() - 1
            };
            if !self.reply(&mut stream, script(number, &asked)).await {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    async fn reply(&self, stream: &mut TcpStream, reply: Reply) -> bool {
        let goes_on = matches!(reply, Reply::Stream(_) | Reply::Gated(_) | Reply::Status(..));
        match reply {
            Reply::Hang => return false,
            Reply::Begun => drop(stream.write_all(b"HTTP/1.1 2").await),
            Reply::Status(status, body) => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
            Reply::Stream(events) => write(stream, &events, true).await,
            Reply::Closing(events) => write(stream, &events, true).await,
            Reply::Cut(events) => write(stream, &events, false).await,
            Reply::Gated(events) => {
                let mut gate = self.gate.subscribe();
                let _ = gate.wait_for(|open| *open).await;
                write(stream, &events, true).await;
            }
        }
        goes_on
    }
}

async fn write(stream: &mut TcpStream, events: &[String], ends: bool) {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    for event in events {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    if ends {
        let _ = stream.write_all(b"0\r\n\r\n").await;
    }
}

/// The next request, or none when the connection is over.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    loop {
        let head_end = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head_end) = head_end {
            let head = String::from_utf8_lossy(&buffer[..head_end]).to_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
            let end = head_end + length.unwrap_or(0);
            if buffer.len() >= end {
                let body = serde_json::from_slice(&buffer[head_end..end]).unwrap_or(Value::Null);
                buffer.drain(..end);
                return Some(Asked { head, body });
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
        }
    }
}
