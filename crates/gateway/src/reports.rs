//! What engines say about their KV caches, read now and then to correct the ledger. Nothing waits for
//! it: an engine that says nothing, or something strange, is scheduled by the ledger alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use pilotage_core::{ReplicaId, Report};
use pilotage_shell::client::Client;
use pilotage_wire::prometheus;

use crate::driver::{LaneHandle, Replica};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);

/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The part of the KV cache in use, from 0 to 1, by the names that engines have for it: vLLM's of
/// today, its older one, SGLang's.
const NAMES: [&str; 3] =
    ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"];

/// Reads until the lane or the replica is gone; the caller ends it.
pub(crate) async fn read(client: Client, lane: LaneHandle, id: ReplicaId, replica: Arc<Replica>) {
    let capacity = replica.capacity.tokens_max;
    if capacity == u64::MAX {
        return;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let page = tokio::time::timeout(PATIENCE, page(&client, &replica)).await;
        let used = page.ok().flatten().and_then(|page| used(&page));
        if let Some(used) = used {
            let kv_tokens = Some((used * capacity as f64) as u64);
            lane.replica_reports(id, Report { kv_tokens, ..Report::default() });
        }
    }
}

async fn page(client: &Client, replica: &Replica) -> Option<String> {
    let mut request = Request::get(format!("{}/metrics", replica.url));
    if let Some(key) = &replica.key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    }
    let response = client.request(request.body(Full::new(Bytes::new())).ok()?).await.ok()?;
    let body = Limited::new(response.into_body(), prometheus::PAGE_BYTES_MAX);
    let bytes = body.collect().await.ok()?.to_bytes();
    String::from_utf8(bytes.to_vec()).ok()
}

/// The part in use; none where the page does not tell, or not sensibly.
fn used(page: &str) -> Option<f64> {
    let told = NAMES.iter().find_map(|name| prometheus::sum(page, name))?;
    (0.0..=1.0).contains(&told).then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_reports_are_none() {
        assert_eq!(used("vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n"), Some(0.5));
        assert_eq!(used("sglang:token_usage 0.25\n"), Some(0.25));
        assert_eq!(used("vllm:kv_cache_usage_perc 42\n"), None);
        assert_eq!(used("something 0.5\n"), None);
    }
}
