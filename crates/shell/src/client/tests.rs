//! The client against a server whose bytes are written by hand.

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

fn get(port: u16) -> Request<Bytes> {
    Request::get(format!("http://127.0.0.1:{port}/")).body(Bytes::new()).unwrap()
}

fn post(port: u16, body: Vec<u8>) -> Request<Bytes> {
    Request::post(format!("http://127.0.0.1:{port}/x")).body(body.into()).unwrap()
}

/// What a server does on one connection.
#[derive(Clone, Debug)]
enum Act {
    /// Reads a request up to the end of its head.
    Head,
    /// Reads so many bytes.
    Read(usize),
    Write(&'static [u8]),
    /// Reads until the client closes.
    Closed,
}

/// A server that does this on one connection after the other, and how many there were.
async fn server(script: Vec<Vec<Act>>) -> (u16, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        let count = script.len();
        for acts in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            for act in acts {
                play(&mut stream, act).await;
            }
        }
        count
    };
    #[expect(clippy::disallowed_methods, reason = "the test waits for its end")]
    let served = tokio::spawn(serve);
    (port, served)
}

async fn play(stream: &mut TcpStream, act: Act) {
    match act {
        Act::Head => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
        }
        Act::Read(count) => {
            stream.read_exact(&mut vec![0; count]).await.unwrap();
        }
        Act::Write(bytes) => {
            stream.write_all(bytes).await.unwrap();
            // What was written goes alone.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Act::Closed => {
            let mut left = Vec::new();
            let _ = stream.read_to_end(&mut left).await;
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// The status and the body of an answer, or what went wrong.
async fn ask(client: &Client, request: Request<Bytes>) -> Result<(u16, Vec<u8>), String> {
    let response = client.request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes().to_vec()))
}

#[test]
fn certificates_are_there_or_said_to_be_missing() {
    let check = |pem: &str| {
        let error = Client::trusting(pem.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    };
    check("");
    check("no certificate");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(Client::trusting(broken.as_bytes()).is_err());
}

#[tokio::test]
async fn a_refused_connection_is_no_broken_one() {
    let port = crate::port::free().unwrap();
    let error = Client::new().unwrap().request(get(port)).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    let nowhere = Request::get("/x").body(Bytes::new()).unwrap();
    let error = Client::new().unwrap().request(nowhere).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)), "{error}");
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_broken() {
    let (port, served) = server(vec![vec![Act::Head]]).await;
    let answer = Client::new().unwrap().request(get(port)).await;
    assert!(matches!(answer.unwrap_err(), ClientError::Broken(_)));
    served.await.unwrap();
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let again = [Act::Head, Act::Write(OK)];
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    let acts = [&again[..], &[Act::Head, Act::Write(chunked)], &again[..], &[Act::Closed]].concat();
    let (port, served) = server(vec![acts]).await;
    let client = Client::new().unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&client, get(port)).await, Ok((200, b"hello".to_vec())));
        assert_eq!(client.pool.len(), 1);
    }
    drop(client);
    assert_eq!(served.await.unwrap(), 1, "and without the client it is closed");
}

#[tokio::test]
async fn an_answer_is_read_however_it_comes() {
    let check =
        async |writes: Vec<&'static [u8]>, expect: Result<(u16, &[u8]), &str>, keeps: usize| {
            let writes: Vec<Act> = writes.into_iter().map(Act::Write).collect();
            let (port, served) = server(vec![[vec![Act::Head], writes.clone()].concat()]).await;
            let client = Client::new().unwrap();
            match (ask(&client, get(port)).await, expect) {
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}: {writes:?}"),
                (told, expect) => {
                    let expect = expect.map(|(status, body)| (status, body.to_vec()));
                    assert_eq!(told, expect.map_err(str::to_owned), "{writes:?}");
                }
            }
            assert_eq!(client.pool.len(), keeps, "{writes:?}");
            served.await.unwrap();
        };
    let hello = Ok((200, b"hello".as_slice()));
    check(vec![b"HTTP/1.1 20", b"0 OK\r\ncontent-le", b"ngth: 5\r\n\r\nh", b"ello"], hello, 1)
        .await;
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".as_slice();
    check(vec![chunked, b"5", b"\r", b"\nhel", b"lo\r", b"\n0\r\nx: y\r\n", b"\r\n"], hello, 1)
        .await;
    check(vec![b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Early\r\n", b"\r\n", OK], hello, 1).await;
    check(vec![b"HTTP/1.1 204 No\r\n\r\n"], Ok((204, b"")), 1).await;
    check(vec![b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], hello, 0).await;
    check(
        vec![b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"],
        hello,
        0,
    )
    .await;
    // What comes behind an answer was not asked for.
    check(
        vec![b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n"],
        hello,
        0,
    )
    .await;
    check(vec![chunked, b"5\r\nhello\r\n0\r\n\r\n!"], hello, 0).await;
    check(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"], Err("middle of a body"), 0)
        .await;
    check(vec![chunked, b"5\r\nhello\r\n"], Err("middle of a body"), 0).await;
    check(vec![chunked, b"5\r\nhello!\r\n"], Err("does not end"), 0).await;
    check(vec![b"HTTP/1.1 200 OK\r\ncontent-le"], Err("end of file"), 0).await;
    check(vec![b"220 mail.example ESMTP\r\n"], Err("not HTTP"), 0).await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let check = async |write: Vec<u8>, part: &str| {
        let acts = vec![Act::Head, Act::Write(write.leak()), Act::Closed];
        let (port, _served) = server(vec![acts]).await;
        let told = ask(&Client::new().unwrap(), get(port)).await;
        assert!(told.clone().unwrap_err().contains(part), "{told:?}");
    };
    let long = "y".repeat(head::BYTES_MAX);
    check(format!("HTTP/1.1 200 OK\r\nx: {long}").into(), "too large").await;
    check(format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(101)).into(), "too many headers")
        .await;
    check("HTTP/1.1 100 Go\r\n\r\n".repeat(20).into(), "too many heads").await;
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_sent() {
    let refused = b"HTTP/1.1 413 Large\r\ncontent-length: 2\r\n\r\nno";
    let acts = vec![Act::Head, Act::Read(10), Act::Write(refused), Act::Closed];
    let (port, served) = server(vec![acts]).await;
    let client = Client::new().unwrap();
    let told = ask(&client, post(port, vec![b'x'; 64 << 20])).await;
    assert_eq!(told, Ok((413, b"no".to_vec())));
    assert_eq!(client.pool.len(), 0, "the rest of the body would be the next request");
    served.await.unwrap();
}

#[tokio::test]
async fn large_requests_come_whole() {
    let check = async |length: usize, acts: Vec<Act>, keeps: usize| {
        let (port, served) = server(vec![acts]).await;
        let client = Client::new().unwrap();
        let told = ask(&client, post(port, vec![b'x'; length])).await;
        assert_eq!(told, Ok((200, b"hello".to_vec())));
        assert_eq!(client.pool.len(), keeps);
        served.await.unwrap();
    };
    let (large, huge) = (5 << 20, 64 << 20);
    check(large, vec![Act::Head, Act::Read(large), Act::Write(OK)], 1).await;
    // An answer that agrees gets the rest of its request.
    let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let ended = b"5\r\nhello\r\n0\r\n\r\n";
    let acts = vec![Act::Head, Act::Write(begun), Act::Read(huge), Act::Write(ended)];
    check(huge, acts, 0).await;
}

#[tokio::test]
async fn what_is_dropped_closes_its_connection() {
    let open = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n";
    let acts = vec![Act::Head, Act::Write(open), Act::Closed];
    let (port, served) = server(vec![acts, vec![Act::Head, Act::Closed]]).await;
    let client = Client::new().unwrap();
    let mut body = client.request(get(port)).await.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(frame, "he");
    drop(body);
    let waiting = client.request(get(port));
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    assert_eq!(served.await.unwrap(), 2, "both were told");
}

#[tokio::test]
async fn a_connection_that_was_closed_is_not_used_again() {
    let acts = vec![Act::Head, Act::Write(OK)];
    let (port, served) = server(vec![acts.clone(), acts]).await;
    let client = Client::new().unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&client, get(port)).await, Ok((200, b"hello".to_vec())));
        assert_eq!(client.pool.len(), 1);
        // The server's end of it comes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(served.await.unwrap(), 2);
}

#[tokio::test]
async fn any_number_of_closed_connections_is_seen_through() {
    const COUNT: usize = 300;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new().unwrap();
    let origin = Origin::of(get(port).uri()).unwrap();
    for _ in 0..COUNT {
        let socket = client.connector.connect(get(port).uri()).await.unwrap();
        client.pool.put(origin.clone(), socket.into());
        drop(listener.accept().await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(client.pool.len(), COUNT);
    assert!(client.pool.take(&origin).is_none());
    assert_eq!(client.pool.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_do_not_wait_for_ever() {
    let (port, served) = server(vec![vec![Act::Head, Act::Write(OK), Act::Closed]]).await;
    let client = Client::new().unwrap();
    assert!(ask(&client, get(port)).await.is_ok());
    assert_eq!(client.pool.len(), 1);
    tokio::time::sleep(IDLE_TIMEOUT * 2).await;
    assert_eq!(client.pool.len(), 0);
    served.await.unwrap();
}
