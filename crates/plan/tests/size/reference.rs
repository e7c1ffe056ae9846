//! The room for a cache against what vLLM logged: each row's error is printed, and most are within
//! five percent.

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::size::memory::memory;
use pilotage_plan::size::{Config, Dtype, Memory, ModelFacts, Release, Runtime, Shape};
use serde_json::{Value, json};

use crate::{config, rows};

const REFERENCE: &str = include_str!("reference.tsv");

/// How far off a row may be without a reason in the table.
const OFF_MAX_PERCENT: f64 = 5.0;

struct Row<'a> {
    fields: Vec<&'a str>,
}

impl Row<'_> {
    fn number<T: std::str::FromStr>(&self, at: usize) -> Option<T> {
        self.fields[at].parse().ok()
    }

    fn count(&self, at: usize) -> u32 {
        self.number(at).unwrap_or_else(|| panic!("{:?}", self.fields))
    }

    fn facts(&self) -> ModelFacts {
        let mut config: Value = serde_json::from_str(&config(self.fields[1])).unwrap();
        if let Some(quantised) = quantised(self.fields[2]) {
            config["quantization_config"] = quantised;
        }
        Config::parse(config.to_string().as_bytes()).unwrap().facts().unwrap()
    }

    fn shape(&self) -> Shape {
        Shape {
            tensor: self.count(4),
            pipeline: self.count(5),
            expert_parallel: self.fields[6] == "ep",
            data: 1,
            replicas: 1,
            context: u64::from(self.count(8)),
            sequences: self.count(9),
            batch_tokens: self.count(10),
            kv_dtype: Dtype::from_name(self.fields[11]).unwrap(),
            utilisation: self.number(7).unwrap(),
            graphs: true,
        }
    }

    fn predicted(&self) -> Memory {
        let accelerator = Accelerator::by_id(self.fields[3]).unwrap();
        let runtime = Runtime::Vllm(Release(self.count(12)));
        memory(&self.facts(), &self.shape(), accelerator, runtime).unwrap()
    }
}

fn quantised(name: &str) -> Option<Value> {
    let group = |bits: u32, kind: &str, group: Value| {
        json!({"quant_method": "compressed-tensors", "format": if bits == 4 { "pack-quantized" } else { "plain" },
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {"weights": {"num_bits": bits, "type": kind, "group_size": group}}}})
    };
    match name {
        "fp8" => Some(group(8, "float", Value::Null)),
        "int8" => Some(group(8, "int", Value::Null)),
        "w4a16" => Some(group(4, "int", json!(128))),
        "-" => None,
        other => panic!("{other}"),
    }
}

/// A model's name, how far its room for tokens is off in percent, and that of its weights.
fn errors() -> Vec<(String, f64, Option<f64>, bool)> {
    let mut errors = Vec::new();
    for fields in rows(REFERENCE) {
        let row = Row { fields };
        let found = row.predicted();
        let percent = |found: f64, logged: f64| 100.0 * (found / logged - 1.0);
        const GIB: f64 = 1_073_741_824.0;
        let room = match (row.number::<f64>(15), row.number::<f64>(14)) {
            (Some(tokens), _) => percent(found.tokens.likely, tokens),
            (None, Some(cache)) => percent(found.cache_bytes as f64 / GIB, cache),
            (None, None) => panic!("{:?}", row.fields),
        };
        let weights =
            row.number::<f64>(13).map(|gib| percent(found.weights_bytes as f64 / GIB, gib));
        let name = format!(
            "{} {} {} tp{} pp{}",
            row.fields[0], row.fields[1], row.fields[3], row.fields[4], row.fields[5]
        );
        errors.push((name, room, weights, row.fields[16] != "-"));
    }
    errors
}

#[test]
#[expect(clippy::print_stdout, reason = "shown when it fails, and with --no-capture")]
fn room_is_within_five_percent_of_what_was_logged() {
    let errors = errors();
    let mut unexplained = Vec::new();
    for (name, room, weights, explained) in &errors {
        let weights = weights.map_or("-".to_owned(), |weights| format!("{weights:+.2}"));
        println!("{name:48} room {room:+7.2} %  weights {weights} %");
        if room.abs() > OFF_MAX_PERCENT && !explained {
            unexplained.push(name);
        }
    }
    let within = errors.iter().filter(|(_, room, ..)| room.abs() <= OFF_MAX_PERCENT).count();
    println!("{within} of {} rows within {OFF_MAX_PERCENT} %", errors.len());
    assert!(unexplained.is_empty(), "{unexplained:?}");
    assert!(within * 10 >= errors.len() * 9, "{within} of {}", errors.len());
}

#[test]
fn weights_are_within_two_percent_of_what_was_logged() {
    for (name, _, weights, explained) in errors() {
        let Some(weights) = weights.filter(|_| !explained) else { continue };
        assert!(weights.abs() <= 2.0, "{name}: {weights:+.2} %");
    }
}
