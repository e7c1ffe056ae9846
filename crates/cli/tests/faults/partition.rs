//! A network between gateway and engines that loses packets: in both directions, in one of them, for a
//! while, again and again, or that is slow. No connection ends by it: neither side is told. What was begun goes
//! on elsewhere, and once the network works again, so does the engine behind it.
//!
//! Played with a link before each engine that holds what goes through, as TCP does by sending again: it
//! covers silence on open connections, also new ones, late bytes, and closed connections of which the other side
//! hears late. It does not cover a handshake that times out (loopback completes it) nor loss within TCP.

use std::time::Duration;

use pilotage_core::ReplicaId;
use pilotage_gateway::{Gateway, Resume, Timeouts};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::tasks;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::answer::{Answer, Ask, Verdict};
use crate::rig::{AT_ONCE, Rig, TIMEOUTS, config, engine, pass, paused};

const ENGINES: usize = 3;

/// Health checks of an engine that says nothing need about a minute to be believed.
const TOTAL: Duration = Duration::from_secs(240);

/// What a link does.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Whether requests come through.
    there: bool,
    /// Whether answers do.
    back: bool,
    /// How late bytes come.
    delay: Duration,
}

const WORKS: Link = Link { there: true, back: true, delay: Duration::ZERO };
const CUT: Link = Link { there: false, back: false, ..WORKS };

/// Carries bytes in one direction, while that is open.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut link: watch::Receiver<Link>,
    open: fn(&Link) -> bool,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        // An end that comes while packets are lost is heard of later, like bytes.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let Ok(now) = link.wait_for(open).await.map(|link| *link) else { return };
        if !now.delay.is_zero() {
            pass(now.delay).await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// A link to an engine, as an address and what sets it.
async fn link(to: std::net::SocketAddr) -> (String, watch::Sender<Link>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (set, state) = watch::channel(WORKS);
    drop(tasks::spawn("link", async move {
        while let Ok((gateway, _)) = listener.accept().await {
            let engine = TcpStream::connect(to).await.unwrap();
            // What the kernel holds back by its own clock would be late by this one.
            gateway.set_nodelay(true).unwrap();
            engine.set_nodelay(true).unwrap();
            let (from_gateway, to_gateway) = gateway.into_split();
            let (from_engine, to_engine) = engine.into_split();
            let there = carry(from_gateway, to_engine, state.clone(), |link| link.there);
            let back = carry(from_engine, to_gateway, state.clone(), |link| link.back);
            drop(tasks::spawn("there", there));
            drop(tasks::spawn("back", back));
        }
    }));
    (url, set)
}

async fn linked() -> (Rig, Vec<watch::Sender<Link>>) {
    let mut config = config();
    config.lanes[0].resume = Resume::Text;
    config.lanes[0].resume_from = 1;
    config.routes[0].timeouts = Timeouts { total: TOTAL, queue: TOTAL, ..TIMEOUTS };
    let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
    let mut rig = Rig { gateway, engines: Vec::new() };
    let mut links = Vec::new();
    for index in 0..ENGINES {
        let engine = engine().await;
        let (url, set) = link(engine.addr()).await;
        rig.up(index, &url);
        rig.engines.push(Some(engine));
        links.push(set);
    }
    (rig, links)
}

/// Whether an answer is right, whenever it came.
fn judge(ask: Ask, answer: Answer) -> Result<(), String> {
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    let verdict = ask.judge(&Answer { took: Duration::ZERO, ..answer });
    // A scripted engine goes on with other words than it would have said itself.
    let resumed = ask.stream() && verdict == Verdict::Other;
    // Streams of several answers cannot go on, and say so.
    let cannot = ask.number % 8 == 4 && verdict == Verdict::Terminal;
    let right = verdict == Verdict::Complete || resumed || cannot;
    right.then_some(()).ok_or_else(|| {
        format!("{ask:?}: {verdict:?}: …{}", &said[said.len().saturating_sub(400)..])
    })
}

/// As many clients as may, each with a request of its own.
fn wave_of(rig: &Rig, wave: usize) -> Vec<(Ask, JoinHandle<Option<Answer>>)> {
    let asks = (0..AT_ONCE).map(|index| Ask { number: wave * AT_ONCE + index });
    asks.map(|ask| (ask, tasks::spawn("client", ask.send(rig.gateway.clone())))).collect()
}

/// Clients ask while the first link is set to these, each for so long, and works at last.
fn check(name: &str, states: &[(Link, Duration)]) {
    paused().block_on(async {
        let (rig, links) = linked().await;
        let sent = wave_of(&rig, 0);
        pass(Duration::from_millis(12)).await;
        for (state, span) in states {
            links[0].send_replace(*state);
            pass(*span).await;
        }
        links[0].send_replace(WORKS);
        for (ask, answer) in sent {
            let answer = answer.await.unwrap().unwrap();
            assert_eq!(judge(ask, answer), Ok(()), "{name}");
        }
        // It is tried again after a while, and does all of the work where the others have gone.
        pass(Duration::from_secs(400)).await;
        for index in 1..ENGINES {
            let id = ReplicaId(u32::try_from(index).unwrap() + 1);
            rig.gateway.lane("lane").unwrap().replica_down(id);
        }
        let before = rig.engines[0].as_ref().unwrap().stats().requests;
        for (ask, answer) in wave_of(&rig, 5) {
            assert_eq!(judge(ask, answer.await.unwrap().unwrap()), Ok(()), "{name}");
        }
        let after = rig.engines[0].as_ref().unwrap().stats().requests;
        assert_eq!(after - before, AT_ONCE as u64, "{name}: {}", rig.lane().await);
        assert_eq!(rig.left().await, None, "{name}");
    });
}

const LONG: Duration = Duration::from_secs(300);

#[test]
fn a_replica_behind_a_cut_network_is_left_and_taken_back() {
    check("cut", &[(CUT, LONG)]);
}

#[test]
fn a_network_that_is_cut_in_one_direction_is_no_better() {
    check("answers are lost", &[(Link { back: false, ..WORKS }, LONG)]);
    check("requests are lost", &[(Link { there: false, ..WORKS }, LONG)]);
}

#[test]
fn short_and_repeated_cuts_lose_nothing() {
    let short = Duration::from_millis(300);
    check("short", &[(CUT, short)]);
    check("flapping", &[(CUT, short), (WORKS, short)].repeat(20));
    let longer = Duration::from_secs(3);
    check("longer", &[(CUT, longer), (WORKS, longer)].repeat(5));
}

#[test]
fn late_bytes_are_waited_for() {
    let late = Link { delay: Duration::from_millis(40), ..WORKS };
    check("late", &[(late, LONG)]);
}
