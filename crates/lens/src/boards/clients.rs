//! Boards about what clients get: all at a glance, tenants, and money.

use super::panels::{Board, Panel, Unit, panel, percentiles, query, rate};

pub(super) fn overview() -> Board {
    let lanes = r#"{lane=~"$model"}"#;
    let panels = vec![
        panel(
            "Requests",
            "Requests that ended each second, by model.",
            Unit::PerSecond,
            vec![query("{{lane}}", &rate("lane", &format!("pilotage_requests_total{lanes}")))],
        ),
        panel(
            "Objectives missed",
            "The part of requests that missed an objective of their band: were not answered, began late, or came slowly. Alerts fire when this burns the budget.",
            Unit::Part,
            vec![query(
                "{{lane}} {{objective}}",
                "sum by (lane, objective) (rate(pilotage_slo_misses_total{lane=~\"$model\"}[$__rate_interval])) / (sum by (lane, objective) (rate(pilotage_slo_requests_total{lane=~\"$model\"}[$__rate_interval])) > 0)",
            )],
        ),
        panel(
            "Time to first token",
            "From the request to its first token: queue, connection and prefill together.",
            Unit::Seconds,
            percentiles("pilotage_time_to_first_token_seconds"),
        ),
        panel(
            "Time per output token",
            "Mean time between the tokens of an answer.",
            Unit::Seconds,
            percentiles("pilotage_time_per_output_token_seconds"),
        ),
        panel(
            "Tokens",
            "Tokens each second by type. Cached ones are part of the input, thoughts part of the output.",
            Unit::PerSecond,
            vec![query("{{type}}", &rate("type", &format!("pilotage_tokens_total{lanes}")))],
        ),
        panel(
            "Waiting",
            "Requests that wait for a turn. One that grows asks for replicas.",
            Unit::Count,
            vec![query("{{lane}}", "sum by (lane) (pilotage_queue_requests{lane=~\"$model\"})")],
        ),
        panel(
            "How requests end",
            "Requests each second by how they ended; all but `ok` is worth a look.",
            Unit::PerSecond,
            vec![query(
                "{{termination}}",
                &rate("termination", &format!("pilotage_requests_total{lanes}")),
            )],
        ),
        panel(
            "Where time goes",
            "Seconds spent in each phase, by second: what is widest is what to make faster.",
            Unit::Seconds,
            vec![query(
                "{{phase}}",
                &rate("phase", &format!("pilotage_phase_seconds_total{lanes}")),
            )],
        ),
    ];
    Board {
        uid: "pilotage-overview",
        title: "Pilotage: overview",
        what: "Is all well, and if not, where?",
        panels,
    }
}

pub(super) fn tenants() -> Board {
    let tenant = r#"{tenant=~"$tenant"}"#;
    let mut panels = vec![
        panel(
            "Requests by tenant",
            "Requests that ended each second.",
            Unit::PerSecond,
            vec![query(
                "{{tenant}}",
                &rate("tenant", &format!("pilotage_tenant_requests_total{tenant}")),
            )],
        ),
        panel(
            "Outcomes",
            "What became of tenants' requests: `limited` is a quota's doing, `failed` is ours.",
            Unit::PerSecond,
            vec![query(
                "{{tenant}} {{outcome}}",
                &rate("tenant, outcome", &format!("pilotage_tenant_requests_total{tenant}")),
            )],
        ),
        panel(
            "Tokens by tenant",
            "Tokens each second, by type.",
            Unit::PerSecond,
            vec![query(
                "{{tenant}} {{type}}",
                &rate("tenant, type", &format!("pilotage_tenant_tokens_total{tenant}")),
            )],
        ),
        panel(
            "Cache use by tenant",
            "The part of a tenant's prompt tokens that an engine had in its cache.",
            Unit::Part,
            vec![query(
                "{{tenant}}",
                "sum by (tenant) (rate(pilotage_tenant_tokens_total{tenant=~\"$tenant\",type=\"cached\"}[$__rate_interval])) / sum by (tenant) (rate(pilotage_tenant_tokens_total{tenant=~\"$tenant\",type=\"input\"}[$__rate_interval]))",
            )],
        ),
    ];
    panels.extend(shares());
    Board {
        uid: "pilotage-tenants",
        title: "Pilotage: tenants and fairness",
        what: "Who gets how much, and does everybody get his share?",
        panels,
    }
}

/// Who holds and waits for what.
fn shares() -> Vec<Panel> {
    vec![
        panel(
            "KV tokens held",
            "KV tokens in flight of a tenant and of those below it, beside what is guaranteed.",
            Unit::Count,
            vec![
                query(
                    "{{lane}} {{tenant}}",
                    "pilotage_tenant_kv_tokens{lane=~\"$model\",tenant=~\"$tenant\"}",
                ),
                query(
                    "{{lane}} {{tenant}} guaranteed",
                    "pilotage_tenant_kv_tokens_guaranteed{lane=~\"$model\",tenant=~\"$tenant\"}",
                ),
            ],
        ),
        panel(
            "Waiting by tenant",
            "Requests of a tenant, and of those below it, that wait for a turn.",
            Unit::Count,
            vec![query(
                "{{lane}} {{tenant}}",
                "pilotage_tenant_queue_requests{lane=~\"$model\",tenant=~\"$tenant\"}",
            )],
        ),
        panel(
            "Service gap",
            "The largest difference of received service among waiting tenants, in weighted tokens. It stays below the size of a few requests where shares are kept.",
            Unit::Count,
            vec![query("{{lane}}", "pilotage_service_gap_tokens{lane=~\"$model\"}")],
        ),
        panel(
            "Limits",
            "Requests each second that a limit of their tenant's path stopped.",
            Unit::PerSecond,
            vec![query("{{limit}}", &rate("limit", "pilotage_denials_total"))],
        ),
    ]
}

pub(super) fn cost() -> Board {
    let tenant = r#"{tenant=~"$tenant"}"#;
    let panels = vec![
        panel(
            "Charged by tenant",
            "What tenants were charged in the time shown, in units of the currency of prices.",
            Unit::Count,
            vec![query(
                "{{tenant}}",
                &format!(
                    "sum by (tenant) (increase(pilotage_tenant_charged_total{tenant}[$__range]))"
                ),
            )],
        ),
        panel(
            "Charges each hour",
            "At the rate of now.",
            Unit::Count,
            vec![query(
                "{{tenant}}",
                &format!(
                    "sum by (tenant) (rate(pilotage_tenant_charged_total{tenant}[$__rate_interval])) * 3600"
                ),
            )],
        ),
        panel(
            "Tokens in the time shown",
            "By tenant and type: what a bill is made of.",
            Unit::Count,
            vec![query(
                "{{tenant}} {{type}}",
                &format!(
                    "sum by (tenant, type) (increase(pilotage_tenant_tokens_total{tenant}[$__range]))"
                ),
            )],
        ),
        panel(
            "Output tokens for each replica",
            "Tokens that a replica generates each second, in the mean: what the hardware is paid for.",
            Unit::PerSecond,
            vec![query(
                "{{lane}}",
                "sum by (lane) (rate(pilotage_tokens_total{lane=~\"$model\",type=\"output\"}[$__rate_interval])) / sum by (lane) (pilotage_replicas_up{lane=~\"$model\"} > 0)",
            )],
        ),
        panel(
            "Saved by caches",
            "Prompt tokens in the time shown that needed no computing.",
            Unit::Count,
            vec![query(
                "{{lane}}",
                "sum by (lane) (increase(pilotage_tokens_total{lane=~\"$model\",type=\"cached\"}[$__range]))",
            )],
        ),
    ];
    Board {
        uid: "pilotage-cost",
        title: "Pilotage: cost",
        what: "Who costs what, and what is saved?",
        panels,
    }
}
