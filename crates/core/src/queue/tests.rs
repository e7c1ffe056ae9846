//! The queue's promises, by example and for any history.

mod ageing;
mod credit;
mod limits;

use proptest::prelude::*;

use super::{
    BandPolicy, Cost, FairConfig, Lift, Predict, Queue, QueueFull, QueueLimits, TenantShare,
    TenantTree, Ticket,
};
use crate::{Band, RequestId, Span, TenantId, Time, Tokens};

const LIMITS: QueueLimits = QueueLimits { requests_max: 4, tokens_max: 100 };

/// Tokens without output, for who only looks at places.
fn ticket(id: u64, band: Band, input: u32) -> Ticket {
    Ticket {
        id: RequestId(id),
        tenant: TenantId(0),
        band,
        tokens: Tokens { input, cached: 0, output: 0 },
        arrived: Time::ZERO,
        deadline: None,
    }
}

fn strict() -> FairConfig {
    FairConfig { bands: [BandPolicy::STRICT; 4], ..FairConfig::default() }
}

fn pop(queue: &mut Queue, now: Time) -> Option<Ticket> {
    let id = queue.peek(now)?.id;
    queue.take(now, id)
}

/// The order of turns when each request ends at once.
fn order(queue: &mut Queue) -> Vec<u64> {
    let turns = std::iter::from_fn(|| {
        let ticket = pop(queue, Time::ZERO)?;
        queue.settle(Time::ZERO, ticket.id, None);
        Some(ticket.id.0)
    });
    turns.collect()
}

#[test]
fn urgent_bands_go_first_and_equals_in_order_of_arrival() {
    let mut queue = Queue::new(LIMITS, strict());
    for (id, band) in
        [(1, Band::Batch), (2, Band::Standard), (3, Band::Realtime), (4, Band::Standard)]
    {
        queue.push(ticket(id, band, 1)).unwrap();
    }
    assert_eq!(order(&mut queue), [3, 2, 4, 1]);
}

#[test]
fn a_request_put_back_goes_first_in_its_band() {
    let mut queue = Queue::new(LIMITS, strict());
    queue.push(ticket(1, Band::Standard, 1)).unwrap();
    queue.push(ticket(2, Band::Standard, 1)).unwrap();
    let first = pop(&mut queue, Time::ZERO).unwrap();
    queue.again(first.id, None);
    assert_eq!(order(&mut queue), [1, 2]);
}

#[test]
fn what_goes_on_is_charged_once_and_its_tenant_keeps_paying_for_what_came() {
    let cost = Cost::VTC;
    let mut queue = Queue::new(WIDE, FairConfig { predict: Predict::Most, ..strict() });
    let tokens = Tokens { input: 10, cached: 0, output: 20 };
    for tenant in [1, 2] {
        backlog(&mut queue, tenant, 2, tokens);
    }
    let first = pop(&mut queue, Time::ZERO).unwrap();
    queue.progress(Time::ZERO, first.id, 8);
    let charged = queue.cost(first.id).unwrap();
    queue.go_on(first.id, Some(Time::from_nanos(1)));
    assert_eq!(pop(&mut queue, Time::ZERO).unwrap().id, first.id, "it goes first");
    queue.progress(Time::ZERO, first.id, 8);
    assert_eq!(queue.cost(first.id), Some(charged));
    queue.go_on(first.id, Some(Time::from_nanos(1)));
    assert_eq!(queue.pop_expired(Time::from_nanos(1)).unwrap().id, first.id);
    let service = queue.entitlements().iter().map(|row| row.service).max();
    let came = cost.of_input(tokens) + cost.of_output(8);
    assert_eq!(service, Some(came / 1000), "what was predicted and did not come is given back");
}

const WIDE: QueueLimits = QueueLimits { requests_max: 100_000, tokens_max: u64::MAX };

fn share(id: u32, parent: Option<u32>, weight: u32) -> TenantShare {
    TenantShare { parent: parent.map(TenantId), weight, ..TenantShare::top(TenantId(id)) }
}

fn queue(config: FairConfig, tenants: &[TenantShare], capacity: u64) -> Queue {
    let mut queue = Queue::new(WIDE, config);
    queue.set_tree(TenantTree::new(tenants.iter().copied()).unwrap());
    queue.set_capacity(capacity);
    queue
}

/// `count` requests of a tenant, all there from the beginning.
fn backlog(queue: &mut Queue, tenant: u32, count: u64, tokens: Tokens) {
    for at in 0..count {
        let id = RequestId(u64::from(tenant) * 1_000_000 + at + 1);
        let ticket =
            Ticket { id, tenant: TenantId(tenant), tokens, ..ticket(0, Band::Standard, 0) };
        queue.push(ticket).unwrap();
    }
}

/// Turns by tenant, each request served whole before the next.
fn turns(queue: &mut Queue, turns: usize) -> std::collections::BTreeMap<u32, u32> {
    let mut count = std::collections::BTreeMap::new();
    for _ in 0..turns {
        let ticket = pop(queue, Time::ZERO).unwrap();
        queue.settle(Time::ZERO, ticket.id, Some(ticket.tokens));
        *count.entry(ticket.tenant.0).or_default() += 1;
    }
    count
}

const SMALL: Tokens = Tokens { input: 100, cached: 0, output: 50 };

#[test]
fn service_follows_weights_at_every_level() {
    // Two organisations 1 : 3; the second has teams 1 : 1, one of them with two applications 4 : 1.
    let tenants = [
        share(1, None, 1000),
        share(2, None, 3000),
        share(3, Some(2), 1000),
        share(4, Some(2), 1000),
        share(5, Some(4), 4000),
        share(6, Some(4), 1000),
    ];
    let mut queue = queue(strict(), &tenants, 0);
    for leaf in [1, 3, 5, 6] {
        backlog(&mut queue, leaf, 800, SMALL);
    }
    let turns = turns(&mut queue, 800);
    let near = |tenant: u32, expect: u32| {
        assert!(turns[&tenant].abs_diff(expect) <= 2, "{tenant}: {turns:?}");
    };
    near(1, 200);
    near(3, 300);
    near(5, 240);
    near(6, 60);
}

#[test]
fn who_fills_the_queue_makes_place_for_who_has_little_in_it() {
    let limits = QueueLimits { requests_max: 10, tokens_max: u64::MAX };
    let tenants = [
        share(1, None, 1000),
        share(2, None, 1000),
        share(3, Some(2), 1000),
        share(4, Some(2), 1000),
    ];
    let mut queue = Queue::new(limits, strict());
    queue.set_tree(TenantTree::new(tenants).unwrap());
    backlog(&mut queue, 1, 4, SMALL);
    backlog(&mut queue, 3, 6, SMALL);
    let of = |id, tenant, band| Ticket { tenant: TenantId(tenant), ..ticket(id, band, 1) };
    let mut place = |id, tenant, band| {
        let new = of(id, tenant, band);
        assert!(queue.push(new).is_err());
        let out = queue.make_place(&new).map(|out| (out.tenant.0, out.id.0));
        if out.is_some() {
            queue.push(new).unwrap();
        }
        out
    };
    // The second organisation has most, and in it the third tenant: its newest goes.
    assert_eq!(place(1, 1, Band::Standard), Some((3, 3_000_006)));
    // Five and five: whoever comes now has the least right.
    assert_eq!(place(2, 1, Band::Standard), None);
    assert_eq!(place(3, 3, Band::Standard), None);
    // The third's sibling has nothing there.
    assert_eq!(place(4, 4, Band::Standard), Some((3, 3_000_005)));
    // Something more urgent of one's own takes the place of the less urgent.
    assert_eq!(place(5, 3, Band::Realtime), Some((3, 3_000_004)));
}

#[test]
fn splitting_into_many_children_gains_nothing() {
    let mut tenants = vec![share(1, None, 1000), share(2, None, 1000)];
    tenants.extend((10..20).map(|id| share(id, Some(2), 1000)));
    let mut queue = queue(strict(), &tenants, 0);
    backlog(&mut queue, 1, 400, SMALL);
    for id in 10..20 {
        backlog(&mut queue, id, 400, SMALL);
    }
    let turns = turns(&mut queue, 400);
    assert!(turns[&1].abs_diff(200) <= 1, "{turns:?}");
}

#[test]
fn a_parents_own_requests_are_one_more_child() {
    let tenants = [share(1, None, 1000), share(2, Some(1), 1000)];
    let mut queue = queue(strict(), &tenants, 0);
    backlog(&mut queue, 1, 100, SMALL);
    backlog(&mut queue, 2, 100, SMALL);
    let turns = turns(&mut queue, 100);
    assert!(turns[&1].abs_diff(50) <= 1, "{turns:?}");
}

#[test]
fn idle_tenants_hoard_nothing() {
    let tenants = [share(1, None, 1000), share(2, None, 1000)];
    let mut queue = queue(strict(), &tenants, 0);
    backlog(&mut queue, 1, 1000, SMALL);
    turns(&mut queue, 500);
    backlog(&mut queue, 2, 1000, SMALL);
    let after = turns(&mut queue, 100);
    assert!(after[&2].abs_diff(50) <= 1, "{after:?}");
    // Also where nobody waits when it comes back: the one that left last sets the mark.
    let mut queue = super::tests::queue(strict(), &tenants, 0);
    backlog(&mut queue, 1, 500, SMALL);
    turns(&mut queue, 500);
    backlog(&mut queue, 2, 100, SMALL);
    backlog(&mut queue, 1, 100, SMALL);
    let after = turns(&mut queue, 100);
    assert!(after[&2].abs_diff(50) <= 1, "{after:?}");
}

#[test]
fn guarantees_come_first_and_the_rest_is_shared_by_weight() {
    let guaranteed = TenantShare { guaranteed: 500, ..share(1, None, 1000) };
    let mut queue = queue(strict(), &[guaranteed, share(2, None, 1000)], 1000);
    for tenant in [2, 1] {
        backlog(&mut queue, tenant, 1000, Tokens { input: 100, cached: 0, output: 0 });
    }
    // Ten requests fill the capacity: the first five go by guarantee.
    let mut running: std::collections::VecDeque<Ticket> =
        (0..10).map(|_| pop(&mut queue, Time::ZERO).unwrap()).collect();
    assert!(running.iter().take(5).all(|ticket| ticket.tenant == TenantId(1)));
    // From then on half is guaranteed, and the other half shared.
    let mut turns = [0; 3];
    for _ in 0..400 {
        let done = running.pop_front().unwrap();
        queue.settle(Time::ZERO, done.id, Some(done.tokens));
        let next = pop(&mut queue, Time::ZERO).unwrap();
        turns[next.tenant.0 as usize] += 1;
        running.push_back(next);
    }
    assert!((290..=310).contains(&turns[1]), "{turns:?}");
}

#[test]
fn borrowing_and_lending_limits_hold() {
    let tokens = Tokens { input: 100, cached: 0, output: 0 };
    let borrower =
        TenantShare { guaranteed: 200, borrowing_limit: Some(100), ..share(1, None, 1000) };
    let mut queue = queue(strict(), &[borrower, share(2, None, 1000)], 1000);
    backlog(&mut queue, 1, 10, tokens);
    for _ in 0..3 {
        assert_eq!(pop(&mut queue, Time::ZERO).unwrap().tenant, TenantId(1));
    }
    assert_eq!(queue.peek(Time::ZERO), None, "over the borrowing limit");
    let first = RequestId(1_000_001);
    queue.settle(Time::ZERO, first, None);
    assert!(queue.peek(Time::ZERO).is_some());

    let lender = TenantShare { guaranteed: 400, lending_limit: Some(100), ..share(1, None, 1000) };
    let mut queue = super::tests::queue(strict(), &[lender, share(2, None, 1000)], 1000);
    backlog(&mut queue, 2, 10, tokens);
    let id = queue.peek(Time::ZERO).unwrap().id;
    assert_eq!(queue.usable(id, 1000), 700);
    backlog(&mut queue, 1, 10, tokens);
    let id = queue.peek(Time::ZERO).unwrap().id;
    assert_eq!(
        (queue.peek(Time::ZERO).unwrap().tenant, queue.usable(id, 1000)),
        (TenantId(1), 1000)
    );
}

#[test]
fn a_capped_team_holds_up_neither_its_siblings_nor_other_organisations() {
    let tokens = Tokens { input: 100, cached: 0, output: 0 };
    for quantum in [0, 1_000_000] {
        let capped =
            TenantShare { guaranteed: 100, borrowing_limit: Some(0), ..share(3, Some(1), 1000) };
        let organisation = TenantShare { guaranteed: 100, ..share(1, None, 1000) };
        let tenants = [organisation, share(2, None, 1000), capped, share(4, Some(1), 1000)];
        let config = FairConfig { quantum, ..strict() };
        let mut queue = queue(config, &tenants, 1000);
        backlog(&mut queue, 3, 3, tokens);
        assert_eq!(pop(&mut queue, Time::ZERO).unwrap().tenant, TenantId(3));
        assert_eq!(queue.peek(Time::ZERO), None, "nobody else waits");
        backlog(&mut queue, 2, 1, tokens);
        assert_eq!(pop(&mut queue, Time::ZERO).unwrap().tenant, TenantId(2));
        backlog(&mut queue, 4, 1, tokens);
        assert_eq!(pop(&mut queue, Time::ZERO).unwrap().tenant, TenantId(4));
        assert_eq!(queue.disorder(), None);
    }
}

#[test]
fn bands_have_floors_caps_and_age() {
    let policy = |floor, cap, age_after| BandPolicy { floor, cap, age_after };
    let mut config = strict();
    config.bands[3] = policy(100, 1000, None);
    config.bands[0] = policy(0, 500, None);
    let mut one = queue(config, &[], 1000);
    for id in 0..20 {
        one.push(ticket(id, Band::Realtime, 100)).unwrap();
        one.push(ticket(100 + id, Band::Batch, 100)).unwrap();
    }
    let bands: Vec<Band> = (0..10).map(|_| pop(&mut one, Time::ZERO).unwrap().band).collect();
    assert_eq!(bands[0], Band::Batch, "below its floor");
    assert_eq!(bands[1..6], [Band::Realtime; 5]);
    assert_eq!(bands[6..], [Band::Batch; 4], "realtime is at its cap");

    let mut config = strict();
    config.bands[2] = policy(0, 1000, Some(Span::from_secs(30)));
    let mut two = queue(config, &[], 0);
    for id in 0..100 {
        two.push(ticket(id, Band::Realtime, 1)).unwrap();
        two.push(ticket(100 + id, Band::Bulk, 1)).unwrap();
    }
    let aged = |queue: &mut Queue, now| {
        (0..50).filter(|_| pop(queue, now).unwrap().band == Band::Bulk).count()
    };
    assert_eq!(aged(&mut two, Time::from_millis(29_999)), 0);
    assert_eq!(aged(&mut two, Time::from_millis(30_000)), 10, "one turn in five");
}

#[test]
fn within_the_quantum_the_warmest_prompt_goes_first() {
    let tenants = [share(1, None, 1000), share(2, None, 1000)];
    let config = FairConfig { quantum: 250_000, ..strict() };
    let mut queue = queue(config, &tenants, 0);
    backlog(&mut queue, 1, 10, SMALL);
    backlog(&mut queue, 2, 10, SMALL);
    let warm = |ticket: &Ticket| if ticket.tenant == TenantId(2) { 90 } else { 0 };
    let mut order = Vec::new();
    for _ in 0..8 {
        let ticket = *queue.peek_near(Time::ZERO, warm).unwrap();
        queue.take(Time::ZERO, ticket.id);
        queue.settle(Time::ZERO, ticket.id, Some(ticket.tokens));
        order.push(ticket.tenant.0);
    }
    // Each costs 200 000: the second tenant may be one and a bit ahead, then it is the first's turn.
    assert_eq!(order, [2, 2, 1, 2, 1, 2, 1, 2]);
}

#[test]
fn within_the_quantum_a_line_is_looked_into_but_its_oldest_is_not_passed_for_ever() {
    let config = FairConfig { quantum: 1_000_000_000, ..strict() };
    let mut queue = queue(config, &[share(1, None, 1000)], 0);
    backlog(&mut queue, 1, 60, SMALL);
    // All but the oldest are warm.
    let warm = |ticket: &Ticket| u32::from(ticket.id != RequestId(1_000_001)) * 90;
    let order: Vec<u64> = (0..20)
        .map(|_| {
            let ticket = *queue.peek_near(Time::ZERO, warm).unwrap();
            queue.take(Time::ZERO, ticket.id);
            queue.settle(Time::ZERO, ticket.id, Some(ticket.tokens));
            ticket.id.0 - 1_000_000
        })
        .collect();
    assert_eq!(order[..16], (2..18).collect::<Vec<_>>());
    assert_eq!(order[16..18], [1, 18]);
    assert_eq!(queue.disorder(), None);
}

#[test]
fn a_tree_can_change_while_requests_wait() {
    let tenants = [share(1, None, 1000), share(2, None, 1000), share(3, None, 1000)];
    let mut queue = queue(strict(), &tenants, 0);
    for tenant in [1, 2, 3] {
        backlog(&mut queue, tenant, 10, SMALL);
    }
    turns(&mut queue, 6);
    let removed = queue.set_tree(
        TenantTree::new([share(1, None, 1000), share(2, None, 3000), share(4, None, 1000)])
            .unwrap(),
    );
    assert_eq!(removed.len(), 8);
    assert!(removed.iter().all(|ticket| ticket.tenant == TenantId(3)));
    assert_eq!((queue.len(), queue.disorder()), (16, None));
    backlog(&mut queue, 4, 10, SMALL);
    let after = turns(&mut queue, 10);
    assert!(after[&2].abs_diff(6) <= 1 && after[&4].abs_diff(2) <= 1, "{after:?}");
}

#[test]
fn what_was_estimated_is_settled() {
    let tenants = [share(1, None, 1000), share(2, None, 1000)];
    let mut queue = queue(FairConfig { predict: Predict::Average, ..strict() }, &tenants, 0);
    let estimate = Tokens { input: 1000, cached: 0, output: 500 };
    backlog(&mut queue, 1, 2, estimate);
    backlog(&mut queue, 2, 2, estimate);
    let first = pop(&mut queue, Time::ZERO).unwrap();
    assert_eq!(first.tenant, TenantId(1));
    queue.settle(Time::ZERO, first.id, Some(Tokens { input: 10, cached: 0, output: 1 }));
    let service = |queue: &Queue| -> Vec<u64> {
        queue.entitlements().iter().map(|one| one.service).collect()
    };
    assert_eq!(service(&queue), [12, 0]);
    let second = pop(&mut queue, Time::ZERO).unwrap();
    assert_eq!(second.tenant, TenantId(2));
    assert_eq!(service(&queue), [12, 2000]);
    queue.forgive(second.id);
    assert_eq!(service(&queue), [12, 0], "nothing was served");
}

#[test]
fn waits_are_predicted_from_ones_own_share() {
    let tenants = [share(1, None, 1000), share(2, None, 3000)];
    let mut queue = queue(strict(), &tenants, 0);
    backlog(&mut queue, 1, 4, SMALL);
    backlog(&mut queue, 2, 100, SMALL);
    let each = Cost::VTC.of_input(SMALL) + Cost::VTC.of_output(SMALL.output);
    let near = |ahead: u64, requests: u64| {
        let off = (ahead / each).abs_diff(requests);
        assert!(off <= 1, "{} instead of {requests}", ahead / each);
    };
    near(queue.ahead(TenantId(1), Band::Standard), 16);
    near(queue.ahead(TenantId(2), Band::Standard), 104);
    near(queue.ahead(TenantId(1), Band::Realtime), 0);
    near(queue.ahead(TenantId(1), Band::Batch), 104);
}

#[test]
fn expired_requests_leave_by_deadline_whatever_their_band() {
    let mut queue = Queue::new(LIMITS, strict());
    for (id, band, deadline_ms) in [(1, Band::Realtime, 30), (2, Band::Batch, 10)] {
        let deadline = Some(Time::from_millis(deadline_ms));
        queue.push(Ticket { deadline, ..ticket(id, band, 1) }).unwrap();
    }
    assert_eq!(queue.next_deadline(), Some(Time::from_millis(10)));
    assert_eq!(queue.pop_expired(Time::from_millis(9)), None);
    assert_eq!(queue.pop_expired(Time::from_millis(10)).unwrap().id, RequestId(2));
    assert_eq!(queue.next_deadline(), Some(Time::from_millis(30)));
}

/// A server that runs up to `most` tokens at once, and lets them grow in any order.
struct Server {
    queue: Queue,
    running: Vec<(RequestId, u32, Tokens)>,
    next: u64,
    most: u64,
}

impl Server {
    fn fill(&mut self, now: Time) {
        while let Some(ticket) = self.queue.peek(now).copied() {
            let held: u64 = self.running.iter().map(|(_, _, tokens)| tokens.total()).sum();
            if held > 0 && held + ticket.tokens.total() > self.most {
                return;
            }
            self.queue.take(now, ticket.id);
            self.running.push((ticket.id, 0, ticket.tokens));
        }
    }

    fn grow(&mut self, now: Time, pick: usize) {
        if self.running.is_empty() {
            return;
        }
        let at = pick % self.running.len();
        let (id, output, tokens) = &mut self.running[at];
        if *output < tokens.output {
            *output += 1;
            self.queue.progress(now, *id, *output);
        } else {
            self.queue.settle(now, *id, Some(*tokens));
            self.running.swap_remove(at);
        }
    }
}

proptest! {
    #[test]
    fn totals_match_the_tickets(steps in prop::collection::vec((0u8..4, 0u64..8, 0usize..4, 0u32..60), 0..200)) {
        let mut queue = Queue::new(LIMITS, FairConfig::default());
        let mut next = 0;
        for (step, pick, band, tokens) in steps {
            match step {
                0 | 1 => {
                    next += 1;
                    let deadline = (tokens % 2 == 0).then(|| Time::from_millis(tokens.into()));
                    let _ = queue.push(Ticket { deadline, ..ticket(next, Band::ALL[band], tokens) });
                }
                2 => { pop(&mut queue, Time::ZERO); }
                _ => { queue.remove(RequestId(next.saturating_sub(pick))); }
            }
            prop_assert_eq!(queue.disorder(), None);
            prop_assert_eq!(queue.len() as usize, queue.iter().count());
            prop_assert_eq!(queue.tokens(), queue.iter().map(|ticket| ticket.tokens.total()).sum::<u64>());
            prop_assert!(queue.len() <= LIMITS.requests_max);
            prop_assert!(queue.len() <= 1 || queue.tokens() <= LIMITS.tokens_max);
            prop_assert_eq!(queue.next_deadline(), queue.iter().filter_map(|ticket| ticket.deadline).min());
        }
    }

    /// Lemma 4.3 of the VTC paper, at every level of a random tree.
    #[test]
    fn counters_of_waiting_siblings_stay_within_the_bound(
        parents in prop::collection::vec((0usize..6, 1u32..5), 1..12),
        most in 200u64..1000,
        steps in prop::collection::vec((0u8..8, 0usize..64, 1u32..120, 0u32..80), 1..400),
    ) {
        let tenants: Vec<TenantShare> = parents.iter().enumerate().map(|(at, (up, weight))| {
            let parent = at.checked_sub(1 + up).filter(|parent| *parent < 3).map(|up| up as u32);
            share(at as u32, parent, weight * 1000)
        }).collect();
        let queue = queue(strict(), &tenants, 0);
        let mut server = Server { queue, running: Vec::new(), next: 0, most };
        for (step, pick, input, output) in steps {
            match step {
                0 | 1 => {
                    server.next += 1;
                    let tokens = Tokens { input, cached: 0, output };
                    let tenant = TenantId((pick % tenants.len()) as u32);
                    server.queue.push(Ticket { tenant, tokens, ..ticket(server.next, Band::Standard, 0) }).unwrap();
                    server.fill(Time::ZERO);
                }
                2 => { server.queue.remove(RequestId(server.next.saturating_sub(pick as u64))); }
                _ => { server.grow(Time::ZERO, pick); server.fill(Time::ZERO); }
            }
            prop_assert_eq!(server.queue.disorder(), None);
            let bound = Cost::VTC.gap_bound(120, most).unwrap();
            prop_assert!(server.queue.gap() <= u128::from(bound), "{} > {}", server.queue.gap(), bound);
        }
    }
}

/// Tenant 1 is served alone while tenant 2 is idle; then nobody waits; then both have a backlog.
#[test]
fn credit_of_idle_time_is_kept_as_configured() {
    let check = |lift: Lift, expect: u128| {
        let mut queue = queue(FairConfig { lift, ..strict() }, &[share(1, None, 1000)], 0);
        backlog(&mut queue, 1, 10, SMALL);
        assert_eq!(order(&mut queue).len(), 10);
        // While nobody waits, the second comes first and the first after it.
        backlog(&mut queue, 2, 1, SMALL);
        let late = Ticket { tenant: TenantId(1), ..ticket(99, Band::Standard, 1) };
        queue.push(late).unwrap();
        assert_eq!(queue.gap(), expect, "{lift:?}");
    };
    let served = 10 * u128::from(Cost::VTC.of_input(SMALL));
    check(Lift::Full, 0);
    check(Lift::WaitingOnly, served);
    check(Lift::Off, served);
}
