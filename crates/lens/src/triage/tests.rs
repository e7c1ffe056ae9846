//! Every signature is found first in its scenario and nothing where all is well, also when each
//! measure is off by up to five percent.

use std::fmt::Write as _;

use serde_json::Value;

use super::rules::RULES;
use super::scenarios::{healthy, lab, scenario};
use super::text::text;
use super::{Evidence, Report, Verdict, together, triage};

/// How often each scenario is tried with other errors of measurement.
const SEEDS: u64 = 20;

fn first(report: &Report) -> Option<&'static str> {
    match &report.verdict {
        Verdict::Found { id, .. } => Some(id),
        Verdict::NothingWrong { .. } | Verdict::NotEnough { .. } => None,
    }
}

/// The same evidence with every measure up to five percent off; what is written in settings and data
/// sheets, and what is counted one by one, is exact.
fn jittered(evidence: &Evidence, seed: u64) -> Evidence {
    const EXACT: [&str; 7] =
        ["config", "dims", "accelerator", "goals", "window", "cluster", "xids"];
    fn walk(value: &mut Value, state: &mut u64) {
        match value {
            Value::Number(number) => {
                // Knuth's MMIX generator; its upper bits are good enough for noise.
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let unit = (*state >> 11) as f64 / (1_u64 << 53) as f64;
                *value = (number.as_f64().unwrap() * (0.95 + 0.1 * unit)).into();
            }
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, state)),
            Value::Object(fields) => {
                let measured =
                    fields.iter_mut().filter(|(name, _)| !EXACT.contains(&name.as_str()));
                measured.for_each(|(_, value)| walk(value, state));
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    let mut value = serde_json::to_value(evidence).unwrap();
    let mut state = seed;
    walk(&mut value, &mut state);
    serde_json::from_value(value).unwrap()
}

#[test]
fn each_signature_comes_first_in_its_scenario() {
    for rule in RULES {
        let report = triage(&scenario(rule.id));
        let found: Vec<&str> = report.findings.iter().map(|finding| finding.id).collect();
        assert_eq!(first(&report), Some(rule.id), "{found:?}");
    }
}

#[test]
fn nothing_is_wrong_where_all_is_well() {
    let report = triage(&healthy());
    assert_eq!(report.findings, []);
    assert!(
        matches!(report.verdict, Verdict::NothingWrong { judged } if judged > 25),
        "{:?}",
        report.verdict
    );
}

/// The same evidence with a fifth of what replicas and the gateway measured unknown.
fn forgetful(evidence: &Evidence, seed: u64) -> Evidence {
    fn walk(value: &mut Value, draws: &mut u64) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, draws)),
            Value::Object(fields) => {
                for field in fields.values_mut() {
                    *draws = draws
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    if field.is_number() && (*draws >> 33).is_multiple_of(5) {
                        *field = Value::Null;
                    }
                    walk(field, draws);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut replicas = serde_json::to_value(&evidence.replicas).unwrap();
    let mut phases = serde_json::to_value(&evidence.gateway.phases).unwrap();
    let mut draws = seed;
    walk(&mut replicas, &mut draws);
    walk(&mut phases, &mut draws);
    let mut forgotten = evidence.clone();
    forgotten.replicas = serde_json::from_value(replicas).unwrap();
    forgotten.gateway.phases = serde_json::from_value(phases).unwrap();
    forgotten
}

#[test]
fn what_is_unknown_accuses_nobody() {
    for seed in 0..10 * SEEDS {
        let mut evidence = forgetful(&healthy(), seed);
        let found = |evidence: &Evidence| -> Vec<&'static str> {
            triage(evidence).findings.iter().map(|finding| finding.id).collect()
        };
        assert_eq!(found(&evidence), Vec::<&str>::new(), "seed {seed}");
        evidence.gateway = Default::default();
        assert_eq!(found(&evidence), Vec::<&str>::new(), "seed {seed} without a gateway");
    }
}

#[test]
fn causes_come_before_what_follows_from_them() {
    let check = |id: &str, change: &dyn Fn(&mut Evidence), expect: &[(&str, Option<&str>)]| {
        let mut evidence = scenario(id);
        change(&mut evidence);
        let findings = triage(&evidence).findings;
        let found: Vec<_> = findings.iter().map(|one| (one.id, one.follows_from)).collect();
        assert_eq!(found, expect, "{id}");
    };
    let shed =
        |evidence: &mut Evidence| evidence.gateway.outcomes = scenario("S20").gateway.outcomes;
    check("S01", &shed, &[("S01", None), ("S20", Some("S01"))]);
    let faulty = |evidence: &mut Evidence| evidence.replicas[0].gpus[0].xids = Some(vec![79]);
    check("S01", &faulty, &[("S12", None), ("S01", None)]);
    let dead = |evidence: &mut Evidence| evidence.alerts = scenario("S34").alerts;
    check("S05", &dead, &[("S05", None), ("S34", None)]);
    let invalid = |evidence: &mut Evidence| evidence.runs = scenario("S31").runs;
    check("S01", &invalid, &[("S31", None), ("S01", Some("S31"))]);
}

#[test]
fn nothing_known_is_not_nothing_wrong() {
    let report = triage(&Evidence::default());
    assert!(matches!(&report.verdict, Verdict::NotEnough { missing } if !missing.is_empty()));
    assert_eq!(report.blind.len(), RULES.len());
}

#[test]
fn old_evidence_is_not_believed() {
    let mut evidence = scenario("S01");
    evidence.sight.age_s = Some(3600.0);
    assert!(matches!(triage(&evidence).verdict, Verdict::NotEnough { .. }));
}

#[test]
fn errors_of_measurement_change_no_verdict() {
    for seed in 0..SEEDS {
        let report = triage(&jittered(&healthy(), seed));
        assert_eq!(first(&report), None, "seed {seed}: {:?}", report.verdict);
        for rule in RULES {
            let report = triage(&jittered(&scenario(rule.id), seed));
            assert_eq!(first(&report), Some(rule.id), "seed {seed}");
        }
    }
}

/// Numbers may lose their last bit on the way through JSON, which changes nothing that is said.
#[test]
fn dumps_are_triaged_to_the_same_report() {
    for rule in RULES {
        let evidence = scenario(rule.id);
        let dump = serde_json::to_string(&evidence).unwrap();
        let again: Evidence = serde_json::from_str(&dump).unwrap();
        assert_eq!(text(&triage(&again)), text(&triage(&evidence)), "{}", rule.id);
        let report = serde_json::to_string(&triage(&evidence)).unwrap();
        assert_eq!(serde_json::to_string(&triage(&evidence)).unwrap(), report, "{}", rule.id);
    }
}

#[test]
fn servers_with_few_places_are_told_to_have_more() {
    for run in lab::RUNS {
        let evidence = Evidence {
            window: Some(pilotage_core::Span::from_secs(lab::WINDOW_S as u64)),
            replicas: vec![lab::replica(run)],
            ..Evidence::default()
        };
        let report = triage(&evidence);
        assert_eq!(first(&report) == Some("S01"), run.is_bound, "{run:?} {:?}", report.verdict);
        if run.is_bound {
            let text = &report.findings[0].fix.changes[0].text;
            assert!(text.starts_with("--max-num-seqs"), "{text}");
        }
    }
}

/// What is to be copied into manifests or typed is there to be set and called.
#[test]
fn fixes_name_what_there_is() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (manifests, commands) =
        (read("docs/reference/manifests.md"), read("docs/reference/cli.md"));
    for rule in RULES {
        let report = triage(&scenario(rule.id));
        let fix = &report.findings[0].fix;
        assert!(!fix.what.is_empty() && !fix.predicted.is_empty(), "{}", rule.id);
        for change in &fix.changes {
            for line in change.text.lines().filter(|_| change.place == "manifest") {
                let (field, _) = line.split_once(':').unwrap();
                let is_there = field == "kind" || manifests.contains(&format!("`{field}`"));
                assert!(is_there, "{}: no {field} in manifests", rule.id);
            }
            if let Some(command) = change.text.strip_prefix("pilotage ") {
                let words: Vec<&str> = command.split(' ').collect();
                let heading = format!("\n## pilotage {}", words[..2].join(" "));
                assert!(commands.contains(&heading), "{command}");
                for flag in words.iter().filter(|word| word.starts_with("--")) {
                    assert!(commands.contains(&format!("{flag} <")), "{flag}");
                }
            }
        }
    }
}

/// For the guide: how often each signature is the verdict where it should be, and where it should not.
#[test]
fn precision_and_recall_are_written_down() {
    let mut table = String::from(
        "| Signature | Scenarios | Found first | Found at all | First in others | Precision | Recall |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let runs: Vec<(&str, Report)> = RULES
        .iter()
        .map(|rule| (rule.id, scenario(rule.id)))
        .chain([("none", healthy())])
        .flat_map(|(id, evidence)| {
            (0..SEEDS).map(move |seed| (id, triage(&jittered(&evidence, seed))))
        })
        .collect();
    for rule in RULES {
        let own: Vec<&Report> =
            runs.iter().filter(|run| run.0 == rule.id).map(|run| &run.1).collect();
        let right = own.iter().filter(|report| first(report) == Some(rule.id)).count();
        let has = |report: &&&Report| report.findings.iter().any(|finding| finding.id == rule.id);
        let at_all = own.iter().filter(has).count();
        let wrong =
            runs.iter().filter(|run| run.0 != rule.id && first(&run.1) == Some(rule.id)).count();
        let precision = right as f64 / (right + wrong).max(1) as f64;
        let recall = right as f64 / own.len() as f64;
        writeln!(
            table,
            "| {} `{}` | {} | {right} | {at_all} | {wrong} | {precision:.2} | {recall:.2} |",
            rule.id,
            rule.name,
            own.len()
        )
        .unwrap();
    }
    let well: Vec<&Report> = runs.iter().filter(|run| run.0 == "none").map(|run| &run.1).collect();
    let silent = well.iter().filter(|report| first(report).is_none()).count();
    writeln!(table, "| all is well | {} | {silent} silent | | | | |", well.len()).unwrap();
    insta::assert_snapshot!("precision_and_recall", table);
}

#[test]
fn the_gravest_of_several_models_is_the_verdict_and_all_findings_are_told() {
    let well = triage(&healthy());
    // The busiest is well, and a later one is not.
    let all =
        named(&[("busy", well.clone()), ("full", report("S01")), ("hung", report("S09"))]).unwrap();
    let Verdict::Found { id, .. } = all.verdict else { panic!("{:?}", all.verdict) };
    assert_eq!((id, all.model.as_deref()), ("S09", Some("hung")));
    let told = |id: &str, model: &str| {
        all.findings.iter().any(|one| one.id == id && one.model.as_deref() == Some(model))
    };
    assert!(told("S01", "full") && told("S09", "hung"));
    let causes = all.findings.iter().position(|one| one.follows_from.is_some());
    let causes = causes.unwrap_or(all.findings.len());
    assert!(all.findings[..causes].is_sorted_by_key(|one| std::cmp::Reverse(one.severity)));
    let fine = named(&[("busy", well.clone()), ("idle", well)]).unwrap();
    assert!(matches!(fine.verdict, Verdict::NothingWrong { .. }) && fine.findings.is_empty());
    assert_eq!(named(&[]), None);
}

fn named(all: &[(&str, Report)]) -> Option<Report> {
    together(all.iter().map(|(name, one)| ((*name).to_owned(), one.clone())).collect())
}

fn report(id: &str) -> Report {
    triage(&scenario(id))
}

#[test]
fn what_several_models_share_is_told_once_and_what_each_has_of_each() {
    let models = |id: &'static str| -> Vec<Option<String>> {
        let twice = named(&[("one", report(id)), ("other", report(id))]).unwrap();
        let own = twice.findings.into_iter().filter(|one| one.id == id);
        own.map(|one| one.model).collect()
    };
    assert_eq!(models("S17"), [None]);
    assert_eq!(models("S28"), [Some("one".to_owned()), Some("other".to_owned())]);
    // More than can be told is said to be there.
    let many: Vec<(String, Report)> = (0..80)
        .map(|at| (format!("m{at}"), report("S01")))
        .chain([("hung".to_owned(), report("S09"))])
        .collect();
    let many = together(many).unwrap();
    assert_eq!((many.findings[0].id, many.findings.len()), ("S09", 64));
    assert!(many.usable.notes.iter().any(|note| note.what.ends_with("more are not shown")));
}

/// What is less likely so than not is nobody's trouble, and who has nothing to do is no reason to doubt.
#[test]
fn of_several_models_those_count_that_can_be_judged() {
    let mut unsure = report("S01");
    unsure.findings.iter_mut().for_each(|one| one.confidence = 0.4);
    let doubtful = named(&[("a", unsure.clone()), ("b", unsure.clone())]).unwrap();
    assert!(matches!(doubtful.verdict, Verdict::NothingWrong { judged } if judged > 0));
    assert!(matches!(named(&[("a", unsure)]).unwrap().verdict, Verdict::Found { .. }));
    let idle = triage(&Evidence::default());
    let one = named(&[("idle", idle.clone()), ("busy", triage(&healthy()))]).unwrap();
    assert!(matches!(one.verdict, Verdict::NothingWrong { .. }), "{:?}", one.verdict);
    assert_eq!(one.model.as_deref(), Some("busy"));
    let none = named(&[("idle", idle.clone()), ("other", idle)]).unwrap();
    assert!(matches!(none.verdict, Verdict::NotEnough { .. }), "{:?}", none.verdict);
}
