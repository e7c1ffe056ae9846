//! Configurations that are none: each is refused with the field's name, none is believed.

use pilotage_plan::size::{Config, ReadError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;

fn refusal(config: &Value) -> String {
    let found = Config::parse(config.to_string().as_bytes()).and_then(|config| config.facts());
    found.unwrap_err().to_string()
}

fn llama() -> Value {
    serde_json::from_str(&config("llama-3.1-8b")).unwrap()
}

#[test]
fn fields_are_named() {
    let check = |field: &str, value: Value, expect: &str| {
        let mut config = llama();
        config[field] = value;
        let error = refusal(&config);
        assert!(error.contains(expect), "{field}: {error}");
    };
    check("num_hidden_layers", json!(9_223_372_036_854_775_807_u64), "`num_hidden_layers`");
    check("num_hidden_layers", json!(null), "`num_hidden_layers` is missing");
    check("hidden_size", json!("4096"), "`hidden_size` in config.json is a text");
    check("hidden_size", json!(-4096), "which must be 1 to");
    check("num_attention_heads", json!(0), "`num_attention_heads`");
    check("num_attention_heads", json!(30), "30 heads are no multiple of 8 KV heads");
    check("vocab_size", json!(1_u64 << 62), "`vocab_size`");
    check("model_type", json!("new_thing"), "architecture `LlamaForCausalLM` is not known");
    check(
        "torch_dtype",
        json!("float3"),
        "`torch_dtype` in config.json is `float3`, which must be",
    );
    check("torch_dtype", json!(16), "`torch_dtype` in config.json is a number");
    for (method, bits) in [("gptq", 0), ("awq", -1), ("gptq", 17), ("awq", 0)] {
        let part = json!({"quant_method": method, "bits": bits, "group_size": 128});
        check("quantization_config", part, "`bits` in config.json is");
    }
    let part = json!({"quant_method": "gptq", "bits": 4, "group_size": 0});
    check("quantization_config", part, "`group_size` in config.json is 0");
    let part = json!({"quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 0, "type": "int"}}}});
    check("quantization_config", part, "`num_bits` in config.json is 0");
    check("layer_types", json!(["full_attention"]), "lists 1 layers of 32");
}

#[test]
fn mixtures_are_checked() {
    let mut config: Value = serde_json::from_str(&config("mixtral-8x7b")).unwrap();
    config["num_experts_per_tok"] = json!(9);
    assert!(refusal(&config).contains("a token goes to 9 of 8 experts"));
    config["num_local_experts"] = json!(u64::MAX);
    assert!(refusal(&config).contains("`num_local_experts`"));
}

#[test]
fn what_is_no_configuration_is_refused() {
    let check = |bytes: &[u8], expect: &str| {
        let error = Config::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(b"", "not a JSON object");
    check(b"<!doctype html>", "not a JSON object");
    check(b"[]", "it is a list");
    check(&vec![b' '; 9 << 20], "at most 8388608");
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    check(deep.as_bytes(), "not a JSON object");
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let mut config = llama();
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    ] {
        config[field] = json!(1 << 20);
    }
    config["num_hidden_layers"] = json!(1024);
    config["num_local_experts"] = json!(1 << 16);
    config["num_experts_per_tok"] = json!(1);
    let facts = Config::parse(config.to_string().as_bytes()).unwrap().facts().unwrap();
    assert!(facts.parameters > 1 << 60);
    assert!(facts.weights.total() > 1 << 60);
}

proptest! {
    #[test]
    fn no_value_panics(field in 0_usize..12, value: u64) {
        let fields = [
            "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
            "intermediate_size", "vocab_size", "sliding_window", "num_experts", "kv_lora_rank",
            "max_position_embeddings", "num_kv_shared_layers",
        ];
        let mut config = llama();
        config[fields[field]] = json!(value);
        let read = Config::parse(config.to_string().as_bytes()).unwrap().facts();
        let known = matches!(read, Ok(_) | Err(ReadError::OutOfRange { .. } | ReadError::Missing { .. } | ReadError::Contradiction { .. }));
        prop_assert!(known);
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = Config::parse(text.as_bytes()).map(|config| config.facts());
    }
}
