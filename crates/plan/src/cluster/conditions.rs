//! What is told of a resource: its conditions, in the form and with the manners of Kubernetes.
//!
//! Contract: the time of a condition changes only when its status does, and equal facts give equal text.

use serde_json::{Value, json};

use super::action::{About, Action, Note};
use super::adapters::FAILED;
use super::difference::differences;
use super::trouble::Trouble;
use crate::api::status::{NextStatus, UpdatePhase};
use crate::timestamp;

/// One condition, without its time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) kind: &'static str,
    pub(super) is_true: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Longest message, in characters: far below what Kubernetes takes.
const MESSAGE_CHARS_MAX: usize = 1024;

impl Said {
    pub(super) fn new(kind: &'static str, is_true: bool, reason: &str, message: String) -> Self {
        let message = match message.char_indices().nth(MESSAGE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &message[..end]),
            None => message,
        };
        Self { kind, is_true, reason: reason.to_owned(), message }
    }
}

/// What copies of a Model do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Copies {
    pub(super) wanted: u32,
    pub(super) there: u32,
    pub(super) ready: u32,
    pub(super) updated: u32,
    /// Copies that serve until others do in their place.
    pub(super) moving: u32,
    pub(super) is_seen: bool,
}

impl Copies {
    pub(super) const fn is_moving(self) -> bool {
        !self.is_seen
            || self.moving > 0
            || self.updated < self.wanted
            || self.ready < self.wanted
            || self.there != self.wanted
    }
}

/// The conditions of a Model that is run here, beside `Accepted`.
pub(super) fn of_copies(copies: Copies, trouble: Option<&(Trouble, String)>) -> Vec<Said> {
    let Copies { wanted, ready, updated, moving, .. } = copies;
    let told = trouble.map(|(trouble, what)| (trouble.name(), trouble.tell(what)));
    let ready_said = match (wanted, ready, &told) {
        (0, 0, _) => {
            let message = "no copy runs, as it is to be; with `scaling`, a request that gateways hold starts one";
            Said::new("Ready", true, "AtRest", message.to_owned())
        }
        (_, 1.., _) => {
            let message = format!("{ready} of {wanted} copies are ready");
            Said::new("Ready", true, "Serving", message)
        }
        (_, 0, Some((reason, message))) => Said::new("Ready", false, reason, message.clone()),
        (_, 0, None) => Said::new("Ready", false, "Starting", "no copy is ready yet".to_owned()),
    };
    let gave_up = trouble.is_some_and(|(trouble, _)| *trouble == Trouble::NotReadyInTime);
    let progressing = if copies.is_moving() && !gave_up {
        let reason = match (ready, moving) {
            (0, _) => "Starting",
            (_, 0) => "RollingOut",
            (_, 1..) => "Moving",
        };
        let message = match moving {
            0 => format!("{updated} of {wanted} copies are of the newest spec, {ready} ready"),
            _ => format!("{moving} of {wanted} copies move from their nodes, {ready} ready"),
        };
        Said::new("Progressing", true, reason, message)
    } else if gave_up {
        Said::new("Progressing", false, Trouble::NotReadyInTime.name(), String::new())
    } else {
        Said::new("Progressing", false, "Stable", "all copies are as they are to be".to_owned())
    };
    vec![ready_said, progressing, degraded(told)]
}

/// What an update adds to the conditions: that it goes on, or that it was taken back.
pub(super) fn of_update(next: &NextStatus, said: &mut [Said]) {
    let NextStatus { revision, percent, message, .. } = next;
    let (reason, text) = match next.phase {
        UpdatePhase::Starting => ("Trying", format!("version {revision} comes up: {message}")),
        UpdatePhase::Trying => {
            ("Trying", format!("version {revision} has {percent} % of the requests: {message}"))
        }
        UpdatePhase::TakingOver => ("TakingOver", format!("version {revision}: {message}")),
        UpdatePhase::Paused => {
            ("Paused", format!("version {revision} stays at {percent} %: {message}"))
        }
        UpdatePhase::RolledBack => (
            "RolledBack",
            format!("version {revision} was taken back: {message}; change the Model to try again"),
        ),
    };
    let is_over = matches!(next.phase, UpdatePhase::Paused | UpdatePhase::RolledBack);
    for one in said {
        match one.kind {
            "Progressing" => *one = Said::new("Progressing", !is_over, reason, text.clone()),
            "Degraded" if is_over && !one.is_true => {
                *one = Said::new("Degraded", true, reason, text.clone());
            }
            _ => {}
        }
    }
}

/// Whether something is wrong.
pub(super) fn degraded(told: Option<(&str, String)>) -> Said {
    match told {
        Some((reason, message)) => Said::new("Degraded", true, reason, message),
        None => Said::new("Degraded", false, "Healthy", String::new()),
    }
}

/// The conditions as they are written, with the times that stay from those that are there.
pub(super) fn written(now_ms: u64, generation: u64, all: &[Said], there: &Value) -> Value {
    let there = there["conditions"].as_array();
    let before = |kind: &str| there.into_iter().flatten().find(|one| one["type"] == kind);
    let now = timestamp::text(now_ms / 1000);
    let one = |said: &Said| {
        let status = if said.is_true { "True" } else { "False" };
        let since = before(said.kind).filter(|one| one["status"] == status);
        let since = since.and_then(|one| one["lastTransitionTime"].as_str());
        json!({
            "type": said.kind,
            "status": status,
            "reason": said.reason,
            "message": said.message,
            "lastTransitionTime": since.unwrap_or(&now),
            "observedGeneration": generation,
        })
    };
    all.iter().map(one).collect()
}

/// How a status that is to be written differs from the one that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// Not at all.
    None,
    /// In numbers and words.
    Detail,
    /// In what is true, or why.
    Truth,
}

/// How much news there is in a status.
pub(super) fn news(there: &Value, status: &Value) -> News {
    let all = differences(there, status);
    let weighty = |path: &str| {
        path.ends_with("].status")
            || path.ends_with("].reason")
            || path.ends_with(']')
            || path.ends_with("conditions")
            || path.ends_with("observedGeneration")
    };
    match all.as_slice() {
        [] => News::None,
        all if all.iter().any(|one| weighty(&one.path)) => News::Truth,
        _ => News::Detail,
    }
}

/// What people are told when these conditions take the place of those.
pub(super) fn notes(about: &About, there: &Value, all: &[Said]) -> Vec<Action> {
    let before = there["conditions"].as_array();
    let note = |said: &Said| {
        let old = before.into_iter().flatten().find(|one| one["type"] == said.kind);
        let was_true = old.map(|one| one["status"] == "True");
        let same_reason = old.is_some_and(|one| one["reason"] == said.reason.as_str());
        let turned = was_true != Some(said.is_true);
        let (is_warning, reason) = match (said.kind, said.is_true) {
            ("Accepted", false) | ("Degraded", true) if turned || !same_reason => {
                (true, said.reason.as_str())
            }
            ("Accepted", true) if turned => (false, "Accepted"),
            ("Ready", true) if turned => (false, "Ready"),
            ("Ready", false) if was_true == Some(true) => (true, "NotReady"),
            ("Degraded", false) if was_true == Some(true) => (false, "Recovered"),
            ("AdaptersLoaded", false) if said.reason == FAILED && (turned || !same_reason) => {
                (true, FAILED)
            }
            _ => return None,
        };
        let message = match said.message.as_str() {
            "" => "nothing is wrong with it any longer".to_owned(),
            message => message.to_owned(),
        };
        let note = Note { is_warning, reason: reason.to_owned(), message };
        Some(Action::Tell { about: about.clone(), note })
    };
    // What degrades is told by its own condition; `Accepted` says it of what is refused.
    let refused = all.iter().any(|one| one.kind == "Accepted" && !one.is_true);
    let told = all.iter().filter(|one| !(refused && one.kind == "Degraded" && one.is_true));
    told.filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_change_with_the_status_alone() {
        let said = |is_true| [Said::new("Ready", is_true, "Why", "message".to_owned())];
        let first = json!({ "conditions": written(0, 1, &said(true), &Value::Null) });
        assert_eq!(first["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        let later = json!({ "conditions": written(60_000, 2, &said(true), &first) });
        assert_eq!(later["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        let turned = json!({ "conditions": written(60_000, 2, &said(false), &later) });
        assert_eq!(turned["conditions"][0]["lastTransitionTime"], "1970-01-01T00:01:00Z");
        assert_eq!(news(&first, &first), News::None);
        assert_eq!(news(&first, &turned), News::Truth);
        let mut words = first.clone();
        words["conditions"][0]["message"] = "other".into();
        assert_eq!(news(&first, &words), News::Detail);
    }

    #[test]
    fn copies_are_told_in_words() {
        let check = |copies: (u32, u32, u32, u32), expect: [(bool, &str); 3]| {
            let (wanted, there, ready, updated) = copies;
            let copies = Copies { wanted, there, ready, updated, moving: 0, is_seen: true };
            let all = of_copies(copies, None);
            let got: Vec<(bool, &str)> =
                all.iter().map(|one| (one.is_true, one.reason.as_str())).collect();
            assert_eq!(got, expect, "{copies:?}");
        };
        check((0, 0, 0, 0), [(true, "AtRest"), (false, "Stable"), (false, "Healthy")]);
        check((2, 2, 0, 2), [(false, "Starting"), (true, "Starting"), (false, "Healthy")]);
        check((2, 3, 2, 1), [(true, "Serving"), (true, "RollingOut"), (false, "Healthy")]);
        check((2, 2, 2, 2), [(true, "Serving"), (false, "Stable"), (false, "Healthy")]);
    }
}
