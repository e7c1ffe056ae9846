//! A request's way: understood, in line, at a replica, answered. Whatever happens, it ends with one
//! record.

mod attempt;
mod events;
mod relay;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pilotage_core::{FailureKind, Refusal, Request as Asked, RequestId, Span, Stop, Time, Tokens};
use pilotage_lens::{Mark, Termination};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::usage::find_usage;
use pilotage_wire::peek::{self, Peek};
use pilotage_wire::resume::Resumable;
use pilotage_wire::{envelope, trace::TraceParent};

use crate::app::{Gateway, RequestName};
use crate::auth::Caller;
use crate::body;
use crate::config::Price;
use crate::driver::{Go, Replica, Ticket};
use crate::quotas;
use crate::reply::{self, Refused};
use attempt::{Answer, Target, Whole, left};
use watch::Watch;

const CHAT: &str = "/v1/chat/completions";

const EMBEDDINGS: &str = "/v1/embeddings";

pub(crate) async fn chat_completions(gateway: State<Gateway>, request: Request) -> Response {
    answer(gateway.0, CHAT, request).await
}

pub(crate) async fn completions(gateway: State<Gateway>, request: Request) -> Response {
    answer(gateway.0, "/v1/completions", request).await
}

pub(crate) async fn embeddings(gateway: State<Gateway>, request: Request) -> Response {
    answer(gateway.0, EMBEDDINGS, request).await
}

/// What an attempt needs, the same for each.
pub(crate) struct Order {
    path: &'static str,
    /// What the replica gets.
    body: Bytes,
    caller: Caller,
    request_id: String,
    trace: TraceParent,
    stream: bool,
    /// Whether the client itself asked for the usage of its stream.
    usage_wanted: bool,
    /// When waiting for the whole answer ends.
    until: Time,
    lane: usize,
    id: RequestId,
    /// Estimated prompt tokens.
    input: u32,
    /// The request, where its stream can be stopped and go on later.
    resume: Option<Resumable>,
}

async fn answer(gateway: Gateway, path: &'static str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let RequestName(id) =
        parts.extensions.get::<RequestName>().cloned().unwrap_or(RequestName(String::new()));
    let trace = trace(&parts.headers);
    let mut watch = Watch::new(gateway.clone(), path, id, trace);
    let why_wanted = parts.headers.get(envelope::WHY).is_some_and(|wanted| wanted == "1");
    match serve(&gateway, &parts.headers, body, &mut watch).await {
        Ok(mut response) => {
            response.headers_mut().extend(watch.take_limits());
            if let Some(why) = watch.take_why().filter(|_| why_wanted) {
                response.headers_mut().insert(envelope::WHY, why);
            }
            response
        }
        Err(mut refused) => {
            refused.headers.extend(watch.take_limits());
            watch.end(refused.error.status, refused.termination);
            reply::refused(refused)
        }
    }
}

async fn serve(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: axum::body::Body,
    watch: &mut Watch,
) -> Result<Response, Refused> {
    let caller = gateway.tenants().find(headers).await?;
    watch.caller(&caller);
    let asked = watch.now();
    let body = body::read(gateway.inner.clock, headers, body, &gateway.inner.config.limits).await?;
    watch.body_came(asked);
    let peek = peek::peek(&body)?;
    let lane = gateway.lane_of(&peek.model.value)?;
    let config = &gateway.inner.config.lanes[lane];
    watch.lane(&config.name, peek.stream);
    let now = watch.mark(Mark::Read);
    let deadline = deadline(headers, &caller)?;
    let total = deadline.unwrap_or(config.timeouts.total).min(config.timeouts.total);
    let until = watch.begun() + span(total);
    let (id, tokens) = (gateway.next_id(), estimate(watch.path(), &peek, config.context_tokens));
    reserve(gateway, &caller, id, tokens, (body.len(), config.price), watch)?;
    let chat = watch.path() == CHAT;
    let resume = (config.token_ids && peek.stream).then(|| Resumable::new(&body, chat)).flatten();
    let ticket = gateway.inner.lanes[lane].arrive(Asked {
        deadline: Some((now + span(config.timeouts.queue)).min(until)),
        answer_by: deadline.map(|_| until),
        stop: if resume.is_some() { Stop::Anytime } else { Stop::BeforeFirstToken },
        ..Asked::new(id, caller.id, caller.band, tokens)
    });
    let order = Order {
        path: watch.path(),
        body: outgoing(body, &peek, &config.served_model, resume.is_some()),
        caller,
        request_id: watch.request_id().to_owned(),
        trace: watch.trace(),
        stream: peek.stream,
        usage_wanted: peek.stream_options.as_ref().is_some_and(|options| options.value),
        until,
        lane,
        id,
        input: tokens.input,
        resume,
    };
    attempts(gateway, order, ticket, watch).await
}

/// One attempt after the other, as the scheduler says, until one answers.
async fn attempts(
    gateway: &Gateway,
    order: Order,
    mut ticket: Ticket,
    watch: &mut Watch,
) -> Result<Response, Refused> {
    let order = Arc::new(order);
    let mut last = None;
    loop {
        let late = left(watch.now(), order.until);
        let turn = tokio::time::timeout(late, ticket.turn()).await.map_err(|_| out_of_time())?;
        let Go { replica, attempt, displaces, why } =
            turn.map_err(|refusal| blamed(refusal, last))?;
        watch.dispatched(&replica.name, attempt, &why);
        let to = Target { replica: &replica, displaces };
        match attempt::run(gateway, &order, to, &mut ticket, watch).await {
            Ok(Answer::Whole(answer)) => {
                let response = whole(answer, watch);
                ticket.finished(watch.exact_tokens());
                return Ok(response);
            }
            Ok(Answer::Stopped) => {
                watch.stopped();
                ticket.stopped();
            }
            Ok(Answer::Stream(opened)) => {
                ticket.first_token();
                let watch = watch.hand_over();
                return Ok(relay::response(gateway.clone(), order, opened, ticket, watch));
            }
            // Whose time is up is not tried again: its ticket is dropped, and what was computed for it
            // is charged.
            Err(_) if left(watch.now(), order.until).is_zero() => return Err(out_of_time()),
            Err(kind) => {
                last = Some((attempt, kind));
                failed(&mut ticket, kind, &replica, attempt);
            }
        }
    }
}

/// The whole request has taken as long as it may.
fn out_of_time() -> Refused {
    let message = "the answer was not complete in the time that a whole request has";
    Refused { termination: Termination::Timeout, ..ApiError::timeout(message).into() }
}

/// A request whose time in the queue ran out after an attempt was refused because that failed.
fn blamed(refusal: Refusal, last: Option<(u32, FailureKind)>) -> Refusal {
    match (refusal, last) {
        (Refusal::DeadlinePassed { .. }, Some((attempts, last))) => {
            Refusal::Exhausted { attempts, last }
        }
        _ => refusal,
    }
}

fn failed(ticket: &mut Ticket, kind: FailureKind, replica: &Replica, attempt: u32) {
    tracing::warn!(
        replica = replica.name,
        attempt,
        ?kind,
        "an attempt failed before its first byte"
    );
    ticket.failed(kind, false);
}

/// How long the client waits for its whole answer: what it says, else what its tenant's requests have.
fn deadline(headers: &HeaderMap, caller: &Caller) -> Result<Option<Duration>, ApiError> {
    let Some(sent) = headers.get(envelope::DEADLINE_MS) else { return Ok(caller.deadline) };
    let ms = sent.to_str().ok().and_then(|ms| ms.parse::<u64>().ok()).filter(|ms| *ms > 0);
    ms.map(|ms| Some(Duration::from_millis(ms))).ok_or_else(|| {
        let name = envelope::DEADLINE_MS;
        let message = format!("`{name}` takes milliseconds, a whole number above zero");
        ApiError::invalid_request(message).with_param(name)
    })
}

/// Reserves the request's place in the quotas of its tenant and of those above it.
fn reserve(
    gateway: &Gateway,
    caller: &Caller,
    id: RequestId,
    tokens: Tokens,
    (bytes, price): (usize, Price),
    watch: &mut Watch,
) -> Result<(), Refused> {
    let quotas = &gateway.inner.quotas;
    match quotas.reserve(id, caller.id, tokens, bytes, price) {
        Ok((lease, left)) => {
            watch.lease(lease, tokens.input, quotas::headers(&left));
            Ok(())
        }
        Err(denial) => {
            gateway.inner.counts.denied(denial.limit);
            let directory = gateway.inner.directory.read();
            Err(Refused::denied(&denial, directory.name(denial.tenant)))
        }
    }
}

fn whole(answer: Whole, watch: &mut Watch) -> Response {
    if let Some(usage) = find_usage(&answer.body) {
        watch.usage(&usage);
    }
    watch.mark(Mark::LastToken);
    let failed = answer.status.is_server_error();
    watch.end(
        answer.status.as_u16(),
        if failed { Termination::UpstreamError } else { Termination::Ok },
    );
    let mut response = Response::new(axum::body::Body::from(answer.body));
    *response.status_mut() = answer.status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, answer.kind.unwrap_or(json));
    response
}

/// The body for the replica: its own name for the model, streams always with usage, and with token ids
/// where the stream may have to go on later.
fn outgoing(body: Bytes, peek: &Peek, served: &str, token_ids: bool) -> Bytes {
    let mut edits = Vec::new();
    if peek.model.value != served {
        edits.push(peek.rename_model(served));
    }
    if peek.stream {
        edits.extend(peek.ask_for_usage(&body));
    }
    if token_ids {
        edits.push(peek.ask_for_token_ids());
    }
    if edits.is_empty() { body } else { peek::splice(&body, edits).into() }
}

/// Tokens before they are counted: four bytes make about one of English text (OpenAI's rule of
/// thumb), and an answer without a limit is taken to be a quarter of the context.
fn estimate(path: &str, peek: &Peek, context: u32) -> Tokens {
    const BYTES_PER_TOKEN: usize = 4;
    let input = u32::try_from(peek.input_bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
    // Several prompts are together longer than a context; one that is is refused by the engine.
    let input = input.min(context.saturating_mul(peek.prompts.max(1)));
    let each = peek.tokens_max.unwrap_or(context / 4).min(context);
    let answers = u64::from(peek.n.max(1)) * u64::from(peek.prompts.max(1));
    let output = u32::try_from(u64::from(each) * answers).unwrap_or(u32::MAX);
    Tokens { input, cached: 0, output: if path == EMBEDDINGS { 0 } else { output } }
}

fn trace(headers: &HeaderMap) -> TraceParent {
    use pilotage_shell::id::random_u64;
    let sent = headers.get(pilotage_wire::trace::TRACEPARENT).and_then(|value| value.to_str().ok());
    sent.and_then(TraceParent::parse).unwrap_or_else(|| {
        let random = u128::from(random_u64()) << 64 | u128::from(random_u64());
        TraceParent::start(random, random_u64())
    })
}

fn span(duration: Duration) -> Span {
    Span::from_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
