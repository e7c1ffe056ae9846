//! How a new version of a Model takes over from the one that serves: it is started beside it, gets a
//! growing part of the requests as long as it does no worse, and then all of them; or none, when it is
//! worse or never comes up.
//!
//! ```text
//! Starting ──ready──▶ Trying ──not worse──▶ TakingOver ──all there──▶ serves
//!     └─────never──────┴─worse, gone─▶ RolledBack (until the Model changes again)
//! ```
//!
//! What is known of it is in the Model's status, so that whoever reads that can go on. Requests are
//! judged by gateways, by the statistics of a Route's canary; here is only said what follows from it.

mod copies;
mod machine;
mod revision;
mod serving;
#[cfg(test)]
mod tests;
mod trial;

pub use copies::Copies;
pub use machine::{AllKept, Crowded, Kept, OnMachine, SeenHere, as_they_serve};
pub use revision::{RUNS, RevisionError, revision, running, what_runs};
pub use serving::{Staged, model_of, serve};
pub use trial::{NEXT, TriedOut, leads_alone, try_out};

use crate::Timestamp;
use crate::api::status::{NextStatus, UpdatePhase, UpdateStatus};
use crate::api::{ModelSpec, Step, Updates};

/// What is seen of a Model whose version is to change.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What is wanted.
    pub spec: &'a ModelSpec,
    /// Copies that are wanted by the load, whatever their version.
    pub replicas: u32,
    /// Copies of the next version that take requests.
    pub next_ready: u32,
    /// What keeps the next version from coming up, as far as that is known.
    pub trouble: Option<&'a str>,
    /// Seconds that it may take to come up.
    pub patience_seconds: u32,
    /// Whether requests can be divided at all: some Route leads to this Model alone.
    pub is_routed: bool,
    /// Why two versions cannot run at once, where they cannot: then each copy goes before the one that
    /// replaces it comes.
    pub crowded: Option<&'a str>,
    /// What gateways say of the next version.
    pub trials: &'a [Trial],
}

impl Seen<'_> {
    /// Whether gateways divide requests between the versions.
    fn is_divided(&self) -> bool {
        self.is_routed
            && self.crowded.is_none()
            && self.spec.updates.as_ref().is_some_and(|updates| updates.canary.is_some())
    }

    /// The part of the requests that copies of the next version can bear, in percent.
    fn bearable(&self) -> u32 {
        // Rounded up: the rest is then no more than the other copies can bear.
        let part = (u64::from(self.next_ready) * 100).div_ceil(u64::from(self.replicas.max(1)));
        u32::try_from(part).unwrap_or(100).min(100)
    }
}

/// What one gateway says of a version on trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Which one.
    pub revision: String,
    /// How far it is.
    pub progress: Progress,
    /// Its step, from 0.
    pub step: u32,
    /// Its part of the requests, in percent.
    pub percent: f64,
    /// Why, in words.
    pub why: String,
}

/// How far a trial is in the eyes of a gateway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// It goes on.
    Going,
    /// Too few requests have come to say anything.
    TooFew,
    /// It is worse.
    Worse,
    /// It went through all steps.
    Done,
}

/// What is to be: the state to keep, and how many copies of each version.
#[derive(Clone, Debug, PartialEq)]
pub struct Advanced {
    /// For the Model's status.
    pub status: UpdateStatus,
    /// Copies.
    pub copies: Copies,
}

/// What follows from what is seen. The same answer comes until something else is seen or time is over.
pub fn advance(now: &Timestamp, status: &UpdateStatus, seen: &Seen<'_>) -> Advanced {
    let wanted = revision(seen.spec);
    let serves = status.serving.as_ref();
    let is_judged = status.next.as_ref().is_some_and(|next| {
        next.revision == wanted
            && matches!(next.phase, UpdatePhase::RolledBack | UpdatePhase::Paused)
    });
    // Where no copy is to be, none can prove itself; what was found worse stays so.
    if serves.is_none_or(|serving| *serving == wanted) || (seen.replicas == 0 && !is_judged) {
        return settled(seen, wanted);
    }
    let next = match &status.next {
        Some(next) if next.revision == wanted => next.clone(),
        Some(_) | None => begun(now, seen, wanted),
    };
    let next = changed(now, seen, next);
    let room = copies::Room::of(seen.replicas, &updates(seen));
    let copies = match next.phase {
        UpdatePhase::Starting => room.at_begin(percent_of(&steps(seen), 0)),
        UpdatePhase::Trying | UpdatePhase::Paused => room.on_trial(&shares(seen, &next)),
        UpdatePhase::TakingOver if seen.next_ready >= seen.replicas => {
            return settled(seen, next.revision);
        }
        UpdatePhase::TakingOver if seen.is_divided() => room.on_trial(&shares(seen, &next)),
        UpdatePhase::TakingOver => room.taking_over(seen.next_ready),
        UpdatePhase::RolledBack => Copies { serving: seen.replicas, next: 0 },
    };
    let next = NextStatus { percent_max: seen.bearable(), ..next };
    Advanced { status: UpdateStatus { next: Some(next), ..status.clone() }, copies }
}

/// The wanted version serves, and nothing else.
fn settled(seen: &Seen<'_>, wanted: String) -> Advanced {
    let serving_spec = Some(what_runs(seen.spec));
    let status = UpdateStatus { serving: Some(wanted), serving_spec, next: None };
    Advanced { status, copies: Copies { serving: seen.replicas, next: 0 } }
}

/// A version that nobody has seen yet.
fn begun(now: &Timestamp, seen: &Seen<'_>, revision: String) -> NextStatus {
    let updates = seen.spec.updates.clone().unwrap_or_default();
    let crowded = seen
        .crowded
        .map(|why| format!("it takes over without a trial, one copy after the other: {why}"));
    let (phase, message) = if let Some(crowded) = &crowded {
        (UpdatePhase::TakingOver, crowded.as_str())
    } else if updates.canary.is_none() {
        (UpdatePhase::TakingOver, "it takes over without a trial: `updates.canary` is not there")
    } else if !seen.is_routed {
        (
            UpdatePhase::TakingOver,
            "it takes over without a trial: no Route leads to this Model alone",
        )
    } else if seen.replicas.saturating_add(updates.surge) < 2 {
        (UpdatePhase::TakingOver, "it takes over without a trial: there is room for one copy alone")
    } else {
        (UpdatePhase::Starting, "its first copies are started")
    };
    NextStatus {
        revision,
        phase,
        percent_max: 0,
        percent: 0,
        since: now.to_string(),
        unready_since: None,
        message: message.to_owned(),
    }
}

/// The phase by what is seen.
fn changed(now: &Timestamp, seen: &Seen<'_>, next: NextStatus) -> NextStatus {
    match next.phase {
        UpdatePhase::Starting => started(now, seen, next),
        UpdatePhase::Trying | UpdatePhase::Paused => judged(now, seen, there(now, seen, next)),
        UpdatePhase::TakingOver if seen.is_divided() => there(now, seen, next),
        // Nobody else can serve meanwhile.
        UpdatePhase::TakingOver if seen.crowded.is_some() && seen.next_ready == 0 => {
            given_up(now, seen, next)
        }
        UpdatePhase::TakingOver | UpdatePhase::RolledBack => next,
    }
}

/// What is said of the updates, or the usual.
fn updates(seen: &Seen<'_>) -> Updates {
    let said = seen.spec.updates.clone().unwrap_or_default();
    match seen.crowded {
        None => said,
        Some(_) => Updates { surge: 0, unavailable: said.unavailable.max(1), ..said },
    }
}

fn started(now: &Timestamp, seen: &Seen<'_>, next: NextStatus) -> NextStatus {
    let room = copies::Room::of(seen.replicas, &updates(seen));
    let wanted = room.at_begin(percent_of(&steps(seen), 0));
    if seen.next_ready >= wanted.next {
        let message = "requests are divided between it and the version that serves";
        return enter(now, next, UpdatePhase::Trying, message);
    }
    given_up(now, seen, next)
}

/// The version that was there before serves again when it took too long.
fn given_up(now: &Timestamp, seen: &Seen<'_>, next: NextStatus) -> NextStatus {
    let seconds = seen.patience_seconds;
    if !is_over(now, &next.since, seconds) {
        return next;
    }
    let why = seen.trouble.unwrap_or("nothing is known of why");
    let text = format!("it did not come up in {seconds} s: {why}");
    enter(now, next, UpdatePhase::RolledBack, &text)
}

/// The same of one that was up: without any of its copies no requests come that could tell that it is worse.
/// Where the load wants none at all, none is missing.
fn there(now: &Timestamp, seen: &Seen<'_>, next: NextStatus) -> NextStatus {
    if seen.next_ready > 0 || seen.replicas == 0 {
        return NextStatus { unready_since: None, ..next };
    }
    let seconds = seen.patience_seconds;
    let since = next.unready_since.clone().unwrap_or_else(|| now.to_string());
    let gone = is_over(now, &since, seconds);
    let next = NextStatus { unready_since: Some(since), ..next };
    if !gone {
        return next;
    }
    let why = seen.trouble.unwrap_or("nothing is known of why");
    let text = format!("none of its copies took requests for {seconds} s: {why}");
    enter(now, next, UpdatePhase::RolledBack, &text)
}

/// Whether more than that time has passed.
fn is_over(now: &Timestamp, since: &str, seconds: u32) -> bool {
    let since = since.parse().map_or(0, |at: Timestamp| at.unix_seconds());
    now.unix_seconds().saturating_sub(since) > u64::from(seconds)
}

/// The second at which a version is given up by time alone, where nothing else comes before that.
pub(crate) fn given_up_at(next: &NextStatus, patience_seconds: u32) -> Option<u64> {
    let since = match next.phase {
        UpdatePhase::Starting => Some(&next.since),
        UpdatePhase::Trying | UpdatePhase::Paused | UpdatePhase::TakingOver => {
            next.unready_since.as_ref()
        }
        UpdatePhase::RolledBack => None,
    };
    let since = since?.parse::<Timestamp>().ok()?.unix_seconds();
    Some(since.saturating_add(u64::from(patience_seconds)) + 1)
}

fn judged(now: &Timestamp, seen: &Seen<'_>, next: NextStatus) -> NextStatus {
    if next.phase == UpdatePhase::RolledBack {
        return next;
    }
    let trials: Vec<&Trial> =
        seen.trials.iter().filter(|trial| trial.revision == next.revision).collect();
    if let Some(worse) = trials.iter().find(|trial| trial.progress == Progress::Worse) {
        let pauses = seen.spec.updates.as_ref().and_then(|updates| updates.canary.as_ref());
        let pauses = pauses.is_some_and(|canary| canary.on_fail == crate::api::OnFail::Pause);
        let phase = if pauses { UpdatePhase::Paused } else { UpdatePhase::RolledBack };
        return enter(now, next, phase, &worse.why);
    }
    let is_done = |trial: &&Trial| trial.progress == Progress::Done;
    let no_objection = |trial: &&Trial| matches!(trial.progress, Progress::Done | Progress::TooFew);
    if next.phase == UpdatePhase::Trying
        && trials.iter().all(no_objection)
        && let Some(done) = trials.iter().copied().find(is_done)
    {
        let why = done.why.clone();
        return enter(now, next, UpdatePhase::TakingOver, &why);
    }
    let Some(furthest) = trials.iter().max_by(|a, b| a.percent.total_cmp(&b.percent)) else {
        return next;
    };
    NextStatus { percent: whole(furthest.percent), message: furthest.why.clone(), ..next }
}

/// The same phase goes on as it was.
fn enter(now: &Timestamp, next: NextStatus, phase: UpdatePhase, message: &str) -> NextStatus {
    let since = if next.phase == phase { next.since } else { now.to_string() };
    let percent = match phase {
        UpdatePhase::RolledBack => 0,
        UpdatePhase::TakingOver => 100,
        UpdatePhase::Starting | UpdatePhase::Trying | UpdatePhase::Paused => next.percent,
    };
    let ends = phase == UpdatePhase::RolledBack;
    let unready_since = next.unready_since.filter(|_| !ends);
    NextStatus { phase, since, percent, unready_since, message: message.to_owned(), ..next }
}

fn steps(seen: &Seen<'_>) -> Vec<Step> {
    let canary = seen.spec.updates.as_ref().and_then(|updates| updates.canary.as_ref());
    canary.map(crate::api::UpdateCanary::steps).unwrap_or_default()
}

/// What gateways give it now, and what the furthest of them will give it.
fn shares(seen: &Seen<'_>, next: &NextStatus) -> copies::Shares {
    let steps = steps(seen);
    let own = || seen.trials.iter().filter(|trial| trial.revision == next.revision);
    let percents = || own().map(|trial| whole(trial.percent));
    let (Some(least), Some(most)) = (percents().min(), percents().max()) else {
        return unheard(seen, next, &steps);
    };
    // The furthest step of any gateway.
    let step = own().map(|trial| trial.step).max().unwrap_or(0);
    let later = match next.phase {
        UpdatePhase::TakingOver => 100,
        UpdatePhase::Starting
        | UpdatePhase::Trying
        | UpdatePhase::Paused
        | UpdatePhase::RolledBack => percent_of(&steps, step as usize + 1),
    };
    copies::Shares { least, most, later: later.max(most) }
}

/// The same where no gateway says anything, as when they are out of reach for a moment or who operates is new:
/// what they gave it last, by the status, and all that is ready stays. Copies take minutes to come up.
fn unheard(seen: &Seen<'_>, next: &NextStatus, steps: &[Step]) -> copies::Shares {
    let ready = u64::from(seen.next_ready) * 100 / u64::from(seen.replicas.max(1));
    let ready = u32::try_from(ready).unwrap_or(100).min(100);
    let (given, later) = match next.phase {
        // As many requests go there as its copies can bear.
        UpdatePhase::TakingOver => (ready, 100),
        UpdatePhase::Starting
        | UpdatePhase::Trying
        | UpdatePhase::Paused
        | UpdatePhase::RolledBack => {
            let given = next.percent.max(percent_of(steps, 0));
            let later = steps.iter().map(|step| step.weight).find(|weight| *weight > given);
            (given, later.unwrap_or(100))
        }
    };
    let most = given.max(ready);
    copies::Shares { least: given, most, later: later.max(most) }
}

/// The part of a step, in percent; behind the last it is all.
fn percent_of(steps: &[Step], at: usize) -> u32 {
    steps.get(at).map_or(100, |step| step.weight)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100")]
fn whole(percent: f64) -> u32 {
    percent.clamp(0.0, 100.0).round() as u32
}
