//! Equal deterministic requests that are under way at the same time share one generation.
//!
//! Each caller keeps what is its own: its place in its tenant's quotas, its deadline, its record. The
//! generation runs beside all of them, at the first one's urgency and its tenant's expense in the queue;
//! one that leaves does not stop it, the last one does. A failure before the first byte is everybody's
//! refusal, one after it everybody's error event.
//!
//! Equal is: the same route, model, path, urgency and adapter, and a body that is the same byte for byte;
//! of the same tenant, unless the route says otherwise. A SHA-256 stands for all of that, so that nobody
//! can make a request that gets another's answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use pilotage_core::traffic::Charge;
use pilotage_core::{TenantId, Time};
use pilotage_lens::{Mark, Termination};
use pilotage_shell::tasks;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::sse;
use sha2::{Digest as _, Sha256};

use super::generation::{self, Ending, Generation, Key, Member, Next};
use super::place::{self, Placed};
use super::relay::BLOCKED_LEAST;
use super::{Asking, Watch, attempt, cache, out_of_time};
use crate::app::Gateway;
use crate::quotas::{self, Lease};
use crate::reply::Refused;

/// A place at a generation, and the lease that its caller pays from itself.
type Entered = (Member, Option<Lease>);

/// Generations that can be joined.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    open: Mutex<HashMap<Key, Arc<Generation>>>,
}

impl Merges {
    /// Joins the generation of that key, or, for one that pays for it, a new one.
    ///
    /// # Errors
    /// There is none, and the lease is not for one's own.
    fn enter(&self, lease: Lease, pays: bool, made: Arc<Generation>) -> Result<Entered, Lease> {
        let Some(key) = made.key().copied() else { return made.join(lease) };
        let mut open = self.open.lock();
        let lease = match open.get(&key) {
            Some(generation) => match generation.join(lease) {
                Ok(entered) => return Ok(entered),
                Err(lease) => lease,
            },
            None => lease,
        };
        if !pays {
            return Err(lease);
        }
        let entered = made.join(lease)?;
        open.insert(key, made);
        Ok(entered)
    }

    /// Whether there is one to join.
    fn has(&self, key: &Key) -> bool {
        self.open.lock().get(key).is_some_and(|generation| generation.is_open())
    }

    /// A generation is over.
    fn forget(&self, generation: &Arc<Generation>) {
        let Some(key) = generation.key() else { return };
        let mut open = self.open.lock();
        if open.get(key).is_some_and(|other| Arc::ptr_eq(other, generation)) {
            open.remove(key);
        }
    }
}

/// A digest of parts, each of which is told apart from the next.
pub(super) fn digest(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What requests must have in common to share a generation.
fn key(asking: &Asking, placed: &Placed, tenant: Option<TenantId>) -> Key {
    let tenant = tenant.map(|tenant| tenant.0.to_le_bytes());
    let mut parts: Vec<&[u8]> = vec![
        placed.route.traffic.name.as_str().as_bytes(),
        asking.endpoint.path.as_bytes(),
        asking.caller.band.name().as_bytes(),
        tenant.as_ref().map_or(b"", |tenant| tenant.as_slice()),
        placed.adapter.as_deref().unwrap_or_default().as_bytes(),
        &asking.body,
    ];
    // Where it goes and may go on to is part of it: rules, experiments and canaries stay what they are.
    parts.extend(placed.lanes.iter().map(|lane| lane.config.name.as_bytes()));
    digest(&parts)
}

/// Serves a request whose answer others may get as well: those who ask at the same time, or later.
pub(super) async fn serve(
    gateway: &Gateway,
    asking: Asking,
    placed: Placed,
    watch: &mut Watch,
) -> Result<Response, Refused> {
    let kept = match cache::look_up(gateway, &asking, &placed, watch)? {
        cache::Found::Hit(response) => return Ok(response),
        cache::Found::Miss(kept) => kept,
    };
    let until = placed.until;
    let missed = kept.as_ref().map(cache::Kept::header);
    let (mut member, made) = enter(gateway, &asking, &placed, watch)?;
    if member.is_first() {
        let gateway = gateway.clone();
        let generation = Arc::clone(member.generation());
        let watch = watch.generation(Arc::clone(&generation));
        let kept = kept.filter(cache::Kept::is_stored);
        let run = Run { gateway, generation, kept, shared: made };
        drop(tasks::spawn("generation", run.run(asking, placed, watch)));
    }
    let late = attempt::left(watch.now(), until);
    let begun = member.head(|| watch.begins());
    let head = tokio::time::timeout(late, begun).await.map_err(|_| out_of_time())?;
    watch.learn();
    let (status, mut headers) = head?;
    headers.extend(missed);
    watch.mark(Mark::FirstToken);
    let streamed = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if streamed.is_some_and(|kind| kind.starts_with("text/event-stream")) {
        let watch = watch.hand_over();
        return Ok(respond(status, headers, stream_of(member, watch, until)));
    }
    let late = attempt::left(watch.now(), until);
    let body =
        tokio::time::timeout(late, whole(&mut member)).await.map_err(|_| out_of_time())??;
    watch.mark(Mark::LastToken);
    watch.end_shared(Termination::Ok);
    Ok(respond(status, headers, Body::from(body)))
}

/// Joins the generation of equal requests, or begins one; with whether others can join it.
fn enter(
    gateway: &Gateway,
    asking: &Asking,
    placed: &Placed,
    watch: &mut Watch,
) -> Result<(Member, bool), Refused> {
    let merges = &gateway.inner.merges;
    let bytes_max = gateway.inner.config.limits.merge_bytes_max;
    let merge = placed.route.merge;
    let key = merge.map(|merge| {
        let tenant = (!merge.across_tenants).then_some(asking.caller.id);
        key(asking, placed, tenant)
    });
    let charge = merge.map_or(Charge::Each, |merge| merge.charge);
    loop {
        // Who comes first pays for tokens, and must have place for them.
        let follows = key.is_some_and(|key| merges.has(&key));
        let pays = charge != Charge::First || !follows;
        let (lease, left, input) = place::lease_dearest(gateway, asking, placed, pays)?;
        let made = Generation::new(key, charge, bytes_max);
        // Otherwise the one that it was to follow ended in the meantime.
        let Ok((member, own)) = merges.enter(lease, pays, made) else { continue };
        watch.joins(&member, (own, input), quotas::headers(&left));
        return Ok((member, key.is_some()));
    }
}

/// A generation's own way.
struct Run {
    gateway: Gateway,
    generation: Arc<Generation>,
    /// Where its answer is kept.
    kept: Option<cache::Kept>,
    /// Whether others may join.
    shared: bool,
}

impl Run {
    async fn run(self, mut asking: Asking, mut placed: Placed, mut watch: Watch) {
        let Self { gateway, generation, kept, shared } = self;
        let _ending = Ending(Arc::clone(&generation));
        let model = placed.lanes.first().map(|lane| lane.config.name.clone());
        placed.charged = false;
        if shared {
            // Each caller has a deadline of its own; none of them is the others'.
            asking.deadline = None;
            placed.until = watch.begun() + super::span(placed.route.timeouts.total);
        }
        let work = async {
            match place::through(&gateway, &asking, placed, &mut watch).await {
                Ok(response) => generation::pass(&generation, response).await,
                Err(refused) => {
                    watch.end(refused.error.status, refused.termination);
                    generation.refuse(refused);
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = generation.all_left() => {}
        }
        gateway.inner.merges.forget(&generation);
        if let Some(kept) = kept {
            kept.keep(&gateway, &generation, model.as_deref());
        }
    }
}

/// The body of an answer that is no stream.
async fn whole(member: &mut Member) -> Result<Bytes, Refused> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    loop {
        match member.next().await {
            Next::Piece(piece) if first.is_empty() => first = piece.bytes,
            Next::Piece(piece) => {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&piece.bytes);
            }
            Next::End if all.is_empty() => return Ok(first),
            Next::End => return Ok(all.freeze()),
            Next::Cut => {
                let error = ApiError::upstream("the answer broke off; retry the request");
                return Err(Refused { termination: Termination::UpstreamError, ..error.into() });
            }
        }
    }
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A caller that reads a stream.
struct Reader {
    member: Member,
    watch: Watch,
    until: Time,
    /// When the client last got something.
    yielded: Option<Time>,
    over: bool,
}

fn stream_of(member: Member, watch: Watch, until: Time) -> Body {
    let reader = Reader { member, watch, until, yielded: None, over: false };
    Body::from_stream(stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<_, Infallible>(bytes), reader))
    }))
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let now = self.watch.now();
        let blocked = self.yielded.map(|yielded| now.since(yielded));
        if let Some(blocked) = blocked.filter(|blocked| *blocked >= BLOCKED_LEAST) {
            self.watch.blocked(blocked);
        }
        let late: Duration = attempt::left(now, self.until);
        let bytes = match tokio::time::timeout(late, self.member.next()).await {
            Ok(Next::Piece(piece)) => {
                self.watch.gets(&piece);
                if piece.is_last {
                    self.end();
                }
                Some(piece.bytes)
            }
            Ok(Next::End) => {
                self.end();
                None
            }
            Ok(Next::Cut) => Some(self.break_off(
                &ApiError::upstream(
                    "the answer broke off, or was read too slowly for the others that share it; \
                     retry the request",
                ),
                Termination::UpstreamInterrupted,
            )),
            Err(_) => {
                let out = out_of_time();
                Some(self.break_off(&out.error, out.termination))
            }
        };
        if self.over {
            self.watch.booked().await;
        }
        self.yielded = Some(self.watch.now());
        bytes
    }

    /// It has all of the answer.
    fn end(&mut self) {
        self.over = true;
        self.watch.end_shared(Termination::UpstreamInterrupted);
    }

    /// Ends the stream with an error event: never silently.
    fn break_off(&mut self, error: &ApiError, termination: Termination) -> Bytes {
        self.over = true;
        self.watch.end(200, termination);
        let mut event = Vec::new();
        sse::encode_data(&mut event, &error.body());
        event.into()
    }
}
