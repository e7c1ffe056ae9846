//! One attempt at one replica, up to the point from which there is no way back: a whole answer, or
//! a stream's first token. Whatever fails before may be tried elsewhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use pilotage_core::{FailureKind, RequestId, Time, Told};
use pilotage_lens::Mark;
use pilotage_shell::client::{ClientError, Incoming};
use pilotage_wire::dialect::translate::{self, Reader};
use pilotage_wire::dialect::{self, Own, fault, loaded, retell};
use pilotage_wire::openai::chunk::Read;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::peek;

use super::chunk::{Ends, Said};
use super::events::{Block, Blocks};
use super::fit::{self, Form};
use super::sent_away::retry_after;
use super::{Order, Watch, span};
use crate::app::Gateway;
use crate::driver::{Door, Go, Interruption, Ticket};
use crate::metrics::Fault;
use crate::names;
use crate::reply;

/// What an attempt brought.
#[expect(clippy::large_enum_variant, reason = "it is moved once, and a stream is most often it")]
pub(super) enum Answer {
    /// All of it.
    Whole(Whole),
    /// A stream, up to its first token.
    Stream(Opened),
    /// None: it has no such adapter.
    Absent,
    /// None: it was stopped for somebody else.
    Stopped,
}

/// How an attempt failed.
#[derive(Clone, Copy)]
pub(super) struct Failed {
    pub(super) kind: FailureKind,
    /// What was told beside it.
    pub(super) told: Told,
    /// What was wrong.
    pub(super) fault: Fault,
    /// The status that the replica answered with.
    pub(super) status: Option<u16>,
}

impl From<FailureKind> for Failed {
    fn from(kind: FailureKind) -> Self {
        Self { kind, told: Told::default(), fault: kind.into(), status: None }
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(_) => {
                let told = Told { is_refused: true, ..Told::default() };
                Self { told, fault: Fault::Refused, ..FailureKind::Connect.into() }
            }
            ClientError::Tls(_) => Self { fault: Fault::Tls, ..FailureKind::Connect.into() },
            ClientError::Connect(_) => FailureKind::Connect.into(),
            ClientError::Broken(_) => FailureKind::Broken.into(),
        }
    }
}

impl Failed {
    /// The replica has no room, and may say until when.
    fn sent_away(gateway: &Gateway, status: StatusCode, headers: &HeaderMap) -> Self {
        let retry_after = retry_after(headers, gateway.inner.clock.unix_ms());
        let told = Told { retry_after, ..Told::default() };
        Self { told, status: Some(status.as_u16()), ..FailureKind::Overloaded.into() }
    }

    /// It answered with that status, and no answer.
    fn answered(status: StatusCode, fault: Fault) -> Self {
        Self { fault, status: Some(status.as_u16()), ..FailureKind::Server.into() }
    }
}

/// Where an attempt goes.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) door: &'a Door,
    /// As its lane knows the attempt: a second attempt is not the request itself.
    pub(super) id: RequestId,
    /// One for the first.
    pub(super) attempt: u32,
    /// The request whose place it takes there.
    pub(super) displaces: Option<RequestId>,
}

/// Asks a replica to go on with an answer that stopped in the middle. How long that may take is the
/// caller's to say.
///
/// # Errors
/// How it failed; the client waits in the middle of its answer.
pub(super) async fn go_on(
    gateway: Gateway,
    order: Arc<Order>,
    (id, go): (RequestId, Go),
    (path, body): (&'static str, Vec<u8>),
    now: Time,
) -> Result<Opened, Failed> {
    let to = Target { door: &go.door, id, attempt: go.attempt, displaces: go.displaces };
    let body = named(&gateway, &order, to.door, body.into()).await;
    let words = Words::of(&gateway, &order, to, (path, body));
    let Ok(Words { path, body, reader }) = words else { return Err(FailureKind::Server.into()) };
    let request = request(&order, to, (path, body), now);
    let client = to.door.client(&gateway.inner.client);
    let response = client.request(request).await?;
    let status = response.status();
    match status.as_u16() {
        200 if form(&order, response.headers(), reader.as_ref()) == Some(Form::Events) => {
            let cutter = Blocks::new(gateway.inner.config.limits.event_bytes_max).told(reader);
            Ok(Opened { blocks: Vec::new(), cutter, rest: response.into_body() })
        }
        // Its region may lack the adapter, which says nothing about its model.
        503 if order.bounds.adapter != 0 && to.door.is_gateway() => Err(FailureKind::Server.into()),
        429 | 503 => Err(Failed::sent_away(&gateway, status, response.headers())),
        number => Err(Failed::answered(status, by_status(number))),
    }
}

/// What a status says of a replica that should have answered.
const fn by_status(status: u16) -> Fault {
    match status {
        200..=399 => Fault::Garbled,
        401 | 403 => Fault::Unauthorized,
        404 | 405 => Fault::Missing,
        // It failed while it was computed, as TGI says it.
        424 => Fault::ServerError,
        400..=499 => Fault::Invalid,
        _ => Fault::ServerError,
    }
}

/// How long a request waits for an adapter that its replica is believed to have: one of another version takes its
/// place.
pub(super) const ABSENT_PATIENCE: Duration = Duration::from_secs(5);

/// Before it is asked again.
const ABSENT_PAUSE: Duration = Duration::from_millis(100);

/// Headers that a request to a replica has at most.
const HEADERS: usize = 13;

/// An answer that is no stream.
pub(super) struct Whole {
    pub(super) status: StatusCode,
    /// The media type that the replica named.
    pub(super) kind: Option<HeaderValue>,
    pub(super) body: Bytes,
    /// What its replica found wrong with the request, and the status that it said so with.
    fault: Option<(Fault, u16)>,
}

/// A stream whose first token has come.
pub(super) struct Opened {
    /// What came so far, for the client.
    pub(super) blocks: Vec<Block>,
    pub(super) cutter: Blocks,
    pub(super) rest: Incoming,
}

/// Asks a replica.
///
/// # Errors
/// The kind of failure; the client has seen nothing. What was told beside it, the ticket reports.
pub(super) async fn run(
    gateway: &Gateway,
    order: &Order,
    to: Target<'_>,
    ticket: &mut Ticket,
    watch: &mut Watch,
) -> Result<Answer, FailureKind> {
    let timeouts = order.timeouts;
    let total = left(watch.now(), order.until);
    let limit = if order.stream { timeouts.first_token.min(total) } else { total };
    let body = named(gateway, order, to.door, order.body.clone()).await;
    let Words { path, body, reader } = match Words::of(gateway, order, to, (order.path, body)) {
        Ok(words) => words,
        // It would be told to no other of them.
        Err(error) => return Ok(Answer::Whole(error.into())),
    };
    let lane = (order.bounds.adapter != 0).then(|| ticket.lane().clone());
    let asking = async {
        let client = to.door.client(&gateway.inner.client);
        let over = watch.now() + span(ABSENT_PATIENCE);
        let over = order.absent_until.unwrap_or(over);
        // Who is asked in an API of its own has no adapters, and gateways wait themselves.
        let waits = reader.is_none() && !to.door.is_gateway();
        let mut reader = reader;
        loop {
            let request = request(order, to, (path.clone(), body.clone()), watch.now());
            let response = client.request(request).await?;
            watch.mark(Mark::Answered);
            watch.reused(response.body().is_reused());
            let answer = read(gateway, order, (response, reader.take(), to.door), watch).await?;
            let (Answer::Absent, Some(lane)) = (&answer, &lane) else { return Ok(answer) };
            let others_may = || lane.others_may(to.id, &order.bounds);
            if !waits || watch.now() >= over || others_may() {
                lane.adapter_refused(to.id, order.bounds.adapter);
                return Ok(answer);
            }
            tokio::time::sleep(ABSENT_PAUSE).await;
        }
    };
    let outcome: Result<Answer, Failed> = tokio::select! {
        // What has come counts, even from a replica that is gone by now.
        biased;
        answer = tokio::time::timeout(limit, asking) => {
            answer.unwrap_or_else(|_| Err(FailureKind::Timeout.into()))
        }
        interruption = ticket.interruption() => match interruption {
            Interruption::Lost => Err(FailureKind::Broken.into()),
            Interruption::Stop(_) => Ok(Answer::Stopped),
        },
    };
    let wrong = match &outcome {
        Ok(Answer::Whole(whole)) => whole.fault.map(|(fault, status)| (fault, Some(status))),
        Ok(_) => None,
        Err(failed) => Some((failed.fault, failed.status)),
    };
    if let Some((fault, status)) = wrong {
        ticket.faulted(fault);
        watch.faulted(fault, status);
    }
    outcome.map_err(|Failed { kind, told, .. }| {
        ticket.heard(told);
        kind
    })
}

async fn read(
    gateway: &Gateway,
    order: &Order,
    (response, reader, door): (Response<Incoming>, Option<Reader>, &Door),
    watch: &mut Watch,
) -> Result<Answer, Failed> {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let is_json =
        parts.headers.contains_key(header::CONTENT_TYPE) && fit::says(&parts.headers, fit::JSON);
    match parts.status.as_u16() {
        200 => match form(order, &parts.headers, reader.as_ref()) {
            Some(Form::Events) => Ok(open(gateway, (body, reader), watch).await?),
            Some(Form::Whole) => {
                let whole = collect(gateway, parts, body).await?.told(reader)?;
                let answers = whole.status == StatusCode::OK;
                if answers && !order.expects.holds(whole.kind.as_ref(), &whole.body) {
                    return Err(Failed::answered(status, Fault::Garbled));
                }
                watch.mark(Mark::FirstToken);
                Ok(Answer::Whole(whole))
            }
            None => Err(Failed::answered(status, Fault::Garbled)),
        },
        503 if order.bounds.adapter != 0 && door.is_gateway() => {
            let told = Failed::sent_away(gateway, status, &parts.headers);
            let whole = collect(gateway, parts, body).await?;
            if reply::says_not_loaded(&whole.body) { Ok(Answer::Absent) } else { Err(told) }
        }
        429 | 503 => Err(Failed::sent_away(gateway, status, &parts.headers)),
        // Our own key was refused, or the path is not there: the replica is not what we think.
        number @ (401 | 403 | 405 | 424) => Err(Failed::answered(status, by_status(number))),
        404 if !is_json => Err(Failed::answered(status, Fault::Missing)),
        // Nobody could read what it says.
        400..=499 if fit::is_encoded(&parts.headers) => {
            Err(Failed::answered(status, Fault::Garbled))
        }
        // The request is wrong, and would be anywhere: that is the answer.
        400..=499 => {
            let whole = collect(gateway, parts, body).await?;
            if order.bounds.adapter != 0 && is_unknown(door, &whole) {
                return Ok(Answer::Absent);
            }
            let own = reader.map(|reader| reader.own());
            let found = fault::read(door.dialect(), status.as_u16(), &whole.body).fault;
            let fault = match found {
                dialect::Fault::TooLong => Fault::TooLong,
                dialect::Fault::UnknownModel | dialect::Fault::Unsupported => Fault::Missing,
                _ => Fault::Invalid,
            };
            let fault = Some((fault, status.as_u16()));
            Ok(Answer::Whole(Whole { fault, ..whole.told_wrong(own, door)? }))
        }
        number => Err(Failed::answered(status, by_status(number))),
    }
}

/// Whether it says that it knows no such name.
fn is_unknown(door: &Door, whole: &Whole) -> bool {
    let status = whole.status.as_u16();
    let told = || fault::read(door.dialect(), status, &whole.body);
    !door.is_gateway() && told().fault == dialect::Fault::UnknownModel
}

/// The whole answer, or the error that it is too large: another replica's would be just as large.
async fn collect(
    gateway: &Gateway,
    mut parts: Parts,
    mut body: Incoming,
) -> Result<Whole, FailureKind> {
    let most = gateway.inner.config.limits.answer_bytes_max;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| FailureKind::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Ok(too_large(most));
        }
        whole.extend_from_slice(&data);
    }
    let kind = parts.headers.remove(header::CONTENT_TYPE);
    Ok(Whole { status: parts.status, kind, body: whole.freeze(), fault: None })
}

fn too_large(most: usize) -> Whole {
    let error = ApiError::upstream(format!(
        "the answer is larger than {most} bytes; ask for less at once, or for a stream"
    ));
    error.with_code("answer_too_large").into()
}

impl From<ApiError> for Whole {
    fn from(error: ApiError) -> Self {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_GATEWAY);
        Self { status, kind: None, body: error.body().into(), fault: None }
    }
}

impl Whole {
    /// The same in OpenAI's words, of a replica that has another API.
    fn told(self, reader: Option<Reader>) -> Result<Self, FailureKind> {
        let Some(reader) = reader.filter(|_| self.status == StatusCode::OK) else {
            return Ok(self);
        };
        let body = reader.whole(&self.body).map_err(|_| FailureKind::Server)?;
        Ok(Self { body: body.into(), ..self })
    }

    /// The same, of an error: clients get it in OpenAI's shape from every server. What is the replica's own
    /// fault may be tried elsewhere.
    fn told_wrong(self, own: Option<Own>, door: &Door) -> Result<Self, FailureKind> {
        let (dialect, status) = (door.dialect(), self.status.as_u16());
        if let Some(name) = door.name()
            && fault::read(dialect, status, &self.body).fault == dialect::Fault::UnknownModel
        {
            name.forget();
        }
        let Some(own) = own else {
            let told = retell::wrong(dialect, status, &self.body);
            return Ok(told.map_or(self, Self::from));
        };
        match translate::error(own, status, &self.body) {
            error if error.status < 500 => Ok(error.into()),
            _ => Err(FailureKind::Server),
        }
    }
}

/// The body with the name that a replica knows its model by, where it was found to have another; for a
/// gateway of another region that of its client. Adapters are asked for as the replica wants it. Forms are left as
/// they are.
pub(super) async fn named(gateway: &Gateway, order: &Order, door: &Door, body: Bytes) -> Bytes {
    if door.is_gateway() {
        return renamed(body, &order.public);
    }
    if order.bounds.adapter != 0 {
        let name = loaded::asked_for(door.dialect(), &order.model, &order.served);
        return if name == order.served { body } else { renamed(body, &name) };
    }
    let Some(known) = door.name() else { return body };
    let with = (door.client(&gateway.inner.client), gateway.inner.clock);
    let Some(name) = known.of(with, &order.served).await else { return body };
    renamed(body, &name)
}

fn renamed(body: Bytes, name: &str) -> Bytes {
    match peek::peek(&body) {
        Ok(peek) if peek.model.value != name => {
            peek::splice(&body, vec![peek.rename_model(name)]).into()
        }
        _ => body,
    }
}

/// A request as its replica takes it.
struct Words {
    path: Cow<'static, str>,
    body: Bytes,
    /// Reads an answer that is told in another API.
    reader: Option<Reader>,
}

impl Words {
    /// Tells a request in the replica's own API, where that is another.
    fn of(
        gateway: &Gateway,
        order: &Order,
        to: Target<'_>,
        (path, body): (&'static str, Bytes),
    ) -> Result<Self, ApiError> {
        let Some(own) = to.door.own() else {
            return Ok(Self { path: path.into(), body, reader: None });
        };
        let created = gateway.inner.clock.unix_ms() / 1000;
        let told = translate::tell(own, path, &body, (&order.request_id, created))?;
        Ok(Self { path: told.path.into(), body: told.body.into(), reader: Some(told.reader) })
    }
}

/// How an answer is read on; none where it is no answer.
fn form(order: &Order, headers: &HeaderMap, reader: Option<&Reader>) -> Option<Form> {
    match reader {
        None => order.expects.form(headers, order.stream),
        Some(_) if fit::is_encoded(headers) => None,
        Some(reader) if reader.is_stream() => Some(Form::Events),
        Some(_) => Some(Form::Whole),
    }
}

/// Reads a stream up to its first token, or its end.
async fn open(
    gateway: &Gateway,
    (mut rest, reader): (Incoming, Option<Reader>),
    watch: &mut Watch,
) -> Result<Answer, FailureKind> {
    let limits = &gateway.inner.config.limits;
    let mut cutter = Blocks::new(limits.event_bytes_max).told(reader);
    let mut blocks = Vec::new();
    let (mut seen, mut held) = (0, 0);
    let mut ends = Ends::default();
    loop {
        match rest.frame().await {
            Some(frame) => {
                let Ok(data) = frame.map_err(|_| FailureKind::Broken)?.into_data() else {
                    continue;
                };
                held += data.len();
                cutter.push(data, &mut blocks).map_err(|_| FailureKind::Broken)?;
            }
            None if cutter.end(&mut blocks) => {}
            None => return Err(FailureKind::Broken),
        }
        let mut begun = held > limits.held_bytes_max;
        for block in &blocks[seen..] {
            let Some(data) = block.data() else { continue };
            begun = begun || data == "[DONE]";
            // An error before any token is a failed attempt; after one it breaks the stream.
            if !begun && block.is_error() {
                return Err(FailureKind::Server);
            }
            begun = begun
                || match ends.take(data, &Read::of(data)) {
                    Said::Chunk { token, .. } => token,
                    Said::Over => false,
                    Said::Failed => return Err(FailureKind::Server),
                    Said::Garbage => return Err(FailureKind::Broken),
                };
        }
        seen = blocks.len();
        if begun {
            watch.mark(Mark::FirstToken);
            return Ok(Answer::Stream(Opened { blocks, cutter, rest }));
        }
    }
}

/// The request as its replica gets it.
pub(super) fn request(
    order: &Order,
    to: Target<'_>,
    (path, body): (Cow<'static, str>, Bytes),
    now: Time,
) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = to.door.uri(path);
    let headers = request.headers_mut();
    headers.reserve(HEADERS);
    let mut set = |name: &HeaderName, value: HeaderValue| headers.insert(name.clone(), value);
    if let Some(host) = to.door.host() {
        set(&header::HOST, host.clone());
    }
    set(&header::CONTENT_TYPE, order.kind.clone());
    if let Some(key) = to.door.key() {
        set(&header::AUTHORIZATION, key.clone());
    }
    if let Ok(id) = HeaderValue::from_str(&order.request_id) {
        set(&names::REQUEST_ID, id);
    }
    set(&names::ORIGIN, to.id.0.into());
    if let Some(displaced) = to.displaces {
        set(&names::DISPLACES, displaced.0.into());
    }
    if order.copy {
        set(&names::MIRROR, HeaderValue::from_static("1"));
    }
    let tenant = match to.door.is_gateway() {
        true => HeaderValue::from_str(&order.caller.name).ok(),
        false => Some(order.caller.id.0.into()),
    };
    if let Some(tenant) = tenant {
        set(&names::TENANT, tenant);
    }
    set(&names::HOPS, order.hops.saturating_add(1).into());
    set(&names::BAND, HeaderValue::from_static(order.caller.band.name()));
    let left_ms = left(now, order.until).as_millis();
    set(&names::DEADLINE_MS, u64::try_from(left_ms).unwrap_or(u64::MAX).into());
    order.traced.tell(to.attempt, headers);
    request
}

pub(super) const fn left(now: Time, until: Time) -> Duration {
    Duration::from_nanos(until.since(now).as_nanos())
}
