//! The cheapest is the cheapest, and getting there does not flap.

use proptest::prelude::*;

use super::*;
use crate::{ReplicaId, Time};

fn offer(name: &str, price: f64, capacity: f64, max: u32, interruptions: Option<f64>) -> Offer {
    Offer { name: name.to_owned(), price, capacity, max, interruptions }
}

fn offers() -> Vec<Offer> {
    vec![
        offer("h100", 4.0, 5000.0, 8, None),
        offer("l4", 0.8, 600.0, 20, None),
        offer("h100-spot", 1.6, 5000.0, 8, Some(0.1)),
    ]
}

fn wish(capacity: f64) -> Wish {
    Wish { capacity, on_demand: 0.3, spot_share_max: 0.7, start: Span::from_secs(360) }
}

/// What one does in the mean: of those that may go, all but the time that their successors take to start.
fn does(offer: &Offer, wish: &Wish) -> f64 {
    let lost = offer.interruptions.unwrap_or(0.0) * wish.start.as_secs_f64() / 3600.0;
    offer.capacity / (1.0 + lost)
}

/// Whether that is what is wanted: enough of all, enough that stays, and of no fleet that may go more than its
/// share, or one. Reckoned by the words of the contract, and not by what is tried.
fn is_allowed(offers: &[Offer], wish: &Wish, counts: &[u32]) -> bool {
    let near = wish.capacity * 1e-9;
    let work = |at: usize| f64::from(counts[at]) * does(&offers[at], wish);
    let goes = |at: &usize| offers[*at].interruptions.is_some();
    let places = || 0..offers.len();
    let stays: f64 = places().filter(|at| !goes(at)).map(work).sum();
    let all: f64 = places().map(work).sum();
    let share = wish.spot_share_max * wish.capacity + near;
    let least = u32::from(wish.spot_share_max > 0.0);
    all >= wish.capacity - near
        && stays >= wish.capacity * wish.on_demand - near
        && places().all(|at| counts[at] <= offers[at].max)
        && places().filter(goes).all(|at| counts[at] <= least || work(at) <= share)
}

fn price(offers: &[Offer], counts: &[u32]) -> f64 {
    offers.iter().zip(counts).map(|(offer, count)| offer.price * f64::from(*count)).sum()
}

/// The price of the cheapest of every mix there is.
fn cheapest(offers: &[Offer], wish: &Wish) -> Option<f64> {
    let mut best: Option<f64> = None;
    let mut counts = vec![0_u32; offers.len()];
    loop {
        if is_allowed(offers, wish, &counts) {
            let price = price(offers, &counts);
            best = Some(best.map_or(price, |best| best.min(price)));
        }
        // Counts one up, as an odometer does.
        let Some(at) = (0..offers.len()).find(|at| counts[*at] < offers[*at].max) else {
            return best;
        };
        counts[at] += 1;
        counts[..at].fill(0);
    }
}

#[test]
fn a_bill_explains_itself() {
    let bill = Bill::of(&offers(), &wish(14_000.0), Some(&[4, 0, 0])).unwrap();
    assert_eq!(
        bill.to_string(),
        "2 × h100 + 1 × h100-spot: 9.60 an hour, 7008 a month, for 14950 of 14000 wanted; one taken away every \
         10.0 h; 20 % less than 3 × h100 for 12.00; next 1 × h100 + 7 × l4 + 1 × h100-spot for 11.20; saves 6.40 an \
         hour beside 4 × h100 now; start 1 × h100-spot first, then drain 2 × h100"
    );
}

#[test]
fn what_cannot_be_is_said() {
    let check = |offers: &[Offer], wish: Wish, expect: &str| {
        assert_eq!(choose(offers, &wish).unwrap_err().to_string(), expect);
    };
    let few = [offer("l4", 0.8, 600.0, 2, None)];
    check(
        &few,
        wish(2000.0),
        "all fleets together do 1200 of the 2000 that are wanted: raise their counts or add one",
    );
    let wrong = [offer("l4", f64::NAN, 600.0, 2, None)];
    check(&wrong, wish(1.0), "`price` of l4 is NaN, write a number from 0 to 1000000");
    let spot = [offer("l4", 0.8, 1.5, 1, None), offer("l4-spot", 0.3, 1.5, 9, Some(0.0))];
    check(
        &spot,
        Wish { on_demand: 0.8, ..wish(2.5) },
        "all fleets whose machines stay do 1.50 of the 2.00 that are wanted on such: raise their counts, add one, \
         or ask for a smaller part",
    );
    assert_eq!(choose(&few, &wish(0.0)).unwrap()[0].counts, [0]);
}

#[test]
fn what_cannot_be_is_known_at_once() {
    // Every mix of these would be more than there are atoms.
    let many: Vec<Offer> = (0..OFFERS_MAX)
        .map(|at| {
            let gone = (at % 2 == 0).then_some(0.1);
            offer(&format!("f{at}"), 1.0 + at as f64 / 7.0, 10.0 + at as f64, COUNT_MAX, gone)
        })
        .collect();
    for (capacity, on_demand) in [(1e9, 0.0), (200_000.0, 1.0)] {
        let wish = Wish { on_demand, ..wish(capacity) };
        assert!(matches!(
            choose(&many, &wish),
            Err(CostError::TooFew { .. } | CostError::TooFewStay { .. })
        ));
    }
}

#[test]
fn moving_is_told_where_it_is_worth_it() {
    let check = |now: [u32; 3], expect: &str| {
        let bill = Bill::of(&offers(), &wish(14_000.0), Some(&now)).unwrap().to_string();
        assert!(bill.ends_with(expect), "{bill}");
    };
    check([2, 0, 1], "for 11.20");
    check([3, 0, 1], "; saves 4.00 an hour beside 3 × h100 + 1 × h100-spot now; drain 1 × h100");
    check([1, 0, 1], "; now 1 × h100 + 1 × h100-spot; start 1 × h100");
    check([2, 1, 1], "; drain 1 × l4");
    let near = Bill::of(&offers(), &Wish { on_demand: 1.0, ..wish(600.0) }, Some(&[0, 1, 0]));
    assert_eq!(near.unwrap().way, None);
}

#[test]
fn what_is_short_starts_at_once_and_what_is_over_goes_one_by_one() {
    let (offers, mut consolidator) = (offers(), Consolidator::new(Consolidation::default()));
    let mut placed: Vec<Placed> = Vec::new();
    let mut next = 0;
    let mut log = Vec::new();
    for minute in 0..240_u64 {
        let now = Time::from_millis(minute * 60_000);
        let wanted = if minute < 60 { 14_000.0 } else { 5000.0 };
        let step = consolidator.step(now, &offers, &wish(wanted), &placed).unwrap();
        placed.iter_mut().for_each(|one| one.ready = true);
        for (offer, count) in &step.start {
            for _ in 0..*count {
                let id = ReplicaId(next);
                placed.push(Placed { id, offer: *offer, used: 0.5, ready: false });
                next += 1;
            }
        }
        if let Some(drained) = step.drain {
            placed.retain(|one| one.id != drained);
        }
        if step != Step::default() {
            log.push((minute, step));
        }
        let count = |at: usize| placed.iter().filter(|one| one.offer == at).count() as u32;
        let counts: Vec<u32> = (0..offers.len()).map(count).collect();
        let mix = Mix::of(&offers, &counts, wish(wanted).start);
        assert!(mix.meets(&offers, &wish(wanted)), "at {minute}: {mix:?}");
    }
    assert_eq!(log[0].0, 0);
    // Nothing changes for an hour, nor before ten minutes of less; then it ends somewhere.
    assert!(log[1..].iter().all(|(minute, _)| *minute >= 70), "{log:?}");
    assert!(log.len() > 2 && log.last().unwrap().0 < 150, "{log:?}");
}

type Part = (f64, f64, u32, Option<f64>);

/// Fleets with prices, capacities, counts and how often they are taken away, if they are.
fn fleets(parts: Vec<Part>) -> Vec<Offer> {
    let fleet = |(at, (price, each, max, gone)): (usize, Part)| {
        offer(&format!("f{at}"), price, each, max, gone)
    };
    parts.into_iter().enumerate().map(fleet).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_cheaper(
        parts in prop::collection::vec((0.1..5.0_f64, 1.0..9.0_f64, 0_u32..6, prop::option::of(0.0..2.0_f64)), 1..5),
        capacity in 0.5..30.0_f64, on_demand in 0.0..=1.0_f64, share in 0.0..=1.0_f64,
    ) {
        let offers = fleets(parts);
        let wish = Wish { capacity, on_demand, spot_share_max: share, start: Span::from_secs(300) };
        let found = choose(&offers, &wish).ok().map(|all| {
            assert!(all.iter().all(|mix| is_allowed(&offers, &wish, &mix.counts)), "{all:?}");
            assert!(all.is_sorted_by(|a, b| a.price <= b.price));
            price(&offers, &all[0].counts)
        });
        let best = cheapest(&offers, &wish);
        prop_assert_eq!(found.is_some(), best.is_some());
        if let (Some(found), Some(best)) = (found, best) {
            prop_assert!((found - best).abs() < 1e-6, "{found} beside {best}");
        }
    }
}

/// The price of the cheapest were replicas divisible: no mix costs less. First what has to stay, of the cheapest
/// that does, then the rest.
fn divisible(offers: &[Offer], wish: &Wish) -> f64 {
    let share = wish.capacity * wish.spot_share_max;
    let most = |offer: &Offer| {
        let most = f64::from(offer.max) * does(offer, wish);
        if offer.interruptions.is_some() { most.min(share.max(does(offer, wish))) } else { most }
    };
    let mut left: Vec<(f64, f64, bool)> = offers
        .iter()
        .map(|it| (it.price / does(it, wish), most(it), it.interruptions.is_none()))
        .collect();
    left.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut price = 0.0;
    let stays = wish.capacity * wish.on_demand;
    for (mut wanted, only_stays) in [(stays, true), (wish.capacity - stays, false)] {
        for (rate, most, stays) in &mut left {
            if only_stays && !*stays {
                continue;
            }
            let taken = most.min(wanted);
            (*most, wanted) = (*most - taken, wanted - taken);
            price += taken * *rate;
        }
    }
    price
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Where there are too many mixes to look at all: what stays and what may go are each off by one at most, and each
    /// Fleet that may go by what its share is short of whole replicas.
    #[test]
    fn many_large_fleets_are_near_the_cheapest(
        parts in prop::collection::vec((0.5..5.0_f64, 1.0..9.0_f64, 1_u32..=COUNT_MAX, prop::option::of(0.0..1.0_f64)), 5..=OFFERS_MAX),
        part in 0.01..0.99_f64, on_demand in 0.0..1.0_f64, share in 0.1..=1.0_f64,
    ) {
        let offers = fleets(parts);
        let whole = Wish { on_demand, spot_share_max: share, ..wish(1.0) };
        let all: f64 = offers.iter().map(|one| f64::from(one.max) * does(one, &whole)).sum();
        let wish = Wish { capacity: all * part, ..whole };
        let Ok(found) = choose(&offers, &wish) else { return Ok(()) };
        prop_assert!(is_allowed(&offers, &wish, &found[0].counts));
        let dearest = offers.iter().map(|one| one.price).fold(0.0, f64::max);
        let bound = divisible(&offers, &wish);
        let found = found[0].price;
        let shares = offers.iter().filter(|one| one.interruptions.is_some()).count() as f64;
        prop_assert!(found <= bound + (2.0 + shares) * dearest + 1e-6, "{found} beside {bound}");
    }

    #[test]
    fn consolidation_ends_near_the_cheapest_and_never_has_too_little(
        parts in prop::collection::vec((0.1..5.0_f64, 1.0..9.0_f64, 1_u32..5, prop::option::of(0.0..2.0_f64)), 1..4),
        there in prop::collection::vec(0_u32..5, 4), capacity in 0.5..20.0_f64, on_demand in 0.0..1.0_f64,
    ) {
        let offers = fleets(parts);
        let wish = Wish { capacity, on_demand, spot_share_max: 1.0, start: Span::from_secs(300) };
        let slack = Wish { capacity: capacity * 1.1, spot_share_max: 1.0 / 1.1, ..wish };
        let Some(best) = cheapest(&offers, &slack) else { return Ok(()) };
        let mut consolidator = Consolidator::new(Consolidation::default());
        let mut placed: Vec<Placed> = Vec::new();
        let place = |placed: &mut Vec<Placed>, offer: usize, ready: bool| {
            let next = placed.iter().map(|one| one.id.0 + 1).max().unwrap_or(0);
            placed.push(Placed { id: ReplicaId(next), offer, used: 0.5, ready });
        };
        for (at, count) in there.iter().enumerate().take(offers.len()) {
            (0..(*count).min(offers[at].max)).for_each(|_| place(&mut placed, at, true));
        }
        let (mut quiet, mut was_enough) = (0_u32, false);
        for minute in 0..2000_u64 {
            let now = Time::from_millis(minute * 60_000);
            let step = consolidator.step(now, &offers, &wish, &placed).unwrap();
            quiet = if step == Step::default() { quiet + 1 } else { 0 };
            placed.iter_mut().for_each(|one| one.ready = true);
            for (offer, count) in &step.start {
                (0..*count).for_each(|_| place(&mut placed, *offer, false));
            }
            placed.retain(|one| Some(one.id) != step.drain);
            let count = |at: usize| placed.iter().filter(|one| one.offer == at).count() as u32;
            let counts: Vec<u32> = (0..offers.len()).map(count).collect();
            let mix = Mix::of(&offers, &counts, wish.start);
            let is_enough = mix.meets(&offers, &wish);
            prop_assert!(is_enough || !was_enough, "at {minute}: {mix:?}");
            was_enough = is_enough;
            if quiet > 30 {
                let least = 1.0 - Consolidation::default().saving_min;
                prop_assert!(is_enough && mix.price * least <= best + 1e-6, "{mix:?} beside {best}");
                return Ok(());
            }
        }
        prop_assert!(false, "it never comes to rest");
    }
}
