//! The gateway as an endpoint picker: requests that a proxy carries, over a real connection.

mod ends;

use std::time::Duration;

use axum::body::Bytes;
use bytes::{BufMut as _, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderName, Request};
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::epp::{self, PickerConfig};
use pilotage_gateway::{Gateway, GatewayConfig, Replica};
use pilotage_shell::clock::Clock;
use pilotage_shell::grpc::Grpc;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::serve;
use pilotage_wire::extproc::{
    BodySendMode, HeaderMap, HeaderValue, HttpBody, HttpHeaders, Kind, List, Metadata, Mutation,
    PROCESS, Part, ProcessingRequest, ProcessingResponse, ProtocolConfiguration, Reply, SERVICE,
    SUBSET, Struct, Value,
};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::{KEY, config, ended, status, until_idle, until_queued};

const DESTINATION: &str = "x-gateway-destination-endpoint";

/// A gateway with replicas of so many places each, none of which is ever called here.
fn gateway(config: GatewayConfig, replicas: u32, places: u32) -> Gateway {
    let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
    for id in 1..=replicas {
        let key = Some(Secret::new("engine-key".to_owned()));
        let url = format!("http://127.0.0.1:{id}");
        let capacity = Capacity::of_requests(places);
        let metrics = None;
        let replica =
            Replica { key, metrics, ..Replica::at(format!("replica-{id}"), url, capacity) };
        gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
    }
    gateway
}

fn usual(replicas: u32, places: u32) -> Gateway {
    gateway(config(), replicas, places)
}

/// A proxy's connection to the picker.
async fn proxy(gateway: &Gateway, config: PickerConfig) -> SendRequest<Bytes> {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let service = epp::service(gateway, config).service();
    let mut limits = Grpc::serve_limits();
    // Time that is paused runs ahead of sockets: a ping would be late.
    limits.http2.ping_interval = Duration::from_secs(86_400);
    let serving = serve(socket, service, limits, CancellationToken::new());
    drop(pilotage_shell::tasks::spawn("picker", serving));
    let stream = TcpStream::connect(at).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    drop(pilotage_shell::tasks::spawn("proxy", connection));
    client
}

/// Has time pass in small steps, so that what is said over the connection keeps up with it. Each
/// takes a moment of real time too: a busy machine hands bytes over when it comes to it.
async fn step_by_step() {
    let mut steps = tokio::time::interval(Duration::from_millis(5));
    loop {
        steps.tick().await;
        std::thread::park_timeout(Duration::from_micros(100));
    }
}

/// One request of a proxy.
struct Shown {
    to: SendStream<Bytes>,
    from: RecvStream,
    bytes: BytesMut,
}

impl Shown {
    async fn open(client: &SendRequest<Bytes>, method: &str) -> Self {
        let request = Request::post(format!("http://picker{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut client = client.clone().ready().await.unwrap();
        let (response, to) = client.send_request(request, false).unwrap();
        Self { to, from: response.await.unwrap().into_body(), bytes: BytesMut::new() }
    }

    fn send(&mut self, message: &impl Message) {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut bytes).unwrap();
        self.to.send_data(bytes.freeze(), false).unwrap();
    }

    fn show(&mut self, part: Part) {
        self.send(&ProcessingRequest { part: Some(part), ..ProcessingRequest::default() });
    }

    /// What the picker says next; none when it has said all.
    async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some((head, rest)) = self.bytes.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if rest.len() >= length {
                    let message = self.bytes.split_to(5 + length).freeze().slice(5..);
                    return Some(M::decode(message).unwrap());
                }
            }
            let data = self.from.data().await?.unwrap();
            self.from.flow_control().release_capacity(data.len()).unwrap();
            self.bytes.extend_from_slice(&data);
        }
    }

    async fn reply(&mut self) -> ProcessingResponse {
        self.next().await.unwrap()
    }

    /// Shows a chat with these headers besides.
    fn chat(&mut self, body: &str, more: &[(&str, &str)], subset: Option<&[&str]>) {
        let mut pairs = vec![(":method", "POST"), (":path", "/v1/chat/completions")];
        pairs.extend_from_slice(more);
        let list = |names: &[&str]| {
            let text = |name: &&str| Value { kind: Some(Kind::Text((*name).to_owned())) };
            let list = List { values: names.iter().map(text).collect() };
            Value { kind: Some(Kind::List(list)) }
        };
        let metadata_context = subset.map(|names| {
            let hint = Struct { fields: [(SUBSET.to_owned(), list(names))].into() };
            Metadata { filter_metadata: [("envoy.lb.subset_hint".to_owned(), hint)].into() }
        });
        let duplex = BodySendMode::FullDuplexStreamed.into();
        self.send(&ProcessingRequest {
            part: Some(Part::RequestHeaders(head(&pairs, false))),
            metadata_context,
            protocol_config: Some(ProtocolConfiguration {
                request_body_mode: duplex,
                response_body_mode: duplex,
                send_body_without_waiting_for_header_response: true,
            }),
            ..ProcessingRequest::default()
        });
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.show(Part::RequestBody(HttpBody { body, end_of_stream: true }));
    }

    /// Where a chat with the usual key goes.
    async fn goes(&mut self, body: &str) -> String {
        self.chat(body, &[("authorization", &bearer())], None);
        self.directed().await.0
    }

    /// Where it goes, what else is set, and the body that it goes with.
    async fn directed(&mut self) -> (String, Vec<(String, String)>, String) {
        let head = self.reply().await;
        let Some(Reply::RequestHeaders(replied)) = head.reply else { panic!("it stays: {head:?}") };
        let told = head.dynamic_metadata.unwrap().fields.remove("envoy.lb").unwrap();
        let Some(Kind::Struct(told)) = told.kind else { panic!("no struct") };
        let mutation = replied.response.unwrap().header_mutation.unwrap();
        let set: Vec<(String, String)> = mutation.set_headers.into_iter().map(plain).collect();
        let to = set.iter().find(|(name, _)| name == DESTINATION).unwrap().1.clone();
        assert_eq!(told.fields[DESTINATION].kind, Some(Kind::Text(to.clone())));
        let body = self.reply().await;
        let Some(Reply::RequestBody(replied)) = body.reply else { panic!("no body: {body:?}") };
        let (body, is_end) = streamed(replied.response.unwrap().body_mutation.unwrap().mutation);
        assert!(is_end);
        (to, set, body)
    }

    /// The answer that the proxy gives by itself: status, headers, body.
    async fn instead(&mut self) -> (i32, Vec<(String, String)>, String) {
        let reply = self.reply().await;
        let Some(Reply::Immediate(answer)) = reply.reply else { panic!("it goes on: {reply:?}") };
        let headers = answer.headers.unwrap().set_headers.into_iter().map(plain).collect();
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        (answer.status.unwrap().code, headers, body)
    }

    /// Shows the begin of an answer, which may pass.
    async fn answered(&mut self, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        self.show(Part::ResponseHeaders(head(pairs, false)));
        let reply = self.reply().await;
        let Some(Reply::ResponseHeaders(replied)) = reply.reply else { panic!("{reply:?}") };
        let mutation = replied.response.unwrap().header_mutation.unwrap();
        mutation.set_headers.into_iter().map(plain).collect()
    }

    /// Shows some of an answer; returns what passes.
    async fn passes(&mut self, body: &str, is_end: bool) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.show(Part::ResponseBody(HttpBody { body, end_of_stream: is_end }));
        let reply = self.reply().await;
        let Some(Reply::ResponseBody(replied)) = reply.reply else { panic!("{reply:?}") };
        let (body, ends) = streamed(replied.response.unwrap().body_mutation.unwrap().mutation);
        assert_eq!(ends, is_end);
        body
    }

    fn leave(mut self) {
        self.to.send_reset(h2::Reason::CANCEL);
    }
}

fn plain(option: pilotage_wire::extproc::HeaderValueOption) -> (String, String) {
    let header = option.header.unwrap();
    let value = String::from_utf8(header.bytes().to_vec()).unwrap();
    (header.key, value)
}

fn streamed(mutation: Option<Mutation>) -> (String, bool) {
    let Some(Mutation::Streamed(piece)) = mutation else { panic!("{mutation:?}") };
    (String::from_utf8(piece.body.to_vec()).unwrap(), piece.end_of_stream)
}

fn head(pairs: &[(&str, &str)], end_of_stream: bool) -> HttpHeaders {
    let header = |(key, value): &(&str, &str)| HeaderValue {
        key: (*key).to_owned(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
        ..HeaderValue::default()
    };
    HttpHeaders {
        headers: Some(HeaderMap { headers: pairs.iter().map(header).collect() }),
        end_of_stream,
    }
}

fn bearer() -> String {
    format!("Bearer {KEY}")
}

const CHAT: &str = r#"{"model":"public","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"public","stream":true,"messages":[]}"#;
const JSON: (&str, &str) = ("content-type", "application/json");
const EVENTS: (&str, &str) = ("content-type", "text/event-stream");
const OK: (&str, &str) = (":status", "200");
const ANSWER: &str = r#"{"choices":[{"message":{"content":"ho"}}],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#;

async fn open(client: &SendRequest<Bytes>) -> Shown {
    Shown::open(client, PROCESS).await
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

async fn in_flight(gateway: &Gateway, replica: usize) -> serde_json::Value {
    status(gateway).await["lanes"][0]["replicas"][replica]["in_flight"].clone()
}

#[tokio::test]
async fn a_request_goes_to_a_replica_as_the_gateway_would_send_it() {
    let gateway = usual(1, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = open(&client).await;
    shown.chat(CHAT, &[("authorization", &bearer()), ("x-request-id", "mine")], None);
    let (to, set, body) = shown.directed().await;
    assert_eq!(to, "127.0.0.1:1");
    assert_eq!(value(&set, "authorization"), Some("Bearer engine-key"));
    assert_eq!(value(&set, "x-request-id"), Some("mine"));
    assert_eq!(value(&set, "x-pilotage-band"), Some("standard"));
    assert!(body.contains(r#""model":"served""#), "{body}");
    assert_eq!(in_flight(&gateway, 0).await, 1);
    let told = shown.answered(&[OK, JSON]).await;
    assert_eq!(value(&told, "x-request-id"), Some("mine"));
    assert_eq!(shown.passes(&ANSWER[..20], false).await, &ANSWER[..20]);
    assert_eq!(shown.passes(&ANSWER[20..], true).await, &ANSWER[20..]);
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "ok").await, 1);
    let metrics = crate::support::metrics(&gateway).await;
    assert!(
        metrics.lines().any(|line| line.contains("tokens") && line.ends_with(" 7")),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_stream_passes_and_its_usage_is_for_who_asked() {
    let gateway = usual(1, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = open(&client).await;
    shown.chat(STREAM, &[("authorization", &bearer())], None);
    let (_, _, body) = shown.directed().await;
    assert!(body.contains("include_usage"), "{body}");
    shown.answered(&[OK, EVENTS]).await;
    let token = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n";
    assert_eq!(shown.passes(token, false).await, token);
    let done = "data: [DONE]\n\n";
    let all = format!("{token}{last}{usage}{done}");
    assert_eq!(shown.passes(&all, false).await, format!("{token}{last}{done}"));
    // What is complete is over, whether or not its client waits for the stream's end.
    until_idle(&gateway).await;
    shown.leave();
    assert_eq!(ended(&gateway, "ok").await, 1);
}

#[tokio::test]
async fn who_asks_is_told_by_a_key_or_by_a_proxy_that_is_trusted() {
    let gateway = usual(1, 4);
    let check = async |config: &PickerConfig, headers: &[(&str, &str)], expect: Option<i32>| {
        let client = proxy(&gateway, config.clone()).await;
        let mut shown = open(&client).await;
        shown.chat(CHAT, headers, None);
        match expect {
            None => assert_eq!(shown.directed().await.0, "127.0.0.1:1"),
            Some(status) => {
                let (told, headers, body) = shown.instead().await;
                assert_eq!(
                    (told, value(&headers, "content-type")),
                    (status, Some("application/json"))
                );
                assert!(body.starts_with("{\"error\""), "{body}");
                assert_eq!(shown.next::<ProcessingResponse>().await, None);
            }
        }
        shown.leave();
    };
    let keys = PickerConfig::default();
    let key = bearer();
    check(&keys, &[("authorization", &key)], None).await;
    check(&keys, &[("authorization", "Bearer another")], Some(401)).await;
    check(&keys, &[("x-tenant", "team")], Some(401)).await;
    let tenant_header = Some(HeaderName::from_static("x-tenant"));
    let trusts = PickerConfig { tenant_header };
    check(&trusts, &[("x-tenant", "team")], None).await;
    check(&trusts, &[("x-tenant", "nobody")], Some(403)).await;
    check(&trusts, &[("authorization", &key)], Some(403)).await;
}

#[tokio::test]
async fn a_request_is_held_until_its_turn() {
    let gateway = usual(1, 1);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let (mut first, mut second) = (open(&client).await, open(&client).await);
    assert_eq!(first.goes(CHAT).await, "127.0.0.1:1");
    second.chat(CHAT, &[("authorization", &bearer())], None);
    until_queued(&gateway, 1).await;
    first.answered(&[OK, JSON]).await;
    first.passes(ANSWER, true).await;
    assert_eq!(second.directed().await.0, "127.0.0.1:1");
}

#[tokio::test]
async fn who_leaves_frees_its_place() {
    let gateway = usual(1, 1);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let (mut first, mut second) = (open(&client).await, open(&client).await);
    first.goes(STREAM).await;
    second.chat(CHAT, &[("authorization", &bearer())], None);
    until_queued(&gateway, 1).await;
    second.leave();
    until_queued(&gateway, 0).await;
    first.leave();
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "client_cancel").await, 2);
}

#[tokio::test]
async fn too_much_is_answered_in_the_shape_of_the_api() {
    let mut config = config();
    config.lanes[0].scheduler.queue.requests_max = 1;
    let gateway = gateway(config, 1, 1);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut shown = open(&client).await;
        shown.chat(CHAT, &[("authorization", &bearer())], None);
        if all.len() == 1 {
            until_queued(&gateway, 1).await;
        }
        all.push(shown);
    }
    let (status, headers, body) = all[2].instead().await;
    assert_eq!(status, 429, "{body}");
    assert!(value(&headers, "retry-after").is_some(), "{headers:?}");
    assert!(body.contains("\"error\""), "{body}");
}

#[tokio::test]
async fn only_replicas_that_the_proxy_allows_are_chosen() {
    let gateway = usual(3, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let check = async |subset: &[&str], expect: Result<&str, i32>| {
        let mut shown = open(&client).await;
        shown.chat(CHAT, &[("authorization", &bearer())], Some(subset));
        match expect {
            Ok(to) => assert_eq!(shown.directed().await.0, to),
            Err(status) => assert_eq!(shown.instead().await.0, status),
        }
    };
    check(&["127.0.0.1:3"], Ok("127.0.0.1:3")).await;
    check(&["127.0.0.1:9", "127.0.0.1:2"], Ok("127.0.0.1:2")).await;
    check(&["127.0.0.1:9"], Err(503)).await;
    check(&[], Err(503)).await;
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_is_left_alone() {
    let gateway = usual(2, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = open(&client).await;
    let to = shown.goes(CHAT).await;
    shown.show(Part::ResponseHeaders(head(
        &[(":status", "503"), ("content-type", "text/plain")],
        false,
    )));
    let (status, _, body) = shown.instead().await;
    assert_eq!(status, 502);
    assert!(body.contains("\"error\""), "{body}");
    let failure = status_of(&gateway, &to).await["last_error"].clone();
    assert_eq!(failure["kind"], "connect");
    assert_eq!(ended(&gateway, "upstream_error").await, 1);
}

async fn status_of(gateway: &Gateway, address: &str) -> serde_json::Value {
    let number: usize = address.rsplit_once(':').unwrap().1.parse().unwrap();
    status(gateway).await["lanes"][0]["replicas"][number - 1].clone()
}

#[tokio::test]
async fn what_replicas_do_not_serve_is_answered_by_the_gateway() {
    let gateway = usual(1, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let check = async |method: &str, path: &str, expect: (i32, &str)| {
        let mut shown = open(&client).await;
        let key = bearer();
        let pairs = [(":method", method), (":path", path), ("authorization", &key)];
        shown.show(Part::RequestHeaders(head(&pairs, true)));
        let (status, _, body) = shown.instead().await;
        assert_eq!(status, expect.0, "{body}");
        assert!(body.contains(expect.1), "{body}");
    };
    check("GET", "/v1/models", (200, "public")).await;
    check("GET", "/nothing", (404, "error")).await;
    check("GET", "/v1/chat/completions", (405, "error")).await;
    check("POST", "/v1/messages", (501, "error")).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    drop(pilotage_shell::tasks::spawn("time", step_by_step()));
    let gateway = usual(1, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = open(&client).await;
    shown.goes(STREAM).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (status, _, body) = shown.instead().await;
    assert_eq!(status, 504, "{body}");
    until_idle(&gateway).await;
}

#[tokio::test]
async fn health_says_whether_requests_are_served() {
    #[derive(Clone, PartialEq, Message)]
    struct Asked {
        #[prost(string, tag = "1")]
        service: String,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Told {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    let check = async |gateway: &Gateway, service: &str, expect: Option<i32>| {
        let client = proxy(gateway, PickerConfig::default()).await;
        let mut shown = Shown::open(&client, "/grpc.health.v1.Health/Check").await;
        shown.send(&Asked { service: service.to_owned() });
        shown.to.send_data(Bytes::new(), true).unwrap();
        let told: Option<Told> = shown.next().await;
        assert_eq!(told.map(|told| told.status), expect, "{service}");
    };
    let (up, down) = (usual(1, 1), usual(0, 1));
    for service in ["", "readiness", SERVICE] {
        check(&up, service, Some(1)).await;
        check(&down, service, Some(2)).await;
    }
    check(&down, "liveness", Some(1)).await;
    check(&up, "another", None).await;
}
