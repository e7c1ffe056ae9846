//! Asks copies of Models how far their adapters are, so that the status of the Models says it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use pilotage_plan::Resource;
use pilotage_plan::adapters::Told;
use pilotage_plan::cluster::Running;
use pilotage_shell::client::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::Known;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(10);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Copies that are asked at once.
const AT_ONCE: usize = 16;

/// Most copies of one Model that are asked.
const COPIES_MAX: usize = 512;

/// Most bytes of an answer.
const BYTES_MAX: usize = 1 << 20;

/// Asks for as long as this operator leads, until `stop`.
pub async fn tell(known: Known, client: Client, stop: CancellationToken) {
    loop {
        if known.leads() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = round(&known, &client) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(known: &Known, client: &Client) {
    for running in known.models(has_adapters) {
        let Some(urls) = urls(&running) else { continue };
        let asking = urls.into_iter().map(|url| one(client.clone(), url));
        let heard: Vec<Option<Told>> =
            futures_util::stream::iter(asking).buffered(AT_ONCE).collect().await;
        known.heard_adapters(&running.identity.namespace, &running.identity.name, heard);
    }
}

fn has_adapters(resource: &Resource, _status: &Value) -> bool {
    matches!(resource, Resource::Model(model) if !model.spec.adapter_sources.is_empty())
}

/// Where copies say it; none of a Model whose copies say nothing.
fn urls(running: &Running) -> Option<Vec<String>> {
    let there = running.pods.iter().filter(|pod| pod.serves && !pod.is_deleted);
    let urls: Vec<String> = there.filter_map(|pod| pod.adapters_url()).take(COPIES_MAX).collect();
    // Copies of several nodes have theirs from the start, and say nothing of them.
    (!urls.is_empty() || running.pods.is_empty()).then_some(urls)
}

async fn one(client: Client, url: String) -> Option<Told> {
    let asking = async {
        let request = Request::get(format!("{url}/adapters")).body(Bytes::new()).ok()?;
        let response = client.request(request).await.ok()?;
        let is_good = response.status().is_success();
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.ok()?;
        is_good.then(|| serde_json::from_slice(&body.to_bytes()).ok()).flatten()
    };
    tokio::time::timeout(PATIENCE, asking).await.ok().flatten()
}
