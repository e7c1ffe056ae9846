//! An engine whose tokens say whose they are and which, so that one that is lost or comes twice shows. It goes
//! on exactly where another stopped, from ids or from text, and says so where a gateway sends it
//! anything but what was said before; and it ends as processes do.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::pass;

/// Ids of each prompt: the request's number, and these.
const PROMPT_IDS: [u64; 2] = [900_001, 900_002];

/// Tokens of each prompt.
pub(super) const PROMPT_TOKENS: u64 = 1 + PROMPT_IDS.len() as u64;

/// The id of an answer's first token.
const FIRST_ID: u64 = 1000;

/// A token of the answer to the request of that number: some end in white space, which is not sent to whoever
/// goes on, and some hold more than ASCII.
pub(super) fn token(number: u64, index: u64) -> String {
    match index % 7 {
        3 => format!(" {number}.{index}\n"),
        5 => format!(" {number}.é🎈{index}"),
        _ => format!(" {number}.{index}"),
    }
}

/// What a request's prompt says.
pub(super) fn prompt(number: u64) -> String {
    format!("#{number}# ends here:")
}

/// What engines of a scenario write down together.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Where a gateway sent what is not to be.
    pub(super) wrong: Mutex<Vec<String>>,
    /// Answers that went on.
    pub(super) continued: AtomicU64,
    /// Answers begun.
    pub(super) begun: AtomicU64,
    /// Answers whose client went away, or that were cut.
    pub(super) cut: AtomicU64,
}

/// How far its process is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Serves,
    /// Takes no more connections, and closes each once its answer is complete.
    Leaves,
    /// Closes all connections.
    Gone,
    /// All connections are reset.
    Killed,
}

/// A running engine; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) addr: SocketAddr,
    life: watch::Sender<Life>,
    open: Arc<AtomicU64>,
}

impl Speaker {
    /// One at that address, whose port may be any, with so long between tokens.
    pub(super) async fn start(at: SocketAddr, gap: Duration, book: Arc<Book>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (life, watched) = watch::channel(Life::Serves);
        let open = Arc::new(AtomicU64::new(0));
        let voice = Voice { gap, book, open: Arc::clone(&open) };
        drop(tasks::spawn("speaker", accept(listener, voice, watched)));
        Self { addr, life, open }
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// What SIGTERM makes of it: it finishes what runs, as far as that is done within its grace.
    pub(super) async fn terminate(self, grace: Duration) {
        self.life.send_replace(Life::Leaves);
        pass(grace).await;
        self.life.send_replace(Life::Gone);
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.life.send_if_modified(|life| {
            let lives = *life != Life::Gone;
            *life = if lives { Life::Killed } else { Life::Gone };
            lives
        });
    }
}

/// What its connections share.
#[derive(Clone, Debug)]
struct Voice {
    gap: Duration,
    book: Arc<Book>,
    open: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, voice: Voice, mut life: watch::Receiver<Life>) {
    loop {
        let watched = life.clone();
        tokio::select! {
            biased;
            _ = life.wait_for(|life| *life != Life::Serves) => return,
            accepted = listener.accept() => {
                let (socket, _) = accepted.unwrap();
                drop(tasks::spawn("spoken with", connection(socket, voice.clone(), watched)));
            }
        }
    }
}

async fn connection(mut socket: TcpStream, voice: Voice, life: watch::Receiver<Life>) {
    voice.open.fetch_add(1, Relaxed);
    socket.set_nodelay(true).unwrap();
    let mut watched = life.clone();
    let end = tokio::select! {
        biased;
        life = watched.wait_for(|life| matches!(life, Life::Gone | Life::Killed)) => {
            life.map_or(Life::Killed, |life| *life)
        }
        _ = talk(&mut socket, &voice, life) => Life::Leaves,
    };
    if end == Life::Killed {
        let _ = socket.set_zero_linger();
    }
    voice.open.fetch_sub(1, Relaxed);
}

/// Answers one request after the other, until either side has enough.
async fn talk(
    socket: &mut TcpStream,
    voice: &Voice,
    mut life: watch::Receiver<Life>,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    while *life.borrow() == Life::Serves {
        let request = tokio::select! {
            biased;
            request = request(socket, &mut read) => request?,
            _ = life.wait_for(|life| *life != Life::Serves) => return Ok(()),
        };
        let Some((path, body)) = request else { return Ok(()) };
        if body.is_empty() {
            let page = "vllm:num_requests_waiting 0.0\n";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
            socket.write_all(head.as_bytes()).await?;
            continue;
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        match Work::read(&path, &body) {
            Ok(work) => work.answer(socket, voice).await?,
            Err(wrong) => {
                voice.book.wrong.lock().push(format!("{wrong}: {body}"));
                socket
                    .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}")
                    .await?;
            }
        }
    }
    Ok(())
}

/// The path and body of the next request; none when there is no more.
async fn request(
    socket: &mut TcpStream,
    read: &mut Vec<u8>,
) -> std::io::Result<Option<(String, Vec<u8>)>> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if read.len() >= end + 4 + length {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = read[end + 4..end + 4 + length].to_vec();
                read.drain(..end + 4 + length);
                return Ok(Some((path, body)));
            }
        }
        let mut more = [0; 4096];
        match socket.read(&mut more).await? {
            0 => return Ok(None),
            got => read.extend_from_slice(&more[..got]),
        }
    }
}

/// What is to be said.
#[derive(Debug)]
struct Work {
    number: u64,
    /// The first token and the one after the last.
    span: (u64, u64),
    /// What the first token begins with: the end of the one before it.
    lead: String,
    stream: bool,
    chat: bool,
    counts: bool,
    usage: bool,
    ids: bool,
}

impl Work {
    fn read(path: &str, body: &Value) -> Result<Self, String> {
        let chat = path == "/v1/chat/completions";
        let (number, from, lead) =
            if chat { so_far_of_chat(body)? } else { so_far_of_prompt(&body["prompt"])? };
        let most = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
        let most = most.filter(|most| *most > 0).ok_or("no limit of tokens")?;
        let option = |name: &str| body["stream_options"][name] == true;
        Ok(Self {
            number,
            span: (from, from + most),
            lead,
            stream: body["stream"] == true,
            chat,
            counts: option("continuous_usage_stats"),
            usage: option("include_usage"),
            ids: body["return_token_ids"] == true,
        })
    }

    async fn answer(&self, socket: &mut TcpStream, voice: &Voice) -> std::io::Result<()> {
        voice.book.begun.fetch_add(1, Relaxed);
        voice.book.continued.fetch_add(u64::from(self.span.0 > 0), Relaxed);
        let cut = Cut(Some(&voice.book.cut));
        if self.stream {
            self.tell(socket, voice.gap).await?;
        } else {
            let tokens = u32::try_from(self.span.1 - self.span.0).unwrap();
            pass(voice.gap * tokens).await;
            let body = self.whole().to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(head.as_bytes()).await?;
        }
        cut.over();
        Ok(())
    }

    async fn tell(&self, socket: &mut TcpStream, gap: Duration) -> std::io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await?;
        put(socket, &[format!("data: {}\n\n", self.opening())]).await?;
        for index in self.span.0..self.span.1 {
            pass(gap).await;
            put(socket, &[format!("data: {}\n\n", self.chunk(index))]).await?;
        }
        let mut last = Vec::new();
        if self.usage {
            let mut chunk = self.envelope(&json!([]));
            chunk["usage"] = self.usage_at(self.span.1);
            last.push(format!("data: {chunk}\n\n"));
        }
        last.push("data: [DONE]\n\n".to_owned());
        put(socket, &last).await?;
        socket.write_all(b"0\r\n\r\n").await
    }

    fn envelope(&self, choices: &Value) -> Value {
        let object = match (self.chat, self.stream) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        };
        // Each attempt has an id of its own; the client is to see one.
        let id = format!("c-{}-{}", self.number, self.span.0);
        json!({"id": id, "object": object, "created": 1, "model": "served", "choices": choices})
    }

    fn usage_at(&self, index: u64) -> Value {
        let prompt = PROMPT_TOKENS + self.span.0;
        let answer = index - self.span.0;
        json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer})
    }

    fn text(&self, index: u64) -> String {
        let lead = if index == self.span.0 { self.lead.as_str() } else { "" };
        format!("{lead}{}", token(self.number, index))
    }

    fn opening(&self) -> Value {
        let ids: Vec<u64> = [self.number].into_iter().chain(PROMPT_IDS).collect();
        let mut choice = json!({"index": 0, "finish_reason": null});
        if self.chat {
            choice["delta"] = json!({"role": "assistant", "content": ""});
        } else {
            choice["text"] = json!("");
        }
        if self.ids && !self.chat {
            choice["prompt_token_ids"] = json!(ids);
        }
        let mut chunk = self.envelope(&json!([choice]));
        if self.ids && self.chat {
            chunk["prompt_token_ids"] = json!(ids);
        }
        chunk
    }

    fn chunk(&self, index: u64) -> Value {
        let end = (index + 1 == self.span.1).then_some("stop");
        let mut choice = json!({"index": 0, "finish_reason": end});
        if self.chat {
            choice["delta"] = json!({"content": self.text(index)});
        } else {
            choice["text"] = json!(self.text(index));
        }
        if self.ids {
            choice["token_ids"] = json!([FIRST_ID + index]);
        }
        let mut chunk = self.envelope(&json!([choice]));
        if self.counts {
            chunk["usage"] = self.usage_at(index + 1);
        }
        chunk
    }

    fn whole(&self) -> Value {
        let text = (self.span.0..self.span.1).fold(String::new(), |mut text, index| {
            let _ = write!(text, "{}", self.text(index));
            text
        });
        let mut choice = json!({"index": 0, "finish_reason": "stop"});
        if self.chat {
            choice["message"] = json!({"role": "assistant", "content": text});
        } else {
            choice["text"] = json!(text);
        }
        let mut answer = self.envelope(&json!([choice]));
        answer["usage"] = self.usage_at(self.span.1);
        answer
    }
}

/// One more that was cut, unless it is said to be over.
struct Cut<'a>(Option<&'a AtomicU64>);

impl Cut<'_> {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if let Some(cut) = self.0 {
            cut.fetch_add(1, Relaxed);
        }
    }
}

/// Sends events, each a chunk of its own.
async fn put(socket: &mut TcpStream, events: &[String]) -> std::io::Result<()> {
    for event in events {
        socket.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    Ok(())
}

/// Whose answer a chat asks for, from which token on, and the end of the token before it.
fn so_far_of_chat(body: &Value) -> Result<(u64, u64, String), String> {
    let messages = body["messages"].as_array().ok_or("no messages")?;
    let text = |message: &Value| match &message["content"] {
        Value::Array(parts) => parts[0]["text"].as_str().map(str::to_owned),
        content => content.as_str().map(str::to_owned),
    };
    let first = messages.first().and_then(text).ok_or("no first message")?;
    let (number, rest) = number_of(&first)?;
    if !rest.is_empty() {
        return Err(format!("{rest:?} after the prompt"));
    }
    let continues = body["continue_final_message"] == true;
    match (messages.len(), continues) {
        (1, false) => Ok((number, 0, String::new())),
        (2, true) if body["add_generation_prompt"] == false => {
            let said = text(&messages[1]).ok_or("an answer so far without text")?;
            so_far(number, &said)
        }
        _ => Err("messages that are no continuation".to_owned()),
    }
}

/// The same of a completion, whose prompt is text or ids.
fn so_far_of_prompt(prompt: &Value) -> Result<(u64, u64, String), String> {
    if let Some(text) = prompt.as_str() {
        let (number, said) = number_of(text)?;
        return if said.is_empty() { Ok((number, 0, String::new())) } else { so_far(number, said) };
    }
    let ids: Option<Vec<u64>> =
        prompt.as_array().and_then(|ids| ids.iter().map(Value::as_u64).collect());
    let ids = ids.filter(|ids| ids.len() > PROMPT_IDS.len()).ok_or("no prompt")?;
    let (given, answer) = ids.split_at(PROMPT_TOKENS as usize);
    let expect = (FIRST_ID..).take(answer.len());
    if given[1..] != PROMPT_IDS || !expect.eq(answer.iter().copied()) {
        return Err("other ids than were told".to_owned());
    }
    Ok((given[0], answer.len() as u64, String::new()))
}

fn number_of(text: &str) -> Result<(u64, &str), String> {
    let number = text.split('#').nth(1).and_then(|number| number.parse().ok());
    let number: u64 = number.ok_or("no number")?;
    let rest = text.strip_prefix(prompt(number).as_str()).ok_or("another prompt")?;
    Ok((number, rest))
}

/// Where text ends that is the begin of an answer, but for white space at its end.
fn so_far(number: u64, said: &str) -> Result<(u64, u64, String), String> {
    let (mut all, mut index) = (String::new(), 0);
    while all.len() < said.len() {
        all.push_str(&token(number, index));
        index += 1;
    }
    match all.strip_prefix(said) {
        Some(rest) if rest.trim().is_empty() => Ok((number, index, rest.to_owned())),
        _ => Err(format!("{said:?} was never said")),
    }
}
