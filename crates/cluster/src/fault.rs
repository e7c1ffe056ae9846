//! What goes wrong on purpose: calls that are refused, delayed or lost, and a server that is away.

use crate::api::failure::{Cause, Details, Failure, Named};

/// Which calls a fault meets. What is empty says nothing.
#[derive(Clone, Debug, Default)]
pub struct Meets {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`, `deletecollection`.
    pub verbs: Vec<&'static str>,
    /// A plural, with a subresource where that is meant: `pods`, `deployments/scale`.
    pub resource: String,
    /// A namespace.
    pub namespace: String,
    /// A name.
    pub name: String,
    /// A user.
    pub user: String,
    /// Only calls about no namespace: lists and watches of all of them, and what is in none.
    pub is_everywhere: bool,
}

/// What happens to calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 429, with seconds to wait.
    TooMany(u64),
    /// 500: the server's own fault.
    Internal,
    /// 503: the server is not ready.
    Unavailable,
    /// 504: the store did not answer in time.
    Timeout,
    /// 403: the user has no right to.
    Forbidden,
    /// 409: somebody wrote in between.
    Conflict,
    /// An admission webhook of this name says no, with these words.
    Denied(String, String),
    /// An admission webhook of this name is to be asked and does not answer.
    Silent(String),
    /// The namespace is being deleted.
    Ending,
    /// A quota of this name is used up.
    Quota(String),
    /// The connection breaks off, and nothing was done.
    Cut,
    /// What was asked is done, and the connection breaks off before the answer.
    Unheard,
    /// Answers come that many milliseconds late.
    Late(u64),
}

/// A fault, for as many calls as it lasts.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls.
    pub meets: Meets,
    /// What happens.
    pub trouble: Trouble,
    /// Calls that pass before.
    pub after: u32,
    /// Calls that it meets; of none, all.
    pub times: Option<u32>,
}

impl Fault {
    /// A fault of all calls that it meets.
    pub fn new(meets: Meets, trouble: Trouble) -> Self {
        Self { meets, trouble, after: 0, times: None }
    }

    /// Only that many times.
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only after that many calls.
    pub fn after(self, after: u32) -> Self {
        Self { after, ..self }
    }
}

/// All faults.
#[derive(Debug, Default)]
pub struct Faults {
    all: Vec<Fault>,
    away_until_ms: u64,
}

/// A call, as faults see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) verb: &'static str,
    pub(crate) group: &'a str,
    pub(crate) resource: String,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) user: &'a str,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    DoneUnheard,
    Refused(Failure),
    Cut,
}

impl Faults {
    /// Adds a fault; the first that meets a call counts.
    pub fn add(&mut self, fault: Fault) {
        self.all.push(fault);
    }

    /// Ends all faults.
    pub fn clear(&mut self) {
        self.all.clear();
        self.away_until_ms = 0;
    }

    /// Nobody is there until then.
    pub fn away_until_ms(&mut self, until_ms: u64) {
        self.away_until_ms = until_ms;
    }

    /// Whether nobody is there.
    pub fn is_away(&self, now_ms: u64) -> bool {
        now_ms < self.away_until_ms
    }

    /// Whether a user has no right to do that.
    pub(crate) fn forbids(&self, subject: &Subject<'_>) -> bool {
        let mut all = self.all.iter().filter(|fault| fault.trouble == Trouble::Forbidden);
        all.any(|fault| fault.meets.holds(subject))
    }

    pub(crate) fn outcome(&mut self, now_ms: u64, subject: &Subject<'_>) -> Outcome {
        if self.is_away(now_ms) {
            return Outcome::Cut;
        }
        for fault in &mut self.all {
            if matches!(fault.trouble, Trouble::Late(_)) || !fault.meets.holds(subject) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            match &mut fault.times {
                Some(0) => continue,
                Some(times) => *times -= 1,
                None => {}
            }
            return match &fault.trouble {
                Trouble::Cut => Outcome::Cut,
                Trouble::Unheard => Outcome::DoneUnheard,
                trouble => trouble.refusal(subject).map_or(Outcome::Done, Outcome::Refused),
            };
        }
        Outcome::Done
    }

    pub(crate) fn delay_ms(&self, subject: &Subject<'_>) -> u64 {
        let late = self.all.iter().filter(|fault| fault.meets.holds(subject));
        let late = late.map(|fault| if let Trouble::Late(ms) = fault.trouble { ms } else { 0 });
        late.max().unwrap_or_default()
    }
}

impl Meets {
    /// Calls of these verbs on a resource.
    pub fn calls(verbs: &[&'static str], resource: &str) -> Self {
        Self { verbs: verbs.to_vec(), resource: resource.into(), ..Self::default() }
    }

    fn holds(&self, subject: &Subject<'_>) -> bool {
        let says = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        (self.verbs.is_empty() || self.verbs.contains(&subject.verb))
            && says(&self.resource, &subject.resource)
            && says(&self.namespace, subject.namespace)
            && says(&self.name, subject.name)
            && says(&self.user, subject.user)
            && (!self.is_everywhere || subject.namespace.is_empty())
    }
}

impl Trouble {
    fn refusal(&self, subject: &Subject<'_>) -> Option<Failure> {
        let (plural, _) = subject.resource.split_once('/').unwrap_or((&subject.resource, ""));
        let named = Named { group: subject.group, plural, name: subject.name };
        Some(match self {
            Self::TooMany(seconds) => {
                let message =
                    "the server has received too many requests and has asked us to try again later";
                Failure::too_many(message, *seconds)
            }
            Self::Internal => {
                let message = "Internal error occurred: the store does not answer";
                let cause = Cause::of("", "", "the store does not answer".into());
                let mut failure = Failure::new(500, "InternalError", message);
                failure.details =
                    Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
                failure
            }
            Self::Unavailable => {
                let message = "the server is currently unable to handle the request";
                Failure::new(503, "ServiceUnavailable", message)
            }
            Self::Timeout => {
                let message = "Timeout: request did not complete within the allotted timeout";
                Failure::new(504, "Timeout", message)
            }
            Self::Forbidden => Failure::forbidden(named, &unauthorized(subject)),
            Self::Conflict => Failure::modified(named),
            Self::Denied(webhook, why) => {
                let message = format!("admission webhook {webhook:?} denied the request: {why}");
                Failure::new(403, "Forbidden", message)
            }
            Self::Silent(webhook) => {
                let message = format!(
                    "Internal error occurred: failed calling webhook {webhook:?}: failed to call webhook: Post \"https://{webhook}.svc:443/?timeout=10s\": dial tcp 10.96.0.9:443: connect: connection refused"
                );
                Failure::new(500, "InternalError", message)
            }
            Self::Ending => ending(named, subject.namespace),
            Self::Quota(quota) => {
                let why = format!(
                    "exceeded quota: {quota}, requested: count/{plural}=1, used: count/{plural}=1, limited: count/{plural}=1"
                );
                Failure::forbidden(named, &why)
            }
            Self::Cut | Self::Unheard | Self::Late(_) => return None,
        })
    }
}

/// What servers say to who makes something in a namespace that is being deleted.
pub(crate) fn ending(named: Named<'_>, namespace: &str) -> Failure {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut failure = Failure::forbidden(named, &why);
    let message = format!("namespace {namespace} is being terminated");
    let cause = Cause::of("NamespaceTerminating", "metadata.namespace", message);
    failure.details.get_or_insert_default().causes.push(cause);
    failure
}

/// What somebody may not do, as servers say it.
fn unauthorized(subject: &Subject<'_>) -> String {
    let user = if subject.user.is_empty() { "system:anonymous" } else { subject.user };
    let scope = if subject.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", subject.namespace)
    };
    // Applying is patching, to who gives rights.
    let verb = if subject.verb == "apply" { "patch" } else { subject.verb };
    let (resource, group) = (&subject.resource, subject.group);
    format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}")
}
