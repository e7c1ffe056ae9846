//! Does the queue grow? Percentiles of a growing queue describe how long the run was, not the server.
//!
//! Slopes of latency are found significant in stable queues, too, because neighbours resemble each
//! other. So what decides is the size of an effect: how far latency moved against its mean, over
//! means of batches; what arrived against what left; and how busy the slots are that answers are
//! made in, as far as answers under way show them.

use serde::{Deserialize, Serialize};

use crate::stats::flight::Occupancy;

/// Batches that the requests are cut into.
const BATCHES: usize = 10;

/// Requests that a batch has at least.
const BATCH_MIN: usize = 5;

/// Latency that moved by that many times its mean has no steady state …
const DRIFT_UNSTEADY: f64 = 1.0;

/// … and by so much, perhaps none.
const DRIFT_DOUBTFUL: f64 = 0.5;

/// How sure the movement must be, in standard errors over the means of the batches.
const SURE: f64 = 4.0;

/// Part of what arrived that did not leave: more is a growing queue.
const BACKLOG_UNSTEADY: f64 = 0.05;

/// Slots are all taken when so much of them is, on average.
pub const SLOTS_TAKEN: f64 = 0.9;

/// Answers under way vary less than this part of what chance would give, where slots limit them.
const DISPERSION_LIMITED: f64 = 0.3;

/// Requests that wait for a slot, against the slots: fewer are no queue.
const WAITING_MIN: f64 = 0.1;

/// Little's law holds to this part, where the run is long enough.
pub const LITTLE_MAX: f64 = 0.15;

/// What was seen in the part of the run that counts.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Whether requests come at their times (and not when others end).
    pub open: bool,
    /// Whether they come at random times.
    pub random: bool,
    /// Whether the rate changes on purpose.
    pub ramp: bool,
    /// Seconds that were looked at.
    pub seconds: f64,
    /// Requests due in them.
    pub due: u64,
    /// Requests that ended in them, however.
    pub ended: u64,
    /// Requests under way, from when they were due.
    pub in_flight: Occupancy,
    /// Answers under way, from their first token.
    pub decoding: Occupancy,
    /// Requests without a first token.
    pub waiting: Occupancy,
    /// How many answers the server makes at once, where that is known.
    pub slots: Option<f64>,
    /// Mean time from when a request was due to its end, in seconds.
    pub stay_mean: f64,
    /// Latencies in seconds, in the order in which the requests were due.
    pub latencies: Vec<f64>,
}

/// Whether there is a steady state.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Steady {
    /// Yes.
    Yes,
    /// It cannot be told, or it is about to end.
    Unclear,
    /// No: latencies depend on how long the run was.
    No,
    /// No, on purpose: the rate changes.
    Ramp,
}

/// The verdict and what it is based on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stability {
    /// Whether there is a steady state.
    pub steady: Steady,
    /// Why there is none, or why that is in doubt.
    pub reasons: Vec<String>,
    /// How far latency moved from begin to end, against its mean.
    pub drift: Option<f64>,
    /// How sure that is, in standard errors.
    pub drift_t: Option<f64>,
    /// The part of what was due that had not ended, beyond what was under way before.
    pub backlog: f64,
    /// How far requests under way are from rate times stay, against themselves.
    pub little_residual: Option<f64>,
    /// How many answers the server makes at once, known or seen.
    pub slots: Option<f64>,
    /// How much of them is taken on average.
    pub slot_utilisation: Option<f64>,
    /// The rate at which they would all be taken, in requests a second.
    pub capacity: Option<f64>,
    /// Requests under way on average, from when they were due.
    pub in_flight: f64,
    /// Answers under way on average.
    pub decoding: f64,
    /// Requests without a first token on average.
    pub waiting: f64,
}

impl Stability {
    /// Judges the evidence.
    pub fn judge(evidence: &Evidence) -> Self {
        let (drift, drift_t) = drift(&evidence.latencies).unzip();
        let rate = evidence.due as f64 / evidence.seconds.max(1e-9);
        let slots = slots(evidence);
        let taken = slots.map(|slots| evidence.decoding.mean / slots);
        let throughput = evidence.ended as f64 / evidence.seconds.max(1e-9);
        let mut verdict = Self {
            steady: Steady::Yes,
            reasons: Vec::new(),
            drift,
            drift_t,
            backlog: 1.0 - evidence.ended as f64 / evidence.due.max(1) as f64,
            little_residual: little(evidence, rate),
            slots,
            slot_utilisation: taken,
            capacity: taken.filter(|taken| *taken > 0.0).map(|taken| throughput / taken),
            in_flight: evidence.in_flight.mean,
            decoding: evidence.decoding.mean,
            waiting: evidence.waiting.mean,
        };
        if evidence.ramp {
            verdict.say(Steady::Ramp, "the rate changes on purpose".to_owned());
            return verdict;
        }
        verdict.weigh_drift();
        if evidence.open {
            verdict.weigh_backlog(evidence.due);
            verdict.weigh_slots();
            verdict.weigh_little(evidence);
        }
        verdict
    }

    fn weigh_drift(&mut self) {
        let (Some(drift), Some(sure)) = (self.drift, self.drift_t) else { return };
        let sentence = || {
            let change = drift * 100.0;
            format!(
                "latency grew by {change:.0} % of its mean from begin to end, and goes on growing"
            )
        };
        if drift >= DRIFT_UNSTEADY && sure >= SURE {
            self.say(Steady::No, sentence());
        } else if drift >= DRIFT_DOUBTFUL && sure >= SURE {
            self.say(Steady::Unclear, sentence());
        }
    }

    /// By chance alone, what is left over is of the order of the root of what came.
    fn weigh_backlog(&mut self, due: u64) {
        let chance = 3.0 / (due.max(1) as f64).sqrt();
        if self.backlog >= BACKLOG_UNSTEADY.max(chance) {
            let part = self.backlog * 100.0;
            let reason = format!("{part:.0} % of what was due had not ended: the queue grows");
            self.say(Steady::No, reason);
        }
    }

    fn weigh_slots(&mut self) {
        let Some((slots, taken)) = self.slots.zip(self.slot_utilisation) else { return };
        if taken >= SLOTS_TAKEN {
            let part = taken * 100.0;
            let reason = format!(
                "the server makes {slots:.0} answers at once, and {part:.0} % of that is taken: \
                 any more load grows the queue"
            );
            self.say(Steady::Unclear, reason);
        }
    }

    fn weigh_little(&mut self, evidence: &Evidence) {
        let long = evidence.seconds >= 10.0 * evidence.stay_mean;
        if let Some(residual) = self.little_residual.filter(|part| *part > LITTLE_MAX && long) {
            let part = residual * 100.0;
            let reason = format!("requests under way differ by {part:.0} % from rate times stay");
            self.say(Steady::Unclear, reason);
        }
    }

    fn say(&mut self, steady: Steady, reason: String) {
        let rank = |steady| match steady {
            Steady::Yes => 0,
            Steady::Unclear => 1,
            Steady::No => 2,
            Steady::Ramp => 3,
        };
        if rank(steady) > rank(self.steady) {
            self.steady = steady;
        }
        self.reasons.push(reason);
    }
}

/// The slots of the server: known, or what answers under way do not exceed while others wait. Chance
/// would let them vary as much as their mean; where they hardly do, something holds them.
fn slots(evidence: &Evidence) -> Option<f64> {
    if evidence.slots.is_some() {
        return evidence.slots;
    }
    let Occupancy { mean, variance, most } = evidence.decoding;
    let held = evidence.random && variance < DISPERSION_LIMITED * mean;
    (held && most >= 1.0 && evidence.waiting.mean >= WAITING_MIN * most).then_some(most)
}

/// By how much of itself the number under way differs from what Little's law makes of it.
fn little(evidence: &Evidence, rate: f64) -> Option<f64> {
    let under_way = evidence.in_flight.mean;
    let enough = evidence.due > 0 && under_way > 0.0 && evidence.stay_mean > 0.0;
    enough.then(|| (under_way - rate * evidence.stay_mean).abs() / under_way)
}

/// How far values moved, as a straight line through the means of batches says, against their mean;
/// and how many standard errors that is.
fn drift(values: &[f64]) -> Option<(f64, f64)> {
    let size = values.len() / BATCHES;
    if size < BATCH_MIN {
        return None;
    }
    let batches = values.chunks_exact(size).take(BATCHES);
    let means: Vec<f64> = batches.map(|batch| batch.iter().sum::<f64>() / size as f64).collect();
    let count = means.len() as f64;
    let mean = means.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let places = || means.iter().enumerate().map(|(at, value)| (at as f64 - middle, value - mean));
    let spread: f64 = places().map(|(at, _)| at * at).sum();
    let slope = places().map(|(at, value)| at * value).sum::<f64>() / spread;
    let rest: f64 = places().map(|(at, value)| (value - slope * at).powi(2)).sum();
    let error = (rest / (count - 2.0) / spread).sqrt();
    (mean > 0.0).then(|| (slope * count / mean, slope / error.max(f64::MIN_POSITIVE)))
}

#[cfg(test)]
mod tests {
    use pilotage_chance::Draws;

    use super::*;

    /// A server with so many slots, asked at random times: what a client sees of it.
    fn queue(seed: u64, rate: f64, slots: usize, seconds: f64) -> Evidence {
        let mut draws = Draws::of_part(seed, "queue");
        let mut free = vec![0.0_f64; slots];
        let (mut now, mut stays) = (0.0, Vec::new());
        loop {
            now += draws.exponential() / rate;
            if now >= seconds {
                break;
            }
            let slot = (0..slots).min_by(|one, other| free[*one].total_cmp(&free[*other])).unwrap();
            let first = now.max(free[slot]) + 0.02;
            free[slot] = first + 0.5 + draws.exponential() * 0.5;
            stays.push((now, first, free[slot]));
        }
        let nanos = |at: f64| (at * 1e9) as u64;
        let until = nanos(seconds);
        let over = |from: fn(&(f64, f64, f64)) -> (f64, f64)| {
            let stays = stays.iter().map(from).map(|(from, to)| (nanos(from), nanos(to)));
            Occupancy::of(stays, 0, until)
        };
        Evidence {
            open: true,
            random: true,
            seconds,
            due: stays.len() as u64,
            ended: stays.iter().filter(|stay| stay.2 < seconds).count() as u64,
            in_flight: over(|stay| (stay.0, stay.2)),
            decoding: over(|stay| (stay.1, stay.2)),
            waiting: over(|stay| (stay.0, stay.1)),
            stay_mean: stays.iter().map(|stay| stay.2 - stay.0).sum::<f64>() / stays.len() as f64,
            latencies: stays.iter().map(|stay| stay.1 - stay.0).collect(),
            ..Evidence::default()
        }
    }

    #[test]
    fn stable_queues_are_steady_and_growing_ones_are_not() {
        // Eight slots of one second each: eight a second is all they can do.
        let check = |rate: f64, seconds: f64, steady: Steady, least: usize| {
            let judged = (0..40).map(|seed| Stability::judge(&queue(seed, rate, 8, seconds)));
            let as_expected = judged.filter(|verdict| verdict.steady == steady).count();
            assert!(as_expected >= least, "{rate} for {seconds} s: {as_expected} of 40 {steady:?}");
        };
        check(2.0, 120.0, Steady::Yes, 40);
        check(4.0, 120.0, Steady::Yes, 40);
        check(5.6, 300.0, Steady::Yes, 38);
        check(9.6, 120.0, Steady::No, 38);
        check(12.0, 60.0, Steady::No, 40);
        check(16.0, 60.0, Steady::No, 40);
    }

    #[test]
    fn a_server_without_a_limit_is_not_said_to_have_one() {
        for seed in 0..20 {
            let verdict = Stability::judge(&queue(seed, 40.0, 2_000, 60.0));
            assert_eq!((verdict.steady, verdict.slots), (Steady::Yes, None), "{seed}");
        }
    }

    #[test]
    fn slots_are_found_where_they_limit() {
        for seed in 0..20 {
            let verdict = Stability::judge(&queue(seed, 10.0, 8, 120.0));
            assert_eq!(verdict.slots, Some(8.0), "{seed}");
            assert!(verdict.slot_utilisation.unwrap() > 0.95);
            let capacity = verdict.capacity.unwrap();
            assert!((capacity / 7.84 - 1.0).abs() < 0.1, "{capacity}");
        }
    }

    /// Published runs of one model on one card whose server made four answers at once: offered and
    /// measured requests a second, answers under way, and what four would have made.
    #[test]
    fn public_runs_are_judged_by_their_slots() {
        let check = |offered: f64, measured: f64, decoding: f64, capacity: f64, bound: bool| {
            let seconds = 300.0;
            let evidence = Evidence {
                open: true,
                seconds,
                due: (offered * seconds) as u64,
                ended: (measured * seconds) as u64,
                decoding: Occupancy { mean: decoding, ..Occupancy::default() },
                slots: Some(4.0),
                ..Evidence::default()
            };
            let verdict = Stability::judge(&evidence);
            assert_eq!(verdict.slot_utilisation.unwrap() >= SLOTS_TAKEN, bound, "{offered}");
            assert_eq!(verdict.steady != Steady::Yes, bound, "{offered}");
            assert!((verdict.capacity.unwrap() / capacity - 1.0).abs() < 0.08, "{offered}");
        };
        check(0.95, 0.95, 2.09, 1.78, false);
        check(2.0, 1.69, 3.81, 1.74, true);
        check(4.0, 1.70, 3.84, 1.72, true);
        check(8.0, 1.72, 3.86, 1.72, true);
        check(0.92, 0.87, 3.76, 0.92, true);
        check(1.0, 0.46, 3.88, 0.47, true);
        check(1.0, 0.24, 3.94, 0.24, true);
        check(0.92, 0.92, 2.73, 1.27, false);
    }

    #[test]
    fn nothing_seen_is_no_verdict_against_it() {
        let verdict = Stability::judge(&Evidence { open: true, ..Evidence::default() });
        assert_eq!((verdict.drift, verdict.little_residual), (None, None));
        let ramp = Evidence { open: true, ramp: true, ..Evidence::default() };
        assert_eq!(Stability::judge(&ramp).steady, Steady::Ramp);
    }
}
