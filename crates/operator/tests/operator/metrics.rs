//! The external metrics API: what is answered, and to whom.

use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use pilotage_operator::scaling::{Board, respond};
use serde_json::{Value, json};

use crate::stand::{Stand, Told};

const API: &str = "/apis/external.metrics.k8s.io/v1beta1";

async fn ask(board: &Board, path: &str) -> (StatusCode, Value) {
    let uri: Uri = path.parse().unwrap();
    let response = respond(board, &Method::GET, &uri, 1_767_225_600);
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn autoscalers_read_what_was_decided() {
    let stand = Stand::new(json!({ "max": 6, "by": "hpa" }), 1, 1).await;
    let pilot = stand.pilot(true);
    stand.all(Some(Told { rate: 9.0, waiting: 0.0 }));
    stand.run(120).await;
    let wanted = stand.status().await.unwrap().wanted;
    let path = format!("{API}/namespaces/default/pilotage_replicas_wanted?labelSelector=model%3Dm");
    let (status, list) = ask(&pilot.board, &path).await;
    assert_eq!(status, StatusCode::OK);
    let expect = json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [{
            "metricName": "pilotage_replicas_wanted",
            "metricLabels": { "model": "m" },
            "timestamp": "2026-01-01T00:00:00Z",
            "value": wanted.to_string(),
        }],
    });
    assert_eq!(list, expect);
    let count = async |path: &str| {
        let (status, list) = ask(&pilot.board, &format!("{API}{path}")).await;
        (status.as_u16(), list["items"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(count("/namespaces/default/pilotage_replicas_wanted").await, (200, 1));
    assert_eq!(count("/namespaces/other/pilotage_replicas_wanted").await, (200, 0));
    assert_eq!(
        count("/namespaces/default/pilotage_replicas_wanted?labelSelector=model%3Dn").await,
        (200, 0)
    );
    assert_eq!(
        count("/namespaces/default/pilotage_replicas_wanted?labelSelector=x%3Dn").await,
        (400, 0)
    );
    assert_eq!(count("/namespaces/default/other").await, (404, 0));
}

#[tokio::test]
async fn discovery_says_what_there_is() {
    let board = Board::default();
    let (status, list) = ask(&board, API).await;
    assert_eq!((status, &list["kind"]), (StatusCode::OK, &json!("APIResourceList")));
    assert_eq!(list["resources"][0]["name"], "pilotage_replicas_wanted");
    assert_eq!(ask(&board, "/apis").await.1["kind"], "APIGroupList");
    assert_eq!(ask(&board, "/openapi/v2").await.0, StatusCode::NOT_FOUND);
    let post = respond(&board, &Method::POST, &API.parse().unwrap(), 0);
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
}
