//! A replica by its own metrics. The table of names is in the order in which they are preferred; what is
//! beside it was read in the servers' sources (see the dialects of `pilotage-wire`).

use super::super::evidence::{
    Config, Deltas, Gauges, Lasted, Replica, Runtime, Sight, Start, Times, ratio,
};
use super::series::{Seen, Series};
use super::{Watched, machine};

const RUNNING: &[&str] = &[
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "trtllm_num_requests_running",
    "tgi_batch_current_size",
    "llamacpp:requests_processing",
];
const WAITING: &[&str] = &[
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "trtllm_num_requests_waiting",
    "tgi_queue_size",
    "llamacpp:requests_deferred",
];
const WAITING_BY_REASON: &[&str] = &["vllm:num_requests_waiting_by_reason"];
const KV_USE: &[&str] = &[
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "trtllm_kv_cache_utilization",
    "llamacpp:kv_cache_usage_ratio",
];
const REQUESTS: &[&str] = &[
    "vllm:request_success_total",
    "sglang:num_requests_total",
    "trtllm_request_success_total",
    "tgi_request_success",
];
const PROMPT_TOKENS: &[&str] = &[
    "vllm:prompt_tokens_total",
    "sglang:prompt_tokens_total",
    "tgi_request_input_length_sum",
    "llamacpp:prompt_tokens_total",
];
const GENERATION_TOKENS: &[&str] = &[
    "vllm:generation_tokens_total",
    "sglang:generation_tokens_total",
    "tgi_request_generated_tokens_sum",
    "llamacpp:tokens_predicted_total",
];
const CACHED_TOKENS: &[&str] = &["vllm:prompt_tokens_cached_total", "sglang:cached_tokens_total"];
const STEPS: &[&str] = &["vllm:iteration_tokens_total_count", "llamacpp:n_decode_total"];
const QUERIES: &[&str] =
    &["vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"];
const HITS: &[&str] = &["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"];
const TTFT: &[&str] = &[
    "vllm:time_to_first_token_seconds",
    "sglang:time_to_first_token_seconds",
    "trtllm_time_to_first_token_seconds",
];
const ITL: &[&str] = &[
    "vllm:inter_token_latency_seconds",
    "vllm:time_per_output_token_seconds",
    "sglang:inter_token_latency_seconds",
];
const TPOT: &[&str] = &[
    "vllm:request_time_per_output_token_seconds",
    "tgi_request_mean_time_per_token_duration",
    "trtllm_time_per_output_token_seconds",
];
const QUEUE: &[&str] = &[
    "vllm:request_queue_time_seconds",
    "sglang:queue_time_seconds",
    "tgi_request_queue_duration",
    "trtllm_request_queue_time_seconds",
];
const CACHE_CONFIG: &[&str] = &["vllm:cache_config_info", "sglang:cache_config_info"];
const LORA: &[&str] = &["vllm:lora_requests_info"];

/// Requests after the start whose times to the first token are those of a cold replica.
const FIRST_REQUESTS: f64 = 10.0;

/// Computed prompt tokens for each generated one from which on a while is one with prompts …
const PROMPTS_MANY: f64 = 4.0;

/// … and up to which it is one without.
const PROMPTS_FEW: f64 = 0.5;

/// The server whose names these are.
fn runtime(seen: &Seen<'_>) -> Option<Runtime> {
    let begins = |begin: &str| {
        seen.0.iter().any(|one| {
            one.name.strip_prefix(begin).is_some_and(|rest| rest.starts_with([':', '_']))
        })
    };
    [
        ("vllm", Runtime::Vllm),
        ("sglang", Runtime::Sglang),
        ("tgi", Runtime::Tgi),
        ("trtllm", Runtime::Trtllm),
        ("llamacpp", Runtime::LlamaCpp),
    ]
    .into_iter()
    .find(|(begin, _)| begins(begin))
    .map(|(_, runtime)| runtime)
}

/// The replica, watched for so long until then.
pub(super) fn replica(watched: &Watched, window_s: f64, until_s: f64) -> Replica {
    let seen = Seen(&watched.series);
    let (gauges, deltas) = (gauges(watched, &seen), deltas(&seen));
    let mut replica = Replica {
        name: watched.name.clone(),
        role: watched.role,
        runtime: watched.runtime.or_else(|| runtime(&seen)),
        version: watched.version.clone(),
        sight: sight(&seen),
        start: start(&seen, until_s),
        config: config(&seen),
        times: times(&seen),
        gpus: machine::gpus(&seen),
        host: machine::host(&seen, window_s),
        gauges,
        deltas,
        ..Replica::default()
    };
    replica.complete(&watched.planned);
    replica
}

fn gauges(watched: &Watched, seen: &Seen<'_>) -> Gauges {
    let by_reason = |reason: &'static str| seen.gauge(WAITING_BY_REASON, Some(("reason", reason)));
    Gauges {
        // What the gateway has there is a good measure where the server itself says nothing.
        running: seen.gauge(RUNNING, None).or(watched.in_flight),
        waiting: seen.gauge(WAITING, None),
        waiting_capacity: by_reason("capacity"),
        waiting_deferred: by_reason("deferred"),
        slots_seen: watched.places,
        kv_use: seen.fullest(KV_USE),
        lora_waiting: lora_waiting(seen),
        stalled_s: stalled_s(seen),
        health_s: watched.health.map(|(_, seconds)| seconds),
        health_ok: watched.health.map(|(is_well, _)| is_well),
    }
}

/// For how long it has had requests and its steps, or else its tokens, did not move, up to the last look.
fn stalled_s(seen: &Seen<'_>) -> Option<f64> {
    let counters = [STEPS, GENERATION_TOKENS].iter().map(|names| seen.of(names, None));
    let counters = counters.into_iter().find(|of| !of.is_empty())?;
    let last =
        counters.iter().filter_map(|one| one.last()).map(|point| point.at_s).fold(0.0, f64::max);
    let moved = |one: &&Series| {
        let first = one.points.first().map_or(last, |point| point.at_s);
        one.steps().filter(|(_, grown)| *grown > 0.0).map(|(at, _)| at).fold(first, f64::max)
    };
    let moved = counters.iter().map(moved).fold(0.0, f64::max);
    let running = seen.of(RUNNING, None);
    let idle = running.iter().flat_map(|one| &one.points).filter(|point| point.value < 1.0);
    let idle = idle.map(|point| point.at_s).fold(0.0, f64::max);
    let is_known = !running.is_empty() && counters.iter().any(|one| one.points.len() > 1);
    is_known.then(|| (last - moved.max(idle)).max(0.0))
}

/// Adapters that wait, at a mean over what the page listed: each list is a series of its own.
fn lora_waiting(seen: &Seen<'_>) -> Option<f64> {
    let of = seen.of(LORA, None);
    let counts = of.iter().filter_map(|one| {
        let list = one.labels.get("waiting_lora_adapters")?;
        let names = list.split(',').filter(|name| !name.trim().is_empty()).count();
        Some((names as f64, one.points.len() as f64))
    });
    let (sum, looks) =
        counts.fold((0.0, 0.0), |sum, (names, looks)| (sum.0 + names * looks, sum.1 + looks));
    ratio(Some(sum), Some(looks))
}

fn deltas(seen: &Seen<'_>) -> Deltas {
    let grown = |names: &[&str]| seen.grown(names, None);
    let finished = |reason: &'static str| {
        // Where some reason is counted, one that is not there did not happen.
        let all = grown(REQUESTS)?;
        let with =
            seen.of(REQUESTS, None).iter().any(|one| one.labels.contains_key("finished_reason"));
        with.then(|| {
            seen.grown(REQUESTS, Some(("finished_reason", reason))).unwrap_or(0.0).min(all)
        })
    };
    let hits = grown(HITS);
    Deltas {
        requests: grown(REQUESTS),
        prompt_tokens: grown(PROMPT_TOKENS),
        cached_tokens: grown(CACHED_TOKENS).or(hits),
        generation_tokens: grown(GENERATION_TOKENS),
        iterations: grown(STEPS),
        preemptions: grown(&["vllm:num_preemptions_total"]),
        finished_length: finished("length"),
        finished_abort: finished("abort"),
        prefix_queries: grown(QUERIES),
        prefix_hits: hits,
        draft_tokens: grown(&["vllm:spec_decode_num_draft_tokens_total"]),
        accepted_tokens: grown(&["vllm:spec_decode_num_accepted_tokens_total"]),
        kv_transfers_failed: grown(&["vllm:nixl_num_failed_transfers_total"]),
        kv_transfers_expired: grown(&["vllm:nixl_num_kv_expired_reqs_total"]),
        ..Deltas::default()
    }
}

fn times(seen: &Seen<'_>) -> Times {
    let (beside, alone) = gaps(seen);
    Times {
        ttft: seen.lasted(TTFT),
        itl: seen.lasted(ITL),
        tpot: seen.lasted(TPOT),
        queue: seen.lasted(QUEUE),
        prefill: seen.lasted(&["vllm:request_prefill_time_seconds"]),
        decode: seen.lasted(&["vllm:request_decode_time_seconds"]),
        kv_transfer: seen.lasted(&["vllm:nixl_xfer_time_seconds"]),
        itl_beside_prefill: beside,
        itl_alone: alone,
        ..Times::default()
    }
}

/// Times between tokens in whiles with many computed prompt tokens, and in whiles with hardly any: from
/// one look to the next. Unknown where there are only the one or only the other.
fn gaps(seen: &Seen<'_>) -> (Lasted, Lasted) {
    let steps = |names: &[&str], end: &str| -> Vec<(f64, f64)> {
        let name = names.iter().map(|name| format!("{name}{end}"));
        let found = name.filter_map(|name| seen.of(&[name.as_str()], None).first().copied()).next();
        found.map(|one: &Series| one.steps().collect()).unwrap_or_default()
    };
    let (seconds, counts) = (steps(ITL, "_sum"), steps(ITL, "_count"));
    let (prompts, hits) = (steps(PROMPT_TOKENS, ""), steps(HITS, ""));
    if counts.len() != seconds.len() || counts.len() != prompts.len() {
        return (Lasted::default(), Lasted::default());
    }
    let (mut beside, mut alone) = ((0.0, 0.0), (0.0, 0.0));
    for (at, (_, count)) in counts.iter().enumerate().filter(|(_, (_, count))| *count > 0.0) {
        let found = hits.get(at).map_or(0.0, |(_, hits)| *hits);
        let each = (prompts[at].1 - found).max(0.0) / count;
        let sum = if each >= PROMPTS_MANY {
            &mut beside
        } else if each <= PROMPTS_FEW {
            &mut alone
        } else {
            continue;
        };
        *sum = (sum.0 + seconds[at].1, sum.1 + count);
    }
    let lasted = |(seconds, count): (f64, f64)| {
        if count > 0.0 { Lasted::new(seconds, count) } else { Lasted::default() }
    };
    (lasted(beside), lasted(alone))
}

fn sight(seen: &Seen<'_>) -> Sight {
    let counters: Vec<usize> = [PROMPT_TOKENS, GENERATION_TOKENS, REQUESTS]
        .iter()
        .flat_map(|names| seen.of(names, None))
        .map(Series::falls)
        .collect();
    // All counters of a process fall together.
    Sight { resets: counters.iter().max().map(|most| *most as f64), ..Sight::default() }
}

fn start(seen: &Seen<'_>, until_s: f64) -> Start {
    let started = seen.newest(&["process_start_time_seconds"]).filter(|at| *at > 0.0);
    Start { age_s: started.map(|at| (until_s - at).max(0.0)), first_ttft_s: first_ttft(seen) }
}

/// The mean time to the first token of the first requests since the start, where they were seen: the
/// counter was at zero at the first look, or fell to it.
fn first_ttft(seen: &Seen<'_>) -> Option<f64> {
    let part = |end: &str| {
        TTFT.iter()
            .find_map(|name| seen.of(&[format!("{name}{end}").as_str()], None).first().copied())
    };
    let (sums, counts) = (part("_sum")?, part("_count")?);
    let fell = counts.points.windows(2).rposition(|pair| pair[1].value < pair[0].value);
    let from = fell.map_or(0, |at| at + 1);
    let counts = counts.points.get(from..)?;
    let began = fell.is_some() || counts.first()?.value < 1.0;
    let at = counts.iter().position(|point| point.value >= FIRST_REQUESTS).filter(|_| began)?;
    ratio(sums.points.get(from + at).map(|point| point.value), Some(counts[at].value))
}

fn config(seen: &Seen<'_>) -> Config {
    let number = |labels: &[&str]| {
        labels.iter().find_map(|label| seen.label_number(CACHE_CONFIG, label)).filter(|n| *n > 0.0)
    };
    let text = |label: &str| seen.label(CACHE_CONFIG, label).map(str::to_owned);
    Config {
        block_size: number(&["block_size", "page_size"]),
        num_gpu_blocks: number(&["num_gpu_blocks", "num_pages"]),
        gpu_memory_utilization: number(&["gpu_memory_utilization"]),
        kv_cache_dtype: text("cache_dtype"),
        prefix_caching: text("enable_prefix_caching").map(|text| text.eq_ignore_ascii_case("true")),
        max_loras: seen.label_number(LORA, "max_lora"),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::series;
    use super::*;

    fn watched(series: Vec<Series>) -> Watched {
        Watched { name: "a".to_owned(), series, ..Watched::default() }
    }

    #[test]
    fn servers_are_read_by_their_own_names() {
        let vllm = watched(vec![
            series("vllm:num_requests_running", &[("engine", "0")], &[2.0, 4.0]),
            series("vllm:kv_cache_usage_perc", &[], &[0.5, 0.7]),
            series("vllm:request_success_total", &[("finished_reason", "stop")], &[5.0, 9.0]),
            series("vllm:request_success_total", &[("finished_reason", "abort")], &[0.0, 1.0]),
            series(
                "vllm:cache_config_info",
                &[("block_size", "16"), ("num_gpu_blocks", "None")],
                &[1.0],
            ),
        ]);
        let one = replica(&vllm, 10.0, 10.0);
        assert_eq!(one.runtime, Some(Runtime::Vllm));
        assert_eq!((one.gauges.running, one.gauges.kv_use), (Some(3.0), Some(0.6)));
        assert_eq!(one.gauges.waiting, None, "absent is not zero");
        assert_eq!((one.deltas.requests, one.deltas.finished_abort), (Some(5.0), Some(1.0)));
        assert_eq!((one.config.block_size, one.config.num_gpu_blocks), (Some(16.0), None));
        let sglang =
            replica(&watched(vec![series("sglang_num_queue_reqs", &[], &[3.0])]), 1.0, 1.0);
        assert_eq!((sglang.runtime, sglang.gauges.waiting), (Some(Runtime::Sglang), Some(3.0)));
    }

    #[test]
    fn whiles_with_prompts_are_told_from_whiles_without() {
        let one = replica(
            &watched(vec![
                series("vllm:prompt_tokens_total", &[], &[0.0, 10.0, 8010.0]),
                series("vllm:inter_token_latency_seconds_sum", &[], &[0.0, 1.0, 4.0]),
                series("vllm:inter_token_latency_seconds_count", &[], &[0.0, 100.0, 200.0]),
            ]),
            10.0,
            10.0,
        );
        assert_eq!(one.times.itl_alone, Lasted::new(1.0, 100.0));
        assert_eq!(one.times.itl_beside_prefill, Lasted::new(3.0, 100.0));
    }

    #[test]
    fn a_stall_lasts_since_the_last_step_with_requests() {
        let check = |running: &[f64], steps: &[f64], expect: Option<f64>| {
            let series = vec![
                series("vllm:num_requests_running", &[], running),
                series("vllm:iteration_tokens_total_count", &[], steps),
            ];
            let one = replica(&watched(series), 20.0, 20.0);
            assert_eq!(one.gauges.stalled_s, expect, "{running:?} {steps:?}");
        };
        check(&[4.0; 5], &[1.0, 5.0, 9.0, 9.0, 9.0], Some(10.0));
        check(&[4.0; 5], &[1.0, 5.0, 9.0, 9.0, 10.0], Some(0.0));
        check(&[0.0, 0.0, 0.0, 3.0, 3.0], &[9.0; 5], Some(10.0));
        check(&[0.0; 5], &[9.0; 5], Some(0.0));
        check(&[4.0], &[9.0], None);
    }

    #[test]
    fn first_requests_are_those_after_a_start() {
        let check = |counts: &[f64], expect: Option<f64>| {
            let sums: Vec<f64> = counts.iter().map(|count| count * 2.0).collect();
            let one = replica(
                &watched(vec![
                    series("vllm:time_to_first_token_seconds_sum", &[], &sums),
                    series("vllm:time_to_first_token_seconds_count", &[], counts),
                ]),
                10.0,
                10.0,
            );
            assert_eq!(one.start.first_ttft_s, expect, "{counts:?}");
        };
        check(&[0.0, 4.0, 12.0, 30.0], Some(2.0));
        check(&[500.0, 512.0], None);
        check(&[500.0, 3.0, 11.0], Some(2.0));
        check(&[0.0, 4.0], None);
    }
}
