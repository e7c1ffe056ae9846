//! Canaries that are as good as the others, and canaries that are not, with samples from a seed.

use super::*;
use crate::hash::mix;

/// What a model is like.
#[derive(Clone, Copy)]
struct Model {
    errors: f64,
    ttft: f64,
    tpot: f64,
    /// The part of long prompts among its requests.
    long: f64,
}

const GOOD: Model = Model { errors: 0.01, ttft: 1.0, tpot: 1.0, long: 0.2 };

struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        ((mix(self.0) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn sample(&mut self, model: &Model) -> Sample {
        let prefill = if self.unit() < model.long { 20_000 } else { 500 };
        let span = |secs: f64| Some(Span::from_nanos((secs * 1e9) as u64));
        // Times are spread by a factor of 1.6 or so.
        let ttft = model.ttft * (0.05 + prefill as f64 / 10_000.0) * (0.5 * self.normal()).exp();
        let tpot = model.tpot * 0.02 * (0.3 * self.normal()).exp();
        let failed = self.unit() < model.errors;
        let times = (span(ttft), span(tpot));
        let (ttft, tpot) = if failed { (None, None) } else { times };
        Sample { failed, prefill, input: prefill, output: 100, ttft, tpot, total: Span::ZERO }
    }
}

/// Ten requests in a second, until the end or for so many requests; also how many of the canary's there
/// were.
fn run(seed: u64, canary: &Model, baseline: &Model, requests: u32) -> (Judgement, u32) {
    let mut dice = Dice(mix(seed));
    let mut trial = Canary::new(Time::ZERO, CanaryPlan::default(), Name::from("b"), seed);
    let (mut now, mut count) = (Time::ZERO, 0);
    let mut last = trial.judge(now);
    for _ in 0..requests {
        now = now + Span::from_millis(100);
        let is_canary = dice.unit() < trial.share();
        count += u32::from(is_canary);
        let (arm, model) =
            if is_canary { (Arm::Canary, canary) } else { (Arm::Baseline, baseline) };
        trial.note(arm, &dice.sample(model));
        last = trial.judge(now);
        if matches!(last.verdict, Verdict::Promote | Verdict::Rollback) {
            break;
        }
    }
    (last, count)
}

/// Of so many canaries, how many were rolled back and promoted, and how many requests of
/// theirs that took at the median of those rolled back.
fn fates(runs: u64, canary: &Model, baseline: &Model) -> (usize, usize, u32) {
    let ends: Vec<(Judgement, u32)> =
        (0..runs).map(|seed| run(seed, canary, baseline, 60_000)).collect();
    let of = |verdict: Verdict| ends.iter().filter(move |(end, _)| end.verdict == verdict);
    let mut counts: Vec<u32> = of(Verdict::Rollback).map(|(_, count)| *count).collect();
    counts.sort_unstable();
    let median = counts.get(counts.len() / 2).copied().unwrap_or(0);
    (counts.len(), of(Verdict::Promote).count(), median)
}

#[test]
fn a_canary_that_is_not_worse_is_promoted() {
    // Of 200, five in a hundred may be rolled back; the tests are cautious, and it is fewer.
    let (rolled, promoted, _) = fates(200, &GOOD, &GOOD);
    assert!(rolled <= 10, "{rolled} of 200 were rolled back");
    assert!(promoted >= 185, "{promoted} of 200 were promoted");
}

#[test]
fn at_the_edge_of_what_is_borne_few_are_rolled_back() {
    let edge = Model { errors: 0.011, ttft: 1.1, tpot: 1.1, ..GOOD };
    let (rolled, ..) = fates(100, &edge, &GOOD);
    assert!(rolled <= 10, "{rolled} of 100 were rolled back");
}

#[test]
fn other_prompts_are_no_reason() {
    let (rolled, ..) = fates(100, &Model { long: 0.6, ..GOOD }, &GOOD);
    assert!(rolled <= 5, "{rolled} of 100 were rolled back");
}

#[test]
fn a_canary_that_is_worse_is_rolled_back() {
    let check = |what: &str, canary: Model, baseline: Model, median_max: u32| {
        let (rolled, promoted, median) = fates(50, &canary, &baseline);
        assert!(rolled >= 49 && promoted <= 1, "{what}: {rolled} rolled back, {promoted} promoted");
        assert!(median <= median_max, "{what}: it took {median} requests");
    };
    let errors = |rate: f64| Model { errors: rate, ..GOOD };
    check("dead", errors(1.0), GOOD, 5);
    check("half dead", errors(0.5), GOOD, 12);
    check("twice the errors", errors(0.10), errors(0.05), 700);
    check("first tokens", Model { ttft: 1.3, ..GOOD }, GOOD, 700);
    check("slow first tokens", Model { ttft: 3.0, ..GOOD }, GOOD, 60);
    check("further tokens", Model { tpot: 1.3, ..GOOD }, GOOD, 300);
}

#[test]
fn what_everybody_suffers_from_is_not_the_canarys_fault() {
    let storm = Model { errors: 0.4, ttft: 5.0, tpot: 4.0, ..GOOD };
    let (rolled, promoted, _) = fates(50, &storm, &storm);
    assert!(rolled <= 3 && promoted >= 40, "{rolled} rolled back, {promoted} promoted");
}

#[test]
fn it_waits_for_time_and_requests() {
    let mut trial = Canary::new(Time::ZERO, CanaryPlan::default(), Name::from("b"), 1);
    let mut dice = Dice(5);
    let minutes = |minutes: u64| Time::from_millis(minutes * 60_000);
    let text = |judgement: Judgement| judgement.to_string();
    (0..40).for_each(|_| trial.note(Arm::Canary, &Sample { failed: false, ..dice.sample(&GOOD) }));
    assert_eq!(
        text(trial.judge(minutes(1))),
        "the canary goes on at 5 %: 40 requests of 100 and 0 failures so far, 240 s left of the step"
    );
    assert_eq!(
        text(trial.judge(minutes(5))),
        "the canary is held at 5 %: 40 requests of 100, beside 0 of the others, are too few"
    );
    for arm in [Arm::Canary, Arm::Baseline] {
        (0..60).for_each(|_| trial.note(arm, &Sample { failed: false, ..dice.sample(&GOOD) }));
    }
    assert_eq!(
        text(trial.judge(minutes(6))),
        "the canary goes on at 25 %: 100 requests with 0 failures were not worse than the others"
    );
    assert!((trial.share() - 0.25).abs() < 1e-12);
    for _ in 0..4 {
        trial.note(Arm::Canary, &Sample { failed: true, ..Sample::default() });
        trial.note(Arm::Baseline, &dice.sample(&Model { errors: 0.0, ..GOOD }));
    }
    (0..6).for_each(|_| trial.note(Arm::Canary, &Sample { failed: true, ..Sample::default() }));
    let end = trial.judge(minutes(7));
    assert_eq!((end.verdict, trial.share()), (Verdict::Rollback, 0.0));
    assert!(text(end).starts_with("the canary is rolled back: 100.00 % of its 10 requests failed"));
    // The end is the end.
    (0..999).for_each(|_| trial.note(Arm::Canary, &Sample::default()));
    assert_eq!(trial.judge(minutes(99)), end);
}

#[test]
fn a_canary_that_is_worse_may_be_paused_and_a_whole_share_is_the_end() {
    let whole = Step { percent: 100.0, duration_min: Span::from_secs(1), samples_min: 1 };
    let steps = vec![Step { percent: 10.0, ..whole }, whole];
    let plan = CanaryPlan { on_fail: OnFail::Pause, steps, ..CanaryPlan::default() };
    let judged = |failed: bool| {
        let mut trial = Canary::new(Time::ZERO, plan.clone(), Name::from("b"), 1);
        (0..100).for_each(|_| trial.note(Arm::Baseline, &Sample::default()));
        (0..10).for_each(|_| trial.note(Arm::Canary, &Sample { failed, ..Sample::default() }));
        let verdict = trial.judge(Time::from_millis(5000)).verdict;
        (verdict, trial.share())
    };
    assert_eq!(judged(false), (Verdict::Promote, 1.0));
    assert_eq!(judged(true), (Verdict::Hold, 0.1));
}

#[test]
fn it_survives_a_restart() {
    let plan = CanaryPlan::default();
    let mut before = Canary::new(Time::ZERO, plan.clone(), Name::from("b@1"), 3);
    let mut dice = Dice(5);
    for arm in [Arm::Canary, Arm::Baseline] {
        (0..300).for_each(|_| before.note(arm, &dice.sample(&GOOD)));
    }
    before.judge(Time::from_millis(30_000));
    let kept = serde_json::to_string(&before.snapshot(Time::from_millis(60_000))).unwrap();
    let snapshot = || serde_json::from_str::<Snapshot>(&kept).unwrap();
    let later = Time::from_millis(500);
    let mut after = Canary::restore(later, plan.clone(), Name::from("b@1"), snapshot());
    let (was, is) = (&before.trial, &after.trial);
    assert_eq!((was.canary, was.baseline), (is.canary, is.baseline));
    assert!((was.worth() - is.worth()).abs() < 1e-9);
    // Four minutes are left of the first step's five.
    assert_eq!(after.judge(later + Span::from_secs(239)).percent, 5.0);
    assert_eq!(after.judge(later + Span::from_secs(240)).percent, 25.0);
    let other = Canary::restore(later, plan, Name::from("b@2"), snapshot());
    assert_eq!(other.snapshot(later).lasted, Span::ZERO);
    assert!(kept.len() < 100_000, "{}", kept.len());
}

#[test]
fn a_share_is_no_larger_than_replicas_can_bear() {
    let mut trial = Canary::new(Time::ZERO, CanaryPlan::default(), Name::from("b"), 1);
    assert_eq!((trial.share(), trial.step()), (0.05, 0));
    trial.set_share_max(0.02);
    assert_eq!(trial.share(), 0.02);
    trial.set_share_max(1.0);
    let mut dice = Dice(1);
    let mut now = Time::ZERO;
    while trial.judge(now).verdict != Verdict::Promote {
        now = now + Span::from_millis(50);
        let arm = if dice.unit() < trial.share() { Arm::Canary } else { Arm::Baseline };
        trial.note(arm, &dice.sample(&GOOD));
    }
    assert_eq!((trial.share(), trial.step()), (1.0, 3));
    // One that is promoted waits for its replicas, too.
    trial.set_share_max(0.5);
    assert_eq!(trial.share(), 0.5);
}
