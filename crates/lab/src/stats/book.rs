//! Where finished requests are written down: each of them while there is room, and sums for ever.

use std::collections::BTreeMap;

use crate::record::{Outcome, Sample};

use super::spread::Spread;

/// Requests that are kept one by one. Beyond them, histograms answer.
pub const SAMPLES_MAX: usize = 500_000;

/// Gaps between tokens that are kept one by one, all requests together.
pub const GAPS_MAX: usize = 4_000_000;

/// All requests of a run.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// The first [`SAMPLES_MAX`] that ended, in that order.
    pub samples: Vec<Sample>,
    /// Gaps between tokens of requests that count.
    pub gaps: Spread,
    /// Sums over all of them, once there are more than are kept.
    pub sums: Option<Box<Sums>>,
    /// How requests ended that count.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Requests that only warmed up.
    pub warm: u64,
    /// Requests that failed, those that only warmed up among them.
    pub lost: u64,
    gaps_kept: usize,
}

/// Sums over the requests that count.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// From the intended time to the first token.
    pub ttft: Spread,
    /// From the intended time to the end.
    pub e2e: Spread,
    /// For each token after the first.
    pub tpot: Spread,
    /// From sending to the first token.
    pub ttft_sent: Spread,
    /// From sending to the end.
    pub e2e_sent: Spread,
    /// How late the pacer was.
    pub schedule_delay: Spread,
    /// Waiting for a connection.
    pub client_queue: Spread,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
}

impl Book {
    /// Takes a finished request in, and the gaps between its tokens, in seconds.
    pub fn add(&mut self, mut sample: Sample, gaps: &[f32]) {
        self.lost += u64::from(sample.outcome.is_failure());
        if sample.warm {
            self.warm += 1;
        } else {
            *self.outcomes.entry(sample.outcome).or_default() += 1;
        }
        if sample.is_good() {
            gaps.iter().for_each(|gap| self.gaps.add(f64::from(*gap)));
        }
        if self.samples.len() < SAMPLES_MAX {
            if self.gaps_kept + gaps.len() <= GAPS_MAX {
                self.gaps_kept += gaps.len();
                sample.gaps = gaps.into();
            }
            self.samples.push(sample);
            return;
        }
        let samples = &self.samples;
        let sums = self.sums.get_or_insert_with(|| {
            let mut sums = Box::<Sums>::default();
            samples.iter().for_each(|sample| sums.add(sample));
            sums
        });
        sums.add(&sample);
    }

    /// Requests that ended so and count.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    /// Requests that count.
    pub fn counted(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Requests that count and failed.
    pub fn failed(&self) -> u64 {
        let failed = self.outcomes.iter().filter(|(outcome, _)| outcome.is_failure());
        failed.map(|(_, count)| count).sum()
    }
}

impl Sums {
    fn add(&mut self, sample: &Sample) {
        if sample.warm {
            return;
        }
        self.schedule_delay.add(sample.schedule_delay());
        if sample.outcome != Outcome::Ok {
            return;
        }
        self.client_queue.add(sample.client_queue());
        self.e2e.add(sample.e2e());
        self.e2e_sent.add(sample.e2e_sent());
        sample.ttft().into_iter().for_each(|time| self.ttft.add(time));
        sample.ttft_sent().into_iter().for_each(|time| self.ttft_sent.add(time));
        sample.tpot().into_iter().for_each(|time| self.tpot.add(time));
        self.input_tokens += u64::from(sample.input_tokens);
        self.output_tokens += u64::from(sample.output_tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::answered;

    #[test]
    fn beyond_what_is_kept_sums_go_on() {
        let mut book = Book::default();
        for number in 0..SAMPLES_MAX as u64 + 2 {
            let outcome = if number % 10 == 0 { Outcome::Rejected } else { Outcome::Ok };
            book.add(Sample { outcome, warm: number < 100, ..answered(0, 5, 50) }, &[0.005; 9]);
        }
        assert_eq!(book.samples.len(), SAMPLES_MAX);
        assert_eq!(book.warm, 100);
        assert_eq!(book.counted(), SAMPLES_MAX as u64 - 98);
        let sums = book.sums.as_ref().unwrap();
        assert_eq!(sums.ttft.count(), book.count(Outcome::Ok));
        assert_eq!(book.gaps.count(), book.count(Outcome::Ok) * 9);
        assert_eq!(sums.output_tokens, book.count(Outcome::Ok) * 10);
        let kept: usize = book.samples.iter().map(|sample| sample.gaps.len()).sum();
        assert!((GAPS_MAX - 9..=GAPS_MAX).contains(&kept));
    }
}
