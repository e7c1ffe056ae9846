//! The alerts. Each says what it means and what to do, in the order in which to do it.

/// Where the page of alerts is.
const PAGE: &str = "https://github.com/pilotage-dev/pilotage/blob/main/docs/guide/alerts.md";

/// How soon somebody has to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Now: clients notice.
    Critical,
    /// Today.
    Warning,
    /// When there is time.
    Info,
}

impl Severity {
    /// Its name in the label `severity`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What should make somebody look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// What has to hold, in PromQL.
    pub expr: String,
    /// For how long.
    pub after: &'static str,
    /// How soon to look.
    pub severity: Severity,
    /// What a notification says, with labels in `{{ }}`.
    pub summary: String,
    /// More of it.
    pub description: String,
    /// What it means.
    pub means: &'static str,
    /// What to do.
    pub steps: &'static [&'static str],
}

impl Alert {
    /// The section about it.
    pub fn runbook(&self) -> String {
        format!("{PAGE}#{}", self.name.to_ascii_lowercase())
    }
}

/// Windows over which missed objectives are computed beforehand.
pub(super) const WINDOWS: [&str; 4] = ["5m", "30m", "1h", "6h"];

/// An objective with the part of requests that may miss it.
struct Objective {
    name: &'static str,
    budget: f64,
    what: &'static str,
    fast: (&'static str, &'static str),
    slow: (&'static str, &'static str),
    steps: &'static [&'static str],
}

const OBJECTIVES: [Objective; 3] = [
    Objective {
        name: "answered",
        budget: 0.005,
        what: "requests are not answered",
        fast: (
            "PilotageAnswersFailFast",
            "So many requests are not answered that a month's budget would be gone in two days.",
        ),
        slow: (
            "PilotageAnswersFailSlowly",
            "Requests are not answered at a rate that uses up a month's budget in five days.",
        ),
        steps: &[
            "Look at *How requests end* of the overview, or ask `pilotage triage`: `queue_full` and `deadline` want replicas, `upstream_error` and `timeout` are about engines.",
            "`pilotage status` says which replicas take work, and why others do not.",
            "`pilotage why ID` explains one such request; ids are in the access log.",
        ],
    },
    Objective {
        name: "ttft",
        budget: 0.01,
        what: "answers begin too late",
        fast: (
            "PilotageFirstTokenLateFast",
            "So many answers begin later than their band promises that a month's budget would be gone in two days.",
        ),
        slow: (
            "PilotageFirstTokenLateSlowly",
            "Answers begin late at a rate that uses up a month's budget in five days.",
        ),
        steps: &[
            "Look at *Where time goes*: much `queue` asks for replicas or a smaller share for others, much `prefill` for shorter prompts, prefix caches or more hardware.",
            "`pilotage triage` says what takes the time, and what would change.",
            "Where the goal itself is wrong, set `spec.scaling.ttftMs` of the Model.",
        ],
    },
    Objective {
        name: "tpot",
        budget: 0.01,
        what: "answers come too slowly",
        fast: (
            "PilotageTokensSlowFast",
            "So many answers come slower than their band promises that a month's budget would be gone in two days.",
        ),
        slow: (
            "PilotageTokensSlowSlowly",
            "Answers come slowly at a rate that uses up a month's budget in five days.",
        ),
        steps: &[
            "Look at *Sequences* and *KV cache used* of the engines: batches that are too large make each token slow.",
            "Look at *Stalls*: long prompts that are computed between the tokens of others want chunked prefill.",
            "`pilotage triage` names the knob; `spec.scaling.tpotMs` is the goal.",
        ],
    },
];

/// Fewer requests in the longer window burn no budget that anybody is woken for.
const REQUESTS_LEAST: u32 = 50;

/// All alerts.
pub fn alerts() -> Vec<Alert> {
    let mut all: Vec<Alert> = OBJECTIVES.iter().flat_map(burns).collect();
    all.extend(of_replicas());
    all.extend(of_answers());
    all.extend(of_tenants());
    all.extend(of_caches());
    all.extend(of_gateways());
    all.extend(super::backing::alerts());
    all.extend(super::gpu::alerts());
    all
}

/// A budget is burnt fast when both a long and a short window say so: the long one that it matters, the short
/// one that it still goes on. The factors are those of Google's workbook on reliability, chapter 5.
fn burns(objective: &Objective) -> [Alert; 2] {
    let Objective { name, budget, what, fast, slow, steps } = objective;
    let burn = |(alert, means): (&'static str, &'static str),
                factor: f64,
                long: &str,
                short: &str,
                after,
                severity| {
        let over = |window| {
            let limit = format!("{:.4}", factor * budget);
            let limit = limit.trim_end_matches('0');
            format!("lane:pilotage_slo_misses:ratio_rate{window}{{objective=\"{name}\"}} > {limit}")
        };
        // A single request that failed where few come is for nobody to be woken by.
        let enough = |window| {
            format!(
                "sum by (lane, band, objective) (increase(pilotage_slo_requests_total{{objective=\"{name}\"}}[{window}])) > {REQUESTS_LEAST}"
            )
        };
        Alert {
            name: alert,
            expr: format!("{} and {} and {}", over(long), over(short), enough(long)),
            after,
            severity,
            summary: format!("{{{{ $labels.lane }}}}: {what} ({{{{ $labels.band }}}})"),
            description: format!(
                "{{{{ $value | humanizePercentage }}}} of the requests of {{{{ $labels.lane }}}} in the band {{{{ $labels.band }}}} missed their objective in the last {long}."
            ),
            means,
            steps,
        }
    };
    [
        burn(*fast, 14.4, "1h", "5m", "2m", Severity::Critical),
        burn(*slow, 6.0, "6h", "30m", "15m", Severity::Warning),
    ]
}

fn of_replicas() -> Vec<Alert> {
    vec![
        Alert {
            name: "PilotageModelHasNoReplica",
            expr: "pilotage_replicas_up == 0 and pilotage_queue_requests > 0".to_owned(),
            after: "2m",
            severity: Severity::Critical,
            summary: "{{ $labels.lane }}: requests wait and no replica takes work".to_owned(),
            description: "Requests for {{ $labels.lane }} wait, and none of its replicas takes work. They end with 503 when their patience does.".to_owned(),
            means: "Requests for a Model wait, and none of its replicas takes work. A Model at zero is started by its first request and is up again before this fires.",
            steps: &[
                "`pilotage status` says of each replica why it gets no work; `kubectl describe model NAME` says what the operator waits for.",
                "Weights that do not come, nodes that there are not, and engines that end at their start are told in its conditions.",
                "Where only health checks fail, look at the engine's log, and at `pilotage probe URL`.",
            ],
        },
        Alert {
            name: "PilotageReplicaTakenOut",
            expr: "increase(pilotage_ejections_total[15m]) > 2".to_owned(),
            after: "0m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: replicas are taken out again and again".to_owned(),
            description: "Replicas of {{ $labels.lane }} were taken out {{ $value | humanize }} times in 15 minutes, because of what came, or did not come, from them.".to_owned(),
            means: "Replicas of a Model were taken out more than twice in a quarter of an hour: they fail, or are much worse than their neighbours.",
            steps: &[
                "`pilotage status` shows each replica's last error and verdict.",
                "One replica alone points at its machine: heat, a neighbour, a broken link. All of them point at the engine's version or at what is sent.",
                "Look for `422` with the code of a poisonous request: one that engines die of is held back by itself.",
            ],
        },
        Alert {
            name: "PilotageManyRetries",
            expr: "sum by (lane) (rate(pilotage_retries_total[10m])) / sum by (lane) (rate(pilotage_requests_total[10m])) > 0.1".to_owned(),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: one request in ten needs another attempt".to_owned(),
            description: "{{ $value | humanizePercentage }} of the requests for {{ $labels.lane }} needed another attempt in the last 10 minutes.".to_owned(),
            means: "More than a tenth of a Model's requests need another attempt. Clients see answers, but later.",
            steps: &[
                "`pilotage tap --model NAME` shows requests as they end, with the replicas of earlier attempts.",
                "`pilotage status` shows the last error of each replica: timeouts, refused connections and 5xx each have other reasons.",
            ],
        },
        Alert {
            name: "PilotageQueueGrows",
            expr: "min_over_time(pilotage_queue_requests[10m]) > 10 and deriv(pilotage_queue_requests[10m]) > 0".to_owned(),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: the queue has not been empty for 10 minutes, and grows".to_owned(),
            description: "{{ $value | humanize }} requests or more have waited for {{ $labels.lane }} for 10 minutes, and more come than go.".to_owned(),
            means: "More requests come for a Model than its replicas finish. Whoever waits longest is refused first, by band.",
            steps: &[
                "`GET /scaling` of the admin listener and `pilotage status` say how many replicas are wanted, and what holds them back: `maxReplicas`, nodes, budgets.",
                "*Requests by tenant* shows whether one tenant sends it all; its quota (`Tenant.spec`) bounds it.",
            ],
        },
    ]
}

fn of_answers() -> Vec<Alert> {
    vec![
        Alert {
            name: "PilotageStreamsBreakOff",
            expr: "increase(pilotage_requests_total{termination=\"upstream_interrupted\"}[15m]) > 3".to_owned(),
            after: "0m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: streams end in the middle".to_owned(),
            description: "{{ $value | humanize }} answers of {{ $labels.lane }} ended in the middle in 15 minutes, and nobody could go on with them.".to_owned(),
            means: "Answers ended in the middle and could not go on elsewhere. Their clients got an error event, never silence.",
            steps: &[
                "*Answers that broke off* shows whether others went on: `impossible` means that the Model has no second replica, or one with other weights.",
                "Look at the engines' restarts (`pilotage status`, `kubectl get pods`), and at their memory.",
            ],
        },
        Alert {
            name: "PilotageAnswersCorrupted",
            expr: "increase(pilotage_corrupted_answers_total[15m]) > 0".to_owned(),
            after: "0m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: an engine says what has to be put right".to_owned(),
            description: "In {{ $value | humanize }} answers of {{ $labels.lane }} within 15 minutes the engine said something wrong, such as an end twice.".to_owned(),
            means: "An engine's answers break its own API: two ends, counts that cannot be. They were put right, but an engine that does so is broken or of a version that is not known.",
            steps: &[
                "Records have `\"corrupted\": true` and name the replica: `pilotage tap`, or the access log.",
                "`pilotage probe URL` says which version it takes the engine for. Compare with `docs/reference/runtimes`.",
            ],
        },
        Alert {
            name: "PilotageStreamsStall",
            expr: "sum by (lane) (rate(pilotage_stalled_seconds_total[10m])) / sum by (lane) (rate(pilotage_phase_seconds_total{phase=\"decode\"}[10m])) > 0.1".to_owned(),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: a tenth of the time streams stand still".to_owned(),
            description: "Streams of {{ $labels.lane }} stood still for {{ $value | humanizePercentage }} of the time in which they should have come.".to_owned(),
            means: "Streams stop and go on. Long prompts computed between the tokens of others, swapping, and engines that are stopped do that.",
            steps: &[
                "`pilotage triage` tells interference by prefill from preemption and from a slow machine.",
                "For vLLM, look at *Preemptions* and at `--max-num-batched-tokens`; smaller pieces of prompts stall others less.",
            ],
        },
    ]
}

fn of_tenants() -> Vec<Alert> {
    vec![
        Alert {
            name: "PilotageTenantLimited",
            expr: "sum by (tenant) (rate(pilotage_tenant_requests_total{outcome=\"limited\"}[15m])) / sum by (tenant) (rate(pilotage_tenant_requests_total[15m])) > 0.5".to_owned(),
            after: "15m",
            severity: Severity::Info,
            summary: "{{ $labels.tenant }}: most requests are over a quota".to_owned(),
            description: "{{ $value | humanizePercentage }} of the requests of {{ $labels.tenant }} were over one of its limits in the last 15 minutes.".to_owned(),
            means: "Most requests of a tenant are over one of its limits. It may want more, or a program of its own may not wait as `Retry-After` says.",
            steps: &[
                "*Limits* says which limit it is; the answers' error code says so, too.",
                "Raise it in the Tenant, or ask whose program retries without waiting.",
            ],
        },
        Alert {
            name: "PilotageServiceUneven",
            expr: "min_over_time(pilotage_service_gap_tokens[10m]) > 200000".to_owned(),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: waiting tenants are far apart in what they got".to_owned(),
            description: "Among the tenants that wait for {{ $labels.lane }} one is {{ $value | humanize }} weighted tokens behind another, for 10 minutes.".to_owned(),
            means: "A tenant that waits is far behind others that wait, too. Shares bound the difference by the size of a few requests, so that very large requests, or many of them at once, have to be there.",
            steps: &[
                "*KV tokens held* and *Waiting by tenant* show who holds what.",
                "Limit what one request may hold (`maxTokens` of the Route), or give who waits a guarantee.",
            ],
        },
    ]
}

fn of_caches() -> Vec<Alert> {
    vec![
        Alert {
            name: "PilotageKvEventsLost",
            expr: "increase(pilotage_kv_events_total{kind=\"lost\"}[15m]) > 0".to_owned(),
            after: "0m",
            severity: Severity::Info,
            summary: "{{ $labels.lane }}: events of KV caches were lost".to_owned(),
            description: "{{ $value | humanize }} messages about the caches of {{ $labels.lane }} never came, in 15 minutes.".to_owned(),
            means: "Messages about engines' caches were lost. Requests still go where they should, but by what was sent there before and not by what is there.",
            steps: &["Let the engine keep more of them (`buffer_steps`, `hwm` of vLLM's `--kv-events-config`), and look at the network in between."],
        },
        Alert {
            name: "PilotageKvEventsSilent",
            expr: "pilotage_kv_event_feeds{state=\"silent\"} > 0".to_owned(),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.lane }}: engines publish nothing of their caches".to_owned(),
            description: "{{ $value | humanize }} replicas of {{ $labels.lane }} publish no events though requests run there.".to_owned(),
            means: "Replicas that should publish what their caches hold publish nothing though requests run. The address is another's, or the engine was started without it.",
            steps: &["Compare the port in the Model (`kvEvents`) with `--kv-events-config` of the engine.", "Ask whether a NetworkPolicy lets gateways reach it."],
        },
    ]
}

fn of_gateways() -> Vec<Alert> {
    let own = "and on (instance, job) pilotage_build_info";
    vec![
        Alert {
            name: "PilotageGatewayAway",
            expr: "absent(pilotage_build_info)".to_owned(),
            after: "5m",
            severity: Severity::Critical,
            summary: "no gateway is scraped".to_owned(),
            description: "Prometheus has seen no gateway for 5 minutes: none runs, or none can be scraped.".to_owned(),
            means: "Prometheus sees no gateway at all: none runs, or it is not let in.",
            steps: &[
                "Prometheus' page of targets says why: 401 is a wrong admin key, a refused connection a gateway that is not there.",
                "`kubectl get pods -l app.kubernetes.io/name=pilotage` and the logs of what is there.",
            ],
        },
        Alert {
            name: "PilotageGatewaySlow",
            expr: "rate(pilotage_overhead_seconds_sum[10m]) / rate(pilotage_overhead_seconds_count[10m]) > 0.01 or histogram_sum(rate(pilotage_overhead_seconds[10m])) / histogram_count(rate(pilotage_overhead_seconds[10m])) > 0.01".to_owned(),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.instance }}: the gateway itself takes 10 ms".to_owned(),
            description: "The gateway at {{ $labels.instance }} takes {{ $value | humanizeDuration }} of its own for each request, in the mean.".to_owned(),
            means: "A gateway takes more than 10 ms of its own before a replica is asked, where usual is a tenth of one. It lacks processors.",
            steps: &["*Processor* of the board of the gateway beside its limit: CPU limits that throttle are the usual reason.", "More gateways share the work; quotas are divided among them."],
        },
        Alert {
            name: "PilotageGatewayDescriptorsShort",
            expr: format!("process_open_fds / process_max_fds > 0.8 {own}"),
            after: "5m",
            severity: Severity::Warning,
            summary: "{{ $labels.instance }}: file descriptors run short".to_owned(),
            description: "{{ $value | humanizePercentage }} of the file descriptors of the gateway at {{ $labels.instance }} are in use.".to_owned(),
            means: "A gateway has four fifths of its file descriptors in use. Each client and each request at a replica takes one.",
            steps: &["Raise the limit (`LimitNOFILE`, `ulimit -n`), or add gateways.", "Clients that leave connections open show in `ss -tn`."],
        },
    ]
}
