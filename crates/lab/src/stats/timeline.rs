//! The run over time, in slices: what was due, what ended, what was in flight, how long it took.

use serde::{Deserialize, Serialize};

use crate::record::{Outcome, Sample};

use super::latency::quantile;

/// Slices that a run is cut into at most.
const SLICES_MAX: usize = 120;

/// Seconds that a slice has at least.
const SLICE_SECONDS_MIN: f64 = 0.25;

/// A run over time: one value for each slice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Timeline {
    /// Seconds of each slice.
    pub step: f64,
    /// Requests due in it.
    pub due: Vec<u64>,
    /// Requests whose answer ended in it.
    pub done: Vec<u64>,
    /// Requests rejected or failed in it.
    pub lost: Vec<u64>,
    /// Requests under way at its end, those waiting in the client among them.
    pub in_flight: Vec<u64>,
    /// Tokens of the answers that ended in it, for each second.
    pub tokens_per_second: Vec<f64>,
    /// Median time to first token of the requests due in it, in milliseconds.
    pub ttft_p50: Vec<Option<f64>>,
    /// The slowest first token of the requests due in it, in milliseconds.
    pub ttft_max: Vec<Option<f64>>,
}

impl Timeline {
    /// Of these requests, up to that time.
    pub fn of(samples: &[Sample], until: u64) -> Self {
        let seconds = (until as f64 / 1e9).max(SLICE_SECONDS_MIN);
        let count = ((seconds / SLICE_SECONDS_MIN) as usize).clamp(1, SLICES_MAX);
        let step = seconds / count as f64;
        let slice = |at: u64| ((at as f64 / 1e9 / step) as usize).min(count - 1);
        let mut all = Self {
            step,
            due: vec![0; count],
            done: vec![0; count],
            lost: vec![0; count],
            in_flight: vec![0; count],
            tokens_per_second: vec![0.0; count],
            ..Self::default()
        };
        let mut times = vec![Vec::new(); count];
        for sample in samples {
            all.due[slice(sample.intended)] += 1;
            let end = slice(sample.end);
            match sample.outcome {
                Outcome::Ok => {
                    all.done[end] += 1;
                    all.tokens_per_second[end] += f64::from(sample.output_tokens) / step;
                }
                Outcome::Unfinished => continue,
                _ => all.lost[end] += 1,
            }
            times[slice(sample.intended)].extend(sample.ttft());
        }
        let mut open = 0;
        for at in 0..count {
            open += all.due[at];
            open -= (all.done[at] + all.lost[at]).min(open);
            all.in_flight[at] = open;
        }
        for mut times in times {
            times.sort_unstable_by(f64::total_cmp);
            all.ttft_max.push(times.last().map(|time| time * 1e3));
            all.ttft_p50.push((!times.is_empty()).then(|| quantile(&times, 0.5) * 1e3));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::answered;

    #[test]
    fn slices_add_up() {
        let mut samples: Vec<Sample> = (0..40)
            .map(|number| answered(number * 250, number * 250 + 20, number * 250 + 600))
            .collect();
        samples[3].outcome = Outcome::Rejected;
        samples[39].outcome = Outcome::Unfinished;
        let all = Timeline::of(&samples, 10_000_000_000);
        assert_eq!((all.due.len(), all.step), (40, 0.25));
        assert_eq!(all.due.iter().sum::<u64>(), 40);
        assert_eq!(all.done.iter().sum::<u64>(), 38);
        assert_eq!(all.lost.iter().sum::<u64>(), 1);
        assert_eq!(all.in_flight[39], 1);
        assert_eq!(all.in_flight[20], 2);
        assert_eq!(all.ttft_p50[7], Some(20.0));
        assert_eq!(all.ttft_p50[39], None);
    }
}
