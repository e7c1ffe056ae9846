//! Who pays for replicas: for what ran, for what was kept free for them, and for what stood idle. In whole
//! millionths, shared out such that the parts sum up to the bill exactly.
//!
//! As OpenCost tells usage from reservation, and with Kueue's word for what is one's own: nominal. What
//! stopped and failed attempts took is overhead, shown and on nobody's bill.

/// One Model's replicas on one class of hardware, over one stretch of time.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// What they cost, in millionths of the currency's unit.
    pub bill: u64,
    /// Time in which they were there; any unit, the same as of the next.
    pub up: u64,
    /// Of that, time in which something ran. More than that counts as all of it.
    pub busy: u64,
    /// KV token-milliseconds of what came to nothing.
    pub overhead: u64,
    /// Who used it, or may.
    pub parts: Vec<Part>,
}

/// What a tenant used of a pool, and may.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Part {
    /// Whose.
    pub tenant: String,
    /// KV token-milliseconds.
    pub used: u64,
    /// What is its own before anybody else's, in thousandths.
    pub guaranteed: u32,
    /// What it gets of the leftover beside others.
    pub weight: u32,
}

/// What a tenant pays, in millionths.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Share {
    /// Whose.
    pub tenant: String,
    /// For what ran.
    pub usage: u64,
    /// For what was kept for it and stood idle.
    pub reserved: u64,
    /// For what else stood idle.
    pub idle: u64,
}

/// A bill, shared out. The bill is the sum of all shares, the overhead and what is unshared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Split {
    /// What tenants pay, in the order of the pool's parts.
    pub shares: Vec<Share>,
    /// What came to nothing.
    pub overhead: u64,
    /// What stood idle while nobody had a weight.
    pub unshared: u64,
}

impl Split {
    /// All of it: the bill.
    pub fn total(&self) -> u64 {
        let shares = self.shares.iter().map(|share| share.usage + share.reserved + share.idle);
        shares.sum::<u64>() + self.overhead + self.unshared
    }
}

/// Shares a bill out.
///
/// The busy part of the time is paid by who ran, by KV token-seconds: a step of a batch costs by the context
/// that it holds. Of the rest, each first pays what it was guaranteed and did not use; what is left is
/// shared by weight.
pub fn attribute(pool: &Pool) -> Split {
    let busy = pool.busy.min(pool.up);
    let ran = share_out(pool.bill, &[busy, pool.up - busy])[0];
    let mut used: Vec<u64> = pool.parts.iter().map(|part| part.used).collect();
    used.push(pool.overhead);
    let mut usage = share_out(ran, &used);
    let overhead = usage.pop().unwrap_or_default();
    let rest = pool.bill - usage.iter().sum::<u64>() - overhead;
    let unused: Vec<u64> = std::iter::zip(&pool.parts, &usage)
        .map(|(part, usage)| thousandths(pool.bill, part.guaranteed).saturating_sub(*usage))
        .collect();
    let wanted = unused.iter().map(|unused| u128::from(*unused)).sum::<u128>();
    let reserved = if wanted > u128::from(rest) { share_out(rest, &unused) } else { unused };
    let idle = rest - reserved.iter().sum::<u64>();
    let weights: Vec<u64> = pool.parts.iter().map(|part| part.weight.into()).collect();
    let idles = share_out(idle, &weights);
    let unshared = idle - idles.iter().sum::<u64>();
    let shares = pool.parts.iter().enumerate().map(|(at, part)| Share {
        tenant: part.tenant.clone(),
        usage: usage[at],
        reserved: reserved[at],
        idle: idles[at],
    });
    Split { shares: shares.collect(), overhead, unshared }
}

/// Shares a whole number out by weights, by the method of the largest remainder (Hamilton's): the parts sum up
/// to it, and each is less than one away from what is exactly its. All are zero where no weight is more.
pub fn share_out(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    // Weights stay below 2^64, and so do totals: the product fits.
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    let whole = |weight: &u64| u64::try_from(exact(*weight) / sum).unwrap_or(u64::MAX);
    let mut parts: Vec<u64> = weights.iter().map(whole).collect();
    let mut left = total - parts.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(exact(weights[*at]) % sum), *at));
    for at in order {
        if left == 0 {
            break;
        }
        parts[at] += 1;
        left -= 1;
    }
    parts
}

fn thousandths(bill: u64, part: u32) -> u64 {
    u64::try_from(u128::from(bill) * u128::from(part) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(tenant: &str, used: u64, guaranteed: u32, weight: u32) -> Part {
        Part { tenant: tenant.to_owned(), used, guaranteed, weight }
    }

    #[test]
    fn who_runs_reserves_or_may_pays() {
        let parts =
            vec![part("runs", 300, 0, 1), part("reserves", 0, 400, 1), part("may", 0, 0, 2)];
        let pool = Pool { bill: 1000, up: 100, busy: 40, overhead: 100, parts };
        let split = attribute(&pool);
        let got: Vec<[u64; 3]> =
            split.shares.iter().map(|share| [share.usage, share.reserved, share.idle]).collect();
        // 400 of 1000 ran, a quarter of it for nothing; 400 were kept; 200 are left for 1 : 1 : 2.
        assert_eq!(got, [[300, 0, 50], [0, 400, 50], [0, 0, 100]]);
        assert_eq!((split.overhead, split.unshared, split.total()), (100, 0, 1000));
    }

    #[test]
    fn what_nobody_may_use_is_unshared() {
        let split = attribute(&Pool { bill: 7, up: 10, busy: 3, ..Pool::default() });
        assert_eq!((split.unshared, split.total()), (7, 7));
    }

    proptest! {
        #[test]
        fn parts_sum_up(total in any::<u64>(), weights in prop::collection::vec(any::<u64>(), 1..20)) {
            let parts = share_out(total, &weights);
            let sum: u128 = parts.iter().map(|part| u128::from(*part)).sum();
            prop_assert_eq!(sum, if weights.iter().all(|weight| *weight == 0) { 0 } else { total.into() });
        }

        #[test]
        fn shares_sum_up_to_the_bill(
            bill in 0u64..u64::MAX / 2, up in 0u64..1 << 40, busy in 0u64..1 << 41, overhead in 0u64..1 << 50,
            parts in prop::collection::vec((0u64..1 << 50, 0u32..2000, 0u32..5), 0..12),
        ) {
            let parts = parts.into_iter().map(|(used, guaranteed, weight)| part("t", used, guaranteed, weight));
            let pool = Pool { bill, up, busy, overhead, parts: parts.collect() };
            prop_assert_eq!(attribute(&pool).total(), bill);
        }
    }
}
