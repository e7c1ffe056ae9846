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
    /// Its word for the cause, where it names one: `NamespaceTerminating`.
    pub cause: String,
    /// Seconds that it asks to wait.
    pub retry_after_s: Option<u32>,
}

impl Failure {
    /// Whether nothing can be made there since the namespace is being deleted, or is gone.
    pub fn is_of_ending_namespace(&self) -> bool {
        let is_gone = self.code == 404 && self.message.starts_with("namespaces \"");
        self.cause == "NamespaceTerminating" || is_gone
    }

    /// Whether it says something of the API server, and not of what was asked. A webhook that does not answer
    /// is somebody else's: others' writes go through.
    pub fn is_servers(&self) -> bool {
        matches!(self.code, 0 | 429 | 500..) && !self.is_of_silent_webhook()
    }

    /// Whether a webhook was to be asked and did not answer. API servers say so with 500.
    pub fn is_of_silent_webhook(&self) -> bool {
        let says = |text: &str| self.message.contains(text);
        says("failed calling webhook") || (says("conversion webhook for") && says("failed"))
    }
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
    /// A webhook does not answer.
    WebhookSilent,
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
    const ALL: [Self; 16] = [
        Self::Conflict,
        Self::Forbidden,
        Self::RefusedByWebhook,
        Self::WebhookSilent,
        Self::QuotaExceeded,
        Self::Immutable,
        Self::KindAbsent,
        Self::RefusedAsInvalid,
        Self::WeightsFailed,
        Self::ImagePullFailed,
        Self::ContainerFailed,
        Self::OutOfMemory,
        Self::CrashLooping,
        Self::Unschedulable,
        Self::PodsRefused,
        Self::NotReadyInTime,
    ];

    /// The one of that word.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.name() == name)
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Forbidden => "Forbidden",
            Self::RefusedByWebhook => "RefusedByWebhook",
            Self::WebhookSilent => "WebhookSilent",
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
            Self::WebhookSilent => {
                "see to the service that the webhook names, or have it except Pilotage's objects"
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
            // They start anew as everybody does.
            Self::WebhookSilent => 15_000,
            Self::ImagePullFailed | Self::ContainerFailed | Self::PodsRefused => 5_000,
            _ => 0,
        }
    }

    /// What is told of it.
    pub fn tell(self, what: &str) -> String {
        format!("{}; {}", what.trim_end_matches(['.', ' ']), self.remedy())
    }

    /// What was told so.
    fn told(self, message: &str) -> &str {
        let what = message.strip_suffix(self.remedy());
        what.and_then(|what| what.strip_suffix("; ")).unwrap_or(message)
    }
}

/// Milliseconds that a sign has to be away before the trouble is over.
pub(super) const OVER_AFTER_MS: u64 = 15_000;

/// What is made of a failed call: none when trying again may help and nobody has to do anything.
pub fn trouble(failure: &Failure) -> Option<Trouble> {
    let says = |text: &str| failure.message.contains(text);
    if failure.is_of_ending_namespace() {
        return None;
    }
    Some(match failure.code {
        403 if says("exceeded quota") => Trouble::QuotaExceeded,
        _ if failure.is_of_silent_webhook() => Trouble::WebhookSilent,
        _ if says("admission webhook") || is_policy(&failure.message) => Trouble::RefusedByWebhook,
        401 | 403 => Trouble::Forbidden,
        404 => Trouble::KindAbsent,
        409 => Trouble::Conflict,
        422 if says("immutable") || says("Forbidden: updates") => Trouble::Immutable,
        400 | 405..=408 | 410..=428 => Trouble::RefusedAsInvalid,
        _ => return None,
    })
}

/// Whether API servers say by that which of their own policies is not kept: ValidatingAdmissionPolicy, Pod
/// Security, LimitRange.
fn is_policy(message: &str) -> bool {
    let says = |text: &str| message.contains(text);
    let is_limit = says(" usage per ") || says("limit to request ratio per ");
    says("ValidatingAdmissionPolicy") || says("violates PodSecurity") || is_limit
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
    /// Whether it ended for good, and is left there to be looked at.
    pub(super) is_over: bool,
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
        if status["phase"] == "Failed" {
            return Self { sign: turned_away(status), is_over: true, ..Self::default() };
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

/// What a node says that did not take a pod it was given: its accelerators do not work, or something else has
/// them. Another pod comes at once, so that there may be many.
fn turned_away(status: &Value) -> Option<(Trouble, String)> {
    let reason = status["reason"].as_str().unwrap_or_default();
    let is_node = ["UnexpectedAdmissionError", "TopologyAffinityError"].contains(&reason)
        || reason.starts_with("OutOf");
    let why = status["message"].as_str().unwrap_or_default();
    is_node.then(|| (Trouble::PodsRefused, format!("a node refused a copy ({reason}): {why}")))
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
    /// What was told of a resource before this was known of it, by the message: it goes on until it has been
    /// away for as long as any sign.
    pub(super) fn recall(&mut self, now_ms: u64, reason: &str, message: &str) {
        let Some(trouble) = Trouble::named(reason) else { return };
        let first_ms = now_ms.saturating_sub(trouble.shows_after_ms());
        let what = trouble.told(message).to_owned();
        self.all.insert(trouble, Sign { first_ms, last_ms: now_ms, is_there: true, what });
    }

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
        check(403, "User \"x\" cannot create resource", Some(Trouble::Forbidden));
        let limit = "persistentvolumeclaims \"m\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi";
        check(403, limit, Some(Trouble::RefusedByWebhook));
        let silent = "Internal error occurred: failed calling webhook \"a.example\": failed to call webhook: Post \"https://a.example.svc:443/\": dial tcp: connect: connection refused";
        check(500, silent, Some(Trouble::WebhookSilent));
        check(404, "namespaces \"a\" not found", None);
        let sets = "StatefulSet.apps \"m\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas'";
        check(422, sets, Some(Trouble::Immutable));
        check(422, "spec.selector: Invalid value: field is immutable", Some(Trouble::Immutable));
        check(422, "spec.x: Invalid value", Some(Trouble::RefusedAsInvalid));
        check(409, "conflict with \"kubectl\"", Some(Trouble::Conflict));
        check(404, "the server could not find the requested resource", Some(Trouble::KindAbsent));
        for transient in [0, 429, 500, 503, 504] {
            check(transient, "later", None);
        }
    }

    #[test]
    fn who_is_away_is_known() {
        let check = |code: u16, message: &str, cause: &str, expect: (bool, bool)| {
            let (message, cause) = (message.to_owned(), cause.to_owned());
            let failure = Failure { code, message, cause, ..Failure::default() };
            assert_eq!((failure.is_servers(), failure.is_of_ending_namespace()), expect);
        };
        check(0, "", "", (true, false));
        check(500, "the store does not answer", "", (true, false));
        check(500, "failed calling webhook \"a\": timeout", "", (false, false));
        check(
            500,
            "conversion webhook for b.example/v1, Kind=B failed: refused",
            "",
            (false, false),
        );
        check(403, "being terminated", "NamespaceTerminating", (false, true));
        check(404, "namespaces \"a\" not found", "", (false, true));
        check(404, "pods \"a\" not found", "", (false, false));
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
        let refused = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError",
            "message": "Allocate failed due to no healthy devices present"});
        check(refused, Some(Trouble::PodsRefused));
        check(json!({"phase": "Failed", "reason": "Evicted"}), None);
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
        // Who comes new goes on with what was told, and does not tell it as new.
        let mut other = Signs::default();
        other.recall(100_000, "ImagePullFailed", &Trouble::ImagePullFailed.tell("the image"));
        assert_eq!(other.look(100_000, none(), false), (told.clone(), Some(115_000)));
        assert_eq!(other.look(101_000, pull(), false), (told, None));
        assert_eq!(other.look(116_000, none(), false), (None, None));
        other.recall(200_000, "RolledBack", "an update");
        assert_eq!(other, Signs::default());
        // When all copies are ready, nothing is wrong any longer.
        signs.look(30_000, pull(), false);
        signs.look(40_000, pull(), false);
        assert_eq!(signs.look(41_000, none(), true), (None, None));
    }
}
