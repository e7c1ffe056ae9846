//! What may wait at all.

use super::*;

#[test]
fn limits_hold_and_say_the_numbers() {
    let mut queue = Queue::new(LIMITS, strict());
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
    let mut queue = Queue::new(LIMITS, strict());
    queue.push(ticket(1, Band::Standard, 1_000)).unwrap();
    assert!(queue.push(ticket(2, Band::Standard, 1)).is_err());
}
