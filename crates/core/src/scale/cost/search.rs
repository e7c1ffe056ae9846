//! The cheapest mix: every mix is looked at, but for those that cannot become cheaper than the best
//! found so far, and those that cannot become enough.
//!
//! Contract: what is found is enough. The first mix takes as much as it needs of the cheapest fleets, and is
//! enough if any is; whether any is, is known before the search. After a number of steps the best found so far
//! has to do.

use super::{CostError, Mix, OFFERS_MAX, Offer, Wish};

/// Mixes that are kept beside the best.
const RUNNERS_UP: usize = 3;

/// Steps after which the best found so far has to do.
const STEPS_MAX: u32 = 400_000;

/// The cheapest mixes that are what is wanted, cheapest first; of equal ones, the one that is interrupted
/// less. The same arguments give the same mixes.
///
/// # Errors
/// A number that makes no sense, or that all fleets together are too few.
pub fn choose(offers: &[Offer], wish: &Wish) -> Result<Vec<Mix>, CostError> {
    if offers.len() > OFFERS_MAX {
        return Err(CostError::TooMany { count: offers.len() });
    }
    offers.iter().try_for_each(Offer::check)?;
    wish.check()?;
    let mut order: Vec<usize> = (0..offers.len()).collect();
    let rate = |at: &usize| offers[*at].rate(wish.start);
    order.sort_by(|a, b| rate(a).total_cmp(&rate(b)).then(a.cmp(b)));
    let rest = rest(offers, wish, &order);
    let all = Left { capacity: wish.capacity, stays: wish.capacity * wish.on_demand };
    if !rest[0].covers(all, wish) {
        return Err(too_few(rest[0], wish));
    }
    let mut search = Search {
        offers,
        wish,
        order: &order,
        rest: &rest,
        counts: vec![0; offers.len()],
        found: Vec::new(),
        steps: 0,
    };
    search.go(0, all, 0.0);
    // Sums of many parts may fall short of what is wanted by their last digit.
    search.found.retain(|mix| mix.meets(offers, wish));
    if search.found.is_empty() {
        return Err(too_few(rest[0], wish));
    }
    Ok(search.found)
}

/// What all fleets from that place on do together, the last one nothing.
fn rest(offers: &[Offer], wish: &Wish, order: &[usize]) -> Vec<Left> {
    let mut rest = vec![Left { capacity: 0.0, stays: 0.0 }; order.len() + 1];
    for depth in (0..order.len()).rev() {
        let (offer, after) = (&offers[order[depth]], rest[depth + 1]);
        let does = f64::from(offer.most(wish)) * offer.lasting(wish.start);
        let stays = if offer.interruptions.is_none() { does } else { 0.0 };
        rest[depth] = Left { capacity: after.capacity + does, stays: after.stays + stays };
    }
    rest
}

fn too_few(all: Left, wish: &Wish) -> CostError {
    let wanted = wish.capacity * wish.on_demand;
    if all.capacity >= wish.capacity && all.stays < wanted {
        return CostError::TooFewStay { most: all.stays, wanted };
    }
    CostError::TooFew { most: all.capacity, wanted: wish.capacity }
}

impl Left {
    /// Whether that is enough for what is left.
    fn covers(self, left: Self, wish: &Wish) -> bool {
        let enough = wish.enough();
        self.capacity >= left.capacity - enough && self.stays >= left.stays - enough
    }
}

/// What is still missing.
#[derive(Clone, Copy)]
struct Left {
    capacity: f64,
    stays: f64,
}

struct Search<'a> {
    offers: &'a [Offer],
    wish: &'a Wish,
    /// Places of offers, the cheapest work first.
    order: &'a [usize],
    /// What all offers from each place on do.
    rest: &'a [Left],
    counts: Vec<u32>,
    found: Vec<Mix>,
    steps: u32,
}

impl Search<'_> {
    fn go(&mut self, depth: usize, left: Left, price: f64) {
        self.steps += 1;
        if self.steps > STEPS_MAX && !self.found.is_empty() {
            return;
        }
        let enough = self.wish.enough();
        if left.capacity <= enough && left.stays <= enough {
            self.keep();
            return;
        }
        let Some(at) = self.order.get(depth).copied() else { return };
        if price + self.least(depth, left) > self.limit()
            || !self.rest[depth].covers(left, self.wish)
        {
            return;
        }
        let offer = &self.offers[at];
        let each = offer.lasting(self.wish.start);
        let stays = if offer.interruptions.is_none() { each } else { 0.0 };
        // What has to be on machines that stay will be there besides: of others, only the rest is needed.
        let missing = if stays > 0.0 {
            left.capacity.max(left.stays)
        } else {
            left.capacity - left.stays.max(0.0)
        };
        let needed = (missing.max(0.0) / each - 1e-9).ceil().max(0.0);
        let most = offer.most(self.wish);
        let most = if needed < f64::from(most) { needed as u32 } else { most };
        let each_price = offer.price;
        for count in (0..=most).rev() {
            self.counts[at] = count;
            let many = f64::from(count);
            let left =
                Left { capacity: left.capacity - many * each, stays: left.stays - many * stays };
            self.go(depth + 1, left, price + many * each_price);
        }
        self.counts[at] = 0;
    }

    /// What the rest costs at least, were replicas divisible and of any number.
    fn least(&self, depth: usize, left: Left) -> f64 {
        let rest = || self.order[depth..].iter().map(|at| &self.offers[*at]);
        let rate =
            |offer: Option<&Offer>| offer.map_or(f64::INFINITY, |it| it.rate(self.wish.start));
        let stays = left.stays.max(0.0);
        let stay = rest().find(|offer| offer.interruptions.is_none());
        let floor = if stays > 0.0 { stays * rate(stay) } else { 0.0 };
        let beyond = (left.capacity - stays).max(0.0);
        let other = if beyond > 0.0 { beyond * rate(rest().next()) } else { 0.0 };
        floor + other
    }

    /// The price that a mix has to be below to be kept.
    fn limit(&self) -> f64 {
        let worst = self.found.get(RUNNERS_UP).map(|mix| mix.price);
        worst.unwrap_or(f64::INFINITY)
    }

    fn keep(&mut self) {
        let mix = Mix::of(self.offers, &self.counts, self.wish.start);
        let before = |one: &Mix| {
            one.price
                .total_cmp(&mix.price)
                .then(one.interruptions.total_cmp(&mix.interruptions))
                .then_with(|| one.counts.cmp(&mix.counts))
                .is_lt()
        };
        let place = self.found.partition_point(before);
        self.found.insert(place, mix);
        self.found.truncate(RUNNERS_UP + 1);
    }
}
