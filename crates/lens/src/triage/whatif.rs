//! What would happen if one knob were turned: which limit it lifts, by how much, and which one comes
//! next. A model, not a measurement; it says so wherever it is shown.

use serde::Serialize;

use super::capacity::{Bounds, Limit};
use super::evidence::ratio;

/// Most places that are proposed: as many as a manifest allows (`spec.parallel`), and as many as
/// vLLM has where nothing is said.
const SLOTS_MAX: f64 = 256.0;

/// Share of the KV cache that proposals leave free, so that sequences which happen to be longer do
/// not put each other out.
const KV_SPARE: f64 = 0.1;

/// Doubling the places is worth it while it gives at least this much more.
const GAIN_MIN: f64 = 1.2;

/// And while steps do not take this many times as long as they do.
const STEP_GROWTH_MAX: f64 = 1.5;

/// A server cannot end more requests than its places allow: from so much more on, what a prompt is said to take is
/// too much, as where every request of a benchmark waited.
const RATE_MAX: f64 = 1.15;

/// Where nothing says how many sequences the KV cache holds: enough to see whether steps get slower.
const BLIND_FACTOR: f64 = 4.0;

/// A knob turned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// What it is set to now.
    pub from: f64,
    /// What it would be set to.
    pub to: f64,
    /// Requests for each second, by those now; none where there is no saying.
    pub gain: Option<f64>,
    /// Time for a step then.
    pub step_s: Option<f64>,
    /// What limits then.
    pub next: Option<Limit>,
}

/// More places in the batch. A request keeps the accelerator busy for its prompt and for its part of
/// each step: t(B) = p + n · step(B) / B, where steps grow by the cache that further sequences have
/// read. Capacity is 1 / t.
pub fn more_slots(bounds: &Bounds) -> Option<WhatIf> {
    let slots = bounds.slots.filter(|slots| *slots >= 1.0)?;
    let room = bounds.kv_sequences.map(|all| all * (1.0 - KV_SPARE));
    let Some((now, room)) = busy(bounds, slots).zip(room) else {
        let to = (slots * BLIND_FACTOR).min(SLOTS_MAX);
        return (to > slots).then_some(WhatIf {
            from: slots,
            to,
            gain: None,
            step_s: None,
            next: None,
        });
    };
    let mut at = slots;
    let mut next = None;
    while next.is_none() {
        let (here, twice) = (busy(bounds, at)?, busy(bounds, at * 2.0)?);
        next = if at * 2.0 > room || at * 2.0 > SLOTS_MAX {
            Some(Limit::Kv)
        } else if here / twice < GAIN_MIN {
            Some(Limit::Compute)
        } else if step(bounds, at * 2.0)? > step(bounds, slots)? * STEP_GROWTH_MAX {
            Some(Limit::Bandwidth)
        } else {
            at *= 2.0;
            None
        };
    }
    let gain = Some(now / busy(bounds, at)?);
    (at > slots).then_some(WhatIf { from: slots, to: at, gain, step_s: step(bounds, at), next })
}

/// KV cache with half the bytes for each token: up to twice the sequences, as far as there are places.
pub fn smaller_cache(bounds: &Bounds) -> Option<WhatIf> {
    let from = bounds.kv_sequences?;
    let to = (from * 2.0).min(bounds.slots.unwrap_or(f64::INFINITY));
    let next = if to < from * 2.0 { Limit::Slots } else { Limit::Kv };
    let step_s = step(bounds, to);
    let gain = busy(bounds, from).zip(busy(bounds, to)).map(|(now, then)| now / then);
    (to > from).then_some(WhatIf { from, to, gain, step_s, next: Some(next) })
}

/// Weights with half the bytes: what steps save at the bandwidth that they reach.
pub fn smaller_weights(
    bounds: &Bounds,
    weight_bytes: Option<f64>,
    bandwidth: Option<f64>,
) -> Option<WhatIf> {
    let (weights, step_s) = (weight_bytes?, bounds.step_s?);
    let saved = weights / 2.0 / bandwidth? / bounds.mbu?;
    let to = step_s - saved;
    let gain = (to > 0.0).then(|| step_s / to);
    Some(WhatIf { from: step_s, to, gain, step_s: Some(to), next: None })
}

/// Seconds of the accelerator for one request in a batch of that many.
fn busy(bounds: &Bounds, batch: f64) -> Option<f64> {
    Some(prefill(bounds)? + bounds.output? * step(bounds, batch)? / batch)
}

/// What a prompt takes. Where more requests end than that would let, it is what Little's law leaves beside their
/// answers of the time that they are in the batch, but no less than arithmetic needs.
fn prefill(bounds: &Bounds) -> Option<f64> {
    let said = bounds.prefill_s?;
    if ratio(bounds.rps, bounds.slots_rps).is_none_or(|share| share <= RATE_MAX) {
        return Some(said);
    }
    let inside = ratio(bounds.running, bounds.rps)?;
    let left =
        (inside - bounds.output? * bounds.step_s?).max(bounds.prefill_floor_s.unwrap_or(0.0));
    Some(said.min(left))
}

/// A step of a batch of that many.
fn step(bounds: &Bounds, batch: f64) -> Option<f64> {
    let beyond = (batch - bounds.running?).max(0.0);
    Some(bounds.step_s? + beyond * bounds.sequence_step_s?)
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::lab;
    use super::*;

    fn bounds(utilisation: f64) -> Bounds {
        let mut replica = lab::replica(&lab::RUNS[2]);
        replica.config.gpu_memory_utilization = Some(utilisation);
        Bounds::of(&replica, Some(lab::WINDOW_S))
    }

    /// What the same model gives by hand for four, 16, 32 and 64 places.
    #[test]
    fn rates_follow_the_batch() {
        let bounds = bounds(0.75);
        for (batch, rps) in [(4.0, 1.70), (16.0, 5.6), (32.0, 9.0), (64.0, 13.0)] {
            let got = 1.0 / busy(&bounds, batch).unwrap();
            assert!((got - rps).abs() / rps < 0.06, "{batch}: {got} is not {rps}");
        }
    }

    #[test]
    fn places_are_added_until_something_else_limits() {
        let more = more_slots(&bounds(0.75)).unwrap();
        assert_eq!((more.from, more.to, more.next), (4.0, 32.0, Some(Limit::Kv)));
        assert!((5.0..6.0).contains(&more.gain.unwrap()), "{more:?}");
        let more = more_slots(&bounds(0.90)).unwrap();
        assert_eq!((more.to, more.next), (128.0, Some(Limit::Kv)));
    }

    /// In a run where all wait, the quickest first token is no measure of a prompt.
    #[test]
    fn waiting_is_not_taken_for_prompts() {
        let alone = more_slots(&bounds(0.75)).unwrap();
        let mut replica = lab::replica(&lab::RUNS[2]);
        replica.config.gpu_memory_utilization = Some(0.75);
        let prompts = &mut replica.times.prefill;
        prompts.seconds = prompts.count.map(|count| count * 6.5);
        let waited = more_slots(&Bounds::of(&replica, Some(lab::WINDOW_S))).unwrap();
        assert_eq!((waited.to, waited.next), (alone.to, alone.next));
        assert!(waited.gain.unwrap() > 4.0, "{waited:?}");
    }

    #[test]
    fn without_dimensions_nothing_is_promised() {
        let mut replica = lab::replica(&lab::RUNS[2]);
        replica.dims = Default::default();
        let more = more_slots(&Bounds::of(&replica, Some(lab::WINDOW_S))).unwrap();
        assert_eq!((more.to, more.gain), (16.0, None));
        assert_eq!(more_slots(&Bounds::default()), None);
        let full = Bounds { slots: Some(256.0), ..Bounds::default() };
        assert_eq!(more_slots(&full), None);
    }

    #[test]
    fn half_the_bytes_hold_twice_the_sequences() {
        let mut bounds = bounds(0.75);
        bounds.slots = Some(100.0);
        let smaller = smaller_cache(&bounds).unwrap();
        assert_eq!((smaller.to, smaller.next), (100.0, Some(Limit::Slots)));
        bounds.slots = None;
        assert_eq!(smaller_cache(&bounds).unwrap().next, Some(Limit::Kv));
        let weights = smaller_weights(&bounds, Some(15.23e9), Some(1008e9)).unwrap();
        assert!((1.7..2.1).contains(&weights.gain.unwrap()), "{weights:?}");
    }
}
