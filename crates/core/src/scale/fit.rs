//! From what was seen to what is needed: each term asks for replicas, and the most demanding one counts.

use super::capacity::{Service, Target, load_of, replicas_for};
use super::damp::Need;
use super::policy::Policy;
use super::signals::{Waiting, Work};
use super::why::Term;
use crate::{Band, Span};

const BANDS: usize = Band::ALL.len();

/// How many times longer than its goal a queue takes of which no noise is the reason.
const LONG: f64 = 3.0;

/// Everything that terms are made of, none of it older than it may be unless it says more is needed.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Requests a second that come.
    pub(super) arriving: f64,
    /// Requests a second that came last, noise and all.
    pub(super) latest: f64,
    /// Requests a second that are to be expected until help could be there.
    pub(super) expected: f64,
    /// What the requests of each band are like, and how many of all they are.
    pub(super) mix: [Work; BANDS],
    pub(super) waiting: [Waiting; BANDS],
    /// What a replica does.
    pub(super) service: Option<Service>,
    /// Replicas that serve.
    pub(super) ready: u32,
    /// Replicas that were asked for and should be there by far: they may never come.
    pub(super) stuck: u32,
    /// How long until each of those on their way serves.
    pub(super) coming: Vec<Span>,
    /// How long until one that is asked for now serves.
    pub(super) lead: Span,
    /// The mean part of KV caches that is used.
    pub(super) kv_used: Option<f64>,
    /// How many times the load is believed.
    pub(super) boost: f64,
    /// Whether somebody came not long ago.
    pub(super) recent: bool,
    /// More than so many are not asked for.
    pub(super) most: u32,
}

/// What every term asks for, the most demanding first among equals.
pub(super) fn terms(view: &View, policy: &Policy) -> Vec<(Term, u32)> {
    let most = view.most;
    let mut terms = vec![(Term::Floor, policy.floor())];
    let waits = view.waiting.iter().any(|band| band.work.requests > 0.0);
    if let Some(service) = &view.service {
        let load = |rate: f64| need(rate * service.seconds, view, service, policy);
        terms.push((Term::Load, load(view.arriving)));
        terms.push((Term::Forecast, load(view.expected)));
        terms.push((Term::Backlog, backlog(view, service, policy)));
        if view.boost > 1.0 {
            terms.push((Term::Misses, load(view.arriving * view.boost)));
        }
    } else if waits && too_long(view, policy) && view.coming.is_empty() {
        terms.push((Term::Slow, view.ready.saturating_add(1)));
    }
    if let Some(used) = view.kv_used {
        let full = f64::from(view.ready) * used / policy.kv_used_max;
        terms.push((Term::Kv, full.ceil() as u32));
    }
    let is_there = view.ready > 0 || !view.coming.is_empty();
    if waits {
        terms.push((Term::Held, 1));
    } else if view.recent && is_there {
        terms.push((Term::Recent, 1));
    } else if view.latest > 0.0 {
        terms.push((Term::Elsewhere, 1));
    }
    terms.extend(instead(view, &terms));
    terms.into_iter().map(|(term, count)| (term, count.min(most))).collect()
}

/// Others in place of replicas that do not come, as far as the rest is too few for what is asked of it:
/// at most a quarter more, and one at least, because what kept some from coming may keep all from it.
fn instead(view: &View, terms: &[(Term, u32)]) -> Option<(Term, u32)> {
    let (_, count) = bound(terms);
    let coming = u32::try_from(view.coming.len()).unwrap_or(u32::MAX);
    let is_short = count > view.ready.saturating_add(coming);
    // Where nobody comes, nobody misses them.
    let is_asked = terms.iter().any(|(term, asks)| *term != Term::Floor && *asks >= count);
    let is_missed = view.stuck > 0 && is_short && is_asked;
    is_missed.then(|| (Term::Stuck, count.saturating_add(view.stuck.min(count.div_ceil(4)))))
}

/// The most demanding term.
pub(super) fn bound(terms: &[(Term, u32)]) -> (Term, u32) {
    let first = (Term::Floor, 0);
    terms.iter().fold(first, |most, one| if one.1 > most.1 { *one } else { most })
}

/// What is needed now, and what would be with so much more of everything.
pub(super) fn span(view: &View, policy: &Policy) -> Need {
    let least = bound(&terms(view, policy)).1;
    let more = 1.0 + policy.tolerance;
    let mut larger = view.clone();
    larger.arriving *= more;
    larger.expected *= more;
    larger.latest *= more;
    larger.kv_used = view.kv_used.map(|used| used * more);
    let most = bound(&terms(&larger, policy)).1.max(least);
    Need { least, most }
}

/// Between which rates nothing changes with so many replicas.
pub(super) fn between(view: &View, policy: &Policy, replicas: u32) -> Option<(f64, f64)> {
    let service = view.service?;
    let bear = |replicas: u32| {
        let each = targets(view, &service, policy).map(|(part, target)| {
            load_of(replicas, &service, target) / if part > 0.0 { part } else { 1.0 }
        });
        each.fold(f64::INFINITY, f64::min) / service.seconds
    };
    let low = if replicas > policy.floor().max(1) {
        bear(replicas - 1) / (1.0 + policy.tolerance)
    } else {
        0.0
    };
    let high = bear(replicas);
    high.is_finite().then_some((low, high))
}

/// Replicas for so many replicas' work. A band waits only for those that are as urgent or more.
fn need(load: f64, view: &View, service: &Service, policy: &Policy) -> u32 {
    let each = targets(view, service, policy);
    each.map(|(part, target)| replicas_for(load * part, service, target, policy.max))
        .max()
        .unwrap_or(0)
}

/// What has to hold for all that comes, and for each band and those before it.
fn targets(view: &View, service: &Service, policy: &Policy) -> impl Iterator<Item = (f64, Target)> {
    let whole: f64 = view.mix.iter().map(|band| band.requests).sum();
    let everything =
        Target { utilisation: policy.utilisation, wait: None, miss: 1.0 - policy.attainment };
    let mut before = 0.0;
    let prompt = service.prompt_seconds;
    let bands: [Option<(f64, Target)>; BANDS] = std::array::from_fn(|at| {
        let own = view.mix[at].requests;
        before += own;
        let goal = policy.goals[at].ttft.filter(|_| own > 0.0 && whole > 0.0)?;
        // What the prompt itself takes cannot be spent on waiting.
        let wait = Some((goal.as_secs_f64() - prompt).max(0.0));
        Some((before / whole, Target { wait, ..everything }))
    });
    std::iter::once((1.0, everything)).chain(bands.into_iter().flatten())
}

/// Replicas that serve what comes, and what will still be waiting by the time that help could be there.
/// What gathers until then need not be gone faster than it came.
fn backlog(view: &View, service: &Service, policy: &Policy) -> u32 {
    if view.waiting.iter().all(|band| band.work.requests <= 0.0) {
        return 0;
    }
    let lead = view.lead.as_secs_f64();
    // A queue far beyond the goal is proof enough that what came last is no noise.
    let latest = if is_long(view, service, policy) { view.latest } else { 0.0 };
    let load = view.arriving.max(view.expected).max(latest) * service.seconds;
    let helped: f64 = view.coming.iter().map(|left| (lead - left.as_secs_f64()).max(0.0)).sum();
    let net = f64::from(view.ready) * lead + helped - load * lead;
    let (mut spare, mut rate, mut soonest) = (net.max(0.0), 0.0, f64::MAX);
    for (waiting, goal) in view.waiting.iter().zip(&policy.goals) {
        let work = service.takes(waiting.work);
        let left = (work - spare).max(0.0);
        spare = (spare - work).max(0.0);
        let drain = goal.drain.as_secs_f64().max(lead);
        rate += left / drain;
        if work > 0.0 {
            soonest = soonest.min(drain);
        }
    }
    rate += (-net).max(0.0) / soonest;
    if rate <= 0.0 {
        return 0;
    }
    let whole = ((load + rate) / policy.utilisation).ceil();
    if whole < f64::from(policy.max) { whole as u32 } else { policy.max }
}

/// Whether what waits takes those that serve far longer than its bands' goals allow.
fn is_long(view: &View, service: &Service, policy: &Policy) -> bool {
    let mut before = 0.0;
    view.waiting.iter().zip(&policy.goals).any(|(waiting, goal)| {
        before += service.takes(waiting.work);
        let allowed = goal.ttft.unwrap_or(goal.drain).as_secs_f64();
        waiting.work.requests > 0.0 && before > LONG * f64::from(view.ready) * allowed
    })
}

/// Whether somebody has waited longer than his band's goal.
fn too_long(view: &View, policy: &Policy) -> bool {
    view.waiting.iter().zip(&policy.goals).any(|(waiting, goal)| {
        waiting.work.requests > 0.0 && waiting.oldest > goal.ttft.unwrap_or(goal.drain)
    })
}
