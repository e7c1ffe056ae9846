//! A scripted server on loopback that answers many requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub path: String,
    /// All headers, in lower case.
    pub head: String,
    /// How many requests came before.
    pub number: usize,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(": ").map(|(name, _)| name.to_owned());
        let lines = self.head.lines().filter(|text| line(text).as_deref() == Some(name));
        lines.filter_map(|text| text.split_once(": ")).map(|(_, value)| value).next()
    }

    pub(super) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (from, to) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()))
    }
}

type Script = dyn Fn(&Asked) -> Vec<u8> + Send + Sync;

/// A server, and what it saw.
pub(super) struct Site {
    pub url: String,
    pub seen: Arc<Mutex<Vec<Asked>>>,
}

impl Site {
    pub(super) async fn new(script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::meeting(0, script).await
    }

    /// One whose first requests with a range wait until so many are there.
    pub(super) async fn meeting(
        meet: usize,
        script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Asked>>>::default();
        let desk = Desk {
            script: Arc::new(script),
            seen: Arc::clone(&seen),
            ranged: Arc::default(),
            barrier: Arc::new(Barrier::new(meet.max(1))),
            meet,
        };
        drop(pilotage_shell::tasks::spawn("site", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(pilotage_shell::tasks::spawn("desk", desk.clone().serve(stream)));
            }
        }));
        Self { url, seen }
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.seen.lock().iter().map(|asked| asked.path.clone()).collect()
    }
}

#[derive(Clone)]
struct Desk {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Asked>>>,
    ranged: Arc<AtomicUsize>,
    barrier: Arc<Barrier>,
    meet: usize,
}

impl Desk {
    async fn serve(self, mut stream: TcpStream) {
        let mut head = String::new();
        let mut lines = BufReader::new(&mut stream);
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).await.unwrap() == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let asked = {
            let mut seen = self.seen.lock();
            let asked = Asked { path, head: head.to_lowercase(), number: seen.len() };
            seen.push(asked.clone());
            asked
        };
        if asked.range().is_some() && self.ranged.fetch_add(1, Ordering::SeqCst) < self.meet {
            self.barrier.wait().await;
        }
        let answer = (self.script)(&asked);
        // Who asks may have enough before the end.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
}

/// A whole answer.
pub(super) fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One whose length is not told.
pub(super) fn chunked(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
            .into_bytes();
    for chunk in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A file, or the part of it that is asked for, as servers of files answer.
pub(super) fn file(asked: &Asked, content: &[u8], tag: &str) -> Vec<u8> {
    let about = format!("accept-ranges: bytes\r\netag: \"{tag}\"");
    let same = asked.header("if-range").is_none_or(|held| held == format!("\"{tag}\""));
    match asked.range().filter(|_| same) {
        Some((from, to)) => {
            let to = to.map_or(content.len(), |to| to + 1).min(content.len());
            let (last, total) = (to - 1, content.len());
            let head = format!(
                "206 Partial Content\r\n{about}\r\ncontent-range: bytes {from}-{last}/{total}"
            );
            answer(&head, &content[from..to])
        }
        None => answer(&format!("200 OK\r\n{about}"), content),
    }
}
