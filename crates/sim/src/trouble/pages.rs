//! A replica's page of metrics, as vLLM writes it.

use std::fmt::Write as _;

use crate::run::{Page, Sum};

/// What a page says besides what was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Blocks of the KV cache.
    pub(super) blocks: u64,
    /// Adapters in a batch; with none, none are told of.
    pub(super) adapters_max: u32,
    /// Whether tokens are drafted.
    pub(super) drafts: bool,
    /// KV cache that was fetched from other replicas so far.
    pub(super) fetched: Option<Sum>,
    /// The time of the look, and when the process was started, in seconds since 1970.
    pub(super) at_s: f64,
    pub(super) since_s: f64,
}

/// The page.
pub(super) fn page(seen: &Page, told: Told) -> String {
    let mut out = String::with_capacity(4096);
    let counters = &seen.counters;
    let mut one = |name: &str, labels: &str, value: f64| {
        let _ = writeln!(out, "vllm:{name}{{engine=\"0\",model_name=\"m\"{labels}}} {value}");
    };
    one("num_requests_running", "", f64::from(seen.running));
    one("num_requests_waiting", "", f64::from(seen.waiting));
    let deferred = seen.deferred as f64;
    let reasons = [("capacity", f64::from(seen.waiting) - deferred), ("deferred", deferred)];
    for (reason, count) in reasons {
        one("num_requests_waiting_by_reason", &format!(",reason=\"{reason}\""), count);
    }
    one("kv_cache_usage_perc", "", seen.kv_usage);
    one("prompt_tokens_total", "", counters.prompt_tokens as f64);
    one("generation_tokens_total", "", counters.generated as f64);
    one("prefix_cache_queries_total", "", counters.prompt_tokens as f64);
    one("prefix_cache_hits_total", "", counters.cached_tokens as f64);
    one("num_preemptions_total", "", counters.preemptions as f64);
    one("iteration_tokens_total_count", "", counters.steps as f64);
    let ends = [("stop", counters.stopped), ("length", counters.cut), ("abort", counters.aborted)];
    for (reason, count) in ends {
        one("request_success_total", &format!(",finished_reason=\"{reason}\""), count as f64);
    }
    let fetched = told.fetched.unwrap_or_default();
    // The cache is fetched before a request is computed, and after it came.
    let ttft = Sum { seconds: counters.ttft.seconds + fetched.seconds, ..counters.ttft };
    let times = [
        ("time_to_first_token_seconds", ttft),
        ("inter_token_latency_seconds", counters.itl),
        ("request_time_per_output_token_seconds", counters.tpot),
        ("request_queue_time_seconds", counters.queue),
        ("request_prefill_time_seconds", counters.prefill),
        ("request_decode_time_seconds", counters.decode),
    ];
    for (name, sum) in times {
        one(&format!("{name}_sum"), "", sum.seconds);
        one(&format!("{name}_count"), "", sum.count);
    }
    if told.drafts {
        one("spec_decode_num_draft_tokens_total", "", counters.drafted as f64);
        one("spec_decode_num_accepted_tokens_total", "", counters.accepted as f64);
    }
    if let Some(fetched) = told.fetched {
        one("nixl_xfer_time_seconds_sum", "", fetched.seconds);
        one("nixl_xfer_time_seconds_count", "", fetched.count);
        one("nixl_num_failed_transfers_total", "", 0.0);
    }
    let blocks = told.blocks;
    let _ = writeln!(
        out,
        "vllm:cache_config_info{{engine=\"0\",block_size=\"16\",num_gpu_blocks=\"{blocks}\",\
         gpu_memory_utilization=\"0.9\",cache_dtype=\"auto\",enable_prefix_caching=\"True\"}} 1\n\
         process_start_time_seconds {}",
        told.since_s
    );
    if told.adapters_max > 0 {
        let list =
            |all: &[u32]| all.iter().map(|one| format!("a{one}")).collect::<Vec<_>>().join(",");
        let _ = writeln!(
            out,
            "vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",\
             waiting_lora_adapters=\"{}\"}} {}",
            told.adapters_max,
            list(&seen.adapters),
            list(&seen.adapters_waiting),
            told.at_s
        );
    }
    out
}
