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

/// The price of the cheapest of every mix there is.
fn cheapest(offers: &[Offer], wish: &Wish) -> Option<f64> {
    let mut best: Option<f64> = None;
    let mut counts = vec![0_u32; offers.len()];
    loop {
        let mix = Mix::of(offers, &counts, wish.start);
        if mix.meets(offers, wish) {
            best = Some(best.map_or(mix.price, |best| best.min(mix.price)));
        }
        // Counts one up, as an odometer does.
        let Some(at) = (0..offers.len()).find(|at| counts[*at] < offers[*at].most(wish)) else {
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
         hour beside 4 × h100 now"
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
    assert_eq!(choose(&few, &wish(0.0)).unwrap()[0].counts, [0]);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_cheaper(
        parts in prop::collection::vec((0.1..5.0_f64, 1.0..9.0_f64, 0_u32..5, prop::option::of(0.0..2.0_f64)), 1..5),
        capacity in 0.5..30.0_f64, on_demand in 0.0..1.0_f64, share in 0.1..1.0_f64,
    ) {
        let offers: Vec<Offer> = parts
            .into_iter()
            .enumerate()
            .map(|(at, (price, each, max, gone))| offer(&format!("f{at}"), price, each, max, gone))
            .collect();
        let wish = Wish { capacity, on_demand, spot_share_max: share, start: Span::from_secs(300) };
        let found = choose(&offers, &wish).ok().map(|all| {
            assert!(all.iter().all(|mix| mix.meets(&offers, &wish)));
            assert!(all.is_sorted_by(|a, b| a.price <= b.price));
            all[0].price
        });
        let best = cheapest(&offers, &wish);
        prop_assert_eq!(found.is_some(), best.is_some());
        if let (Some(found), Some(best)) = (found, best) {
            prop_assert!((found - best).abs() < 1e-6, "{found} beside {best}");
        }
    }
}
