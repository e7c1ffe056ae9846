//! What an engine does wrong: faults by their ids, when they strike, and what a gateway in front of it
//! is expected to make of them.

mod body;
mod head;
pub(super) mod order;
mod stream;
pub mod table;
#[cfg(test)]
mod tests;
mod when;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;

pub use order::{OrderError, rule};
pub use when::When;

use super::piece::{Act, Piece};

/// One way to go wrong.
#[derive(Debug)]
pub struct Fault {
    /// Its number in the catalogue, `F02`.
    pub id: &'static str,
    /// Its name, unique: `crash-mid-stream`.
    pub name: &'static str,
    /// What the engine does.
    pub does: &'static str,
    /// What it does it to.
    pub strikes: Strikes,
    /// What clients of a gateway are to see.
    pub expect: Expect,
}

/// What a fault changes.
#[derive(Clone, Copy, Debug)]
pub enum Strikes {
    /// Answers to requests for work.
    Work(Tamper),
    /// Answers to `GET /health`.
    Health(Tamper),
    /// Answers to `GET /metrics`.
    Metrics(Tamper),
    /// The metrics stay what they were when it was set.
    Frozen,
    /// Connections, before any request.
    Accept(AtAccept),
    /// Something outside the engine: a name, a certificate, the process. Tests set it up.
    Outside,
}

/// What becomes of a piece of an answer.
pub type Tamper = fn(&Piece, &mut Memory) -> Vec<Act>;

/// What a fault knows of the answer so far.
#[derive(Debug, Default)]
pub struct Memory {
    /// A piece kept back.
    pub held: Option<Bytes>,
    /// Whether the connection carried an answer before.
    pub reused: bool,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtAccept {
    /// It is closed at once.
    Close,
    /// It is reset at once.
    Reset,
    /// It stays in the queue of the operating system.
    Ignore,
    /// Every second one is reset.
    ResetSome,
}

/// What clients of a gateway see whose engines have a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Of a request for a stream that was struck.
    pub stream: Outcome,
    /// Of another request that was struck.
    pub whole: Outcome,
    /// The same in words.
    pub words: &'static str,
}

/// What becomes of a struck request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The fault does no harm: 200, with all of the answer.
    Served,
    /// Another engine answers: 200, with all of the answer; where all engines are struck, an error of
    /// status 500 to 504.
    Elsewhere,
    /// The beginning of the answer, and then either the rest of it, from another engine, or the
    /// protocol's terminal error and no `[DONE]`.
    Terminal,
    /// 200, with what the engine said where nobody can know better: damage inside of valid events.
    Passed,
    /// As [`Outcome::Elsewhere`], or an error of status 500 to 504 once the request's time is over:
    /// without a first token there is no sign of a failure before.
    Late,
    /// The engine's own error of status 400 to 499, and no other replica is asked.
    ClientError,
}

/// A fault and when it strikes.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The fault.
    pub fault: &'static Fault,
    /// When it strikes.
    pub when: When,
}

/// The faults of one engine.
#[derive(Debug, Default)]
pub(super) struct Faults {
    any: AtomicBool,
    /// Each with the number of requests that came since it was set.
    rules: Mutex<Vec<(Rule, u64)>>,
}

/// A fault that strikes one request.
#[derive(Debug)]
pub(super) struct Strike {
    pub(super) fault: &'static Fault,
    tamper: Tamper,
    pub(super) memory: Memory,
}

/// What a request is for, as far as faults differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    Work,
    Health,
    Metrics,
}

impl Faults {
    /// Sets what goes wrong from now on.
    pub(super) fn set(&self, rules: &[Rule]) {
        *self.rules.lock() = rules.iter().map(|rule| (*rule, 0)).collect();
        self.any.store(!rules.is_empty(), Relaxed);
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// The fault that strikes the next request of a kind.
    pub(super) fn strike(&self, surface: Surface) -> Option<Strike> {
        if !self.any() {
            return None;
        }
        let mut struck = None;
        for (rule, number) in self.rules.lock().iter_mut() {
            let ((Strikes::Work(tamper), Surface::Work)
            | (Strikes::Health(tamper), Surface::Health)
            | (Strikes::Metrics(tamper), Surface::Metrics)) = (rule.fault.strikes, surface)
            else {
                continue;
            };
            *number += 1;
            if struck.is_none() && rule.when.strikes(*number) {
                struck = Some(Strike { fault: rule.fault, tamper, memory: Memory::default() });
            }
        }
        struck
    }

    /// What becomes of the next connection.
    pub(super) fn at_accept(&self) -> Option<AtAccept> {
        if !self.any() {
            return None;
        }
        let mut at_accept = None;
        for (rule, number) in self.rules.lock().iter_mut() {
            let Strikes::Accept(at) = rule.fault.strikes else { continue };
            *number += 1;
            if at_accept.is_none() && rule.when.strikes(*number) {
                at_accept = match at {
                    AtAccept::ResetSome if *number % 2 == 0 => None,
                    AtAccept::ResetSome => Some(AtAccept::Reset),
                    at => Some(at),
                };
            }
        }
        at_accept
    }

    /// Whether connections stay unaccepted.
    pub(super) fn ignores(&self) -> bool {
        self.any() && self.has(|strikes| matches!(strikes, Strikes::Accept(AtAccept::Ignore)))
    }

    /// Whether the metrics stand still.
    pub(super) fn freezes(&self) -> bool {
        self.any() && self.has(|strikes| matches!(strikes, Strikes::Frozen))
    }

    fn has(&self, is: impl Fn(&Strikes) -> bool) -> bool {
        self.rules.lock().iter().any(|(rule, _)| is(&rule.fault.strikes))
    }
}

impl Strike {
    pub(super) fn acts(&mut self, piece: &Piece) -> Vec<Act> {
        (self.tamper)(piece, &mut self.memory)
    }
}

/// The fault with that name, or the first with that id.
pub fn find(name: &str) -> Option<&'static Fault> {
    let by_name = table::FAULTS.iter().find(|fault| fault.name == name);
    by_name.or_else(|| table::FAULTS.iter().find(|fault| fault.id == name))
}
