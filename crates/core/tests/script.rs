//! Runs the scripts of `tests/cases`: what goes into a scheduler, line by line, and what must
//! come out. `UPDATE_CASES=1 cargo test -p pilotage-core` writes the outputs anew.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test harness"
)]

use std::fmt::Write as _;
use std::path::Path;

use pilotage_core::health::BoardConfig;
use pilotage_core::traffic::{Name, Region, Regions};
use pilotage_core::{
    Band, Capacity, Failure, FailureKind, Input, Output, Policy, Prompt, QueueLimits, ReplicaId,
    Report, Request, RequestId, RetryLimit, Scheduler, SchedulerConfig, Span, Stop, TenantId,
    TenantShare, TenantTree, Time, Tokens, Told, invariant,
};

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        let played = play(&script);
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else {
            assert_eq!(script, played, "{} differs", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no scripts found");
}

/// Every line that is not an output (`=> …`) is a command; outputs follow their command.
fn play(script: &str) -> String {
    let mut scheduler = Scheduler::new(config(&[]));
    let mut now = Time::ZERO;
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("=>")) {
        writeln!(out, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => continue,
            ["config", rest @ ..] => scheduler = Scheduler::new(config(rest)),
            ["wakeup"] => {
                let wakeup = scheduler.next_wakeup(now).map(|at| at.since(now).as_millis());
                writeln!(out, "=> wakeup in {wakeup:?} ms").unwrap();
                continue;
            }
            ["tenants", rest @ ..] => scheduler.set_tenants(now, tree(rest)),
            ["wait", ms] => {
                now = now + Span::from_millis(number(ms));
                scheduler.handle(now, Input::Tick);
            }
            ["arrive", id, rest @ ..] => {
                let request = request(now, RequestId(number(id)), rest);
                scheduler.arrive_with(now, request, prompt(rest));
            }
            [verb, rest @ ..] => scheduler.handle(now, input(verb, rest)),
        }
        while let Some(output) = scheduler.poll(now) {
            writeln!(out, "=> {}", shown(&output)).unwrap();
        }
        while let Some(replica) = scheduler.poll_death() {
            writeln!(out, "=> Died {}", replica.0).unwrap();
        }
        assert_eq!(invariant::check(&scheduler), [], "after `{line}`");
    }
    out
}

/// An output; of a dispatch, what is decided and the reason as people read it.
fn shown(output: &Output) -> String {
    let Output::Dispatch { id, replica, attempt, displaces, why } = output else {
        return format!("{output:?}");
    };
    let displaces = displaces.map_or_else(String::new, |id| format!(" displaces {}", id.0));
    format!("Dispatch {} to {} attempt {attempt}{displaces}: {why}", id.0, replica.0)
}

fn input(verb: &str, words: &[&str]) -> Input {
    let id = RequestId(words.first().map_or(0, |word| word.parse().unwrap_or(0)));
    match verb {
        "up" => Input::ReplicaUp {
            replica: ReplicaId(number(words[0]) as u32),
            capacity: capacity(&words[1..]),
        },
        "down" => Input::ReplicaDown { replica: ReplicaId(number(words[0]) as u32) },
        "died" => Input::ReplicaDied { replica: ReplicaId(number(words[0]) as u32) },
        "refused" => Input::Refused { replica: ReplicaId(number(words[0]) as u32) },
        "started" => Input::Reported {
            replica: ReplicaId(number(words[0]) as u32),
            report: Report { started_ms: Some(number(words[1])), ..Report::default() },
        },
        "first" => Input::FirstToken { id },
        "finish" => Input::Finished { id, tokens: None },
        "progress" => Input::Progress { id, output: number(words[1]) as u32 },
        "unstoppable" => Input::Unstoppable { id },
        "stopped" => Input::Stopped { id },
        "reported" => Input::Reported {
            replica: ReplicaId(number(words[0]) as u32),
            report: Report {
                kv_tokens: Some(number(words[1])),
                kv_tokens_max: words.get(2).map(|most| number(most)),
                ..Report::default()
            },
        },
        "located" => Input::Located {
            replica: ReplicaId(number(words[0]) as u32),
            site: regions().site(words.get(1).copied()),
        },
        "evicted" => Input::Evicted {
            replica: ReplicaId(number(words[0]) as u32),
            tokens: if words[1] == "all" { u64::MAX } else { number(words[1]) },
        },
        "fail" => Input::Failed {
            id,
            failure: Failure {
                kind: failure_kind(words[1]),
                answered: words[2..].contains(&"answered"),
                resumable: words[2..].contains(&"resumable"),
                told: told(&words[2..]),
            },
        },
        "cancel" => Input::Cancel { id },
        "drain" => Input::Drain,
        other => panic!("unknown command `{other}`"),
    }
}

/// `refused`, `retry_after=MS`.
fn told(words: &[&str]) -> Told {
    let said = words.iter().find_map(|word| word.strip_prefix("retry_after="));
    Told {
        retry_after: said.map(|ms| Span::from_millis(number(ms))),
        is_refused: words.contains(&"refused"),
    }
}

/// `near`, then `far`, a wait of two seconds away.
fn regions() -> Regions {
    let region = |(tier, name): (u8, &str), ms| Region {
        name: Name::from(name),
        tier,
        round_trip: Span::from_millis(ms),
    };
    Regions::new(vec![region((0, "near"), 1), region((1, "far"), 40)])
}

fn capacity(words: &[&str]) -> Capacity {
    let mut capacity = Capacity::of_requests(number(words[0]) as u32);
    for word in &words[1..] {
        match word.split_once('=').unwrap() {
            ("tokens", n) => capacity.tokens_max = number(n),
            ("prefill", n) => capacity.prefill_max = number(n),
            ("pauses", n) => capacity.pauses_max = number(n) as u32,
            (other, _) => panic!("unknown capacity `{other}`"),
        }
    }
    capacity
}

/// `ID[/PARENT] weight=… guaranteed=… borrowing=… lending=…`, one tenant a word group.
fn tree(words: &[&str]) -> TenantTree {
    let mut tenants: Vec<TenantShare> = Vec::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            let (id, parent) =
                word.split_once('/').map_or((*word, None), |(id, up)| (id, Some(up)));
            let parent = parent.map(|parent| TenantId(number(parent) as u32));
            tenants.push(TenantShare { parent, ..TenantShare::top(TenantId(number(id) as u32)) });
            continue;
        };
        let (share, value) = (tenants.last_mut().unwrap(), number(value) as u32);
        match name {
            "weight" => share.weight = value * 1000,
            "guaranteed" => share.guaranteed = value,
            "borrowing" => share.borrowing_limit = Some(value),
            "lending" => share.lending_limit = Some(value),
            other => panic!("unknown share `{other}`"),
        }
    }
    TenantTree::new(tenants).unwrap()
}

fn failure_kind(word: &str) -> FailureKind {
    match word {
        "broken" => FailureKind::Broken,
        "connect" => FailureKind::Connect,
        "overloaded" => FailureKind::Overloaded,
        "server" => FailureKind::Server,
        "timeout" => FailureKind::Timeout,
        other => panic!("unknown failure `{other}`"),
    }
}

fn request(now: Time, id: RequestId, words: &[&str]) -> Request {
    let tokens = Tokens { input: 10, cached: 0, output: 0 };
    let mut request = Request::new(id, TenantId(0), Band::Standard, tokens);
    for word in words {
        match word.split_once('=') {
            Some(("tokens", tokens)) => request.tokens.input = number(tokens) as u32,
            Some(("output", tokens)) => request.tokens.output = number(tokens) as u32,
            Some(("tenant", tenant)) => request.tenant = TenantId(number(tenant) as u32),
            Some(("answer", ms)) => request.answer_by = Some(now + Span::from_millis(number(ms))),
            Some(("stop", "anytime")) => request.stop = Stop::Anytime,
            Some(("stop", "before")) => request.stop = Stop::BeforeFirstToken,
            Some(("band", band)) => request.band = Band::parse(band).unwrap(),
            // See `prompt`.
            Some(("prompt" | "body", _)) => {}
            Some(("deadline", ms)) => request.deadline = Some(now + Span::from_millis(number(ms))),
            // See `retry_limit`.
            Some(("attempts" | "retries", _)) => request.retry = Some(retry_limit(words)),
            _ => panic!("unknown word `{word}`"),
        }
    }
    request
}

/// `attempts=N retries=PERCENT`: what requests of one group are allowed beside their lane's limits.
fn retry_limit(words: &[&str]) -> RetryLimit {
    let said = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).map(number);
    RetryLimit {
        group: 1,
        attempts_max: said("attempts=").map_or(u32::MAX, |attempts| attempts as u32),
        percent: said("retries=").map_or(100, |percent| percent as u32),
    }
}

/// `prompt=A+N`: a prompt of N blocks that shares its begin with all others of the letter A.
fn prompt(words: &[&str]) -> Prompt {
    let named = words.iter().find_map(|word| word.strip_prefix("prompt="));
    let Some((letter, count)) = named.and_then(|named| named.split_once('+')) else {
        let body = words.iter().find_map(|word| word.strip_prefix("body="));
        return Prompt { fingerprint: body.map_or(0, number), streams: true, ..Prompt::default() };
    };
    let first = u64::from(letter.as_bytes()[0]) * 1000;
    Prompt { blocks: Some((first..first + number(count)).collect()), ..Prompt::default() }
}

fn config(words: &[&str]) -> SchedulerConfig {
    let mut config = SchedulerConfig { policy: Policy::LeastTokens, ..SchedulerConfig::default() };
    for word in words {
        match word.split_once('=').unwrap() {
            ("requests_max", n) => {
                config.queue = QueueLimits { requests_max: number(n) as u32, ..config.queue };
            }
            ("health", "on") => config.health = Some(BoardConfig::default()),
            ("deaths", "derived") => config.deaths_told = false,
            ("policy", "cost") => config.policy = Policy::Cost,
            ("attempts_max", n) => config.attempts_max = number(n) as u32,
            ("retries_min", n) => config.retries_min = number(n) as u32,
            ("over_share", n) => config.preempt.over_share = Some(number(n)),
            ("retry_percent", n) => config.retry_percent = number(n) as u32,
            (other, _) => panic!("unknown setting `{other}`"),
        }
    }
    config
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}
