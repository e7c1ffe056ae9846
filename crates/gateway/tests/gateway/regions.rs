//! Replicas in several regions: the near ones first, the others when those are gone.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use pilotage_core::traffic::{LaneId, Name, Region, Regions};
use pilotage_core::{Capacity, Policy, ReplicaId, Span};
use pilotage_gateway::{Gateway, LaneConfig, Replica};
use pilotage_shell::secret::Secret;

use crate::support::{
    Engine, KEY, answer, chat, config, ended, engine, gateway, listen, send, until_idle,
    until_queued,
};

fn regions(order: [&str; 2]) -> Regions {
    let region =
        |(tier, name)| Region { name: Name::from(name), tier, round_trip: Span::from_millis(10) };
    Regions::new((0..).zip(order).map(region).collect())
}

fn up(gateway: &Gateway, id: u32, region: &str, engine: &Engine) {
    let replica = Replica {
        region: Some(region.into()),
        ..Replica::at(region, &engine.url, Capacity::of_requests(4))
    };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
}

/// The region that the next request goes to, as its reason says.
async fn region(gateway: &Gateway, engines: [&Engine; 2]) -> String {
    engines.into_iter().for_each(|engine| engine.json(200, "{}"));
    let mut request = chat(r#"{"model":"public"}"#);
    request.headers_mut().insert("x-pilotage-why", "1".parse().unwrap());
    let response = send(gateway, request).await;
    assert_eq!(response.status(), 200);
    let why = response.headers()["x-pilotage-why"].to_str().unwrap().to_owned();
    drop(response);
    until_idle(gateway).await;
    why.rsplit_once("region=").unwrap().1.to_owned()
}

#[tokio::test]
async fn the_nearest_that_takes_work_is_used() {
    let (oslo, paris) = (engine().await, engine().await);
    let both = [&oslo, &paris];
    let mut config = config();
    config.lanes[0].scheduler.policy = Policy::Cost;
    config.lanes[0].regions = Some(regions(["paris", "oslo"]));
    let gateway = gateway(config.clone(), &[]);
    up(&gateway, 1, "oslo", &oslo);
    up(&gateway, 2, "paris", &paris);
    for _ in 0..8 {
        assert_eq!(region(&gateway, both).await, "paris");
    }
    gateway.lane("lane").unwrap().replica_down(ReplicaId(2));
    assert_eq!(region(&gateway, both).await, "oslo");
    up(&gateway, 3, "paris", &paris);
    for _ in 0..8 {
        assert_eq!(region(&gateway, both).await, "paris");
    }
    // A new configuration holds for replicas that are there.
    config.lanes[0].regions = Some(regions(["oslo", "paris"]));
    gateway.set_config(&config).unwrap();
    for _ in 0..8 {
        assert_eq!(region(&gateway, both).await, "oslo");
    }
}

#[tokio::test]
async fn among_equals_the_zone_of_the_gateway_is_preferred() {
    let (near, far) = (engine().await, engine().await);
    let mut config = config();
    config.lanes[0].scheduler.policy = Policy::Cost;
    let gateway = gateway(config, &[]);
    let raise = |id: u32, zone: &str, engine: &Engine, crosses_zones: bool| {
        let replica = Replica {
            region: Some(zone.into()),
            zone: Some(zone.to_owned()),
            crosses_zones,
            ..Replica::at(zone, &engine.url, Capacity::of_requests(4))
        };
        gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
    };
    raise(1, "far", &far, true);
    raise(2, "near", &near, false);
    for _ in 0..16 {
        assert_eq!(region(&gateway, [&near, &far]).await, "near");
    }
    // One that is gone sends nobody away.
    gateway.lane("lane").unwrap().replica_down(ReplicaId(2));
    assert_eq!(region(&gateway, [&near, &far]).await, "far");
}

fn up_gateway(gateway: &Gateway, id: u32, url: &str) {
    let replica = Replica {
        is_gateway: true,
        key: Some(Secret::new(KEY.to_owned())),
        ..Replica::at("elsewhere", url, Capacity::of_requests(4))
    };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
}

#[tokio::test]
async fn a_gateway_of_another_region_gets_the_names_that_both_know() {
    let mut elsewhere = engine().await;
    let gateway = gateway(config(), &[]);
    up_gateway(&gateway, 1, &elsewhere.url);
    elsewhere.json(200, "{}");
    assert_eq!(send(&gateway, chat(r#"{"model":"public"}"#)).await.status(), 200);
    let seen = elsewhere.seen.recv().await.unwrap();
    assert_eq!(seen.body, r#"{"model":"public"}"#, "and not the name of its replicas");
    let tenant = &config().tenants[0].name;
    assert_eq!(seen.headers["x-pilotage-tenant"], tenant.as_str());
    assert_eq!(seen.headers["x-pilotage-hops"], "1");
}

#[tokio::test]
async fn what_came_through_a_gateway_goes_to_no_other() {
    let (elsewhere, mut near) = (engine().await, engine().await);
    let gateway = gateway(config(), &[]);
    up_gateway(&gateway, 1, &elsewhere.url);
    let come = async |hops: &'static str| {
        let mut request = chat(r#"{"model":"public"}"#);
        request.headers_mut().insert("x-pilotage-hops", hops.parse().unwrap());
        let status = send(&gateway, request).await.status().as_u16();
        until_idle(&gateway).await;
        status
    };
    assert_eq!((come("1").await, come("nonsense").await), (503, 503), "it has none of its own");
    assert_eq!(come("4").await, 508);
    up(&gateway, 2, "near", &near);
    for _ in 0..8 {
        near.json(200, "{}");
        assert_eq!(come("1").await, 200);
        assert_eq!(near.seen.recv().await.unwrap().headers["x-pilotage-hops"], "2");
    }
    // Nobody says that, so that all may have it.
    elsewhere.json(200, "{}");
    gateway.lane("lane").unwrap().replica_down(ReplicaId(2));
    assert_eq!(send(&gateway, chat(r#"{"model":"public"}"#)).await.status(), 200);
}

/// What a gateway tells another one of the name that it would be asked by, and its status.
async fn told(gateway: &Gateway, query: &str, key: &str) -> u16 {
    let request = Request::get(format!("/health/ready?{query}"));
    let request = request.header("authorization", format!("Bearer {key}"));
    send(gateway, request.body(Body::empty()).unwrap()).await.status().as_u16()
}

/// Two regions that each have the other's gateway, and no replicas, are not ready for each other.
#[tokio::test]
async fn a_gateway_that_could_only_send_on_is_not_ready_for_others() {
    let (elsewhere, near) = (engine().await, engine().await);
    let gateway = gateway(config(), &[]);
    up_gateway(&gateway, 1, &elsewhere.url);
    let ready = async |query: &'static str| told(&gateway, query, KEY).await;
    assert_eq!(ready("").await, 200, "its clients are served");
    assert_eq!((ready("near=public").await, ready("near=").await), (503, 503));
    assert_eq!(ready("near=public&starts=true").await, 503, "nothing will be started");
    up(&gateway, 2, "near", &near);
    assert_eq!((ready("near=public").await, ready("near=").await), (200, 200));
    assert_eq!(ready("near=unknown").await, 503);
    assert_eq!(told(&gateway, "near=public", "pk-nobody").await, 401);
    gateway.drain();
    assert_eq!(ready("near=public").await, 503);
}

#[tokio::test]
async fn one_that_rests_is_started_for_other_regions_where_they_say_so() {
    let (elsewhere, near) = (engine().await, engine().await);
    let mut config = config();
    config.lanes[0].rest = Some(Duration::from_secs(60));
    let gateway = gateway(config, &[]);
    up_gateway(&gateway, 1, &elsewhere.url);
    let ready = async |query: &'static str| told(&gateway, query, KEY).await;
    assert_eq!(ready("near=public").await, 503);
    assert_eq!(ready("near=public&starts=true").await, 200);
    // It waits for the start, and is not sent on meanwhile.
    let mut request = chat(r#"{"model":"public"}"#);
    request.headers_mut().insert("x-pilotage-hops", "1".parse().unwrap());
    near.json(200, r#"{"by":"near"}"#);
    let start = async {
        until_queued(&gateway, 1).await;
        assert!(gateway.lane("lane").unwrap().is_held());
        up(&gateway, 2, "near", &near);
    };
    let (answer, ()) = tokio::join!(answer(&gateway, request), start);
    assert_eq!(answer, (200, r#"{"by":"near"}"#.to_owned()));
}

/// What another gateway can take is neither a replica nor what one does.
#[tokio::test]
async fn gateways_of_other_regions_are_no_replicas_to_autoscalers() {
    let (elsewhere, near) = (engine().await, engine().await);
    let gateway = gateway(config(), &[]);
    let lane = gateway.lane("lane").unwrap();
    let replica = Replica {
        is_gateway: true,
        ..Replica::at("elsewhere", &elsewhere.url, Capacity::of_requests(256))
    };
    lane.replica_up(ReplicaId(1), replica);
    elsewhere
        .json(200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}"#);
    assert_eq!(send(&gateway, chat(r#"{"model":"public"}"#)).await.status(), 200);
    until_idle(&gateway).await;
    let (seen, _) = lane.signals();
    assert_eq!((seen.replicas.unwrap().value.len(), seen.speed), (0, None));
    assert!(seen.arrivals.unwrap().value[1].requests > 0.0, "somebody asks for it here");
    up(&gateway, 2, "near", &near);
    let (seen, _) = lane.signals();
    assert_eq!(seen.replicas.unwrap().value.len(), 1);
    assert_eq!(seen.speed.unwrap().value.sequences_max, 4);
}

#[tokio::test]
async fn two_gateways_never_send_in_circles() {
    let (one, two) = (gateway(config(), &[]), gateway(config(), &[]));
    let (at_one, at_two) = (listen(&one).await, listen(&two).await);
    up_gateway(&one, 1, &format!("http://{at_two}"));
    up_gateway(&two, 1, &format!("http://{at_one}"));
    let response = send(&one, chat(r#"{"model":"public"}"#)).await;
    assert!(response.status().is_server_error(), "{}", response.status());
    until_idle(&one).await;
    until_idle(&two).await;
    assert_eq!(ended(&one, "ok").await + ended(&two, "ok").await, 0);
    // With an engine there the answer comes through both.
    let engine = engine().await;
    up(&two, 2, "engine", &engine);
    engine.json(200, r#"{"x":1}"#);
    let (status, body) = answer(&one, chat(r#"{"model":"public"}"#)).await;
    assert_eq!((status, body.as_str()), (200, r#"{"x":1}"#));
}

/// What says that it is ready for a name goes on to whichever model answers to that.
#[tokio::test]
async fn what_comes_from_another_region_falls_back_to_a_model_of_this_one() {
    let (elsewhere, small) = (engine().await, engine().await);
    let mut config = config();
    config.lanes.push(LaneConfig::named("small", 1000));
    config.routes[0].traffic.fallbacks = vec![LaneId(1)];
    let gateway = gateway(config, &[]);
    up_gateway(&gateway, 1, &elsewhere.url);
    let replica = Replica::at("small", &small.url, Capacity::of_requests(4));
    gateway.lane("small").unwrap().replica_up(ReplicaId(2), replica);
    assert_eq!(told(&gateway, "near=public", KEY).await, 200);
    small.json(200, r#"{"by":"small"}"#);
    let mut request = chat(r#"{"model":"public"}"#);
    request.headers_mut().insert("x-pilotage-hops", "1".parse().unwrap());
    assert_eq!(answer(&gateway, request).await, (200, r#"{"by":"small"}"#.to_owned()));
}
