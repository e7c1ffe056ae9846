//! Copies of requests for a model on trial: it does the work, nobody sees the answer, nobody pays.
//!
//! A copy must not be felt: it goes with the lowest band, it is not charged to anybody's quota, its
//! failure is nobody's, and it ends when there is no room for it.

use serde::Serialize;

use super::dice;
use super::name::Name;
use super::spec::{LaneId, Mirror};
use crate::{Band, RequestId};

/// What a copy is sent with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Shadow {
    /// Where to.
    pub lane: LaneId,
    /// How urgent it is: not at all.
    pub band: Band,
    /// Whether its tokens count for quotas and budgets.
    pub charged: bool,
    /// Whether it may be sent a second time after a failure.
    pub retried: bool,
}

/// Keeps the draw for copies apart from those for targets.
const SALT: u64 = 0x5ad0;

/// The copy of a request, if it is among those that are copied.
pub fn copy(mirror: &Mirror, route: &Name, request: RequestId) -> Option<Shadow> {
    let key = dice::join(dice::key(route.as_str()), SALT);
    let draw = dice::unit(dice::join(key, dice::mix(request.0)));
    let share = f64::from(mirror.basis_points.min(10_000)) / 10_000.0;
    (draw < share).then_some(Shadow {
        lane: mirror.lane,
        band: Band::Batch,
        charged: false,
        retried: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_a_share_and_free_of_charge() {
        let check = |basis_points: u32, expect: usize| {
            let mirror = Mirror { lane: LaneId(7), basis_points };
            let copies: Vec<Shadow> = (0..100_000)
                .filter_map(|id| copy(&mirror, &Name::from("chat"), RequestId(id)))
                .collect();
            assert!(copies.len().abs_diff(expect) <= expect / 20, "{}", copies.len());
            assert!(copies.iter().all(|copy| !copy.charged && copy.band == Band::Batch));
        };
        check(0, 0);
        check(500, 5000);
        check(10_000, 100_000);
        check(20_000, 100_000);
    }
}
