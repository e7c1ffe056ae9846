//! The VTC paper's suites, simulated: they come out as they were measured, within tolerances, or are
//! known not to.

#![expect(clippy::unwrap_used, reason = "a test harness")]

use pilotage_sim::published::{PUBLISHED, Published};
use pilotage_sim::{Options, Scenario, outcome, run, scenario};

fn scenario(name: &str) -> Scenario {
    let text = scenario::find(name).unwrap().text;
    Scenario::read(name, text, None, &|file| Err(file.to_owned())).unwrap()
}

fn check(published: &Published) {
    let scenario = scenario(published.scenario);
    let run = run(&scenario, Options::default(), &mut |_, _| {});
    for found in published.compare(&scenario, &run) {
        let Some(holds) = found.holds else { continue };
        // Both ways: what is listed as apart and comes out after all has to leave the list.
        let expect = !published.is_apart(&found.measure);
        assert_eq!(holds, expect, "{}: {found:?}", published.scenario);
    }
}

#[test]
fn the_real_trace_comes_out() {
    PUBLISHED.iter().filter(|one| one.scenario.contains("/real-")).for_each(check);
}

#[test]
fn synthetic_suites_come_out() {
    PUBLISHED.iter().filter(|one| !one.scenario.contains("/real-")).for_each(check);
}

/// Who limits most is most equal and serves least; fair queueing is more equal than none.
#[test]
fn schedulers_are_ordered_as_published() {
    let difference = |name: &str| {
        let scenario = scenario(name);
        let run = run(&scenario, Options::default(), &mut |_, _| {});
        outcome::fairness(&scenario, &run).difference.mean
    };
    let names = ["vtc/real-fcfs", "vtc/real-lcf", "vtc/real-vtc", "vtc/real-rpm5"];
    let differences = names.map(difference);
    assert!(differences.is_sorted_by(|one, next| one > next), "{differences:?}");
}

#[test]
fn as_many_are_accepted_as_published() {
    let check = |name: &str, expect: usize| {
        let scenario = scenario(name);
        let run = run(&scenario, Options::default(), &mut |_, _| {});
        let served = outcome::served(&scenario, &run);
        let served = served.iter().filter(|one| one.first_token.is_some()).count();
        assert!(served.abs_diff(expect) <= 1, "{name}: {served}");
    };
    check("vtc/real-rpm5", 581);
    check("vtc/real-rpm10", 900);
    check("vtc/real-rpm15", 1053);
    check("vtc/real-rpm20", 1158);
    check("vtc/real-rpm30", 1324);
}
