//! One request, from its head to the end of its response, as a proxy shows it.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::endpoint::{self, DESTINATION};
use super::message::{
    AppendAction, BodyMutation, BodySendMode, CommonResponse, HeaderMap, HeaderMutation,
    HeaderValue, HeaderValueOption, HttpBody, HttpHeaders, HttpStatus, ImmediateResponse, Mutation,
    Part, ProcessingRequest, ProcessingResponse, Replied, Reply, StreamedBody, TrailersReplied,
};

/// Bytes of a body in one message: proxies take 64 KiB.
const PIECE_BYTES: usize = 62_000;

/// What the proxy does not keep to, or cannot do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Wrong {
    /// A part came out of its turn.
    #[error("the proxy sent {0} out of turn")]
    Order(&'static str),
    /// The request's body is larger than it may be.
    #[error("the request's body has more than {0} bytes")]
    TooLarge(usize),
    /// Requests cannot be directed by what is seen of them.
    #[error(
        "requests cannot be directed with request_body_mode {0:?}; set FULL_DUPLEX_STREAMED or BUFFERED"
    )]
    Mode(BodySendMode),
    /// Nothing can be done while the proxy only watches.
    #[error("requests cannot be directed in observability_mode; turn it off")]
    Observed,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// To be sent, if there is anything; then more comes.
    Reply(Option<ProcessingResponse>),
    /// To be sent: the proxy answers by itself before the request was directed, and that passes as it is.
    Passed(Vec<ProcessingResponse>),
    /// The request is whole: it is to be directed, or answered.
    Asked(Asked),
    /// The response begins.
    Answered(Answered),
    /// Some of the response's body; whether it is the last.
    Body(Bytes, bool),
    /// The response's trailers, which come last.
    End,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Its headers, pseudo-headers among them.
    pub headers: Vec<(String, Bytes)>,
    /// Its whole body.
    pub body: Bytes,
    /// The replicas to choose from; none where any may be chosen.
    pub subset: Option<Vec<String>>,
}

impl Asked {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        find(&self.headers, name)
    }
}

/// The begin of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// Its headers, `:status` among them.
    pub headers: Vec<(String, Bytes)>,
    /// The replica that answered, where the proxy says so.
    pub served: Option<String>,
    /// Why it is what it is, where the proxy says so.
    pub details: Option<String>,
    /// Whether there is no body.
    pub is_end: bool,
    /// Whether its body is shown.
    pub shows_body: bool,
}

impl Answered {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        find(&self.headers, name)
    }

    /// The status; zero where there is none.
    pub fn status(&self) -> u16 {
        let status = self.header(":status").and_then(|status| std::str::from_utf8(status).ok());
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

fn find<'a>(headers: &'a [(String, Bytes)], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..])
}

/// Where a request goes, and as what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Direction {
    /// `IP:PORT`, or several in the order in which they are tried, with commas between.
    pub endpoint: String,
    /// Headers to set.
    pub set: Vec<(String, Bytes)>,
    /// Headers to take away.
    pub remove: Vec<String>,
    /// The body, where it is another.
    pub body: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Head,
    Body,
    /// The request is whole, and directed or not; whether it ended with trailers.
    Asked {
        trailers: bool,
    },
    Directed,
    Answering,
    /// The proxy answers by itself.
    Local,
}

/// One request as a proxy shows it.
#[derive(Debug)]
pub struct Conversation {
    body_bytes_max: usize,
    request_mode: BodySendMode,
    response_mode: BodySendMode,
    stage: Stage,
    asked: Asked,
    body: BytesMut,
    has_body: bool,
    kept: Bytes,
}

impl Conversation {
    /// One whose request has so many bytes at most.
    pub fn new(body_bytes_max: usize) -> Self {
        Self {
            body_bytes_max,
            // What the protocol asks for, and what those use that do not say.
            request_mode: BodySendMode::FullDuplexStreamed,
            response_mode: BodySendMode::FullDuplexStreamed,
            stage: Stage::Head,
            asked: Asked::default(),
            body: BytesMut::new(),
            has_body: false,
            kept: Bytes::new(),
        }
    }

    /// Takes in what comes next.
    ///
    /// # Errors
    /// The proxy does not keep to the protocol, or cannot do what it takes.
    pub fn take(&mut self, request: ProcessingRequest) -> Result<Step, Wrong> {
        if request.observability_mode {
            return Err(Wrong::Observed);
        }
        if let Some(config) = &request.protocol_config {
            self.request_mode = config.request_body_mode();
            self.response_mode = config.response_body_mode();
        }
        let ProcessingRequest { part, metadata_context: metadata, attributes, .. } = request;
        match part {
            Some(Part::RequestHeaders(head)) => {
                self.expect(Stage::Head, "the request's headers")?;
                self.asked.subset = endpoint::subset(metadata.as_ref());
                self.head(head)
            }
            // What was still on its way when the proxy answered.
            Some(Part::RequestBody(_) | Part::RequestTrailers(_)) if self.is_local() => {
                Ok(Step::Reply(None))
            }
            Some(Part::RequestBody(body)) => self.request_body(&body),
            Some(Part::RequestTrailers(_)) => {
                self.expect(Stage::Body, "the request's trailers")?;
                Ok(self.whole(true))
            }
            Some(Part::ResponseHeaders(_)) if self.is_undirected() => {
                self.stage = Stage::Local;
                Ok(Step::Passed(vec![self.pass_head(Vec::new(), Vec::new())]))
            }
            Some(Part::ResponseBody(body)) if self.is_local() => {
                let HttpBody { body, end_of_stream } = body;
                Ok(Step::Passed(self.pass_body(&body, body.clone(), end_of_stream)))
            }
            Some(Part::ResponseTrailers(_)) if self.is_local() => {
                Ok(Step::Passed(self.pass_trailers(Bytes::new())))
            }
            Some(Part::ResponseHeaders(head)) => {
                self.expect(Stage::Directed, "the response's headers")?;
                self.stage = Stage::Answering;
                Ok(Step::Answered(Answered {
                    headers: plain(head.headers),
                    served: endpoint::served(metadata.as_ref()).map(str::to_owned),
                    details: endpoint::details(&attributes).map(str::to_owned),
                    is_end: head.end_of_stream,
                    shows_body: self.shows_response(),
                }))
            }
            Some(Part::ResponseBody(body)) => {
                self.expect(Stage::Answering, "some of the response's body")?;
                Ok(Step::Body(body.body, body.end_of_stream))
            }
            Some(Part::ResponseTrailers(_)) => {
                self.expect(Stage::Answering, "the response's trailers")?;
                Ok(Step::End)
            }
            None => Err(Wrong::Order("nothing that is known")),
        }
    }

    /// Whether the response's body will be shown.
    pub fn shows_response(&self) -> bool {
        self.response_mode != BodySendMode::None
    }

    /// Whether the proxy answers by itself, so that the request goes nowhere.
    pub fn is_local(&self) -> bool {
        self.stage == Stage::Local
    }

    const fn is_undirected(&self) -> bool {
        matches!(self.stage, Stage::Head | Stage::Body | Stage::Asked { .. })
    }

    fn expect(&self, stage: Stage, what: &'static str) -> Result<(), Wrong> {
        (self.stage == stage).then_some(()).ok_or(Wrong::Order(what))
    }

    fn head(&mut self, head: HttpHeaders) -> Result<Step, Wrong> {
        self.asked.headers = plain(head.headers);
        if head.end_of_stream {
            return Ok(self.whole(false));
        }
        self.stage = Stage::Body;
        self.has_body = true;
        match self.request_mode {
            BodySendMode::FullDuplexStreamed => Ok(Step::Reply(None)),
            // The body comes once its head was replied to.
            BodySendMode::Buffered => {
                let nothing = Replied { response: Some(CommonResponse::default()) };
                Ok(Step::Reply(Some(Reply::RequestHeaders(nothing).into())))
            }
            mode => Err(Wrong::Mode(mode)),
        }
    }

    fn request_body(&mut self, body: &HttpBody) -> Result<Step, Wrong> {
        self.expect(Stage::Body, "some of the request's body")?;
        if self.body.len() + body.body.len() > self.body_bytes_max {
            return Err(Wrong::TooLarge(self.body_bytes_max));
        }
        if self.body.is_empty() && body.end_of_stream {
            // All of it at once needs no copy.
            self.kept = body.body.clone();
            return Ok(self.whole(false));
        }
        self.body.extend_from_slice(&body.body);
        Ok(if body.end_of_stream { self.whole(false) } else { Step::Reply(None) })
    }

    fn whole(&mut self, trailers: bool) -> Step {
        self.stage = Stage::Asked { trailers };
        if self.kept.is_empty() {
            self.kept = std::mem::take(&mut self.body).freeze();
        }
        let asked = std::mem::take(&mut self.asked);
        Step::Asked(Asked { body: self.kept.clone(), ..asked })
    }

    /// What is sent to direct the request, which goes on its way with that.
    pub fn direct(&mut self, to: Direction) -> Vec<ProcessingResponse> {
        let Stage::Asked { trailers } = self.stage else { return Vec::new() };
        self.stage = Stage::Directed;
        let is_duplex = self.request_mode == BodySendMode::FullDuplexStreamed;
        let mut set = vec![(DESTINATION.to_owned(), Bytes::from(to.endpoint.clone()))];
        set.extend(to.set);
        let changed = to.body.filter(|_| self.has_body);
        if let Some(body) = changed.as_ref().filter(|_| !is_duplex) {
            set.push(("content-length".to_owned(), Bytes::from(body.len().to_string())));
        }
        let mut common = CommonResponse {
            header_mutation: Some(HeaderMutation {
                set_headers: set.into_iter().map(overwrite).collect(),
                remove_headers: to.remove,
            }),
            body_mutation: None,
            clear_route_cache: true,
        };
        let told = |reply: Reply| ProcessingResponse {
            reply: Some(reply),
            dynamic_metadata: Some(endpoint::destination(&to.endpoint)),
        };
        let kept = std::mem::take(&mut self.kept);
        if !self.has_body {
            return vec![told(Reply::RequestHeaders(Replied { response: Some(common) }))];
        }
        if !is_duplex {
            common.body_mutation = changed.map(|body| Mutation::Body(body).into());
            return vec![told(Reply::RequestBody(Replied { response: Some(common) }))];
        }
        let mut replies = vec![told(Reply::RequestHeaders(Replied { response: Some(common) }))];
        let pieces = pieces(changed.unwrap_or(kept), !trailers);
        replies.extend(pieces.map(|piece| Reply::RequestBody(piece).into()));
        if trailers {
            replies.push(Reply::RequestTrailers(TrailersReplied::default()).into());
        }
        replies
    }

    /// What is sent to let the response's head pass, with more headers.
    pub fn pass_head(&self, set: Vec<(String, Bytes)>, remove: Vec<String>) -> ProcessingResponse {
        let mutation = HeaderMutation {
            set_headers: set.into_iter().map(overwrite).collect(),
            remove_headers: remove,
        };
        let common =
            CommonResponse { header_mutation: Some(mutation), ..CommonResponse::default() };
        Reply::ResponseHeaders(Replied { response: Some(common) }).into()
    }

    /// What is sent to let some of the response's body pass, as what it is to be.
    pub fn pass_body(&self, came: &Bytes, told: Bytes, is_end: bool) -> Vec<ProcessingResponse> {
        if self.response_mode == BodySendMode::FullDuplexStreamed {
            if told.is_empty() && !is_end {
                return Vec::new();
            }
            let pieces = pieces(told, is_end);
            return pieces.map(|piece| Reply::ResponseBody(piece).into()).collect();
        }
        let body_mutation = if told == *came {
            None
        } else if told.is_empty() {
            Some(Mutation::Clear(true).into())
        } else {
            Some(Mutation::Body(told).into())
        };
        let common = CommonResponse { body_mutation, ..CommonResponse::default() };
        vec![Reply::ResponseBody(Replied { response: Some(common) }).into()]
    }

    /// What is sent to let the response's trailers pass, after what is left of its body.
    pub fn pass_trailers(&self, rest: Bytes) -> Vec<ProcessingResponse> {
        let mut replies = Vec::new();
        if self.response_mode == BodySendMode::FullDuplexStreamed && !rest.is_empty() {
            replies.extend(pieces(rest, false).map(|piece| Reply::ResponseBody(piece).into()));
        }
        replies.push(Reply::ResponseTrailers(TrailersReplied::default()).into());
        replies
    }
}

/// An answer that the proxy gives in place of any other.
pub fn immediate(status: u16, headers: Vec<(String, Bytes)>, body: Bytes) -> ProcessingResponse {
    let headers = HeaderMutation {
        set_headers: headers.into_iter().map(overwrite).collect(),
        remove_headers: Vec::new(),
    };
    let (status, headers) = (Some(HttpStatus { code: status.into() }), Some(headers));
    let details = "answered_by_endpoint_picker".to_owned();
    Reply::Immediate(ImmediateResponse { status, headers, body, details }).into()
}

impl From<Reply> for ProcessingResponse {
    fn from(reply: Reply) -> Self {
        Self { reply: Some(reply), dynamic_metadata: None }
    }
}

impl From<Mutation> for BodyMutation {
    fn from(mutation: Mutation) -> Self {
        Self { mutation: Some(mutation) }
    }
}

/// A body in pieces that proxies take; an empty one is one piece.
fn pieces(body: Bytes, ends: bool) -> impl Iterator<Item = Replied> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let mut left = rest.take()?;
        let piece = left.split_to(left.len().min(PIECE_BYTES));
        let is_last = left.is_empty();
        rest = Some(left).filter(|_| !is_last);
        let streamed = StreamedBody { body: piece, end_of_stream: ends && is_last };
        let body_mutation = Some(Mutation::Streamed(streamed).into());
        Some(Replied {
            response: Some(CommonResponse { body_mutation, ..CommonResponse::default() }),
        })
    })
}

fn overwrite((key, raw_value): (String, Bytes)) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key, value: String::new(), raw_value }),
        append_action: AppendAction::Overwrite.into(),
    }
}

fn plain(headers: Option<HeaderMap>) -> Vec<(String, Bytes)> {
    let headers = headers.map(|map| map.headers).unwrap_or_default();
    let one = |header: HeaderValue| {
        let HeaderValue { key, value, raw_value } = header;
        (key, if raw_value.is_empty() { Bytes::from(value) } else { raw_value })
    };
    headers.into_iter().map(one).collect()
}
