//! From a request to jobs, and from their events to one stream of what happened to which answer.

use std::sync::Arc;

use axum::http::HeaderMap;
use futures_util::stream::{self, SelectAll, StreamExt as _};
use pilotage_core::{Band, Span, TenantId, Time};
use pilotage_shell::id;
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::Params;
use pilotage_wire::openai::usage::Usage;
use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::Api;
use super::metrics::Watch;
use crate::backend::llama::grammar_from_schema;
use crate::job::{Done, Event, Job, JobError, Token, TokenLogprob};
use crate::sample::Sampling;
use crate::start::next_id;

/// Most bytes of a JSON schema.
const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// How deep a JSON schema may nest: its grammar's parser is recursive.
const SCHEMA_DEPTH_MAX: usize = 32;

/// What all answers to a request share.
pub(super) struct Plan {
    pub(super) prompts: Vec<Arc<[Token]>>,
    /// Answers for each prompt.
    pub(super) each: u32,
    pub(super) tokens_max: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) grammar: Option<String>,
    pub(super) stop: Vec<String>,
    pub(super) logprobs: Option<u8>,
    pub(super) ignore_end: bool,
}

/// What the envelope says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    origin: Option<u64>,
    displaces: Option<u64>,
    tenant: TenantId,
    band: Band,
    deadline: Option<Time>,
}

/// Answers on their way.
pub(super) struct Answers {
    events: SelectAll<stream::BoxStream<'static, (u32, Event)>>,
    pub(super) count: u32,
    /// Answers that are not over.
    open: u32,
    /// Answers for each prompt.
    each: u32,
    prompt_tokens: u32,
    generated: u32,
    /// Prompt tokens that each answer found in the prefix cache, once it began.
    cached: Vec<Option<u32>>,
    watches: Vec<Watch>,
}

/// What happened to an answer.
pub(super) enum Happened {
    /// It has more text.
    Piece { index: u32, text: String, token: Token, logprob: Option<TokenLogprob> },
    /// It is over.
    Done { index: u32, done: Done },
    /// It will not be finished.
    Failed(JobError),
}

impl Envelope {
    /// Reads the headers that the gateway sends. The engine believes them: only the gateway has
    /// its key.
    pub(super) fn read(headers: &HeaderMap, now_nanos: u64) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name| text(name).and_then(|number| number.parse::<u64>().ok());
        let left_ms = number(envelope::DEADLINE_MS);
        Self {
            origin: number(envelope::ORIGIN),
            displaces: number(envelope::DISPLACES),
            tenant: TenantId(text(envelope::TENANT).and_then(|id| id.parse().ok()).unwrap_or(0)),
            band: text(envelope::BAND).and_then(Band::parse).unwrap_or_default(),
            deadline: left_ms.map(|ms| Time::from_nanos(now_nanos) + Span::from_millis(ms)),
        }
    }
}

impl Plan {
    /// The plan for prompts under these parameters.
    ///
    /// # Errors
    /// Status 400: out of range, or prompt and answer do not fit the context (with the numbers).
    pub(super) fn new(
        api: &Api,
        params: &Params,
        prompts: Vec<Arc<[Token]>>,
        param: &str,
    ) -> Result<Self, ApiError> {
        params.check()?;
        let context = api.inner.context;
        let tokens_max = prompts
            .iter()
            .map(|prompt| room(context, prompt.len(), params.tokens_max(), param))
            .collect::<Result<_, _>>()?;
        let biases = params.biases(api.inner.engine.vocabulary().size())?;
        Ok(Self {
            prompts,
            each: params.n.unwrap_or(1),
            tokens_max,
            sampling: sampling(params, biases),
            grammar: None,
            stop: params.stops(),
            logprobs: None,
            ignore_end: params.ignore_eos.unwrap_or(false),
        })
    }

    /// Starts the jobs, and waits until one has begun, so that what is refused becomes a status
    /// and not an event: a queue refuses at once, a grammar is the same for all. The others may
    /// still wait for their turn, and one whose deadline passes by then ends the answer.
    ///
    /// # Errors
    /// The first refusal; the other jobs are cancelled.
    pub(super) async fn start(self, api: &Api, envelope: Envelope) -> Result<Answers, JobError> {
        let mut receivers = Vec::new();
        let mut watches = Vec::new();
        for (prompt, tokens_max) in self.prompts.iter().zip(&self.tokens_max) {
            for number in 0..self.each {
                let (events, happened) = mpsc::unbounded_channel();
                let job = self.job(prompt, *tokens_max, number, envelope, events);
                let mut watch = api.inner.latencies.watch(api.inner.clock);
                api.inner.engine.submit(job).inspect_err(|_| watch.failed())?;
                watches.push(watch);
                receivers.push(happened);
            }
        }
        let mut answers = self.answers(receivers, watches);
        match answers.events.next().await {
            Some((index, Event::Started { cached })) => answers.started(index, cached),
            Some((index, Event::Failed(error))) => {
                answers.watches[index as usize].failed();
                return Err(error);
            }
            _ => return Err(JobError::Draining),
        }
        Ok(answers)
    }

    fn answers(&self, receivers: Vec<UnboundedReceiver<Event>>, watches: Vec<Watch>) -> Answers {
        let prompt_tokens = self.prompts.iter().map(|prompt| prompt.len()).sum::<usize>();
        let count = u32::try_from(receivers.len()).unwrap_or(u32::MAX);
        Answers {
            count,
            open: count,
            each: self.each,
            cached: vec![None; receivers.len()],
            events: merge(receivers),
            prompt_tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX),
            generated: 0,
            watches,
        }
    }

    fn job(
        &self,
        prompt: &Arc<[Token]>,
        tokens_max: u32,
        number: u32,
        envelope: Envelope,
        events: mpsc::UnboundedSender<Event>,
    ) -> Job {
        let mut sampling = self.sampling.clone();
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(u64::from(number)));
        Job {
            id: next_id(),
            origin: envelope.origin,
            displaces: envelope.displaces,
            tenant: envelope.tenant,
            band: envelope.band,
            deadline: envelope.deadline,
            prompt: Arc::clone(prompt),
            tokens_max,
            reuse_prefix: sampling.seed.is_none(),
            sampling,
            grammar: self.grammar.clone(),
            stop: self.stop.clone(),
            logprobs: self.logprobs,
            ignore_end: self.ignore_end,
            events,
        }
    }
}

impl Answers {
    /// The next thing that happened; none when every answer is over.
    pub(super) async fn next(&mut self) -> Option<Happened> {
        loop {
            let Some((index, event)) = self.events.next().await else {
                // Whoever owed the rest is gone: that must not look like an end.
                let owed = std::mem::take(&mut self.open) > 0;
                let gone = || JobError::Compute("its thread is gone".to_owned());
                return owed.then(|| Happened::Failed(gone()));
            };
            let watch = &mut self.watches[index as usize];
            return Some(match event {
                Event::Started { cached } => {
                    self.started(index, cached);
                    continue;
                }
                Event::Piece { text, token, logprob } => {
                    watch.token();
                    self.generated += 1;
                    Happened::Piece { index, text, token, logprob }
                }
                Event::Done(done) => {
                    self.open = self.open.saturating_sub(1);
                    watch.done(done.finish);
                    // The token that ended it had no piece.
                    self.generated += done.tokens.saturating_sub(watch.tokens());
                    Happened::Done { index, done }
                }
                Event::Failed(error) => {
                    self.open = self.open.saturating_sub(1);
                    watch.failed();
                    Happened::Failed(error)
                }
            });
        }
    }

    fn started(&mut self, index: u32, cached: u32) {
        let index = index as usize;
        if self.cached[index].is_none() {
            self.watches[index].started();
            self.cached[index] = Some(cached);
        }
    }

    /// Token counts so far. A prompt counts once for all its answers, and of it as much as cached
    /// as even the first of them found: the others find what the first one computed.
    pub(super) fn usage(&self) -> Usage {
        let prompts = self.cached.chunks(self.each.max(1) as usize);
        let cached = prompts.map(|answers| answers.iter().flatten().min().copied().unwrap_or(0));
        Usage::new(self.prompt_tokens, self.generated, cached.sum())
    }
}

/// The grammar of a JSON schema, within its limits.
///
/// # Errors
/// Status 400: too large, too deep, or not expressible.
pub(super) fn grammar(schema: &Value, param: &str) -> Result<String, ApiError> {
    let wrong = |message: String| ApiError::invalid_request(message).with_param(param.to_owned());
    if depth(schema) > SCHEMA_DEPTH_MAX {
        return Err(wrong(format!("the schema nests deeper than {SCHEMA_DEPTH_MAX}")));
    }
    let text = schema.to_string();
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(wrong(format!("the schema is larger than {SCHEMA_BYTES_MAX} bytes")));
    }
    grammar_from_schema(&text).map_err(|error| wrong(error.to_string()))
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// Tokens that the answer may have.
fn room(context: u32, prompt: usize, asked: Option<u32>, param: &str) -> Result<u32, ApiError> {
    let prompt = u32::try_from(prompt).unwrap_or(u32::MAX);
    if prompt == 0 {
        return Err(
            ApiError::invalid_request(format!("`{param}` is empty")).with_param(param.to_owned())
        );
    }
    let left = context.saturating_sub(prompt);
    if left == 0 {
        let message = format!(
            "this model's maximum context length is {context} tokens; the prompt has {prompt}, which leaves no room \
             for an answer; shorten it"
        );
        return Err(ApiError::context_length_exceeded(message).with_param(param.to_owned()));
    }
    match asked {
        Some(asked) if asked > left => {
            let message = format!(
                "this model's maximum context length is {context} tokens; the prompt has {prompt} and {asked} were asked for, \
                 {} too many; shorten the prompt or lower max_tokens to {left}",
                u64::from(prompt) + u64::from(asked) - u64::from(context),
            );
            Err(ApiError::context_length_exceeded(message).with_param("max_tokens"))
        }
        asked => Ok(asked.unwrap_or(left)),
    }
}

fn sampling(params: &Params, logit_bias: Vec<(Token, f32)>) -> Sampling {
    let or = |value: Option<f64>, default: f32| value.map_or(default, |value| value as f32);
    Sampling {
        temperature: or(params.temperature, 1.0),
        top_p: or(params.top_p, 1.0),
        top_k: params.top_k.and_then(|top_k| u32::try_from(top_k).ok()).unwrap_or(0),
        min_p: or(params.min_p, 0.0),
        repetition_penalty: or(params.repetition_penalty, 1.0),
        presence_penalty: or(params.presence_penalty, 0.0),
        frequency_penalty: or(params.frequency_penalty, 0.0),
        logit_bias,
        seed: params.seed.map(i64::cast_unsigned),
    }
}

fn merge(
    receivers: Vec<UnboundedReceiver<Event>>,
) -> SelectAll<stream::BoxStream<'static, (u32, Event)>> {
    let tagged = (0..).zip(receivers).map(|(index, receiver)| {
        stream::unfold(receiver, move |mut receiver| async move {
            receiver.recv().await.map(|event| ((index, event), receiver))
        })
        .boxed()
    });
    stream::select_all(tagged)
}

/// A new id with that prefix, as OpenAI's look.
pub(super) fn answer_id(prefix: &str) -> String {
    format!("{prefix}-{:016x}{:016x}", id::random_u64(), id::random_u64())
}
