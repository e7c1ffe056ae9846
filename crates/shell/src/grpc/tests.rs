//! Calls over a real connection, from their first byte to how they end.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use h2::client::SendRequest;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::serve::serve;
use crate::tasks;

/// A server with every kind of method, and a connection to it.
async fn connected(limits: GrpcLimits) -> (SendRequest<Bytes>, Arc<AtomicBool>) {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let left = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&left);
    let grpc = Grpc::new(limits)
        .unary("/t.T/Echo", async |text: String| match text.as_str() {
            "fail" => Err(Status::new(Code::Unavailable, "50 % of it is away")),
            _ => Ok(text),
        })
        .streaming("/t.T/Chat", async |mut from: Requests<String>, to: Replies<String>| {
            while let Some(text) = from.next().await? {
                to.send(&format!("{text}!")).await;
            }
            to.send(&"bye".to_owned()).await;
            Ok(())
        })
        .streaming("/t.T/Hang", move |_: Requests<String>, to: Replies<String>| {
            let dropped = Dropped(Arc::clone(&noticed));
            async move {
                to.send(&"waiting".to_owned()).await;
                std::future::pending::<()>().await;
                drop(dropped);
                Ok(())
            }
        })
        .health(|service| match service {
            "" => Health::Serving,
            "slow" => Health::NotServing,
            _ => Health::Unknown,
        });
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = serve(socket, grpc.service(), Grpc::serve_limits(), CancellationToken::new());
    drop(tasks::spawn("server", serving));
    let (client, connection) =
        h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    drop(tasks::spawn("client", connection));
    (client, left)
}

fn request(path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://server{path}"));
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value))
        .body(())
        .unwrap()
}

/// Everything that a call brought: its messages, and the code that it ended with.
async fn call(
    client: &SendRequest<Bytes>,
    request: Request<()>,
    sent: Bytes,
) -> (Vec<String>, u16, Option<String>) {
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(sent, true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
    let mut frames = frame::Frames::new(1 << 20);
    frames.push(&bytes.freeze());
    let mut messages = Vec::new();
    while let Some(message) = frames.take().unwrap() {
        messages.push(String::decode(message).unwrap());
    }
    let text = |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned());
    (messages, text("grpc-status").unwrap().parse().unwrap(), text("grpc-message"))
}

fn written(texts: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    for text in texts {
        bytes.extend_from_slice(&frame::write(&(*text).to_owned()));
    }
    bytes.freeze()
}

#[tokio::test]
async fn calls_end_with_what_became_of_them() {
    let limits = GrpcLimits { message_bytes_max: 64, ..GrpcLimits::default() };
    let (client, _) = connected(limits).await;
    let check = async |path: &str, sent: Bytes, expect: (&[&str], u16)| {
        let (messages, code, _) = call(&client, request(path, &[]), sent).await;
        assert_eq!(
            (messages.iter().map(String::as_str).collect::<Vec<_>>(), code),
            (expect.0.to_vec(), expect.1),
            "{path}"
        );
    };
    let large = "x".repeat(65);
    check("/t.T/Echo", written(&["hello"]), (&["hello"], 0)).await;
    check("/t.T/Echo", written(&["fail"]), (&[], 14)).await;
    check("/t.T/Echo", written(&[]), (&[], 3)).await;
    check("/t.T/Echo", written(&["one", "two"]), (&[], 3)).await;
    check("/t.T/Echo", written(&[&large]), (&[], 8)).await;
    check("/t.T/Echo", Bytes::from_static(&[0, 0, 0, 0, 2, 255, 255]), (&[], 3)).await;
    check("/t.T/Echo", Bytes::from_static(&[1, 0, 0, 0, 0]), (&[], 12)).await;
    check("/t.T/Echo", written(&["cut off"]).slice(..6), (&[], 1)).await;
    check("/t.T/Nothing", written(&["hello"]), (&[], 12)).await;
    check("/t.T/Chat", written(&["a", "b"]), (&["a!", "b!", "bye"], 0)).await;
    let (_, _, message) = call(&client, request("/t.T/Echo", &[]), written(&["fail"])).await;
    assert_eq!(message.as_deref(), Some("50 %25 of it is away"));
}

#[tokio::test]
async fn health_is_told_by_service() {
    let (client, _) = connected(GrpcLimits::default()).await;
    let check = async |service: &str, expect: (usize, u16)| {
        let asked = frame::write(&health::Asked { service: service.to_owned() });
        let mut client = client.clone().ready().await.unwrap();
        let (response, mut stream) =
            client.send_request(request(health::CHECK, &[]), false).unwrap();
        stream.send_data(asked, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            bytes.extend_from_slice(&data.unwrap());
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        let code: u16 = trailers["grpc-status"].to_str().unwrap().parse().unwrap();
        // The status is the last byte of the only message.
        assert_eq!((bytes.last().copied().map_or(0, usize::from), code), expect, "{service}");
    };
    check("", (1, 0)).await;
    check("slow", (2, 0)).await;
    check("other", (0, 5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call() {
    let grpc = Grpc::new(GrpcLimits::default()).streaming(
        "/t.T/Hang",
        async |_: Requests<String>, _: Replies<String>| {
            std::future::pending::<()>().await;
            Ok(())
        },
    );
    let body = http_body_util::Full::new(Bytes::new());
    let request = request("/t.T/Hang", &[("grpc-timeout", "250m")]).map(|()| body);
    let ended = grpc.answer(request).into_body().collect().await.unwrap();
    assert_eq!(ended.trailers().unwrap()["grpc-status"], "4");
}

#[tokio::test]
async fn who_leaves_ends_what_was_done_for_him() {
    let (client, left) = connected(GrpcLimits::default()).await;
    let mut client = client.ready().await.unwrap();
    let (response, mut stream) = client.send_request(request("/t.T/Hang", &[]), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    body.data().await.unwrap().unwrap();
    assert!(!left.load(Ordering::SeqCst), "it waits");
    stream.send_reset(h2::Reason::CANCEL);
    while !left.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_as_http() {
    let grpc = Grpc::new(GrpcLimits::default());
    let check = |kind: &str, expect: u16| {
        let body = http_body_util::Empty::<Bytes>::new();
        let request = Request::post("/t.T/T").header("content-type", kind).body(body).unwrap();
        assert_eq!(grpc.answer(request).status().as_u16(), expect, "{kind}");
    };
    check("application/json", 415);
    check("application/grpc-web", 415);
    check("application/grpc", 200);
    check("application/grpc+proto", 200);
}

#[test]
fn deadlines_are_read_in_all_units() {
    let check = |told: &str, expect: Option<Duration>| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", told.parse().unwrap());
        assert_eq!(deadline(&headers), expect, "{told}");
    };
    check("2S", Some(Duration::from_secs(2)));
    check("100m", Some(Duration::from_millis(100)));
    check("1H", Some(Duration::from_secs(3600)));
    check("99999999H", None);
    check("123456789m", None);
    check("5", None);
    check("é", None);
}
