//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use pilotage_wire::openai::chat::{
    AnswerMessage, CalledFunction, ChatChunk, ChatRequest, ChatResponse, Choice, ChunkChoice,
    Delta, LogProbs, ResponseFormat, TokenLogProb, ToolCall,
};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::{Params, TOP_LOGPROBS_MAX, wrong};
use pilotage_wire::openai::read as parse;
use pilotage_wire::sse;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answers, Envelope, Happened, Plan, answer_id, grammar};
use super::reply::{Refused, api_error, events, json as json_response, read};
use crate::job::{Finish, Token, TokenLogprob};
use crate::tools::{self, Call, Calling};

mod pieces;

use pieces::Pieces;

pub(super) async fn chat(State(api): State<Api>, request: Request) -> Result<Response, Refused> {
    let envelope = Envelope::read(request.headers(), api.inner.clock.now_nanos());
    let body = read(request).await?;
    let params: Params = parse(&body)?;
    let request: ChatRequest = parse(&body)?;
    drop(body);
    api.check_model(&request.model)?;
    if request.messages.is_empty() {
        return Err(Refused(
            wrong::<()>("messages", "is empty").err().unwrap_or_else(|| ApiError::internal("")),
        ));
    }
    let calling = tools::calling(&request)?;
    let logprobs = logprobs(&request)?;
    let vocabulary = api.inner.engine.vocabulary();
    let now = api.inner.clock.unix_ms();
    let prompt: Arc<[Token]> = api.inner.template.tokens(&request, now, vocabulary)?.into();
    let mut plan = Plan::new(&api, &params, vec![Arc::clone(&prompt)], "messages")?;
    plan.logprobs = logprobs;
    plan.grammar = answer_grammar(&request, &calling)?;
    let answers = plan.start(&api, envelope).await?;
    let writer = Writer::new(api, &params, calling, prompt);
    if params.stream.unwrap_or(false) {
        Ok(events(writer.stream(answers)))
    } else {
        writer.whole(answers).await
    }
}

fn logprobs(request: &ChatRequest) -> Result<Option<u8>, ApiError> {
    match (request.logprobs.unwrap_or(false), request.top_logprobs) {
        (_, Some(top)) if top > TOP_LOGPROBS_MAX => {
            wrong("top_logprobs", &format!("must be 0 to {TOP_LOGPROBS_MAX}"))
        }
        (false, Some(top)) if top > 0 => wrong("top_logprobs", "needs `logprobs` to be true"),
        (true, top) => Ok(Some(u8::try_from(top.unwrap_or(0)).unwrap_or(u8::MAX))),
        (false, _) => Ok(None),
    }
}

fn answer_grammar(request: &ChatRequest, calling: &Calling) -> Result<Option<String>, ApiError> {
    if let Calling::Must(schema) = calling {
        return grammar(schema, "tools").map(Some);
    }
    match &request.response_format {
        None | Some(ResponseFormat::Text) => Ok(None),
        Some(ResponseFormat::JsonObject) => {
            grammar(&json!({"type": "object"}), "response_format").map(Some)
        }
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            let anything = Value::Object(serde_json::Map::new());
            grammar(json_schema.schema.as_ref().unwrap_or(&anything), "response_format").map(Some)
        }
    }
}

/// Writes answers, whole or as a stream.
struct Writer {
    api: Api,
    id: String,
    created: u64,
    calling: Calling,
    prompt: Option<Arc<[Token]>>,
    include_usage: bool,
    continuous_usage: bool,
}

/// One answer as it is put together for a whole response.
struct Whole {
    pieces: Pieces,
    text: String,
    calls: Vec<Call>,
    logprobs: Vec<TokenLogProb>,
    tokens: Vec<Token>,
    finish: &'static str,
    stop: Option<String>,
}

impl Writer {
    fn new(api: Api, params: &Params, calling: Calling, prompt: Arc<[Token]>) -> Self {
        let options = params.stream_options.unwrap_or_default();
        let created = api.inner.clock.unix_ms() / 1000;
        Self {
            api,
            id: answer_id("chatcmpl"),
            created,
            calling,
            prompt: params.return_token_ids.unwrap_or(false).then_some(prompt),
            include_usage: options.include_usage.unwrap_or(false),
            continuous_usage: options.continuous_usage_stats.unwrap_or(false),
        }
    }

    async fn whole(self, mut answers: Answers) -> Result<Response, Refused> {
        let mut wholes: Vec<Whole> = (0..answers.count)
            .map(|_| Whole {
                pieces: Pieces::new(&self.calling),
                text: String::new(),
                calls: Vec::new(),
                logprobs: Vec::new(),
                tokens: Vec::new(),
                finish: "stop",
                stop: None,
            })
            .collect();
        while let Some(happened) = answers.next().await {
            match happened {
                Happened::Piece { index, text, token, logprob } => {
                    let whole = &mut wholes[index as usize];
                    whole.pieces.gather(&text);
                    whole.tokens.push(token);
                    whole.logprobs.extend(logprob.map(|each| self.logprob(token, &each)));
                }
                Happened::Done { index, done } => {
                    let whole = &mut wholes[index as usize];
                    (whole.text, whole.calls) = whole.pieces.end(&done.text);
                    whole.finish = finish_reason(done.finish, !whole.calls.is_empty());
                    whole.stop = done.stop;
                }
                Happened::Failed(error) => return Err(error.into()),
            }
        }
        let choices = (0..).zip(wholes).map(|(index, whole)| self.choice(index, whole)).collect();
        let response = ChatResponse {
            id: self.id.clone(),
            object: "chat.completion",
            created: self.created,
            model: self.api.inner.model.clone(),
            choices,
            usage: answers.usage(),
            system_fingerprint: fingerprint(),
            prompt_token_ids: self.prompt.as_ref().map(|prompt| prompt.to_vec()),
        };
        Ok(json_response(StatusCode::OK, &response))
    }

    fn choice(&self, index: u32, whole: Whole) -> Choice {
        let tool_calls: Vec<ToolCall> = whole
            .calls
            .into_iter()
            .map(|call| ToolCall {
                index: None,
                id: Some(answer_id("call")),
                kind: Some("function"),
                function: CalledFunction { name: Some(call.name), arguments: call.arguments },
            })
            .collect();
        let content = (!whole.text.is_empty() || tool_calls.is_empty()).then_some(whole.text);
        Choice {
            index,
            message: AnswerMessage { role: "assistant", content, refusal: None, tool_calls },
            logprobs: (!whole.logprobs.is_empty()).then_some(LogProbs { content: whole.logprobs }),
            finish_reason: whole.finish,
            stop_reason: whole.stop,
            token_ids: self.prompt.is_some().then_some(whole.tokens),
        }
    }

    fn stream(
        self,
        answers: Answers,
    ) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        let pieces = (0..answers.count).map(|_| Pieces::new(&self.calling)).collect();
        let state = Streaming { writer: self, answers, pieces, phase: Phase::Begin };
        stream::unfold(state, |mut state| async move {
            state.next().await.map(|bytes| (Ok(bytes), state))
        })
    }

    fn chunk(&self, answers: &Answers, choices: Vec<ChunkChoice>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.api.inner.model.clone(),
            choices,
            system_fingerprint: fingerprint(),
            usage: self.continuous_usage.then(|| answers.usage()),
            prompt_token_ids: None,
        }
    }

    fn logprob(&self, token: Token, logprob: &TokenLogprob) -> TokenLogProb {
        let vocabulary = self.api.inner.engine.vocabulary();
        let one = |token: Token, logprob: f32, top: Option<Vec<TokenLogProb>>| {
            let bytes = vocabulary.piece(token, true);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            TokenLogProb { token: text, logprob, bytes, top_logprobs: top }
        };
        let top = logprob.top.iter().map(|(token, logprob)| one(*token, *logprob, None)).collect();
        one(token, logprob.logprob, Some(top))
    }
}

/// A stream being written.
struct Streaming {
    writer: Writer,
    answers: Answers,
    pieces: Vec<Pieces>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Begin,
    Middle,
    Over,
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Begin => {
                self.phase = Phase::Middle;
                Some(self.first())
            }
            Phase::Middle => Some(match self.answers.next().await {
                Some(Happened::Piece { index, text, token, logprob }) => {
                    self.piece(index, &text, token, logprob.as_ref())
                }
                Some(Happened::Done { index, done }) => {
                    let deltas = self.pieces[index as usize].finish(&done.text);
                    let called = self.pieces[index as usize].called();
                    let mut end = choice(index, Delta::default());
                    end.finish_reason = Some(finish_reason(done.finish, called));
                    end.stop_reason = done.stop;
                    self.write(index, deltas, end)
                }
                Some(Happened::Failed(error)) => {
                    self.phase = Phase::Over;
                    let mut out = Vec::new();
                    sse::encode_data(&mut out, &api_error(&error).body());
                    out.into()
                }
                None => {
                    self.phase = Phase::Over;
                    self.last()
                }
            }),
            Phase::Over => None,
        }
    }

    /// Everybody's role, so that a client can make room.
    fn first(&self) -> Bytes {
        let mut out = Vec::new();
        for index in 0..self.answers.count {
            let delta =
                Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
            let mut chunk = self.writer.chunk(&self.answers, vec![choice(index, delta)]);
            if index == 0 {
                chunk.prompt_token_ids = self.writer.prompt.as_ref().map(|prompt| prompt.to_vec());
            }
            encode(&mut out, &chunk);
        }
        out.into()
    }

    fn piece(
        &mut self,
        index: u32,
        text: &str,
        token: Token,
        logprob: Option<&TokenLogprob>,
    ) -> Bytes {
        let mut deltas = self.pieces[index as usize].push(text);
        let logprob =
            logprob.map(|each| LogProbs { content: vec![self.writer.logprob(token, each)] });
        let wants_ids = self.writer.prompt.is_some();
        // A token whose text is held back still has its place in the stream when somebody counts.
        if deltas.is_empty() && (logprob.is_some() || wants_ids || self.writer.continuous_usage) {
            deltas.push(Delta { content: Some(String::new()), ..Delta::default() });
        }
        let mut out = Vec::new();
        for (number, delta) in deltas.into_iter().enumerate() {
            let mut choice = choice(index, delta);
            if number == 0 {
                choice.logprobs.clone_from(&logprob);
                choice.token_ids = wants_ids.then(|| vec![token]);
            }
            encode(&mut out, &self.writer.chunk(&self.answers, vec![choice]));
        }
        out.into()
    }

    fn write(&self, index: u32, deltas: Vec<Delta>, end: ChunkChoice) -> Bytes {
        let mut out = Vec::new();
        for delta in deltas {
            encode(&mut out, &self.writer.chunk(&self.answers, vec![choice(index, delta)]));
        }
        encode(&mut out, &self.writer.chunk(&self.answers, vec![end]));
        out.into()
    }

    fn last(&self) -> Bytes {
        let mut out = Vec::new();
        if self.writer.include_usage {
            let mut chunk = self.writer.chunk(&self.answers, Vec::new());
            chunk.usage = Some(self.answers.usage());
            encode(&mut out, &chunk);
        }
        out.extend_from_slice(sse::DONE);
        out.into()
    }
}

fn choice(index: u32, delta: Delta) -> ChunkChoice {
    ChunkChoice {
        index,
        delta,
        logprobs: None,
        finish_reason: None,
        stop_reason: None,
        token_ids: None,
    }
}

fn encode(out: &mut Vec<u8>, chunk: &ChatChunk) {
    if let Ok(json) = serde_json::to_vec(chunk) {
        sse::encode_data(out, &json);
    }
}

const fn finish_reason(finish: Finish, called: bool) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop if called => "tool_calls",
        Finish::Stop => "stop",
    }
}

/// The build that answers: equal fingerprints are a condition for equal answers to equal seeds.
pub(super) fn fingerprint() -> String {
    concat!("pilotage-", env!("CARGO_PKG_VERSION")).to_owned()
}
