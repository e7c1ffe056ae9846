//! Clients that break HTTP/2 to be expensive: each is told to go, refused or cut, another client is
//! answered meanwhile, and nothing of it stays.

use std::time::Duration;

use pilotage_shell::clock::Clock;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::frames::*;
use crate::rig::pass;

/// The frames get a connection ended for that reason, and another client is answered meanwhile.
async fn ends(frames: &[u8], reasons: &[u32]) {
    let served = Served::new().await;
    let mut wire = Wire::open(served.at).await;
    let flood = async {
        wire.send(frames).await;
        wire.hear_all().await;
    };
    tokio::join!(flood, served.answers());
    let Wire { heard, .. } = wire;
    assert!(heard.closed, "{heard:?}");
    assert!(heard.goaway.is_some_and(|reason| reasons.contains(&reason)), "{reasons:?}: {heard:?}");
    served.leaves_nothing().await;
}

/// So many frames made from the numbers of streams.
fn many(count: u32, of: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|index| of(2 * index + 1)).collect()
}

fn since(begun: Clock) -> Duration {
    Duration::from_nanos(begun.now_nanos())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &CANCEL.to_be_bytes())
}

#[tokio::test(start_paused = true)]
async fn rapid_resets() {
    let pair = |stream| [opened(stream), reset(stream)].concat();
    ends(&many(1000, pair), &[ENHANCE_YOUR_CALM]).await;
    let whole = |stream| [request(stream, CHAT), reset(stream)].concat();
    ends(&many(1000, whole), &[ENHANCE_YOUR_CALM]).await;
}

/// A client may be slow enough that each of its requests gets somewhere before it takes that back.
#[tokio::test(start_paused = true)]
async fn resets_of_requests_that_run_cancel_them() {
    let served = Served::new().await;
    let mut wire = Wire::open(served.at).await;
    for index in 0..50 {
        let before = served.requests();
        wire.send(&streamed(2 * index + 1)).await;
        while served.requests() == before {
            pass(Duration::from_millis(1)).await;
        }
        wire.send(&reset(2 * index + 1)).await;
        while served.active() > 0 {
            pass(Duration::from_millis(1)).await;
        }
    }
    let stats = served.rig.engines[0].as_ref().unwrap().stats();
    assert_eq!((stats.finished, stats.aborted), (0, 50));
    wire.send(&request(999, CHAT)).await;
    assert_eq!(wire.hear_of(999).await.statuses[&999], 200);
    drop(wire);
    served.leaves_nothing().await;
}

/// The mistakes of a client make us reset its streams (MadeYouReset): not without end.
#[tokio::test(start_paused = true)]
async fn resets_that_it_asks_for() {
    let wrong = |stream| [opened(stream), frame(WINDOW, 0, stream, &[0; 4])].concat();
    ends(&many(2000, wrong), &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]).await;
    let overflow = |stream| {
        let most = (i32::MAX as u32).to_be_bytes();
        [opened(stream), frame(WINDOW, 0, stream, &most)].concat()
    };
    ends(&many(2000, overflow), &[ENHANCE_YOUR_CALM]).await;
    let longer = |stream| {
        let head = frame(HEADERS, WHOLE, stream, &block(&head(Some(1))));
        [head, frame(DATA, END, stream, b"xx")].concat()
    };
    ends(&many(2000, longer), &[ENHANCE_YOUR_CALM]).await;
}

#[tokio::test(start_paused = true)]
async fn heads_without_end() {
    for piece in [&b""[..], b"\0", &block(&[("x-a", "a".repeat(4000))])] {
        let flood: Vec<u8> = (0..1000).flat_map(|_| frame(CONTINUATION, 0, 1, piece)).collect();
        let begun = frame(HEADERS, 0, 1, &block(&head(None)));
        let reasons = [ENHANCE_YOUR_CALM, COMPRESSION_ERROR, PROTOCOL_ERROR];
        ends(&[begun, flood].concat(), &reasons).await;
    }
}

/// Little is sent, and much comes out: one long header in the table, named again and again.
#[tokio::test(start_paused = true)]
async fn heads_that_grow() {
    let mut bomb = block(&head(None));
    bomb.push(0x40);
    text(&mut bomb, b"x-long");
    text(&mut bomb, &[b'a'; 3900]);
    bomb.extend([0x80 | 62; 9000]);
    ends(&frame(HEADERS, WHOLE | END, 1, &bomb), &[ENHANCE_YOUR_CALM]).await;
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_a_little_too_large_are_told_so() {
    let served = Served::new().await;
    let mut wire = Wire::open(served.at).await;
    let long: Vec<_> =
        head(None).into_iter().chain([("x-a".to_owned(), "a".repeat(15_000))]).collect();
    let more = block(&[("x-b", "b".repeat(15_000))]);
    wire.send(&frame(HEADERS, END, 1, &block(&long))).await;
    for flags in [0, 0, 0, WHOLE] {
        wire.send(&frame(CONTINUATION, flags, 1, &more)).await;
    }
    assert_eq!(wire.hear_of(1).await.statuses[&1], 431);
    let many: Vec<_> = head(None)
        .into_iter()
        .chain((0..200).map(|at| (format!("x-{at}"), "a".to_owned())))
        .collect();
    wire.send(&frame(HEADERS, WHOLE | END, 3, &block(&many))).await;
    assert_eq!(wire.hear_of(3).await.statuses[&3], 431);
    // The connection is none the worse for it.
    wire.send(&request(5, CHAT)).await;
    assert_eq!(wire.hear_of(5).await.statuses[&5], 200);
    drop(wire);
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn empty_data() {
    let empty: Vec<u8> = (0..100_000).flat_map(|_| frame(DATA, 0, 1, &[])).collect();
    ends(&[opened(1), empty].concat(), &[ENHANCE_YOUR_CALM]).await;
}

#[tokio::test(start_paused = true)]
async fn windows_that_overflow() {
    let most = frame(WINDOW, 0, 0, &(i32::MAX as u32).to_be_bytes());
    ends(&[&most[..], &most].concat(), &[FLOW_CONTROL_ERROR]).await;
    ends(&frame(WINDOW, 0, 0, &[0; 4]), &[PROTOCOL_ERROR]).await;
    // More data than there is a window for.
    let more: Vec<u8> = (0..40).flat_map(|_| frame(DATA, 0, 1, &[b'x'; 16 << 10])).collect();
    let head = frame(HEADERS, WHOLE, 1, &block(&head(None)));
    let served = Served::new().await;
    let mut wire = Wire::open(served.at).await;
    wire.send(&[head, more].concat()).await;
    drop(wire);
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_cannot_be() {
    ends(&opened(2), &[PROTOCOL_ERROR]).await;
    ends(&opened(0), &[PROTOCOL_ERROR]).await;
    ends(&[opened(5), opened(3)].concat(), &[PROTOCOL_ERROR, STREAM_CLOSED]).await;
    ends(&frame(DATA, END, 7, b"x"), &[PROTOCOL_ERROR]).await;
    ends(&frame(CONTINUATION, WHOLE, 1, b""), &[PROTOCOL_ERROR]).await;
    ends(&frame(PUSH, WHOLE, 1, &[0, 0, 0, 2]), &[PROTOCOL_ERROR]).await;
    ends(&reset(9), &[PROTOCOL_ERROR]).await;
    ends(&frame(PRIORITY, 0, 0, &[0; 5]), &[PROTOCOL_ERROR]).await;
    let interrupted = [frame(HEADERS, 0, 1, &block(&head(None))), frame(PING, 0, 0, &[0; 8])];
    ends(&interrupted.concat(), &[PROTOCOL_ERROR]).await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_wrong() {
    let either = [FRAME_SIZE_ERROR, PROTOCOL_ERROR];
    ends(&frame(DATA, 0, 1, &[b'x'; 20 << 10]), &either).await;
    ends(&frame(PING, 0, 0, &[0; 7]), &either).await;
    ends(&frame(SETTINGS, 0, 0, &[0; 5]), &either).await;
    ends(&frame(SETTINGS, 0, 0, &setting(5, 1)), &either).await;
    let wide = [FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
    ends(&frame(SETTINGS, 0, 0, &setting(4, u32::MAX)), &wide).await;
    ends(&frame(HEADERS, WHOLE | END, 1, &[0xff; 20]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]).await;
}

/// What is beyond the streams of a connection is refused unseen; what is within it is served.
#[tokio::test(start_paused = true)]
async fn too_many_streams() {
    let served = Served::new().await;
    let most = limits().http2.streams_max;
    let mut wire = Wire::open(served.at).await;
    wire.send(&many(most + 50, opened)).await;
    served.answers().await;
    let heard = wire.hear(|heard| heard.resets.len() >= 50).await;
    let first = 2 * most + 1;
    let refused: Vec<u32> = (0..50).map(|index| first + 2 * index).collect();
    assert_eq!(heard.resets.keys().copied().collect::<Vec<_>>(), refused);
    assert!(heard.resets.values().all(|reason| *reason == REFUSED_STREAM), "{heard:?}");
    assert_eq!(heard.goaway, None);
    drop(wire);
    served.leaves_nothing().await;
}

/// All connections together have a limit, too.
#[tokio::test(start_paused = true)]
async fn too_many_streams_of_all_connections() {
    let mut limits = limits();
    limits.http2.requests_max = 10;
    let served = Served::with(limits).await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::open(served.at).await;
        wire.send(&many(5, opened)).await;
        wires.push(wire);
    }
    let mut late = Wire::open(served.at).await;
    late.send(&request(1, CHAT)).await;
    assert_eq!(late.hear_of(1).await.resets[&1], REFUSED_STREAM);
    served.answers().await;
    drop(wires);
    assert_eq!(served.rig.left().await, None);
    late.send(&request(3, CHAT)).await;
    let heard = late.hear_of(3).await;
    // It idled meanwhile.
    assert!(heard.closed || heard.statuses[&3] == 200, "{heard:?}");
    served.leaves_nothing().await;
}

/// What the protocol makes us answer, sent without end and without a request: it is answered until
/// the time for a first request is over, as long as the answers are read.
#[tokio::test(start_paused = true)]
async fn chatter_without_a_request() {
    let ping = frame(PING, 0, 0, &[7; 8]);
    let settings = frame(SETTINGS, 0, 0, &setting(4, 1 << 20));
    let update = frame(WINDOW, 0, 0, &1_u32.to_be_bytes());
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]);
    let unknown = frame(77, 0, 0, b"abc");
    for chatter in [ping, settings, update, priority, unknown] {
        let served = Served::new().await;
        let mut wire = Wire::open(served.at).await;
        let begun = Clock::start();
        let flood = async {
            let burst = chatter.repeat(50);
            while !wire.heard.closed && wire.send(&burst).await {
                let _ = timeout(Duration::from_millis(50), wire.hear_all()).await;
            }
        };
        tokio::join!(flood, served.answers());
        let took = since(begun);
        assert!(took < Duration::from_secs(5), "{chatter:?} went on for {took:?}");
        served.leaves_nothing().await;
    }
}

/// The same from who reads nothing: what we would answer is not kept, and its connection is cut.
#[tokio::test(start_paused = true)]
async fn chatter_that_is_not_listened_to() {
    for chatter in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let served = Served::new().await;
        let mut wire = Wire::open(served.at).await;
        wire.send(&opened(1)).await;
        let burst = chatter.repeat(4000);
        let flood = async {
            let mut sent = 0_usize;
            while let Ok(true) = timeout(Duration::from_secs(30), wire.send(&burst)).await {
                sent += burst.len();
                assert!(sent < 256 << 20, "{sent} bytes were taken");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(flood, served.answers());
        served.leaves_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn heads_that_stop() {
    // Nothing, a part of the preface, all of it, a head without its end, and half a frame.
    let begun = frame(HEADERS, 0, 1, &block(&head(None)));
    let half = &begun[..20];
    let settings = frame(SETTINGS, 0, 0, &[]);
    let said: [&[u8]; 7] = [
        b"",
        b"P",
        b"PRI",
        &PREFACE[..20],
        PREFACE,
        &[PREFACE, &settings, &begun].concat(),
        &[PREFACE, &settings, half].concat(),
    ];
    for bytes in said {
        let served = Served::new().await;
        let mut socket = TcpStream::connect(served.at).await.unwrap();
        let begun = Clock::start();
        socket.write_all(bytes).await.unwrap();
        let mut all = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut all).await;
        let took = since(begun);
        let seconds = Duration::from_millis(1900)..Duration::from_millis(3100);
        assert!(seconds.contains(&took), "{bytes:?} held a connection for {took:?}");
        served.leaves_nothing().await;
    }
}

/// Beside a request that runs, a head that stops keeps everything else out: pings find that out.
#[tokio::test(start_paused = true)]
async fn a_head_that_stops_beside_a_request() {
    let served = Served::new().await;
    let mut wire = Wire::open(served.at).await;
    wire.send(&opened(1)).await;
    wire.polite = false;
    wire.send(&frame(HEADERS, 0, 3, &block(&head(None)))).await;
    let heard = wire.hear_all().await;
    assert!(heard.closed, "{heard:?}");
    served.leaves_nothing().await;
}

/// A preface that comes byte by byte is one, and its time is that of a head.
#[tokio::test(start_paused = true)]
async fn a_slow_preface() {
    let served = Served::new().await;
    let mut socket = TcpStream::connect(served.at).await.unwrap();
    socket.set_nodelay(true).unwrap();
    for byte in [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat() {
        socket.write_all(&[byte]).await.unwrap();
        pass(Duration::from_millis(10)).await;
    }
    let mut answer = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut answer).await.unwrap();
    assert_eq!(answer[3], SETTINGS);
    drop(socket);
    served.leaves_nothing().await;
}

/// A client that takes nothing of one stream, and answers pings: that stream ends, the others do not.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_taken() {
    for window in [0, 1, 300] {
        let served = Served::new().await;
        let mut wire = Wire::with(served.at, &setting(4, window)).await;
        let begun = Clock::start();
        wire.send(&streamed(1)).await;
        let heard = wire.hear_of(1).await;
        assert_eq!(heard.resets.get(&1), Some(&CANCEL), "{heard:?}");
        assert_eq!(heard.statuses[&1], 200);
        let took = since(begun);
        assert!((2..4).contains(&took.as_secs()), "took {took:?}");
        let stats = served.rig.engines[0].as_ref().unwrap().stats();
        assert_eq!(stats.active, 0);
        // The connection is there, with a window for the next one.
        wire.send(&frame(SETTINGS, 0, 0, &setting(4, 1 << 16))).await;
        wire.send(&streamed(3)).await;
        let heard = wire.hear_of(3).await;
        assert!(heard.ended.contains(&3) && heard.goaway.is_none(), "{heard:?}");
        drop(wire);
        served.leaves_nothing().await;
    }
}

/// The window of a connection is that of all its streams.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_taken() {
    let served = Served::new().await;
    let mut wire = Wire::with(served.at, &setting(4, 1 << 20)).await;
    let mut stream = 1;
    while wire.heard.resets.is_empty() && !wire.heard.closed && stream < 200 {
        // More than one part each: what found any room is kept as a whole.
        wire.send(&streamed_of(200, stream)).await;
        wire.hear_of(stream).await;
        stream += 2;
    }
    let bytes: usize = wire.heard.bodies.values().map(Vec::len).sum();
    assert_eq!(bytes, 65_535, "all that there is room for");
    assert_eq!(wire.heard.resets.values().collect::<Vec<_>>(), [&CANCEL]);
    drop(wire);
    served.leaves_nothing().await;
}

/// One that takes a little now and then gets all of it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_taken_slowly() {
    let served = Served::new().await;
    let mut wire = Wire::with(served.at, &setting(4, 500)).await;
    wire.send(&streamed(1)).await;
    for _ in 0..40 {
        let over = |heard: &Heard| heard.ended.contains(&1) || heard.resets.contains_key(&1);
        if timeout(Duration::from_millis(200), wire.hear(over)).await.is_ok() {
            break;
        }
        wire.send(&frame(WINDOW, 0, 1, &500_u32.to_be_bytes())).await;
    }
    assert!(wire.heard.ended.contains(&1), "{:?}", wire.heard);
    assert!(wire.heard.bodies[&1].ends_with(b"data: [DONE]\n\n"));
    drop(wire);
    served.leaves_nothing().await;
}

/// Whoever keeps the last bytes of answers from coming keeps a connection for a while, and no more.
#[tokio::test(start_paused = true)]
async fn the_end_of_an_answer_that_is_not_taken() {
    let served = Served::new().await;
    let mut wire = Wire::with(served.at, &setting(4, 1)).await;
    let begun = Clock::start();
    wire.send(&request(1, CHAT)).await;
    let heard = wire.hear_all().await;
    assert!(heard.closed, "{heard:?}");
    assert!(since(begun) < Duration::from_secs(10), "took {:?}", since(begun));
    served.leaves_nothing().await;
}

/// A client that is gone without a word is found out by pings while its request waits.
#[tokio::test(start_paused = true)]
async fn pings_are_to_be_answered() {
    let served = Served::new().await;
    let mut wire = Wire::open(served.at).await;
    wire.polite = false;
    wire.send(&opened(1)).await;
    let heard = wire.hear_all().await;
    assert!(heard.closed, "{heard:?}");
    served.leaves_nothing().await;
}
