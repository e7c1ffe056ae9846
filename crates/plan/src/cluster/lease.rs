//! Who leads: one operator acts, others look on. It is settled by a Lease, as Kubernetes' own parts do it.
//!
//! Contract: no clock, and none is compared with another machine's: a lease is over when it did not change
//! for as long as it says, by the clock of who looks. Who leads stops before anybody else may begin.

use serde_json::{Value, json};

use crate::timestamp;

/// How long a lease lasts that nobody renews.
pub const LEASE_MS: u64 = 15_000;

/// How long a leader that cannot renew goes on.
pub const RENEW_MS: u64 = 10_000;

/// How often it is looked at.
pub const RETRY_MS: u64 = 2_000;

/// The name of the Lease.
pub const NAME: &str = "pilotage-operator";

/// One that would lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    seen: Option<Seen>,
    /// When the lease was last written by this one.
    renewed_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Seen {
    version: String,
    holder: String,
    lasts_ms: u64,
    changes: u64,
    acquired: Value,
    since_ms: u64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until then.
    Wait(u64),
    /// Make the Lease of this form.
    Create(Value),
    /// Replace the Lease by this one, which has the version that is replaced.
    Replace(Value),
}

impl Candidate {
    /// One of that name, unlike all others'.
    pub const fn new(name: String) -> Self {
        Self { name, seen: None, renewed_ms: None }
    }

    /// The Lease is this, or there is none.
    pub fn seen(&mut self, now_ms: u64, lease: Option<&Value>) {
        let Some(lease) = lease else {
            self.seen = None;
            return;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&lease["metadata"]["resourceVersion"]);
        if self.seen.as_ref().is_some_and(|seen| seen.version == version) {
            return;
        }
        let spec = &lease["spec"];
        self.seen = Some(Seen {
            version,
            holder: text(&spec["holderIdentity"]),
            lasts_ms: spec["leaseDurationSeconds"]
                .as_u64()
                .unwrap_or_default()
                .saturating_mul(1000),
            changes: spec["leaseTransitions"].as_u64().unwrap_or_default(),
            acquired: spec["acquireTime"].clone(),
            since_ms: now_ms,
        });
    }

    /// A write that began then was done, and this is the Lease now.
    pub fn written(&mut self, began_ms: u64, lease: &Value) {
        self.seen(began_ms, Some(lease));
        let mine = self.seen.as_ref().is_some_and(|seen| seen.holder == self.name);
        self.renewed_ms = mine.then_some(began_ms);
    }

    /// Whether this one leads.
    pub fn leads(&self, now_ms: u64) -> bool {
        self.leads_until_ms().is_some_and(|until_ms| now_ms < until_ms)
    }

    /// Until when it leads, or did, unless it renews.
    pub fn leads_until_ms(&self) -> Option<u64> {
        let holds = self.seen.as_ref().is_some_and(|seen| seen.holder == self.name);
        self.renewed_ms.filter(|_| holds).map(|at| at.saturating_add(RENEW_MS))
    }

    /// What to do next, with the time of day in milliseconds since 1970 for others to read.
    pub fn next(&self, now_ms: u64, namespace: &str, wall_ms: u64) -> Step {
        let Some(seen) = &self.seen else {
            return Step::Create(self.lease(namespace, wall_ms, None));
        };
        if seen.holder == self.name {
            let due_ms = self.renewed_ms.map_or(0, |at| at + RETRY_MS);
            return match due_ms > now_ms {
                true => Step::Wait(due_ms),
                false => Step::Replace(self.lease(namespace, wall_ms, Some(seen))),
            };
        }
        let free_ms = seen.since_ms.saturating_add(seen.lasts_ms);
        if seen.holder.is_empty() || free_ms <= now_ms {
            return Step::Replace(self.lease(namespace, wall_ms, Some(seen)));
        }
        Step::Wait(free_ms.min(now_ms + RETRY_MS))
    }

    /// The Lease that gives it back, where this one holds it.
    pub fn release(&self, now_ms: u64, namespace: &str, wall_ms: u64) -> Option<Value> {
        let seen = self.seen.as_ref().filter(|_| self.leads(now_ms))?;
        let mut lease = self.lease(namespace, wall_ms, Some(seen));
        lease["spec"]["holderIdentity"] = "".into();
        lease["spec"]["leaseDurationSeconds"] = 1.into();
        Some(lease)
    }

    fn lease(&self, namespace: &str, wall_ms: u64, seen: Option<&Seen>) -> Value {
        let second = timestamp::text(wall_ms / 1000);
        let now = format!("{}.{:03}000Z", second.trim_end_matches('Z'), wall_ms % 1000);
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": NAME, "namespace": namespace },
            "spec": {
                "holderIdentity": self.name,
                "leaseDurationSeconds": LEASE_MS / 1000,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        });
        if let Some(seen) = seen {
            lease["metadata"]["resourceVersion"] = seen.version.as_str().into();
            let goes_on = seen.holder == self.name;
            lease["spec"]["leaseTransitions"] = (seen.changes + u64::from(!goes_on)).into();
            if goes_on && seen.acquired.is_string() {
                lease["spec"]["acquireTime"] = seen.acquired.clone();
            }
        }
        lease
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A Lease on an API server: replaced only by who knows its version.
    #[derive(Default)]
    struct Server {
        lease: Option<Value>,
        version: u64,
    }

    impl Server {
        fn carry_out(&mut self, now_ms: u64, one: &mut Candidate) {
            one.seen(now_ms, self.lease.as_ref());
            let lease = match one.next(now_ms, "pilotage", now_ms) {
                Step::Wait(until) => {
                    assert!(until > now_ms);
                    return;
                }
                Step::Create(lease) if self.lease.is_none() => lease,
                Step::Replace(lease) => {
                    let version = lease["metadata"]["resourceVersion"].as_str().unwrap();
                    if version != self.version.to_string() {
                        return;
                    }
                    lease
                }
                Step::Create(_) => return,
            };
            self.write(lease);
            one.written(now_ms, self.lease.as_ref().unwrap());
        }

        fn write(&mut self, mut lease: Value) {
            self.version += 1;
            lease["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.lease = Some(lease);
        }
    }

    #[test]
    fn a_dead_leader_is_followed() {
        let mut server = Server::default();
        let (mut a, mut b) = (Candidate::new("a".into()), Candidate::new("b".into()));
        server.carry_out(0, &mut a);
        server.carry_out(0, &mut b);
        assert!(a.leads(0) && !b.leads(0));
        server.carry_out(2_000, &mut a);
        server.carry_out(2_000, &mut b);
        // From here on the first one cannot reach the server.
        assert!(a.leads(11_999) && !a.leads(12_000));
        server.carry_out(16_000, &mut b);
        assert!(!b.leads(16_000));
        server.carry_out(17_000, &mut b);
        assert!(b.leads(17_000));
        assert_eq!(server.lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
    }

    #[test]
    fn a_lease_given_back_is_taken_at_once() {
        let mut server = Server::default();
        let (mut a, mut b) = (Candidate::new("a".into()), Candidate::new("b".into()));
        server.carry_out(0, &mut a);
        server.carry_out(0, &mut b);
        server.write(a.release(1_000, "pilotage", 1_000).unwrap());
        server.carry_out(1_000, &mut b);
        assert!(b.leads(1_000));
    }

    proptest! {
        #[test]
        fn two_never_lead(turns in prop::collection::vec((0..3usize, 0..9_000u64), 1..200)) {
            let mut server = Server::default();
            let mut all: Vec<Candidate> =
                ["a", "b", "c"].map(|name| Candidate::new(name.to_owned())).into_iter().collect();
            let mut now_ms = 0;
            for (who, later_ms) in turns {
                now_ms += later_ms;
                server.carry_out(now_ms, &mut all[who]);
                let leaders = all.iter().filter(|one| one.leads(now_ms)).count();
                prop_assert!(leaders <= 1, "{leaders} lead");
            }
        }
    }
}
