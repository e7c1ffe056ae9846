//! Phases, whatever happens and in whatever order: they sum up to the total, and none is negative.

use proptest::prelude::*;

use super::*;

const MARKS: [Mark; Mark::COUNT] = [
    Mark::Known,
    Mark::Read,
    Mark::Lined,
    Mark::Dispatched,
    Mark::Answered,
    Mark::FirstToken,
    Mark::LastToken,
];

fn timeline(marks: &[(u64, Mark)]) -> Timeline {
    let mut timeline = Timeline::new(Time::from_millis(100));
    for (ms, mark) in marks {
        timeline.set(Time::from_millis(*ms), *mark);
    }
    timeline
}

#[test]
fn time_goes_to_the_phase_it_was_spent_in() {
    let check = |marks: &[(u64, Mark)], blocked: u64, end: u64, expect: [u64; 10]| {
        let mut timeline = timeline(marks);
        timeline.blocked(Span::from_millis(blocked));
        let phases = timeline.phases(Time::from_millis(end));
        let got = Phase::ALL.map(|phase| phases.of(phase).as_millis());
        assert_eq!(got, expect, "{marks:?}");
    };
    let whole: Vec<(u64, Mark)> =
        [101, 103, 104, 110, 112, 150, 250].into_iter().zip(MARKS).collect();
    check(&whole, 0, 251, [1, 2, 1, 6, 0, 2, 38, 100, 0, 1]);
    // What the client did not take is no decoding, and no more than there was time.
    check(&whole, 30, 251, [1, 2, 1, 6, 0, 2, 38, 70, 30, 1]);
    check(&whole, 500, 251, [1, 2, 1, 6, 0, 2, 38, 0, 101, 0]);
    check(&[], 0, 105, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    check(&[(101, Mark::Known)], 0, 131, [1, 30, 0, 0, 0, 0, 0, 0, 0, 0]);
    check(&[(101, Mark::Lined)], 0, 131, [0, 0, 1, 30, 0, 0, 0, 0, 0, 0]);
    // A retry: what the first attempt brought is gone, its time is the retry's.
    check(
        &[
            (101, Mark::Lined),
            (105, Mark::Dispatched),
            (106, Mark::Answered),
            (120, Mark::Dispatched),
            (121, Mark::Answered),
            (130, Mark::FirstToken),
        ],
        0,
        140,
        [0, 0, 1, 4, 15, 1, 9, 10, 0, 0],
    );
}

#[test]
fn a_request_is_in_the_phase_after_its_last_mark() {
    assert_eq!(timeline(&[]).phase(), Phase::Auth);
    assert_eq!(timeline(&[(101, Mark::Lined)]).phase(), Phase::Queue);
    assert_eq!(timeline(&[(101, Mark::Dispatched)]).phase(), Phase::Connect);
    assert_eq!(timeline(&[(101, Mark::FirstToken)]).phase(), Phase::Decode);
    assert_eq!(timeline(&[(101, Mark::LastToken)]).phase(), Phase::Auth);
}

#[test]
fn tokens_set_the_pace() {
    let line = timeline(&[(150, Mark::FirstToken), (250, Mark::LastToken)]);
    assert_eq!(line.ttft().map(Span::as_millis), Some(50));
    assert_eq!(line.tpot(11).map(Span::as_millis), Some(10));
    assert_eq!(line.tpot(1), None);
    assert_eq!(timeline(&[]).ttft(), None);
}

/// What may happen to a request, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Mark(Mark),
    Blocked(u64),
    Leave(Away),
    AskedAgain,
    WentOn,
    Outrun(u64, u64),
    Joined(u64),
    Followed,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        6 => (0..MARKS.len()).prop_map(|mark| Step::Mark(MARKS[mark])),
        1 => (0u64..200).prop_map(Step::Blocked),
        2 => prop_oneof![Just(Away::Turn), Just(Away::Retry)].prop_map(Step::Leave),
        1 => Just(Step::AskedAgain),
        1 => Just(Step::WentOn),
        1 => (0u64..400, 0u64..90).prop_map(|(from, until)| Step::Outrun(from, until)),
        1 => (0u64..400).prop_map(Step::Joined),
        1 => Just(Step::Followed),
    ];
    prop::collection::vec((0u64..400, step), 0..16)
}

/// A request that begins at 100 ms, with a generation beside it that the same happens to.
fn played(steps: &[(u64, Step)]) -> Timeline {
    let mut line = Timeline::new(Time::from_millis(100));
    let mut generation = Timeline::new(Time::from_millis(90));
    for (ms, step) in steps {
        let now = Time::from_millis(*ms);
        match *step {
            Step::Mark(mark) => {
                line.set(now, mark);
                generation.set(now, mark);
            }
            Step::Blocked(ms) => line.blocked(Span::from_millis(ms)),
            Step::Leave(away) => {
                line.leave(now, away);
                generation.leave(now, away);
            }
            Step::AskedAgain => line.asked_again(now),
            Step::WentOn => line.went_on(now),
            Step::Outrun(from, more) => {
                let from = from.min(*ms);
                let mut other = Timeline::new(now);
                other.set(Time::from_millis(from), Mark::Dispatched);
                other.set(Time::from_millis((from + more).min(*ms)), Mark::FirstToken);
                line.outrun(&other);
            }
            Step::Joined(ms) => line.joined(Time::from_millis(ms), &generation),
            Step::Followed => line.followed(&generation),
        }
    }
    line
}

#[test]
fn who_stands_aside_waits_for_a_turn_and_who_fails_tries_again() {
    let check = |steps: &[(u64, Step)], end: u64, expect: [u64; 10]| {
        let phases = played(steps).phases(Time::from_millis(end));
        let got = Phase::ALL.map(|phase| phases.of(phase).as_millis());
        assert_eq!(got, expect, "{steps:?}");
    };
    let lined = (101, Step::Mark(Mark::Lined));
    let sent = |ms| (ms, Step::Mark(Mark::Dispatched));
    let first = |ms| (ms, Step::Mark(Mark::FirstToken));
    let last = |ms| (ms, Step::Mark(Mark::LastToken));
    let leave = |ms, away| (ms, Step::Leave(away));
    // Stopped before its first token: 10 ms at the replica were in vain, 20 ms in line.
    let early = [lined, sent(110), leave(120, Away::Turn), sent(140), first(150), last(160)];
    check(&early, 160, [0, 0, 1, 29, 10, 0, 10, 10, 0, 0]);
    // It ends in line.
    check(&early[..3], 130, [0, 0, 1, 19, 10, 0, 0, 0, 0, 0]);
    // Failed: all of it is.
    let failed = [lined, sent(110), leave(120, Away::Retry), sent(140), first(150), last(160)];
    check(&failed, 160, [0, 0, 1, 9, 30, 0, 10, 10, 0, 0]);
    check(&failed[..3], 130, [0, 0, 1, 9, 10, 10, 0, 0, 0, 0]);
    // In the middle of its answer: in line, computed again, and on.
    let amid = |away| {
        let again = [(180, Step::AskedAgain), (195, Step::WentOn), last(200)];
        [lined, sent(110), first(120), last(130), leave(140, away)].into_iter().chain(again)
    };
    let stopped: Vec<_> = amid(Away::Turn).collect();
    check(&stopped, 201, [0, 0, 1, 49, 15, 0, 10, 25, 0, 1]);
    // Tokens that came last are not the end while it waits.
    check(&stopped[..5], 170, [0, 0, 1, 39, 0, 0, 10, 20, 0, 0]);
    check(&stopped[..6], 190, [0, 0, 1, 49, 10, 0, 10, 20, 0, 0]);
    let broke: Vec<_> = amid(Away::Retry).collect();
    check(&broke, 201, [0, 0, 1, 9, 55, 0, 10, 25, 0, 1]);
    // Another model took over: what was waited for the first is no choosing.
    check(
        &[lined, (150, Step::Mark(Mark::Lined)), sent(160)],
        161,
        [0, 0, 1, 59, 0, 1, 0, 0, 0, 0],
    );
    // The second attempt won, which was sent at 150.
    check(
        &[lined, sent(110), (180, Step::Outrun(150, 20)), last(180)],
        180,
        [0, 0, 1, 9, 40, 0, 20, 10, 0, 0],
    );
}

#[test]
fn who_joins_later_has_waited_for_less() {
    let ms = Time::from_millis;
    let mut generation = Timeline::new(ms(90));
    generation.set(ms(95), Mark::Dispatched);
    generation.set(ms(96), Mark::FirstToken);
    generation.leave(ms(97), Away::Turn);
    let mut late = Timeline::new(ms(100));
    late.joined(ms(101), &generation);
    late.set(ms(101), Mark::FirstToken);
    late.set(ms(101), Mark::LastToken);
    late.followed(&generation);
    assert_eq!((late.phase(), late.phases(ms(110)).queue.as_millis()), (Phase::Queue, 9));
    generation.asked_again(ms(120));
    generation.went_on(ms(125));
    late.set(ms(130), Mark::LastToken);
    late.followed(&generation);
    let phases = late.phases(ms(130));
    let got = [phases.queue, phases.retry, phases.decode].map(Span::as_millis);
    assert_eq!(got, [19, 5, 5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn phases_sum_up_to_the_total(steps in steps(), end in 0u64..500) {
        let line = played(&steps);
        let (begun, end) = (Time::from_millis(100), Time::from_millis(end));
        let phases = line.phases(end);
        prop_assert_eq!(phases.total(), end.max(begun).since(begun));
    }

    #[test]
    fn the_first_token_comes_before_the_end(mut steps in steps()) {
        steps.sort_by_key(|(ms, _)| *ms);
        let end = Time::from_millis(steps.last().map_or(100, |(ms, _)| *ms));
        let line = played(&steps);
        if let Some(ttft) = line.ttft() {
            prop_assert!(ttft <= line.phases(end).total());
        }
    }
}
