//! How fast replicas are, measured from the requests they serve: what turns tokens into seconds.
//!
//! A prompt's time is taken to be a part that is always there and one for each token, a decode step's
//! a part that is always there and one for each sequence of the batch. Both are lines through what
//! was seen, by least squares in which older samples count less. A replica of which little is known
//! is taken to be like its lane is now: a few samples of it tell more of what came by than of itself.
//! What is believed beforehand counts as some samples that were there before all others, and fades as
//! they do: in the end only what was measured is left.

use std::collections::BTreeMap;

use crate::ReplicaId;

/// What a sample is worth after the next one: about the last fifty count.
const FADE: f64 = 0.98;

/// Samples that the lane's own line stands for at a replica, for where its line begins and how steep it is,
/// and that what is believed of a lane stands for there, before the first sample.
const PRIOR_WEIGHT: f64 = 4.0;

/// Seconds for a prompt token before anything was measured: 8,000 tokens a second, SMG's stand-in for
/// an H100 with a 70B model.
const PREFILL_PRIOR: f64 = 1.0 / 8000.0;

/// Seconds for a decode step before anything was measured, and what each sequence adds (the same
/// stand-in: 6.0 ms and 0.35 ms).
const STEP_PRIOR: (f64, f64) = (0.006, 0.000_35);

/// Tokens of an answer of which nothing is known.
const ANSWER_PRIOR: f64 = 128.0;

/// How much the newest answer counts for what answers are like.
const NEWEST: f64 = 0.05;

/// What the replicas of a lane are taken for until they were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InitialSpeed {
    /// Seconds for a token of a prompt.
    pub token_seconds: f64,
    /// Seconds for a step.
    pub step_seconds: f64,
    /// Seconds more for each sequence in it.
    pub sequence_seconds: f64,
}

impl Default for InitialSpeed {
    fn default() -> Self {
        let (step_seconds, sequence_seconds) = STEP_PRIOR;
        Self { token_seconds: PREFILL_PRIOR, step_seconds, sequence_seconds }
    }
}

/// The speeds of a lane's replicas.
#[derive(Debug, Default)]
pub struct Speeds {
    /// Before anything was measured.
    initial: Speed,
    lane: Option<Speed>,
    replicas: BTreeMap<ReplicaId, Speed>,
    /// Tokens of the mean answer.
    answer: Option<f64>,
}

/// One replica's speed.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    prefill: Line,
    step: Line,
    /// Seconds that a request keeps its place, in the mean.
    residence: Option<f64>,
}

/// A line by least squares: sums over samples (x, y), each fading.
#[derive(Clone, Copy, Debug)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    /// What is believed before anything was seen.
    prior: (f64, f64),
    /// How much of that belief is left: it fades as samples do.
    faith: f64,
    /// Whether it is what was measured of the lane: that stays as new as the line itself, does not fade, and
    /// counts for where the line begins, too.
    is_of_lane: bool,
}

impl Speeds {
    /// What is believed of replicas of which nothing was measured; what was measured stays.
    pub fn believe(&mut self, initial: InitialSpeed) {
        self.initial = Speed::believed(initial);
    }

    /// A replica's speed, the lane's where nothing is known of it.
    pub fn of(&self, replica: ReplicaId) -> Speed {
        let lane = self.lane.unwrap_or(self.initial);
        self.replicas.get(&replica).map_or(lane, |own| own.beside(&lane))
    }

    /// What a replica of which nothing is known is taken for, and whether that was measured here.
    pub fn usual(&self) -> (InitialSpeed, bool) {
        let speed = self.lane.unwrap_or(self.initial);
        let (step_seconds, sequence_seconds) = speed.step.fit();
        let token_seconds = speed.prefill.fit().1;
        (InitialSpeed { token_seconds, step_seconds, sequence_seconds }, self.lane.is_some())
    }

    /// The answer that is to be expected where the most is `most` tokens.
    pub fn answer(&self, most: u32) -> f64 {
        self.answer.unwrap_or(ANSWER_PRIOR).min(f64::from(most))
    }

    /// A replica took so many seconds to the first token, with so many prompt tokens to compute until
    /// then, its own and those before it.
    pub fn prefilled(&mut self, replica: ReplicaId, tokens: f64, seconds: f64) {
        self.update(replica, |speed| speed.prefill.add(tokens, seconds));
    }

    /// A replica took so many seconds for each token of an answer, with so many sequences at once.
    pub fn stepped(&mut self, replica: ReplicaId, sequences: f64, seconds: f64) {
        self.update(replica, |speed| speed.step.add(sequences, seconds));
    }

    /// A request was at a replica for so long, and its answer has so many tokens.
    pub fn finished(&mut self, replica: ReplicaId, seconds: f64, output: u32) {
        let mean = self.answer.unwrap_or_else(|| output.into());
        self.answer = Some(mean + NEWEST * (f64::from(output) - mean));
        self.update(replica, |speed| {
            let mean = speed.residence.unwrap_or(seconds);
            speed.residence = Some(mean + NEWEST * (seconds - mean));
        });
    }

    /// A replica is gone.
    pub fn forget(&mut self, replica: ReplicaId) {
        self.replicas.remove(&replica);
    }

    fn update(&mut self, replica: ReplicaId, change: impl Fn(&mut Speed)) {
        change(self.lane.get_or_insert(self.initial));
        change(self.replicas.entry(replica).or_insert(self.initial));
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::believed(InitialSpeed::default())
    }
}

impl Speed {
    fn believed(initial: InitialSpeed) -> Self {
        let line = |prior| Line {
            weight: 0.0,
            x: 0.0,
            y: 0.0,
            xx: 0.0,
            xy: 0.0,
            prior,
            faith: 1.0,
            is_of_lane: false,
        };
        Self {
            prefill: line((0.0, initial.token_seconds)),
            step: line((initial.step_seconds, initial.sequence_seconds)),
            residence: None,
        }
    }

    /// Seconds for so many prompt tokens, without what is there whatever their number.
    pub fn prefill_seconds(&self, tokens: f64) -> f64 {
        self.prefill.fit().1 * tokens
    }

    /// Seconds for a token of each of so many sequences.
    pub fn step_seconds(&self, sequences: f64) -> f64 {
        let (base, each) = self.step.fit();
        (base + each * sequences).max(0.0)
    }

    /// Seconds that a request keeps its place.
    pub fn residence(&self) -> f64 {
        self.residence.unwrap_or_else(|| ANSWER_PRIOR * self.step_seconds(1.0))
    }

    /// What it is taken for, belonging to this lane.
    fn beside(&self, lane: &Self) -> Self {
        let line = |own: Line, lane: &Line| Line { prior: lane.fit(), is_of_lane: true, ..own };
        Self {
            prefill: line(self.prefill, &lane.prefill),
            step: line(self.step, &lane.step),
            residence: self.residence.or(lane.residence),
        }
    }
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        let Self { weight, x: sum_x, y: sum_y, xx, xy, faith, .. } = self;
        for sum in [weight, sum_x, sum_y, xx, xy, faith] {
            *sum *= FADE;
        }
        self.weight += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Where the line begins, and how steep it is: never falling, and as steep as believed where all
    /// samples are at one place.
    fn fit(&self) -> (f64, f64) {
        if self.weight == 0.0 {
            return self.prior;
        }
        let (mean_x, mean_y) = (self.x / self.weight, self.y / self.weight);
        let spread = (self.xx / self.weight - mean_x * mean_x).max(0.0);
        let together = self.xy / self.weight - mean_x * mean_y;
        // The prior stands for samples spread as these are, and older. Samples that are all within some
        // percent of one place say nothing about how steep the line is, however many there are: there, and
        // only there, the belief stays.
        let like = if self.is_of_lane { PRIOR_WEIGHT } else { PRIOR_WEIGHT * self.faith };
        let strength = like / self.weight.max(1.0);
        let floor = ((mean_x * mean_x).max(1.0) * 1e-3 - spread * 0.1).max(0.0);
        let slope = (together + self.prior.1 * (spread * strength + floor))
            / (spread * (1.0 + strength) + floor);
        let most = if mean_x > 0.0 { mean_y / mean_x } else { f64::MAX };
        let slope = slope.clamp(0.0, most.max(0.0));
        let begin = mean_y - slope * mean_x;
        let like = if self.is_of_lane { like } else { 0.0 };
        let begin = begin * self.weight + self.prior.0 * like;
        (begin / (self.weight + like), slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_whatever_was_believed() {
        let mut speeds = Speeds::default();
        for at in 0..200_u32 {
            let tokens = f64::from(at * 37 % 2000 + 50);
            speeds.prefilled(ReplicaId(0), tokens, 0.030 + tokens * 200e-6);
            let sequences = f64::from(at % 8 + 1);
            speeds.stepped(ReplicaId(0), sequences, 0.010 + 0.001 * sequences);
        }
        let speed = speeds.of(ReplicaId(0));
        let error = speed.prefill_seconds(1000.0) / 0.2 - 1.0;
        assert!(error.abs() < 0.05, "{error}");
        let error = speed.step_seconds(8.0) / 0.018 - 1.0;
        assert!(error.abs() < 0.03, "{error}");
        let other = speeds.of(ReplicaId(7)).prefill_seconds(1000.0);
        assert!((other / 0.2 - 1.0).abs() < 0.05, "one that is new is like its lane: {other}");
    }

    #[test]
    fn what_was_measured_wins_over_what_was_believed() {
        let mut speeds = Speeds::default();
        let initial =
            InitialSpeed { token_seconds: 4e-4, step_seconds: 0.03, sequence_seconds: 0.002 };
        speeds.believe(initial);
        assert_eq!(speeds.usual(), (initial, false));
        let speed = speeds.of(ReplicaId(3));
        assert!((speed.prefill_seconds(1000.0) - 0.4).abs() < 1e-9);
        assert!((speed.step_seconds(10.0) - 0.05).abs() < 1e-9);
        for at in 0..100_u32 {
            let tokens = f64::from(at * 37 % 2000 + 50);
            speeds.prefilled(ReplicaId(0), tokens, tokens * 200e-6);
            speeds.stepped(ReplicaId(0), f64::from(at % 8 + 1), 0.015);
        }
        for replica in [0, 7] {
            let speed = speeds.of(ReplicaId(replica));
            assert!((speed.prefill_seconds(1000.0) / 0.2 - 1.0).abs() < 0.15, "{replica}");
            assert!((speed.step_seconds(8.0) / 0.015 - 1.0).abs() < 0.15, "{replica}");
        }
        speeds.believe(InitialSpeed::default());
        let (usual, measured) = speeds.usual();
        assert!(measured && (usual.token_seconds / 200e-6 - 1.0).abs() < 0.15, "{usual:?}");
        let speed = speeds.of(ReplicaId(0));
        assert!((speed.prefill_seconds(1000.0) / 0.2 - 1.0).abs() < 0.15, "it stays");
    }

    /// However wrong it was, of what was believed nothing is left when enough was measured.
    #[test]
    fn what_was_believed_fades() {
        let mut speeds = Speeds::default();
        speeds.believe(InitialSpeed {
            token_seconds: 2e-3,
            step_seconds: 0.5,
            sequence_seconds: 0.05,
        });
        for at in 0..400_u32 {
            let tokens = f64::from(at * 37 % 2000 + 50);
            speeds.prefilled(ReplicaId(0), tokens, 0.030 + tokens * 200e-6);
            speeds.stepped(ReplicaId(0), f64::from(at % 8 + 1), 0.015);
        }
        // A lane, and one that is new to it.
        for replica in [0, 7] {
            let speed = speeds.of(ReplicaId(replica));
            let error = speed.prefill_seconds(1000.0) / 0.2 - 1.0;
            assert!(error.abs() < 0.01, "{error}");
            let error = speed.step_seconds(8.0) / 0.015 - 1.0;
            assert!(error.abs() < 0.01, "{error}");
        }
    }

    #[test]
    fn samples_at_one_place_do_not_tell_how_steep_it_is() {
        let mut speeds = Speeds::default();
        for _ in 0..100 {
            speeds.stepped(ReplicaId(0), 8.0, 0.015);
        }
        let step = speeds.of(ReplicaId(0)).step_seconds(8.0);
        assert!((step - 0.015).abs() < 1e-6, "{step}");
        let step = speeds.of(ReplicaId(0)).step_seconds(9.0);
        assert!((0.015..0.0165).contains(&step), "{step}");
    }

    #[test]
    fn one_answer_says_little_of_a_replica() {
        let mut speeds = Speeds::default();
        for at in 0..200_u32 {
            let sequences = f64::from(at % 8 + 1);
            speeds.stepped(ReplicaId(0), sequences, 0.010 + 0.001 * sequences);
            // That another was seen before its lane was known does not matter.
            if at == 1 || at == 199 {
                speeds.stepped(ReplicaId(1), sequences, 3.0 * (0.010 + 0.001 * sequences));
            }
        }
        let slowness = speeds.of(ReplicaId(1)).step_seconds(8.0) / 0.018;
        assert!((1.2..2.2).contains(&slowness), "{slowness}");
        for at in 0..60_u32 {
            let sequences = f64::from(at % 8 + 1);
            speeds.stepped(ReplicaId(1), sequences, 3.0 * (0.010 + 0.001 * sequences));
        }
        let slowness = speeds.of(ReplicaId(1)).step_seconds(8.0) / 0.018;
        assert!((2.7..3.1).contains(&slowness), "{slowness}");
    }

    #[test]
    fn a_slow_replica_is_seen_to_be_slow() {
        let mut speeds = Speeds::default();
        for at in 0..60_u32 {
            let tokens = f64::from(at % 7 * 300 + 100);
            speeds.prefilled(ReplicaId(0), tokens, tokens * 1e-4);
            speeds.prefilled(ReplicaId(1), tokens, tokens * 3e-4);
        }
        let of = |id| speeds.of(ReplicaId(id)).prefill_seconds(1000.0);
        assert!(of(1) / of(0) > 2.5, "{} and {}", of(0), of(1));
        // Nonsense changes nothing.
        let before = of(0);
        speeds.prefilled(ReplicaId(0), f64::NAN, 1.0);
        speeds.prefilled(ReplicaId(0), 1.0, f64::INFINITY);
        assert!((speeds.of(ReplicaId(0)).prefill_seconds(1000.0) - before).abs() < 1e-12);
    }
}
