//! `POST /v1/completions`: a text or token ids, continued.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use pilotage_wire::openai::completion::{CompletionChoice, CompletionRequest, CompletionResponse};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::{Params, TOP_LOGPROBS_MAX, wrong};
use pilotage_wire::openai::read as parse;
use pilotage_wire::openai::usage::Usage;
use pilotage_wire::sse;

use super::Api;
use super::answer::{Answers, Envelope, Happened, Plan, answer_id};
use super::chat::fingerprint;
use super::reply::{Refused, api_error, events, json, read};
use super::tokens::{prompts, token_text};
use crate::job::{Finish, Token, TokenLogprob};

pub(super) async fn completions(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Refused> {
    let envelope = Envelope::read(request.headers(), api.inner.clock.now_nanos());
    let body = read(request).await?;
    let params: Params = parse(&body)?;
    let request: CompletionRequest = parse(&body)?;
    drop(body);
    api.check_model(&request.model)?;
    check(&request, &params)?;
    let begin = request.add_special_tokens.unwrap_or(true);
    let prompts = prompts(&api, &request.prompt, "prompt", begin)?;
    let mut plan = Plan::new(&api, &params, prompts.clone(), "prompt")?;
    plan.logprobs = request.logprobs.map(|top| u8::try_from(top).unwrap_or(u8::MAX));
    let each = plan.each;
    let answers = plan.start(&api, envelope).await?;
    let writer = Writer::new(api, &params, &request, prompts, each);
    if params.stream.unwrap_or(false) {
        Ok(events(writer.stream(answers)))
    } else {
        writer.whole(answers).await
    }
}

fn check(request: &CompletionRequest, params: &Params) -> Result<(), ApiError> {
    if request.suffix.as_deref().is_some_and(|suffix| !suffix.is_empty()) {
        return wrong("suffix", "is not supported by this model");
    }
    if request.best_of.is_some_and(|best_of| best_of != params.n.unwrap_or(1)) {
        return wrong("best_of", "is not supported; use `n`");
    }
    if request.logprobs.is_some_and(|top| top > TOP_LOGPROBS_MAX) {
        return wrong("logprobs", &format!("must be 0 to {TOP_LOGPROBS_MAX}"));
    }
    if request.echo.unwrap_or(false) && request.logprobs.is_some() {
        return wrong("logprobs", "cannot be combined with `echo`: the prompt's are not computed");
    }
    Ok(())
}

/// Writes answers, whole or as a stream.
struct Writer {
    api: Api,
    id: String,
    created: u64,
    prompts: Vec<Arc<[Token]>>,
    each: u32,
    echo: bool,
    token_ids: bool,
    include_usage: bool,
    continuous_usage: bool,
}

impl Writer {
    fn new(
        api: Api,
        params: &Params,
        request: &CompletionRequest,
        prompts: Vec<Arc<[Token]>>,
        each: u32,
    ) -> Self {
        let options = params.stream_options.unwrap_or_default();
        let created = api.inner.clock.unix_ms() / 1000;
        Self {
            api,
            id: answer_id("cmpl"),
            created,
            prompts,
            each,
            echo: request.echo.unwrap_or(false),
            token_ids: params.return_token_ids.unwrap_or(false),
            include_usage: options.include_usage.unwrap_or(false),
            continuous_usage: options.continuous_usage_stats.unwrap_or(false),
        }
    }

    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.api.inner.model.clone(),
            choices,
            system_fingerprint: fingerprint(),
            usage,
        }
    }

    /// An answer before its first token: the prompt, if it shall be repeated.
    fn opened(&self, index: u32) -> CompletionChoice {
        let prompt = &self.prompts[(index / self.each) as usize];
        let vocabulary = self.api.inner.engine.vocabulary();
        let bytes: Vec<u8> = if self.echo {
            prompt.iter().flat_map(|token| vocabulary.piece(*token, false)).collect()
        } else {
            Vec::new()
        };
        CompletionChoice {
            index,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            logprobs: None,
            finish_reason: None,
            stop_reason: None,
            token_ids: self.token_ids.then(Vec::new),
            prompt_token_ids: self.token_ids.then(|| prompt.to_vec()),
        }
    }

    async fn whole(self, mut answers: Answers) -> Result<Response, Refused> {
        let mut choices: Vec<CompletionChoice> =
            (0..answers.count).map(|index| self.opened(index)).collect();
        while let Some(happened) = answers.next().await {
            match happened {
                Happened::Piece { index, text, token, logprob } => {
                    let choice = &mut choices[index as usize];
                    self.add(choice, &text, token, logprob.as_ref());
                }
                Happened::Done { index, done } => {
                    let choice = &mut choices[index as usize];
                    choice.text.push_str(&done.text);
                    choice.finish_reason = Some(finish_reason(done.finish));
                    choice.stop_reason = done.stop;
                }
                Happened::Failed(error) => return Err(error.into()),
            }
        }
        Ok(json(StatusCode::OK, &self.response(choices, Some(answers.usage()))))
    }

    fn add(
        &self,
        choice: &mut CompletionChoice,
        text: &str,
        token: Token,
        logprob: Option<&TokenLogprob>,
    ) {
        if let Some(logprob) = logprob {
            let offset = u32::try_from(choice.text.chars().count()).unwrap_or(u32::MAX);
            let lists = choice.logprobs.get_or_insert_default();
            let text = |token| token_text(&self.api, token);
            lists.text_offset.push(offset);
            lists.token_logprobs.push(logprob.logprob);
            lists.tokens.push(text(token));
            let top: BTreeMap<String, f32> =
                logprob.top.iter().map(|(token, logprob)| (text(*token), *logprob)).collect();
            lists.top_logprobs.push(top);
        }
        choice.text.push_str(text);
        if let Some(tokens) = &mut choice.token_ids {
            tokens.push(token);
        }
    }

    fn stream(
        self,
        answers: Answers,
    ) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        let offsets = vec![0; answers.count as usize];
        let state = Streaming { writer: self, answers, offsets, phase: Phase::Begin };
        stream::unfold(state, |mut state| async move {
            state.next().await.map(|bytes| (Ok(bytes), state))
        })
    }
}

/// A stream being written.
struct Streaming {
    writer: Writer,
    answers: Answers,
    /// Characters sent of each answer.
    offsets: Vec<u32>,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    Begin,
    Middle,
    Over,
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        match self.phase {
            Phase::Over => return None,
            Phase::Begin => {
                self.phase = Phase::Middle;
                if self.writer.echo || self.writer.token_ids {
                    for index in 0..self.answers.count {
                        let choice = self.writer.opened(index);
                        self.encode(&mut out, choice);
                    }
                    return Some(out.into());
                }
            }
            Phase::Middle => {}
        }
        match self.answers.next().await {
            Some(Happened::Piece { index, text, token, logprob }) => {
                let mut choice = empty(index);
                choice.token_ids = self.writer.token_ids.then(Vec::new);
                self.writer.add(&mut choice, &text, token, logprob.as_ref());
                self.shift(&mut choice);
                self.encode(&mut out, choice);
            }
            Some(Happened::Done { index, done }) => {
                let mut choice = empty(index);
                choice.text = done.text;
                choice.finish_reason = Some(finish_reason(done.finish));
                choice.stop_reason = done.stop;
                self.encode(&mut out, choice);
            }
            Some(Happened::Failed(error)) => {
                self.phase = Phase::Over;
                sse::encode_data(&mut out, &api_error(&error).body());
            }
            None => {
                self.phase = Phase::Over;
                if self.writer.include_usage {
                    self.write(&mut out, Vec::new(), Some(self.answers.usage()));
                }
                out.extend_from_slice(sse::DONE);
            }
        }
        Some(out.into())
    }

    /// Offsets count from the begin of the answer, not of the chunk.
    fn shift(&mut self, choice: &mut CompletionChoice) {
        let sent = &mut self.offsets[choice.index as usize];
        if let Some(lists) = &mut choice.logprobs {
            lists.text_offset.iter_mut().for_each(|offset| *offset += *sent);
        }
        *sent += u32::try_from(choice.text.chars().count()).unwrap_or(0);
    }

    fn encode(&self, out: &mut Vec<u8>, choice: CompletionChoice) {
        let usage = self.writer.continuous_usage.then(|| self.answers.usage());
        self.write(out, vec![choice], usage);
    }

    fn write(&self, out: &mut Vec<u8>, choices: Vec<CompletionChoice>, usage: Option<Usage>) {
        if let Ok(json) = serde_json::to_vec(&self.writer.response(choices, usage)) {
            sse::encode_data(out, &json);
        }
    }
}

const fn empty(index: u32) -> CompletionChoice {
    CompletionChoice {
        index,
        text: String::new(),
        logprobs: None,
        finish_reason: None,
        stop_reason: None,
        token_ids: None,
        prompt_token_ids: None,
    }
}

const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop => "stop",
    }
}
