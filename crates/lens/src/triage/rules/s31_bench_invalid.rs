//! A benchmark measured its own client.

use super::{Case, Facts, Fix, Miss, Outcome, Rule, Severity, Tier, above, below, ratio};
use crate::triage::evidence::Run;

pub(super) const RULE: Rule = Rule {
    id: "S31",
    name: "bench_invalid",
    title: "the benchmark measured its own client",
    severity: Severity::Critical,
    tier: Tier::Invalid,
    explains: &[],
    masks: &["S01", "S06", "S07"],
    refuted_by: "a run with a second client beside it has the same numbers",
    check,
};

/// Waiting in the client above this, and above a twentieth of the median time to the first token, is
/// part of what was measured, or rather of what was left out.
const DELAY_MIN_S: f64 = 0.01;
const DELAY_OF_TTFT: f64 = 0.05;

/// A client this busy is late with everything.
const CPU_MIN: f64 = 0.8;

/// Less than this of what was meant to be sent was sent, give or take two standard deviations of what
/// chance sends in a run of that many (a Poisson process).
const SENT_MAX: f64 = 0.98;

/// Fewer answers than this give no mean: with times that vary as much as they are long, it is known
/// to 1.96 / √20, nearly half.
const ANSWERS_MIN: f64 = 20.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let runs = &facts.evidence.runs;
    if runs.is_empty() {
        return Err(Miss::Unknown("a benchmark's result"));
    }
    let judged: Vec<Outcome> = runs.iter().map(|run| judge(facts, run)).collect();
    let found = judged.iter().position(Result::is_ok);
    let unknown = judged.iter().position(|one| matches!(one, Err(Miss::Unknown(_))));
    let at = found.or(unknown).unwrap_or(0);
    judged.into_iter().nth(at).unwrap_or(Err(Miss::Fine))
}

fn judge(facts: &Facts<'_>, run: &Run) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let least = run.ttft_p50_s.map_or(DELAY_MIN_S, |ttft| (ttft * DELAY_OF_TTFT).max(DELAY_MIN_S));
    // Where a client sends all at once into a limit of its own, waiting for it is the method.
    let delay = run.delay_p99_s.filter(|_| run.rate.is_some() || run.concurrency.is_none());
    let chance = run.completed.map_or(0.0, |answers| 2.0 / answers.max(1.0).sqrt());
    let sent = ratio(run.sent_rate, run.rate);
    case.needs_any(&[
        above("waiting in the client, 99th percentile", delay, least, "s"),
        above("processors of the client", run.client_cpu, CPU_MIN, ""),
        below("sent, of what was meant to be", sent, SENT_MAX - chance, ""),
        below("answers", run.completed, ANSWERS_MIN, ""),
    ])?;
    case.is_certain();
    case.explains(Some(1.0));
    case.title(match &run.label {
        Some(label) => format!("{label} measured its own client"),
        None => RULE.title.to_owned(),
    });
    let fix = Fix::new("send from a client with time to spare, for long enough, and count from when requests were meant to be sent")
        .shell("pilotage bench run http://HOST:PORT --rate 4 --duration 300s")
        .predict("numbers that say something about the server");
    Ok(case.finding(fix))
}

#[cfg(test)]
mod tests {
    use super::super::proves;
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S34"],
            &[|evidence| evidence.runs.clear(), |evidence| evidence.runs = vec![Run::default()]],
        );
    }

    #[test]
    fn waiting_for_a_limit_of_ones_own_is_no_fault() {
        let check = |run: Run, expect: bool| {
            let evidence = crate::triage::Evidence { runs: vec![run], ..Default::default() };
            assert_eq!(check(&Facts::of(&evidence)).is_ok(), expect, "{evidence:?}");
        };
        let run = || Run { completed: Some(500.0), delay_p99_s: Some(9.0), ..Run::default() };
        check(run(), true);
        check(Run { concurrency: Some(4.0), ..run() }, false);
        check(Run { concurrency: Some(4.0), rate: Some(2.0), sent_rate: Some(2.0), ..run() }, true);
        check(Run { delay_p99_s: Some(0.2), ttft_p50_s: Some(10.0), ..run() }, false);
        check(
            Run { delay_p99_s: Some(0.0), rate: Some(10.0), sent_rate: Some(8.0), ..run() },
            true,
        );
    }
}
