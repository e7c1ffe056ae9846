//! What the weights of Models are, for who asks what limits them: read in the background, once for each source, from
//! this machine where they are here and else from where they come. Nothing waits for it and nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_lens::triage::evidence::Dims;
use pilotage_plan::hardware::Accelerator;
use pilotage_plan::{Plan, WeightsSource};
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;

use crate::sheets;

/// Most sources that are read; of more, nothing is known.
const SOURCES_MAX: usize = 256;

/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries: weights are fetched meanwhile, or a hub is away. Each pause is twice the one before.
const PAUSE: Duration = Duration::from_secs(15);
const TRIES: u32 = 8;

/// What was read of one source, once it was.
type Read = Arc<OnceLock<Dims>>;

/// What was read by now.
#[derive(Clone, Debug, Default)]
pub(in crate::cmd) struct Weights {
    known: Arc<Mutex<BTreeMap<String, Read>>>,
    /// Where there is none, nothing is read.
    clock: Option<Clock>,
}

impl Weights {
    /// Reads those of plans.
    pub(in crate::cmd) fn read(clock: Clock) -> Self {
        Self { clock: Some(clock), ..Self::default() }
    }

    /// What is known of a lane's weights, now or later. Only what runs on hardware with a data sheet is read:
    /// nothing would follow from the others.
    pub(super) fn of(&self, plan: &Plan, lane: &str) -> Read {
        let has_sheet =
            |class: &Option<String>| class.as_deref().and_then(Accelerator::by_id).is_some();
        let mut own = plan.processes.iter().filter(|process| process.lane == lane);
        let own = own.find(|process| has_sheet(&process.ground.hardware));
        let Some((process, clock)) = own.zip(self.clock) else { return Read::default() };
        let source = &process.weights.source;
        let mut known = self.known.lock();
        if let Some(read) = known.get(&source.to_string()) {
            return Arc::clone(read);
        }
        let read = Read::default();
        if known.len() < SOURCES_MAX {
            known.insert(source.to_string(), Arc::clone(&read));
            drop(tasks::spawn("weights", find(source.clone(), Arc::clone(&read), clock)));
        }
        read
    }
}

async fn find(source: WeightsSource, read: Read, clock: Clock) {
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        let reading = tokio::time::timeout(PATIENCE, crate::cmd::up::facts(source.clone()));
        match reading.await {
            Ok(Ok(facts)) => {
                read.get_or_init(|| sheets::dims(&facts));
                return;
            }
            Ok(Err(error)) => tell(&source, &format!("{error:#}")),
            Err(_) => tell(&source, "nothing was heard"),
        }
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        clock.sleep_until_nanos(clock.now_nanos().saturating_add(nanos)).await;
        pause *= 2;
    }
}

fn tell(source: &WeightsSource, reason: &str) {
    let source = source.to_string();
    tracing::debug!(
        source,
        reason,
        "the weights cannot be looked at; what limits them is not known"
    );
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use pilotage_gateway::{Gateway, GatewayConfig};
    use pilotage_lens::triage::observe::{Collector, Look, StatusSeen};
    use pilotage_lens::triage::{Evidence, triage};
    use pilotage_plan::world::Gpu;
    use pilotage_plan::{World, parse_all, plan};
    use pilotage_shell::metrics::Metrics;
    use pilotage_shell::secret::Secret;
    use tower::ServiceExt as _;

    use super::super::prepared::Reached;
    use super::super::traffic::gateway_config;
    use super::super::{Fleet, Keys};
    use super::*;
    use crate::installation::Installation;

    /// As Qwen2.5-7B's config.json says it.
    const QWEN: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584,
"intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
"vocab_size": 152064, "max_position_embeddings": 32768, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#;

    const CLOCK_PATIENCE: Duration = Duration::from_secs(60);

    /// One model on an RTX 4090 of this machine, and one of which only the endpoint is known.
    fn planned(weights: &str) -> Plan {
        let head = "apiVersion: pilotage.dev/v1alpha1, kind: Model";
        let here = format!(
            "{{{head}, metadata: {{name: here}}, spec: {{source: 'file:{weights}/', runtime: vllm, parallel: 4, \
             context: 4096, scaling: {{min: 1, max: 1, ttftMs: 900, tpotMs: 50}}}}}}"
        );
        let there = format!(
            "{{{head}, metadata: {{name: there}}, spec: {{endpoints: [{{url: 'http://127.0.0.1:9', \
             hardware: l4, accelerators: 2}}]}}}}"
        );
        let resources = parse_all([("a", here.as_str()), ("b", there.as_str())]).unwrap();
        let name = "NVIDIA GeForce RTX 4090".to_owned();
        let gpus = vec![Gpu { id: None, name, memory_bytes: None }];
        plan(&resources, &World { gpus, ..World::with_cores(8) }).unwrap()
    }

    fn config(plan: &Plan, clock: Clock) -> GatewayConfig {
        let keys = Keys {
            local: None,
            admin: Secret::new("a".to_owned()),
            open: false,
            media_hosts: Vec::new(),
            installation: Installation::at(Some("none".into())).unwrap(),
            weights: Weights::read(clock),
        };
        gateway_config(plan, &keys)
    }

    /// What a full engine with four places shows after so many requests.
    fn page(requests: u32) -> String {
        format!(
            "vllm:num_requests_running 4\nvllm:num_requests_waiting 3\nvllm:kv_cache_usage_perc 0.1\n\
             vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"3000\"}} 1\n\
             vllm:request_success_total{{finished_reason=\"stop\"}} {requests}\n\
             vllm:prompt_tokens_total {}\nvllm:generation_tokens_total {}\n\
             vllm:request_time_per_output_token_seconds_sum {}\n\
             vllm:request_time_per_output_token_seconds_count {requests}\n\
             vllm:request_prefill_time_seconds_sum {}\nvllm:request_prefill_time_seconds_count {requests}\n",
            requests * 512,
            requests * 128,
            f64::from(requests) * 0.0181,
            f64::from(requests) * 0.035,
        )
    }

    /// What triage takes from the status of a gateway with that plan.
    async fn seen(plan: &Plan, lane: &str) -> Evidence {
        let clock = Clock::start();
        let config = config(plan, clock);
        let read = Arc::clone(&config.lanes[0].dims);
        let gateway = Gateway::new(config, clock, Metrics::new()).unwrap();
        let admin = gateway.admin_router(Default::default());
        let mut fleet = Fleet::new(gateway, CLOCK_PATIENCE);
        fleet.set_lanes(&plan.lanes, &plan.routes);
        let at = ("http://127.0.0.1:1".to_owned(), None);
        fleet.process_up("here-0", &plan.processes[0], at, None);
        let reached = |spec: &pilotage_plan::EndpointSpec| Reached {
            spec: spec.clone(),
            key: None,
            trust: None,
        };
        let reached: Vec<Reached> = plan.endpoints.iter().map(reached).collect();
        fleet.set_endpoints(0, &reached);
        let reading = async {
            while read.get().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(CLOCK_PATIENCE, reading).await.unwrap();
        let request = Request::get("/status").header("authorization", "Bearer a");
        let response = admin.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let status: StatusSeen = serde_json::from_slice(&body).unwrap();
        let mut collector = Collector::default();
        for look in 0..13 {
            let replicas = [("here-0".to_owned(), page(look * 9))];
            let at_s = 1e9 + 5.0 * f64::from(look);
            collector.look(Look { at_s, status: &status, page: None, replicas: &replicas }, 600.0);
        }
        collector.observed(lane, None).evidence()
    }

    #[tokio::test]
    async fn a_gateway_tells_triage_what_limits_its_models() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), QWEN).unwrap();
        let plan = planned(&folder.path().display().to_string());
        let evidence = seen(&plan, "here").await;
        let one = &evidence.replicas[0];
        assert_eq!((one.dims.layers, one.dims.kv_heads), (Some(28.0), Some(4.0)));
        assert_eq!(one.accelerator.bandwidth_bytes_s, Some(1008e9));
        assert_eq!((one.config.max_num_seqs, one.config.max_model_len), (Some(4.0), Some(4096.0)));
        assert_eq!((one.config.tensor, one.config.enforce_eager), (Some(1.0), Some(false)));
        assert_eq!((evidence.goals.ttft_s, evidence.goals.tpot_s), (Some(0.9), Some(0.05)));
        let report = triage(&evidence);
        let found = report.findings.iter().find(|one| one.id == "S01").unwrap();
        let predicted = &found.fix.predicted;
        assert!(predicted.contains("times the requests"), "{predicted}");
        assert!(predicted.contains("then KV cache limits"), "{predicted}");
    }

    #[tokio::test]
    async fn of_an_endpoint_it_tells_what_it_runs_on_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), QWEN).unwrap();
        let plan = planned(&folder.path().display().to_string());
        let evidence = seen(&plan, "there").await;
        let one = &evidence.replicas[0];
        assert_eq!(one.accelerator.bandwidth_bytes_s, Some(300e9));
        assert_eq!((one.accelerator.count, one.config.tensor), (Some(2.0), None));
        assert_eq!((one.dims.layers, one.config.max_num_seqs), (None, None));
        assert_eq!(evidence.goals.tpot_s, None, "goals that nobody wrote are no promise");
    }
}
