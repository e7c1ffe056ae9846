//! What is counted of records, and what a scrape shows of it.

use pilotage_core::traffic::Name;
use pilotage_lens::trace::Reasons;
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
        kept: Reasons::sampled(true),
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
    counts.set_tenants(["ann"].into_iter());
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
    // Drawn, but there was no room for it.
    let lost = Record { sampled: true, kept: Reasons::default(), ..record(Some("a"), "ann") };
    counts.count(&lost, Span::ZERO);
    assert!(!metrics.encode().contains("trace_id"));
    // Not drawn, but kept for how it went.
    let failed = Record {
        sampled: false,
        kept: Reasons::default(),
        termination: Termination::Timeout,
        status: 504,
        ..record(Some("a"), "ann")
    };
    let goals = pilotage_core::scale::Policy::default().goals;
    counts.count(&Record { kept: Reasons::of(&failed, &goals), ..failed }, Span::ZERO);
    assert!(metrics.encode().contains("trace_id"));
}

#[test]
fn ends_that_are_nobodys_fault_miss_no_objective() {
    let check = |termination, status, expect: (u64, u64)| {
        let metrics = Metrics::new();
        let counts = GatewayMetrics::new(&metrics);
        drop(counts.lane("a"));
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
fn what_ends_late_brings_back_nothing_and_is_not_lost() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    let gauges = counts.lane("gone");
    counts.set_tenants(["ann"].into_iter());
    gauges.faults.enter("gone-0");
    counts.forget("gone");
    counts.set_tenants([].into_iter());
    let late = record(Some("gone"), "ann");
    counts.count(&late, Span::ZERO);
    counts.generated(Some("gone"), late.tokens, 2);
    counts.gaps("gone", [(Span::from_millis(20), 3)].into_iter());
    counts.copied(&late);
    counts.copy_dropped("gone");
    counts.hedge("gone", "won");
    counts.resume("gone", "resumed");
    gauges.faults.count(Some("gone-0"), Fault::Reset);
    counts.set_goals("gone", pilotage_core::scale::Policy::default().goals);
    let text = metrics.encode();
    assert!(!text.contains("gone") && !text.contains("\"ann\""), "{text}");
    has(
        &metrics,
        &[
            "pilotage_requests_total{lane=\"_other\",termination=\"ok\",status_class=\"2xx\"} 1",
            "pilotage_tokens_total{lane=\"_other\",type=\"output\"} 20",
            "pilotage_retries_total{lane=\"_other\"} 1",
            "pilotage_inter_token_latency_seconds_count{lane=\"_other\"} 3",
            "pilotage_mirrored_requests_total{lane=\"_other\",outcome=\"ok\"} 1",
            "pilotage_mirrored_requests_total{lane=\"_other\",outcome=\"dropped\"} 1",
            "pilotage_hedges_total{lane=\"_other\",outcome=\"won\"} 1",
            "pilotage_resumes_total{lane=\"_other\",outcome=\"resumed\"} 1",
            "pilotage_tenant_requests_total{tenant=\"_other\",outcome=\"answered\"} 1",
            "pilotage_upstream_faults_total{lane=\"_other\",replica=\"_other\",fault=\"reset\"} 1",
            "gen_ai_client_operation_duration_seconds_count{gen_ai_request_model=\"_other\",gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"pilotage\",error_type=\"\"} 1",
        ],
    );
}

#[test]
fn all_that_is_configured_is_there_at_zero() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    drop(counts.lane("a"));
    counts.set_tenants(["ann"].into_iter());
    let mut lines = vec![
        "pilotage_mirrored_tokens_total{lane=\"a\",type=\"input\"} 0".to_owned(),
        "pilotage_mirrored_requests_total{lane=\"a\",outcome=\"dropped\"} 0".to_owned(),
        "pilotage_tenant_tokens_total{tenant=\"ann\",type=\"cached\"} 0".to_owned(),
        "pilotage_tenant_charged_total{tenant=\"ann\"} 0".to_owned(),
        "pilotage_tenant_charged_total{tenant=\"_other\"} 0".to_owned(),
    ];
    for outcome in ["answered", "client", "limited", "failed"] {
        for tenant in ["ann", "_other"] {
            lines.push(format!(
                "pilotage_tenant_requests_total{{tenant=\"{tenant}\",outcome=\"{outcome}\"}} 0"
            ));
        }
    }
    for termination in Termination::ALL.map(Termination::name) {
        lines.push(format!(
            "pilotage_mirrored_requests_total{{lane=\"a\",outcome=\"{termination}\"}} 0"
        ));
    }
    for fault in Fault::ALL.map(Fault::name) {
        lines.push(format!(
            "pilotage_upstream_faults_total{{lane=\"a\",replica=\"_other\",fault=\"{fault}\"}} 0"
        ));
    }
    has(&metrics, &lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn tenants_are_bounded_and_leave() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    let names: Vec<String> = (0..10_000).map(|number| format!("tenant-{number:04}")).collect();
    counts.set_tenants(names.iter().map(String::as_str));
    for name in &names {
        counts.count(&record(Some("a"), name), Span::ZERO);
    }
    let lines = |text: &str| {
        text.lines().filter(|line| line.starts_with("pilotage_tenant_charged_total{")).count()
    };
    let text = metrics.encode();
    assert_eq!(lines(&text), tenants::TENANTS_MAX + 1);
    has(&metrics, &["pilotage_tenant_requests_total{tenant=\"_other\",outcome=\"answered\"} 9500"]);
    counts.set_tenants(["tenant-0003", "tenant-9000"].into_iter());
    let text = metrics.encode();
    assert_eq!(lines(&text), 3, "who is there, and the others");
    counts.count(&record(Some("a"), "tenant-9000"), Span::ZERO);
    has(
        &metrics,
        &[
            "pilotage_tenant_requests_total{tenant=\"tenant-0003\",outcome=\"answered\"} 1",
            "pilotage_tenant_requests_total{tenant=\"tenant-9000\",outcome=\"answered\"} 1",
            "pilotage_tenant_requests_total{tenant=\"_other\",outcome=\"answered\"} 9500",
        ],
    );
}

#[test]
fn faults_count_for_their_replica_as_long_as_it_is_there() {
    let metrics = Metrics::new();
    let counts = GatewayMetrics::new(&metrics);
    let faults = counts.lane("a").faults;
    faults.enter("a-0");
    faults.count(Some("a-0"), Fault::TooLong);
    faults.count(Some("nobody"), Fault::TooLong);
    faults.count(None, Fault::Reset);
    has(
        &metrics,
        &[
            "pilotage_upstream_faults_total{lane=\"a\",replica=\"a-0\",fault=\"too_long\"} 1",
            "pilotage_upstream_faults_total{lane=\"a\",replica=\"_other\",fault=\"too_long\"} 1",
            "pilotage_upstream_faults_total{lane=\"a\",replica=\"_other\",fault=\"reset\"} 1",
        ],
    );
    counts.show(&[]);
    faults.count(Some("a-0"), Fault::TooLong);
    assert!(!metrics.encode().contains("a-0"), "it is gone");
    has(
        &metrics,
        &["pilotage_upstream_faults_total{lane=\"a\",replica=\"_other\",fault=\"too_long\"} 2"],
    );
}

#[test]
fn calls_to_engines_are_those_of_a_client() {
    let metrics = Metrics::named(Names { gen_ai: GenAi::Latest, ..Names::default() });
    let counts = GatewayMetrics::new(&metrics);
    drop(counts.lane("a"));
    let answered = Record { runtime: Some("vllm"), ..record(Some("a"), "ann") };
    counts.count(&answered, Span::ZERO);
    counts.count(&Record { merged: true, ..answered.clone() }, Span::ZERO);
    counts.count(&Record { attempts: 0, ..answered.clone() }, Span::ZERO);
    let failed = Record { termination: Termination::Timeout, status: 504, ..answered };
    counts.count(&failed, Span::ZERO);
    let labels =
        "gen_ai_request_model=\"a\",gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"vllm\"";
    let name = "gen_ai_client_operation_duration_seconds";
    let first = "gen_ai_client_operation_time_to_first_chunk_seconds";
    has(
        &metrics,
        &[
            // Its wait in the queue is none of the engine's.
            &format!("{name}_sum{{{labels},error_type=\"\"}} 0.75"),
            &format!("{name}_count{{{labels},error_type=\"\"}} 1"),
            &format!("{name}_count{{{labels},error_type=\"timeout\"}} 1"),
            &format!("{first}_sum{{{labels}}} 0.5"),
            &format!("{first}_count{{{labels}}} 1"),
        ],
    );
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
        let counts = GatewayMetrics::new(&metrics);
        drop(counts.lane("a"));
        counts.count(&record(Some("a"), "ann"), Span::ZERO);
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
