//! Quotas by example, and that their books balance for any history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Admit, Budget, Demand, Limit, Now, Quota, Totals, Use, Window};
use crate::{RequestId, Span, TenantId, TenantShare, TenantTree, Time};

/// Organisation 1 with team 2 and its application 3.
fn tree() -> TenantTree {
    let share = |id, parent: Option<u32>| TenantShare {
        parent: parent.map(TenantId),
        ..TenantShare::top(TenantId(id))
    };
    TenantTree::new([share(1, None), share(2, Some(1)), share(3, Some(2))]).unwrap()
}

fn at(ms: u64) -> Now {
    Now { time: Time::from_millis(ms), unix_ms: 1_700_000_000_000 + ms }
}

fn admit(quotas: &[(u32, Quota)]) -> Admit {
    let mut admit = Admit::default();
    let quotas = quotas.iter().map(|(id, quota)| (TenantId(*id), quota.clone())).collect();
    admit.set_quotas(at(0), tree(), quotas);
    admit
}

fn demand(input: u64, output: u64, money: u64) -> Demand {
    Demand { most: Use { input, output, money }, bytes: 100 }
}

const APP: TenantId = TenantId(3);

#[test]
fn every_limit_of_the_path_holds_and_the_denial_says_which() {
    let quota = Quota::default;
    let check = |owner: u32, quota: Quota, asked: Demand, limit: Limit, most: u64, retry: bool| {
        let mut admit = admit(&[(owner, quota)]);
        let mut count = 0;
        let denial = loop {
            match admit.reserve(at(0), RequestId(count), APP, asked) {
                Ok(_) => count += 1,
                Err(denial) => break denial,
            }
            assert!(count < 1000, "no limit");
        };
        assert_eq!((denial.tenant, denial.limit, denial.most), (TenantId(owner), limit, most));
        assert_eq!(denial.retry_after.is_some(), retry, "{denial}");
        count
    };
    let requests = Quota { requests_per_minute: Some(60), ..quota() };
    assert_eq!(check(1, requests, demand(1, 1, 0), Limit::Requests, 60, true), 60);
    let input = Quota { input_tokens_per_minute: Some(100), ..quota() };
    assert_eq!(check(2, input.clone(), demand(30, 1, 0), Limit::InputTokens, 100, true), 3);
    assert_eq!(check(2, input, demand(101, 1, 0), Limit::InputTokens, 100, false), 0);
    let output = Quota { output_tokens_per_minute: Some(100), ..quota() };
    assert_eq!(check(3, output.clone(), demand(0, 50, 0), Limit::OutputTokens, 100, true), 2);
    // How long an answer gets is not known, so that a large estimate alone is no reason.
    assert_eq!(check(3, output, demand(0, 900, 0), Limit::OutputTokens, 100, true), 1);
    let concurrency = Quota { concurrency: Some(7), ..quota() };
    assert_eq!(check(1, concurrency, demand(1, 1, 0), Limit::Concurrency, 7, true), 7);
    let queued = Quota { queued_requests: Some(5), ..quota() };
    assert_eq!(check(1, queued, demand(1, 1, 0), Limit::QueuedRequests, 5, true), 5);
    let bytes = Quota { queued_bytes: Some(450), ..quota() };
    assert_eq!(check(1, bytes, demand(1, 1, 0), Limit::QueuedBytes, 450, true), 4);
    let budget = Budget { window: Window::Day, hard: 1000, soft: None };
    let money = Quota { budgets: vec![budget], ..quota() };
    assert_eq!(check(1, money, demand(1, 1, 300), Limit::Budget(Window::Day), 1000, true), 3);
}

#[test]
fn times_to_come_back_are_true() {
    let mut admit = admit(&[(1, Quota { requests_per_minute: Some(6), ..Quota::default() })]);
    for id in 0..6 {
        admit.reserve(at(0), RequestId(id), APP, demand(1, 1, 0)).unwrap();
    }
    let denial = admit.reserve(at(0), RequestId(9), APP, demand(1, 1, 0)).unwrap_err();
    let after = denial.retry_after.unwrap();
    assert!((10_000..=12_500).contains(&after.as_millis()), "{after:?}");
    let later = Now { time: Time::ZERO + after, ..at(0) };
    admit.reserve(later, RequestId(9), APP, demand(1, 1, 0)).unwrap();
}

#[test]
fn nothing_is_reserved_where_any_limit_of_the_path_is_full() {
    let quota = |concurrency| Quota { concurrency: Some(concurrency), ..Quota::default() };
    let mut admit = admit(&[(1, quota(1)), (3, quota(5))]);
    admit.reserve(at(0), RequestId(1), APP, demand(5, 5, 5)).unwrap();
    for id in 2..20 {
        assert!(admit.reserve(at(0), RequestId(id), APP, demand(5, 5, 5)).is_err());
    }
    assert_eq!(admit.totals(APP).unwrap().reserved.input, 5);
    admit.settle(at(1), RequestId(1), Use::default());
    admit.reserve(at(1), RequestId(99), APP, demand(5, 5, 5)).unwrap();
}

#[test]
fn budgets_follow_the_calendar_forward_only() {
    let budget = Budget { window: Window::Hour, hard: 1000, soft: Some(500) };
    let mut admit = admit(&[(1, Quota { budgets: vec![budget], ..Quota::default() })]);
    let spend = |admit: &mut Admit, now: Now, id: u64| {
        let granted = admit.reserve(now, RequestId(id), APP, demand(0, 0, 600));
        admit.settle(now, RequestId(id), Use { money: 600, ..Use::default() });
        granted
    };
    assert_eq!(spend(&mut admit, at(0), 1).unwrap().warning, None);
    let denial = spend(&mut admit, at(0), 2).unwrap_err();
    assert_eq!((denial.limit, denial.used), (Limit::Budget(Window::Hour), 600));
    assert_eq!(admit.headroom(at(0), APP).warning, Some((Window::Hour, 600, 1000)));
    // The wall clock goes back by a day: the window does not.
    let back = Now { unix_ms: at(0).unix_ms - 86_400_000, ..at(5) };
    assert!(spend(&mut admit, back, 3).is_err());
    let next = Now { unix_ms: at(0).unix_ms + 3_600_000, ..at(10) };
    assert!(spend(&mut admit, next, 4).is_ok());
}

#[test]
fn a_quota_can_shrink_below_its_use() {
    let quota = |concurrency, requests| Quota {
        concurrency: Some(concurrency),
        requests_per_minute: Some(requests),
        ..Quota::default()
    };
    let mut admit = admit(&[(1, quota(5, 100))]);
    for id in 0..5 {
        admit.reserve(at(0), RequestId(id), APP, demand(1, 1, 1)).unwrap();
    }
    admit.set_quotas(at(0), tree(), [(TenantId(1), quota(2, 3))].into());
    let used =
        |admit: &mut Admit| admit.reserve(at(0), RequestId(50), APP, demand(1, 1, 1)).unwrap_err();
    assert_eq!(used(&mut admit).limit, Limit::Requests);
    for id in 0..5 {
        admit.settle(at(0), RequestId(id), Use::default());
    }
    // Five were used of three a minute: the sixth fits after one minute.
    assert!(used(&mut admit).retry_after.unwrap() >= Span::from_secs(60));
    // Without the tenant nothing is kept once nothing is open.
    admit.set_quotas(at(0), tree(), BTreeMap::new());
    assert_eq!(admit.totals(TenantId(1)), None);
}

#[test]
fn a_budget_survives_a_restart() {
    let budget = Budget { window: Window::Month, hard: 1000, soft: None };
    let quotas = [(1, Quota { budgets: vec![budget], ..Quota::default() })];
    let mut before = admit(&quotas);
    before.reserve(at(0), RequestId(1), APP, demand(0, 0, 900)).unwrap();
    before.settle(at(0), RequestId(1), Use { money: 900, ..Use::default() });
    let mut after = admit(&quotas);
    for (tenant, window, number, spent) in before.spent() {
        after.restore(tenant, window, number, spent);
    }
    assert!(after.reserve(at(0), RequestId(1), APP, demand(0, 0, 200)).is_err());
    assert!(after.reserve(at(0), RequestId(2), APP, demand(0, 0, 100)).is_ok());
}

#[test]
fn a_budget_that_is_taken_away_comes_back_as_spent_as_it_was() {
    let budget = Budget { window: Window::Month, hard: 1000, soft: None };
    let quota = Quota { budgets: vec![budget], ..Quota::default() };
    let quotas: BTreeMap<TenantId, Quota> = [(TenantId(1), quota)].into();
    for without in [BTreeMap::new(), [(TenantId(1), Quota::default())].into()] {
        let mut admit = Admit::default();
        admit.set_quotas(at(0), tree(), quotas.clone());
        admit.reserve(at(0), RequestId(1), APP, demand(0, 0, 900)).unwrap();
        admit.set_quotas(at(0), tree(), without);
        admit.settle(at(1), RequestId(1), Use { money: 800, ..Use::default() });
        assert_eq!(admit.spent().iter().map(|(.., spent)| spent).sum::<u64>(), 800);
        admit.set_quotas(at(2), tree(), quotas.clone());
        assert!(admit.reserve(at(2), RequestId(2), APP, demand(0, 0, 300)).is_err());
        assert!(admit.reserve(at(2), RequestId(3), APP, demand(0, 0, 200)).is_ok());
    }
}

#[test]
fn who_is_gone_is_forgotten_after_the_window_that_they_spent_in() {
    let budget = Budget { window: Window::Day, hard: 1000, soft: None };
    let quota = Quota { budgets: vec![budget], ..Quota::default() };
    let mut admit = admit(&[(1, quota)]);
    admit.reserve(at(0), RequestId(1), APP, demand(0, 0, 900)).unwrap();
    admit.settle(at(0), RequestId(1), Use { money: 900, ..Use::default() });
    let mut is_known = |ms: u64| {
        (0..3).for_each(|_| admit.set_quotas(at(ms), tree(), BTreeMap::new()));
        admit.totals(TenantId(1)).is_some()
    };
    assert!(is_known(1));
    assert!(!is_known(2 * 24 * 3_600_000));
}

#[test]
fn a_thousand_at_once_never_overspend_a_budget() {
    let budget = Budget { window: Window::Month, hard: 100_000, soft: None };
    let mut admit = admit(&[(2, Quota { budgets: vec![budget], ..Quota::default() })]);
    let granted: Vec<u64> = (0..1000)
        .filter(|id| admit.reserve(at(0), RequestId(*id), APP, demand(0, 0, 999)).is_ok())
        .collect();
    assert_eq!(granted.len(), 100);
    for id in granted {
        admit.settle(at(1), RequestId(id), Use { money: 999, ..Use::default() });
    }
    let spent: u64 = admit.spent().iter().map(|(.., spent)| spent).sum();
    assert_eq!(spent, 99_900);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Reserve(u32, u64, u64, u64),
    Start(usize),
    Settle(usize, u64, u64, u64),
    Refund(usize),
    Shrink(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u64..30_000).prop_map(Step::Wait),
        5 => (1u32..4, 0u64..60, 0u64..60, 0u64..60)
            .prop_map(|(tenant, input, output, money)| Step::Reserve(tenant, input, output, money)),
        2 => (0usize..50).prop_map(Step::Start),
        3 => (0usize..50, 0u64..80, 0u64..80, 0u64..80)
            .prop_map(|(pick, input, output, money)| Step::Settle(pick, input, output, money)),
        1 => (0usize..50).prop_map(Step::Refund),
        1 => (0u64..500).prop_map(Step::Shrink),
    ]
}

fn quotas(most: u64) -> BTreeMap<TenantId, Quota> {
    let budget = Budget { window: Window::Hour, hard: most * 3, soft: Some(most) };
    let quota = Quota {
        requests_per_minute: Some(most),
        input_tokens_per_minute: Some(most),
        output_tokens_per_minute: Some(most),
        concurrency: Some(most / 20),
        queued_requests: None,
        queued_bytes: Some(most * 10),
        budgets: vec![budget],
    };
    [(TenantId(1), quota.clone()), (TenantId(3), quota)].into()
}

proptest! {
    #[test]
    fn reserved_and_over_is_settled_refunded_and_open(steps in prop::collection::vec(step(), 0..150)) {
        let mut admit = Admit::default();
        admit.set_quotas(at(0), tree(), quotas(300));
        let (mut now, mut next, mut open) = (0, 0, Vec::new());
        for step in steps {
            let pick = |open: &[RequestId], pick: usize| open.get(pick % open.len().max(1)).copied();
            match step {
                Step::Wait(ms) => now += ms,
                Step::Reserve(tenant, input, output, money) => {
                    next += 1;
                    let asked = demand(input, output, money);
                    if admit.reserve(at(now), RequestId(next), TenantId(tenant), asked).is_ok() {
                        open.push(RequestId(next));
                    }
                }
                Step::Start(at) => { pick(&open, at).inspect(|id| admit.started(*id)); }
                Step::Settle(which, input, output, money) => if let Some(id) = pick(&open, which) {
                    admit.settle(at(now), id, Use { input, output, money });
                    open.retain(|other| *other != id);
                },
                Step::Refund(which) => if let Some(id) = pick(&open, which) {
                    admit.refund(at(now), id);
                    open.retain(|other| *other != id);
                },
                Step::Shrink(most) => admit.set_quotas(at(now), tree(), quotas(most)),
            }
            prop_assert_eq!(admit.open(), open.len());
            for tenant in [1, 3] {
                let totals = admit.totals(TenantId(tenant)).unwrap();
                let balance = |reserved: u128, over: u128, settled: u128, refunded: u128, open: u128| {
                    reserved + over == settled + refunded + open
                };
                let Totals { reserved, over, settled, refunded, open } = totals;
                prop_assert!(balance(reserved.input, over.input, settled.input, refunded.input, open.input));
                prop_assert!(balance(reserved.output, over.output, settled.output, refunded.output, open.output));
                prop_assert!(balance(reserved.money, over.money, settled.money, refunded.money, open.money));
            }
        }
        for id in open {
            admit.refund(at(now), id);
        }
        prop_assert_eq!(admit.totals(TenantId(1)).unwrap().open, Default::default());
    }
}

#[test]
fn gateways_share_a_quota() {
    let quota = Quota {
        requests_per_minute: Some(100),
        concurrency: Some(1),
        budgets: vec![Budget { window: Window::Day, hard: 10, soft: Some(9) }],
        ..Quota::default()
    };
    let check = |gateways: u32, expect: (u64, u64, u64)| {
        let part = quota.shared_by(gateways);
        let found = (part.requests_per_minute, part.concurrency, part.budgets[0].hard);
        assert_eq!(found, (Some(expect.0), Some(expect.1), expect.2), "{gateways}");
        assert_eq!(part.queued_bytes, None, "what is not limited stays so");
    };
    check(0, (100, 1, 10));
    check(1, (100, 1, 10));
    check(3, (34, 1, 4));
    check(200, (1, 1, 1));
}
