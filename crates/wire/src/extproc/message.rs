//! The messages of `envoy.service.ext_proc.v3` and of what they are made of, as far as they are used:
//! fields that nobody here reads are skipped by who reads, and left out by who writes.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

/// What the proxy tells of a request or its response.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingRequest {
    /// Which part.
    #[prost(oneof = "Part", tags = "2, 3, 4, 5, 6, 7")]
    pub part: Option<Part>,
    /// What other filters said, by their namespaces.
    #[prost(message, optional, tag = "8")]
    pub metadata_context: Option<Metadata>,
    /// Attributes that the proxy was told to add, by the filter that adds them.
    #[prost(btree_map = "string, message", tag = "9")]
    pub attributes: BTreeMap<String, Struct>,
    /// Whether nobody reads what is replied.
    #[prost(bool, tag = "10")]
    pub observability_mode: bool,
    /// How the proxy sends bodies; only with the first message.
    #[prost(message, optional, tag = "11")]
    pub protocol_config: Option<ProtocolConfiguration>,
}

/// A part of a request or its response.
#[derive(Clone, PartialEq, Oneof)]
pub enum Part {
    /// The request's head.
    #[prost(message, tag = "2")]
    RequestHeaders(HttpHeaders),
    /// The response's head.
    #[prost(message, tag = "3")]
    ResponseHeaders(HttpHeaders),
    /// Some of the request's body.
    #[prost(message, tag = "4")]
    RequestBody(HttpBody),
    /// Some of the response's body.
    #[prost(message, tag = "5")]
    ResponseBody(HttpBody),
    /// The request's trailers.
    #[prost(message, tag = "6")]
    RequestTrailers(HttpTrailers),
    /// The response's trailers.
    #[prost(message, tag = "7")]
    ResponseTrailers(HttpTrailers),
}

/// How the proxy sends bodies.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ProtocolConfiguration {
    /// Those of requests.
    #[prost(enumeration = "BodySendMode", tag = "1")]
    pub request_body_mode: i32,
    /// Those of responses.
    #[prost(enumeration = "BodySendMode", tag = "2")]
    pub response_body_mode: i32,
    /// Whether a body is sent before its head was replied to.
    #[prost(bool, tag = "3")]
    pub send_body_without_waiting_for_header_response: bool,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum BodySendMode {
    /// Not at all.
    None = 0,
    /// In pieces, of which each waits for its reply.
    Streamed = 1,
    /// As a whole.
    Buffered = 2,
    /// Its begin, as far as there is room for it.
    BufferedPartial = 3,
    /// In pieces that wait for nothing; what is replied is the body from then on.
    FullDuplexStreamed = 4,
}

/// A head.
#[derive(Clone, PartialEq, Message)]
pub struct HttpHeaders {
    /// What it says; pseudo-headers such as `:path` are among them.
    #[prost(message, optional, tag = "1")]
    pub headers: Option<HeaderMap>,
    /// Whether there is no body.
    #[prost(bool, tag = "3")]
    pub end_of_stream: bool,
}

/// Some of a body.
#[derive(Clone, PartialEq, Message)]
pub struct HttpBody {
    /// Which bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    /// Whether these are the last, and no trailers come.
    #[prost(bool, tag = "2")]
    pub end_of_stream: bool,
}

/// Trailers.
#[derive(Clone, PartialEq, Message)]
pub struct HttpTrailers {
    /// What they say.
    #[prost(message, optional, tag = "1")]
    pub trailers: Option<HeaderMap>,
}

/// Headers in their order.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMap {
    /// One after the other.
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<HeaderValue>,
}

/// A header.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    /// Its name, in lower case.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value, from proxies that send text.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Its value, from those that send bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: Bytes,
}

impl HeaderValue {
    /// The value, in whichever field it is.
    pub fn bytes(&self) -> &[u8] {
        if self.raw_value.is_empty() { self.value.as_bytes() } else { &self.raw_value }
    }
}

/// What other filters said.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// By their namespaces.
    #[prost(btree_map = "string, message", tag = "1")]
    pub filter_metadata: BTreeMap<String, Struct>,
}

/// Named values, `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    /// By name.
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// A value, `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Of which kind.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<Kind>,
}

/// What a value is.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// Nothing.
    #[prost(int32, tag = "1")]
    Null(i32),
    /// A number.
    #[prost(double, tag = "2")]
    Number(f64),
    /// Text.
    #[prost(string, tag = "3")]
    Text(String),
    /// Yes or no.
    #[prost(bool, tag = "4")]
    Bool(bool),
    /// Named values.
    #[prost(message, tag = "5")]
    Struct(Struct),
    /// Values in order.
    #[prost(message, tag = "6")]
    List(List),
}

/// Values in order, `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub struct List {
    /// One after the other.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// What the proxy shall do.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingResponse {
    /// With which part.
    #[prost(oneof = "Reply", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub reply: Option<Reply>,
    /// What following filters and clusters are told, by their namespaces.
    #[prost(message, optional, tag = "8")]
    pub dynamic_metadata: Option<Struct>,
}

/// What the proxy shall do with a part.
#[derive(Clone, PartialEq, Oneof)]
pub enum Reply {
    /// With the request's head.
    #[prost(message, tag = "1")]
    RequestHeaders(Replied),
    /// With the response's head.
    #[prost(message, tag = "2")]
    ResponseHeaders(Replied),
    /// With some of the request's body.
    #[prost(message, tag = "3")]
    RequestBody(Replied),
    /// With some of the response's body.
    #[prost(message, tag = "4")]
    ResponseBody(Replied),
    /// With the request's trailers.
    #[prost(message, tag = "5")]
    RequestTrailers(TrailersReplied),
    /// With the response's trailers.
    #[prost(message, tag = "6")]
    ResponseTrailers(TrailersReplied),
    /// Answer this, and be done.
    #[prost(message, tag = "7")]
    Immediate(ImmediateResponse),
}

/// What to do with a head or some of a body: `HeadersResponse` and `BodyResponse`, which are alike.
#[derive(Clone, PartialEq, Message)]
pub struct Replied {
    /// What to change.
    #[prost(message, optional, tag = "1")]
    pub response: Option<CommonResponse>,
}

/// What to do with trailers.
#[derive(Clone, PartialEq, Message)]
pub struct TrailersReplied {
    /// What to change.
    #[prost(message, optional, tag = "1")]
    pub header_mutation: Option<HeaderMutation>,
}

/// Changes of a head or a body.
#[derive(Clone, PartialEq, Message)]
pub struct CommonResponse {
    /// Of the headers.
    #[prost(message, optional, tag = "2")]
    pub header_mutation: Option<HeaderMutation>,
    /// Of the body.
    #[prost(message, optional, tag = "3")]
    pub body_mutation: Option<BodyMutation>,
    /// Whether the route is chosen anew.
    #[prost(bool, tag = "5")]
    pub clear_route_cache: bool,
}

/// Changes of headers.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMutation {
    /// Those to set.
    #[prost(message, repeated, tag = "1")]
    pub set_headers: Vec<HeaderValueOption>,
    /// Those to take away.
    #[prost(string, repeated, tag = "2")]
    pub remove_headers: Vec<String>,
}

/// A header, and what becomes of those of its name.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValueOption {
    /// The header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// What becomes of others.
    #[prost(enumeration = "AppendAction", tag = "3")]
    pub append_action: i32,
}

/// What becomes of headers of the same name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum AppendAction {
    /// They stay, and this one comes after them.
    Append = 0,
    /// They stay, and this one is left out.
    AddIfAbsent = 1,
    /// This one takes their place, or is added.
    Overwrite = 2,
}

/// A change of a body.
#[derive(Clone, PartialEq, Message)]
pub struct BodyMutation {
    /// Which one.
    #[prost(oneof = "Mutation", tags = "1, 2, 3")]
    pub mutation: Option<Mutation>,
}

/// A change of a body.
#[derive(Clone, PartialEq, Oneof)]
pub enum Mutation {
    /// What was sent is this instead.
    #[prost(bytes = "bytes", tag = "1")]
    Body(Bytes),
    /// What was sent is nothing.
    #[prost(bool, tag = "2")]
    Clear(bool),
    /// The body goes on with this.
    #[prost(message, tag = "3")]
    Streamed(StreamedBody),
}

/// Some of a body that takes the place of the one that came.
#[derive(Clone, PartialEq, Message)]
pub struct StreamedBody {
    /// Which bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    /// Whether these are the last.
    #[prost(bool, tag = "2")]
    pub end_of_stream: bool,
}

/// An answer that the proxy itself gives.
#[derive(Clone, PartialEq, Message)]
pub struct ImmediateResponse {
    /// Its status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Its headers.
    #[prost(message, optional, tag = "2")]
    pub headers: Option<HeaderMutation>,
    /// Its body.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// Why, for the proxy's log.
    #[prost(string, tag = "5")]
    pub details: String,
}

/// A status.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct HttpStatus {
    /// Its number.
    #[prost(int32, tag = "1")]
    pub code: i32,
}
