//! What is asked of an autoscaler: limits, goals, how fast it may act, and what becomes of replicas
//! that nobody needs. Checked once, before it decides anything.

use thiserror::Error;

use crate::{Band, Span};

/// Most replicas of one model.
pub const REPLICAS_MAX: u32 = 1024;

/// Longest span of a policy.
const SPAN_MAX: Span = Span::from_secs(7 * 86_400);

/// Most slots of a season: a week of five minutes each.
const SLOTS_MAX: u32 = 2016;

/// Most seasons.
const SEASONS_MAX: usize = 4;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Fewest replicas awake. With zero, what becomes of the last is for [`Zero`] to say.
    pub min: u32,
    /// Most replicas awake.
    pub max: u32,
    /// The part of what replicas can do that is asked of them at most.
    pub utilisation: f64,
    /// The part of all requests that is to be served within the goals.
    pub attainment: f64,
    /// What each band expects, in the order of [`Band::ALL`].
    pub goals: [Goal; Band::ALL.len()],
    /// The part of KV caches that is used at most.
    pub kv_used_max: f64,
    /// How fast it may go up.
    pub up: Pace,
    /// How fast it may go down.
    pub down: Pace,
    /// How much more load a smaller fleet has to bear before it is made smaller.
    pub tolerance: f64,
    /// What becomes of replicas that nobody needs.
    pub zero: Zero,
    /// Most replicas kept asleep.
    pub asleep_max: u32,
    /// How long nothing comes, waits or runs before the last replica goes.
    pub idle: Span,
    /// How long a start takes, until one was measured.
    pub start: Span,
    /// How long it takes to wake up, until that was measured.
    pub wake: Span,
    /// How old signals may be that take replicas away.
    pub age_max: Span,
    /// How often it is decided.
    pub every: Span,
    /// How many times the load that is measured is believed at most, when goals are missed though
    /// there should be enough.
    pub boost_max: f64,
    /// How it looks ahead.
    pub foresight: Foresight,
}

/// What a band expects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Time to the first token; none where nobody waits for it.
    pub ttft: Option<Span>,
    /// Time for each token after it; none where that does not matter.
    pub tpot: Option<Span>,
    /// How long it may take until what waits beyond that has been served.
    pub drain: Span,
}

/// How fast the number of replicas may change in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// For how long the need has to be there.
    pub window: Span,
    /// Most replicas in one step.
    pub step: u32,
    /// Or so many of a hundred, where that is more.
    pub percent: u32,
}

/// What becomes of replicas that nobody needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Zero {
    /// One is always awake.
    AlwaysWarm,
    /// They sleep: weights in the host's memory, awake within seconds.
    WarmZero,
    /// They end; image and weights stay on their nodes.
    HotZero,
    /// They end, and nothing stays.
    ColdZero,
}

/// How an autoscaler looks ahead.
#[derive(Clone, Debug, PartialEq)]
pub struct Foresight {
    /// Whether it does.
    pub enabled: bool,
    /// Over how long the level of the load is averaged.
    pub level: Span,
    /// Over how long its trend is.
    pub trend: Span,
    /// How long a trend is believed to go on.
    pub damping: Span,
    /// For how many standard deviations of its past mistakes there is to be room.
    pub deviations: f64,
    /// Days and weeks that are alike.
    pub seasons: Vec<Season>,
}

/// A time after which things repeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Season {
    /// How long.
    pub period: Span,
    /// In how many parts it is remembered.
    pub slots: u32,
}

impl Default for Policy {
    fn default() -> Self {
        let interactive = |ttft: u64, tpot: u64, drain: u64| Goal {
            ttft: Some(Span::from_millis(ttft)),
            tpot: Some(Span::from_millis(tpot)),
            drain: Span::from_secs(drain),
        };
        let patient = |drain: u64| Goal { ttft: None, tpot: None, drain: Span::from_secs(drain) };
        Self {
            min: 1,
            max: 8,
            utilisation: 0.85,
            attainment: 0.95,
            goals: [
                interactive(1000, 50, 30),
                interactive(2000, 100, 60),
                patient(300),
                patient(3600),
            ],
            kv_used_max: 0.9,
            up: Pace { window: Span::ZERO, step: 4, percent: 100 },
            down: Pace { window: Span::from_secs(300), step: 1, percent: 20 },
            tolerance: 0.1,
            zero: Zero::AlwaysWarm,
            asleep_max: 1,
            idle: Span::from_secs(600),
            start: Span::from_secs(180),
            wake: Span::from_secs(5),
            age_max: Span::from_secs(45),
            every: Span::from_secs(10),
            boost_max: 1.5,
            foresight: Foresight::default(),
        }
    }
}

impl Default for Foresight {
    fn default() -> Self {
        Self {
            enabled: true,
            level: Span::from_secs(60),
            trend: Span::from_secs(300),
            damping: Span::from_secs(600),
            deviations: 1.0,
            seasons: Vec::new(),
        }
    }
}

impl Season {
    /// Every day is like the last, in quarters of an hour.
    pub const DAY: Self = Self { period: Span::from_secs(86_400), slots: 96 };

    /// Every week is like the last, in quarters of an hour.
    pub const WEEK: Self = Self { period: Span::from_secs(7 * 86_400), slots: 672 };
}

/// What makes no sense in a policy. Whoever wrote it has to change it.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PolicyError {
    /// A number outside what it may be.
    #[error("`{field}` is {value}, write a number from {least} to {most}")]
    Number {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: f64,
        /// The least it may be.
        least: f64,
        /// The most it may be.
        most: f64,
    },
    /// A policy that keeps one awake, and a limit that forbids it.
    #[error("`max` is zero, which no policy for idle models allows: write at least 1")]
    Nobody,
}

impl Policy {
    /// The policy, if it makes sense.
    ///
    /// # Errors
    /// The first number that does not.
    pub fn checked(self) -> Result<Self, PolicyError> {
        if self.max == 0 {
            return Err(PolicyError::Nobody);
        }
        within("max", f64::from(self.max), 1.0, f64::from(REPLICAS_MAX))?;
        within("min", f64::from(self.min), 0.0, f64::from(self.max))?;
        within("asleepMax", f64::from(self.asleep_max), 0.0, f64::from(REPLICAS_MAX))?;
        within("utilisation", self.utilisation, 0.05, 1.0)?;
        within("attainment", self.attainment, 0.5, 0.9999)?;
        within("kvUsedMax", self.kv_used_max, 0.05, 1.0)?;
        within("tolerance", self.tolerance, 0.0, 1.0)?;
        within("boostMax", self.boost_max, 1.0, 4.0)?;
        within("deviations", self.foresight.deviations, 0.0, 10.0)?;
        for (field, span, least) in self.spans() {
            within(field, span.as_secs_f64(), least, SPAN_MAX.as_secs_f64())?;
        }
        for (field, pace) in [("up.step", self.up), ("down.step", self.down)] {
            within(field, f64::from(pace.step), 1.0, f64::from(REPLICAS_MAX))?;
        }
        for goal in self.goals {
            self.check_goal(goal)?;
        }
        within("seasons", self.foresight.seasons.len() as f64, 0.0, SEASONS_MAX as f64)?;
        for season in &self.foresight.seasons {
            within("season.slots", f64::from(season.slots), 1.0, f64::from(SLOTS_MAX))?;
            let most = SPAN_MAX.as_secs_f64();
            within("season.period", season.period.as_secs_f64(), f64::from(season.slots), most)?;
        }
        Ok(self)
    }

    fn check_goal(&self, goal: Goal) -> Result<(), PolicyError> {
        let most = SPAN_MAX.as_secs_f64();
        within("goals.drain", goal.drain.as_secs_f64(), 1.0, most)?;
        for (field, span) in [("goals.ttft", goal.ttft), ("goals.tpot", goal.tpot)] {
            span.map_or(Ok(()), |span| within(field, span.as_secs_f64(), 0.001, most))?;
        }
        Ok(())
    }

    fn spans(&self) -> [(&'static str, Span, f64); 10] {
        [
            ("up.window", self.up.window, 0.0),
            ("down.window", self.down.window, 0.0),
            ("idle", self.idle, 0.0),
            ("start", self.start, 0.0),
            ("wake", self.wake, 0.0),
            ("ageMax", self.age_max, 0.001),
            ("every", self.every, 0.1),
            ("foresight.level", self.foresight.level, 1.0),
            ("foresight.trend", self.foresight.trend, 1.0),
            ("foresight.damping", self.foresight.damping, 1.0),
        ]
    }

    /// Fewest awake, whatever comes.
    pub(super) fn floor(&self) -> u32 {
        if self.zero == Zero::AlwaysWarm { self.min.max(1) } else { self.min }
    }
}

fn within(field: &'static str, value: f64, least: f64, most: f64) -> Result<(), PolicyError> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(PolicyError::Number { field, value, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |change: &dyn Fn(&mut Policy), expect: &str| {
            let mut policy = Policy::default();
            change(&mut policy);
            let message =
                policy.checked().map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(message, expect);
        };
        check(&|_| {}, "");
        check(&|it| it.min = 9, "`min` is 9, write a number from 0 to 8");
        check(
            &|it| it.max = 0,
            "`max` is zero, which no policy for idle models allows: write at least 1",
        );
        check(
            &|it| it.utilisation = f64::NAN,
            "`utilisation` is NaN, write a number from 0.05 to 1",
        );
        check(&|it| it.down.step = 0, "`down.step` is 0, write a number from 1 to 1024");
        check(
            &|it| it.foresight.seasons = vec![Season { slots: 0, ..Season::DAY }],
            "`season.slots` is 0, write a number from 1 to 2016",
        );
        check(
            &|it| it.goals[0].ttft = Some(Span::ZERO),
            "`goals.ttft` is 0, write a number from 0.001 to 604800",
        );
    }
}
