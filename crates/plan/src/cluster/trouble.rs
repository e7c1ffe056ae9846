//! What is wrong with a Model in a cluster, in words that say what to do: refusals of the API server,
//! pods that do not start, workloads that do not come along.
//!
//! Signs of pods come and go within seconds. A trouble is told when its sign has lasted, and is over when
//! the sign has been away for a while, so that nothing flaps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pod::PodOf;
use crate::render::kubernetes::{HELD, HELD_MOVING};

/// How a call failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failure {
    /// The HTTP status; 0 when no answer came.
    pub code: u16,
    /// The API server's word for it.
    pub reason: String,
    /// The API server's words.
    pub message: String,
    /// Seconds that it asks to wait.
    pub retry_after_s: Option<u32>,
}

/// What is wrong. The first is the most useful to be told of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Trouble {
    /// Something of that name belongs to somebody else.
    Conflict,
    /// The operator may not do it.
    Forbidden,
    /// A webhook or policy says no.
    RefusedByWebhook,
    /// A quota is used up.
    QuotaExceeded,
    /// A field that never changes would have to.
    Immutable,
    /// The kind is not served.
    KindAbsent,
    /// The API server cannot read it.
    RefusedAsInvalid,
    /// The weights could not be fetched.
    WeightsFailed,
    /// An image cannot be had.
    ImagePullFailed,
    /// A container cannot be made.
    ContainerFailed,
    /// A program had no memory left.
    OutOfMemory,
    /// A program ends again and again.
    CrashLooping,
    /// No node takes a pod.
    Unschedulable,
    /// Pods cannot be made.
    PodsRefused,
    /// Pods did not become ready.
    NotReadyInTime,
}

impl Trouble {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Forbidden => "Forbidden",
            Self::RefusedByWebhook => "RefusedByWebhook",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::Immutable => "Immutable",
            Self::KindAbsent => "KindAbsent",
            Self::RefusedAsInvalid => "RefusedAsInvalid",
            Self::WeightsFailed => "WeightsFailed",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ContainerFailed => "ContainerFailed",
            Self::OutOfMemory => "OutOfMemory",
            Self::CrashLooping => "CrashLooping",
            Self::Unschedulable => "Unschedulable",
            Self::PodsRefused => "PodsRefused",
            Self::NotReadyInTime => "NotReadyInTime",
        }
    }

    /// What to do, as the end of a sentence.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Conflict => "remove it or rename the Model",
            Self::Forbidden => {
                "give the operator's ServiceAccount that right, as `pilotage install` does"
            }
            Self::RefusedByWebhook => {
                "change the Model so that the policy is kept, or have it except Pilotage's objects"
            }
            Self::QuotaExceeded => "raise the quota, or ask for less",
            Self::Immutable => "take the change back, or delete the object, which is made anew",
            Self::KindAbsent => "install what brings the kind; it is looked for every minute",
            Self::RefusedAsInvalid => "change what the Model says there",
            Self::WeightsFailed => {
                "check `source`, `digest` and the Secret `pilotage-hub`; it is tried again when the Job is gone"
            }
            Self::ImagePullFailed => {
                "check `image` and `podTemplate.imagePullSecrets`, and that nodes reach the registry"
            }
            Self::ContainerFailed => "look at the pod's events",
            Self::OutOfMemory => "raise `podTemplate.memoryBytes`, or take a smaller context",
            Self::CrashLooping => "look at the pod's log",
            Self::Unschedulable => {
                "add nodes, free some, or change the Fleet, `parallelism` or `podTemplate`"
            }
            Self::PodsRefused => "look at the workload's events",
            Self::NotReadyInTime => "look at the pods' log",
        }
    }

    /// Milliseconds that its sign has to last.
    const fn shows_after_ms(self) -> u64 {
        match self {
            // Nodes that are being added take longer, and are told of meanwhile.
            Self::Unschedulable => 15_000,
            Self::ImagePullFailed | Self::ContainerFailed | Self::PodsRefused => 5_000,
            _ => 0,
        }
    }

    /// What is told of it.
    pub fn tell(self, what: &str) -> String {
        format!("{}; {}", what.trim_end_matches(['.', ' ']), self.remedy())
    }
}

/// Milliseconds that a sign has to be away before the trouble is over.
pub(super) const OVER_AFTER_MS: u64 = 15_000;

/// What is made of a failed call: none when trying again may help and nobody has to do anything.
pub fn trouble(failure: &Failure) -> Option<Trouble> {
    let says = |text: &str| failure.message.contains(text);
    Some(match failure.code {
        403 if says("exceeded quota") => Trouble::QuotaExceeded,
        403 if says("being terminated") => return None,
        _ if says("admission webhook") || says("ValidatingAdmissionPolicy") => {
            Trouble::RefusedByWebhook
        }
        401 | 403 => Trouble::Forbidden,
        404 => Trouble::KindAbsent,
        409 => Trouble::Conflict,
        422 if says("immutable") || says("forbidden: updates") => Trouble::Immutable,
        400 | 405..=408 | 410..=428 => Trouble::RefusedAsInvalid,
        _ => return None,
    })
}

/// What is made of what a workload's controller says.
pub(super) fn refused_pods(message: &str) -> Trouble {
    let failure = Failure { code: 403, message: message.to_owned(), ..Failure::default() };
    match trouble(&failure) {
        Some(Trouble::Forbidden) | None => Trouble::PodsRefused,
        Some(known) => known,
    }
}

/// What is wrong with a pod of whomever, if it says so.
pub fn pod_trouble(pod: &Value) -> Option<String> {
    Pod::read(pod).sign.map(|(_, what)| what)
}

/// A pod, as far as it says what is wrong.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Pod {
    /// Whether it takes requests.
    pub(super) is_ready: bool,
    /// Whether it serves until another one does in its place.
    pub(super) is_moving: bool,
    /// What is wrong with it, and with what.
    pub(super) sign: Option<(Trouble, String)>,
    /// What others need to know of it.
    pub(super) of: PodOf,
}

/// Restarts from which on a program that is not ready is taken to end again and again.
const RESTARTS_MIN: u64 = 3;

impl Pod {
    /// What matters of a pod.
    pub(super) fn read(pod: &Value) -> Self {
        let status = &pod["status"];
        let conditions = || status["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions().any(|one| one["type"] == "Ready" && one["status"] == "True");
        let is_leaving = pod["metadata"]["deletionTimestamp"].is_string();
        if is_leaving || is_ready {
            return Self {
                is_ready: is_ready && status["phase"] == "Running",
                is_moving: is_ready
                    && !is_leaving
                    && pod["metadata"]["labels"][HELD] == HELD_MOVING,
                ..Self::default()
            };
        }
        let unplaced = conditions()
            .find(|one| one["type"] == "PodScheduled" && one["reason"] == "Unschedulable");
        let sign = match unplaced {
            Some(one) => {
                let why = one["message"].as_str().unwrap_or_default();
                Some((Trouble::Unschedulable, format!("no node takes a copy: {why}")))
            }
            None => ["initContainerStatuses", "containerStatuses"]
                .into_iter()
                .flat_map(|list| status[list].as_array().into_iter().flatten())
                .find_map(sign),
        };
        Self { is_ready, sign, ..Self::default() }
    }
}

fn sign(container: &Value) -> Option<(Trouble, String)> {
    let waiting = &container["state"]["waiting"];
    let reason = waiting["reason"].as_str().unwrap_or_default();
    let image = container["image"].as_str().unwrap_or_default();
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            return Some((Trouble::ImagePullFailed, format!("the image `{image}` cannot be had")));
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let why = waiting["message"].as_str().unwrap_or(reason);
            return Some((Trouble::ContainerFailed, format!("a container cannot be made: {why}")));
        }
        _ => {}
    }
    let restarts = container["restartCount"].as_u64().unwrap_or_default();
    if reason != "CrashLoopBackOff" && (restarts < RESTARTS_MIN || container["ready"] == true) {
        return None;
    }
    let last = &container["lastState"]["terminated"];
    if last["reason"] == "OOMKilled" {
        return Some((Trouble::OutOfMemory, "a copy is ended for want of memory".to_owned()));
    }
    let code = last["exitCode"].as_i64();
    let how = code.map(|code| format!(", with exit status {code}")).unwrap_or_default();
    Some((Trouble::CrashLooping, format!("a copy ends again and again{how}")))
}

/// Signs over time: which of them are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Signs {
    all: BTreeMap<Trouble, Sign>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sign {
    first_ms: u64,
    last_ms: u64,
    is_there: bool,
    /// What was told first, so that numbers in it do not change what is told.
    what: String,
}

impl Signs {
    /// Takes note of what there is now; returns what is told, and when to look again.
    pub(super) fn look(
        &mut self,
        now_ms: u64,
        there: BTreeMap<Trouble, String>,
        all_well: bool,
    ) -> (Option<(Trouble, String)>, Option<u64>) {
        for sign in self.all.values_mut() {
            sign.is_there = false;
        }
        for (trouble, what) in there {
            let fresh = Sign { first_ms: now_ms, last_ms: now_ms, is_there: true, what };
            let sign = self.all.entry(trouble).or_insert(fresh);
            (sign.last_ms, sign.is_there) = (now_ms, true);
        }
        self.all.retain(|trouble, sign| {
            let shown = sign.last_ms.saturating_sub(sign.first_ms) >= trouble.shows_after_ms();
            let away_ms = now_ms.saturating_sub(sign.last_ms);
            sign.is_there || (shown && !all_well && away_ms < OVER_AFTER_MS)
        });
        let shows_at =
            |(trouble, sign): (&Trouble, &Sign)| sign.first_ms + trouble.shows_after_ms();
        let told = self.all.iter().find(|one| shows_at(*one) <= now_ms);
        let told = told.map(|(trouble, sign)| (*trouble, sign.what.clone()));
        let next = self.all.iter().filter_map(|one| match (shows_at(one), one.1.is_there) {
            (at, true) => Some(at).filter(|at| *at > now_ms),
            (_, false) => Some(one.1.last_ms + OVER_AFTER_MS),
        });
        (told, next.min())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_have_a_reason() {
        let check = |code: u16, message: &str, expect: Option<Trouble>| {
            let failure = Failure { code, message: message.to_owned(), ..Failure::default() };
            assert_eq!(trouble(&failure), expect, "{code} {message}");
        };
        check(403, "exceeded quota: small, requested: pods=1", Some(Trouble::QuotaExceeded));
        check(403, "User \"x\" cannot patch resource", Some(Trouble::Forbidden));
        check(
            403,
            "admission webhook \"a\" denied the request: no",
            Some(Trouble::RefusedByWebhook),
        );
        check(
            400,
            "admission webhook \"a\" denied the request: no",
            Some(Trouble::RefusedByWebhook),
        );
        check(403, "unable to create: namespace a is being terminated", None);
        check(422, "spec.selector: Invalid value: field is immutable", Some(Trouble::Immutable));
        check(422, "spec.x: Invalid value", Some(Trouble::RefusedAsInvalid));
        check(409, "conflict with \"kubectl\"", Some(Trouble::Conflict));
        check(404, "the server could not find the requested resource", Some(Trouble::KindAbsent));
        for transient in [0, 429, 500, 503, 504] {
            check(transient, "later", None);
        }
    }

    #[test]
    fn pods_say_what_is_wrong() {
        let check = |status: Value, expect: Option<Trouble>| {
            let pod = Pod::read(&json!({ "metadata": {}, "status": status }));
            assert_eq!(pod.sign.map(|(trouble, _)| trouble), expect, "{status}");
        };
        let waits = |reason: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
        check(json!({}), None);
        check(waits("ContainerCreating"), None);
        check(waits("ErrImagePull"), Some(Trouble::ImagePullFailed));
        check(waits("ImagePullBackOff"), Some(Trouble::ImagePullFailed));
        check(waits("CrashLoopBackOff"), Some(Trouble::CrashLooping));
        let killed = json!({"restartCount": 4, "ready": false, "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}});
        check(json!({"containerStatuses": [killed]}), Some(Trouble::OutOfMemory));
        check(json!({"initContainerStatuses": [{"restartCount": 9, "ready": true}]}), None);
        let full = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"});
        check(json!({"conditions": [full]}), Some(Trouble::Unschedulable));
    }

    #[test]
    fn signs_have_to_last_and_to_be_away() {
        let mut signs = Signs::default();
        let pull = || BTreeMap::from([(Trouble::ImagePullFailed, "the image".to_owned())]);
        let none = BTreeMap::new;
        assert_eq!(signs.look(0, pull(), false), (None, Some(5_000)));
        // Away before it was told: never heard of.
        assert_eq!(signs.look(1_000, none(), false), (None, None));
        assert_eq!(signs.look(2_000, pull(), false), (None, Some(7_000)));
        let told = Some((Trouble::ImagePullFailed, "the image".to_owned()));
        assert_eq!(signs.look(7_000, pull(), false), (told.clone(), None));
        assert_eq!(signs.look(9_000, none(), false), (told.clone(), Some(22_000)));
        assert_eq!(signs.look(12_000, pull(), false).0, told);
        assert_eq!(signs.look(13_000, none(), false).0, told);
        assert_eq!(signs.look(27_000, none(), false), (None, None));
        // When all copies are ready, nothing is wrong any longer.
        signs.look(30_000, pull(), false);
        signs.look(40_000, pull(), false);
        assert_eq!(signs.look(41_000, none(), true), (None, None));
    }
}
