//! A world: a system, what comes to it, what is done to it; played, and looked at.

use std::collections::BTreeMap;

use pilotage_core::Span;
use pilotage_lens::triage::Evidence;
use pilotage_lens::triage::evidence::{
    Accelerator, AlertRule, Alerts, Config, Dims, Goals, Role, Run as BenchRun,
};
use pilotage_lens::triage::observe::{Looks, Observed, Series, Watched, names, promql};

use super::front::{self, EPOCH_S, Front};
use super::machine::{self, Host, Ill, Machine};
use super::pages;
use super::setup::{Setup, WARM_S, WINDOW_S};
use crate::arrival::{seconds, time};
use crate::run::{Glance, Options, Run, Sum, Watching, run};

/// How often pages are looked at.
const EVERY: Span = Span::from_secs(1);

/// Alert rules that fire.
const ALERTS: &[(&str, &str)] = &[
    ("KvCacheFull", "max by (pod) (vllm:kv_cache_usage_perc) > 0.9"),
    ("Waiting", "sum(vllm:num_requests_waiting) > 50"),
];

/// A world.
pub(super) struct World {
    /// What runs.
    pub(super) setup: Setup,
    /// What ran when all was well; none where nobody looked then.
    pub(super) before: Option<Setup>,
    /// What is wrong with machines.
    pub(super) ill: Vec<(usize, Ill)>,
    pub(super) front: Front,
    /// What was promised for each token.
    pub(super) tpot_s: f64,
    /// Whether steps run without graphs, as the manifest says.
    pub(super) eager: bool,
    /// Replicas that there is room for; pods beyond them find no node.
    pub(super) room: usize,
    /// Replicas with another version and context.
    pub(super) old: Vec<usize>,
    pub(super) alerts: &'static [(&'static str, &'static str)],
    /// Milliseconds of its one thread that a benchmark's client needs for each request, where the load is one.
    pub(super) client_ms: Option<f64>,
    /// Replicas for prompts, and bytes that one of them sends in a second, where those for answers are others.
    pub(super) divided: Option<(usize, f64)>,
}

/// Replicas as they were seen in a run.
pub(super) struct Played {
    pub(super) replicas: Vec<Watched>,
    pub(super) run: Run,
}

impl World {
    /// One in which all is well.
    pub(super) fn usual() -> Self {
        let setup = Setup::usual();
        Self {
            before: Some(setup.clone()),
            setup,
            ill: Vec::new(),
            front: Front::USUAL,
            tpot_s: 0.05,
            eager: false,
            room: usize::MAX,
            old: Vec::new(),
            alerts: ALERTS,
            client_ms: None,
            divided: None,
        }
    }

    /// The same with another system, which was no other before.
    pub(super) fn of(change: impl FnOnce(&mut Setup)) -> Self {
        let mut world = Self::usual();
        change(&mut world.setup);
        world.before = None;
        world
    }

    /// What is observed.
    pub(super) fn evidence(&self, seed: u64) -> Evidence {
        let (mut observed, bench) = self.observed(&self.setup, seed);
        if let Some(before) = &self.before {
            let calm = Self { ill: Vec::new(), client_ms: None, ..Self::usual() };
            let calm = Self { setup: before.clone(), divided: self.divided, ..calm };
            let (mut then, _) = calm.observed(before, seed + 1000);
            then.alerts = None;
            observed.baseline = Some(Box::new(then));
        }
        let mut evidence = observed.evidence();
        self.plan(&self.setup, &mut evidence);
        if let Some((before, setup)) = evidence.baseline.as_deref_mut().zip(self.before.as_ref()) {
            self.plan(setup, before);
        }
        evidence.runs = bench.into_iter().collect();
        evidence
    }

    /// What manifests and data sheets say, which nobody has to observe.
    fn plan(&self, setup: &Setup, evidence: &mut Evidence) {
        for (at, replica) in evidence.replicas.iter_mut().enumerate() {
            let is_old = self.old.contains(&at);
            replica.config = Config {
                max_num_seqs: Some(f64::from(setup.slots)),
                max_num_batched_tokens: Some(f64::from(setup.step_tokens)),
                max_model_len: Some(if is_old { 8192.0 } else { f64::from(self.front.context) }),
                tensor: Some(1.0),
                enforce_eager: Some(self.eager),
                ..replica.config.clone()
            };
            replica.dims = Dims {
                parameters: Some(machine::PARAMETERS),
                weight_bytes: Some(machine::WEIGHT_BYTES),
                layers: Some(machine::LAYERS),
                kv_heads: Some(machine::KV_HEADS),
                head_dim: Some(machine::HEAD_DIM),
                kv_number_bytes: Some(2.0),
                ..Dims::default()
            };
            replica.accelerator = Accelerator {
                memory_bytes: Some(machine::MEMORY_BYTES),
                bandwidth_bytes_s: Some(machine::BANDWIDTH),
                flops: Some(machine::FLOPS),
                ..Accelerator::default()
            };
        }
    }

    fn observed(&self, setup: &Setup, seed: u64) -> (Observed, Option<BenchRun>) {
        if let Some((prompts, bytes_s)) = self.divided {
            return (super::divided::observed(self, setup, (prompts, bytes_s), seed), None);
        }
        let setup = self.with_machines(setup);
        let mut scenario = setup.scenario(seed);
        let meant: Vec<f64> = scenario.arrivals.iter().map(|one| seconds(one.at)).collect();
        if let Some(client_ms) = self.client_ms {
            let mut free = 0.0_f64;
            for arrival in &mut scenario.arrivals {
                free = free.max(seconds(arrival.at)) + client_ms / 1e3;
                arrival.at = time(free);
            }
        }
        let entered = front::enter(&self.front, &mut scenario);
        let played = self.play(&scenario, &setup, ("m", Role::Both), None);
        let named: Vec<String> = (0..setup.replicas).map(|at| format!("m-{at}")).collect();
        let versions: Vec<&str> = (0..setup.replicas)
            .map(|at| if self.old.contains(&at) { "0.29.0" } else { "0.33.0" })
            .collect();
        let told = front::tell(&self.front, &entered, &scenario, &played.run, &named, &versions);
        let bench = self.client_ms.map(|_| bench(&played.run, &meant));
        let mut gateway = Looks::default();
        for glance in window(&played.run) {
            let at = seconds(glance.at);
            gateway.add(EPOCH_S + at, &front::page(&entered, &told, at));
        }
        let mut observed = self.assemble(played, gateway.series());
        observed.records = Some(told.rows);
        (observed, bench)
    }

    /// What the processor does for a step.
    const fn host(&self) -> Host {
        if self.eager { Host::EAGER } else { Host::GRAPHS }
    }

    /// The system with the machines that it runs on, some of which are ill, and some are not there.
    fn with_machines(&self, setup: &Setup) -> Setup {
        let mut setup = setup.clone();
        // What a step takes is said of one with graphs.
        setup.step_ms += self.host().gap_ms - Host::GRAPHS.gap_ms;
        for replica in self.room..setup.replicas {
            setup.faults.push((replica, 0.0, WARM_S + WINDOW_S + 1.0, "down".to_owned()));
        }
        for (replica, ill) in &self.ill {
            if ill.slowness() > 1.0 {
                let kind = format!("{{ slow: {} }}", ill.slowness());
                setup.faults.push((*replica, WARM_S, WARM_S + WINDOW_S, kind));
            }
        }
        setup
    }

    /// Plays it, and keeps what replicas showed in the window. `fetched` is when KV cache came from elsewhere and
    /// how long that took.
    pub(super) fn play(
        &self,
        scenario: &crate::Scenario,
        setup: &Setup,
        (name, role): (&str, Role),
        fetched: Option<&[(f64, f64)]>,
    ) -> Played {
        let until = time(WARM_S + WINDOW_S);
        let watch = Some(Watching { every: EVERY, until });
        let run = run(scenario, Options { watch, ..Options::default() }, &mut |_, _| {});
        let direct = scenario.route.is_some_and(crate::rival::Route::is_direct);
        let replicas = (0..setup.replicas).map(|at| {
            let (mut looks, mut machine) = (Looks::default(), Machine::default());
            let ill = self.ill.iter().find(|(replica, _)| *replica == at).map(|(_, ill)| ill);
            for glance in &run.glances {
                let (page, when) = (&glance.pages[at], seconds(glance.at));
                let passed = (EVERY.as_secs_f64(), when - WARM_S);
                let below = machine.show(page, passed, self.host(), ill);
                if page.is_up && when >= WARM_S {
                    let text = pages::page(page, told(setup, glance, at, fetched));
                    looks.add(EPOCH_S + when, &text);
                    looks.add(EPOCH_S + when, &below);
                }
            }
            let in_flight: Vec<f64> =
                window(&run).map(|glance| f64::from(glance.pages[at].in_flight)).collect();
            Watched {
                name: format!("{name}-{at}"),
                role,
                places: (!direct).then_some(f64::from(setup.slots)),
                in_flight: Some(in_flight.iter().sum::<f64>() / in_flight.len().max(1) as f64),
                health: Some((true, 0.004)),
                series: looks.series(),
                ..Watched::default()
            }
        });
        Played { replicas: replicas.filter(|one| !one.series.is_empty()).collect(), run }
    }

    /// What was seen of it, without records.
    pub(super) fn assemble(&self, played: Played, gateway: Vec<Series>) -> Observed {
        let Played { replicas, run } = played;
        let glances: Vec<&Glance> = window(&run).collect();
        let count = glances.len().max(1) as f64;
        let queued = glances.iter().map(|one| f64::from(one.queued)).sum::<f64>() / count;
        let places = glances.first().map_or(0, |glance| glance.pages.len());
        let age = |at: usize| {
            glances.iter().map(|one| one.pages[at].report_age.as_secs_f64()).sum::<f64>() / count
        };
        let exposed = names(replicas.iter().flat_map(|one| &one.series).chain(&gateway));
        let rules = self.alerts.iter().map(|(name, expression)| AlertRule {
            name: (*name).to_owned(),
            refers_to: promql::series(expression),
        });
        Observed {
            from_s: EPOCH_S + WARM_S,
            until_s: EPOCH_S + WARM_S + WINDOW_S,
            goals: Goals { tpot_s: Some(self.tpot_s), ..Goals::default() },
            cluster: cluster(&glances, self.room),
            queued: Some(queued),
            reports_age_s: (0..places).map(age).reduce(f64::max),
            // What a look that is never missed is old at most.
            reports_interval_s: Some(2.0),
            alerts: Some(Alerts { rules: rules.collect(), exposed }),
            replicas,
            gateway,
            ..Observed::default()
        }
    }
}

/// The looks in the window.
fn window(run: &Run) -> impl Iterator<Item = &Glance> {
    run.glances.iter().filter(|one| seconds(one.at) >= WARM_S)
}

fn told(setup: &Setup, glance: &Glance, at: usize, fetched: Option<&[(f64, f64)]>) -> pages::Told {
    let when = seconds(glance.at);
    let fetched = fetched.map(|all| {
        // Each replica for answers fetches its part.
        let part = setup.replicas as f64;
        let until = all.iter().take_while(|(done, _)| *done <= when);
        until.fold(Sum::default(), |sum, (_, took)| Sum {
            seconds: sum.seconds + took / part,
            count: sum.count + 1.0 / part,
        })
    });
    let since = seconds(glance.pages[at].since);
    pages::Told {
        blocks: setup.kv_tokens / 16,
        adapters_max: setup.extras.adapters_max,
        drafts: setup.extras.drafts > 0,
        fetched,
        at_s: EPOCH_S + when,
        // What was there from the begin has been there for a day.
        since_s: if since > 0.0 { EPOCH_S + since } else { EPOCH_S - 86_400.0 },
    }
}

/// What kube-state-metrics says: all replicas are wanted, those are ready that are up, and those have no node
/// that there is no room for.
fn cluster(glances: &[&Glance], room: usize) -> Vec<Series> {
    let mut looks = Looks::default();
    for glance in glances {
        let (all, up) = (glance.pages.len(), glance.pages.iter().filter(|one| one.is_up).count());
        let lacking = all.saturating_sub(room);
        let page = format!(
            "kube_deployment_spec_replicas {all}\nkube_deployment_status_replicas_ready {up}\n\
             kube_pod_status_unschedulable {lacking}\n"
        );
        looks.add(EPOCH_S + seconds(glance.at), &page);
    }
    looks.series()
}

/// The load as a benchmark's result, as its client saw it.
fn bench(run: &Run, meant: &[f64]) -> BenchRun {
    let mut rows: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
    let mut put = |name: &'static str, value: f64| {
        rows.entry(name).or_default().push(serde_json::json!(value));
    };
    let mut completed = 0;
    for (record, _) in run.records.iter().zip(meant) {
        let (Some(came), Some(first), Some(end)) = (record.came, record.first_token, record.end)
        else {
            continue;
        };
        completed += 1;
        put("start_times", seconds(came));
        put("ttfts", seconds(first) - seconds(came));
        put("output_lens", f64::from(record.generated));
        put("ends", seconds(end));
    }
    rows.remove("ends");
    let span = meant.last().copied().unwrap_or(1.0);
    let mut file = serde_json::json!({
        "request_rate": meant.len() as f64 / span, "duration": span, "completed": completed, "failed": 0,
    });
    for (name, values) in rows {
        file[name] = serde_json::Value::Array(values);
    }
    let parsed = pilotage_lens::triage::bench::parse(&file.to_string());
    let files = parsed.unwrap_or_default();
    pilotage_lens::triage::bench::evidence(&files).runs.into_iter().next().unwrap_or_default()
}
