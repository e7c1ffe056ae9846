//! What `quantization_config` says: each tool has its own words for how weights are stored.

use serde_json::Value;

use super::super::quantization::Quantization;
use super::ReadError;
use super::fields::Fields;
use super::mixer::narrow;
use super::parameters::Stored;

/// Weights that share a scale where a whole row does.
const ROW: u32 = 1 << 16;

/// Bits that are believed.
const BITS_MAX: u64 = 16;

/// Reads the configuration's part, or that nothing is quantised.
pub(super) fn read(fields: &Fields<'_>, layers: usize) -> Result<Stored, ReadError> {
    let Some(part) = fields.object(&["quantization_config", "compression_config"]) else {
        return Ok(Stored::default());
    };
    let quantization = method(&part)?;
    let experts_only = quantization == Quantization::Mxfp4;
    let skipped = skipped(&part);
    Ok(Stored {
        attention: !experts_only && !skips(&skipped, &["attn"], layers),
        dense: !experts_only && !skips(&skipped, &["down_proj"], layers),
        head: !skipped.iter().any(|name| name.contains("lm_head")) && quantises_head(&part),
        quantization,
    })
}

fn method(part: &Fields<'_>) -> Result<Quantization, ReadError> {
    let name = part.text(&["quant_method"]).unwrap_or_default().to_ascii_lowercase();
    let bits = || bits(part, &["bits", "w_bit"], 4);
    Ok(match name.as_str() {
        "fp8" | "fbgemm_fp8" => Quantization::Fp8 { block: block(part) },
        "awq" => Quantization::Awq { bits: bits()?, group: group(part)? },
        "gptq" | "gptqmodel" | "auto-round" | "intel/auto-round" => {
            Quantization::Gptq { bits: bits()?, group: group(part)? }
        }
        "mxfp4" => Quantization::Mxfp4,
        "bitsandbytes" => {
            let four = part.flag(&["load_in_4bit", "_load_in_4bit"]).unwrap_or(false);
            Quantization::BitsAndBytes { bits: if four { 4 } else { 8 } }
        }
        "compressed-tensors" => compressed(part)?,
        "modelopt" | "modelopt_fp4" => algorithm(part),
        _ => Quantization::Other { name: name.chars().take(40).collect() },
    })
}

/// NVIDIA's model optimiser names an algorithm.
fn algorithm(part: &Fields<'_>) -> Quantization {
    let name = part.text(&["quant_algo"]).unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "NVFP4" => Quantization::Nvfp4,
        "MXFP4" => Quantization::Mxfp4,
        "FP8" => Quantization::Fp8 { block: None },
        _ => Quantization::Other { name: name.chars().take(40).collect() },
    }
}

/// compressed-tensors has groups of layers; the first says what most are.
fn compressed(part: &Fields<'_>) -> Result<Quantization, ReadError> {
    let groups = part.object(&["config_groups"]);
    let first = groups.and_then(|groups| groups.values().find_map(Value::as_object));
    let Some(first) = first else {
        return Ok(Quantization::Other { name: "compressed-tensors".into() });
    };
    let first = Fields::new(part.what(), first);
    let Some(weights) = first.object(&["weights"]) else {
        return Ok(Quantization::None);
    };
    let bits = bits(&weights, &["num_bits"], 8)?;
    let float = weights.text(&["type"]) == Some("float");
    let packed = part.text(&["format"]).is_some_and(|format| format.contains("pack"));
    Ok(match (bits, float) {
        (8, true) => Quantization::Fp8 { block: None },
        (4, true) => Quantization::Nvfp4,
        (8, false) if !packed => Quantization::Int8,
        _ => Quantization::Packed { bits, group: group(&weights)? },
    })
}

fn bits(part: &Fields<'_>, names: &[&str], usual: u32) -> Result<u32, ReadError> {
    Ok(part.positive(names, BITS_MAX)?.map_or(usual, narrow))
}

/// Weights that share a scale; -1 says that a whole row does.
fn group(part: &Fields<'_>) -> Result<u32, ReadError> {
    let names = ["group_size", "q_group_size"];
    if part.get(&names).is_some_and(|(_, value)| value.as_i64() == Some(-1)) {
        return Ok(ROW);
    }
    Ok(part.positive(&names, u64::from(ROW))?.map_or(ROW, narrow))
}

fn block(part: &Fields<'_>) -> Option<u32> {
    let edge = part.list(&["weight_block_size"])?.first()?.as_u64()?;
    u32::try_from(edge).ok().filter(|edge| (1..=ROW).contains(edge))
}

/// Names of modules that stay as they were.
fn skipped<'a>(part: &Fields<'a>) -> Vec<&'a str> {
    let names = [
        "modules_to_not_convert",
        "ignored_layers",
        "ignore",
        "exclude_modules",
        "llm_int8_skip_modules",
    ];
    part.list(&names).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a kind of module is skipped in half the layers or more: a few at the ends often are.
fn skips(skipped: &[&str], parts: &[&str], layers: usize) -> bool {
    let named = skipped.iter().filter(|name| parts.iter().any(|part| name.contains(part)));
    let named = named.filter(|name| !name.contains("norm"));
    let mut single = std::collections::BTreeSet::new();
    for name in named {
        match layer_of(name) {
            Some(layer) => {
                single.insert(layer);
            }
            None => return true,
        }
    }
    single.len() * 2 >= layers.max(1)
}

/// The number after `layers.` in a module's name.
fn layer_of(name: &str) -> Option<usize> {
    let rest = &name[name.find("layers.")? + "layers.".len()..];
    rest.split('.').next()?.parse().ok()
}

/// Whether the output head is quantised with the rest; few tools do unless told.
fn quantises_head(part: &Fields<'_>) -> bool {
    part.flag(&["lm_head", "quantize_lm_head"]).unwrap_or(false)
}
