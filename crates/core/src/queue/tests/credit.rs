//! Nobody pays for what was not given, and nobody gains by stops, failures or corrections.

use super::*;

fn guaranteed(id: u32, thousandths: u32) -> TenantShare {
    TenantShare { guaranteed: thousandths, ..share(id, None, 1000) }
}

fn service(queue: &Queue, tenant: u32) -> u64 {
    let one = queue.entitlements().into_iter().find(|one| one.tenant == TenantId(tenant));
    one.unwrap().service
}

#[test]
fn without_a_known_capacity_nobody_is_capped() {
    let capped = TenantShare { borrowing_limit: Some(100), ..share(1, None, 1000) };
    let mut queue = queue(strict(), &[capped], u64::MAX);
    backlog(&mut queue, 1, 3, SMALL);
    for _ in 0..3 {
        assert!(pop(&mut queue, Time::ZERO).is_some());
    }
}

#[test]
fn guarantees_take_turns_where_places_run_out_before_tokens() {
    // One place, and more tokens than anybody can use: all stay within their guarantees.
    let tenants = [guaranteed(1, 100), guaranteed(2, 300), guaranteed(3, 100)];
    let mut queue = queue(strict(), &tenants, 1_000_000);
    for tenant in [1, 2] {
        backlog(&mut queue, tenant, 400, SMALL);
    }
    let early = turns(&mut queue, 200);
    assert!(early[&1].abs_diff(50) <= 1 && early[&2].abs_diff(150) <= 1, "{early:?}");
    // Who comes late has saved nothing.
    backlog(&mut queue, 3, 100, SMALL);
    let late = turns(&mut queue, 50);
    assert!(late[&3].abs_diff(10) <= 1, "{late:?}");
}

#[test]
fn what_was_within_the_guarantee_is_not_given_back_from_what_was_borrowed() {
    let tokens = Tokens { input: 100, cached: 0, output: 0 };
    let mut queue = queue(strict(), &[guaranteed(1, 500), share(2, None, 1000)], 1000);
    backlog(&mut queue, 1, 11, tokens);
    let running: Vec<Ticket> = (0..10).map(|_| pop(&mut queue, Time::ZERO).unwrap()).collect();
    for ticket in running {
        queue.settle(Time::ZERO, ticket.id, Some(tokens));
    }
    let borrowed = service(&queue, 1);
    assert!(borrowed > 0);
    let last = pop(&mut queue, Time::ZERO).unwrap();
    queue.settle(Time::ZERO, last.id, Some(Tokens { cached: 100, ..tokens }));
    assert_eq!(service(&queue, 1), borrowed);
}

#[test]
fn who_goes_on_after_a_stop_pays_for_what_came_before() {
    let mut queue = queue(strict(), &[share(1, None, 1000)], 0);
    backlog(&mut queue, 1, 1, SMALL);
    let id = pop(&mut queue, Time::ZERO).unwrap().id;
    queue.progress(Time::ZERO, id, 50);
    queue.put_back(id, None);
    pop(&mut queue, Time::ZERO).unwrap();
    queue.settle(Time::ZERO, id, None);
    assert_eq!(service(&queue, 1), 100 + 2 * 50);
}

#[test]
fn a_failed_turn_costs_nothing_where_none_follows() {
    let mut queue = queue(strict(), &[share(1, None, 1000)], 0);
    backlog(&mut queue, 1, 1, SMALL);
    let id = pop(&mut queue, Time::ZERO).unwrap().id;
    queue.again(id, Some(Time::ZERO));
    assert_eq!(queue.pop_expired(Time::ZERO).unwrap().id, id);
    assert_eq!(service(&queue, 1), 0);
}

#[test]
fn an_answer_that_nobody_counted_predicts_nothing() {
    let mut queue = queue(strict(), &[share(1, None, 1000)], 0);
    backlog(&mut queue, 1, 10, SMALL);
    for _ in 0..9 {
        let id = pop(&mut queue, Time::ZERO).unwrap().id;
        queue.settle(Time::ZERO, id, None);
    }
    let last = queue.peek(Time::ZERO).unwrap().id;
    assert_eq!(queue.need(last), Some(SMALL.total()));
}

#[test]
fn who_was_put_back_stays_in_front_when_the_tree_changes() {
    let mut queue = queue(strict(), &[share(1, None, 1000)], 0);
    backlog(&mut queue, 1, 4, SMALL);
    let stopped: Vec<RequestId> = (0..2).map(|_| pop(&mut queue, Time::ZERO).unwrap().id).collect();
    for id in &stopped {
        queue.put_back(*id, None);
    }
    queue.set_tree(TenantTree::new([share(1, None, 2000)]).unwrap());
    let first = |queue: &mut Queue| pop(queue, Time::ZERO).unwrap().id;
    assert_eq!([first(&mut queue), first(&mut queue)], [stopped[1], stopped[0]]);
}
