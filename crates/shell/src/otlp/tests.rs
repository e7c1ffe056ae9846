//! An exporter with a collector that follows a script, in time that the tests move; and with ones that speak HTTP
//! and gRPC, over real connections.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::net::TcpListener;

use super::message::{ExportRequest, ExportResponse, PartialSuccess};
use super::*;
use crate::env::Var;
use crate::grpc::{Code, Grpc, Status};
use crate::metrics::Metrics;
use crate::serve::{ServeLimits, serve};

/// What a collector does with the next message.
#[derive(Clone, Debug)]
enum Act {
    Takes,
    Later(Option<u64>),
    Refuses,
    Rejects(u64),
    Hangs,
}

/// A collector that does one thing after another, and then takes everything.
#[derive(Clone, Default)]
struct Scripted {
    acts: Arc<Mutex<VecDeque<Act>>>,
    /// When each message came, in seconds from the begin, and how many spans it had.
    came: Arc<Mutex<Vec<(f64, usize)>>>,
    begun: Option<Clock>,
}

impl Receiver for Scripted {
    fn send(&self, message: Bytes) -> Sending<'_> {
        let act = self.acts.lock().pop_front().unwrap_or(Act::Takes);
        let at = self.begun.map_or(0.0, |begun| begun.now_nanos() as f64 / 1e9);
        self.came.lock().push((at, spans_of(&message).len()));
        Box::pin(async move {
            let why = "as the script says".to_owned();
            match act {
                Act::Takes => Sent::Taken { rejected_spans: 0, message: String::new() },
                Act::Rejects(rejected_spans) => Sent::Taken { rejected_spans, message: why },
                Act::Later(after) => Sent::Later { after: after.map(Duration::from_secs), why },
                Act::Refuses => Sent::Refused { why },
                Act::Hangs => std::future::pending().await,
            }
        })
    }
}

fn spans_of(message: &[u8]) -> Vec<TraceSpan> {
    let request = ExportRequest::decode(message).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn config(set: &[(Var, &str)]) -> Config {
    let usual = [(Var::OtlpEndpoint, "http://127.0.0.1:1"), (Var::SpanDelay, "1000")];
    let get = |var| {
        let mut all = set.iter().chain(&usual);
        all.find(|(known, _)| *known == var).map(|(_, text)| (*text).to_owned())
    };
    Config::read("tests", &get).unwrap().unwrap()
}

const SCOPE: Scope = Scope { name: "pilotage", version: "1", schema_url: "" };

/// Two spans for each number.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what any exporter makes spans of comes by reference"
)]
fn two(number: &u64, out: &mut Vec<TraceSpan>) {
    for span in 0..2 {
        out.push(TraceSpan {
            span_id: (number * 2 + span).to_be_bytes().to_vec(),
            name: "span".to_owned(),
            ..TraceSpan::default()
        });
    }
}

fn scripted(acts: &[Act], set: &[(Var, &str)]) -> (Exporter<u64>, Scripted) {
    let acts = Arc::new(Mutex::new(acts.iter().cloned().collect()));
    let collector = Scripted { acts, begun: Some(Clock::start()), ..Scripted::default() };
    let counts = Counts::register(&Metrics::new());
    let receiver = Box::new(collector.clone());
    let exporter = Exporter::sending(receiver, (config(set), SCOPE), counts, Clock::start(), two);
    (exporter, collector)
}

async fn seconds(seconds: u64) {
    Clock::start().sleep_until_nanos(seconds * 1_000_000_000).await;
}

/// Exported, dropped, failed, rejected spans.
fn became(exporter: &Exporter<u64>) -> [u64; 4] {
    let state = exporter.state();
    [state.exported, state.dropped, state.failed, state.rejected_spans]
}

#[tokio::test(start_paused = true)]
async fn batches_go_by_time_or_by_size() {
    let (exporter, collector) = scripted(&[], &[(Var::SpanBatch, "16")]);
    assert_eq!(exporter.state().state, "waiting");
    exporter.offer(1);
    exporter.offer(2);
    seconds(2).await;
    // Two traces are taken for a batch of 16 spans, and eight of these traces are one.
    (3..20).for_each(|number| exporter.offer(number));
    seconds(1).await;
    let came: Vec<usize> = collector.came.lock().iter().map(|(_, spans)| *spans).collect();
    assert_eq!(came, [4, 16, 16, 2]);
    assert_eq!(became(&exporter), [19, 0, 0, 0]);
    assert_eq!((exporter.state().state, exporter.state().queued), ("up", 0));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_is_tried_again_with_growing_pauses() {
    let away = vec![Act::Later(None); 4];
    let (exporter, collector) = scripted(&away, &[]);
    exporter.offer(1);
    seconds(4).await;
    let state = exporter.state();
    assert_eq!((state.state, state.last_error.as_deref()), ("failing", Some("as the script says")));
    assert!(state.failing_since_unix_ms.is_some());
    seconds(30).await;
    assert_eq!(became(&exporter), [1, 0, 0, 0]);
    assert_eq!((exporter.state().state, exporter.state().last_error), ("up", None));
    let came: Vec<f64> = collector.came.lock().iter().map(|(at, _)| *at).collect();
    let pauses: Vec<f64> = came.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 4);
    for (pause, expect) in pauses.into_iter().zip([1.0, 1.5, 2.25, 3.375]) {
        assert!((pause / expect - 1.0).abs() < 0.21, "{pause} for {expect}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_says_when_to_come_again() {
    let (exporter, collector) = scripted(&[Act::Later(Some(17))], &[]);
    exporter.offer(1);
    seconds(30).await;
    let came: Vec<f64> = collector.came.lock().iter().map(|(at, _)| *at).collect();
    assert!((came[1] - came[0] - 17.0).abs() < 0.1, "{came:?}");
    assert_eq!(became(&exporter), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_places_are_for_what_is_urgent() {
    let (exporter, _) = scripted(&vec![Act::Hangs; 100], &[(Var::SpanQueue, "8")]);
    exporter.offer(0);
    seconds(6).await;
    for number in 1..=6 {
        assert!(exporter.takes(false), "{number}");
        exporter.offer(number);
    }
    assert!(!exporter.takes(false));
    assert!(exporter.takes(true));
    (7..=8).for_each(|number| exporter.offer(number));
    assert!(!exporter.takes(true));
    let state = exporter.state();
    assert_eq!((state.queued, state.dropped), (8, 2), "what there is no room for is counted");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_the_rest_is_dropped_and_counted() {
    let away = vec![Act::Hangs; 100];
    let (exporter, collector) = scripted(&away, &[(Var::SpanQueue, "10"), (Var::SpanBatch, "8")]);
    exporter.offer(0);
    seconds(2).await;
    (1..=30).for_each(|number| exporter.offer(number));
    let state = exporter.state();
    assert_eq!((state.queued, state.queue_max, state.dropped), (10, 10, 20));
    // The first batch is given up at last: a minute of attempts that time out after ten seconds each.
    seconds(70).await;
    let [exported, dropped, failed, _] = became(&exporter);
    assert_eq!((exported, dropped, failed), (0, 20, 1));
    assert!((4..=8).contains(&collector.came.lock().len()), "{:?}", collector.came.lock());
    assert_eq!(exporter.state().last_error.as_deref(), Some("it did not answer in time"));
    // It is back: what still waits is sent.
    collector.acts.lock().clear();
    seconds(200).await;
    let [exported, dropped, failed, _] = became(&exporter);
    assert_eq!(exported + failed, 11);
    assert!(exported > 0 && dropped == 20);
    assert_eq!(exporter.state().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent_again() {
    let (exporter, collector) = scripted(&[Act::Refuses, Act::Rejects(1)], &[]);
    exporter.offer(1);
    seconds(2).await;
    assert_eq!(became(&exporter), [0, 0, 1, 0]);
    assert_eq!(exporter.state().state, "failing");
    exporter.offer(2);
    seconds(2).await;
    assert_eq!(became(&exporter), [1, 0, 1, 1]);
    assert_eq!(exporter.state().state, "up");
    assert_eq!(collector.came.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_is_left_within_a_bound() {
    let (exporter, collector) = scripted(&[], &[]);
    exporter.offer(1);
    exporter.close(Duration::from_secs(3)).await;
    assert_eq!(became(&exporter), [1, 0, 0, 0]);
    assert_eq!(collector.came.lock().len(), 1);
    // A collector that hangs costs that time, and no more.
    let (exporter, _) = scripted(&[Act::Hangs], &[(Var::SpanBatch, "2")]);
    exporter.offer(1);
    exporter.offer(2);
    let begun = Clock::start();
    exporter.close(Duration::from_secs(3)).await;
    assert_eq!(begun.now_nanos() / 1_000_000_000, 3);
    assert_eq!(became(&exporter), [0, 0, 2, 0]);
    // One that is away is asked once more.
    let (exporter, collector) = scripted(&vec![Act::Later(Some(40)); 9], &[]);
    exporter.offer(1);
    seconds(2).await;
    exporter.close(Duration::from_secs(3)).await;
    assert_eq!(became(&exporter), [0, 0, 1, 0]);
    assert_eq!(collector.came.lock().len(), 2);
}

/// Waits for something that comes over a real connection.
async fn until(exporter: &Exporter<u64>, holds: impl Fn(&State) -> bool) -> State {
    for _ in 0..10_000 {
        let state = exporter.state();
        if holds(&state) {
            return state;
        }
        Clock::start().sleep_until_nanos(1_000_000).await;
    }
    panic!("{:?}", exporter.state());
}

fn speaking(address: std::net::SocketAddr, set: &[(Var, &str)]) -> Exporter<u64> {
    let endpoint = format!("http://{address}");
    let fast = [(Var::OtlpEndpoint, endpoint.as_str()), (Var::SpanDelay, "1")];
    let set: Vec<(Var, &str)> = set.iter().chain(&fast).copied().collect();
    let counts = Counts::register(&Metrics::new());
    Exporter::start(config(&set), SCOPE, counts, Clock::start(), two).unwrap()
}

/// A collector over HTTP that gives these answers one after another; and what it got.
async fn over_http(
    answers: Vec<(u16, Vec<u8>)>,
) -> (std::net::SocketAddr, Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let got = Arc::new(Mutex::new(Vec::new()));
    let (seen, answers) = (Arc::clone(&got), Arc::new(Mutex::new(VecDeque::from(answers))));
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            seen.lock().push((head, body));
            let (status, body) = answers.lock().pop_front().unwrap_or((200, Vec::new()));
            let response = http::Response::builder().status(status);
            let response = response.body(http_body_util::Full::new(Bytes::from(body))).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    };
    let serving = serve(socket, service, ServeLimits::default(), CancellationToken::new());
    drop(tasks::spawn("collector", serving));
    (address, got)
}

#[tokio::test]
async fn http_is_as_collectors_take_it() {
    let partly = PartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
    let partly = ExportResponse { partial_success: Some(partly) }.encode_to_vec();
    let (address, got) = over_http(vec![(200, partly), (400, Vec::new())]).await;
    let keys = [(Var::OtlpHeaders, "authorization=Bearer%20pk-1"), (Var::OtlpCompression, "gzip")];
    let exporter = speaking(address, &keys);
    exporter.offer(7);
    let state = until(&exporter, |state| state.exported > 0).await;
    assert_eq!((state.rejected_spans, state.protocol), (2, "http/protobuf"));
    exporter.offer(8);
    let state = until(&exporter, |state| state.failed > 0).await;
    assert_eq!(state.last_error.as_deref(), Some("HTTP status 400"));
    let got = got.lock();
    let (head, body) = &got[0];
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    assert_eq!(head.headers["content-encoding"], "gzip");
    assert_eq!(head.headers["authorization"], "Bearer pk-1");
    let mut plain = Vec::new();
    let mut unzip = flate2::read::GzDecoder::new(body.as_ref());
    std::io::Read::read_to_end(&mut unzip, &mut plain).unwrap();
    let request = ExportRequest::decode(plain.as_slice()).unwrap();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0], KeyValue::new("service.name", "tests"));
    assert_eq!(spans_of(&plain)[0].span_id, 14_u64.to_be_bytes());
}

#[tokio::test]
async fn grpc_is_as_collectors_take_it() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&got);
    let grpc = Grpc::new(crate::grpc::GrpcLimits::default()).unary(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        move |request: ExportRequest| {
            let seen = Arc::clone(&seen);
            async move {
                let mut seen = seen.lock();
                seen.push(request);
                match seen.len() {
                    2 => Err(Status::new(Code::InvalidArgument, "50 % of it is wrong")),
                    _ => Ok(ExportResponse::default()),
                }
            }
        },
    );
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = serve(socket, grpc.service(), Grpc::serve_limits(), stop.clone());
    let serving = tasks::spawn("collector", serving);
    let exporter = speaking(address, &[(Var::OtlpProtocol, "grpc")]);
    exporter.offer(7);
    until(&exporter, |state| state.exported == 1).await;
    exporter.offer(8);
    let state = until(&exporter, |state| state.failed == 1).await;
    let said = "the server answered with code 3: 50 % of it is wrong";
    assert_eq!((state.last_error.as_deref(), state.protocol), (Some(said), "grpc"));
    exporter.offer(9);
    until(&exporter, |state| state.exported == 2).await;
    let ids: Vec<u8> = got
        .lock()
        .iter()
        .map(|request| request.resource_spans[0].scope_spans[0].spans[0].span_id[7])
        .collect();
    assert_eq!(ids, [14, 16, 18]);
    // It goes away: that shows, and what comes waits.
    stop.cancel();
    serving.await.unwrap();
    exporter.offer(10);
    let state = until(&exporter, |state| state.state == "failing").await;
    assert!(state.last_error.is_some_and(|error| error.starts_with("cannot connect")));
    exporter.close(Duration::from_secs(1)).await;
    assert_eq!(exporter.state().failed, 2);
}

#[tokio::test]
async fn compressed_messages_of_grpc_say_so() {
    // The server of this kit takes none, as gRPC provides for, and the exporter says what is wrong.
    let grpc = Grpc::new(crate::grpc::GrpcLimits::default()).unary(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        async |_: ExportRequest| Ok(ExportResponse::default()),
    );
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = serve(socket, grpc.service(), Grpc::serve_limits(), CancellationToken::new());
    drop(tasks::spawn("collector", serving));
    let set = [(Var::OtlpProtocol, "grpc"), (Var::OtlpCompression, "gzip")];
    let exporter = speaking(address, &set);
    exporter.offer(1);
    let state = until(&exporter, |state| state.failed == 1).await;
    assert!(state.last_error.is_some_and(|error| error.contains("compressed")));
}

#[test]
fn all_outcomes_are_there_from_the_begin() {
    let metrics = Metrics::new();
    Counts::register(&metrics);
    let text = metrics.encode();
    for outcome in ["exported", "dropped", "failed", "held_back"] {
        let line = format!("pilotage_otlp_traces_total{{outcome=\"{outcome}\"}} 0\n");
        assert!(text.contains(&line), "{text}");
    }
    assert!(text.contains("pilotage_otlp_up NaN\n"), "{text}");
}
