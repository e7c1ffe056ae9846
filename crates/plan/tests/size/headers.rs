//! A configuration with what headers and indexes say: exact bytes, what runtimes leave out, and architectures that
//! nobody here knows.

use std::fmt::Write as _;

use pilotage_plan::size::facts::Evidence;
use pilotage_plan::size::read::safetensors::header;
use pilotage_plan::size::{Config, Format, Index, Partial, Quantization, Tensors};
use serde_json::{Value, json};

fn config(change: impl FnOnce(&mut Value)) -> Config {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10,
        "torch_dtype": "bfloat16", "tie_word_embeddings": false,
    });
    change(&mut config);
    Config::parse(config.to_string().as_bytes()).unwrap()
}

/// A header with tensors of 16 bits, of those names and elements.
fn tensors(of: &[(&str, u64)]) -> Tensors {
    let (mut text, mut at) = ("{".to_owned(), 0);
    for (name, elements) in of {
        let end = at + 2 * elements;
        let comma = if at > 0 { "," } else { "" };
        write!(
            text,
            r#"{comma}"{name}":{{"dtype":"BF16","shape":[{elements}],"data_offsets":[{at},{end}]}}"#
        )
        .unwrap();
        at = end;
    }
    text.push('}');
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.as_bytes());
    match header(&file).unwrap() {
        Partial::Done(tensors) => tensors,
        Partial::Needs { end } => panic!("needs {end}"),
    }
}

const MODEL: [(&str, u64); 9] = [
    ("model.embed_tokens.weight", 80),
    ("lm_head.weight", 80),
    ("model.layers.0.self_attn.q_proj.weight", 64),
    ("model.layers.0.self_attn.k_proj.weight", 32),
    ("model.layers.0.self_attn.o_proj.weight", 64),
    ("model.layers.0.mlp.down_proj.weight", 384),
    ("model.layers.1.mlp.up_proj.weight", 560),
    ("model.layers.1.input_layernorm.weight", 8),
    ("model.layers.2.mlp.up_proj.weight", 1000),
];

#[test]
fn headers_are_exact() {
    let facts = config(|_| {}).facts_with(&tensors(&MODEL)).unwrap();
    assert_eq!((facts.known_from, facts.format), (Evidence::Headers, Format::Safetensors));
    let weights = facts.weights;
    assert_eq!((weights.embeddings, weights.head), (160, 160));
    assert_eq!((weights.key_value, weights.replicated), (64, 16));
    // A layer beyond the second, which predicts further tokens, is not loaded.
    assert_eq!(weights.divided, 2 * (64 + 64 + 384 + 560));
}

#[test]
fn weights_that_are_not_all_there_are_refused() {
    let check = |tensors: &Tensors, expect: &str| {
        let error = config(|_| {}).facts_with(tensors).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&tensors(&MODEL[..1]), "have 5 % of the 1352 parameters");
    check(&tensors(&MODEL[..1]), "missing: 2 of 2 layers, first layer 0, the output head");
    check(&tensors(&MODEL[2..]), "missing: the embeddings, the output head");
    let upper = [&MODEL[..2], &MODEL[6..]].concat();
    check(&tensors(&upper), "missing: 1 of 2 layers, first layer 0");
    let mut thin = MODEL;
    thin[5].1 = 100;
    check(&tensors(&thin), "parts of layers are missing");
    let packed = config(|config| {
        config["quantization_config"] =
            json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
    });
    assert!(packed.facts_with(&tensors(&MODEL)).is_ok());
}

#[test]
fn weights_that_nothing_loads_are_noticed() {
    let mut more = MODEL;
    more[5].1 = 700;
    let check = |of: &[(&str, u64)], expect: Option<u64>| {
        assert_eq!(config(|_| {}).excess(&tensors(of)), expect);
    };
    check(&MODEL, None);
    check(&more, Some(117));
    assert!(config(|_| {}).facts_with(&tensors(&more)).is_ok());
}

#[test]
fn a_tied_head_is_loaded_once() {
    let tied = config(|config| config["tie_word_embeddings"] = json!(true));
    let facts = tied.facts_with(&tensors(&MODEL)).unwrap();
    assert_eq!((facts.weights.embeddings, facts.weights.head), (160, 0));
}

#[test]
fn a_file_beside_it_says_how_weights_are_stored() {
    let mut plain: Value = serde_json::from_str(&crate::config("deepseek-v3")).unwrap();
    plain.as_object_mut().unwrap().remove("quantization_config");
    let plain = Config::parse(plain.to_string().as_bytes()).unwrap();
    let skipped: Vec<String> =
        (0..61).map(|layer| format!("model.layers.{layer}.self_attn.q_b_proj")).collect();
    let beside = json!({
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": skipped},
    });
    let facts = plain.with_quantization(beside.to_string().as_bytes()).unwrap().facts().unwrap();
    assert_eq!(facts.quantization, Quantization::Nvfp4);
    // Experts have 4.5 bits a weight, attention keeps its 16.
    let gigabytes = facts.weights.total() as f64 / 1e9;
    assert!((390.0..400.0).contains(&gigabytes), "{gigabytes}");
}

#[test]
fn an_index_says_the_total() {
    let config = config(|_| {});
    let index = r#"{"metadata":{"total_size":5000},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    let index = Index::parse(index.as_bytes()).unwrap();
    assert_eq!(index.files().collect::<Vec<_>>(), ["model-1.safetensors", "model-2.safetensors"]);
    let facts = config.facts_with(&index.as_tensors().unwrap()).unwrap();
    assert!((4990..=5000).contains(&facts.weights.total()), "{}", facts.weights.total());
    assert_eq!(facts.known_from, Evidence::Index);
    let counted = config.facts().unwrap();
    let share = |weights: u64, total: u64| weights as f64 / total as f64;
    let before = share(counted.weights.divided, counted.weights.total());
    let after = share(facts.weights.divided, facts.weights.total());
    assert!((before - after).abs() < 0.01);
}

#[test]
fn an_architecture_that_is_not_known_is_sized_by_its_tensors() {
    let config = config(|config| config["model_type"] = json!("tomorrow"));
    let error = config.facts().unwrap_err().to_string();
    assert!(error.contains("num_hidden_layers") && error.contains("index or headers"), "{error}");
    let facts = config.facts_with(&tensors(&MODEL)).unwrap();
    assert_eq!(facts.weights.divided, 2 * (64 + 64 + 384 + 560));
    assert_eq!(facts.kv_bytes_per_token(2.0), 2.0 * 8.0 * 2.0);
    assert_eq!(facts.layers.len(), 2);
}
