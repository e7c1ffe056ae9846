//! What cannot be: numbers that are none, less than nothing, or beyond all measure. Whoever counted
//! wrongly has said nothing, and what is not known takes no replica away.
//!
//! Contract: what comes out of here is finite and not negative, so that whatever is computed from it is,
//! and a wrong number is gone with the signal that had it instead of staying in averages.

use super::signals::{Misses, ReplicaSeen, Running, Seen, Signals, Speed, Waiting, Work};
use crate::Span;

/// The largest number of requests or tokens that is believed.
const AMOUNT_MAX: f64 = 1e12;

/// The smallest: what is less is nothing, and means by so few would be beyond all measure.
const AMOUNT_MIN: f64 = 1e-9;

/// The most seconds for a token or a step that are believed.
const SECONDS_MAX: f64 = 3600.0;

/// The longest start that is believed: whoever plans for more than that plans for nothing.
const START_MAX: Span = Span::from_secs(6 * 3600);

impl Signals {
    /// What of it can be.
    pub(super) fn sound(self) -> Self {
        Self {
            arrivals: kept(self.arrivals, |bands| every(bands, work)),
            waiting: kept(self.waiting, |bands| every(bands, waiting)),
            running: kept(self.running, running),
            misses: kept(self.misses, |bands| every(bands, misses)),
            speed: kept(self.speed, speed),
            replicas: self.replicas.map(|mut seen| {
                seen.value.values_mut().for_each(replica);
                seen
            }),
            start: kept(self.start, |span| Some(span.min(START_MAX))),
            wake: kept(self.wake, |span| Some(span.min(START_MAX))),
        }
    }
}

fn kept<T>(seen: Option<Seen<T>>, sound: impl FnOnce(T) -> Option<T>) -> Option<Seen<T>> {
    let Seen { at, whole, value } = seen?;
    Some(Seen { at, whole, value: sound(value)? })
}

fn every<T: Copy, const N: usize>(all: [T; N], sound: fn(T) -> Option<T>) -> Option<[T; N]> {
    let mut clean = all;
    for one in &mut clean {
        *one = sound(*one)?;
    }
    Some(clean)
}

fn amount(value: f64) -> Option<f64> {
    let is_some = value >= AMOUNT_MIN;
    (value.is_finite() && value >= 0.0).then(|| if is_some { value.min(AMOUNT_MAX) } else { 0.0 })
}

fn work(work: Work) -> Option<Work> {
    let Work { requests, prompt, answer } = work;
    Some(Work { requests: amount(requests)?, prompt: amount(prompt)?, answer: amount(answer)? })
}

fn waiting(one: Waiting) -> Option<Waiting> {
    Some(Waiting { work: work(one.work)?, oldest: one.oldest })
}

fn running(one: Running) -> Option<Running> {
    Some(Running { requests: amount(one.requests)?, tokens: amount(one.tokens)? })
}

fn misses(one: Misses) -> Option<Misses> {
    let Misses { answers, late, slow } = one;
    Some(Misses { answers: amount(answers)?, late: amount(late)?, slow: amount(slow)? })
}

fn speed(speed: Speed) -> Option<Speed> {
    let seconds = [speed.token_seconds, speed.step_seconds, speed.sequence_seconds];
    let can_be = seconds.iter().all(|one| (0.0..=SECONDS_MAX).contains(one));
    // Who takes no time at all was not measured.
    let takes = seconds.iter().any(|one| *one > 0.0);
    (can_be && takes && speed.sequences_max > 0).then_some(speed)
}

fn replica(one: &mut ReplicaSeen) {
    one.kv_used = kept(one.kv_used, |part| amount(part).map(|part| part.min(1.0)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    #[test]
    fn what_cannot_be_was_not_said() {
        let check = |requests: f64, expect: Option<f64>| {
            let mut bands = [Work::default(); 4];
            bands[2].requests = requests;
            let arrivals = Some(Seen::new(Time::ZERO, bands));
            let sound = Signals { arrivals, ..Signals::default() }.sound();
            assert_eq!(sound.arrivals.map(|seen| seen.value[2].requests), expect, "{requests}");
        };
        check(3.0, Some(3.0));
        check(f64::MAX, Some(AMOUNT_MAX));
        check(f64::MIN_POSITIVE, Some(0.0));
        check(f64::NAN, None);
        check(f64::INFINITY, None);
        check(-1.0, None);
    }

    #[test]
    fn speeds_that_cannot_be_are_not_known() {
        let check = |step: f64, sequences_max: u32, expect: bool| {
            let speed = Speed {
                token_seconds: 0.0,
                step_seconds: step,
                sequence_seconds: 0.0,
                sequences_max,
                kv_tokens: None,
            };
            let speed = Some(Seen::new(Time::ZERO, speed));
            let sound = Signals { speed, ..Signals::default() }.sound();
            assert_eq!(sound.speed.is_some(), expect, "{step}");
        };
        check(0.01, 8, true);
        check(0.0, 8, false);
        check(0.01, 0, false);
        check(f64::NAN, 8, false);
        check(1e9, 8, false);
    }
}
