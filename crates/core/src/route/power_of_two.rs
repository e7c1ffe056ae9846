//! Of two at random the one with fewer tokens in flight: nearly as even as looking at all of them,
//! and without a best one on which everybody agrees (Mitzenmacher, 2001). The two are never the same.

use super::{Pick, View};
use crate::prefix::blocks::digest;

#[derive(Debug)]
pub(super) struct PowerOfTwo;

impl Pick for PowerOfTwo {
    fn name(&self) -> &'static str {
        "power_of_two"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let open = view.open().count() as u64;
        if open < 2 {
            return view.open().next();
        }
        let (one, other) = draw(view, open);
        let nth = |place: u64| view.open().nth(usize::try_from(place).unwrap_or(0));
        let (one, other) = (nth(one)?, nth(other)?);
        let tokens = |at: usize| view.candidates[at].replica.tokens;
        Some(if tokens(other) < tokens(one) { other } else { one })
    }
}

/// Two different numbers below `of`, drawn by the request's own number; the same one where there is
/// only one.
pub(super) fn draw(view: &View<'_>, of: u64) -> (u64, u64) {
    let lot = digest(view.turn, &view.id.0.to_le_bytes());
    let one = (lot >> 32) % of.max(1);
    let step = if of < 2 { 0 } else { 1 + (lot & u64::from(u32::MAX)) % (of - 1) };
    (one, (one + step) % of.max(1))
}
