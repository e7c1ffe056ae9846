//! What is said of a deployment besides what is seen of it: its weights and its hardware.

use pilotage_lens::triage::Evidence;
use pilotage_lens::triage::evidence::Planned;
use pilotage_plan::hardware::Accelerator;

use crate::args::Triage;
use crate::cmd::plan::{facts_of, hardware};
use crate::{output, sheets};

/// The share of an accelerator's memory that vLLM takes where nobody says another.
const UTILISATION_USUAL: f64 = 0.9;

/// What the flags say.
pub(super) async fn told(args: &Triage) -> anyhow::Result<Planned> {
    let mut told = Planned::default();
    if let Some(weights) = &args.weights {
        told.dims = sheets::dims(&facts_of(weights).await?);
    }
    if let Some(text) = &args.hardware {
        let class = hardware(text)?;
        told.accelerator = sheets::sheet(&class);
        // Without a number it is how many a node usually has, which says nothing of this replica.
        let has_number = Accelerator::by_id(text).is_none();
        told.config.tensor = has_number.then_some(class.per_node.into());
    }
    if let Some(ranks) = args.tensor_parallel {
        told.config.tensor = Some(ranks.into());
    }
    Ok(told)
}

/// Takes what was told for true. Where weights and hardware were, and nothing says how much KV cache there is, it is
/// what vLLM leaves by itself.
pub(super) fn tell(evidence: &mut Evidence, told: &Planned) {
    if told.is_empty() {
        return;
    }
    evidence.tell(told);
    let mut is_assumed = false;
    for replica in &mut evidence.replicas {
        let config = &mut replica.config;
        let is_known = config.num_gpu_blocks.is_some() || config.gpu_memory_utilization.is_some();
        let would_say = replica.dims.layers.is_some() && replica.accelerator.memory_bytes.is_some();
        if would_say && !is_known {
            config.gpu_memory_utilization = Some(UTILISATION_USUAL);
            is_assumed = true;
        }
    }
    if is_assumed {
        output::note(
            "how large the KV cache is nobody says: it is reckoned as what vLLM takes by itself, 0.9 of the memory",
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use pilotage_lens::triage::triage;
    use serde_json::json;

    use super::*;
    use crate::args::{Args, Command};

    /// As Qwen2.5-7B's config.json says it.
    const QWEN: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584,
"intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
"vocab_size": 152064, "max_position_embeddings": 32768, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#;

    fn typed(more: &[&str]) -> Triage {
        let flags = ["pilotage", "triage", "--bench", "r.json"];
        let typed = Args::try_parse_from(flags.iter().chain(more)).unwrap();
        let Command::Triage(args) = typed.command else { panic!("another command") };
        *args
    }

    /// A server with four places, full, as a benchmark of it shows it.
    fn full() -> Evidence {
        let lasted = |mean: f64| json!({"seconds": mean * 170.0, "count": 170.0});
        serde_json::from_value(json!({
            "window": 100_000_000_000_u64,
            "replicas": [{
                "name": "server",
                "gauges": {"running": 3.84, "waiting": 10.0, "slots_seen": 4.0},
                "deltas": {"requests": 170.0, "prompt_tokens": 87_040.0, "generation_tokens": 21_760.0},
                "times": {"tpot": lasted(0.0181), "prefill": lasted(0.035), "queue": lasted(6.0)},
            }],
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn weights_and_hardware_say_by_how_much() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), QWEN).unwrap();
        let folder = folder.path().display().to_string();
        let config = format!("{folder}/config.json");
        let check = async |more: &[&str], expect: &str| {
            let told = told(&typed(more)).await.unwrap();
            let mut evidence = full();
            tell(&mut evidence, &told);
            let report = triage(&evidence);
            let found = report.findings.iter().find(|one| one.id == "S01").unwrap();
            let predicted = &found.fix.predicted;
            assert!(predicted.contains(expect), "{more:?}: {predicted}");
        };
        check(&[], "double again").await;
        check(&["--hardware", "rtx-4090"], "double again").await;
        check(&["--weights", &folder, "--hardware", "rtx-4090"], "times the requests").await;
        check(&["--weights", &config, "--hardware", "rtx-4090"], "then KV cache limits").await;
    }

    #[tokio::test]
    async fn a_class_has_as_many_accelerators_as_is_said() {
        let check = async |more: &[&str], expect: Option<f64>| {
            assert_eq!(told(&typed(more)).await.unwrap().config.tensor, expect, "{more:?}");
        };
        check(&["--hardware", "h100-sxm"], None).await;
        check(&["--hardware", "l4x2"], Some(2.0)).await;
        check(&["--hardware", "l4", "--tensor-parallel", "4"], Some(4.0)).await;
        assert!(told(&typed(&["--hardware", "toaster"])).await.is_err());
        assert!(told(&typed(&["--weights", "/nothing/there"])).await.is_err());
    }
}
