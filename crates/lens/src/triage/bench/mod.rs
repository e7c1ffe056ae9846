//! Evidence from the result files of a benchmark alone: what a server can be seen to do from outside.
//!
//! How many places its batch has is nowhere in such a file, and can be seen all the same: while
//! requests wait, the number of answers being generated stays at it.

mod file;
mod outline;

use pilotage_core::Span;

use super::Evidence;
use super::evidence::{Lasted, Replica, Run};

pub use file::{BenchError, FILES_MAX, REQUESTS_MAX, ResultFile, TEXT_BYTES_MAX, parse};
pub use outline::outline;

/// Share of the time with requests waiting in which as many answers are generated as ever, where their
/// number has a lid. The rest is the moment between an answer's end and the next one's first token.
const LID_MIN: f64 = 0.8;

/// Places are taken for as much of the time where something waits and no times of single requests are
/// known.
const TAKEN_MIN: f64 = 0.9;

/// Runs whose lengths differ by less are of one workload.
const LENGTHS_DIFFER_MAX: f64 = 0.1;

/// A rate is higher from half as much again on.
const RATE_HIGHER: f64 = 1.5;

/// What the files of one server say, in any order.
pub fn evidence(files: &[ResultFile]) -> Evidence {
    let mut runs: Vec<Run> = files.iter().take(FILES_MAX).map(outline).collect();
    // A run without a rate sent all it had at once, or as much as its client allowed itself.
    let rate = |run: &Run| run.rate.unwrap_or(f64::INFINITY);
    runs.sort_by(|left, right| rate(left).total_cmp(&rate(right)));
    let quickest: Vec<Option<f64>> = runs.iter().map(|run| alone(run, &runs)).collect();
    for (run, quickest) in runs.iter_mut().zip(quickest) {
        run.ttft_alone_s = quickest;
        let waited = run.ttft_s.zip(quickest).map(|(ttft, alone)| (ttft - alone).max(0.0));
        run.waiting = run.rps.zip(waited).map(|(rps, waited)| rps * waited).or(run.waiting);
    }
    let waiting = |run: &Run| run.waiting.unwrap_or(0.0);
    let busiest = runs.iter().max_by(|left, right| waiting(left).total_cmp(&waiting(right)));
    let slots = runs.iter().filter_map(slots).reduce(f64::max);
    let replicas = busiest.map(|run| replica(run, slots)).into_iter().collect();
    let window = busiest.and_then(|run| run.seconds).map(|s| Span::from_nanos((s * 1e9) as u64));
    Evidence { window, replicas, runs, ..Evidence::default() }
}

/// What a first token takes alone: what the quickest took of any run with prompts as long. Where all wait, one run
/// does not show it.
fn alone(run: &Run, runs: &[Run]) -> Option<f64> {
    let alike = runs.iter().filter(|other| near(run.input, other.input));
    let alike = alike.filter_map(|other| other.ttft_alone_s);
    alike.chain(run.ttft_alone_s).reduce(f64::min)
}

/// How many more answers for each second the busiest run of a workload had than the one before it, as
/// a share; none where there are no two runs at rates that differ.
pub fn growth_at_higher_rates(runs: &[Run]) -> Option<f64> {
    let last = runs.iter().rev().find(|run| run.rate.is_some())?;
    let alike = |run: &&Run| {
        near(run.input, last.input)
            && near(run.output, last.output)
            && run.rate.zip(last.rate).is_some_and(|(less, more)| more >= less * RATE_HIGHER)
    };
    let before = runs.iter().rev().find(alike)?;
    super::evidence::ratio(last.rps, before.rps).map(|growth| growth - 1.0)
}

fn near(left: Option<f64>, right: Option<f64>) -> bool {
    left.zip(right)
        .is_some_and(|(left, right)| (left - right).abs() <= LENGTHS_DIFFER_MAX * left.max(right))
}

/// The places that a run lets infer; none where nothing waited for one, or the client itself sent no
/// more.
fn slots(run: &Run) -> Option<f64> {
    let is_waiting = run.waiting.is_some_and(|waiting| waiting >= 1.0);
    let seen = match (run.lid, run.decoding_max) {
        (Some(lid), Some(most)) => (lid >= LID_MIN).then_some(most),
        _ => running(run).map(f64::ceil).filter(|most| running(run) >= Some(most * TAKEN_MIN)),
    };
    seen.filter(|seen| is_waiting && run.concurrency.is_none_or(|allowed| allowed > *seen))
}

/// Requests in the batch: those whose answer is generated, and those whose prompt is computed.
fn running(run: &Run) -> Option<f64> {
    let prompts = run.rps.zip(run.ttft_alone_s).map_or(0.0, |(rps, alone)| rps * alone);
    run.decoding.map(|decoding| decoding + prompts)
}

/// The server, as far as a run shows it.
fn replica(run: &Run, slots: Option<f64>) -> Replica {
    let mut replica = Replica { name: "server".to_owned(), ..Replica::default() };
    let each = |of: Option<f64>| of.zip(run.completed).map(|(of, count)| of * count);
    let timed = |mean: Option<f64>| Lasted { seconds: each(mean), count: mean.and(run.completed) };
    replica.gauges.running =
        running(run).map(|running| slots.map_or(running, |most| running.min(most)));
    replica.gauges.waiting = run.waiting;
    replica.gauges.slots_seen = slots;
    replica.deltas.requests = run.completed;
    replica.deltas.prompt_tokens = each(run.input);
    replica.deltas.generation_tokens = each(run.output);
    replica.times.ttft = timed(run.ttft_s);
    replica.times.prefill = timed(run.ttft_alone_s);
    let queue = run.ttft_s.zip(run.ttft_alone_s).map(|(ttft, alone)| (ttft - alone).max(0.0));
    replica.times.queue = timed(queue);
    replica.times.tpot = timed(run.tpot_s);
    let gaps = run.output.map(|output| (output - 1.0).max(0.0));
    replica.times.decode = timed(run.tpot_s.zip(gaps).map(|(tpot, gaps)| tpot * gaps));
    replica
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::lab;
    use super::super::{Verdict, triage};
    use super::*;

    fn verdict(text: &[String]) -> (Option<&'static str>, Evidence) {
        let files: Vec<ResultFile> = text.iter().flat_map(|text| parse(text).unwrap()).collect();
        let evidence = evidence(&files);
        let id = match triage(&evidence).verdict {
            Verdict::Found { id, .. } => Some(id),
            _ => None,
        };
        (id, evidence)
    }

    #[test]
    fn places_are_found_from_a_file_alone() {
        for run in lab::RUNS {
            let (id, evidence) = verdict(&[lab::file(run, &lab::DETAILED)]);
            let expect = run.is_bound.then_some("S01");
            assert_eq!(id, expect, "{run:?} {:?}", evidence.runs);
            if run.is_bound {
                assert_eq!(evidence.replicas[0].gauges.slots_seen, Some(4.0), "{run:?}");
            }
        }
    }

    #[test]
    fn the_fix_is_more_places() {
        let file = lab::file(&lab::RUNS[3], &lab::DETAILED);
        let files: Vec<ResultFile> = parse(&file).unwrap();
        let report = triage(&evidence(&files));
        let changes = &report.findings[0].fix.changes;
        assert!(changes.iter().any(|change| change.text == "--max-num-seqs 16"), "{changes:?}");
        assert!(report.usable.notes.iter().any(|note| note.what.contains("faster than")));
    }

    #[test]
    fn a_clients_own_limit_is_no_place_of_the_servers() {
        let limits = lab::Client { concurrency: Some(4), ..lab::DETAILED };
        let (id, evidence) = verdict(&[lab::file(&lab::RUNS[3], &limits)]);
        assert_eq!(evidence.replicas[0].gauges.slots_seen, None);
        assert_ne!(id, Some("S01"));
    }

    #[test]
    fn several_rates_show_the_plateau() {
        let files: Vec<String> =
            lab::RUNS[..4].iter().map(|run| lab::file(run, &lab::DETAILED)).collect();
        let (id, evidence) = verdict(&files);
        assert_eq!(id, Some("S01"));
        assert!(growth_at_higher_rates(&evidence.runs).unwrap() < 0.05);
        // What a prompt takes is seen where nobody waits, and holds where all do.
        let prefill = &evidence.replicas[0].times.prefill;
        assert!(prefill.seconds.unwrap() / prefill.count.unwrap() < 0.1, "{prefill:?}");
        assert_eq!(growth_at_higher_rates(&evidence.runs[..1]), None);
    }

    #[test]
    fn sums_alone_do_as_well_when_requests_wait() {
        let sums = lab::Client { is_detailed: false, ..lab::DETAILED };
        let (id, evidence) = verdict(&[lab::file(&lab::RUNS[3], &sums)]);
        assert_eq!(id, Some("S01"), "{:?}", evidence.runs);
        let (id, _) = verdict(&[lab::file(&lab::RUNS[0], &sums)]);
        assert_eq!(id, None);
    }

    #[test]
    fn no_files_are_no_evidence() {
        assert_eq!(evidence(&[]), Evidence::default());
        assert!(matches!(triage(&evidence(&[])).verdict, Verdict::NotEnough { .. }));
    }
}
