//! Where the seconds of all requests went. Seconds add up and percentiles do not: a phase that is a
//! tenth of them cannot be the reason that everything is slow, whatever its 99th percentile.

use serde::Serialize;

use super::evidence::{Evidence, Lasted, Replica};

/// What a request does with its time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being read and checked by the gateway.
    Read,
    /// Waiting in the gateway.
    Queue,
    /// Attempts that failed.
    Retry,
    /// On the way to a replica: connecting, sending.
    Connect,
    /// Waiting in the replica.
    EngineQueue,
    /// Its prompt being computed.
    Prefill,
    /// Its answer being computed.
    Decode,
    /// The client reading the end.
    Flush,
    /// What no phase accounts for.
    Other,
}

impl Phase {
    /// What it is called in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "reading requests",
            Self::Queue => "waiting in the gateway",
            Self::Retry => "attempts that failed",
            Self::Connect => "reaching replicas",
            Self::EngineQueue => "waiting in replicas",
            Self::Prefill => "computing prompts",
            Self::Decode => "computing answers",
            Self::Flush => "clients reading",
            Self::Other => "unaccounted",
        }
    }
}

/// A phase's part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Which phase.
    pub phase: Phase,
    /// Seconds of all requests together.
    pub seconds: f64,
    /// Their share of all seconds, 0 to 1.
    pub share: f64,
    /// Seconds of one request, at a mean.
    pub each_s: f64,
    /// By how many seconds that is more than when all was well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_s: Option<f64>,
}

/// Where time went, largest part first; where it is known how it was when all was well, the part that
/// grew most first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Attribution {
    /// The requests that it is about.
    pub requests: f64,
    /// The parts.
    pub parts: Vec<Part>,
}

impl Attribution {
    /// Of everything in the evidence.
    pub fn of(evidence: &Evidence) -> Self {
        let mut now = Self::once(evidence);
        let before = evidence.baseline.as_deref().map(Self::once).unwrap_or_default();
        if !before.parts.is_empty() {
            for part in &mut now.parts {
                part.more_s = Some(part.each_s - before.each_s(part.phase).unwrap_or(0.0));
            }
        }
        let grown = |part: &Part| part.more_s.unwrap_or(part.seconds);
        now.parts.sort_by(|left, right| {
            grown(right).total_cmp(&grown(left)).then(left.phase.cmp(&right.phase))
        });
        now
    }

    /// The share of these phases together; none where no second is accounted for.
    pub fn share(&self, phases: &[Phase]) -> Option<f64> {
        (!self.parts.is_empty()).then(|| self.over(phases, |part| part.share))
    }

    /// The seconds of these phases together; none where no second is accounted for.
    pub fn seconds(&self, phases: &[Phase]) -> Option<f64> {
        (!self.parts.is_empty()).then(|| self.over(phases, |part| part.seconds))
    }

    /// Seconds of one request in a phase, at a mean.
    pub fn each_s(&self, phase: Phase) -> Option<f64> {
        self.parts.iter().find(|part| part.phase == phase).map(|part| part.each_s)
    }

    fn over(&self, phases: &[Phase], of: impl Fn(&Part) -> f64) -> f64 {
        self.parts.iter().filter(|part| phases.contains(&part.phase)).map(of).sum()
    }

    fn once(evidence: &Evidence) -> Self {
        let (parts, requests) = gateway(evidence).unwrap_or_else(|| replicas(evidence));
        let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        if total <= 0.0 || requests <= 0.0 {
            return Self::default();
        }
        let part = |(phase, seconds): &(Phase, f64)| Part {
            phase: *phase,
            seconds: *seconds,
            share: seconds / total,
            each_s: seconds / requests,
            more_s: None,
        };
        Self { requests, parts: parts.iter().map(part).collect() }
    }
}

/// As the gateway saw it, with what replicas say about the time that they had the requests.
fn gateway(evidence: &Evidence) -> Option<(Vec<(Phase, f64)>, f64)> {
    let phases = &evidence.gateway.phases;
    let requests = evidence.gateway.traffic.requests?;
    let known = phases.sum()?;
    let mut parts: Vec<(Phase, f64)> = Vec::new();
    let mut put =
        |phase: Phase, seconds: Option<f64>| parts.extend(seconds.map(|seconds| (phase, seconds)));
    put(Phase::Read, phases.read);
    put(Phase::Queue, phases.queue);
    put(Phase::Retry, phases.retry);
    put(Phase::Decode, phases.decode);
    put(Phase::Flush, phases.flush);
    put(Phase::Other, phases.total.map(|total| (total - known).max(0.0)));
    let engines = &evidence.replicas;
    let inside = sum(engines, |replica| &replica.times.queue);
    // Whether a server begins to answer before its queue or after it differs, so what it says of
    // itself divides the time up to the first token, as far as that goes.
    let mut left = phases.connect.unwrap_or(0.0) + phases.prefill.unwrap_or(0.0);
    if let Some(queue) = inside {
        put(Phase::EngineQueue, Some(queue.min(left)));
        left -= queue.min(left);
    }
    let own = sum(engines, |replica| &replica.times.prefill).or(phases.prefill);
    let prefill = own.unwrap_or(left).min(left);
    put(Phase::Prefill, Some(prefill));
    put(Phase::Connect, Some(left - prefill));
    Some((parts, requests))
}

/// As replicas saw it, where there is no gateway.
fn replicas(evidence: &Evidence) -> (Vec<(Phase, f64)>, f64) {
    let engines = &evidence.replicas;
    // Who knows only one of the two would shift their proportion.
    let is_both =
        |one: &Replica| one.times.prefill.seconds.is_some() == one.times.decode.seconds.is_some();
    let computing: Vec<Replica> = engines.iter().filter(|one| is_both(one)).cloned().collect();
    let parts = [
        (Phase::EngineQueue, sum(engines, |replica| &replica.times.queue)),
        (Phase::Prefill, sum(&computing, |replica| &replica.times.prefill)),
        (Phase::Decode, sum(&computing, |replica| &replica.times.decode)),
    ];
    let parts = parts.into_iter().filter_map(|(phase, seconds)| Some((phase, seconds?))).collect();
    (parts, engines.iter().filter_map(|replica| replica.deltas.requests).sum())
}

fn sum(replicas: &[Replica], of: impl Fn(&Replica) -> &Lasted) -> Option<f64> {
    let known: Vec<f64> = replicas.iter().filter_map(|replica| of(replica).seconds).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::healthy;
    use super::*;

    #[test]
    fn parts_add_up_to_the_total() {
        let evidence = healthy();
        let attribution = Attribution::of(&evidence);
        let sum: f64 = attribution.parts.iter().map(|part| part.seconds).sum();
        let total = evidence.gateway.phases.total.unwrap();
        assert!((sum - total).abs() < total * 1e-9, "{sum} {total}");
        let shares: f64 = attribution.parts.iter().map(|part| part.share).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_grew_comes_first() {
        let mut evidence = healthy();
        assert_eq!(
            Attribution::of(&Evidence { baseline: None, ..evidence.clone() }).parts[0].phase,
            Phase::Decode
        );
        let phases = &mut evidence.gateway.phases;
        phases.queue = phases.queue.map(|queue| queue + 500.0);
        phases.total = phases.total.map(|total| total + 500.0);
        let attribution = Attribution::of(&evidence);
        assert_eq!(attribution.parts[0].phase, Phase::Queue);
        assert!(attribution.parts[0].more_s.unwrap() > 0.0);
    }

    #[test]
    fn replicas_alone_tell_their_part() {
        let mut evidence = healthy();
        evidence.gateway = Default::default();
        let attribution = Attribution::of(&evidence);
        assert!(attribution.share(&[Phase::Decode]).unwrap() > 0.8);
        assert_eq!(attribution.each_s(Phase::Read), None);
        assert_eq!(Attribution::of(&Evidence::default()), Attribution::default());
        assert_eq!(Attribution::default().share(&[Phase::Decode]), None);
    }
}
