//! Evidence, and what is derived of it once for all rules.

use super::attribution::{Attribution, Phase};
use super::capacity::{Bounds, Capacity};
use super::case::Miss;
use super::evidence::{Evidence, Replica, Role, Runtime, ratio};

/// What rules look at.
pub(super) struct Facts<'a> {
    /// What is known.
    pub(super) evidence: &'a Evidence,
    /// What replicas can do.
    pub(super) capacity: Capacity,
    /// Where time went.
    pub(super) attribution: Attribution,
    /// The same when all was well.
    before: Option<Box<Self>>,
}

impl<'a> Facts<'a> {
    /// Of this evidence.
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        // What a baseline was compared with is no concern of ours.
        let before = evidence.baseline.as_deref().map(|before| Box::new(Self::once(before, None)));
        Self::once(evidence, before)
    }

    fn once(evidence: &'a Evidence, before: Option<Box<Self>>) -> Self {
        Self {
            capacity: Capacity::of(&evidence.replicas, evidence.window_s()),
            attribution: Attribution::of(evidence),
            evidence,
            before,
        }
    }

    /// The replica as they are at a mean.
    pub(super) const fn typical(&self) -> &Bounds {
        &self.capacity.typical
    }

    /// What that was when all was well.
    pub(super) fn before(&self, of: impl Fn(&Self) -> Option<f64>) -> Option<f64> {
        self.before.as_deref().and_then(of)
    }

    /// By what factor it is more than when all was well.
    pub(super) fn growth(&self, of: impl Fn(&Self) -> Option<f64>) -> Option<f64> {
        ratio(of(self), self.before(of))
    }

    /// The sum over the replicas that know it; none where none does.
    pub(super) fn sum(&self, of: impl Fn(&Replica) -> Option<f64>) -> Option<f64> {
        let known: Vec<f64> = self.evidence.replicas.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    /// One sum by the other, over the replicas that know both: who knows only one of them would make a
    /// share of things that do not belong together.
    pub(super) fn ratio(&self, of: impl Fn(&Replica) -> (Option<f64>, Option<f64>)) -> Option<f64> {
        let known = self.evidence.replicas.iter().filter_map(|one| {
            let (part, whole) = of(one);
            part.zip(whole)
        });
        let (part, whole) = known.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        ratio(Some(part), Some(whole))
    }

    /// The sum over all replicas; none where one does not know it.
    pub(super) fn whole(&self, of: impl Fn(&Replica) -> Option<f64>) -> Option<f64> {
        let replicas = &self.evidence.replicas;
        if replicas.is_empty() { None } else { replicas.iter().map(of).sum() }
    }

    /// The largest, and whose it is.
    pub(super) fn most(&self, of: impl Fn(&Replica) -> Option<f64>) -> Option<(f64, &'a Replica)> {
        let known =
            self.evidence.replicas.iter().filter_map(|replica| Some((of(replica)?, replica)));
        known.reduce(|most, next| if next.0 > most.0 { next } else { most })
    }

    /// The replicas for which it is so. Where it is for none that is known, one that is not known
    /// could be it.
    pub(super) fn which(
        &self,
        measure: &'static str,
        is: impl Fn(&Replica) -> Option<bool>,
    ) -> Result<Vec<&'a Replica>, Miss> {
        let replicas = &self.evidence.replicas;
        let found: Vec<&Replica> = replicas.iter().filter(|one| is(one) == Some(true)).collect();
        if !found.is_empty() {
            Ok(found)
        } else if replicas.is_empty() || replicas.iter().any(|one| is(one).is_none()) {
            Err(Miss::Unknown(measure))
        } else {
            Err(Miss::Fine)
        }
    }

    /// The middle of what the other replicas with the same part of the work have; none where fewer
    /// than two know it.
    pub(super) fn others(
        &self,
        than: &Replica,
        of: impl Fn(&Replica) -> Option<f64>,
    ) -> Option<f64> {
        let all = self.evidence.replicas.iter();
        let others = all.filter(|one| one.name != than.name && one.role == than.role);
        let known: Vec<f64> = others.filter_map(of).collect();
        if known.len() < 2 { None } else { median(known) }
    }

    /// Whether a second kind of replica does part of the work.
    pub(super) fn is_divided(&self) -> bool {
        self.evidence.replicas.iter().any(|replica| replica.role != Role::Both)
    }

    /// Whether somebody else runs all replicas, as manifests say; false where nobody says.
    pub(super) fn is_elsewhere(&self) -> bool {
        let all = &self.evidence.replicas;
        !all.is_empty() && all.iter().all(|replica| replica.config.is_elsewhere == Some(true))
    }

    /// The server that replicas are; none where it is unknown or they differ.
    pub(super) fn runtime(&self) -> Option<Runtime> {
        let first = self.evidence.replicas.first()?.runtime?;
        self.evidence.replicas.iter().all(|replica| replica.runtime == Some(first)).then_some(first)
    }

    /// Requests that wait, in replicas and for a turn in the gateway, all together.
    pub(super) fn waiting(&self) -> Option<f64> {
        let known =
            [self.sum(|replica| replica.gauges.waiting), self.evidence.gateway.traffic.queued];
        known.into_iter().flatten().reduce(|sum, next| sum + next)
    }

    /// Requests that ended, as the gateway counts or else the replicas.
    pub(super) fn requests(&self) -> Option<f64> {
        self.evidence
            .gateway
            .traffic
            .requests
            .or_else(|| self.sum(|replica| replica.deltas.requests))
    }

    /// Requests for each minute; none where the window is unknown.
    pub(super) fn per_minute(&self) -> Option<f64> {
        ratio(self.requests(), self.evidence.window_s()).map(|rate| (rate * 60.0).ceil())
    }

    /// Share of the requests to which that happened.
    pub(super) fn of_requests(&self, count: Option<f64>) -> Option<f64> {
        ratio(count, self.requests())
    }

    /// Computing prompts, as a share of computing.
    pub(super) fn prefill_share(&self) -> Option<f64> {
        let prompts = self.attribution.each_s(Phase::Prefill)?;
        ratio(Some(prompts), Some(prompts + self.attribution.each_s(Phase::Decode)?))
    }

    /// Mean over all accelerators that know it.
    pub(super) fn gpus(&self, of: impl Fn(&super::evidence::Gpu) -> Option<f64>) -> Option<f64> {
        let known: Vec<f64> = self
            .evidence
            .replicas
            .iter()
            .flat_map(|replica| &replica.gpus)
            .filter_map(of)
            .collect();
        ratio(Some(known.iter().sum()), Some(known.len() as f64))
    }
}

/// The one in the middle; of an even number the mean of the two.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::healthy;
    use super::*;

    #[test]
    fn sums_leave_out_who_does_not_know() {
        let mut evidence = healthy();
        evidence.replicas[0].gauges.running = None;
        let expect: f64 = evidence.replicas.iter().filter_map(|one| one.gauges.running).sum();
        assert_eq!(Facts::of(&evidence).sum(|replica| replica.gauges.running), Some(expect));
        for replica in &mut evidence.replicas {
            replica.gauges.running = None;
        }
        let facts = Facts::of(&evidence);
        assert_eq!(facts.sum(|replica| replica.gauges.running), None);
        assert!(facts.most(|replica| replica.gauges.running).is_none());
    }

    #[test]
    fn growth_needs_a_before() {
        let evidence = healthy();
        assert_eq!(Facts::of(&evidence).growth(Facts::requests), Some(1.0));
        let alone = Evidence { baseline: None, ..evidence };
        assert_eq!(Facts::of(&alone).growth(Facts::requests), None);
    }

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
