//! Why so many replicas, as one value that reads as a sentence with its numbers.

use std::fmt;

use serde::Serialize;

use super::capacity::{Limit, Service};
use crate::Span;

/// What asks for replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// The policy's least.
    Floor,
    /// What comes now.
    Load,
    /// What is going to come.
    Forecast,
    /// What waits.
    Backlog,
    /// Full KV caches.
    Kv,
    /// Goals that are missed though there should be enough.
    Misses,
    /// Somebody waits, and nothing runs or is on its way.
    Held,
    /// Somebody asks and others answer, as nothing runs here: a gateway of another region.
    Elsewhere,
    /// Somebody came a while ago: the last one stays.
    Recent,
    /// Somebody waits too long, and how fast replicas are is not known.
    Slow,
    /// Replicas that were asked for do not come: others in their place.
    Stuck,
}

impl Term {
    /// How it is called in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "the policy's least",
            Self::Load => "load",
            Self::Forecast => "forecast",
            Self::Backlog => "backlog",
            Self::Kv => "KV pressure",
            Self::Misses => "missed goals",
            Self::Held => "held requests",
            Self::Elsewhere => "requests answered elsewhere",
            Self::Recent => "recent requests",
            Self::Slow => "waiting at unknown speed",
            Self::Stuck => "replicas that do not come",
        }
    }
}

/// What keeps things as they are, though something else is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Held {
    /// Fewer would do, if that lasts so long.
    Down {
        /// For so long still.
        left: Span,
    },
    /// More are needed, if that lasts so long.
    Up {
        /// For so long still.
        left: Span,
    },
    /// Signals are missing or old: these.
    Blind {
        /// Which one.
        signal: &'static str,
    },
    /// Replicas are on their way.
    Starting {
        /// How many.
        count: u32,
    },
    /// A step is only so large.
    Step,
    /// The policy's most.
    Most,
}

/// Why so many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// Replicas awake that are wanted.
    pub awake: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas on their way.
    pub starting: u32,
    /// Replicas that the most demanding term asks for, and which it is.
    pub bound: (Term, u32),
    /// What every term asks for.
    pub terms: Vec<(Term, u32)>,
    /// What is done about it later, and why not now.
    pub held: Option<Held>,
    /// Requests a second that come.
    pub arriving: f64,
    /// Requests a second that are expected, and when.
    pub expected: Option<(f64, Span)>,
    /// Requests that wait.
    pub waiting: f64,
    /// What one replica does at the goal.
    pub service: Option<Service>,
    /// At more requests a second than this there will be more replicas, at fewer than this fewer.
    pub between: Option<(f64, f64)>,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (term, count) = self.bound;
        write!(f, "{} awake ({} ready", self.awake, self.ready)?;
        if self.starting > 0 {
            write!(f, ", {} starting", self.starting)?;
        }
        write!(f, "): {} asks for {count}", term.name())?;
        write!(f, "; {:.2} requests/s come", self.arriving)?;
        if let Some((rate, ahead)) = self.expected {
            write!(f, ", up to {rate:.2} in {:.0} s", ahead.as_secs_f64())?;
        }
        if self.waiting > 0.0 {
            write!(f, ", {:.0} wait", self.waiting)?;
        }
        if let Some(service) = &self.service {
            write!(f, "; one replica ends {:.2}/s", service.rate())?;
            let limit = match service.limit {
                Limit::Sequences => "its engine's limit",
                Limit::Kv => "its KV cache",
                Limit::Tpot => "the goal for each token",
            };
            write!(f, " with {} at once by {limit}", service.places)?;
        }
        self.held.map_or(Ok(()), |held| write!(f, "; {held}"))?;
        match self.between {
            Some((low, high)) if low > 0.0 => {
                write!(f, "; fewer below {low:.2}/s, more above {high:.2}/s")
            }
            Some((_, high)) => write!(f, "; more above {high:.2}/s"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { left } => {
                write!(f, "fewer would do, if that lasts {:.0} s more", left.as_secs_f64())
            }
            Self::Up { left } => {
                write!(f, "more are needed, if that lasts {:.0} s more", left.as_secs_f64())
            }
            Self::Blind { signal } => write!(f, "none is taken away, {signal} is missing or old"),
            Self::Starting { count } => {
                write!(f, "none is taken away while {count} start")
            }
            Self::Step => f.write_str("no further in one step"),
            Self::Most => f.write_str("the policy allows no more"),
        }
    }
}
