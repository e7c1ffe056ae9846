//! KEDA's side of the external scaler, over HTTP/2, with its messages as KEDA writes them.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::Request;
use pilotage_operator::scaling::{Board, keda};
use pilotage_shell::grpc::Grpc;
use pilotage_shell::serve::serve;
use pilotage_shell::tasks;
use prost::Message as _;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::stand::{Stand, Told};

/// `ScaledObjectRef`, as protoc would write it.
#[derive(Clone, PartialEq, prost::Message)]
struct Reference {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetricsRequest {
    #[prost(message, optional, tag = "1")]
    object: Option<Reference>,
    #[prost(string, tag = "2")]
    metric: String,
}

fn reference(model: &str) -> Reference {
    let metadata = [("model".to_owned(), model.to_owned())].into();
    Reference { name: "m".into(), namespace: "default".into(), metadata }
}

async fn connect(board: &Board) -> SendRequest<Bytes> {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let grpc = keda(board).service();
    drop(tasks::spawn(
        "scaler",
        serve(socket, grpc, Grpc::serve_limits(), CancellationToken::new()),
    ));
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    drop(tasks::spawn("client", connection));
    client
}

async fn call(client: &SendRequest<Bytes>, method: &str, message: &[u8]) -> RecvStream {
    let request = Request::post(format!("http://scaler/externalscaler.ExternalScaler/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    body.send_data(frame.freeze(), true).unwrap();
    response.await.unwrap().into_body()
}

/// The next message of an answer; none where it ended without.
async fn next(body: &mut RecvStream) -> Option<Vec<u8>> {
    let data = body.data().await?.unwrap();
    let _ = body.flow_control().release_capacity(data.len());
    Some(data[5..].to_vec())
}

async fn code(mut body: RecvStream) -> String {
    while body.data().await.is_some() {}
    let trailers = body.trailers().await.unwrap().unwrap();
    trailers["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn keda_reads_what_was_decided() {
    let (board, told) = decided(4);
    let client = connect(&board).await;
    let object = reference("m").encode_to_vec();
    let mut body = call(&client, "IsActive", &object).await;
    assert_eq!(next(&mut body).await.unwrap(), [0x08, 0x01]);
    let mut body = call(&client, "GetMetricSpec", &object).await;
    let spec = next(&mut body).await.unwrap();
    let name = b"pilotage_replicas_wanted";
    let head = [&[0x0a, 37, 0x0a, 24][..], name, &[0x10, 1, 0x19]].concat();
    assert_eq!(spec, [head, 1.0_f64.to_le_bytes().to_vec()].concat());
    let asked = MetricsRequest { object: Some(reference("m")), metric: "s1-x".into() };
    let mut body = call(&client, "GetMetrics", &asked.encode_to_vec()).await;
    let value = next(&mut body).await.unwrap();
    let head = [&[0x0a, 17, 0x0a, 4][..], b"s1-x", &[0x10, 4, 0x19]].concat();
    assert_eq!(value, [head, 4.0_f64.to_le_bytes().to_vec()].concat());
    // What nobody decided is no zero.
    let other = reference("other").encode_to_vec();
    assert_eq!(code(call(&client, "IsActive", &other).await).await, "5");
    let nameless = Reference::default().encode_to_vec();
    assert_eq!(code(call(&client, "StreamIsActive", &nameless).await).await, "3");
    drop(told);
}

#[tokio::test]
async fn keda_is_told_when_that_changes() {
    let (board, told) = decided(0);
    let client = connect(&board).await;
    let mut body = call(&client, "StreamIsActive", &reference("m").encode_to_vec()).await;
    assert_eq!(next(&mut body).await.unwrap(), [0_u8; 0], "an absent field is false");
    told(2);
    assert_eq!(next(&mut body).await.unwrap(), [0x08, 0x01]);
    told(3);
    told(0);
    assert_eq!(next(&mut body).await.unwrap(), [0_u8; 0]);
}

/// A board that says so many of `m`, and what changes it.
fn decided(wanted: u32) -> (Board, impl Fn(u32)) {
    let board = Board::default();
    let post = board.clone();
    let told = move |wanted| post.post(&Stand::view_of(wanted));
    told(wanted);
    (board, told)
}

#[tokio::test(start_paused = true)]
async fn a_model_at_zero_is_made_active_by_who_waits() {
    let scaling = json!({ "min": 0, "max": 3, "zero": "cold", "idleSeconds": 60, "by": "keda" });
    let stand = Stand::new(scaling, 1, 1).await;
    let pilot = stand.pilot(true);
    stand.run(400).await;
    assert_eq!(pilot.board.wanted("default", "m"), Some(0));
    stand.all(Some(Told { rate: 0.0, waiting: 1.0 }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(pilot.board.wanted("default", "m"), Some(1));
    assert_eq!(stand.replicas().await, 1, "what it has is KEDA's to change");
}
