//! Parameters counted from configurations are those that models are published with.

use crate::{facts, rows};

const PUBLISHED: &str = include_str!("published.tsv");

#[test]
fn counts_are_those_that_are_published() {
    let mut wrong = Vec::new();
    for row in rows(PUBLISHED) {
        let [model, parameters, active, off, off_active, _] = row[..] else { panic!("{row:?}") };
        let facts = facts(model);
        let published = [parameters, active].map(|number| number.parse::<f64>().unwrap());
        let counted = [facts.parameters as f64, facts.active_parameters as f64];
        let off = [off, off_active].map(|number| number.parse::<f64>().unwrap());
        for (at, what) in ["all", "active"].into_iter().enumerate() {
            let (counted, published) = (counted[at], published[at]);
            let error = 100.0 * (counted / published - 1.0);
            if error.abs() > off[at] {
                wrong.push(format!(
                    "{model}, {what}: {counted:.0} for {published:.0}, {error:+.3} %"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn caches_are_those_that_architectures_have() {
    let check = |model: &str, bytes: f64| {
        assert_eq!(facts(model).kv_bytes_per_token(2.0), bytes, "{model}");
    };
    check("llama-3.1-8b", 131_072.0);
    check("llama-3.1-70b", 327_680.0);
    check("qwen2.5-7b", 57_344.0);
    check("qwen3-30b-a3b", 98_304.0);
    check("deepseek-v3", 61.0 * (512.0 + 64.0) * 2.0);
    check("mixtral-8x7b", 131_072.0);
    check("gpt-oss-20b", 49_152.0);
    check("bert-base-uncased", 0.0);
    // One layer of ten is attention.
    check("nemotron-h-56b", 10.0 * 4096.0);
    check("jamba-v0.1", 4.0 * 4096.0);
    // Ten of forty, the others a state.
    check("qwen3.5-35b-a3b", 10.0 * 2.0 * 2.0 * 256.0 * 2.0);
}

#[test]
fn windows_bound_a_sequence() {
    let facts = facts("gemma-3-27b");
    let (short, long) =
        (facts.kv_bytes_per_sequence(1024, 2.0), facts.kv_bytes_per_sequence(131_072, 2.0));
    let pair = 16.0 * 256.0 * 2.0;
    assert_eq!(short, 62.0 * 1024.0 * pair);
    assert_eq!(long, (52.0 * 1024.0 + 10.0 * 131_072.0) * pair);
}
