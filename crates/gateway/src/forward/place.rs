//! Which model a request goes to, and with what: needs are read off its body, the route chooses a
//! lane, quotas are reserved at that lane's price, and whatever is refused before its first byte may go
//! on to the next.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pilotage_core::admit::Left;
use pilotage_core::prefix::blocks;
use pilotage_core::traffic::router::NoRoute;
use pilotage_core::traffic::{
    ANY, Asked, Choice, LaneId, Live, Miss, Needs, Shadow, Tag, fallback,
};
use pilotage_core::{Prompt, Request, RequestId, RetryLimit, Stop, Time, Tokens};
use pilotage_lens::Mark;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::peek::{self, Peek};
use pilotage_wire::resume::{Resumable, Way};

use super::bounds::{Asks, bounds, hops};
use super::mirror::Copied;
use super::{Asking, Cache, Endpoint, Missed, Order, Watch, attempts, merge, mirror, span, turn};
use crate::app::Gateway;
use crate::auth::Caller;
use crate::config::{Price, Resume, Retries, RouteConfig, Timeouts};
use crate::driver::{Go, Ticket};
use crate::names;
use crate::quotas::{self, Lease};
use crate::reply::Refused;
use crate::table::{Lane, Now, Table};

/// Serves a request: by what there is already, where its route allows that, or by the first lane that
/// takes it.
pub(super) async fn serve(
    gateway: &Gateway,
    asking: Asking,
    watch: &mut Watch,
) -> Result<Response, Refused> {
    let placed = place(gateway, &asking, watch)?;
    let shares = placed.route.merge.is_some() || placed.cache.is_some();
    if shares && asking.endpoint.is_deterministic(&asking.body) {
        return merge::serve(gateway, asking, placed, watch).await;
    }
    through(gateway, &asking, placed, watch).await
}

/// Where a request goes.
pub(super) struct Placed {
    id: RequestId,
    pub(super) route: Arc<RouteConfig>,
    /// Answers that its route keeps.
    pub(super) cache: Option<Arc<Cache>>,
    /// In the order in which they are asked.
    pub(super) lanes: Vec<Arc<Lane>>,
    /// The LoRA adapter that it asks for, or its route does.
    pub(super) adapter: Option<String>,
    /// When the request was understood.
    now: Time,
    /// When it is over at the latest.
    pub(super) until: Time,
    /// Whether lanes reserve its place in its tenant's quotas; otherwise its callers have.
    pub(super) charged: bool,
    /// Where its copy goes.
    copy: Option<Copied>,
}

/// Chooses where a request goes.
pub(super) fn place(
    gateway: &Gateway,
    asking: &Asking,
    watch: &mut Watch,
) -> Result<Placed, Refused> {
    let table = gateway.table();
    let public = asking.peek.model.value.as_str();
    let (name, adapter) = named(&table, public);
    let route = table.route(name).ok_or_else(|| gateway.no_model(public))?;
    let now = watch.mark(Mark::Read);
    let total = asking.deadline.unwrap_or(route.timeouts.total).min(route.timeouts.total);
    let id = gateway.next_id();
    let choice = choose(gateway, &table, (name, id), asking)?;
    let Choice { lane, fallbacks, why, role, mirror } = choice;
    watch.routed(why, role);
    let copied = |shadow: Shadow| {
        let lane = Arc::clone(table.lane_at(shadow.lane)?);
        Some(Copied { shadow, lane, timeouts: route.timeouts })
    };
    Ok(Placed {
        id,
        route: Arc::clone(route),
        cache: table.cache(&route.traffic.name).cloned(),
        lanes: open_first(&table, lane, &fallbacks),
        adapter: adapter.map(str::to_owned).or_else(|| route.adapter.clone()),
        now,
        until: watch.begun() + span(total),
        charged: true,
        copy: mirror.and_then(copied),
    })
}

/// Sends a request to the first lane that takes it.
pub(super) async fn through(
    gateway: &Gateway,
    asking: &Asking,
    mut placed: Placed,
    watch: &mut Watch,
) -> Result<Response, Refused> {
    let public = asking.peek.model.value.as_str();
    let (mut last, mut now) = (None, placed.now);
    for (at, lane) in placed.lanes.iter().enumerate() {
        if placed.adapter.as_deref().is_some_and(|adapter| !lane.has_adapter(adapter)) {
            last = Some(Refused::from(gateway.no_model(public)));
            continue;
        }
        let copy = placed.copy.take();
        let sent = Sent { now, ..placed.sent(gateway, (at, lane)) };
        match send(gateway, asking, &sent, copy, watch).await {
            Ok(response) => return Ok(response),
            Err(missed) => last = Some(goes_on(missed, &mut now, watch)?),
        }
    }
    Err(last.unwrap_or_else(|| gateway.no_model(public).into()))
}

/// Waits for a request's turn in the first lane that takes it, at one of these replicas where only these
/// may have it. Somebody else carries it from there.
pub(super) async fn turned(
    gateway: &Gateway,
    asking: &Asking,
    mut placed: Placed,
    (among, seen): (Option<&[String]>, bool),
    watch: &mut Watch,
) -> Result<(Order, Ticket, Go), Refused> {
    let public = asking.peek.model.value.as_str();
    let (mut last, mut now) = (None, placed.now);
    for (at, lane) in placed.lanes.iter().enumerate() {
        if placed.adapter.as_deref().is_some_and(|adapter| !lane.has_adapter(adapter)) {
            last = Some(Refused::from(gateway.no_model(public)));
            continue;
        }
        let copy = placed.copy.take();
        let sent = Sent { now, ..placed.sent(gateway, (at, lane)) };
        let sent = Sent { by_proxy: true, seen, among, hedge: false, ..sent };
        let turned = match line_up(gateway, asking, &sent, copy, watch) {
            Ok((order, mut ticket)) => {
                turn(&order, &mut ticket, None, watch).await.map(|go| (order, ticket, go))
            }
            Err(missed) => Err(missed),
        };
        match turned {
            Ok(turned) => return Ok(turned),
            Err(missed) => last = Some(goes_on(missed, &mut now, watch)?),
        }
    }
    Err(last.unwrap_or_else(|| gateway.no_model(public).into()))
}

/// Whether another lane may do better.
///
/// # Errors
/// None may.
fn goes_on(missed: Missed, now: &mut Time, watch: &mut Watch) -> Result<Refused, Refused> {
    let Missed { refused, miss } = missed;
    watch.missed(miss.as_ref());
    if miss == Some(Miss::NoReplica) {
        // It waited for a start, and not for its turn.
        *now = watch.now();
    }
    let goes_on = miss.is_some_and(|miss: Miss| fallback::moves_on(&miss).is_yes());
    if goes_on { Ok(refused) } else { Err(refused) }
}

impl Placed {
    /// The request on its way to the lane at that place.
    fn sent<'a>(&'a self, gateway: &Gateway, (at, lane): (usize, &'a Arc<Lane>)) -> Sent<'a> {
        Sent {
            lane,
            timeouts: self.route.timeouts,
            retry: retry(&self.route),
            adapter: self.adapter.as_deref(),
            // Ids are a lane's own: the second lane must not take the request for another's.
            id: if at == 0 { self.id } else { gateway.next_id() },
            now: self.now,
            until: self.until,
            charged: self.charged,
            is_copy: false,
            hedge: self.route.hedge,
            by_proxy: false,
            seen: true,
            among: None,
        }
    }
}

/// A request on its way to one lane.
pub(super) struct Sent<'a> {
    pub(super) lane: &'a Arc<Lane>,
    pub(super) timeouts: Timeouts,
    /// What its route allows less than its lane.
    pub(super) retry: Option<RetryLimit>,
    pub(super) adapter: Option<&'a str>,
    pub(super) id: RequestId,
    pub(super) now: Time,
    pub(super) until: Time,
    /// Whether its place in its tenant's quotas is still to be reserved.
    pub(super) charged: bool,
    pub(super) is_copy: bool,
    /// Whether its route lets it have second attempts.
    pub(super) hedge: bool,
    /// Whether a proxy carries it, which neither stops nor goes on elsewhere.
    pub(super) by_proxy: bool,
    /// Whether its answer is seen, so that its engine is to tell what it took.
    pub(super) seen: bool,
    /// The only addresses that the proxy may take it to.
    pub(super) among: Option<&'a [String]>,
}

pub(super) async fn send(
    gateway: &Gateway,
    asking: &Asking,
    sent: &Sent<'_>,
    copy: Option<Copied>,
    watch: &mut Watch,
) -> Result<Response, Missed> {
    let (order, ticket) = line_up(gateway, asking, sent, copy, watch)?;
    attempts(gateway, order, ticket, watch).await
}

/// Reserves a request's place in its tenant's quotas, and puts it in line.
fn line_up(
    gateway: &Gateway,
    asking: &Asking,
    sent: &Sent<'_>,
    copy: Option<Copied>,
    watch: &mut Watch,
) -> Result<(Order, Ticket), Missed> {
    let Sent { lane, timeouts, adapter, id, now, until, is_copy, hedge, .. } = *sent;
    let timeouts = Timeouts { queue: lane.patience(timeouts.queue), ..timeouts };
    // An answer in one piece always takes long to begin.
    let hedge = hedge && !is_copy && asking.endpoint.generates && asking.peek.stream;
    let Asking { endpoint, caller, body, peek, .. } = asking;
    let config = &lane.config;
    let hops = hops(&asking.headers);
    let asks = Asks { hops, by_proxy: sent.by_proxy, among: sent.among, adapter };
    let bounds = bounds(lane, asks)?;
    watch.lane(lane, adapter);
    let tokens = endpoint.estimate(peek, config.context_tokens);
    if sent.charged {
        let (lease, left) = lease(gateway, caller, id, tokens, (body.len(), config.price))?;
        watch.lease(lease, tokens.input, quotas::headers(&left));
    }
    let goes_on = endpoint.generates && !is_copy && !sent.by_proxy;
    let way = way(lane, peek).filter(|_| goes_on);
    let resume = way.and_then(|way| Resumable::new(body, endpoint.is_chat(), way));
    // What goes on as text may become another answer: only a failure is worth that.
    let exact = resume.as_ref().is_some_and(|resume| resume.way() == Way::Tokens);
    let request = Request {
        stop: match (sent.by_proxy, exact) {
            (true, _) => Stop::Never,
            (false, true) => Stop::Anytime,
            (false, false) => Stop::BeforeFirstToken,
        },
        hedge,
        retry: sent.retry,
        ..request(asking, (id, tokens), (now, until), &timeouts)
    };
    // Where all names go there, each is a model of its own.
    let own = (config.served_model == ANY).then_some(peek.model.value.as_str());
    let known = prompt(gateway, lane, asking, adapter.or(own));
    let prompt = Prompt { bounds: bounds.clone(), ..known };
    watch.lined(lane.handle.waiting());
    let ticket = lane.handle.arrive(request, prompt);
    if let Some(copy) = copy {
        mirror::send(gateway, asking, copy, adapter, watch);
    }
    let served = adapter.or(own).unwrap_or(&config.served_model);
    let order = Order {
        path: endpoint.upstream,
        kind: kind(&asking.headers, peek),
        body: outgoing(body.clone(), peek, (served, sent.seen), resume.as_ref()),
        caller: caller.clone(),
        request_id: watch.request_id().clone(),
        traced: watch.traced(),
        stream: peek.stream,
        expects: endpoint.expects(),
        usage_wanted: peek.stream_options.as_ref().is_some_and(|options| options.value),
        until,
        timeouts,
        input: tokens.input,
        served: served.to_owned(),
        model: config.served_model.clone(),
        public: peek.model.value.as_str().to_owned(),
        hops,
        bounds,
        absent_until: None,
        resume,
        copy: is_copy,
        hedge,
        rests: config.rest.is_some(),
    };
    Ok((order, ticket))
}

/// A request as its lane gets it.
pub(super) fn request(
    asking: &Asking,
    (id, tokens): (RequestId, Tokens),
    (now, until): (Time, Time),
    timeouts: &Timeouts,
) -> Request {
    let Asking { caller, deadline, .. } = asking;
    Request {
        deadline: Some((now + span(timeouts.queue)).min(until)),
        answer_by: deadline.map(|_| until),
        until: Some(until),
        ..Request::new(id, caller.id, caller.band, tokens)
    }
}

/// A public name, or one with an adapter behind a colon.
pub(super) fn named<'a>(table: &Table, public: &'a str) -> (&'a str, Option<&'a str>) {
    if table.route(public).is_some() {
        return (public, None);
    }
    match public.rsplit_once(':') {
        Some((name, adapter)) if table.route(name).is_some() => (name, Some(adapter)),
        _ => (public, None),
    }
}

fn retry(route: &RouteConfig) -> Option<RetryLimit> {
    let Retries { attempts_max, percent } = route.retries?;
    let group = pilotage_core::traffic::key(route.traffic.name.as_str());
    Some(RetryLimit { group, attempts_max, percent })
}

/// The lanes in the order in which they are asked: one without replicas comes after those that have
/// some, so that nobody waits for it in vain, and is waited for when there is no other. One that rests
/// is woken by whoever waits for it.
pub(super) fn open_first(table: &Table, first: LaneId, fallbacks: &[LaneId]) -> Vec<Arc<Lane>> {
    let all = std::iter::once(&first).chain(fallbacks);
    let mut lanes: Vec<_> = all.filter_map(|id| table.lane_at(*id).cloned()).collect();
    lanes.sort_by_key(|lane| !lane.is_open());
    lanes
}

fn choose(
    gateway: &Gateway,
    table: &Table,
    (name, id): (&str, RequestId),
    asking: &Asking,
) -> Result<Choice, Refused> {
    let chosen = with_asked(gateway, table, (name, id), asking, |asked, live| {
        table.router.choose(name, asked, live)
    })?;
    chosen.map_err(|error| match error {
        NoRoute::UnknownModel => gateway.no_model(name).into(),
        NoRoute::NothingFits(_) => {
            ApiError::invalid_request(format!("{error}; change the request, or ask another model"))
                .with_param("model")
                .with_code("no_model_fits")
                .into()
        }
    })
}

/// Asks the router something about a request, with what is known of that and of the lanes.
pub(super) fn with_asked<T>(
    gateway: &Gateway,
    table: &Table,
    (name, id): (&str, RequestId),
    asking: &Asking,
    ask: impl FnOnce(&Asked<'_>, &dyn Live) -> T,
) -> Result<T, ApiError> {
    let names = table.router.headers();
    let headers: Vec<(&str, &str)> = names
        .iter()
        .filter_map(|name| Some((name.as_str(), asking.headers.get(name)?.to_str().ok()?)))
        .collect();
    let tokens = asking.endpoint.estimate(&asking.peek, u32::MAX);
    let ruled = table
        .router
        .route(name)
        .is_some_and(|route| !route.rules.is_empty() || route.experiment.is_some());
    let tenants =
        if ruled { gateway.inner.directory.read().path(asking.caller.id) } else { Vec::new() };
    let asked = Asked {
        request: id,
        needs: needs(asking.endpoint, &asking.peek, &asking.headers, tokens)?,
        prompt_tokens: tokens.input.into(),
        tenants: &tenants,
        user: asking.peek.user.as_deref().map(pilotage_core::traffic::key),
        band: asking.caller.band,
        headers: &headers,
    };
    let share = |route: &_| gateway.inner.trials.share(route);
    let live = Now { table, canary_share: &share };
    Ok(ask(&asked, &live))
}

/// What a request needs of a model, as far as its body and headers tell.
fn needs(
    endpoint: &Endpoint,
    peek: &Peek,
    headers: &HeaderMap,
    tokens: Tokens,
) -> Result<Needs, ApiError> {
    let tag = |name: &HeaderName| match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(value) => {
            value.ok().and_then(|value| Tag::new(value).ok()).map(Some).ok_or_else(|| {
                let message =
                    format!("`{name}` must be one short word of letters, digits and dashes");
                ApiError::invalid_request(message).with_param(name.as_str())
            })
        }
    };
    let output = peek.tokens_max.map_or(0, u64::from);
    Ok(Needs {
        features: endpoint.needs(peek),
        context_tokens: u64::from(tokens.input) + output,
        language: tag(&names::LANGUAGE)?,
        tier: tag(&names::TIER)?,
    })
}

/// What identifies the prompt, and where there is a choice, its blocks. Each byte is read once.
pub(super) fn prompt(
    gateway: &Gateway,
    lane: &Lane,
    asking: &Asking,
    adapter: Option<&str>,
) -> Prompt {
    let (seed, peek, body) = (gateway.inner.seed, &asking.peek, &asking.body);
    let adapter = adapter.map_or(0, pilotage_core::traffic::key);
    // Templates write tools before messages.
    let tools = peek.tools.clone().map_or(0, |tools| blocks::digest(seed, &body[tools]));
    let (start, end) = peek.input.as_ref().map_or((0, 0), |input| (input.start, input.end));
    let (named, input) = blocks::name(seed ^ tools ^ adapter, &body[start..end]);
    let before = blocks::digest(seed ^ input, &body[..start]);
    let fingerprint = blocks::digest(before, &body[end..]).max(1);
    let known = Prompt { fingerprint, streams: peek.stream, ..Prompt::default() };
    if lane.handle.up() < 2 {
        return known;
    }
    let session = asking.headers.get(&names::SESSION).map(HeaderValue::as_bytes);
    let session = session.or_else(|| peek.user.as_deref().map(str::as_bytes));
    Prompt {
        blocks: Some(named).filter(|named| !named.is_empty()).map(Arc::from),
        session: session.map_or(0, |session| blocks::digest(seed, session).max(1)),
        adapter,
        ..known
    }
}

/// Reserves the request's place in the quotas of its tenant and of those above it.
pub(super) fn lease(
    gateway: &Gateway,
    caller: &Caller,
    id: RequestId,
    tokens: Tokens,
    (bytes, price): (usize, Price),
) -> Result<(Lease, Left), Refused> {
    let quotas = &gateway.inner.quotas;
    quotas.reserve(id, caller.id, tokens, bytes, price).map_err(|denial| {
        gateway.inner.counts.denied(denial.limit);
        let directory = gateway.inner.directory.read();
        Refused::denied(&denial, directory.name(denial.tenant))
    })
}

/// Reserves the place of a request whose lane is not known yet: at the price of the dearest that may
/// answer it, or, where somebody else pays, without tokens. With the prompt's tokens, as estimated.
pub(super) fn lease_dearest(
    gateway: &Gateway,
    asking: &Asking,
    placed: &Placed,
    pays: bool,
) -> Result<(Lease, Left, u32), Refused> {
    let configs = || placed.lanes.iter().map(|lane| &lane.config);
    let most = |price: fn(&Price) -> u64| {
        configs().map(|config| price(&config.price)).max().unwrap_or_default()
    };
    let price = Price {
        input: most(|price| price.input),
        cached: most(|price| price.cached),
        output: most(|price| price.output),
    };
    let context = configs().map(|config| config.context_tokens).max().unwrap_or_default();
    let tokens = asking.endpoint.estimate(&asking.peek, context);
    let reserved = if pays { tokens } else { Tokens::default() };
    let id = gateway.next_id();
    let with = (asking.body.len(), price);
    let (lease, left) = lease(gateway, &asking.caller, id, reserved, with)?;
    Ok((lease, left, tokens.input))
}

/// From what a lane's streams go on that break in the middle; none where that is not worth asking
/// engines for what it takes.
fn way(lane: &Lane, peek: &Peek) -> Option<Way> {
    let worth = peek.stream && lane.handle.up() >= lane.config.resume_from;
    match lane.config.resume {
        Resume::Tokens => worth.then_some(Way::Tokens),
        Resume::Text => worth.then_some(Way::Text),
        Resume::Off => None,
    }
}

/// The body for the replica: its own name for the model, streams that are seen with usage, and with what
/// it takes to go on elsewhere.
fn outgoing(
    body: Bytes,
    peek: &Peek,
    (served, seen): (&str, bool),
    resume: Option<&Resumable>,
) -> Bytes {
    let mut edits = Vec::new();
    if peek.model.value != served {
        edits.push(peek.rename_model(served));
    }
    match resume {
        Some(resume) => edits.extend(resume.edits(peek, &body)),
        None if peek.stream && seen => edits.extend(peek.ask_for_usage(&body)),
        None => {}
    }
    if edits.is_empty() { body } else { peek::splice(&body, edits).into() }
}

/// The media type of the body for the replica: a form's names its boundary.
fn kind(headers: &HeaderMap, peek: &Peek) -> HeaderValue {
    let sent = headers.get(header::CONTENT_TYPE).filter(|_| peek.is_form()).cloned();
    sent.unwrap_or(HeaderValue::from_static("application/json"))
}
