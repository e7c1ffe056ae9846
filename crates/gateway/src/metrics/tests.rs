//! What is counted of records, and what a scrape shows of it.

use pilotage_core::traffic::Name;
use pilotage_lens::{Gaps, Phases, Termination};
use pilotage_shell::metrics::{GenAi, Names};

use super::*;

fn record(lane: Option<&str>, tenant: &str) -> Record {
    let phases = Phases {
        queue: Span::from_millis(250),
        prefill: Span::from_millis(500),
        decode: Span::from_millis(250),
        ..Phases::default()
    };
    Record {
        unix_ms: 1_700_000_000_000,
        request_id: Name::from("id"),
        trace_id: 7,
        span_id: 1,
        sampled: true,
        tenant: Some(Name::from(tenant)),
        path: "/v1/chat/completions",
        lane: lane.map(Name::from),
        band: Band::Realtime,
        stream: true,
        status: 200,
        attempts: 1,
        tokens: Tokens { input: 100, cached: 60, output: 20 },
        reasoning: 5,
        counted: true,
        charged: 1_500_000,
        phases,
        total: phases.total(),
        ttft: Some(Span::from_millis(750)),
        tpot: Some(Span::from_millis(12)),
        ..Record::default()
    }
}

fn has(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.encode();
    for line in lines {
        assert!(text.lines().any(|known| known == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_record_counts_for_its_lane_its_tenant_and_its_goals() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    drop(counts.lane("a"));
    let mut goals = pilotage_core::scale::Policy::default().goals;
    goals[Band::Realtime as usize].ttft = Some(Span::from_millis(700));
    goals[Band::Realtime as usize].tpot = Some(Span::from_millis(50));
    counts.set_goals("a", goals);
    let mut gaps = Gaps::default();
    (0..10).for_each(|_| gaps.add(Span::from_millis(20)));
    gaps.add(Span::from_millis(900));
    let record = Record { itl: gaps.itl(), ..record(Some("a"), "ann") };
    counts.count(&record, Span::from_nanos(30_000));
    counts.gaps("a", gaps.counts());
    counts.generated(Some("a"), record.tokens, 3);
    has(
        &metrics,
        &[
            "pilotage_requests_total{lane=\"a\",termination=\"ok\",status_class=\"2xx\"} 1",
            "pilotage_requests_total{lane=\"a\",termination=\"timeout\",status_class=\"5xx\"} 0",
            "pilotage_tokens_total{lane=\"a\",type=\"cached\"} 60",
            "pilotage_tokens_total{lane=\"a\",type=\"reasoning\"} 5",
            "pilotage_retries_total{lane=\"a\"} 2",
            "pilotage_phase_seconds_total{lane=\"a\",phase=\"queue\"} 0.25",
            "pilotage_phase_seconds_total{lane=\"a\",phase=\"auth\"} 0",
            "pilotage_stalls_total{lane=\"a\"} 1",
            "pilotage_stalled_seconds_total{lane=\"a\"} 0.9",
            "pilotage_inter_token_latency_seconds_count{lane=\"a\"} 11",
            "pilotage_slo_requests_total{lane=\"a\",band=\"realtime\",objective=\"ttft\"} 1",
            "pilotage_slo_misses_total{lane=\"a\",band=\"realtime\",objective=\"ttft\"} 1",
            "pilotage_slo_misses_total{lane=\"a\",band=\"realtime\",objective=\"tpot\"} 0",
            "pilotage_slo_requests_total{lane=\"a\",band=\"realtime\",objective=\"answered\"} 1",
            "pilotage_tenant_requests_total{tenant=\"ann\",outcome=\"answered\"} 1",
            "pilotage_tenant_requests_total{tenant=\"ann\",outcome=\"failed\"} 0",
            "pilotage_tenant_tokens_total{tenant=\"ann\",type=\"output\"} 20",
            "pilotage_tenant_charged_total{tenant=\"ann\"} 1.5",
            "gen_ai_server_request_duration_seconds_count{gen_ai_request_model=\"a\",gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"pilotage\",error_type=\"\"} 1",
            "gen_ai_client_token_usage_sum{gen_ai_request_model=\"a\",gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"pilotage\",gen_ai_token_type=\"input\"} 100",
        ],
    );
    let example = format!("# {{trace_id=\"{:032x}\"}} 0.75 1700000000.000", 7);
    assert!(metrics.encode().contains(&example), "an example for the first token");
}

#[test]
fn traces_that_nobody_keeps_are_no_examples() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    counts.count(&Record { sampled: false, ..record(Some("a"), "ann") }, Span::ZERO);
    assert!(!metrics.encode().contains("trace_id"));
}

#[test]
fn ends_that_are_nobodys_fault_miss_no_objective() {
    let check = |termination, status, expect: (u64, u64)| {
        let metrics = Metrics::new();
        let counts = GatewayMetrics::new(&metrics);
        let ended =
            Record { termination, status, ttft: None, tpot: None, ..record(Some("a"), "t") };
        counts.count(&ended, Span::ZERO);
        let labels = "{lane=\"a\",band=\"realtime\",objective=\"answered\"}";
        let (all, missed) = expect;
        has(
            &metrics,
            &[
                &format!("pilotage_slo_requests_total{labels} {all}"),
                &format!("pilotage_slo_misses_total{labels} {missed}"),
            ],
        );
    };
    check(Termination::Ok, 200, (1, 0));
    check(Termination::Ok, 400, (1, 0));
    check(Termination::BadRequest, 400, (0, 0));
    check(Termination::ClientCancel, 499, (0, 0));
    check(Termination::Quota, 429, (0, 0));
    check(Termination::QueueFull, 503, (1, 1));
    check(Termination::UpstreamInterrupted, 200, (1, 1));
}

#[test]
fn a_lane_that_is_gone_has_no_series() {
    let metrics = Metrics::named(Names { llm_d_epp: true, ..Names::default() });
    let counts = GatewayMetrics::new(&metrics);
    drop(counts.lane("gone"));
    counts.count(&record(Some("gone"), "ann"), Span::ZERO);
    counts.copied(&record(Some("gone"), "ann"));
    assert!(metrics.encode().contains("\"gone\""));
    counts.forget("gone");
    let text = metrics.encode();
    assert!(!text.contains("\"gone\""), "{text}");
}

#[test]
fn tenants_are_bounded_and_leave() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    for number in 0..10_000 {
        counts.count(&record(Some("a"), &format!("tenant-{number}")), Span::ZERO);
    }
    let lines = |text: &str| {
        text.lines().filter(|line| line.starts_with("pilotage_tenant_charged_total{")).count()
    };
    let text = metrics.encode();
    assert_eq!(lines(&text), tenants::TENANTS_MAX + 1);
    has(&metrics, &["pilotage_tenant_requests_total{tenant=\"_other\",outcome=\"answered\"} 9500"]);
    counts.tenants.keep(|name| name == "tenant-3");
    let text = metrics.encode();
    assert_eq!(lines(&text), 2, "who is there, and the others");
    counts.count(&record(Some("a"), "tenant-7"), Span::ZERO);
    has(&metrics, &["pilotage_tenant_requests_total{tenant=\"tenant-7\",outcome=\"answered\"} 1"]);
}

#[test]
fn names_made_up_by_clients_are_one_series() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    let before = metrics.encode().lines().count();
    for number in 0..100 {
        counts.count(&record(None, &format!("bad\n\"{number}")), Span::ZERO);
    }
    let after = metrics.encode().lines().count();
    // One set of series of a lane and one of a tenant: what comes with the first is all.
    counts.count(&record(None, "another\n"), Span::ZERO);
    assert_eq!(metrics.encode().lines().count(), after, "{before}");
    has(&metrics, &["pilotage_tenant_requests_total{tenant=\"_other\",outcome=\"answered\"} 101"]);
}

#[test]
fn newer_conventions_count_tokens_and_older_ones_their_sizes() {
    let check = |gen_ai, there: &str, missing: &str| {
        let metrics = Metrics::named(Names { gen_ai, ..Names::default() });
        GatewayMetrics::new(&metrics).count(&record(Some("a"), "ann"), Span::ZERO);
        let text = metrics.encode();
        assert!(text.contains(there), "{there} is not in\n{text}");
        assert!(!text.contains(missing), "{missing} is in\n{text}");
    };
    let sizes = "gen_ai_client_token_usage_bucket{";
    let counters = "gen_ai_client_inference_usage_reasoning_output_tokens_total{gen_ai_request_model=\"a\",gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"pilotage\"} 5\n";
    check(GenAi::Stable, sizes, "gen_ai_client_inference_usage");
    check(GenAi::Latest, counters, sizes);
}

#[test]
fn names_of_the_endpoint_picker_come_by_option() {
    let plain = Metrics::new();
    GatewayMetrics::new(&plain).count(&record(Some("a"), "ann"), Span::ZERO);
    assert!(!plain.encode().contains("llm_d_epp"));
    let metrics = Metrics::named(Names { llm_d_epp: true, ..Names::default() });
    let counts = GatewayMetrics::new(&metrics);
    let gauges = counts.lane("a");
    gauges.queued.set(4);
    counts.count(&record(Some("a"), "ann"), Span::ZERO);
    let failed =
        Record { termination: Termination::Timeout, status: 504, ..record(Some("a"), "x") };
    counts.count(&failed, Span::ZERO);
    has(
        &metrics,
        &[
            "llm_d_epp_request_total{model_name=\"a\",target_model_name=\"a\"} 2",
            "llm_d_epp_request_error_total{model_name=\"a\",target_model_name=\"a\",error_code=\"timeout\"} 1",
            "llm_d_epp_request_ttft_seconds_count{model_name=\"a\",target_model_name=\"a\"} 2",
            "llm_d_epp_flow_control_queue_size{name=\"a\"} 4",
            "llm_d_epp_ready_endpoints{name=\"a\"} 0",
        ],
    );
    assert!(!metrics.encode().contains("error_code=\"ok\""));
}
