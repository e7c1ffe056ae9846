//! Requests that somebody else carries: a proxy asks where one goes, takes it there, and shows what comes
//! back. It waits for its turn and is counted as if this gateway carried it.
//!
//! What a proxy does not do for others is left out: an attempt that failed is not followed by another,
//! nothing is stopped to go on elsewhere, and replicas get requests in OpenAI's API only.

mod shown;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use pilotage_core::{FailureKind, Refusal, Told};
use pilotage_lens::{Mark, Termination};
use pilotage_wire::openai::error::ApiError;

use super::attempt::{self, Target, left};
use super::protocol::Protocol;
use super::sent_away::retry_after;
use super::trace::Traced;
use super::{Asking, ENDPOINTS, Endpoint, Order, Watch, deadline, media, place};
use crate::app::{Gateway, RequestName};
use crate::driver::{Go, Ticket};
use crate::metrics::Fault;
use crate::reply::{self, Refused};
use shown::Shown;

/// What a proxy says beside a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pick {
    /// The tenant that it found out itself; none where the request's key says it.
    pub tenant: Option<String>,
    /// Host and port of each replica that it allows; none where it allows all.
    pub among: Option<Vec<String>>,
    /// Whether it shows the answer's body.
    pub shows_answer: bool,
}

/// What kept a proxy from bringing an answer of the replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Nobody listens there.
    Refused,
    /// There was no connection.
    Unreachable,
    /// The connection broke before an answer.
    Broken,
    /// No answer came in time.
    Late,
}

/// A request that has its turn at a replica. Dropped before its end, its client has left; one whose answer is
/// not shown is over.
pub struct Picked {
    gateway: Gateway,
    order: Order,
    ticket: Ticket,
    watch: Watch,
    request: Request<Bytes>,
    address: String,
    shown: Shown,
    over: bool,
}

impl std::fmt::Debug for Picked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picked").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Waits for a request's turn, and says where it goes; whoever gives up waiting drops this.
    ///
    /// # Errors
    /// The answer that it gets instead: why it is refused, or what the gateway itself answers.
    pub async fn pick(
        &self,
        request: Request<Bytes>,
        with: Pick,
    ) -> Result<Box<Picked>, Box<Response<Bytes>>> {
        let path = request.uri().path();
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == path);
        let Some(endpoint) = endpoint.filter(|_| request.method() == Method::POST) else {
            return Err(in_one(self.front().answer(request.map(Body::from)).await).await);
        };
        let (parts, body) = request.into_parts();
        let (RequestName(id), _) = RequestName::of(&parts.headers);
        let mut watch =
            Watch::new(self.clone(), endpoint.path, id, Traced::of(self, &parts.headers));
        match pick(self, endpoint, (parts.headers, body), with, &mut watch).await {
            Ok((order, ticket, go)) => Picked::new(self.clone(), (order, ticket, go), watch).await,
            Err(refused) => {
                let mut refused = shed(self, refused);
                refused.headers.extend(watch.take_limits());
                watch.end(refused.error.status, refused.termination);
                watch.booked().await;
                Err(in_one(reply::refused(refused)).await)
            }
        }
    }

    /// Bytes of a request's body at most.
    pub fn body_bytes_max(&self) -> usize {
        self.inner.config.limits.body_bytes_max
    }
}

async fn pick(
    gateway: &Gateway,
    endpoint: &'static Endpoint,
    (headers, body): (HeaderMap, Bytes),
    with: Pick,
    watch: &mut Watch,
) -> Result<(Order, Ticket, Go), Refused> {
    let tenants = gateway.tenants();
    let caller = match &with.tenant {
        Some(name) => tenants.trusted(name, &headers)?,
        None => tenants.find(&headers).await?,
    };
    watch.caller(&caller);
    if endpoint.protocol != Protocol::Own {
        let message = "requests of this API are told in another on their way, which a proxy that \
                       carries them itself cannot do; ask the gateway";
        return Err(ApiError { status: 501, ..ApiError::invalid_request(message) }.into());
    }
    let config = &gateway.inner.config;
    if body.len() > config.limits.body_bytes_max {
        let most = config.limits.body_bytes_max;
        let message = format!("the body is larger than {most} bytes; send a smaller one");
        return Err(ApiError::too_large(message).into());
    }
    let peek = endpoint.peek(&headers, &body)?;
    watch.stream(peek.stream);
    media::check(&peek.media, &config.limits.media, &config.media_hosts)?;
    let deadline = deadline(&headers, &caller)?;
    let asking = Asking { endpoint, headers, caller, body, peek, deadline };
    let placed = place::place(gateway, &asking, watch)?;
    let among = (with.among.as_deref(), with.shows_answer);
    place::turned(gateway, &asking, placed, among, watch).await
}

/// The same, with the status that proxies know for load: 429. With 503 they would take it that there are no
/// replicas.
fn shed(gateway: &Gateway, refused: Refused) -> Refused {
    let is_load = match refused.termination {
        Termination::QueueFull => true,
        Termination::Deadline => gateway.is_open(),
        _ => false,
    };
    if !is_load {
        return refused;
    }
    let kind = "rate_limit_error";
    let error = ApiError { status: 429, kind, ..*refused.error };
    Refused { error: Box::new(error), ..refused }
}

/// A response of the gateway's own, whose body is at hand.
async fn in_one(response: axum::response::Response) -> Box<Response<Bytes>> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Box::new(Response::from_parts(parts, body))
}

impl Picked {
    async fn new(
        gateway: Gateway,
        (order, ticket, go): (Order, Ticket, Go),
        watch: Watch,
    ) -> Result<Box<Self>, Box<Response<Bytes>>> {
        let body = attempt::named(&gateway, &order, &go.door, order.body.clone()).await;
        let to = Target {
            door: &go.door,
            id: ticket.id(),
            attempt: go.attempt,
            displaces: go.displaces,
        };
        let request = attempt::request(&order, to, (order.path.into(), body), watch.now());
        let (address, own) = (go.door.address(), go.door.own());
        let shown = Shown::new(gateway.inner.config.limits.event_bytes_max);
        let address_told = address.clone().unwrap_or_default();
        let mut this = Self {
            gateway,
            order,
            ticket,
            watch,
            request,
            address: address_told,
            shown,
            over: false,
        };
        if own.is_some() || address.is_none() || !go.door.is_plain() {
            let message = "the replica takes requests in an API of its own, over TLS or as a gateway \
                           of another region, or has no address; a proxy cannot take them there";
            let error = ApiError { status: 501, ..ApiError::invalid_request(message) };
            let refused = this.refuse(error.into());
            this.booked().await;
            return Err(in_one(refused).await);
        }
        Ok(Box::new(this))
    }

    /// Host and port of the replica. The host may be a name.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The request as the replica gets it: body, path, and the headers that differ from the client's.
    /// Its `authorization` takes the place of the client's, or the client's goes.
    pub const fn request(&self) -> &Request<Bytes> {
        &self.request
    }

    /// Why it goes there.
    pub fn why(&self) -> Option<http::HeaderValue> {
        self.watch.why()
    }

    /// What is left of its tenant's limits, for the answer's headers; once.
    pub fn take_limits(&mut self) -> Vec<(http::HeaderName, http::HeaderValue)> {
        self.watch.take_limits()
    }

    /// Its id, which its client is told as well.
    pub fn request_id(&self) -> &str {
        self.watch.request_id()
    }

    /// How long the proxy may take to show more.
    pub fn patience(&self) -> Duration {
        let left = left(self.watch.now(), self.order.until);
        let timeouts = &self.order.timeouts;
        if self.is_unseen() {
            return left;
        }
        let quiet = match (self.order.stream, self.shown.has_begun()) {
            (false, _) => left,
            (true, false) => timeouts.first_token,
            (true, true) => timeouts.idle,
        };
        left.min(quiet)
    }

    /// The answer begins, with that status.
    ///
    /// # Errors
    /// It is none that a client should get: this is what it gets instead.
    pub async fn answered(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), Box<Response<Bytes>>> {
        self.watch.mark(Mark::Answered);
        match self.shown.begin(&self.order, status, headers) {
            Ok(()) => Ok(()),
            Err(kind) => {
                let unix_ms = self.gateway.inner.clock.unix_ms();
                let retry_after =
                    retry_after(headers, unix_ms).filter(|_| kind == FailureKind::Overloaded);
                let status = Some(status.as_u16());
                let told = Told { retry_after, ..Told::default() };
                Err(self.failed(kind, told, (kind.into(), status)).await)
            }
        }
    }

    /// There is no answer; returns what the client gets.
    pub async fn unanswered(&mut self, trouble: Trouble) -> Box<Response<Bytes>> {
        let (kind, fault) = match trouble {
            Trouble::Refused => (FailureKind::Connect, Fault::Refused),
            Trouble::Unreachable => (FailureKind::Connect, Fault::Unreachable),
            Trouble::Broken => (FailureKind::Broken, Fault::Reset),
            Trouble::Late => (FailureKind::Timeout, Fault::Timeout),
        };
        let is_refused = fault == Fault::Refused;
        self.failed(kind, Told { is_refused, ..Told::default() }, (fault, None)).await
    }

    async fn failed(
        &mut self,
        kind: FailureKind,
        told: Told,
        (fault, status): (Fault, Option<u16>),
    ) -> Box<Response<Bytes>> {
        let retry_after = told.retry_after;
        if !std::mem::replace(&mut self.over, true) {
            self.ticket.faulted(fault);
            self.watch.faulted(fault, status);
            self.ticket.heard(told);
            self.ticket.broke(kind, false);
        }
        let refusal = Refusal::Exhausted { attempts: 1, last: kind, retry_after };
        let refused = self.refuse(refusal.into());
        self.booked().await;
        in_one(refused).await
    }

    /// Waits until its row is in the ledger, once it is over: before its client gets the end of its answer.
    pub async fn booked(&mut self) {
        self.watch.booked().await;
    }

    fn refuse(&mut self, refused: Refused) -> axum::response::Response {
        self.over = true;
        self.watch.end(refused.error.status, refused.termination);
        reply::refused(refused)
    }
}
