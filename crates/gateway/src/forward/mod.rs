//! A request's way: understood, in line, at a replica, answered. Whatever happens, it ends with one
//! record.

mod attempt;
mod bounds;
mod cache;
mod chunk;
mod endpoint;
mod events;
pub(crate) mod explain;
mod fit;
mod generation;
mod go_on;
mod hedge;
mod media;
mod merge;
mod mirror;
mod pick;
mod place;
mod protocol;
mod relay;
mod sent_away;
mod trace;
mod watch;

use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pilotage_core::route::Bounds;
use pilotage_core::traffic::{Miss, Name};
use pilotage_core::{FailureKind, Refusal, Span, Time};
use pilotage_lens::{Mark, Termination};
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::usage::find_usage;
use pilotage_wire::peek::Peek;
use pilotage_wire::resume::Resumable;

use crate::app::{Gateway, RequestName};
use crate::auth::Caller;
use crate::body;
use crate::config::Timeouts;
use crate::driver::{Go, Replica, Ticket};
use crate::names;
use crate::reply::{self, Refused};
use attempt::{Answer, Target, Whole, left};
pub(crate) use bounds::adapter_key;
pub(crate) use cache::Cache;
pub(crate) use endpoint::{ENDPOINTS, Endpoint};
pub(crate) use hedge::OUTCOMES as HEDGE_OUTCOMES;
pub(crate) use media::check_hosts;
pub(crate) use merge::Merges;
pub use pick::{Pick, Picked, Trouble};
use protocol::Translator;
use trace::Traced;
use watch::Watch;

/// What an attempt needs, the same for each.
pub(crate) struct Order {
    path: &'static str,
    /// What the replica gets, and of which media type it is.
    body: Bytes,
    kind: HeaderValue,
    caller: Caller,
    request_id: Name,
    traced: Traced,
    stream: bool,
    /// What its answers are.
    expects: fit::Expected,
    /// Whether the client itself asked for the usage of its stream.
    usage_wanted: bool,
    /// When waiting for the whole answer ends.
    until: Time,
    timeouts: Timeouts,
    /// Estimated prompt tokens.
    input: u32,
    /// The name that its replicas know the model or the adapter by.
    served: String,
    /// The name that they know the model by.
    model: String,
    /// The name that its client wrote, where a replica may be a gateway of another region.
    public: String,
    /// How many gateways it came through.
    hops: u32,
    /// Where it may go.
    bounds: Bounds,
    /// Until when replicas are asked for its adapter, once one has refused it.
    absent_until: Option<Time>,
    /// The request, where its stream can go on in another attempt.
    resume: Option<Resumable>,
    /// Whether it is a copy, whose answer nobody sees: it is not tried twice.
    copy: bool,
    /// Whether a second attempt may be made beside one whose answer does not begin.
    hedge: bool,
    /// Whether its model may have no replicas while nobody asks.
    rests: bool,
}

/// Answers a request to an endpoint, in the protocol that its client speaks.
pub(crate) async fn answer(
    gateway: Gateway,
    endpoint: &'static Endpoint,
    name: RequestName,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let RequestName(id) = name;
    let traced = Traced::of(&gateway, &parts.headers);
    let mut translator = Translator::new(endpoint.protocol, id.to_string());
    let mut watch = Watch::new(gateway.clone(), endpoint.path, id, traced);
    let why_wanted = parts.headers.get(&names::WHY).is_some_and(|wanted| wanted == "1");
    let how = (endpoint, &mut translator);
    let response = match serve(&gateway, how, parts.headers, body, &mut watch).await {
        Ok(mut response) => {
            response.headers_mut().extend(watch.take_limits());
            if let Some(why) = why_wanted.then(|| watch.why()).flatten() {
                response.headers_mut().insert(names::WHY.clone(), why);
            }
            watch.booked().await;
            response
        }
        Err(mut refused) => {
            refused.headers.extend(watch.take_limits());
            watch.end(refused.error.status, refused.termination);
            watch.booked().await;
            reply::refused(refused)
        }
    };
    translator.write(gateway.inner.config.limits.event_bytes_max, response).await
}

async fn serve(
    gateway: &Gateway,
    (endpoint, translator): (&'static Endpoint, &mut Translator),
    headers: HeaderMap,
    body: axum::body::Body,
    watch: &mut Watch,
) -> Result<Response, Refused> {
    let caller = gateway.tenants().find(&headers).await?;
    watch.caller(&caller);
    let asked = watch.now();
    let body =
        body::read(gateway.inner.clock, &headers, body, &gateway.inner.config.limits).await?;
    watch.body_came(asked);
    let body = translator.read(gateway, &caller, body)?;
    let peek = endpoint.peek(&headers, &body)?;
    watch.stream(peek.stream);
    let config = &gateway.inner.config;
    media::check(&peek.media, &config.limits.media, &config.media_hosts)?;
    let deadline = deadline(&headers, &caller)?;
    place::serve(gateway, Asking { endpoint, headers, caller, body, peek, deadline }, watch).await
}

/// A request that was read and understood.
#[derive(Clone)]
pub(crate) struct Asking {
    endpoint: &'static Endpoint,
    headers: HeaderMap,
    caller: Caller,
    body: Bytes,
    peek: Peek,
    /// How long the client waits for its whole answer.
    deadline: Option<Duration>,
}

/// One attempt after the other, as the scheduler says, until one answers.
async fn attempts(
    gateway: &Gateway,
    mut order: Order,
    mut ticket: Ticket,
    watch: &mut Watch,
) -> Result<Response, Missed> {
    let mut last = None;
    loop {
        let go = turn(&order, &mut ticket, last, watch).await?;
        let Go { replica, door, attempt, displaces, .. } = go;
        let to = Target { door: &door, id: ticket.id(), attempt, displaces };
        match hedge::run(gateway, &order, to, &mut ticket, watch).await {
            Ok(Answer::Whole(answer)) => {
                let response = whole(answer, watch);
                ticket.finished(watch.exact_tokens());
                return Ok(response);
            }
            // Another one has the adapter: it waits for its turn there.
            Ok(Answer::Absent) if goes_elsewhere(&mut order, &ticket, watch.now()) => {
                watch.failed();
                ticket.stopped();
            }
            Ok(Answer::Absent) => {
                ticket.finished(watch.exact_tokens());
                let refused = reply::not_loaded(&order.served);
                return Err(Missed { refused, miss: Some(Miss::NoReplica) });
            }
            Ok(Answer::Stopped) => {
                watch.stopped();
                ticket.stopped();
            }
            Ok(Answer::Stream(opened)) => {
                ticket.first_token();
                let watch = watch.hand_over();
                // There is no second first attempt: who goes on makes a body of its own.
                order.body = Bytes::new();
                return Ok(relay::response(gateway.clone(), order, opened, ticket, watch));
            }
            // Whose time is up is not tried again: its ticket is dropped, and what was computed for it
            // is charged.
            Err(_) if left(watch.now(), order.until).is_zero() => return Err(out_of_time().into()),
            Err(kind) if order.copy => {
                ticket.broke(kind, false);
                let refusal =
                    Refusal::Exhausted { attempts: attempt, last: kind, retry_after: None };
                return Err(Refused::from(refusal).into());
            }
            Err(kind) => {
                last = Some((attempt, kind));
                watch.failed();
                failed(&mut ticket, kind, &replica, attempt);
            }
        }
    }
}

/// Whether a request whose adapter its replica has refused is to be sent to another one: within a while of the first
/// such refusal, and where there is one.
fn goes_elsewhere(order: &mut Order, ticket: &Ticket, now: Time) -> bool {
    let until = now + span(attempt::ABSENT_PATIENCE);
    let until = *order.absent_until.get_or_insert(until);
    !order.copy && now < until && ticket.others_may(&order.bounds)
}

/// Waits for a request's turn, after the attempt that failed last, if any did.
async fn turn(
    order: &Order,
    ticket: &mut Ticket,
    last: Option<(u32, FailureKind)>,
    watch: &mut Watch,
) -> Result<Go, Missed> {
    let late = left(watch.now(), order.until);
    let turn = tokio::time::timeout(late, ticket.turn()).await;
    let sleeps = order.rests && last.is_none() && !ticket.lane().is_open_near();
    let turn = turn.map_err(|_| if sleeps { reply::starting() } else { out_of_time() })?;
    let go = turn.map_err(|refusal| {
        let refusal = blamed(refusal, last);
        match refusal {
            Refusal::DeadlinePassed { .. } if sleeps => {
                Missed { refused: reply::starting(), miss: Some(Miss::NoReplica) }
            }
            _ => Missed { refused: refusal.into(), miss: Some(Miss::Refused(refusal)) },
        }
    })?;
    watch.dispatched(go.attempt, &go.why);
    Ok(go)
}

/// A request that a lane did not answer.
struct Missed {
    refused: Refused,
    /// What another lane may do better; none where it may not.
    miss: Option<Miss>,
}

impl From<Refused> for Missed {
    fn from(refused: Refused) -> Self {
        Self { refused, miss: None }
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
        (Refusal::DeadlinePassed { retry_after, .. }, Some((attempts, last))) => {
            let retry_after = Some(retry_after).filter(|_| last == FailureKind::Overloaded);
            Refusal::Exhausted { attempts, last, retry_after }
        }
        _ => refusal,
    }
}

fn failed(ticket: &mut Ticket, kind: FailureKind, replica: &Replica, attempt: u32) {
    tracing::warn!(
        replica = replica.name.as_str(),
        attempt,
        ?kind,
        "an attempt failed before its first byte"
    );
    ticket.failed(kind);
}

/// How long the client waits for its whole answer: what it says, else what its tenant's requests have.
fn deadline(headers: &HeaderMap, caller: &Caller) -> Result<Option<Duration>, ApiError> {
    let Some(sent) = headers.get(&names::DEADLINE_MS) else { return Ok(caller.deadline) };
    let ms = sent.to_str().ok().and_then(|ms| ms.parse::<u64>().ok()).filter(|ms| *ms > 0);
    ms.map(|ms| Some(Duration::from_millis(ms))).ok_or_else(|| {
        let name = envelope::DEADLINE_MS;
        let message = format!("`{name}` takes milliseconds, a whole number above zero");
        ApiError::invalid_request(message).with_param(name)
    })
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

fn span(duration: Duration) -> Span {
    Span::from_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
