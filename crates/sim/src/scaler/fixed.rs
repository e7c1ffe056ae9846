//! Always as many, whatever comes.

use pilotage_core::{Span, Time};

use super::{Look, Scale, Wanted};

#[derive(Debug)]
pub(super) struct Fixed(pub(super) u32);

impl Scale for Fixed {
    fn every(&self) -> Span {
        Span::from_secs(15)
    }

    fn decide(&mut self, _: Time, _: &Look) -> Wanted {
        Wanted::awake(self.0)
    }
}
