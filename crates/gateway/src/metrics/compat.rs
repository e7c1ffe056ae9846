//! Our measures under the names of llm-d's endpoint picker, for autoscalers and boards that were made for
//! it. Each is one of ours, read when somebody looks; what ours do not hold has no name here.

use pilotage_shell::metrics::{About, Labels, Metrics, Relabel, Relabelled};

use super::GatewayMetrics;

const MODEL: Labels = Labels::names(&["model_name", "target_model_name"]);
const POOL: Labels = Labels::names(&["name"]);

/// A lane is the model, under both of its names; all else is added up.
const MODELS: Relabel = |name, _| match name {
    "lane" => Relabelled::As(&["model_name", "target_model_name"]),
    _ => Relabelled::LeftOut,
};

/// A lane is a pool.
const POOLS: Relabel = |name, _| match name {
    "lane" => Relabelled::As(&["name"]),
    _ => Relabelled::LeftOut,
};

/// Only what did not end well, by how it ended.
const ERRORS: Relabel = |name, value| match (name, value) {
    ("lane", _) => Relabelled::As(&["model_name", "target_model_name"]),
    ("termination", "ok") => Relabelled::NoSeries,
    ("termination", _) => Relabelled::As(&["error_code"]),
    _ => Relabelled::LeftOut,
};

/// Registers the names.
pub(super) fn llm_d_epp(metrics: &Metrics, ours: &GatewayMetrics) {
    let requests = &ours.requests;
    let errors = Labels::new(&["model_name", "target_model_name"], &["error_code"]);
    let total = About::new("llm_d_epp_request", "Requests that ended", MODEL);
    metrics.alias(total, &requests.ended, MODELS, &[]);
    let failed = About::new("llm_d_epp_request_error", "Requests that did not end well", errors);
    metrics.alias(failed, &requests.ended, ERRORS, &[]);
    let histograms = [
        (
            About::new(
                "llm_d_epp_request_duration_seconds",
                "From the request to the end of its answer",
                MODEL,
            ),
            &requests.times.duration,
        ),
        (
            About::new(
                "llm_d_epp_request_ttft_seconds",
                "From the request to its first token",
                MODEL,
            ),
            &requests.times.ttft,
        ),
        (
            About::new(
                "llm_d_epp_request_streaming_tpot_seconds",
                "Mean time between the tokens of an answer",
                MODEL,
            ),
            &requests.times.tpot,
        ),
        (
            About::new(
                "llm_d_epp_request_streaming_itl_seconds",
                "Time between two tokens of a stream",
                MODEL,
            ),
            &requests.times.itl,
        ),
        (
            About::new(
                "llm_d_epp_flow_control_request_queue_duration_seconds",
                "Waiting for a turn",
                MODEL,
            ),
            &requests.times.queue_time,
        ),
    ];
    for (about, of) in histograms {
        metrics.alias(about, of, MODELS, &[]);
    }
    let running = About::new("llm_d_epp_request_running", "Requests at a replica", MODEL);
    metrics.alias(running, &ours.in_flight, MODELS, &[]);
    let pools = [
        (
            About::new("llm_d_epp_ready_endpoints", "Replicas that take work", POOL),
            &ours.replicas_up,
        ),
        (
            About::new("llm_d_epp_flow_control_queue_size", "Requests waiting for a turn", POOL),
            &ours.queued,
        ),
        (About::new("llm_d_epp_inflight_requests", "Requests at a replica", POOL), &ours.in_flight),
    ];
    for (about, of) in pools {
        metrics.alias(about, of, POOLS, &[]);
    }
}
