//! The queue's promises, by example and for any history.

use proptest::prelude::*;

use super::{Queue, QueueFull, QueueLimits, Ticket};
use crate::{Band, RequestId, TenantId, Time};

const LIMITS: QueueLimits = QueueLimits { requests_max: 4, tokens_max: 100 };

fn ticket(id: u64, band: Band, tokens: u64) -> Ticket {
    Ticket {
        id: RequestId(id),
        tenant: TenantId(0),
        band,
        tokens,
        arrived: Time::ZERO,
        deadline: None,
    }
}

fn order(queue: &mut Queue) -> Vec<u64> {
    std::iter::from_fn(|| queue.pop()).map(|ticket| ticket.id.0).collect()
}

#[test]
fn urgent_bands_go_first_and_equals_in_order_of_arrival() {
    let mut queue = Queue::new(LIMITS);
    for (id, band) in
        [(1, Band::Batch), (2, Band::Standard), (3, Band::Realtime), (4, Band::Standard)]
    {
        queue.push(ticket(id, band, 1)).unwrap();
    }
    assert_eq!(order(&mut queue), [3, 2, 4, 1]);
}

#[test]
fn a_request_put_back_goes_first_in_its_band() {
    let mut queue = Queue::new(LIMITS);
    queue.push(ticket(1, Band::Standard, 1)).unwrap();
    queue.push(ticket(2, Band::Standard, 1)).unwrap();
    let first = queue.pop().unwrap();
    queue.push_front(first);
    assert_eq!(order(&mut queue), [1, 2]);
}

#[test]
fn limits_hold_and_say_the_numbers() {
    let mut queue = Queue::new(LIMITS);
    queue.push(ticket(1, Band::Standard, 90)).unwrap();
    let full = queue.push(ticket(2, Band::Standard, 11));
    assert_eq!(full, Err(QueueFull { requests: 1, tokens: 90 }));
    for id in 3..6 {
        queue.push(ticket(id, Band::Standard, 1)).unwrap();
    }
    assert_eq!(queue.push(ticket(9, Band::Standard, 1)).unwrap_err().requests, 4);
}

#[test]
fn one_request_larger_than_the_token_limit_may_wait_alone() {
    let mut queue = Queue::new(LIMITS);
    queue.push(ticket(1, Band::Standard, 1_000)).unwrap();
    assert!(queue.push(ticket(2, Band::Standard, 1)).is_err());
}

#[test]
fn expired_requests_leave_by_deadline_whatever_their_band() {
    let mut queue = Queue::new(LIMITS);
    for (id, band, deadline_ms) in [(1, Band::Realtime, 30), (2, Band::Batch, 10)] {
        let deadline = Some(Time::from_millis(deadline_ms));
        queue.push(Ticket { deadline, ..ticket(id, band, 1) }).unwrap();
    }
    assert_eq!(queue.next_deadline(), Some(Time::from_millis(10)));
    assert_eq!(queue.pop_expired(Time::from_millis(9)), None);
    assert_eq!(queue.pop_expired(Time::from_millis(10)).unwrap().id, RequestId(2));
    assert_eq!(queue.next_deadline(), Some(Time::from_millis(30)));
}

proptest! {
    #[test]
    fn totals_match_the_tickets(steps in prop::collection::vec((0u8..4, 0u64..8, 0usize..4, 0u64..60), 0..200)) {
        let mut queue = Queue::new(LIMITS);
        let mut next = 0;
        for (step, pick, band, tokens) in steps {
            match step {
                0 | 1 => {
                    next += 1;
                    let deadline = (tokens % 2 == 0).then(|| Time::from_millis(tokens));
                    let _ = queue.push(Ticket { deadline, ..ticket(next, Band::ALL[band], tokens) });
                }
                2 => { queue.pop(); }
                _ => { queue.remove(RequestId(next.saturating_sub(pick))); }
            }
            prop_assert_eq!(queue.len() as usize, queue.iter().count());
            prop_assert_eq!(queue.tokens(), queue.iter().map(|ticket| ticket.tokens).sum::<u64>());
            prop_assert!(queue.len() <= LIMITS.requests_max);
            prop_assert!(queue.len() <= 1 || queue.tokens() <= LIMITS.tokens_max);
            prop_assert_eq!(queue.next_deadline(), queue.iter().filter_map(|ticket| ticket.deadline).min());
        }
    }
}
