//! What scenario files come to, and what is said of wrong ones.

use super::*;

fn read(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::read("a.yaml", text, None, &|file| Err(format!("no file {file}")))
}

const GOOD: &str = "name: good
tenants:
- { name: org, weight: 2 }
- { name: team, parent: org, count: 3, skew: 1 }
workloads:
- seconds: 100
  arrivals: { uniform: { perSecond: 10 } }
  requests:
  - { tenant: team, input: 10, output: 20 }
seconds: 50
";

#[test]
fn groups_become_tenants_and_arrivals_are_cut() {
    let scenario = read(GOOD).unwrap();
    let names: Vec<&str> = scenario.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["org", "team-1", "team-2", "team-3"]);
    assert_eq!(scenario.arrivals.len(), 500);
    let count = |at: u32| scenario.arrivals.iter().filter(|one| one.tenant == at).count();
    assert!(count(1) > count(2) && count(2) > count(3) && count(0) == 0);
    assert_eq!(scenario.engine.name, "a10g-llama2-7b");
}

/// What is changed in a good scenario, into what, and what is said of it.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("seconds: 50", "seconds: much", "a.yaml:10: seconds: invalid floating point"),
    (
        "skew: 1",
        "skrew: 1",
        "a.yaml:4: tenants[1].skrew: unknown field `skrew`; did you mean `skew`? (known: name, parent, weight, guaranteed, borrowingLimit, lendingLimit, band, quota, deadlineSeconds, answerBySeconds, patienceSeconds, count, skew)",
    ),
    (
        "weight: 2",
        "weight: 0",
        "a.yaml:3: tenants.org.weight: 0 is out of range; write a number from 0.001 to 1000000",
    ),
    ("parent: org", "parent: orc", "a.yaml:4: tenants: there is no tenant `orc` to be the parent"),
    (
        "tenant: team,",
        "tenant: tame,",
        "a.yaml:6: workloads[0]: there is no tenant `tame`, use one of: org, team-1, team-2, team-3",
    ),
    (
        "perSecond: 10",
        "perSecond: -1",
        "a.yaml:6: workloads[0]: `perSecond` is -1, but must be above zero and at most 1000000",
    ),
    (
        "seconds: 50",
        "scaling: { min: 20 }",
        "a.yaml:10: scaling: `min` is 20, write a number from 0 to 12",
    ),
    (
        "seconds: 50",
        "scaling: { spot: { noticeSeconds: -1 } }",
        "a.yaml:10: scaling.spot.noticeSeconds: -1 is out of range; write a number from 0 to 3600",
    ),
    (
        "seconds: 50",
        "engine: { preset: h100 }",
        "a.yaml:10: engine.preset: no engine `h100` (known: a10g-llama2-7b, a100-llama2-13b, vllm-like)",
    ),
    (
        "seconds: 50",
        "engine: { stepMs: -1 }",
        "a.yaml:10: engine.stepMs: -1 is out of range; write a number from 0 to 1000000000",
    ),
    (
        "seconds: 50",
        "replicas: 0",
        "a.yaml:10: replicas: 0 is out of range; write a number from 1 to 1000",
    ),
    (
        "seconds: 50",
        "trace: { file: x.csv, format: vtc }",
        "a.yaml:10: trace: x.csv: no file x.csv",
    ),
    (
        "seconds: 50",
        "faults: [{ at: 1, seconds: 2, replica: 3, kind: down }]",
        "a.yaml:10: faults.replica: 3 is out of range; write a number from 0 to 0",
    ),
    (
        "seconds: 50",
        "scheduler: { policy: lottery }",
        "a.yaml:10: scheduler.policy: unknown variant `lottery` (known: vtc, fcfs)",
    ),
    (
        "name: good",
        "title: good",
        "a.yaml:1: title: unknown field `title` (known: name, description, seed, seconds, engine, replicas, scheduler, scaling, tenants, workloads, trace, faults, measure)",
    ),
    (
        "name: team",
        "name: org-1 }\n- { name: org",
        "a.yaml:5: tenants.org-1: the name is taken, give each tenant its own",
    ),
    (
        "count: 3",
        "guaranteed: 2",
        "a.yaml:4: tenants.team.guaranteed: 2 is out of range; write a number from 0 to 1",
    ),
];

#[test]
fn mistakes_have_their_line_and_field() {
    for (from, to, expect) in MISTAKES {
        assert!(GOOD.contains(from), "{from}");
        let error = read(&GOOD.replace(from, to)).unwrap_err().to_string();
        assert_eq!(error, *expect);
    }
}
