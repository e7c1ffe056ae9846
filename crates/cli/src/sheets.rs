//! What is known of a deployment before anybody looks at it, as triage takes it: dimensions from the files of its
//! weights, data sheets from the catalogue of hardware, settings and promises from manifests.

use pilotage_lens::triage::evidence::{Accelerator, Config, Dims, Goals, Planned};
use pilotage_plan::Lane;
use pilotage_plan::hardware;
use pilotage_plan::size::{Dtype, ModelFacts};

/// Bytes of a number in KV caches that nobody set to fewer.
const KV_BYTES_MAX: f64 = 2.0;

/// What a step reads, and what a sequence keeps.
///
/// Layers whose attention looks at a window count as if it were never full: proposals then leave more room than
/// they would need to.
pub(crate) fn dims(facts: &ModelFacts) -> Dims {
    let weights = &facts.weights;
    // Tied embeddings are the head; others are looked up.
    let (head, looked_up) = match weights.head {
        0 => (weights.embeddings, 0),
        head => (head, weights.embeddings),
    };
    let touched = facts
        .experts
        .map_or(0.0, |experts| f64::from(experts.per_token) / f64::from(experts.count.max(1)));
    let shared = weights.divided + weights.key_value + weights.replicated + head;
    let number_bytes = facts.dtype.bytes().min(KV_BYTES_MAX);
    let keeps = |layer: &&pilotage_plan::size::Layer| layer.attention.bytes_per_token(1.0) > 0.0;
    let layers = facts.layers.iter().filter(keeps).count() as f64;
    let kv_heads = f64::from(facts.kv_heads.max(1));
    // Keys and values of different width, or one vector for both, come to as much.
    let pairs = 2.0 * layers * kv_heads * number_bytes;
    let head_dim = facts.kv_bytes_per_token(number_bytes) / pairs;
    let multiplied = facts.active_parameters as f64 - looked_up as f64 / facts.dtype.bytes();
    Dims {
        parameters: Some(multiplied.max(0.0)),
        weight_bytes: Some(shared as f64 + weights.experts as f64 * touched),
        resident_bytes: Some(weights.total() as f64),
        product_bytes: Some(facts.quantization.computes_in(facts.dtype).bytes()),
        layers: Some(layers),
        kv_heads: Some(kv_heads),
        head_dim: Some(head_dim).filter(|width| width.is_finite()),
        kv_number_bytes: Some(number_bytes),
    }
}

/// What an accelerator can do.
pub(crate) fn sheet(class: &hardware::Accelerator) -> Accelerator {
    Accelerator {
        memory_bytes: Some(class.memory_bytes as f64),
        bandwidth_bytes_s: Some(class.bandwidth),
        flops: Some(class.flops_in(Dtype::Bf16)),
        flops_eight_bits: class.flops.fp8.or(class.flops.int8),
        count: None,
    }
}

/// The same of a class by its name; nothing of one that is in no catalogue.
pub(crate) fn sheet_of(class: Option<&str>) -> Accelerator {
    class.and_then(hardware::Accelerator::by_id).map(sheet).unwrap_or_default()
}

/// What manifests say of a Model: how its replicas are set where they run its weights, and what they promise. Goals
/// that nobody wrote are no promise.
pub(crate) fn planned(lane: &Lane) -> Planned {
    let seconds = |ms: Option<u32>| ms.map(|ms| f64::from(ms) / 1e3);
    let said = lane.scaling.as_ref();
    let goals = Goals {
        ttft_s: seconds(said.and_then(|said| said.ttft_ms)),
        tpot_s: seconds(said.and_then(|said| said.tpot_ms)),
    };
    let elsewhere = Config { is_elsewhere: Some(true), ..Config::default() };
    let config = lane.settings.map_or(elsewhere, |settings| Config {
        is_elsewhere: Some(false),
        max_num_seqs: Some(settings.sequences.into()),
        max_num_batched_tokens: Some(settings.step_tokens.into()),
        max_model_len: Some(lane.context_tokens.into()),
        tensor: Some(settings.tensor.into()),
        pipeline: Some(settings.pipeline.into()),
        enforce_eager: Some(settings.is_eager),
        ..Config::default()
    });
    Planned { config, goals, ..Planned::default() }
}

#[cfg(test)]
mod tests {
    use pilotage_plan::size::Config as File;

    use super::*;

    /// As Qwen2.5-7B's config.json says it.
    const QWEN: &str = r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584,
"intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
"vocab_size": 152064, "max_position_embeddings": 32768, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#;

    fn of(text: &str) -> Dims {
        dims(&File::parse(text.as_bytes()).unwrap().facts().unwrap())
    }

    #[test]
    fn a_model_is_what_its_configuration_says() {
        let dims = of(QWEN);
        assert_eq!(
            (dims.layers, dims.kv_heads, dims.head_dim),
            (Some(28.0), Some(4.0), Some(128.0))
        );
        assert_eq!((dims.kv_number_bytes, dims.product_bytes), (Some(2.0), Some(2.0)));
        // 7.62 billion parameters of two bytes, of which the input embeddings are looked up.
        let (all, read) = (dims.resident_bytes.unwrap(), dims.weight_bytes.unwrap());
        assert!((15.2e9..15.3e9).contains(&all), "{all}");
        assert!((all - read - 152_064.0 * 3584.0 * 2.0).abs() < 1e6, "{all} {read}");
    }

    #[test]
    fn classes_are_those_of_the_catalogue() {
        let l4 = sheet_of(Some("l4"));
        assert_eq!(l4.bandwidth_bytes_s, Some(300e9));
        assert!(l4.flops_eight_bits > l4.flops);
        assert_eq!(sheet_of(Some("cpu")), Accelerator::default());
        assert_eq!(sheet_of(None), Accelerator::default());
    }
}
