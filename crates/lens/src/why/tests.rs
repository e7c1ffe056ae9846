//! Explanations of requests whose trouble is known.

use pilotage_core::{Band, Span, Time, Tokens};

use super::*;
use crate::{Mark, Timeline};

/// A request whose marks come at these milliseconds: known, read, in line, dispatched, answered, first token,
/// last token; and its end.
fn record(marks: [u64; 7], end: u64) -> Record {
    let order = [
        Mark::Known,
        Mark::Read,
        Mark::Lined,
        Mark::Dispatched,
        Mark::Answered,
        Mark::FirstToken,
        Mark::LastToken,
    ];
    let mut timeline = Timeline::new(Time::ZERO);
    for (mark, at) in order.into_iter().zip(marks) {
        timeline.set(Time::from_millis(at), mark);
    }
    let tokens = Tokens { input: 1000, cached: 0, output: 101 };
    let phases = timeline.phases(Time::from_millis(end));
    Record {
        unix_ms: 0,
        request_id: "r".into(),
        trace_id: 1,
        span_id: 1,
        tenant: Some("t".into()),
        tenant_path: Some("t".into()),
        path: "/v1/chat/completions",
        lane: Some("m".into()),
        band: Band::default(),
        stream: true,
        status: 200,
        attempts: 1,
        replica: Some("m-0".into()),
        tokens,
        counted: true,
        phases,
        total: phases.total(),
        ttft: timeline.ttft(),
        tpot: timeline.tpot(tokens.output),
        ..Record::default()
    }
}

/// What others take: 10 ms in line, 5 to connect, 100 for the prompt, 1,000 for tokens.
fn usual() -> Usual {
    let usual = record([0, 0, 0, 10, 15, 115, 1115], 1115);
    Usual {
        count: 100,
        phases: Phase::ALL.map(|phase| usual.phases.of(phase)),
        total: usual.total,
        tpot: usual.tpot,
        input: usual.tokens.input,
        output: usual.tokens.output,
    }
}

#[test]
fn the_phase_that_took_longer_than_it_does_is_named() {
    let check = |marks: [u64; 7], end: u64, phase: Phase, part: &str| {
        let explained = explain(&record(marks, end), Some(&usual()));
        assert_eq!(explained.phase, Some(phase), "{}", explained.verdict);
        assert!(explained.verdict.contains(part), "{}", explained.verdict);
        assert!(explained.hint.is_some());
    };
    check(
        [0, 0, 0, 3010, 3015, 3115, 4115],
        4115,
        Phase::Queue,
        "3.0 s of it waiting for its turn",
    );
    check(
        [0, 0, 0, 10, 15, 2515, 3515],
        3515,
        Phase::Prefill,
        "computing 1000 prompt tokens of 1000",
    );
    check([0, 0, 0, 10, 15, 115, 5115], 5115, Phase::Decode, "generating 101 tokens at 50 ms each");
    check(
        [0, 0, 0, 10, 2015, 2115, 3115],
        3115,
        Phase::Connect,
        "until the replica began to answer",
    );
    check([0, 3000, 3000, 3010, 3015, 3115, 4115], 4115, Phase::Read, "until the client had sent");
}

#[test]
fn what_is_usual_gets_no_advice() {
    let explained = explain(&record([0, 0, 0, 10, 15, 115, 1115], 1115), Some(&usual()));
    assert!(explained.verdict.contains("which is usual"), "{}", explained.verdict);
    assert_eq!(explained.hint, None);
}

#[test]
fn with_nobody_to_compare_with_the_longest_phase_is_named() {
    let explained = explain(&record([0, 0, 0, 10, 15, 115, 1115], 1115), None);
    assert_eq!((explained.phase, explained.compared_with), (Some(Phase::Decode), 0));
    assert!(explained.lines.iter().all(|line| line.usual.is_none()));
}

#[test]
fn every_end_is_told_as_what_it_is() {
    for termination in Termination::ALL {
        let mut ended = record([0, 0, 0, 10, 15, 115, 1115], 1115);
        ended.termination = termination;
        ended.status = if termination == Termination::Ok { 200 } else { 503 };
        let explained = explain(&ended, Some(&usual()));
        let is_well = termination == Termination::Ok;
        assert_eq!(explained.phase.is_some(), is_well, "{termination:?}: {}", explained.verdict);
        let is_left = matches!(termination, Termination::ClientCancel | Termination::Draining);
        assert_eq!(explained.hint.is_none(), is_well || is_left, "{termination:?}");
    }
}

#[test]
fn what_else_happened_is_noted() {
    let mut odd = record([0, 0, 0, 10, 15, 115, 1115], 1115);
    (odd.stops, odd.resumed, odd.merged, odd.corrupted, odd.counted) = (2, 1, true, true, false);
    let itl = crate::Itl {
        p50: Span::from_millis(10),
        p90: Span::from_millis(20),
        p99: Span::from_millis(30),
        max: Span::from_millis(900),
        stalls: 3,
        stalled: Span::from_millis(2000),
    };
    odd.itl = Some(itl);
    let notes = explain(&odd, None).notes.join("\n");
    for part in
        ["stopped 2 times", "broke off 1 times", "stalled 3 times, 2.0 s together", "estimated"]
    {
        assert!(notes.contains(part), "{notes}");
    }
}

#[test]
fn what_is_usual_is_the_middle_of_others() {
    assert!(Usual::among(&[]).is_none());
    let others = [10, 30, 2000].map(|queue| {
        let at = |ms: u64| queue + ms;
        record([0, 0, 0, at(0), at(5), at(105), at(1105)], at(1105))
    });
    let usual = Usual::among(&others).unwrap();
    assert_eq!((usual.count, usual.of(Phase::Queue).as_millis()), (3, 30));
    assert_eq!((usual.total.as_millis(), usual.input, usual.output), (1135, 1000, 101));
    assert_eq!(usual.tpot.map(Span::as_millis), Some(10));
}

#[test]
fn who_was_before_it_is_named() {
    // It came at 10 s, waited for three, and was over at 14.
    let slow = Record { unix_ms: 14_000, ..record([0, 0, 0, 3000, 3005, 3100, 4000], 4000) };
    let other = |span_id: u64, tenant: &str, unix_ms: u64, turn: u64, end: u64| Record {
        unix_ms,
        span_id,
        tenant: Some(tenant.into()),
        ..record([0, 0, 0, turn, turn + 5, turn + 50, end], end)
    };
    let mut ahead = Ahead::of(&slow).unwrap();
    assert_eq!(ahead.sentence(), None);
    let others = [
        // At a replica since 9 s; had its turn at 11 s; the same of its own team.
        other(2, "greedy", 11_000, 0, 2000),
        other(3, "greedy", 12_000, 1000, 2000),
        other(4, "t", 12_000, 1000, 2000),
        // Over before it came; had its turn after it; another model's; itself.
        other(5, "early", 9900, 0, 1000),
        other(6, "late", 15_000, 4000, 5000),
        Record { lane: Some("else".into()), ..other(7, "greedy", 12_000, 1000, 2000) },
        slow.clone(),
    ];
    for one in &others {
        ahead.add(one);
    }
    assert_eq!(
        ahead.sentence().unwrap(),
        "While it waited, 3 requests with 3303 tokens were before it: 2 of greedy (1 at replicas already), 1 of its own team t."
    );
    assert!(
        Ahead::of(&Record { unix_ms: 14_000, ..record([0, 0, 0, 10, 15, 100, 4000], 4000) })
            .is_none()
    );
}
