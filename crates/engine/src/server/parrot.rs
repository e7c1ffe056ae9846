//! A model for tests that says what it is told to: the part of its prompt between [`FROM`] and
//! [`TO`], byte by byte, and then it ends. Some bytes are not said but done.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use http_body_util::BodyExt as _;
use pilotage_shell::clock::Clock;
use pilotage_wire::sse::Decoder;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::Api;
use crate::backend::{Backend, BackendError, Grammar, ModelFacts, SharedVocabulary, Vocabulary};
use crate::batch::Entry;
use crate::config::EngineConfig;
use crate::job::{JobError, Token};
use crate::runner::{Engine, Runner};
use crate::sample::TokenSet;

/// Before what is to be said.
const FROM: char = '\u{1}';

/// After it.
const TO: char = '\u{2}';

/// Said by the script: the computation fails.
pub(super) const FAIL: char = '\u{3}';

/// Said by the script: the engine's thread dies.
pub(super) const DIE: char = '\u{4}';

/// Said by the script: nothing goes on until the test lets it.
pub(super) const WAIT: char = '\u{5}';

/// What a chat's prompt has after the last message.
const ANSWER: &str = "<|im_end|>\n<|im_start|>assistant\n";

/// Ends a generation.
pub(super) const END: Token = 256;

/// Begins a text.
pub(super) const BEGIN: Token = 257;

const VOCABULARY: usize = 258;

/// Tokens of prompt and answer together.
pub(super) const CONTEXT: u32 = 1024;

/// The API of an engine that runs the parrot.
pub(super) struct Parrot {
    pub(super) api: Api,
    pub(super) engine: Engine,
    gate: Sender<()>,
}

impl Parrot {
    pub(super) fn new(slots: u32, queue_max: u32) -> Self {
        let config = EngineConfig {
            slots,
            queue_max,
            context: CONTEXT,
            ..EngineConfig::new("parrot".into(), 1)
        };
        let batch = config.batch(1, false);
        let facts = ModelFacts { embedding_size: 2, ..ModelFacts::default() };
        let vocabulary: SharedVocabulary = Arc::new(Bytes { facts });
        let (engine, end) = Engine::channel(&batch, Arc::clone(&vocabulary));
        end.ready();
        let (gate, opened) = channel();
        let model =
            Model { slots: vec![Vec::new(); slots as usize], logits: Vec::new(), gate: opened };
        let clock = Clock::start();
        std::thread::spawn(move || Runner::new(model, batch, end, clock, vocabulary).run());
        let api = Api::new(engine.clone(), "org/parrot".to_owned(), CONTEXT, None, clock).unwrap();
        Self { api, engine, gate }
    }

    pub(super) fn router(&self) -> Router {
        self.api.router()
    }

    /// Lets one [`WAIT`] pass.
    pub(super) fn go_on(&self) {
        self.gate.send(()).unwrap();
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Body>) -> Response {
        let request = Request::post(path).body(body.into()).unwrap();
        self.router().oneshot(request).await.unwrap()
    }

    /// The JSON of a whole answer.
    pub(super) async fn whole(&self, path: &str, body: &Value) -> Value {
        let (status, text) = read(self.post(path, body.to_string()).await).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The events of a stream.
    pub(super) async fn events(&self, path: &str, body: &Value) -> Vec<String> {
        let mut body = body.clone();
        body["stream"] = true.into();
        let (status, text) = read(self.post(path, body.to_string()).await).await;
        assert_eq!(status, 200, "{text}");
        let mut decoder = Decoder::default();
        decoder.push(text.as_bytes()).unwrap();
        decoder.finish().unwrap();
        std::iter::from_fn(|| decoder.next()).map(|event| event.data).collect()
    }

    /// The chunks of a stream that ends as it should.
    pub(super) async fn chunks(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut events = self.events(path, body).await;
        assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{events:?}");
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

/// Status and body.
pub(super) async fn read(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A prompt that makes the parrot say this.
pub(super) fn script(said: &str) -> String {
    format!("{FROM}{said}{TO}")
}

/// A chat request that makes the parrot say this.
pub(super) fn chat(said: &str, more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": script(said)}]);
    with(json!({"model": "org/parrot", "messages": messages, "temperature": 0}), more)
}

/// A completion request that makes the parrot say this.
pub(super) fn completion(said: &str, more: &Value) -> Value {
    with(json!({"model": "org/parrot", "prompt": script(said), "temperature": 0}), more)
}

fn with(mut body: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

struct Model {
    slots: Vec<Vec<Token>>,
    logits: Vec<Vec<f32>>,
    gate: Receiver<()>,
}

/// What comes after these tokens.
fn next(cells: &[Token]) -> Token {
    let place = |mark: char| cells.iter().rposition(|token| *token == mark as Token);
    let (Some(from), Some(to)) = (place(FROM), place(TO)) else { return END };
    let answer: Vec<Token> = ANSWER.bytes().map(Token::from).collect();
    let begin = if cells[to + 1..].starts_with(&answer) { to + 1 + answer.len() } else { to + 1 };
    let said = cells.len() - begin;
    cells[from + 1..to].get(said).copied().unwrap_or(END)
}

impl Backend for Model {
    type Swapped = Vec<Token>;
    type Grammar = Anything;

    fn compute(&mut self, entries: &[Entry]) -> Result<(), BackendError> {
        self.logits.clear();
        for entry in entries {
            let cells = &mut self.slots[entry.slot as usize];
            assert_eq!(cells.len(), entry.position as usize);
            cells.push(entry.token);
            let mut logits = vec![0.0; VOCABULARY];
            let token = next(cells);
            logits[token as usize] = 20.0;
            self.logits.push(logits);
            if !entry.logits {
                continue;
            }
            if token == FAIL as Token {
                return Err(BackendError("told to".to_owned()));
            }
            assert_ne!(token, DIE as Token, "told to");
            if token == WAIT as Token {
                // A test that is over lets everything go on.
                let _ = self.gate.recv();
            }
        }
        Ok(())
    }

    fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index]
    }

    fn copy(&mut self, from: u32, to: u32) -> Result<(), BackendError> {
        self.slots[to as usize] = self.slots[from as usize].clone();
        Ok(())
    }

    fn keep(&mut self, slot: u32, len: u32) -> Result<(), BackendError> {
        self.slots[slot as usize].truncate(len as usize);
        Ok(())
    }

    fn swap_out(&mut self, slot: u32) -> Result<Vec<Token>, BackendError> {
        Ok(std::mem::take(&mut self.slots[slot as usize]))
    }

    fn swap_in(&mut self, slot: u32, swapped: &Vec<Token>) -> Result<(), BackendError> {
        self.slots[slot as usize].clone_from(swapped);
        Ok(())
    }

    fn grammar(&self, _gbnf: &str) -> Result<Anything, JobError> {
        Ok(Anything)
    }

    fn embed(&mut self, prompts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        Ok(prompts.iter().map(|_| vec![0.6, 0.8]).collect())
    }
}

/// The parrot obeys grammars by saying what they ask for, which is the test's business.
struct Anything;

impl Grammar for Anything {
    fn allows(&mut self, _token: Token) -> bool {
        true
    }

    fn allowed(&mut self) -> TokenSet {
        let mut all = TokenSet::with_len(VOCABULARY);
        (0..=BEGIN).for_each(|token| all.insert(token));
        all
    }

    fn accept(&mut self, _token: Token) -> Result<(), BackendError> {
        Ok(())
    }
}

/// One token for each byte, so that characters come in pieces.
struct Bytes {
    facts: ModelFacts,
}

impl Vocabulary for Bytes {
    fn tokenize(&self, text: &str, begin: bool, _special: bool) -> Vec<Token> {
        begin.then_some(BEGIN).into_iter().chain(text.bytes().map(Token::from)).collect()
    }

    fn piece(&self, token: Token, _special: bool) -> Vec<u8> {
        u8::try_from(token).into_iter().collect()
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn size(&self) -> usize {
        VOCABULARY
    }

    fn model(&self) -> &ModelFacts {
        &self.facts
    }
}
