//! Who pays for an answer that several asked for.
//!
//! However it is shared out, the parts add up: what a generation used is taken from tenants once, or,
//! where everybody pays as if alone, once for each.

use serde::{Deserialize, Serialize};

use crate::admit::Use;

/// Who pays for an answer that several asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Charge {
    /// Everybody, as if alone.
    Each,
    /// Who came first: all of it. The others use a place among their requests, and no tokens.
    First,
    /// Everybody an even part; what cannot be divided goes to who came first.
    #[default]
    Split,
}

/// The parts of that many payers, the first one's first.
pub fn split(total: Use, payers: u64) -> impl Iterator<Item = Use> {
    let payers = payers.max(1);
    let part =
        move |amount: u64, first: bool| amount / payers + if first { amount % payers } else { 0 };
    (0..payers).map(move |at| Use {
        input: part(total.input, at == 0),
        output: part(total.output, at == 0),
        money: part(total.money, at == 0),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_takes_what_cannot_be_divided() {
        let total = Use { input: 10, output: 3, money: 7 };
        let parts: Vec<Use> = split(total, 3).collect();
        let rest = Use { input: 3, output: 1, money: 2 };
        assert_eq!(parts, [Use { input: 4, output: 1, money: 3 }, rest, rest]);
        assert_eq!(split(total, 1).collect::<Vec<_>>(), [total]);
        assert_eq!(split(total, 0).collect::<Vec<_>>(), [total]);
    }

    proptest! {
        #[test]
        fn parts_add_up(input: u32, output: u32, money: u32, payers in 1u64..50) {
            let total = Use { input: input.into(), output: output.into(), money: money.into() };
            let sum = split(total, payers).fold(Use::default(), |sum, part| Use {
                input: sum.input + part.input,
                output: sum.output + part.output,
                money: sum.money + part.money,
            });
            prop_assert_eq!(sum, total);
            prop_assert_eq!(split(total, payers).count() as u64, payers);
        }
    }
}
