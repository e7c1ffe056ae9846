//! A second attempt beside one whose answer takes unusually long to begin: the scheduler says when, and
//! where to; whichever answer begins first goes to the client, and the other attempt is given up.

use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_core::{FailureKind, RequestId, Time};
use pilotage_lens::Mark;
use tokio::sync::Notify;

use super::attempt::{self, Answer, Target};
use super::{Order, Watch};
use crate::app::Gateway;
use crate::driver::{Go, LaneHandle, Replica, Ticket};

/// What becomes of second attempts.
pub(crate) const OUTCOMES: [&str; 3] = ["won", "lost", "failed"];

/// A second attempt whose answer began first.
struct Won {
    ticket: Ticket,
    go: Go,
    answer: Answer,
    /// What it noted of its way.
    watch: Watch,
}

/// How the two came out.
enum Race {
    /// The first attempt has an answer, or failed and there is no other; whether a second one had
    /// come to nothing by then.
    First(Box<Result<Answer, FailureKind>>, bool),
    /// The second one has, and the first had failed or not.
    Second(Box<Won>, Option<FailureKind>),
}

/// Asks a replica, and perhaps another one as well. Afterwards the ticket is that of whichever
/// answered.
///
/// # Errors
/// The kind of the first attempt's failure; the client has seen nothing.
pub(super) async fn run(
    gateway: &Gateway,
    order: &Order,
    to: Target<'_>,
    ticket: &mut Ticket,
    watch: &mut Watch,
) -> Result<Answer, FailureKind> {
    if !order.hedge {
        return attempt::run(gateway, order, to, ticket, watch).await;
    }
    let second = Second {
        lane: ticket.lane().clone(),
        of: ticket.id(),
        due: ticket.second(),
        sent: Mutex::new(None),
    };
    // Most requests never come here, and must not carry the place for it.
    match Box::pin(race(gateway, order, to, ticket, (&second, watch))).await {
        Race::First(answer, is_over) => {
            if let Some(Sent { at, replica, until }) = second.sent.lock().take() {
                let until = until.unwrap_or_else(|| watch.now());
                watch.hedged(if is_over { "failed" } else { "lost" }, (at, until), &replica);
            }
            *answer
        }
        Race::Second(won, failed) => {
            let Won { ticket: other, go, answer, watch: by } = *won;
            std::mem::replace(ticket, other).outrun(failed);
            watch.outrun(&by, go.attempt, &go.why);
            Ok(answer)
        }
    }
}

async fn race(
    gateway: &Gateway,
    order: &Order,
    to: Target<'_>,
    ticket: &mut Ticket,
    (second, watch): (&Second, &mut Watch),
) -> Race {
    // What the second one notes of its way does not count until it has won.
    let aside = watch.aside();
    let first = attempt::run(gateway, order, to, ticket, watch);
    let other = second.run(gateway, order, aside);
    tokio::pin!(first, other);
    let mut is_over = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut first => {
                let failed = match &answer {
                    Err(kind) => Some(*kind),
                    Ok(Answer::Absent) => None,
                    Ok(_) => return Race::First(Box::new(answer), is_over),
                };
                if is_over || second.sent.lock().is_none() {
                    return Race::First(Box::new(answer), is_over);
                }
                // One that is under way has begun already what a further one would begin.
                return match other.await {
                    Some(won) => Race::Second(Box::new(won), failed),
                    None => Race::First(Box::new(answer), true),
                };
            }
            won = &mut other, if !is_over => match won {
                Some(won) => return Race::Second(Box::new(won), None),
                None => is_over = true,
            },
        }
    }
}

/// The second attempt.
struct Second {
    lane: LaneHandle,
    of: RequestId,
    /// It is due.
    due: Arc<Notify>,
    /// That it was sent.
    sent: Mutex<Option<Sent>>,
}

/// A second attempt that was sent.
struct Sent {
    at: Time,
    replica: Arc<Replica>,
    /// When it came to nothing by itself.
    until: Option<Time>,
}

impl Second {
    /// Waits until it is due, sends it where there is a place, and reads up to its first token. None
    /// where nothing comes of it.
    async fn run(&self, gateway: &Gateway, order: &Order, mut watch: Watch) -> Option<Won> {
        self.due.notified().await;
        let mut ticket = self.lane.hedge(self.of, gateway.next_id());
        let go = ticket.turn().await.ok()?;
        let at = watch.mark(Mark::Dispatched);
        let replica = Arc::clone(&go.replica);
        *self.sent.lock() = Some(Sent { at, replica, until: None });
        let to = Target {
            door: &go.door,
            id: ticket.id(),
            attempt: go.attempt,
            displaces: go.displaces,
        };
        let answer = attempt::run(gateway, order, to, &mut ticket, &mut watch).await;
        if let (Some(sent), Ok(Answer::Stopped | Answer::Absent) | Err(_)) =
            (&mut *self.sent.lock(), &answer)
        {
            sent.until = Some(watch.now());
        }
        match answer {
            Ok(Answer::Stopped | Answer::Absent) => None,
            Ok(answer) => {
                ticket.won();
                Some(Won { ticket, go, answer, watch })
            }
            Err(kind) => {
                tracing::warn!(
                    replica = go.replica.name.as_str(),
                    ?kind,
                    "a second attempt failed"
                );
                ticket.failed(kind);
                None
            }
        }
    }
}
