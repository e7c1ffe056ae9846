//! The sentences of an explanation.

use pilotage_core::Span;

use super::{Usual, computed, is_refused};
use crate::{Phase, Record, Termination};

/// What happens in a phase.
pub(super) const fn what(phase: Phase) -> &'static str {
    match phase {
        Phase::Auth => "found out who asks",
        Phase::Read => "read the request from its client",
        Phase::Route => "chose the model, and reserved its place in quotas",
        Phase::Queue => "waited for its turn",
        Phase::Retry => "attempts that came to nothing, and getting as far again",
        Phase::Connect => "sent to the replica, until that began to answer",
        Phase::Prefill => "the replica computed the prompt, up to the first token",
        Phase::Decode => "tokens came, from the first to the last",
        Phase::ClientBlocked => "the answer waited for its client to take more",
        Phase::Other => "from the last token to the end",
    }
}

/// How it ended, where it did not end well.
pub(super) fn ended(record: &Record) -> Option<String> {
    let after = spoken(record.total);
    let text = match record.termination {
        Termination::Ok if record.status < 400 => return None,
        Termination::Ok => {
            format!(
                "The replica answered {} after {after}: the request itself was wrong.",
                record.status
            )
        }
        Termination::ClientCancel => format!("The client went away after {after}."),
        Termination::BadRequest => {
            format!("It was refused with {} as wrong, before it got in line.", record.status)
        }
        Termination::Quota => "It was refused: its tenant's quota was used up.".to_owned(),
        Termination::Budget => "It was refused: its tenant's budget was spent.".to_owned(),
        Termination::QueueFull => "It was refused: too much was waiting already.".to_owned(),
        Termination::Deadline => format!(
            "It was refused: its turn had not come after {}, or would not have come in the time that it had.",
            spoken(record.phases.queue)
        ),
        Termination::UpstreamError => {
            format!("All {} attempts failed before the first byte.", record.attempts.max(1))
        }
        Termination::UpstreamInterrupted => {
            format!(
                "A replica failed in the middle of the answer, after {after}, and no other could go on."
            )
        }
        Termination::Timeout => {
            format!("Nothing came for too long: it was given up after {after}.")
        }
        Termination::Draining => "The gateway was stopping.".to_owned(),
    };
    Some(text)
}

/// Why it took as long as it did.
pub(super) fn verdict(record: &Record, phase: Phase, usual: Option<&Usual>) -> String {
    let took = record.phases.of(phase);
    let percent = took.as_secs_f64() / record.total.as_secs_f64().max(1e-9) * 100.0;
    let whole = format!("It took {}", spoken(record.total));
    let Some(usual) = usual else {
        return format!("{whole}: {percent:.0} % of it {}.", did(record, phase, None));
    };
    if !usual.is_beaten_by(record) {
        return format!(
            "{whole}, which is usual for its model ({}): {percent:.0} % of it {}.",
            spoken(usual.total),
            did(record, phase, None)
        );
    }
    let times = record.total.as_secs_f64() / usual.total.as_secs_f64().max(1e-9);
    let times =
        if times < 1000.0 { format!("{times:.1} times") } else { "far more than".to_owned() };
    format!(
        "{whole}, {times} the usual {}: {} of it {}.",
        spoken(usual.total),
        spoken(took),
        did(record, phase, Some(usual))
    )
}

/// What a request did in a phase, beside what others do.
fn did(record: &Record, phase: Phase, usual: Option<&Usual>) -> String {
    let beside = usual.map(|usual| format!(" (usually {})", spoken(usual.of(phase))));
    let beside = beside.unwrap_or_default();
    match phase {
        Phase::Queue => format!("waiting for its turn{beside}"),
        Phase::Retry if record.attempts <= 1 => {
            format!("for what was begun in vain when it stood aside{beside}")
        }
        Phase::Retry => {
            format!("{} attempts that failed{beside}", record.attempts.saturating_sub(1))
        }
        Phase::Connect => format!("until the replica began to answer{beside}"),
        Phase::Prefill => format!(
            "computing {} prompt tokens of {}{beside}",
            computed(record.tokens),
            record.tokens.input
        ),
        Phase::Decode => {
            let pace = record.tpot.map(|tpot| format!(" at {} each", spoken(tpot)));
            format!(
                "generating {} tokens{}{beside}",
                record.tokens.output,
                pace.unwrap_or_default()
            )
        }
        Phase::ClientBlocked => format!("waiting for a client that took nothing{beside}"),
        Phase::Auth => format!("finding out who asks{beside}"),
        Phase::Read => format!("until the client had sent all of the request{beside}"),
        Phase::Route => format!("choosing the model and a place in quotas{beside}"),
        Phase::Other => format!("after the last token{beside}"),
    }
}

/// What else was unusual.
pub(super) fn notes(record: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    if record.stops > 0 {
        notes.push(format!(
            "It was stopped {} times for more urgent work, and went on later.",
            record.stops
        ));
    }
    if record.resumed > 0 {
        notes.push(format!(
            "Its answer broke off {} times and went on at another replica.",
            record.resumed
        ));
    }
    if let Some(itl) = record.itl.filter(|itl| itl.stalls > 0) {
        notes.push(format!(
            "Its tokens stalled {} times, {} together, the longest {}.",
            itl.stalls,
            spoken(itl.stalled),
            spoken(itl.max)
        ));
    }
    if record.merged {
        notes.push("It shared the answer of an equal request.".to_owned());
    }
    if record.corrupted {
        notes.push("The engine sent something that had to be put right.".to_owned());
    }
    if !record.counted && record.tokens.total() > 0 {
        notes.push("The engine told no token counts: they are estimated.".to_owned());
    }
    notes
}

/// What can be done.
pub(super) fn hint(record: &Record, phase: Option<Phase>, usual: Option<&Usual>) -> Option<String> {
    if is_refused(record.termination) {
        let text = match record.termination {
            Termination::Budget => {
                "a budget refuses what may cost more than is left of it: see `pilotage usage budgets`, and raise it in the Tenant, or ask for fewer tokens (max_tokens)"
            }
            Termination::Quota => {
                "the answer's header x-pilotage-limit said which limit it was: `spec.quota` of the Tenant, or of one above it"
            }
            _ => {
                "more replicas, or a higher `weight` or `guaranteed` share for the tenant; `pilotage triage` says what binds"
            }
        };
        return Some(text.to_owned());
    }
    match record.termination {
        Termination::UpstreamError | Termination::UpstreamInterrupted | Termination::Timeout => {
            let replica = record.replica.as_deref().unwrap_or("the replica");
            return Some(format!("see what {replica} says: `pilotage status`, and its own log"));
        }
        Termination::BadRequest => {
            return Some("the answer said what is wrong with the request".to_owned());
        }
        _ => {}
    }
    let is_slow = usual.is_none_or(|usual| usual.is_beaten_by(record));
    let text = match phase.filter(|_| is_slow)? {
        Phase::Queue => {
            "others had their turn first: see who uses what with `pilotage top`; more replicas, or a larger share for this tenant"
        }
        Phase::Retry if record.attempts <= 1 => {
            "more urgent requests took its place: see who uses what with `pilotage top`"
        }
        Phase::Retry => "a replica failed: `pilotage check` names it",
        Phase::Connect => {
            "the replica answered late: it is full inside, or the way there is long; `pilotage triage` looks at its own queue"
        }
        Phase::Prefill => {
            "long prompts that are in no cache: keep the prompt's head the same over requests, or route by prefix; `pilotage triage` says whether prefill binds"
        }
        Phase::Decode => match (usual, record.tpot) {
            (Some(Usual { tpot: Some(tpot), .. }), Some(own))
                if own.as_secs_f64() > tpot.as_secs_f64() * 1.5 =>
            {
                "its tokens came more slowly than others': the replica was fuller, or slower; `pilotage triage` compares replicas"
            }
            _ => "its answer was long: `max_tokens` bounds it",
        },
        Phase::ClientBlocked => "the client, or the network to it, reads slowly",
        Phase::Read => "the client sent its request slowly",
        Phase::Auth => {
            "an identity provider answered late, or the gateway itself is short of processor time"
        }
        Phase::Route | Phase::Other => {
            "the gateway itself is short of processor time: see pilotage_overhead_seconds"
        }
    };
    Some(text.to_owned())
}

/// A span for people.
fn spoken(span: Span) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}
