//! Every fault of the catalogue, at one engine of three and at all of them: what clients see is what
//! the table says, and nothing is left behind.

use std::time::Duration;

use pilotage_lab::engine::fault::table::FAULTS;
use pilotage_lab::engine::fault::{Fault, Outcome, Rule, Strikes, When};
use pilotage_shell::tasks;

use crate::answer::{Answer, Ask, Verdict};
use crate::rig::{AT_ONCE, Rig, bare, pass, paused};

const ENGINES: usize = 3;

/// Seconds after which a client may be told to come back, at most.
const RETRY_AFTER_S_MAX: u64 = 300;

/// A name that nobody knows, and that nobody needs to be asked about: its first part is too long.
const UNKNOWN: &str =
    "http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid:9";

/// How many engines have the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    One,
    All,
}

/// Plays all faults that `is` names.
fn play(is: impl Fn(&Fault) -> bool) {
    let mut wrong = Vec::new();
    let inside = FAULTS.iter().filter(|fault| is(fault) && !fault.name.starts_with("certificate"));
    for (fault, at) in inside.flat_map(|fault| [(fault, At::One), (fault, At::All)]) {
        let found = paused().block_on(scenario(fault, at));
        if !found.is_empty() {
            let found = found.join(
                "
    ",
            );
            wrong.push(format!(
                "{} {} at {at:?}:
    {found}",
                fault.id, fault.name
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// What is not as it should be.
async fn scenario(fault: &'static Fault, at: At) -> Vec<String> {
    let mut rig = prepare(fault, at).await;
    let mut wrong = Vec::new();
    let mut struck = 0;
    for wave in 0..2 {
        let asks = (0..AT_ONCE).map(|index| Ask { number: wave * AT_ONCE + index });
        let sent: Vec<_> =
            asks.map(|ask| (ask, tasks::spawn("client", ask.send(rig.gateway.clone())))).collect();
        if fault.name == "out-of-memory" && wave == 0 {
            pass(Duration::from_millis(15)).await;
            kill(&mut rig, at);
        }
        for (ask, answer) in sent {
            let answer = answer.await.unwrap().unwrap();
            let verdict = ask.judge(&answer);
            struck += usize::from(verdict != Verdict::Complete);
            if !is_expected(fault, at, ask, &verdict, &answer) {
                let after = answer.headers.get("retry-after");
                wrong.push(format!(
                    "request {}: {verdict:?}, to come back after {after:?}: {:.200}",
                    ask.number,
                    String::from_utf8_lossy(&answer.body)
                ));
            }
        }
    }
    struck +=
        rig.engines.iter().flatten().map(|engine| engine.stats().struck).sum::<u64>() as usize;
    if matches!(fault.strikes, Strikes::Work(_)) && struck == 0 {
        wrong.push("strikes nobody".to_owned());
    }
    wrong.extend(rig.left().await);
    wrong.extend(recovers(&mut rig).await);
    wrong.truncate(6);
    wrong
}

async fn prepare(fault: &'static Fault, at: At) -> Rig {
    let mut rig = match fault.name {
        "unknown-host" => Rig { gateway: bare(), engines: Vec::new() },
        _ => Rig::new(ENGINES).await,
    };
    let rule = Rule { fault, when: When::Always };
    let bad = if at == At::One { 1 } else { ENGINES };
    for engine in rig.engines.iter().flatten().take(bad) {
        engine.set_faults(&[rule]);
    }
    match fault.name {
        "all-down" => kill(&mut rig, at),
        "unknown-host" => {
            for index in 0..ENGINES {
                if index < bad {
                    rig.up(index, UNKNOWN);
                    rig.engines.push(None);
                } else {
                    let engine = crate::rig::engine().await;
                    rig.up(index, &format!("http://{}", engine.addr()));
                    rig.engines.push(Some(engine));
                }
            }
        }
        _ => {}
    }
    rig
}

fn kill(rig: &mut Rig, at: At) {
    let bad = if at == At::One { 1 } else { ENGINES };
    rig.engines.iter_mut().take(bad).for_each(|engine| *engine = None);
}

fn is_expected(fault: &Fault, at: At, ask: Ask, verdict: &Verdict, answer: &Answer) -> bool {
    let outcome = if ask.stream() { fault.expect.stream } else { fault.expect.whole };
    match (verdict, outcome) {
        (Verdict::Complete, _) | (Verdict::Other, Outcome::Passed) => true,
        (Verdict::Terminal, outcome) => outcome == Outcome::Terminal,
        (Verdict::Error(status), Outcome::Elsewhere) if at == At::All => is_honest(*status, answer),
        (Verdict::Error(status), Outcome::Terminal) if at == At::All => is_honest(*status, answer),
        // Engines that fail other requests rest, whatever this one would have got.
        (Verdict::Error(status), Outcome::Served) if at == At::All => {
            harms(fault) && is_honest(*status, answer)
        }
        (Verdict::Error(status), Outcome::Late) => is_honest(*status, answer),
        (Verdict::Error(status), Outcome::ClientError) => *status == 400,
        _ => false,
    }
}

/// Whether some kind of request fails.
fn harms(fault: &Fault) -> bool {
    [fault.expect.stream, fault.expect.whole]
        .iter()
        .any(|outcome| !matches!(outcome, Outcome::Served | Outcome::Passed))
}

/// Whether an error says that the fault is not the client's, and when to come back.
fn is_honest(status: u16, answer: &Answer) -> bool {
    let after = answer
        .headers
        .get("retry-after")
        .and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
    match status {
        503 => after.is_some_and(|after| after <= RETRY_AFTER_S_MAX),
        500..=504 => true,
        _ => false,
    }
}

/// Once the fault is gone, all is as it was. Whoever starts engines tells of those that died.
async fn recovers(rig: &mut Rig) -> Option<String> {
    for index in 0..rig.engines.len() {
        if let Some(engine) = &rig.engines[index] {
            engine.set_faults(&[]);
            continue;
        }
        rig.down(index);
        let engine = crate::rig::engine().await;
        rig.up(index + ENGINES, &format!("http://{}", engine.addr()));
        rig.engines[index] = Some(engine);
    }
    pass(Duration::from_secs(40)).await;
    let ask = Ask { number: 1000 };
    let verdict = ask.judge(&ask.send(rig.gateway.clone()).await);
    (verdict != Verdict::Complete).then(|| format!("does not recover: {verdict:?}"))
}

fn from(first: &'static str, last: &'static str) -> impl Fn(&Fault) -> bool {
    move |fault| (first..=last).contains(&fault.id)
}

#[test]
fn crashes() {
    play(from("F01", "F02"));
}

#[test]
fn silence() {
    play(from("F03", "F05"));
}

#[test]
fn broken_streams() {
    play(from("F06", "F08"));
}

#[test]
fn broken_framing() {
    play(from("F09", "F10"));
}

#[test]
fn errors() {
    play(from("F11", "F16"));
}

#[test]
fn metrics_and_connections() {
    play(from("F17", "F24"));
}

#[test]
fn broken_heads_and_meanings() {
    play(from("F25", "F50"));
}
