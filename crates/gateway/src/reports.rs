//! What engines say about themselves, read now and then: how full they are, what they have run, which
//! adapters they have loaded, and whether they are well. It corrects what is known from the requests
//! themselves; nothing waits for it, and an engine that says nothing, or something strange, is
//! scheduled by the ledger alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use pilotage_core::health::Probe;
use pilotage_core::{ReplicaId, Report, Span};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_wire::prometheus;

use crate::driver::{LaneHandle, Replica};

/// Between two readings of an engine that has work.
const EVERY: Duration = Duration::from_secs(1);

/// Between two readings of one that has none.
const EVERY_IDLE: Duration = Duration::from_secs(5);

/// How long a reading may take. Engines that are busy answer late.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer to a health check.
const HEALTH_BYTES_MAX: usize = 64 << 10;

/// What is read, by the names that engines have for it: vLLM's of today, its older one, SGLang's,
/// TensorRT-LLM's.
const NAMES: [&str; 13] = [
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "trtllm_kv_cache_utilization",
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "trtllm_num_requests_running",
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "trtllm_num_requests_waiting",
    "vllm:iteration_tokens_total_count",
    "vllm:generation_tokens_total",
    "sglang:generation_tokens_total",
];

/// Reads until the lane or the replica is gone; the caller ends it.
pub(crate) async fn read(
    client: Client,
    clock: Clock,
    lane: LaneHandle,
    (id, replica): (ReplicaId, Arc<Replica>),
) {
    let mut pause = EVERY;
    let mut adapters = String::new();
    loop {
        tokio::time::sleep(pause).await;
        lane.replica_checked(id, probe(&client, clock, &replica).await);
        let page = tokio::time::timeout(PATIENCE, page(&client, &replica)).await;
        let Some(page) = page.ok().flatten() else { continue };
        let report = reported(&page, replica.capacity.tokens_max);
        pause = if report.requests == Some(0) { EVERY_IDLE } else { EVERY };
        lane.replica_reports(id, report);
        if let Some(loaded) = loaded(&page).filter(|loaded| *loaded != adapters) {
            lane.replica_adapters(id, loaded.split(',').map(pilotage_core::traffic::key).collect());
            adapters = loaded;
        }
    }
}

async fn probe(client: &Client, clock: Clock, replica: &Replica) -> Probe {
    let begun = clock.now_nanos();
    let asking = async {
        let response = client.request(get(replica, "/health")?).await.ok()?;
        let status = response.status();
        // What is not read to its end costs a connection.
        let _ = Limited::new(response.into_body(), HEALTH_BYTES_MAX).collect().await;
        Some(status)
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        // An engine without such a path is up.
        Ok(Some(status)) if !status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED => {
            Probe::Good { latency: Span::from_nanos(clock.now_nanos() - begun) }
        }
        _ => Probe::Failed,
    }
}

fn get(replica: &Replica, path: &str) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::get(format!("{}{path}", replica.url));
    if let Some(key) = &replica.key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    }
    request.body(Full::new(Bytes::new())).ok()
}

async fn page(client: &Client, replica: &Replica) -> Option<String> {
    let response = client.request(get(replica, "/metrics")?).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = Limited::new(response.into_body(), prometheus::PAGE_BYTES_MAX);
    let bytes = body.collect().await.ok()?.to_bytes();
    String::from_utf8(bytes.to_vec()).ok()
}

/// What a page says, with none for what it does not, or not sensibly.
fn reported(page: &str, tokens_max: u64) -> Report {
    let told = prometheus::sums(page, &NAMES);
    let first = |range: std::ops::Range<usize>| told[range].iter().find_map(|value| *value);
    let count = |value: f64| (0.0..1e9).contains(&value).then_some(value as u32);
    let used = first(0..4).filter(|used| (0.0..=1.0).contains(used));
    let kv_tokens = used.filter(|_| tokens_max != u64::MAX).map(|used| used * tokens_max as f64);
    let (running, waiting) = (first(4..7).and_then(count), first(7..10).and_then(count));
    Report {
        kv_tokens: kv_tokens.map(|tokens| tokens as u64),
        requests: running.map(|running| running.saturating_add(waiting.unwrap_or(0))),
        // SGLang's moves when an answer ends.
        each_step: first(10..12).is_some(),
        steps: first(10..13).filter(|steps| (0.0..1e18).contains(steps)).map(|steps| steps as u64),
    }
}

/// The adapters that are loaded, with commas between them; none where the page does not tell.
fn loaded(page: &str) -> Option<String> {
    /// vLLM's, whose value is the time of the sample: the newest counts, which comes last.
    const NAME: &str = "vllm:lora_requests_info";
    prometheus::label(page, NAME, "running_lora_adapters").last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_reports_are_none() {
        let check = |page: &str, expect: Option<u64>| {
            assert_eq!(reported(page, 1000).kv_tokens, expect, "{page}");
        };
        check("vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n", Some(500));
        check("sglang:token_usage 0.25\n", Some(250));
        check("vllm:kv_cache_usage_perc 42\n", None);
        check("vllm:kv_cache_usage_perc NaN\n", None);
        check("something 0.5\n", None);
        assert_eq!(reported("vllm:kv_cache_usage_perc 0.5\n", u64::MAX).kv_tokens, None);
    }

    #[test]
    fn queues_counters_and_adapters_are_read() {
        let page = "vllm:num_requests_running{engine=\"0\"} 3.0\n\
                    vllm:num_requests_waiting{engine=\"0\"} 2.0\n\
                    vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9.0\n\
                    vllm:iteration_tokens_total_count{engine=\"0\"} 84.0\n\
                    vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"sql,law\",waiting_lora_adapters=\"\"} 1.7e9\n";
        let report = reported(page, u64::MAX);
        assert_eq!((report.requests, report.steps), (Some(5), Some(84)));
        assert_eq!(loaded(page).as_deref(), Some("sql,law"));
        assert_eq!(reported("vllm:num_requests_running -1\n", 1).requests, None);
        assert_eq!(loaded("a 1\n"), None);
    }
}
