//! Answers of deterministic requests that are kept, and given again to the same tenant's equal requests.
//!
//! Kept are complete answers only: status 200, ended by themselves or at the length asked for, in one go
//! and by the model that was chosen first. An answer is given again byte for byte, its id and its time
//! too; a stream as a stream. It costs its prompt at the price of tokens found in a cache, and nothing for
//! its answer. A client that says `no-cache` gets a fresh one, which replaces the one kept; with `no-store`
//! neither is looked for nor kept; `max-age` is respected.

mod shelf;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use pilotage_core::{TenantId, Tokens};
use pilotage_lens::Termination;
use pilotage_wire::{envelope, repeat};

use super::generation::{Count, Generation, Key};
use super::place::{self, Placed};
use super::{Asking, Watch, merge, span};
use crate::app::Gateway;
use crate::config::CacheConfig;
use crate::metrics::CacheGauges;
use crate::quotas::{self, Header};
use crate::reply::Refused;
use shelf::Shelf;

/// The answers of one route.
#[derive(Debug)]
pub(crate) struct Cache {
    shelf: Mutex<Shelf>,
    gauges: CacheGauges,
}

/// An answer to give again.
#[derive(Debug)]
struct Answer {
    headers: HeaderMap,
    body: Bytes,
    tokens: Tokens,
}

impl Cache {
    pub(crate) fn new(config: CacheConfig, gauges: CacheGauges) -> Self {
        Self { shelf: Mutex::new(Shelf::new(config)), gauges }
    }

    /// Limits from now on.
    pub(crate) fn set_config(&self, config: CacheConfig) {
        let mut shelf = self.shelf.lock();
        shelf.set_config(config);
        self.show(&mut shelf);
    }

    fn show(&self, shelf: &mut Shelf) {
        let gone = shelf.take_gone();
        self.gauges.displaced.inc_by(gone.displaced);
        self.gauges.expired.inc_by(gone.expired);
        self.gauges.bytes.set(i64::try_from(shelf.bytes()).unwrap_or(i64::MAX));
        self.gauges.entries.set(i64::try_from(shelf.len()).unwrap_or(i64::MAX));
    }
}

/// What there is for a request.
pub(super) enum Found {
    /// An answer that was kept.
    Hit(Response),
    /// None; where one is kept, if its route keeps any.
    Miss(Option<Kept>),
}

/// The place of an answer that is still to be made.
pub(super) struct Kept {
    cache: Arc<Cache>,
    key: Key,
    tenant: TenantId,
    is_stored: bool,
}

/// What a client says about answers that were kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Wish {
    is_stored: bool,
    age_max: Duration,
}

/// Looks for an answer.
///
/// # Errors
/// There is one, and its tenant's quota does not allow even that.
pub(super) fn look_up(
    gateway: &Gateway,
    asking: &Asking,
    placed: &Placed,
    watch: &mut Watch,
) -> Result<Found, Refused> {
    let (Some(cache), Some(lane)) = (&placed.cache, placed.lanes.first()) else {
        return Ok(Found::Miss(None));
    };
    let tenant = asking.caller.id;
    let (lane, served) = (&lane.config, lane);
    let key = merge::digest(&[
        placed.route.traffic.name.as_str().as_bytes(),
        asking.endpoint.path.as_bytes(),
        &tenant.0.to_le_bytes(),
        lane.name.as_bytes(),
        lane.served_model.as_bytes(),
        lane.identity.as_bytes(),
        placed.adapter.as_deref().unwrap_or_default().as_bytes(),
        &lane.context_tokens.to_le_bytes(),
        &asking.body,
    ]);
    let wish = wish(&asking.headers);
    let found = wish.is_stored.then(|| {
        let mut shelf = cache.shelf.lock();
        let found = shelf.get(watch.now(), &key, span(wish.age_max));
        cache.show(&mut shelf);
        found
    });
    let Some(answer) = found.flatten() else {
        cache.gauges.misses.inc();
        watch.cache("miss");
        let is_stored = wish.is_stored;
        return Ok(Found::Miss(Some(Kept { cache: Arc::clone(cache), key, tenant, is_stored })));
    };
    let input = answer.tokens.input;
    let tokens = Tokens { input, cached: input, output: 0 };
    let with = (asking.body.len(), lane.price);
    let (lease, left) = place::lease(gateway, &asking.caller, gateway.next_id(), tokens, with)?;
    cache.gauges.hits.inc();
    watch.lane(served, placed.adapter.as_deref());
    watch.lease(lease, input, quotas::headers(&left));
    watch.cache("hit");
    watch.shares(Count { tokens, reasoning: 0, counted: true });
    watch.end(200, Termination::Ok);
    Ok(Found::Hit(again(&answer)))
}

fn again(answer: &Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body.clone()));
    *response.headers_mut() = answer.headers.clone();
    response.headers_mut().extend([told("hit")]);
    response
}

const fn told(found: &'static str) -> Header {
    (HeaderName::from_static(envelope::CACHE), HeaderValue::from_static(found))
}

/// What a client wishes, by the `cache-control` of RFC 9111.
fn wish(headers: &HeaderMap) -> Wish {
    let mut wish = Wish { is_stored: true, age_max: Duration::MAX };
    let values = headers.get_all(header::CACHE_CONTROL).into_iter();
    for directive in values.filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        match directive.split_once('=') {
            None if directive == "no-store" => wish.is_stored = false,
            None if directive == "no-cache" => wish.age_max = Duration::ZERO,
            Some(("max-age", secs)) => {
                let age =
                    secs.trim_matches('"').parse().map_or(Duration::ZERO, Duration::from_secs);
                wish.age_max = wish.age_max.min(age);
            }
            _ => {}
        }
    }
    wish
}

impl Kept {
    /// What its request is told.
    pub(super) fn header(&self) -> Header {
        told("miss")
    }

    /// Whether the answer may be kept.
    pub(super) const fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Keeps the answer of a generation, if it is one to give again and came from that model.
    pub(super) fn keep(self, gateway: &Gateway, generation: &Generation, model: Option<&str>) {
        let event_bytes_max = gateway.inner.config.limits.event_bytes_max;
        let told = generation.told();
        let clean = told.end == Some((200, Termination::Ok)) && told.stops == 0 && told.counted;
        if !clean || told.lane.as_ref().map(|lane| lane.name.as_str()) != model {
            return;
        }
        let Some((StatusCode::OK, headers, body)) = generation.whole() else { return };
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let complete = match kind {
            Some(kind) if kind.starts_with("text/event-stream") => {
                repeat::is_complete_stream(&body, event_bytes_max)
            }
            _ => repeat::is_complete(&body),
        };
        if complete {
            let now = pilotage_core::Time::from_nanos(gateway.inner.clock.now_nanos());
            let answer = Answer { headers, body, tokens: told.tokens };
            let mut shelf = self.cache.shelf.lock();
            shelf.put(now, self.tenant, self.key, answer);
            self.cache.show(&mut shelf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_how_old_an_answer_may_be() {
        let check = |values: &[&'static str], is_stored: bool, age_max: Duration| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(wish(&headers), Wish { is_stored, age_max }, "{values:?}");
        };
        check(&[], true, Duration::MAX);
        check(&["no-cache"], true, Duration::ZERO);
        check(&["max-age=60, No-Store"], false, Duration::from_secs(60));
        check(&["max-age=60", "max-age=\"5\""], true, Duration::from_secs(5));
        check(&["max-age=soon"], true, Duration::ZERO);
        check(&["only-if-cached, no-transform, public=1"], true, Duration::MAX);
    }
}
