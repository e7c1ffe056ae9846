//! How conversations with a proxy end: by the request that never came, by an answer that is not shown, by one
//! of the proxy itself; and where requests must not be taken.

use super::*;

/// Opens a conversation about a chat of which nothing but the head is shown.
async fn begun(
    client: &SendRequest<Bytes>,
    request: BodySendMode,
    response: BodySendMode,
) -> Shown {
    let mut shown = open(client).await;
    let key = bearer();
    let pairs = [
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        ("authorization", key.as_str()),
        (DESTINATION, "10.9.9.9:22"),
    ];
    shown.send(&ProcessingRequest {
        part: Some(Part::RequestHeaders(head(&pairs, false))),
        protocol_config: Some(ProtocolConfiguration {
            request_body_mode: request.into(),
            response_body_mode: response.into(),
            send_body_without_waiting_for_header_response: true,
        }),
        ..ProcessingRequest::default()
    });
    shown
}

/// The code that a call ends with, once nothing more is said.
async fn code(shown: &mut Shown) -> String {
    assert_eq!(shown.next::<ProcessingResponse>().await, None);
    let trailers = shown.from.trailers().await.unwrap().unwrap();
    trailers["grpc-status"].to_str().unwrap().to_owned()
}

const DUPLEX: BodySendMode = BodySendMode::FullDuplexStreamed;

#[tokio::test(start_paused = true)]
async fn a_request_that_never_comes_whole_goes_nowhere() {
    drop(pilotage_shell::tasks::spawn("time", step_by_step()));
    let gateway = usual(1, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    for mode in [DUPLEX, BodySendMode::Buffered] {
        let mut shown = begun(&client, mode, DUPLEX).await;
        if mode == BodySendMode::Buffered {
            let reply = shown.reply().await.reply;
            assert!(matches!(reply, Some(Reply::RequestHeaders(_))), "the body may come");
        }
        let (status, _, body) = shown.instead().await;
        assert_eq!(status, 408, "{body}");
        assert!(body.contains("\"error\""), "{body}");
        assert_eq!(code(&mut shown).await, "4", "to a proxy an end with 0 lets it go on");
    }
    assert_eq!(in_flight(&gateway, 0).await, 0);
}

#[tokio::test]
async fn a_conversation_that_the_proxy_ends_early_does_not_end_well() {
    let gateway = usual(1, 1);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = begun(&client, DUPLEX, DUPLEX).await;
    shown.to.send_data(Bytes::new(), true).unwrap();
    assert_eq!(code(&mut shown).await, "1");
    // The same of one that waits for its turn.
    let (mut first, mut second) = (open(&client).await, open(&client).await);
    first.goes(CHAT).await;
    second.chat(CHAT, &[("authorization", &bearer())], None);
    until_queued(&gateway, 1).await;
    second.to.send_data(Bytes::new(), true).unwrap();
    assert_eq!(code(&mut second).await, "1");
    until_queued(&gateway, 0).await;
}

#[tokio::test]
async fn an_answer_of_the_proxy_itself_passes() {
    let gateway = usual(1, 1);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let text = [(":status", "413"), ("content-type", "text/plain")];
    let mut shown = begun(&client, DUPLEX, DUPLEX).await;
    let some = Bytes::from_static(b"{\"model\"");
    shown.show(Part::RequestBody(HttpBody { body: some, end_of_stream: false }));
    shown.answered(&text).await;
    assert_eq!(shown.passes("too large", true).await, "too large");
    // The same of one that waits for its turn, which it leaves.
    let (mut first, mut second) = (open(&client).await, open(&client).await);
    first.goes(CHAT).await;
    second.chat(CHAT, &[("authorization", &bearer())], None);
    until_queued(&gateway, 1).await;
    second.answered(&text).await;
    until_queued(&gateway, 0).await;
    assert_eq!(second.passes("too late", true).await, "too late");
}

/// A stream at a replica, of whose answer nothing but the head is shown.
async fn unseen(client: &SendRequest<Bytes>) -> Shown {
    let mut shown = begun(client, DUPLEX, BodySendMode::None).await;
    let body = Bytes::from_static(STREAM.as_bytes());
    shown.show(Part::RequestBody(HttpBody { body, end_of_stream: true }));
    assert_eq!(shown.directed().await.0, "127.0.0.1:1", "and not where its client wrote");
    shown.answered(&[OK, EVENTS]).await;
    shown
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_shown_may_take_as_long_as_any() {
    drop(pilotage_shell::tasks::spawn("time", step_by_step()));
    let gateway = usual(1, 4);
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = unseen(&client).await;
    // Longer than a first token or a pause may take.
    let quiet = shown.next::<ProcessingResponse>();
    assert!(tokio::time::timeout(Duration::from_secs(30), quiet).await.is_err());
    assert_eq!(in_flight(&gateway, 0).await, 1);
    shown.leave();
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "ok").await, 1);
    // At the end of its time nothing is said of its replica.
    let mut shown = unseen(&client).await;
    assert_eq!(code(&mut shown).await, "0");
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "ok").await, 2);
    assert!(status_of(&gateway, "127.0.0.1:1").await["last_error"].is_null());
}

#[tokio::test]
async fn proxies_take_nothing_to_other_regions_or_past_tls() {
    let gateway = usual(1, 4);
    let lane = gateway.lane("lane").unwrap();
    let away = |name: &str, url: &str, is_gateway: bool| Replica {
        key: Some(Secret::new("not for a proxy".to_owned())),
        is_gateway,
        ..Replica::at(name, url, Capacity::of_requests(4))
    };
    lane.replica_up(ReplicaId(2), away("oslo", "http://127.0.0.1:2", true));
    lane.replica_up(ReplicaId(3), away("provider", "https://127.0.0.1:3", false));
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut shown = open(&client).await;
        assert_eq!(shown.goes(CHAT).await, "127.0.0.1:1");
        all.push(shown);
    }
    for subset in [&["127.0.0.1:2"], &["127.0.0.1:3"]] {
        let mut shown = open(&client).await;
        shown.chat(CHAT, &[("authorization", &bearer())], Some(subset));
        assert_eq!(shown.instead().await.0, 503, "{subset:?}");
    }
    lane.replica_down(ReplicaId(1));
    let mut shown = open(&client).await;
    shown.chat(CHAT, &[("authorization", &bearer())], None);
    assert_eq!(shown.instead().await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_rests_beside_another_region_is_started_for_a_proxy() {
    let mut config = config();
    config.lanes[0].rest = Some(Duration::from_secs(60));
    let gateway = gateway(config, 0, 4);
    let lane = gateway.lane("lane").unwrap();
    let replica = Replica::at("oslo", "http://127.0.0.1:2", Capacity::of_requests(4));
    lane.replica_up(ReplicaId(2), Replica { is_gateway: true, ..replica });
    let client = proxy(&gateway, PickerConfig::default()).await;
    let mut shown = open(&client).await;
    let start = async {
        until_queued(&gateway, 1).await;
        assert!(lane.is_held());
        lane.replica_up(
            ReplicaId(1),
            Replica::at("near", "http://127.0.0.1:1", Capacity::of_requests(4)),
        );
    };
    let goes = async { tokio::join!(shown.goes(CHAT), start).0 };
    let at = tokio::select! {
        at = goes => at,
        () = step_by_step() => unreachable!("it never ends"),
    };
    assert_eq!(at, "127.0.0.1:1");
}
