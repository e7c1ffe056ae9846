//! The messages of OTLP, as far as they are sent (opentelemetry-proto 1.11: `trace`, `common`, `resource` and
//! `collector/trace`, all version 1, which only ever grow).

use prost::Message;

/// What is sent.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<TraceSpan>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InstrumentationScope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct TraceSpan {
    /// Sixteen bytes, not all zero.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// Eight bytes, not all zero.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// Eight bytes; none where it has no parent.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What it is called.
    #[prost(string, tag = "5")]
    pub name: String,
    /// A constant of [`kind`].
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended, in nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Moments in it.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
    /// How it ended; none where there is nothing to say.
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
    /// The flags of the W3C's trace context, and two bits of OTLP's own.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// Sides of a call.
pub mod kind {
    /// Neither.
    pub const INTERNAL: i32 = 1;
    /// Answers.
    pub const SERVER: i32 = 2;
    /// Asks.
    pub const CLIENT: i32 = 3;
}

/// How a span ended.
pub mod status {
    /// It went wrong.
    pub const ERROR: i32 = 2;
}

impl TraceSpan {
    /// The bit of [`Self::flags`] for a trace that is recorded.
    pub const SAMPLED: u32 = 1;
    /// The bit that says that the next one is known.
    pub const KNOWS_REMOTE: u32 = 0x100;
    /// The bit for a parent in another process.
    pub const PARENT_IS_REMOTE: u32 = 0x200;
}

/// A moment in a span.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// When, in nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// What happened.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What is known of it.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct SpanStatus {
    /// What went wrong.
    #[prost(string, tag = "2")]
    pub message: String,
    /// A constant of [`status`].
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// What it says.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// What an attribute says.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// One of several types.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Value>,
}

/// Several values of one type.
#[derive(Clone, PartialEq, Message)]
pub struct ArrayValue {
    /// Each of them.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// A value.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// Whether it is so.
    #[prost(bool, tag = "2")]
    Flag(bool),
    /// A count.
    #[prost(int64, tag = "3")]
    Count(i64),
    /// A measure.
    #[prost(double, tag = "4")]
    Number(f64),
    /// Several values.
    #[prost(message, tag = "5")]
    Several(ArrayValue),
}

impl KeyValue {
    /// An attribute.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { key: key.into(), value: Some(AnyValue { value: Some(value.into()) }) }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Several texts.
impl<'a> FromIterator<&'a str> for Value {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let values = texts.into_iter().map(|text| AnyValue { value: Some(text.into()) }).collect();
        Self::Several(ArrayValue { values })
    }
}

/// What a collector answers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

/// `google.rpc.Status`, which has details of a gRPC error.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Delay {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}
