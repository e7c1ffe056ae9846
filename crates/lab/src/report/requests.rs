//! Requests as columns, which is how thousands of them are kept in JSON and read back for a
//! comparison.

use serde::{Deserialize, Serialize};

use crate::record::{Outcome, Sample};

/// Requests kept in a file at most.
pub const SAVED_MAX: usize = 200_000;

/// Requests that count, in the order in which they were due; all columns are equally long.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Requests {
    /// When each was meant to be sent, in seconds since the start.
    pub intended_s: Vec<f64>,
    /// From then to when it was sent, in milliseconds.
    pub send_delay_ms: Vec<f64>,
    /// From when it was meant to be sent to the first token, in milliseconds.
    pub ttft_ms: Vec<Option<f64>>,
    /// For each token after the first, in milliseconds.
    pub tpot_ms: Vec<Option<f64>>,
    /// From when it was meant to be sent to the end, in milliseconds.
    pub e2e_ms: Vec<f64>,
    /// Tokens of the prompt.
    pub input_tokens: Vec<u32>,
    /// Tokens of the answer.
    pub output_tokens: Vec<u32>,
    /// Its tenant, as a position in the setting's names.
    pub tenant: Vec<u16>,
    /// How it ended.
    pub outcome: Vec<Outcome>,
    /// The status of its answer; zero where there is none.
    pub status: Vec<u16>,
}

impl Requests {
    /// The requests that count among these, [`SAVED_MAX`] at most.
    pub fn of(samples: &[Sample]) -> Self {
        let mut kept: Vec<&Sample> = samples.iter().filter(|sample| !sample.warm).collect();
        kept.sort_by_key(|sample| sample.intended);
        kept.truncate(SAVED_MAX);
        let mut all = Self::default();
        for sample in kept {
            all.intended_s.push(sample.intended as f64 / 1e9);
            all.send_delay_ms.push(thousandths(sample.schedule_delay() + sample.client_queue()));
            all.ttft_ms.push(sample.ttft().map(thousandths));
            all.tpot_ms.push(sample.tpot().map(thousandths));
            all.e2e_ms.push(thousandths(sample.e2e()));
            all.input_tokens.push(sample.input_tokens);
            all.output_tokens.push(sample.output_tokens);
            all.tenant.push(sample.tenant);
            all.outcome.push(sample.outcome);
            all.status.push(sample.status);
        }
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outcome.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.outcome.is_empty()
    }
}

/// Milliseconds of seconds, to a tenth of a microsecond: more digits only make files large.
fn thousandths(seconds: f64) -> f64 {
    (seconds * 1e7).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::answered;

    #[test]
    fn columns_are_ordered_and_without_the_warm_up() {
        let warm = Sample { warm: true, ..answered(0, 1, 2) };
        let samples = [answered(500, 520, 610), warm, answered(100, 130, 220)];
        let all = Requests::of(&samples);
        assert_eq!(all.intended_s, [0.1, 0.5]);
        assert_eq!(all.ttft_ms, [Some(30.0), Some(20.0)]);
        assert_eq!(all.tpot_ms, [Some(10.0), Some(10.0)]);
        assert_eq!(all.e2e_ms, [120.0, 110.0]);
        assert_eq!(all.len(), 2);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Requests>(&text).unwrap(), all);
    }
}
