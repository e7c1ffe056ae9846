//! Whole stories of a lane, in virtual time, and what holds in any.
//!
//! A story is a text. `at MS` or `at MS every MS for COUNT`, then what happens: `up R`, `down R`, `ok R PREFILL
//! TTFT_MS`, `fail R KIND`, `send R ID PREFILL SILENT`, `first R ID`, `token R`, `end R ID`, `stop R ID`,
//! `probe R good|bad`, `count R VALUE`; or what must hold: `is R TEXT`, `takes R yes|no`, `weight R NUMBER`,
//! `hung R…` for what was to be interrupted since the last time this was asked.

use proptest::prelude::*;

use super::*;

const KINDS: [(&str, FailureKind); 5] = [
    ("connect", FailureKind::Connect),
    ("broken", FailureKind::Broken),
    ("overloaded", FailureKind::Overloaded),
    ("server", FailureKind::Server),
    ("timeout", FailureKind::Timeout),
];

enum Act {
    Note(ReplicaId, Signal),
    Check(String),
}

struct Story {
    board: Board,
    hung: Vec<u32>,
}

impl Story {
    fn look(&mut self, now: Time) {
        for change in self.board.assess(now) {
            self.hung.extend(change.interrupt.then_some(change.replica.0));
        }
    }

    fn advance(&mut self, to: Time) {
        while let Some(at) = self.board.next_wakeup().filter(|at| *at <= to) {
            self.look(at);
        }
    }

    fn check(&mut self, text: &str, place: &str) {
        let (verb, rest) = text.split_once(' ').unwrap();
        if verb == "hung" {
            let expect: Vec<u32> = rest.split(' ').filter_map(|one| one.parse().ok()).collect();
            assert_eq!(std::mem::take(&mut self.hung), expect, "{place}");
            return;
        }
        let (replica, expect) = rest.split_once(' ').unwrap();
        let id = ReplicaId(replica.parse().unwrap());
        let standing = self.board.standing(id).unwrap();
        match verb {
            "is" => {
                let verdict = standing.verdict.to_string();
                assert!(verdict.starts_with(expect), "{place}: it is {verdict}");
            }
            "takes" => assert_eq!(self.board.takes(id), expect == "yes", "{place}: {standing:?}"),
            "weight" => {
                let expect: f64 = expect.parse().unwrap();
                assert!((standing.weight - expect).abs() < 0.05, "{place}: {standing:?}");
            }
            _ => panic!("{place}: what is `{verb}`?"),
        }
    }
}

/// What a line stands for, once.
fn acts(now: Time, text: &str, next_id: &mut u64) -> Vec<(Time, Act)> {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let replica = || ReplicaId(words[1].parse().unwrap());
    let one = |signal: Signal| vec![(now, Act::Note(replica(), signal))];
    let id = || RequestId(number(2));
    match words[0] {
        "up" => one(Signal::Up),
        "down" => one(Signal::Down),
        "send" => {
            one(Signal::Sent { id: id(), prefill: number(3), silent: number(4), patience: None })
        }
        "first" => one(Signal::FirstToken { id: id() }),
        "token" => one(Signal::Token),
        "end" => one(Signal::Answered { id: id(), output: 10 }),
        "stop" => one(Signal::Stopped { id: id() }),
        "probe" if words[2] == "bad" => one(Signal::Probe(Probe::Failed)),
        "probe" => one(Signal::Probe(Probe::Good { latency: Span::from_secs(3) })),
        "count" => one(Signal::Counter(Counted { read: now, value: number(2), each_step: false })),
        "ok" | "fail" => {
            *next_id += 1;
            let id = RequestId(1_000_000 + *next_id);
            let note = |at: Time, signal: Signal| (at, Act::Note(replica(), signal));
            if words[0] == "fail" {
                let kind = KINDS.iter().find(|(name, _)| *name == words[2]).unwrap().1;
                let retry_after = words.get(3).map(|secs| Span::from_secs(secs.parse().unwrap()));
                let sent = note(now, Signal::Sent { id, prefill: 100, silent: 0, patience: None });
                return vec![sent, note(now, Signal::Failed { id, kind, retry_after })];
            }
            let came = now + Span::from_millis(number(3));
            vec![
                note(now, Signal::Sent { id, prefill: number(2), silent: 0, patience: None }),
                note(came, Signal::FirstToken { id }),
                note(came, Signal::Answered { id, output: 1 }),
            ]
        }
        _ => vec![(now, Act::Check(text.to_owned()))],
    }
}

fn tell(name: &str, text: &str) {
    let mut timeline: Vec<(Time, String, Act)> = Vec::new();
    let mut next_id = 0;
    for (line, number) in text.lines().zip(1..) {
        let Some(rest) = line.strip_prefix("at ") else { continue };
        let (ms, rest) = rest.split_once(' ').unwrap();
        let mut times = (0_u64, 1_u64);
        let mut rest = rest.to_owned();
        if let Some(repeated) = rest.strip_prefix("every ") {
            let words: Vec<&str> = repeated.splitn(4, ' ').collect();
            times = (words[0].parse().unwrap(), words[2].parse().unwrap());
            rest = words[3].to_owned();
        }
        for turn in 0..times.1 {
            let now = Time::from_millis(ms.parse::<u64>().unwrap() + turn * times.0);
            let acts = acts(now, &rest, &mut next_id);
            let place = || format!("{name}:{number}: `{line}`");
            timeline.extend(acts.into_iter().map(|(at, act)| (at, place(), act)));
        }
    }
    timeline.sort_by_key(|(at, ..)| *at);
    let mut story = Story { board: Board::new(BoardConfig::default(), 7), hung: Vec::new() };
    for (now, place, act) in timeline {
        story.advance(now);
        match act {
            Act::Note(replica, signal) => story.board.note(now, replica, signal),
            Act::Check(text) => {
                story.look(now);
                story.check(&text, &place);
            }
        }
    }
}

#[test]
fn stories_come_out_as_told() {
    for (name, text) in [
        ("crash", include_str!("tests/cases/crash.txt")),
        ("hang", include_str!("tests/cases/hang.txt")),
        ("outliers", include_str!("tests/cases/outliers.txt")),
        ("outage", include_str!("tests/cases/outage.txt")),
        ("overload", include_str!("tests/cases/overload.txt")),
        ("probes", include_str!("tests/cases/probes.txt")),
        ("warm_up", include_str!("tests/cases/warm_up.txt")),
    ] {
        tell(name, text);
    }
}

#[test]
fn a_verdict_is_a_value() {
    let reason = Reason::Hung { quiet: Span::from_secs(20), limit: Span::from_secs(10) };
    let verdict = Verdict::Ejected { reason, until: Some(Time::from_millis(5)) };
    assert_eq!(
        serde_json::to_string(&verdict).unwrap(),
        "{\"verdict\":\"ejected\",\"reason\":{\"reason\":\"hung\",\"quiet\":20000000000,\
         \"limit\":10000000000},\"until\":5000000}"
    );
    assert_eq!(
        verdict.to_string(),
        "ejected: hung: it has work, and nothing came for 20000 ms, of 10000 ms that are borne"
    );
}

/// Anything that may happen, to one of four replicas.
fn signal() -> impl Strategy<Value = (u64, u32, Signal)> {
    let id = || (0u64..12).prop_map(RequestId);
    let kind = prop::sample::select(KINDS.map(|(_, kind)| kind).to_vec());
    let what = prop_oneof![
        2 => Just(Signal::Up),
        1 => Just(Signal::Down),
        6 => (id(), 0u64..5000).prop_map(|(id, prefill)| Signal::Sent { id, prefill, silent: 0, patience: None }),
        3 => id().prop_map(|id| Signal::FirstToken { id }),
        2 => Just(Signal::Token),
        3 => id().prop_map(|id| Signal::Answered { id, output: 5 }),
        6 => (id(), kind, prop::option::of(0u64..100)).prop_map(|(id, kind, secs)| {
            Signal::Failed { id, kind, retry_after: secs.map(Span::from_secs) }
        }),
        1 => id().prop_map(|id| Signal::Stopped { id }),
        3 => any::<bool>().prop_map(|good| {
            let latency = Span::ZERO;
            Signal::Probe(if good { Probe::Good { latency } } else { Probe::Failed })
        }),
        1 => (0u64..4).prop_map(|value| Signal::Counter(Counted { read: Time::ZERO, value, each_step: true })),
    ];
    (0u64..20_000, 0u32..4, what)
}

fn holds(board: &Board) -> Result<(), TestCaseError> {
    let standings: Vec<Standing> = board.standings().collect();
    let up: Vec<&Standing> = standings.iter().filter(|one| one.verdict != Verdict::Down).collect();
    let ejected: Vec<Reason> = up
        .iter()
        .filter_map(|one| match one.verdict {
            Verdict::Ejected { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    prop_assert!(up.is_empty() || ejected.len() < up.len(), "all are ejected: {standings:?}");
    let soft = ejected.iter().any(Reason::is_soft);
    let percent = ejected.len() * 100 / up.len().max(1);
    let most = board.config.ejected_percent_max as usize;
    prop_assert!(!soft || percent <= most, "{percent} % are ejected: {standings:?}");
    for one in &standings {
        prop_assert_eq!(one.weight > 0.0, one.verdict.is_open(), "{:?}", one);
        prop_assert!((0.0..=1.0).contains(&one.weight));
    }
    Ok(())
}

proptest! {
    #[test]
    fn never_all_ejected_and_all_come_back(signals in prop::collection::vec(signal(), 0..300)) {
        let mut board = Board::new(BoardConfig::default(), 3);
        let mut now = Time::ZERO;
        for (ms, replica, signal) in signals {
            now = now + Span::from_millis(ms);
            board.note(now, ReplicaId(replica), signal);
            board.assess(now);
            holds(&board)?;
        }
        // What runs ends, then each gets requests that end well, as far as it takes any.
        let ids: Vec<ReplicaId> = board.standings().map(|one| one.replica).collect();
        for replica in &ids {
            (0..12).for_each(|id| board.note(now, *replica, Signal::Stopped { id: RequestId(id) }));
            board.note(now, *replica, Signal::Up);
        }
        for turn in 0..2000 {
            now = now + Span::from_secs(1);
            board.assess(now);
            holds(&board)?;
            let id = RequestId(100 + turn);
            for replica in ids.iter().copied() {
                board.note(now, replica, Signal::Probe(Probe::Good { latency: Span::ZERO }));
                if board.takes(replica) {
                    board.note(now, replica, Signal::Sent { id, prefill: 10, silent: 0, patience: None });
                    board.note(now, replica, Signal::Answered { id, output: 1 });
                }
            }
        }
        board.assess(now);
        for one in board.standings() {
            prop_assert!(one.verdict == Verdict::Healthy, "{one:?}");
        }
        // Nothing is kept of what ended, nor of those that went.
        prop_assert_eq!(board.replicas.values().map(Record::requests).sum::<usize>(), 0);
        ids.iter().for_each(|replica| board.note(now, *replica, Signal::Down));
        prop_assert!(board.replicas.is_empty());
    }
}
