//! How much is measured in the time there is: of prompts and of steps the cheap ones first, until all rounds of
//! what was taken would take longer. Nobody knows how fast a server is before it was asked.

use std::time::Duration;

use pilotage_lab::calibrate::{Probe, Unread};

/// The part of the time that prompts may take; steps take the rest, but for what whole loads need.
const PROMPTS_PART: f64 = 0.3;

/// The part that steps may take.
const STEPS_PART: f64 = 0.5;

/// Measurements of each kind that are taken whatever they take: fewer cannot be fitted.
const TAKEN_MIN: usize = 3;

/// Requests that took too long after which no more of the kind is asked for.
const LATE_MAX: usize = 2;

/// What may still be taken.
#[derive(Debug)]
pub(super) struct Budget {
    prompts: Purse,
    steps: Purse,
    repeats: f64,
    /// Sequences that the server did not compute at once.
    too_many: Option<u32>,
}

/// The time for one kind.
#[derive(Debug, Default)]
struct Purse {
    seconds: f64,
    /// Of one round of what was taken.
    taken_seconds: f64,
    taken: usize,
    late: usize,
    /// Seconds for each token of what was taken last, which is the largest.
    token_seconds: f64,
}

impl Budget {
    /// A budget for so many rounds.
    pub(super) fn new(within: Duration, repeats: u32) -> Self {
        let purse = |part: f64| Purse { seconds: within.as_secs_f64() * part, ..Purse::default() };
        Self {
            prompts: purse(PROMPTS_PART),
            steps: purse(STEPS_PART),
            repeats: f64::from(repeats),
            too_many: None,
        }
    }

    /// Whether there is time for all rounds of it.
    pub(super) fn has_room(&self, probe: Probe) -> bool {
        if let (Probe::Steps { sequences, .. }, Some(most)) = (probe, self.too_many)
            && sequences >= most
        {
            return false;
        }
        let purse = match probe {
            Probe::Prompt { .. } => &self.prompts,
            Probe::Steps { .. } => &self.steps,
        };
        let round = purse.taken_seconds + purse.token_seconds * work(probe);
        let is_cheap = purse.taken < TAKEN_MIN || round * self.repeats <= purse.seconds;
        is_cheap && purse.late < LATE_MAX
    }

    /// What the first round of it took, and said.
    pub(super) fn took(&mut self, probe: Probe, seconds: f64, unread: Option<Unread>) {
        let purse = match probe {
            Probe::Prompt { .. } => &mut self.prompts,
            Probe::Steps { .. } => &mut self.steps,
        };
        purse.taken_seconds += seconds;
        purse.token_seconds = seconds / work(probe).max(1.0);
        purse.taken += usize::from(unread.is_none());
        purse.late += usize::from(unread == Some(Unread::Late));
        if let (Probe::Steps { sequences, .. }, Some(Unread::Apart | Unread::Refused)) =
            (probe, unread)
        {
            self.too_many = Some(self.too_many.map_or(sequences, |most| most.min(sequences)));
        }
    }
}

/// Tokens that the server reads and writes for it.
pub(super) fn work(probe: Probe) -> f64 {
    match probe {
        Probe::Prompt { tokens } => f64::from(tokens),
        Probe::Steps { sequences, prompt, answer } => {
            f64::from(sequences) * (f64::from(prompt) + f64::from(answer))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of a ladder is taken by a server with so many seconds for each token.
    fn taken(within: u64, repeats: u32, token_seconds: f64) -> Vec<u32> {
        let mut budget = Budget::new(Duration::from_secs(within), repeats);
        let mut taken = Vec::new();
        for tokens in [32, 64, 128, 256, 512, 1024, 2048, 4096] {
            let probe = Probe::Prompt { tokens };
            if budget.has_room(probe) {
                budget.took(probe, f64::from(tokens) * token_seconds, None);
                taken.push(tokens);
            }
        }
        taken
    }

    #[test]
    fn a_slow_server_is_asked_for_less() {
        let check = |within, repeats, token_seconds, expect: &[u32]| {
            assert_eq!(taken(within, repeats, token_seconds), expect);
        };
        check(300, 5, 1e-4, &[32, 64, 128, 256, 512, 1024, 2048, 4096]);
        check(300, 5, 0.01, &[32, 64, 128, 256, 512]);
        check(300, 1, 0.01, &[32, 64, 128, 256, 512, 1024, 2048, 4096]);
        check(300, 5, 10.0, &[32, 64, 128]);
    }

    #[test]
    fn more_than_a_server_computes_at_once_is_not_asked_for() {
        let mut budget = Budget::new(Duration::from_secs(300), 5);
        let steps = |sequences| Probe::Steps { sequences, prompt: 64, answer: 32 };
        budget.took(steps(4), 0.5, None);
        budget.took(steps(8), 1.0, Some(Unread::Apart));
        assert!(!budget.has_room(steps(16)) && !budget.has_room(steps(8)));
        assert!(budget.has_room(steps(4)));
    }

    #[test]
    fn a_server_that_stalls_is_left_alone() {
        let mut budget = Budget::new(Duration::from_secs(10), 1);
        let prompt = Probe::Prompt { tokens: 32 };
        budget.took(prompt, 100.0, Some(Unread::Late));
        assert!(budget.has_room(prompt), "once may be chance");
        budget.took(prompt, 100.0, Some(Unread::Late));
        assert!(!budget.has_room(prompt));
        assert!(budget.has_room(Probe::Steps { sequences: 1, prompt: 64, answer: 32 }));
    }
}
