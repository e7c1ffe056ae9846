//! Which traces are kept: a part of all, drawn by the trace's number when a request comes, and whatever went
//! wrong or took longer than was promised, when it is over.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use pilotage_core::scale::Goal;
use pilotage_core::{Band, Span};

use crate::{Record, Termination};

/// What each band is promised, in the order of [`Band::ALL`].
pub type Goals = [Goal; Band::ALL.len()];

/// The part of all traces that is recorded where nothing else is said: what llm-d's endpoint picker has, too.
const RATIO_DEFAULT: f64 = 0.1;

/// Random bits of a trace's number: its last 56, by level 2 of the W3C's trace context.
const RANDOM_BITS: u32 = 56;

/// Decides at the begin of a request whether its trace is recorded, as OpenTelemetry's samplers do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sampler {
    /// A new trace is recorded when its random bits are at least that.
    threshold: u64,
    /// Whether what the client decided holds.
    heeds_parent: bool,
}

/// A sampler that there is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SamplerError {
    /// Its name is none of OpenTelemetry's that are known here.
    Name(String),
    /// Its argument is no part of one.
    Ratio(String),
}

impl fmt::Display for SamplerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "there is no sampler `{name}`; known are ")?;
                let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                f.write_str(&names.join(", "))
            }
            Self::Ratio(text) => write!(f, "`{text}` is no number from 0 to 1"),
        }
    }
}

impl core::error::Error for SamplerError {}

#[derive(Clone, Copy)]
enum Draws {
    All,
    None,
    Part,
}

/// The samplers of OpenTelemetry, and what they draw.
const NAMES: [(&str, Draws); 6] = [
    ("always_on", Draws::All),
    ("always_off", Draws::None),
    ("traceidratio", Draws::Part),
    ("parentbased_always_on", Draws::All),
    ("parentbased_always_off", Draws::None),
    ("parentbased_traceidratio", Draws::Part),
];

impl Default for Sampler {
    fn default() -> Self {
        Self { threshold: threshold(RATIO_DEFAULT), heeds_parent: true }
    }
}

impl Sampler {
    /// The sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name. Without a name it is
    /// `parentbased_traceidratio`, of a tenth where no argument says otherwise; with one, all where none does.
    ///
    /// # Errors
    /// The name is not known, or the argument is no part of one.
    pub fn parse(name: Option<&str>, argument: Option<&str>) -> Result<Self, SamplerError> {
        let ratio = match argument.map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => {
                let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                Some(ratio.ok_or_else(|| SamplerError::Ratio(text.to_owned()))?)
            }
            None => None,
        };
        let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
            let threshold = threshold(ratio.unwrap_or(RATIO_DEFAULT));
            return Ok(Self { threshold, heeds_parent: true });
        };
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, draws) = known.ok_or_else(|| SamplerError::Name(name.to_owned()))?;
        let part = match draws {
            Draws::All => 1.0,
            Draws::None => 0.0,
            Draws::Part => ratio.unwrap_or(1.0),
        };
        let heeds_parent = name.starts_with("parentbased_");
        Ok(Self { threshold: threshold(part), heeds_parent })
    }

    /// Whether a request's trace is recorded. `parent` is what its client decided, where that sent a trace.
    pub const fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        match parent {
            Some(sampled) if self.heeds_parent => sampled,
            _ => (trace_id as u64) & ((1 << RANDOM_BITS) - 1) >= self.threshold,
        }
    }
}

/// The smallest random bits of which that part of all traces has at least as many (OpenTelemetry's
/// `TraceIdRatioBased` by a rejection threshold, OTEP 235).
fn threshold(ratio: f64) -> u64 {
    let all = (1_u64 << RANDOM_BITS) as f64;
    ((1.0 - ratio) * all).round() as u64
}

/// A reason to keep a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// It was drawn at its begin, or its client asked for it.
    Sampled,
    /// It failed, and not by its client's doing.
    Error,
    /// Its first token, its pace or all of it took longer than its band is promised.
    Slow,
    /// A replica failed, and another one was asked.
    Retried,
    /// It was stopped for somebody else.
    Preempted,
    /// Its answer broke off, and went on elsewhere.
    Resumed,
    /// Its tokens paused for long.
    Stalled,
    /// What the engine said had to be put right.
    Corrupted,
}

impl Kept {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Sampled,
        Self::Error,
        Self::Slow,
        Self::Retried,
        Self::Preempted,
        Self::Resumed,
        Self::Stalled,
        Self::Corrupted,
    ];

    /// The word for it in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Error => "error",
            Self::Slow => "slow",
            Self::Retried => "retried",
            Self::Preempted => "preempted",
            Self::Resumed => "resumed",
            Self::Stalled => "stalled",
            Self::Corrupted => "corrupted",
        }
    }
}

/// All reasons to keep a trace; none where it is not kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reasons(u8);

impl Reasons {
    /// The reasons to keep the trace of a request. A copy is kept when it was drawn, and not for how it went:
    /// nobody waits for it.
    pub fn of(record: &Record, goals: &Goals) -> Self {
        let sampled = Self::sampled(record.sampled);
        if record.mirror {
            return sampled;
        }
        sampled
            .with(Kept::Error, failed(record))
            .with(Kept::Slow, is_slow(record, &goals[record.band as usize]))
            .with(Kept::Retried, !record.earlier_replicas.is_empty())
            .with(Kept::Preempted, record.stops > 0)
            .with(Kept::Resumed, record.resumed > 0)
            .with(Kept::Stalled, record.itl.is_some_and(|itl| itl.stalls > 0))
            .with(Kept::Corrupted, record.corrupted)
    }

    /// That it was drawn, or its client asked for it, or none.
    pub const fn sampled(sampled: bool) -> Self {
        Self(0).with(Kept::Sampled, sampled)
    }

    /// Whether there is one.
    pub const fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether one is how its request went, beside that it was drawn.
    pub const fn is_telling(self) -> bool {
        self.0 & !(1 << Kept::Sampled as u8) != 0
    }

    /// Whether that is one of them.
    pub const fn has(self, reason: Kept) -> bool {
        self.0 & (1 << reason as u8) != 0
    }

    /// Their words.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Kept::ALL.into_iter().filter(move |reason| self.has(*reason)).map(Kept::name)
    }

    const fn with(self, reason: Kept, holds: bool) -> Self {
        Self(self.0 | (holds as u8) << reason as u8)
    }
}

/// Whether a request failed by the system's doing: not by what was asked, by quotas, or by a client that left.
pub(super) const fn failed(record: &Record) -> bool {
    let ended_badly = match record.termination {
        Termination::QueueFull
        | Termination::Deadline
        | Termination::UpstreamError
        | Termination::UpstreamInterrupted
        | Termination::Timeout
        | Termination::Draining => true,
        Termination::Ok
        | Termination::ClientCancel
        | Termination::BadRequest
        | Termination::Quota
        | Termination::Budget => false,
    };
    ended_badly || record.status >= 500
}

/// Whether an answer took longer than its band is promised. One that has no first token is held to the time that
/// all of its tokens would be given.
fn is_slow(record: &Record, goal: &Goal) -> bool {
    if !record.is_answered() {
        return false;
    }
    let beyond = |took: Option<Span>, goal: Option<Span>| match (took, goal) {
        (Some(took), Some(goal)) => took > goal,
        _ => false,
    };
    let whole = goal.ttft.filter(|_| record.ttft.is_none()).map(|first| {
        let each = goal.tpot.unwrap_or(Span::ZERO).as_nanos();
        first + Span::from_nanos(each.saturating_mul(u64::from(record.tokens.output)))
    });
    beyond(record.ttft, goal.ttft)
        || beyond(record.tpot, goal.tpot)
        || beyond(Some(record.total), whole)
}

/// Bounds how many traces a second are kept: when everything is slow, a part shows why.
#[derive(Debug)]
pub struct Tail {
    per_second_max: u32,
    /// The second of the last one, and how many there were in it.
    last: AtomicU64,
}

impl Tail {
    /// So many in each second.
    pub const fn new(per_second_max: u32) -> Self {
        Self { per_second_max, last: AtomicU64::new(0) }
    }

    /// Whether there is room for one more at that time, which takes it.
    pub fn admits(&self, unix_ms: u64) -> bool {
        // Seconds of a clock that goes back are other seconds, too.
        let second = (unix_ms / 1000) << 32;
        let taken = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            let count = if last & !0xffff_ffff == second { last & 0xffff_ffff } else { 0 };
            (count < u64::from(self.per_second_max)).then_some(second | (count + 1))
        });
        taken.is_ok()
    }
}
