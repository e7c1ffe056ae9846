//! Conversations in all ways that proxies have them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::*;

fn header(key: &str, value: &str) -> HeaderValue {
    HeaderValue {
        key: key.to_owned(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn head(pairs: &[(&str, &str)], end_of_stream: bool) -> HttpHeaders {
    let headers = pairs.iter().map(|(key, value)| header(key, value)).collect();
    HttpHeaders { headers: Some(HeaderMap { headers }), end_of_stream }
}

fn body(text: &str, end_of_stream: bool) -> HttpBody {
    HttpBody { body: Bytes::copy_from_slice(text.as_bytes()), end_of_stream }
}

fn said(part: Part) -> ProcessingRequest {
    ProcessingRequest { part: Some(part), ..ProcessingRequest::default() }
}

fn first(end: bool, request: BodySendMode, response: BodySendMode) -> ProcessingRequest {
    ProcessingRequest {
        protocol_config: Some(ProtocolConfiguration {
            request_body_mode: request.into(),
            response_body_mode: response.into(),
            send_body_without_waiting_for_header_response: false,
        }),
        ..said(Part::RequestHeaders(head(
            &[(":method", "POST"), (":path", "/v1/completions")],
            end,
        )))
    }
}

fn to(endpoint: &str, body: Option<&str>) -> Direction {
    Direction {
        endpoint: endpoint.to_owned(),
        set: vec![("x-a".to_owned(), Bytes::from_static(b"1"))],
        remove: vec!["authorization".to_owned()],
        body: body.map(|body| Bytes::copy_from_slice(body.as_bytes())),
    }
}

/// What is sent, in a line each.
fn shown(replies: &[ProcessingResponse]) -> Vec<String> {
    let one = |replied: &Replied| {
        let common = replied.response.clone().unwrap_or_default();
        let mutation = common.header_mutation.unwrap_or_default();
        let set = mutation.set_headers.iter().map(|option| {
            assert_eq!(option.append_action(), AppendAction::Overwrite);
            let header = option.header.as_ref().unwrap();
            format!(" {}={}", header.key, String::from_utf8_lossy(header.bytes()))
        });
        let removed = mutation.remove_headers.iter().map(|name| format!(" -{name}"));
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let body = match common.body_mutation.and_then(|body| body.mutation) {
            None => String::new(),
            Some(Mutation::Body(body)) => format!(" body={}", text(&body)),
            Some(Mutation::Clear(_)) => " cleared".to_owned(),
            Some(Mutation::Streamed(piece)) if piece.body.len() > 100 => {
                format!(" {} bytes end={}", piece.body.len(), piece.end_of_stream)
            }
            Some(Mutation::Streamed(piece)) => {
                format!(" piece={} end={}", text(&piece.body), piece.end_of_stream)
            }
        };
        set.chain(removed).collect::<String>() + &body
    };
    let line = |reply: &ProcessingResponse| {
        let told = if reply.dynamic_metadata.is_some() { " metadata" } else { "" };
        match reply.reply.as_ref().unwrap() {
            Reply::RequestHeaders(replied) => format!("request head{}{told}", one(replied)),
            Reply::ResponseHeaders(replied) => format!("response head{}{told}", one(replied)),
            Reply::RequestBody(replied) => format!("request body{}{told}", one(replied)),
            Reply::ResponseBody(replied) => format!("response body{}{told}", one(replied)),
            Reply::RequestTrailers(_) => "request trailers".to_owned(),
            Reply::ResponseTrailers(_) => "response trailers".to_owned(),
            Reply::Immediate(answer) => format!("immediate {}", answer.status.unwrap().code),
        }
    };
    replies.iter().map(line).collect()
}

fn asked(step: Result<Step, Wrong>) -> Asked {
    let Ok(Step::Asked(asked)) = step else { panic!("it is not whole: {step:?}") };
    asked
}

#[test]
fn a_duplex_request_is_answered_once_it_is_whole() {
    let check = |parts: Vec<Part>, direction: Direction, expect: &[&str]| {
        let mut talk = Conversation::new(1 << 20);
        let duplex = BodySendMode::FullDuplexStreamed;
        assert_eq!(talk.take(first(false, duplex, duplex)), Ok(Step::Reply(None)));
        let mut steps: Vec<_> = parts.into_iter().map(|part| talk.take(said(part))).collect();
        let asked = asked(steps.pop().unwrap());
        assert!(steps.iter().all(|step| *step == Ok(Step::Reply(None))));
        assert_eq!(&asked.body[..], b"hello");
        assert_eq!(asked.header(":path"), Some(&b"/v1/completions"[..]));
        assert_eq!(shown(&talk.direct(direction)), expect);
        assert!(talk.direct(to("x", None)).is_empty(), "it is directed once");
    };
    let headed =
        "request head x-gateway-destination-endpoint=10.0.0.1:8000 x-a=1 -authorization metadata";
    let there = || to("10.0.0.1:8000", None);
    let whole = || vec![Part::RequestBody(body("hel", false)), Part::RequestBody(body("lo", true))];
    check(whole(), there(), &[headed, "request body piece=hello end=true"]);
    check(whole(), to("10.0.0.1:8000", Some("bye")), &[headed, "request body piece=bye end=true"]);
    let trailed = vec![
        Part::RequestBody(body("hello", false)),
        Part::RequestTrailers(HttpTrailers::default()),
    ];
    check(trailed, there(), &[headed, "request body piece=hello end=false", "request trailers"]);
    let large = "x".repeat(70_000);
    let pieces = ["request body 62000 bytes end=false", "request body 8000 bytes end=true"];
    check(whole(), to("10.0.0.1:8000", Some(&large)), &[headed, pieces[0], pieces[1]]);
}

#[test]
fn a_buffered_request_is_directed_by_its_body() {
    let check = |new: Option<&str>, expect: &str| {
        let mut talk = Conversation::new(1 << 20);
        let step = talk.take(first(false, BodySendMode::Buffered, BodySendMode::Streamed)).unwrap();
        let Step::Reply(Some(reply)) = step else { panic!("the body waits for a reply") };
        assert_eq!(shown(&[reply]), ["request head"]);
        let whole = asked(talk.take(said(Part::RequestBody(body("hello", true)))));
        assert_eq!(&whole.body[..], b"hello");
        assert_eq!(shown(&talk.direct(to("10.0.0.1:80", new))), [expect]);
    };
    let start = "request body x-gateway-destination-endpoint=10.0.0.1:80 x-a=1";
    check(None, &format!("{start} -authorization metadata"));
    check(Some("bye"), &format!("{start} content-length=3 -authorization body=bye metadata"));
}

#[test]
fn what_has_no_body_is_directed_by_its_head() {
    let mut talk = Conversation::new(16);
    let duplex = BodySendMode::FullDuplexStreamed;
    let whole = asked(talk.take(first(true, duplex, duplex)));
    assert!(whole.body.is_empty());
    let expect = "request head x-gateway-destination-endpoint=a x-a=1 -authorization metadata";
    assert_eq!(shown(&talk.direct(to("a", Some("no body")))), [expect]);
}

#[test]
fn what_cannot_be_done_is_said() {
    use BodySendMode::{BufferedPartial, FullDuplexStreamed, None, Streamed};
    for mode in [None, Streamed, BufferedPartial] {
        let mut talk = Conversation::new(16);
        assert_eq!(talk.take(first(false, mode, None)), Err(Wrong::Mode(mode)));
    }
    let mut talk = Conversation::new(4);
    talk.take(first(false, FullDuplexStreamed, None)).unwrap();
    talk.take(said(Part::RequestBody(body("123", false)))).unwrap();
    let more = talk.take(said(Part::RequestBody(body("45", false))));
    assert_eq!(more, Err(Wrong::TooLarge(4)));
    let mut talk = directed(None);
    let twice = talk.take(first(false, FullDuplexStreamed, None));
    assert_eq!(twice, Err(Wrong::Order("the request's headers")));
    let watched = ProcessingRequest { observability_mode: true, ..ProcessingRequest::default() };
    assert_eq!(talk.take(watched), Err(Wrong::Observed));
}

/// One whose request is on its way.
fn directed(response: BodySendMode) -> Conversation {
    let mut talk = Conversation::new(16);
    asked(talk.take(first(true, BodySendMode::FullDuplexStreamed, response)));
    talk.direct(to("a", None));
    talk
}

#[test]
fn responses_are_shown_and_let_pass() {
    let mut talk = directed(BodySendMode::FullDuplexStreamed);
    let details = Struct {
        fields: BTreeMap::from([("response.code_details".to_owned(), text("via_upstream"))]),
    };
    let begins = ProcessingRequest {
        metadata_context: Some(metadata("envoy.lb", SERVED, text("10.0.0.2:80"))),
        attributes: BTreeMap::from([("envoy.filters.http.ext_proc".to_owned(), details)]),
        ..said(Part::ResponseHeaders(head(&[(":status", "200")], false)))
    };
    let Ok(Step::Answered(answered)) = talk.take(begins) else { panic!("it begins") };
    assert_eq!((answered.status(), answered.is_end, answered.shows_body), (200, false, true));
    assert_eq!(answered.served.as_deref(), Some("10.0.0.2:80"));
    assert_eq!(answered.details.as_deref(), Some("via_upstream"));
    let piece = talk.take(said(Part::ResponseBody(body("a", false))));
    assert_eq!(piece, Ok(Step::Body(Bytes::from_static(b"a"), false)));
    assert_eq!(talk.take(said(Part::ResponseTrailers(HttpTrailers::default()))), Ok(Step::End));
    assert!(!directed(BodySendMode::None).shows_body());
}

/// What passes of an answer that the proxy gives by itself.
fn passed(step: Result<Step, Wrong>) -> Vec<String> {
    let Ok(Step::Passed(replies)) = step else { panic!("it does not pass: {step:?}") };
    shown(&replies)
}

#[test]
fn an_answer_of_the_proxy_itself_passes_as_it_is() {
    use BodySendMode::{Buffered, FullDuplexStreamed, Streamed};
    let nothing = |_: &mut Conversation| {};
    let begins = |talk: &mut Conversation| {
        talk.take(first(false, FullDuplexStreamed, FullDuplexStreamed)).unwrap();
    };
    let half = |talk: &mut Conversation| {
        talk.take(first(false, Buffered, Streamed)).unwrap();
        talk.take(said(Part::RequestBody(body("hel", false)))).unwrap();
    };
    let whole = |talk: &mut Conversation| {
        asked(talk.take(first(true, FullDuplexStreamed, FullDuplexStreamed)));
    };
    let check = |before: &dyn Fn(&mut Conversation), expect: &str| {
        let mut talk = Conversation::new(16);
        before(&mut talk);
        assert!(!talk.is_local());
        let head = talk.take(said(Part::ResponseHeaders(head(&[(":status", "413")], false))));
        assert_eq!(passed(head), ["response head"]);
        assert!(talk.is_local());
        let late = talk.take(said(Part::RequestBody(body("lo", true))));
        assert_eq!(late, Ok(Step::Reply(None)), "nobody directs it any more");
        assert!(talk.direct(to("a", None)).is_empty());
        assert_eq!(passed(talk.take(said(Part::ResponseBody(body("no", true))))), [expect]);
        let end = talk.take(said(Part::ResponseTrailers(HttpTrailers::default())));
        assert_eq!(passed(end), ["response trailers"]);
    };
    let piece = "response body piece=no end=true";
    check(&nothing, piece);
    check(&begins, piece);
    check(&half, "response body");
    check(&whole, piece);
}

impl Conversation {
    fn shows_body(mut self) -> bool {
        let step = self.take(said(Part::ResponseHeaders(head(&[(":status", "200")], false))));
        let Ok(Step::Answered(answered)) = step else { panic!("it begins") };
        answered.shows_body
    }
}

#[test]
fn bodies_pass_as_the_mode_wants_it() {
    let check = |mode: BodySendMode, (came, told, is_end): (&str, &str, bool), expect: &[&str]| {
        let (came, told) = (Bytes::from(came.to_owned()), Bytes::from(told.to_owned()));
        assert_eq!(shown(&directed(mode).pass_body(&came, told, is_end)), expect);
    };
    let duplex = BodySendMode::FullDuplexStreamed;
    check(duplex, ("a", "a", false), &["response body piece=a end=false"]);
    check(duplex, ("a", "", false), &[]);
    check(duplex, ("a", "", true), &["response body piece= end=true"]);
    check(BodySendMode::Streamed, ("a", "a", false), &["response body"]);
    check(BodySendMode::Streamed, ("a", "", false), &["response body cleared"]);
    check(BodySendMode::Buffered, ("a", "b", true), &["response body body=b"]);
    let rest = Bytes::from_static(b"r");
    let trailed = directed(duplex).pass_trailers(rest);
    assert_eq!(shown(&trailed), ["response body piece=r end=false", "response trailers"]);
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::Text(text.to_owned())) }
}

fn metadata(namespace: &str, key: &str, value: Value) -> Metadata {
    let inner = Struct { fields: BTreeMap::from([(key.to_owned(), value)]) };
    Metadata { filter_metadata: BTreeMap::from([(namespace.to_owned(), inner)]) }
}

#[test]
fn hints_say_who_may_be_chosen() {
    let check = |value: Option<Value>, expect: Option<&[&str]>| {
        let mut talk = Conversation::new(16);
        let duplex = BodySendMode::FullDuplexStreamed;
        let request = ProcessingRequest {
            metadata_context: value.map(|value| metadata("envoy.lb.subset_hint", SUBSET, value)),
            ..first(true, duplex, duplex)
        };
        let expect = expect.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(asked(talk.take(request)).subset, expect);
    };
    let list = |texts: &[&str]| {
        let values = texts.iter().map(|one| text(one)).collect();
        Some(Value { kind: Some(Kind::List(List { values })) })
    };
    check(None, None);
    check(Some(text("10.0.0.1:80, 10.0.0.2:80")), Some(&["10.0.0.1:80", "10.0.0.2:80"]));
    check(list(&["a:1", "b:2,c:3"]), Some(&["a:1", "b:2", "c:3"]));
    check(list(&[]), Some(&[]));
    check(Some(Value { kind: Some(Kind::Number(1.0)) }), Some(&[]));
}

/// What Envoy's own definitions make of these messages, byte for byte: field numbers and types.
#[test]
fn messages_are_written_as_they_are_defined() {
    let to =
        endpoint_of(immediate(429, vec![("a".to_owned(), Bytes::from_static(b"b"))], "c".into()));
    assert_eq!(
        to,
        [
            0x3a, 0x33, // immediate_response, 7
            0x0a, 0x03, 0x08, 0xad, 0x03, // status, 1 { code, 1: 429 }
            0x12, 0x0c, 0x0a, 0x0a, // headers, 2 { set_headers, 1
            0x0a, 0x06, 0x0a, 0x01, b'a', 0x1a, 0x01,
            b'b', // header, 1 { key, 1; raw_value, 3 }
            0x18, 0x02, // append_action, 3 } }
            0x1a, 0x01, b'c', // body, 3
            0x2a, 0x1b, // details, 5
        ]
        .into_iter()
        .chain(*b"answered_by_endpoint_picker")
        .collect::<Vec<u8>>()
    );
    let request = [
        0x12, 0x0c, // request_headers, 2
        0x0a, 0x08, 0x0a, 0x06, 0x0a, 0x01, b'k', 0x1a, 0x01, b'v', // headers, 1 …
        0x18, 0x01, // end_of_stream, 3
        0x5a, 0x04, 0x08, 0x04, 0x10, 0x02, // protocol_config, 11
    ];
    let read = ProcessingRequest::decode(&request[..]).unwrap();
    let Some(Part::RequestHeaders(head)) = read.part else { panic!("it is a head") };
    assert!(head.end_of_stream);
    assert_eq!(head.headers.unwrap().headers, [header("k", "v")]);
    let config = read.protocol_config.unwrap();
    assert_eq!(config.request_body_mode(), BodySendMode::FullDuplexStreamed);
    assert_eq!(config.response_body_mode(), BodySendMode::Buffered);
}

fn endpoint_of(response: ProcessingResponse) -> Vec<u8> {
    response.encode_to_vec()
}
