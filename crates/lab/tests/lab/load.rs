//! What a run sends, in which order, and what it writes down.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotage_lab::arrivals::{Process, Profile};
use pilotage_lab::load::{Bench, Endpoint, Limits, Options, Run, Target};
use pilotage_lab::record::{Outcome, Sample};
use pilotage_lab::workload::{Length, Load, Prefix, Spec, Tenant, WarmUp, Workload};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;

use crate::server::{Reply, Server, words};

fn spec(load: Load, requests: u64) -> Spec {
    let workload = Workload {
        input: Length::Fixed(20),
        output: Length::Fixed(3),
        prefix: None,
        turns: 1,
        think_seconds: 0.0,
        tenants: vec![Tenant { name: "all".to_owned(), weight: 1.0 }],
    };
    let warm_up = WarmUp::Requests(0);
    Spec { load, workload, seed: 1, end_nanos: None, requests: Some(requests), warm_up }
}

fn open(rate: f64) -> Load {
    Load::Open { process: Process::Poisson, profile: Profile::constant(rate) }
}

fn limits(connections: usize) -> Limits {
    let minute = Duration::from_secs(60);
    Limits { connections, timeout: minute, grace: minute }
}

fn bench(server: &Server, spec: Spec, limits: Limits, stream: bool) -> Bench {
    let keys = spec.workload.tenants.iter();
    let keys = keys.map(|tenant| Some(Secret::new(format!("key-{}", tenant.name)))).collect();
    let options = Options { model: "m".to_owned(), stream, keys, ..Options::default() };
    let target = Target::new(&server.url, Endpoint::Chat, options).unwrap();
    Bench::new(Clock::start(), spec, target, limits).unwrap()
}

async fn run(server: &Server, spec: Spec) -> Run {
    bench(server, spec, limits(100), true).run().await
}

#[tokio::test]
async fn tokens_are_counted_and_timed() {
    let server = Server::start(|_, _| Reply::Stream(words(&["a", "b", "c"]))).await;
    let run = run(&server, spec(open(2_000.0), 200)).await;
    assert_eq!(run.book.count(Outcome::Ok), 200);
    for sample in &run.book.samples {
        assert_eq!((sample.output_tokens, sample.input_tokens, sample.events), (3, 11, 3));
        assert_eq!(sample.gaps.len(), 2);
        let first = sample.first.unwrap();
        assert!(sample.intended <= sample.paced && sample.paced <= sample.sent);
        assert!(sample.sent <= first && first <= sample.last.unwrap());
        assert!(sample.last.unwrap() <= sample.end && sample.end <= run.over);
    }
    assert_eq!(run.book.gaps.count(), 400);
    let asked = server.asked.lock();
    assert!(asked[0].head.starts_with("post /v1/chat/completions http/1.1"), "{}", asked[0].head);
    assert!(asked[0].head.contains("authorization: bearer key-all"));
    assert_eq!(asked[0].body["messages"][0]["content"].as_str().unwrap().len(), 80);
    assert_eq!(asked[0].body["max_tokens"], 3);
    assert!(server.connections.load(Ordering::Relaxed) < 200, "connections are used again");
}

#[tokio::test]
async fn the_same_seed_asks_the_same() {
    let asked = async |seed| {
        let server = Server::start(|_, _| Reply::Stream(words(&["a"]))).await;
        let spec = Spec { seed, ..spec(open(5_000.0), 50) };
        run(&server, spec).await;
        let mut bodies: Vec<String> =
            server.asked.lock().iter().map(|asked| asked.body.to_string()).collect();
        bodies.sort_unstable();
        bodies
    };
    let first = asked(1).await;
    assert_eq!(first, asked(1).await);
    assert_ne!(first, asked(2).await);
}

/// One connection, and a server that stands still until many more were due: each of them shows how
/// long it stood, though almost all were sent after it.
#[tokio::test]
async fn a_stall_is_in_the_latency_of_all_who_were_due_in_it() {
    let server = Server::start(|number, _| match number {
        50 => Reply::Gated(words(&["a"])),
        _ => Reply::Stream(words(&["a"])),
    })
    .await;
    let bench = bench(&server, spec(open(1_000.0), 300), limits(1), true);
    let watch = bench.watch();
    let gate = server.gate.clone();
    let release = async move {
        while watch.snapshot(0.0).queued < 150 {
            tokio::task::yield_now().await;
        }
        gate.send_replace(true);
    };
    let (run, ()) = tokio::join!(bench.run(), release);
    assert_eq!(run.book.count(Outcome::Ok), 300);
    let mut samples: Vec<&Sample> = run.book.samples.iter().collect();
    samples.sort_by_key(|sample| sample.intended);
    let stalled = samples[50];
    let released = stalled.first.unwrap();
    let due: Vec<&&Sample> =
        samples[51..].iter().filter(|sample| sample.intended < released).collect();
    assert!(due.len() >= 150, "{}", due.len());
    for sample in due {
        assert!(sample.sent >= released, "there is one connection, and it was taken");
        let stood = released - sample.intended;
        assert!(sample.first.unwrap() - sample.intended >= stood);
        assert!(sample.ttft().unwrap() > sample.ttft_sent().unwrap());
        assert!(
            sample.client_queue() >= stood as f64 / 1e9 - 0.05 || sample.schedule_delay() > 0.0
        );
    }
}

#[tokio::test]
async fn a_closed_loop_keeps_so_many_under_way() {
    let server = Server::start(|_, _| Reply::Stream(words(&["a", "b"]))).await;
    let run = run(&server, spec(Load::Closed { concurrency: 4 }, 101)).await;
    assert_eq!(run.book.count(Outcome::Ok), 101);
    assert_eq!(server.connections.load(Ordering::Relaxed), 4);
    let mut changes: Vec<(u64, i32)> = Vec::new();
    for sample in &run.book.samples {
        changes.extend([(sample.intended, 1), (sample.end, -1)]);
    }
    changes.sort_unstable();
    let mut under_way = 0;
    for (_, change) in changes {
        under_way += change;
        assert!(under_way <= 4);
    }
}

#[tokio::test]
async fn conversations_grow_with_what_was_answered() {
    let server = Server::start(|_, _| Reply::Stream(words(&["yes", " \"no\""]))).await;
    let mut spec = spec(open(1_000.0), 30);
    spec.workload.turns = 3;
    spec.workload.think_seconds = 0.001;
    spec.workload.prefix = Some(Prefix { groups: 2, tokens: 16 });
    let run = run(&server, spec).await;
    assert_eq!(run.book.count(Outcome::Ok), 30);
    let asked = server.asked.lock();
    let mut lengths: Vec<usize> = Vec::new();
    for asked in asked.iter() {
        let messages = asked.body["messages"].as_array().unwrap();
        lengths.push(messages.len());
        assert_eq!(messages[0]["content"].as_str().unwrap().len(), 4 * (16 + 20));
        for answer in messages.iter().skip(1).step_by(2) {
            assert_eq!(answer["content"], "yes \"no\"");
            assert_eq!(answer["role"], "assistant");
        }
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [[1; 10], [3; 10], [5; 10]].concat());
    let later = run.book.samples.iter().filter(|sample| sample.turn > 0);
    assert!(
        later.clone().count() == 20 && later.clone().all(|sample| sample.ttft().unwrap() < 60.0)
    );
}

#[tokio::test]
async fn every_way_to_end_has_its_name() {
    let ok = words(&["a"]);
    let busy = r#"{"error": {"message": "slow down"}}"#.to_owned();
    let failed = vec!["data: {\"error\":{\"message\":\"no\"}}\n\n".to_owned()];
    let check = async |reply: Reply, expect: Outcome, status: u16| {
        let server = Server::start(move |_, _| reply.clone()).await;
        let run = run(&server, spec(open(1_000.0), 5)).await;
        assert_eq!(run.book.count(expect), 5, "{expect:?} {:?}", run.book.outcomes);
        assert!(run.book.samples.iter().all(|sample| sample.status == status));
    };
    check(Reply::Stream(ok.clone()), Outcome::Ok, 200).await;
    check(Reply::Closing(ok.clone()), Outcome::Ok, 200).await;
    check(Reply::Status(429, busy.clone()), Outcome::Rejected, 429).await;
    check(Reply::Status(503, busy.clone()), Outcome::Rejected, 503).await;
    check(Reply::Status(400, busy), Outcome::Status, 400).await;
    check(Reply::Stream(failed), Outcome::StreamError, 200).await;
    check(Reply::Stream(ok[..2].to_vec()), Outcome::Truncated, 200).await;
    check(Reply::Cut(ok), Outcome::Broken, 200).await;
    check(Reply::Hang, Outcome::Broken, 0).await;
}

/// One connection, which every second request finds closed; the same with an answer that had begun, or where
/// the new connection fares no better.
#[tokio::test]
async fn what_a_closed_connection_swallows_is_sent_again() {
    let check = async |odd: Reply, even: Option<Reply>, expect: (u64, u64, u64, usize)| {
        let server = Server::start(move |number, _| match (number, &even) {
            (number, _) if number % 2 == 1 => odd.clone(),
            (2, Some(even)) => even.clone(),
            _ => Reply::Stream(words(&["a"])),
        })
        .await;
        let run = bench(&server, spec(open(1_000.0), 4), limits(1), true).run().await;
        let (ok, broken) = (run.book.count(Outcome::Ok), run.book.count(Outcome::Broken));
        assert_eq!((ok, broken, run.reconnects, server.asked.lock().len()), expect);
    };
    check(Reply::Hang, None, (4, 0, 3, 7)).await;
    check(Reply::Begun, None, (2, 2, 0, 4)).await;
    check(Reply::Hang, Some(Reply::Hang), (2, 2, 1, 5)).await;
}

#[tokio::test]
async fn nobody_there_is_a_failure_to_connect() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let port = pilotage_shell::port::free().unwrap();
    let gone = Server { url: format!("http://127.0.0.1:{port}"), ..server };
    let run = run(&gone, spec(open(1_000.0), 5)).await;
    assert_eq!(run.book.count(Outcome::Connect), 5);
}

#[tokio::test]
async fn whole_answers_have_no_first_token() {
    let answer = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let server = Server::start(|_, _| Reply::Status(200, answer.to_owned())).await;
    let run = bench(&server, spec(open(1_000.0), 5), limits(9), false).run().await;
    assert_eq!(run.book.count(Outcome::Ok), 5);
    for sample in &run.book.samples {
        assert_eq!((sample.first, sample.input_tokens, sample.output_tokens), (None, 7, 2));
    }
    assert_eq!(server.asked.lock()[0].body["stream"], false);
}

#[tokio::test]
async fn raw_paths_are_asked_as_they_are() {
    let server = Server::start(|_, _| Reply::Status(200, "pong".to_owned())).await;
    let endpoint = Endpoint::Raw { path: "/ping?x=1".to_owned(), body: None };
    let target = Target::new(&server.url, endpoint, Options::default()).unwrap();
    let bench = Bench::new(Clock::start(), spec(open(1_000.0), 5), target, limits(9)).unwrap();
    let run = bench.run().await;
    assert_eq!(run.book.count(Outcome::Ok), 5);
    assert!(server.asked.lock()[0].head.starts_with("get /ping?x=1 http/1.1"));
    assert!(run.book.samples.iter().all(|sample| sample.ttft().is_some()));
}

#[tokio::test]
async fn tenants_ask_with_their_own_keys() {
    let server = Server::start(|_, _| Reply::Stream(words(&["a"]))).await;
    let mut spec = spec(open(5_000.0), 400);
    let tenant = |name: &str, weight| Tenant { name: name.to_owned(), weight };
    spec.workload.tenants = vec![tenant("a", 3.0), tenant("b", 1.0)];
    let run = run(&server, spec).await;
    let of = |at| run.book.samples.iter().filter(|sample| sample.tenant == at).count();
    assert!((250..350).contains(&of(0)), "{}", of(0));
    let asked = server.asked.lock();
    let with = |key: &str| asked.iter().filter(|asked| asked.head.contains(key)).count();
    assert_eq!((with("bearer key-a\r"), with("bearer key-b\r")), (of(0), of(1)));
}

#[tokio::test]
async fn what_has_not_ended_is_given_up_and_said() {
    let server = Server::start(|number, _| match number {
        0..5 => Reply::Stream(words(&["a"])),
        _ => Reply::Gated(words(&["a"])),
    })
    .await;
    let limits = Limits { grace: Duration::ZERO, ..limits(2) };
    let run = bench(&server, spec(open(2_000.0), 40), limits, true).run().await;
    assert_eq!(run.book.counted(), 40);
    let ended = run.book.count(Outcome::Ok);
    assert!(ended <= 5, "{ended}");
    assert_eq!(run.book.count(Outcome::Unfinished), 40 - ended);
}

#[tokio::test]
async fn a_stopped_run_ends() {
    let server = Server::start(|_, _| Reply::Gated(words(&["a"]))).await;
    let bench = bench(&server, spec(open(100.0), 100_000), limits(50), true);
    let watch = bench.watch();
    let stop = async {
        while watch.snapshot(1.0).sent < 3 {
            tokio::task::yield_now().await;
        }
        watch.stop();
    };
    let (run, ()) = tokio::join!(bench.run(), stop);
    assert!(run.interrupted);
    assert!(run.book.count(Outcome::Unfinished) >= 3);
}

#[tokio::test]
async fn warm_up_is_marked() {
    let server = Server::start(|_, _| Reply::Stream(words(&["a"]))).await;
    let warm_up = WarmUp::Requests(30);
    let run = run(&server, Spec { warm_up, ..spec(open(2_000.0), 100) }).await;
    assert_eq!((run.book.warm, run.book.count(Outcome::Ok)), (30, 70));
    let warm = run.book.samples.iter().filter(|sample| sample.warm).map(|sample| sample.intended);
    let counted = run.book.samples.iter().filter(|sample| !sample.warm);
    assert!(warm.max() < counted.map(|sample| sample.intended).min());
}
