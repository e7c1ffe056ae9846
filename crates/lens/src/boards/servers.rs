//! Boards about what serves: models and their replicas, engines, and the gateway.

use super::panels::{Board, Panel, Unit, panel, percentiles, query, rate};

pub(super) fn models() -> Board {
    let lanes = r#"{lane=~"$model"}"#;
    let mut panels = vec![
        panel(
            "Replicas",
            "Replicas that take work.",
            Unit::Count,
            vec![query("{{lane}}", "pilotage_replicas_up{lane=~\"$model\"}")],
        ),
        panel(
            "Requests at replicas",
            "Requests at each replica now. Equal replicas should look alike.",
            Unit::Count,
            vec![query("{{lane}} {{replica}}", "pilotage_replica_requests{lane=~\"$model\"}")],
        ),
        panel(
            "KV tokens at replicas",
            "KV tokens of the requests at each replica.",
            Unit::Count,
            vec![query("{{lane}} {{replica}}", "pilotage_replica_tokens{lane=~\"$model\"}")],
        ),
        panel(
            "Replicas taken out",
            "Replicas each second that get no work because of what came, or did not come, from them.",
            Unit::PerSecond,
            vec![query("{{lane}}", &rate("lane", &format!("pilotage_ejections_total{lanes}")))],
        ),
        panel(
            "What replicas did wrong",
            "Attempts each second that failed, by what was wrong with each.",
            Unit::PerSecond,
            vec![query(
                "{{lane}} {{fault}}",
                &rate("lane, fault", &format!("pilotage_upstream_faults_total{lanes}")),
            )],
        ),
        panel(
            "Attempts after the first",
            "Retries each second: each costs somebody time.",
            Unit::PerSecond,
            vec![query("{{lane}}", &rate("lane", &format!("pilotage_retries_total{lanes}")))],
        ),
    ];
    panels.extend(troubles());
    Board {
        uid: "pilotage-models",
        title: "Pilotage: models and replicas",
        what: "Do replicas work, and as well as each other?",
        panels,
    }
}

/// What goes wrong at replicas.
fn troubles() -> Vec<Panel> {
    let lanes = r#"{lane=~"$model"}"#;
    vec![
        panel(
            "Answers that broke off",
            "Streams each second that broke off, by what became of them.",
            Unit::PerSecond,
            vec![query(
                "{{lane}} {{outcome}}",
                &rate("lane, outcome", &format!("pilotage_resumes_total{lanes}")),
            )],
        ),
        panel(
            "Gaps between tokens",
            "Time between two tokens of a stream, each gap for itself.",
            Unit::Seconds,
            percentiles("pilotage_inter_token_latency_seconds"),
        ),
        panel(
            "Stalls",
            "Gaps each second that were at least 200 ms and four times as long as those before.",
            Unit::PerSecond,
            vec![query("{{lane}}", &rate("lane", &format!("pilotage_stalls_total{lanes}")))],
        ),
        panel(
            "Waiting for a turn",
            "How long requests waited in the gateway's queue.",
            Unit::Seconds,
            percentiles("pilotage_queue_time_seconds"),
        ),
        panel(
            "Made room for others",
            "Running requests each second that were stopped for others, by reason.",
            Unit::PerSecond,
            vec![query(
                "{{lane}} {{reason}}",
                &rate("lane, reason", &format!("pilotage_stops_total{lanes}")),
            )],
        ),
    ]
}

pub(super) fn engines() -> Board {
    let panels = vec![
        panel(
            "Sequences",
            "Requests that an engine computes, and those that wait in it. The gateway should let none wait there.",
            Unit::Count,
            vec![
                query("{{instance}} running", "vllm:num_requests_running"),
                query("{{instance}} waiting", "vllm:num_requests_waiting"),
            ],
        ),
        panel(
            "KV cache used",
            "The part of an engine's KV cache that is in use. Above 0.9 it begins to stop requests.",
            Unit::Part,
            vec![query("{{instance}}", "vllm:kv_cache_usage_perc")],
        ),
        panel(
            "Prefix cache",
            "The part of prompt tokens that an engine had in its cache.",
            Unit::Part,
            vec![query(
                "{{instance}}",
                "rate(vllm:prefix_cache_hits_total[$__rate_interval]) / rate(vllm:prefix_cache_queries_total[$__rate_interval])",
            )],
        ),
        panel(
            "Engine tokens",
            "Tokens that engines generated each second.",
            Unit::PerSecond,
            vec![query("{{instance}}", "rate(vllm:generation_tokens_total[$__rate_interval])")],
        ),
        panel(
            "Preemptions",
            "Requests each second that engines stopped for want of KV cache.",
            Unit::PerSecond,
            vec![query("{{instance}}", "rate(vllm:num_preemptions_total[$__rate_interval])")],
        ),
        panel(
            "KV events",
            "What engines published of their caches each second, by kind.",
            Unit::PerSecond,
            vec![query(
                "{{lane}} {{kind}}",
                &rate("lane, kind", "pilotage_kv_events_total{lane=~\"$model\"}"),
            )],
        ),
        panel(
            "KV event feeds",
            "Replicas whose events are followed, by state.",
            Unit::Count,
            vec![query("{{lane}} {{state}}", "pilotage_kv_event_feeds{lane=~\"$model\"}")],
        ),
        panel(
            "Cached prompt tokens",
            "The part of prompt tokens that needed no computing, as the gateway saw it.",
            Unit::Part,
            vec![query(
                "{{lane}}",
                "sum by (lane) (rate(pilotage_tokens_total{lane=~\"$model\",type=\"cached\"}[$__rate_interval])) / sum by (lane) (rate(pilotage_tokens_total{lane=~\"$model\",type=\"input\"}[$__rate_interval]))",
            )],
        ),
    ];
    Board {
        uid: "pilotage-engines",
        title: "Pilotage: engines and KV caches",
        what: "What do engines do with what they are given?",
        panels,
    }
}

pub(super) fn gateway() -> Board {
    let own = "* on (instance, job) group_left () max by (instance, job) (pilotage_build_info)";
    let mut panels = vec![
        panel(
            "Time in the gateway",
            "What the gateway itself adds before a replica is asked, in the mean.",
            Unit::Seconds,
            vec![query(
                "{{instance}}",
                "rate(pilotage_overhead_seconds_sum[$__rate_interval]) / rate(pilotage_overhead_seconds_count[$__rate_interval]) or histogram_sum(rate(pilotage_overhead_seconds[$__rate_interval])) / histogram_count(rate(pilotage_overhead_seconds[$__rate_interval]))",
            )],
        ),
        panel(
            "Processor",
            "Processor seconds each second.",
            Unit::Count,
            vec![query(
                "{{instance}}",
                &format!("rate(process_cpu_seconds_total[$__rate_interval]) {own}"),
            )],
        ),
        panel(
            "Memory",
            "Resident memory.",
            Unit::Bytes,
            vec![query("{{instance}}", &format!("process_resident_memory_bytes {own}"))],
        ),
    ];
    panels.extend(edges());
    panels.extend(super::backing::panels());
    Board {
        uid: "pilotage-gateway",
        title: "Pilotage: the gateway itself",
        what: "Is the gateway in the way?",
        panels,
    }
}

/// Where the gateway meets its limits and its clients.
fn edges() -> Vec<Panel> {
    let own = "* on (instance, job) group_left () max by (instance, job) (pilotage_build_info)";
    vec![
        panel(
            "File descriptors",
            "Open descriptors, and how many there may be.",
            Unit::Count,
            vec![
                query("{{instance}} open", &format!("process_open_fds {own}")),
                query("{{instance}} most", &format!("process_max_fds {own}")),
            ],
        ),
        panel(
            "Time that clients take",
            "Seconds each second in which answers waited for their clients.",
            Unit::Seconds,
            vec![query(
                "{{lane}}",
                "sum by (lane) (rate(pilotage_phase_seconds_total{lane=~\"$model\",phase=\"client_blocked\"}[$__rate_interval]))",
            )],
        ),
        panel(
            "Merged and second attempts",
            "Requests each second that shared an answer, and attempts beside a slow one.",
            Unit::PerSecond,
            vec![
                query(
                    "{{lane}} merged",
                    &rate("lane", "pilotage_merged_requests_total{lane=~\"$model\"}"),
                ),
                query(
                    "{{lane}} {{outcome}}",
                    &rate("lane, outcome", "pilotage_hedges_total{lane=~\"$model\"}"),
                ),
            ],
        ),
        panel(
            "Versions",
            "Gateways, by version.",
            Unit::Count,
            vec![query("{{version}}", "count by (version) (pilotage_build_info)")],
        ),
    ]
}
