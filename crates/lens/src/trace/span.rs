//! A span as data: what OpenTelemetry says of one, without how it is sent.

use pilotage_core::traffic::Name;

/// What one part of a request did, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSpan {
    /// The trace it belongs to.
    pub trace_id: u128,
    /// Its own id, never zero.
    pub span_id: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// Whether that is somebody else's.
    pub parent_is_remote: bool,
    /// Whether the trace was to be recorded from its begin.
    pub sampled: bool,
    /// What it is called; few different ones.
    pub name: Name,
    /// Its side of a call.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub begin_nanos: u64,
    /// When it ended, in nanoseconds since 1970; not before it began.
    pub end_nanos: u64,
    /// What is known of it, by names of the table.
    pub attributes: Vec<(&'static str, Value)>,
    /// Moments in it, in order.
    pub events: Vec<Event>,
    /// Whether it went wrong.
    pub outcome: Outcome,
}

/// A side of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Neither.
    Internal,
    /// Answers.
    Server,
    /// Asks.
    Client,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Nothing to say, which OpenTelemetry has for what went well.
    Unset,
    /// It went wrong, in a word.
    Error(&'static str),
}

/// A moment in a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: &'static str,
    /// When, in nanoseconds since 1970.
    pub at_nanos: u64,
    /// What is known of it, by names of the table.
    pub attributes: Vec<(&'static str, Value)>,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One of a few words.
    Word(&'static str),
    /// A name or a reason.
    Text(Name),
    /// A count.
    Count(u64),
    /// A measure; its unit is in the attribute's name.
    Number(f64),
    /// Whether it is so.
    Flag(bool),
    /// Several words.
    Words(Vec<&'static str>),
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<Name> for Value {
    fn from(name: Name) -> Self {
        Self::Text(name)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<u16> for Value {
    fn from(count: u16) -> Self {
        Self::Count(count.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Milliseconds with a fraction.
impl From<pilotage_core::Span> for Value {
    fn from(span: pilotage_core::Span) -> Self {
        Self::Number(span.as_nanos() as f64 / 1e6)
    }
}
