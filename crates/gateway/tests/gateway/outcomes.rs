//! Whatever engines and clients do, each request ends exactly once, and nothing stays behind.

use crate::support::{
    Engine, answer, chat, config, ended, engine, gateway, metrics, until_idle, up,
};
use axum::body::Bytes;
use futures_util::future::join_all;
use pilotage_core::ReplicaId;
use tokio::sync::mpsc::UnboundedSender;

const REQUESTS: usize = 12;
const WAYS: [&str; 5] =
    ["client_cancel", "ok", "upstream_error", "upstream_interrupted", "timeout"];
const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const FINE: &str = r#"{"fine":true}"#;

type Feed = UnboundedSender<Result<Bytes, std::io::Error>>;

/// Numbers that look random and are the same for each seed (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_ends_exactly_once() {
    let mut all = [0; WAYS.len()];
    for seed in 1..=60 {
        let counts = round(seed).await;
        all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
    }
    assert!(all.iter().all(|count| *count > 0), "every way is taken: {WAYS:?} {all:?}");
}

/// Checks one mix of engines and clients; returns how many requests ended in each of the ways.
async fn round(seed: u64) -> [u64; WAYS.len()] {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let stream = seed.is_multiple_of(2);
    let engines = [engine().await, engine().await, engine().await];
    let gateway = gateway(config(), &engines.each_ref());
    let mut open = Vec::new();
    for engine in &engines {
        for _ in 0..REQUESTS {
            open.extend(script(engine, stream, &mut dice));
        }
    }
    let clients = join_all((0..REQUESTS).map(|_| {
        // At least one turn: who leaves before that has not asked.
        let patience = (dice.roll(3) == 0).then(|| 1 + dice.roll(200));
        client(&gateway, stream, patience)
    }));
    let (pause, victim) = (dice.roll(100), u32::try_from(dice.roll(3)).unwrap());
    let disturb = async {
        yields(pause).await;
        gateway.lane("lane").unwrap().replica_down(ReplicaId(victim + 1));
        yields(pause).await;
        up(&gateway, 4, &engines[victim as usize].url);
    };
    let (gave_up, ()) = tokio::join!(clients, disturb);
    let gave_up = gave_up.into_iter().filter(|gave_up| *gave_up).count() as u64;
    until_idle(&gateway).await;
    let shown = metrics(&gateway).await;
    let mut counts = [0; WAYS.len()];
    for (count, way) in counts.iter_mut().zip(WAYS) {
        *count = ended(&gateway, way).await;
    }
    let cancelled = counts[0];
    assert_eq!(all(&shown), REQUESTS as u64, "seed {seed}: {shown}");
    assert!(cancelled <= gave_up, "seed {seed}: {cancelled} cancelled, {gave_up} gave up");
    drop(open);
    counts
}

fn all(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("pilotage_requests_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// One more answer of an engine; one that never ends is given back, to be kept.
fn script(engine: &Engine, stream: bool, dice: &mut Dice) -> Option<Feed> {
    match dice.roll(11) {
        0 => engine.json(500, "{}"),
        1 => engine.json(503, "{}"),
        2 => engine.json(400, r#"{"error":{"message":"too hot"}}"#),
        3 => return Some(engine.stream()),
        _ if !stream => engine.json(200, FINE),
        4 => feed(engine, &[ROLE], true),
        5 => feed(engine, &[ROLE, HI], true),
        6 => feed(engine, &[ROLE, HI], false),
        7 => feed(engine, &[HI, "data: {\"error\":{\"message\":\"x\"}}\n\n"], false),
        8 => {
            let silent = engine.stream();
            silent.send(Ok(HI.into())).unwrap();
            return Some(silent);
        }
        _ => feed(engine, &[ROLE, HI, HI, DONE], false),
    }
    None
}

fn feed(engine: &Engine, events: &[&'static str], broken: bool) {
    let feed = engine.stream();
    for event in events {
        feed.send(Ok((*event).into())).unwrap();
    }
    if broken {
        feed.send(Err(std::io::Error::other("gone"))).unwrap();
    }
}

/// Asks, and checks what comes; says whether it lost its patience.
async fn client(gateway: &pilotage_gateway::Gateway, stream: bool, patience: Option<u64>) -> bool {
    let body = format!(r#"{{"model":"public","stream":{stream}}}"#);
    let patience = async {
        match patience {
            Some(count) => yields(count).await,
            None => std::future::pending().await,
        }
    };
    let (status, body) = tokio::select! {
        () = patience => return true,
        answer = answer(gateway, chat(&body)) => answer,
    };
    match status {
        200 if !stream => assert_eq!(body, FINE),
        200 => assert!(
            body.ends_with(DONE) != body.contains("\"error\"") && body.contains(HI),
            "{body}"
        ),
        _ => assert!(body.starts_with("{\"error\""), "{status} {body}"),
    }
    false
}

async fn yields(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}
