//! What is remembered of a Model between two looks at it: what was refused, what somebody keeps changing,
//! which signs have lasted. All of it may be forgotten: it comes back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::action::{Action, Apply, Why};
use super::difference::{Difference, differences};
use super::kinds::Sort;
use super::trouble::{Failure, Signs, Trouble, trouble};
use crate::Timestamp;

/// An object of a Model.
pub(super) type Made = (Sort, String);

/// How long the operator waits after the first refusal; twice as long after each further one.
const RETRY_MS: u64 = 1_000;

/// How long it waits at most: whoever raises a quota sees it taken up within that time.
const RETRY_MS_MAX: u64 = 60_000;

/// How long it waits at most before it repairs an object that somebody changes again and again.
const REPAIR_MS_MAX: u64 = 300_000;

/// Repairs in a row from which on people are told that two are at it.
const REPAIRS_TOLD: u32 = 3;

/// A quiet time after which repairs count anew.
const QUIET_MS: u64 = 600_000;

/// How often people are told of a repair of the same object.
pub(super) const TOLD_EVERY_MS: u64 = 3_600_000;

/// How often a key is read again, so that one that was changed by hand is noticed.
pub(super) const KEY_EVERY_MS: u64 = 600_000;

/// What is remembered of a Model.
#[derive(Clone, Debug, Default)]
pub(super) struct Mind {
    pub(super) signs: Signs,
    refusals: BTreeMap<Made, Refusal>,
    repairs: BTreeMap<Made, Repair>,
    /// What stayed different though it was applied: the API server writes it in its own way.
    agreed: BTreeMap<Made, u64>,
    /// What was written into objects last, as a digest.
    written: BTreeMap<Made, u64>,
    key_ms: Option<u64>,
    /// When its status was written.
    pub(super) told_ms: Option<u64>,
    /// Since when copies are missing.
    pub(super) late_since_ms: Option<u64>,
    /// The generation that refusals are about.
    generation: u64,
    /// Whether what the status says was taken over.
    is_recalled: bool,
}

#[derive(Clone, Debug)]
struct Refusal {
    trouble: Option<Trouble>,
    what: String,
    count: u32,
    retry_ms: u64,
}

#[derive(Clone, Debug)]
struct Repair {
    count: u32,
    last_ms: u64,
    told_ms: Option<u64>,
    field: String,
}

impl Mind {
    /// Takes over what the status says when nothing is known beside it: what was told goes on as it was, and
    /// copies that were missing are missing since then.
    pub(super) fn recall(&mut self, now_ms: u64, status: &Value) {
        if std::mem::replace(&mut self.is_recalled, true) {
            return;
        }
        let all = status["conditions"].as_array();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
        for one in all.into_iter().flatten() {
            match (text(one, "type").as_str(), text(one, "status").as_str()) {
                ("Degraded", "True") => {
                    let reason = text(one, "reason");
                    if reason == Trouble::NotReadyInTime.name() {
                        self.late_since_ms = Some(0);
                    }
                    self.signs.recall(now_ms, &reason, &text(one, "message"));
                }
                ("Ready", "False") => {
                    let since = text(one, "lastTransitionTime").parse::<Timestamp>().ok();
                    let since_ms = since.map(|at| at.unix_seconds().saturating_mul(1000));
                    self.late_since_ms = self.late_since_ms.or(since_ms);
                }
                _ => {}
            }
        }
    }

    /// What somebody wrote makes old refusals doubtful.
    pub(super) fn about(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.refusals.clear();
        }
    }

    /// An object was applied.
    pub(super) fn applied(&mut self, now_ms: u64, apply: &Apply, object: &Value) {
        let made = (apply.sort, apply.name().to_owned());
        self.refusals.remove(&made);
        self.written.insert(made.clone(), digest(&apply.object.to_string()));
        let left = differences(object, &apply.object);
        if left.is_empty() {
            self.agreed.remove(&made);
        } else {
            self.agreed.insert(made.clone(), print(&apply.object, &left));
        }
        if apply.why == Why::Drifted {
            let field = apply.differences.first().map(|one| one.path.clone()).unwrap_or_default();
            let fresh = Repair { count: 0, last_ms: now_ms, told_ms: None, field };
            let repair = self.repairs.entry(made).or_insert(fresh);
            repair.count =
                if now_ms.saturating_sub(repair.last_ms) > QUIET_MS { 1 } else { repair.count + 1 };
            repair.last_ms = now_ms;
        }
    }

    /// A call failed.
    pub(super) fn refused(&mut self, now_ms: u64, action: &Action, failure: &Failure, chance: u32) {
        let made = subject(action);
        let count = self.refusals.get(&made).map_or(0, |old| old.count) + 1;
        let trouble = trouble(failure).filter(|_| {
            let is_told = matches!(action, Action::Apply(_) | Action::Delete { .. });
            is_told
                || matches!(
                    action,
                    Action::Key { .. } | Action::Release { .. } | Action::End { .. }
                )
        });
        let known = self.refusals.get(&made).filter(|old| old.trouble == trouble);
        let what = known.map_or_else(|| describe(action, failure), |old| old.what.clone());
        let doubled = RETRY_MS.saturating_mul(1 << (count - 1).min(16)).min(RETRY_MS_MAX);
        let asked = u64::from(failure.retry_after_s.unwrap_or_default()) * 1000;
        // Many that were refused at once do not come back at once.
        let wait_ms = doubled.max(asked) * (1000 + u64::from(chance.min(999))) / 1000;
        self.refusals.insert(made, Refusal { trouble, what, count, retry_ms: now_ms + wait_ms });
    }

    /// Whether something may be tried, or when.
    pub(super) fn may_try(&self, now_ms: u64, made: &Made) -> Result<(), u64> {
        match self.refusals.get(made) {
            Some(refusal) if refusal.retry_ms > now_ms => Err(refusal.retry_ms),
            _ => Ok(()),
        }
    }

    /// Whether an object was written just so: where it does not say so, that was taken out by somebody.
    pub(super) fn has_written(&self, made: &Made, wanted: &Value) -> bool {
        self.written.get(made).is_some_and(|print| *print == digest(&wanted.to_string()))
    }

    /// Whether a difference may be repaired, or when; `Ok(false)` where it is none.
    pub(super) fn may_repair(
        &self,
        now_ms: u64,
        made: &Made,
        wanted: &Value,
        all: &[Difference],
    ) -> Result<bool, u64> {
        if all.is_empty() || self.agreed.get(made) == Some(&print(wanted, all)) {
            return Ok(false);
        }
        let Some(repair) = self.repairs.get(made) else { return Ok(true) };
        let wait_ms = RETRY_MS.saturating_mul(1 << repair.count.min(16)).min(REPAIR_MS_MAX);
        let at_ms = if repair.count <= 1 { 0 } else { repair.last_ms + wait_ms };
        if at_ms > now_ms { Err(at_ms) } else { Ok(true) }
    }

    /// Whether people are to be told of a repair now.
    pub(super) fn tells_repair(&mut self, now_ms: u64, made: &Made, field: &str) -> bool {
        let fresh = Repair { count: 0, last_ms: now_ms, told_ms: None, field: field.to_owned() };
        let repair = self.repairs.entry(made.clone()).or_insert(fresh);
        let tells = repair.told_ms.is_none_or(|told| now_ms.saturating_sub(told) >= TOLD_EVERY_MS);
        if tells {
            repair.told_ms = Some(now_ms);
        }
        tells
    }

    /// What is wrong by what was refused, or is fought over.
    pub(super) fn troubles(&self, now_ms: u64) -> BTreeMap<Trouble, String> {
        let mut all = BTreeMap::new();
        for refusal in self.refusals.values() {
            if let Some(trouble) = refusal.trouble {
                all.entry(trouble).or_insert_with(|| refusal.what.clone());
            }
        }
        for ((sort, name), repair) in &self.repairs {
            if repair.count >= REPAIRS_TOLD && now_ms.saturating_sub(repair.last_ms) <= QUIET_MS {
                let kind = sort.row().kind;
                let what = format!(
                    "somebody changes {} of the {kind} `{name}` again and again",
                    repair.field
                );
                all.entry(Trouble::Conflict).or_insert(what);
            }
        }
        all
    }

    /// A key was read.
    pub(super) fn key_read(&mut self, now_ms: u64) {
        self.key_ms = Some(now_ms);
        self.refusals.remove(&key_subject());
    }

    /// A pod was moved.
    pub(super) fn moved(&mut self) -> bool {
        self.refusals.remove(&moves_subject()).is_some()
    }

    /// When the key is to be read.
    pub(super) fn key_due_ms(&self) -> u64 {
        self.key_ms.map_or(0, |read| read + KEY_EVERY_MS)
    }

    /// Forgets what is not made any longer.
    pub(super) fn keep(&mut self, made: impl Fn(&Made) -> bool) {
        self.agreed.retain(|one, _| made(one));
        self.written.retain(|one, _| made(one));
        self.repairs.retain(|one, _| made(one));
        let special = |one: &Made| one.1.is_empty();
        self.refusals.retain(|one, _| special(one) || made(one));
    }
}

/// What stands for the key among objects: a Secret is none of them.
pub(super) const fn key_subject() -> Made {
    (Sort::ConfigMap, String::new())
}

/// What stands for the status among objects.
pub(super) const fn status_subject() -> Made {
    (Sort::Service, String::new())
}

/// What stands for pods that move among objects.
const fn moves_subject() -> Made {
    (Sort::Deployment, String::new())
}

fn subject(action: &Action) -> Made {
    match action {
        Action::Apply(apply) => (apply.sort, apply.name().to_owned()),
        Action::Delete { sort, name, .. } => (*sort, name.clone()),
        Action::Key { .. } | Action::Keys { .. } => key_subject(),
        Action::Status { .. } | Action::Tell { .. } | Action::Report { .. } => status_subject(),
        Action::Release { .. } | Action::End { .. } => moves_subject(),
    }
}

fn describe(action: &Action, failure: &Failure) -> String {
    let message = failure.message.trim();
    match action {
        Action::Apply(apply) => {
            format!("the {} `{}` was refused: {message}", apply.sort.row().kind, apply.name())
        }
        Action::Delete { sort, name, .. } => {
            format!("the {} `{name}` cannot be deleted: {message}", sort.row().kind)
        }
        Action::Release { pod, .. } | Action::End { pod, .. } => {
            format!("the pod `{}` cannot be moved from its node: {message}", pod.name)
        }
        _ => format!("the Secret with its key was refused: {message}"),
    }
}

/// A digest of what is wanted and where it differs.
fn print(wanted: &Value, all: &[Difference]) -> u64 {
    let each = all.iter().map(|one| {
        format!("{}={}", one.path, one.is.as_ref().map(Value::to_string).unwrap_or_default())
    });
    let text: String = std::iter::once(wanted.to_string()).chain(each).collect();
    digest(&text)
}

/// FNV-1a, 64 bits: it tells versions of one object apart, and is no secret.
pub(super) fn digest(text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
