//! What engines say about themselves, read now and then: how full they are, what they have run, which
//! adapters they have loaded, and whether they are well. It corrects what is known from the requests
//! themselves; nothing waits for it, and an engine that says nothing, or something strange, is
//! scheduled by the ledger alone.

mod lists;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_core::health::Probe;
use pilotage_core::{ReplicaId, Report, Span};
use pilotage_lens::triage::observe::REPORTS_EVERY_S;
use pilotage_shell::client::{Client, ClientError};
use pilotage_shell::clock::Clock;
use pilotage_wire::dialect::loaded;
use pilotage_wire::dialect::observe::{self, Observation, PAGE_BYTES_MAX};
use tokio::sync::Notify;

use lists::Lists;

use crate::driver::{LaneHandle, Replica};

/// Between two readings of an engine that has work.
const EVERY: Duration = Duration::from_secs(1);

/// Between two readings of one that has none. Triage takes reports for old by it.
const EVERY_IDLE: Duration = Duration::from_secs(REPORTS_EVERY_S);

/// Between two looks at which adapters an engine has,
const EVERY_LIST: Duration = Duration::from_secs(5);

/// and where one is missing that was there before.
const EVERY_LIST_SOON: Duration = Duration::from_secs(1);

/// How long a reading may take. Engines that are busy answer late.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a replica is asked whether it is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    /// What is asked for, below its URL.
    pub path: String,
    /// Between two looks.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether nothing else will do than a status of 200 to 299. Otherwise an engine without such a
    /// path is up, too, and only errors of its own count.
    pub is_strict: bool,
    /// Whether a gateway of another region is to take requests for a model that rests there, while nobody
    /// works here.
    pub starts: bool,
}

/// What asks a gateway of another region for models that rest there, too, behind the rest of the path.
const STARTS: &str = "&starts=true";

impl Default for HealthCheck {
    fn default() -> Self {
        let path = "/health".to_owned();
        Self { path, interval: EVERY, timeout: PATIENCE, is_strict: false, starts: false }
    }
}

/// Most bytes of a list of models.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Most bytes of an answer to a health check.
const HEALTH_BYTES_MAX: usize = 64 << 10;

/// Between two looks at an engine of which it is not known whether it died,
const EVERY_URGENT: Duration = Duration::from_millis(250);

/// how long it is looked at so,
const URGENT: Duration = Duration::from_secs(2);

/// and at most, while nobody listens there: for so long requests wait for it rather than fail.
const URGENT_MAX: Duration = Duration::from_secs(10);

/// Looks and reads until the lane or the replica is gone; the caller ends it. One thing at a time, so
/// that an engine has one connection more to hold, not two. When it is told to look, requests have
/// broken there, and whether it died is of interest at once.
pub(crate) async fn read(
    client: Client,
    clock: Clock,
    lane: LaneHandle,
    (id, replica, look): (ReplicaId, Arc<Replica>, Arc<Notify>),
) {
    let after = |pause: Duration| clock.now_nanos().saturating_add(nanos(pause));
    let mut look_at = after(replica.health.interval);
    let mut read_at = if replica.metrics.is_some() { after(EVERY) } else { u64::MAX };
    let mut list_at = look_at;
    let mut lists = Lists::default();
    let mut adapters = Vec::new();
    loop {
        tokio::select! {
            () = clock.sleep_until_nanos(look_at.min(read_at)) => {}
            () = look.notified() => {
                watch(&client, clock, &lane, (id, &replica), &mut adapters).await;
                continue;
            }
        }
        if look_at <= read_at {
            let (probe, is_refused) = probe(&client, clock, &lane, &replica).await;
            lane.replica_checked(id, probe);
            if is_refused {
                lane.replica_refused(id);
            }
            look_at = after(replica.health.interval);
            if list_at < look_at && lane.has_adapters() {
                if let Some(listed) = listed(&client, &replica).await {
                    lane.replica_lists(id, lists.take(clock.now_nanos(), listed));
                }
                list_at = after(if lists.waits() { EVERY_LIST_SOON } else { EVERY_LIST });
            }
            continue;
        }
        let page = page(&client, &replica).await;
        let pause = page.map(|page| tell(&lane, (id, &replica), &page, &mut adapters));
        read_at = after(pause.unwrap_or(EVERY));
    }
}

/// Looks for signs that an engine died until it is too late for them, and where it did, for its return.
/// How it is besides is left to the looks that come at their times.
async fn watch(
    client: &Client,
    clock: Clock,
    lane: &LaneHandle,
    (id, replica): (ReplicaId, &Replica),
    adapters: &mut Vec<String>,
) {
    let begun = clock.now_nanos();
    let mut until = begun.saturating_add(nanos(URGENT));
    while clock.now_nanos() < until {
        if let (_, true) = probe(client, clock, lane, replica).await {
            lane.replica_refused(id);
            let longer = clock.now_nanos().saturating_add(nanos(URGENT));
            until = longer.min(begun.saturating_add(nanos(URGENT_MAX)));
        } else if replica.metrics.is_some()
            && let Some(page) = page(client, replica).await
        {
            tell(lane, (id, replica), &page, adapters);
        }
        clock.sleep_until_nanos(clock.now_nanos().saturating_add(nanos(EVERY_URGENT))).await;
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells the lane what a page of metrics says; when the next one is worth reading.
fn tell(
    lane: &LaneHandle,
    (id, replica): (ReplicaId, &Replica),
    page: &[u8],
    adapters: &mut Vec<String>,
) -> Duration {
    let seen = observe::observe(replica.metrics_of, page);
    let report = reported(&seen, replica);
    lane.replica_reports(id, report);
    if let Some(loaded) = seen.adapters.filter(|loaded| loaded != adapters) {
        let keys = loaded.iter().map(|name| pilotage_core::traffic::key(name));
        lane.replica_adapters(id, keys.collect());
        *adapters = loaded;
    }
    if report.requests == Some(0) { EVERY_IDLE } else { EVERY }
}

impl HealthCheck {
    fn takes(&self, status: StatusCode) -> bool {
        let is_none_of_its_own = !status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED;
        status.is_success() || (!self.is_strict && is_none_of_its_own)
    }
}

/// How it is, and whether nobody listens there.
async fn probe(
    client: &Client,
    clock: Clock,
    lane: &LaneHandle,
    replica: &Replica,
) -> (Probe, bool) {
    let begun = clock.now_nanos();
    let health = &replica.health;
    let path = if health.starts && !lane.works_near() {
        Cow::Owned(format!("{}{STARTS}", health.path))
    } else {
        Cow::Borrowed(health.path.as_str())
    };
    let asking = async {
        let response = client.request(get(replica, &path)?).await;
        let response = match response {
            Ok(response) => response,
            Err(error) => return Some(Err(error)),
        };
        let status = response.status();
        // What is not read to its end costs a connection.
        let _ = Limited::new(response.into_body(), HEALTH_BYTES_MAX).collect().await;
        Some(Ok(status))
    };
    match tokio::time::timeout(health.timeout, asking).await {
        Ok(Some(Ok(status))) if health.takes(status) => {
            let latency = Span::from_nanos(clock.now_nanos() - begun);
            (Probe::Good { latency }, false)
        }
        Ok(Some(Err(ClientError::Refused(_)))) => (Probe::Failed, true),
        _ => (Probe::Failed, false),
    }
}

/// A path below the replica's URL, or an address of its own, where somebody else may listen: it gets the key
/// only where it is the same host and port.
fn get(replica: &Replica, at: &str) -> Option<Request<Bytes>> {
    let url = if at.starts_with('/') { format!("{}{at}", replica.url) } else { at.to_owned() };
    let origin = |url: &str| {
        let url = url.parse::<http::Uri>().ok()?.into_parts();
        url.scheme.zip(url.authority)
    };
    let is_same = origin(&url) == origin(&replica.url);
    let mut request = Request::get(url);
    if let Some(key) = replica.key.as_ref().filter(|_| is_same) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    }
    request.body(Bytes::new()).ok()
}

pub(crate) async fn page(client: &Client, replica: &Replica) -> Option<Bytes> {
    tokio::time::timeout(PATIENCE, fetch(client, replica)).await.ok().flatten()
}

/// The adapters that an engine can be asked for; none where it does not tell, or is none that loads any.
async fn listed(client: &Client, replica: &Replica) -> Option<BTreeSet<String>> {
    if replica.is_gateway || replica.dialect.differences().adapters.is_none() {
        return None;
    }
    let asking = async {
        let response = client.request(get(replica, loaded::PATH)?).await.ok()?;
        let is_good = response.status().is_success();
        let body = Limited::new(response.into_body(), LIST_BYTES_MAX).collect().await.ok()?;
        is_good.then(|| body.to_bytes())
    };
    let body = tokio::time::timeout(PATIENCE, asking).await.ok().flatten()?;
    let told = loaded::read(replica.dialect, &body).ok().filter(|told| told.is_sure)?;
    Some(told.adapters.into_keys().collect())
}

/// The page, or as much of it as is read of one that has no end.
async fn fetch(client: &Client, replica: &Replica) -> Option<Bytes> {
    let response = client.request(get(replica, replica.metrics.as_deref()?)?).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut body = response.into_body();
    let mut page = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        page.extend_from_slice(&data);
        if page.len() > PAGE_BYTES_MAX {
            break;
        }
    }
    Some(page.freeze())
}

/// What an engine says, as the scheduler takes it.
fn reported(seen: &Observation, replica: &Replica) -> Report {
    let kv_tokens_max = seen.kv_tokens_max.filter(|most| replica.assumes_kv && *most > 0);
    let tokens_max = kv_tokens_max.unwrap_or(replica.capacity.tokens_max);
    let kv_tokens = seen.kv_use.filter(|_| tokens_max != u64::MAX);
    Report {
        kv_tokens: kv_tokens.map(|used| (used * tokens_max as f64) as u64),
        kv_tokens_max,
        requests: seen.running.map(|running| running.saturating_add(seen.waiting.unwrap_or(0))),
        each_step: seen.each_step,
        steps: seen.steps,
        started_ms: seen.started_ms,
    }
}

#[cfg(test)]
mod tests {
    use pilotage_core::Capacity;
    use pilotage_shell::secret::Secret;
    use pilotage_wire::dialect::Dialect;

    use super::*;

    fn report(page: &str, tokens_max: u64) -> Report {
        reported(&observe::observe(Dialect::Auto, page.as_bytes()), &replica(tokens_max))
    }

    fn replica(tokens_max: u64) -> Replica {
        Replica::at("r", "http://h", Capacity { tokens_max, ..Capacity::of_requests(1) })
    }

    #[test]
    fn room_is_believed_where_it_was_assumed() {
        let page = "vllm:kv_cache_usage_perc 0.5\n\
                    vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100\"} 1.0\n";
        let seen = observe::observe(Dialect::Vllm, page.as_bytes());
        let check = |assumes_kv, expect: (Option<u64>, Option<u64>)| {
            let report = reported(&seen, &Replica { assumes_kv, ..replica(1000) });
            assert_eq!((report.kv_tokens, report.kv_tokens_max), expect);
        };
        check(false, (Some(500), None));
        check(true, (Some(800), Some(1600)));
    }

    #[test]
    fn metrics_elsewhere_get_no_key() {
        let replica = Replica { key: Some(Secret::new("sk".to_owned())), ..replica(1) };
        let check = |at: &str, url: &str, has_key: bool| {
            let request = get(&replica, at).unwrap();
            assert_eq!(request.uri(), url);
            assert_eq!(request.headers().contains_key(header::AUTHORIZATION), has_key, "{at}");
        };
        check("/metrics", "http://h/metrics", true);
        check("http://h/other", "http://h/other", true);
        check("http://h:8002/metrics", "http://h:8002/metrics", false);
        check("https://h/metrics", "https://h/metrics", false);
        check("http://k/metrics", "http://k/metrics", false);
    }

    #[test]
    fn strange_reports_are_none() {
        let check = |page: &str, expect: Option<u64>| {
            assert_eq!(report(page, 1000).kv_tokens, expect, "{page}");
        };
        check("vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n", Some(500));
        check("sglang:token_usage 0.25\n", Some(250));
        check("llamacpp:kv_cache_usage_ratio 0.1\n", Some(100));
        check("vllm:kv_cache_usage_perc 42\n", None);
        check("vllm:kv_cache_usage_perc NaN\n", None);
        check("something 0.5\n", None);
        assert_eq!(report("vllm:kv_cache_usage_perc 0.5\n", u64::MAX).kv_tokens, None);
    }

    #[test]
    fn only_a_path_that_was_named_must_be_there() {
        let check = |status: u16, lenient: bool, strict: bool| {
            let takes = |is_strict| {
                let health = HealthCheck { is_strict, ..HealthCheck::default() };
                health.takes(StatusCode::from_u16(status).unwrap())
            };
            assert_eq!((takes(false), takes(true)), (lenient, strict), "{status}");
        };
        check(200, true, true);
        check(204, true, true);
        check(401, true, false);
        check(404, true, false);
        check(501, true, false);
        check(503, false, false);
    }

    #[test]
    fn queues_and_counters_are_read() {
        let page = "vllm:num_requests_running{engine=\"0\"} 3.0\n\
                    vllm:num_requests_waiting{engine=\"0\"} 2.0\n\
                    vllm:iteration_tokens_total_count{engine=\"0\"} 84.0\n";
        let told = report(page, u64::MAX);
        assert_eq!((told.requests, told.steps, told.each_step), (Some(5), Some(84), true));
        let others = "llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\nllamacpp:n_decode_total 7\n";
        let told = report(others, u64::MAX);
        assert_eq!((told.requests, told.steps), (Some(3), Some(7)));
        let others = "tgi_batch_current_size 4\ntgi_queue_size 6\n\
                      tgi_batch_inference_count{method=\"decode\"} 5\n\
                      tgi_batch_inference_count{method=\"prefill\"} 3\n";
        let told = report(others, u64::MAX);
        assert_eq!((told.requests, told.steps), (Some(10), Some(8)));
        let told = report("sglang:generation_tokens_total 9\n", 1);
        assert_eq!((told.steps, told.each_step), (Some(9), false));
        assert_eq!(report("vllm:num_requests_running -1\n", 1).requests, None);
        let started = |page: &str| report(page, 1).started_ms;
        assert_eq!(started("process_start_time_seconds 1.7e9\n"), Some(1_700_000_000_000));
        assert_eq!(started("process_start_time_seconds NaN\n"), None);
    }
}
