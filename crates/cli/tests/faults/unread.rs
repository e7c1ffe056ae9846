//! Clients that ask for an answer without end and read nothing of it, over each protocol: what is made
//! for them is bounded, and they are cut when their time is over.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use pilotage_shell::clock::Clock;
use pilotage_shell::serve::{Entrance, serve};
use pilotage_shell::tasks;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{pause, resume, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::encrypted::{Files, connect};
use crate::frames::{
    END, HEADERS, PREFACE, SETTINGS, WHOLE, WINDOW, block, frame, head, limits, setting,
};

/// Bytes of each piece.
const PIECE: usize = 16 << 10;

/// An answer without end, which says when it is given up.
struct Endless {
    pieces: Arc<AtomicUsize>,
    _gone: DropGuard,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; PIECE])))))
    }
}

/// Asks for that answer over a connection, and reads none of it.
async fn check<T: AsyncWrite + Unpin>(
    name: &str,
    entrance: impl FnOnce(TcpListener) -> Entrance,
    connect: impl AsyncFnOnce(SocketAddr) -> T,
    request: &[u8],
) {
    let (gone, pieces) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let (guard, made) = (gone.clone(), Arc::clone(&pieces));
    let service = move |_: Request<Incoming>| {
        let body = Endless { pieces: Arc::clone(&made), _gone: guard.clone().drop_guard() };
        async move { Ok(Response::new(body)) }
    };
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = serve(entrance(socket), service, limits(), stop.clone());
    let serving = tasks::spawn("listener", serving);
    let mut io = connect(at).await;
    io.write_all(request).await.unwrap();
    io.flush().await.unwrap();
    while pieces.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    pause();
    let begun = Clock::start();
    let cut = timeout(Duration::from_secs(30), gone.cancelled()).await;
    assert!(cut.is_ok(), "{name}: it was never given up");
    let took = Duration::from_nanos(begun.now_nanos());
    assert!((1..6).contains(&took.as_secs()), "{name}: given up after {took:?}");
    let made = pieces.load(Ordering::Relaxed) * PIECE;
    assert!(made < 64 << 20, "{name}: {made} bytes were made for nobody");
    stop.cancel();
    assert_eq!(serving.await.unwrap(), Some(0), "{name}");
    resume();
    drop(io);
}

#[tokio::test]
async fn answers_without_end_that_nobody_reads() {
    let http1 = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let most = i32::MAX as u32;
    let http2 = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &setting(4, most)),
        &frame(WINDOW, 0, 0, &(most - 65_535).to_be_bytes()),
        &frame(HEADERS, WHOLE | END, 1, &block(&head(None))),
    ]
    .concat();
    let plain = async |at| TcpStream::connect(at).await.unwrap();
    check("HTTP/1.1", Entrance::from, plain, http1).await;
    check("HTTP/2", Entrance::from, plain, &http2).await;
    let files = Files::new();
    let encrypted = |socket| Entrance::encrypted(socket, files.read().unwrap());
    for (name, protocol, request) in
        [("HTTPS", "http/1.1", &http1[..]), ("HTTP/2 over TLS", "h2", &http2)]
    {
        let connect = async |at| connect(at, "localhost", &[protocol]).await.unwrap();
        check(name, encrypted, connect, request).await;
    }
}
