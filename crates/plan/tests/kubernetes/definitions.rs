//! The resource definitions: structural, bounded, and of one mind with the parser of manifests.

use pilotage_plan::{Kind, crd, manifest, parse_all};
use serde_json::Value;

use crate::structural;

/// Specs that are right or wrong by themselves, for the parser here and for the definitions in the
/// end-to-end tests, which evaluate their rules.
const SPECS: &str = include_str!("specs.yaml");

/// The sections of [`SPECS`]: whether it is right, what it tries, the document.
fn sections() -> impl Iterator<Item = (bool, &'static str, &'static str)> {
    SPECS.split("\n#### ").skip(1).map(|section| {
        let (head, text) = section.split_once('\n').unwrap();
        let (verdict, what) = head.split_once(' ').unwrap();
        assert!(["good", "bad"].contains(&verdict), "{head}");
        (verdict == "good", what, text)
    })
}

#[test]
fn they_are_structural() {
    for kind in Kind::ALL {
        assert_eq!(structural::faults(&crd::schema(kind)), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn every_rule_has_its_place() {
    for kind in Kind::ALL {
        let schema = crd::schema(kind).to_string();
        for rule in crd::rules::rules(kind) {
            let text = serde_json::to_string(&rule.rule).unwrap();
            assert!(schema.contains(&text), "{kind}: `{}` is nowhere", rule.rule);
        }
    }
}

#[test]
fn the_parser_agrees_with_the_table() {
    let mut count = (0, 0);
    let mut wrong = Vec::new();
    for (is_good, what, text) in sections() {
        match (is_good, parse_all([("f.yaml", text)])) {
            (true, Ok(_)) => count.0 += 1,
            (false, Err(_)) => count.1 += 1,
            (true, Err(errors)) => wrong.push(format!("{what}: {}", manifest::join(&errors))),
            (false, Ok(_)) => wrong.push(format!("{what}: the parser takes it")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count.0 >= 12 && count.1 >= 40, "{count:?}");
}

/// Every field of the parser's schemas is in the definitions with a description.
#[test]
fn no_field_is_lost() {
    fn count(schema: &Value) -> usize {
        let below = |(_, field): (&String, &Value)| {
            assert!(field["description"].is_string(), "{field}");
            1 + count(field)
        };
        let fields = schema["properties"].as_object().into_iter().flatten().map(below);
        let own: usize = fields.sum();
        let items = schema.get("items").map_or(0, count);
        own + items
    }
    fn count_manifest(schema: &Value) -> usize {
        let inner = schema["anyOf"].as_array().and_then(|any| any.first()).unwrap_or(schema);
        let fields = inner["properties"].as_object().into_iter().flatten();
        let own: usize = fields.map(|(_, field)| 1 + count_manifest(field)).sum();
        own + inner.get("items").map_or(0, count_manifest)
    }
    for kind in Kind::ALL {
        let ours = count_manifest(&kind.spec_schema().to_value());
        assert_eq!(count(&crd::schema(kind)["properties"]["spec"]), ours, "{kind}");
    }
}

/// `deploy/` is what the program says today; `pilotage reference --deploy deploy` writes it.
#[test]
fn what_is_checked_in_is_up_to_date() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for (name, text) in pilotage_plan::render::kubernetes::helm::files() {
        let there = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(there == text, "deploy/{name} is not what the program says today");
    }
}

/// What `kubectl get` shows is a field that there is, of the type that the column says.
#[test]
fn columns_are_fields() {
    let mut shorts = Vec::new();
    for kind in Kind::ALL {
        let definition = crd::crd(kind);
        let names = &definition["spec"]["names"];
        assert_eq!(names["categories"], serde_json::json!(["pilotage"]), "{kind}");
        shorts.push(names["shortNames"][0].as_str().unwrap().to_owned());
        let version = &definition["spec"]["versions"][0];
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        for column in columns.iter().filter(|one| one["type"] != "date") {
            let path = column["jsonPath"].as_str().unwrap();
            let mut field = &version["schema"]["openAPIV3Schema"];
            // Points within brackets belong to what chooses an entry.
            let mut depth = 0;
            let words = path.split(|c| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                c == '.' && depth == 0
            });
            for word in words.filter(|word| !word.is_empty()) {
                let (name, entry) =
                    word.split_once('[').map_or((word, false), |(name, _)| (name, true));
                field = &field["properties"][name];
                field = if entry { &field["items"] } else { field };
            }
            assert_eq!(field["type"], column["type"], "{kind}: {path}");
        }
        assert_eq!(columns.last().unwrap()["jsonPath"], ".metadata.creationTimestamp");
    }
    // One word says one kind.
    shorts.sort();
    let all = shorts.len();
    shorts.dedup();
    assert_eq!((shorts.len(), all), (4, 4), "{shorts:?}");
}
