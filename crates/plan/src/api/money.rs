//! Amounts of money, written as decimal text so that no reader rounds them: what is charged must be
//! what was written, to the last digit.
//!
//! The currency is the operator's and the same in all manifests. An amount is kept in millionths of
//! its unit, which hold the price of a few tokens as exactly as a budget for a month.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The `format` of amounts in the schemas.
pub(crate) const FORMAT: &str = "money";

/// Most digits before the point: with the decimals 18 in all, which 64 bits hold with room to add.
const WHOLE_DIGITS_MAX: usize = 12;

/// Most digits after the point.
const DECIMALS_MAX: usize = 6;

/// An amount of money.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Money(u64);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MoneyError {
    /// There is something else than digits and a point between them.
    #[error(
        "this is not an amount of money; write digits, and a `.` before decimals, without sign or \
         currency, as in \"0.15\""
    )]
    Form,
    /// There are too many digits before the point.
    #[error("an amount of money has at most {WHOLE_DIGITS_MAX} digits before its decimals")]
    Large,
    /// There are too many digits after the point.
    #[error(
        "an amount of money has at most {DECIMALS_MAX} decimals; a smaller one cannot be counted"
    )]
    Small,
}

impl Money {
    /// The amount in millionths of the currency's unit.
    pub const fn millionths(self) -> u64 {
        self.0
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) {
            return Err(MoneyError::Form);
        }
        if whole.len() > WHOLE_DIGITS_MAX {
            return Err(MoneyError::Large);
        }
        if decimals.len() > DECIMALS_MAX {
            return Err(MoneyError::Small);
        }
        let padded = format!("{whole}{decimals:0<DECIMALS_MAX$}");
        padded.parse().map(Self).map_err(|_| MoneyError::Large)
    }
}

/// Without decimals that say nothing, so that one amount has one text.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNIT: u64 = 10_u64.pow(DECIMALS_MAX as u32);
        let (whole, decimals) = (self.0 / UNIT, self.0 % UNIT);
        let decimals = format!("{decimals:0>DECIMALS_MAX$}");
        match decimals.trim_end_matches('0') {
            "" => f.pad(&whole.to_string()),
            decimals => f.pad(&format!("{whole}.{decimals}")),
        }
    }
}

impl TryFrom<String> for Money {
    type Error = MoneyError;

    fn try_from(text: String) -> Result<Self, MoneyError> {
        text.parse()
    }
}

impl From<Money> for String {
    fn from(money: Money) -> Self {
        money.to_string()
    }
}

impl JsonSchema for Money {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^[0-9]{{1,{WHOLE_DIGITS_MAX}}}(\\.[0-9]{{1,{DECIMALS_MAX}}})?$");
        json_schema!({ "type": "string", "format": FORMAT, "pattern": pattern })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts() {
        let check = |text: &str, expect: Result<u64, MoneyError>| {
            assert_eq!(text.parse::<Money>().map(Money::millionths), expect, "{text}");
        };
        check("0", Ok(0));
        check("0.15", Ok(150_000));
        check("12", Ok(12_000_000));
        check("0.000001", Ok(1));
        check("007.50", Ok(7_500_000));
        check("999999999999.999999", Ok(999_999_999_999_999_999));
        check("1000000000000", Err(MoneyError::Large));
        check("0.0000001", Err(MoneyError::Small));
        for bad in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", "1.2.3", "$5", " 1", "٣"] {
            check(bad, Err(MoneyError::Form));
        }
    }

    proptest! {
        #[test]
        fn every_amount_reads_back(millionths in 0_u64..1_000_000_000_000_000_000) {
            let money = Money(millionths);
            prop_assert_eq!(money.to_string().parse(), Ok(money));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Money>();
        }
    }
}
