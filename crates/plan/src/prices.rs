//! The price book: what an hour of an accelerator costs, by its class and by date, for replicas whose Fleet does not
//! say what a node costs.
//!
//! A file of its own beside the manifests, as prices are changed by others and at other times. Mistakes are told with
//! line and field, as in manifests.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Timestamp;
use crate::api::{Money, schema_of};
use crate::manifest::{ManifestError, Problem, tree};

/// Most prices of a book.
pub const PRICES_MAX: usize = 4096;

/// A book, as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BookSpec {
    /// The currency of all amounts, as in `EUR`.
    #[schemars(length(min = 1, max = 16))]
    currency: String,
    /// Prices; those of one class hold one after the other.
    #[serde(default)]
    #[schemars(length(max = PRICES_MAX))]
    prices: Vec<PriceSpec>,
}

/// What an accelerator of a class costs from a day on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PriceSpec {
    /// The class of hardware, as `pilotage plan hardware` lists them, or `cpu` for a replica without accelerators.
    #[schemars(length(min = 1, max = 63))]
    hardware: String,
    /// What one accelerator costs in an hour, as text: `"2.49"`.
    per_hour: Money,
    /// The day from which that holds, UTC: `2027-01-31`. Without it since ever.
    #[serde(default)]
    from: Option<String>,
}

/// What accelerators cost, and when.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PriceBook {
    currency: String,
    /// Millionths an hour by the second since 1970 from which they hold, by class.
    prices: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl PriceBook {
    /// Reads a book of YAML.
    ///
    /// # Errors
    /// Every mistake in it, with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<ManifestError>> {
        let file: Arc<str> = file.into();
        let schema = schema_of::<BookSpec>().to_value();
        let (spec, lines) = tree::<BookSpec>(&file, text, &schema)?;
        let mut book = Self { currency: spec.currency, prices: BTreeMap::new() };
        let mut errors = Vec::new();
        for (at, price) in spec.prices.into_iter().enumerate() {
            let mut wrong = |field: &str, text: String| {
                let path = format!("prices[{at}].{field}");
                let line = lines.get(&path).copied().unwrap_or_default();
                errors.push(ManifestError::new(&file, line, &path, Problem::Value(text)));
            };
            let from = match price.from.as_deref().map(day) {
                None => 0,
                Some(Some(seconds)) => seconds,
                Some(None) => {
                    wrong("from", "this is no day; write it as `2027-01-31`".to_owned());
                    continue;
                }
            };
            let of = book.prices.entry(price.hardware.clone()).or_default();
            if of.insert(from, price.per_hour.millionths()).is_some() {
                let text = format!(
                    "another price of `{}` holds from that day as well; remove one of the two",
                    price.hardware
                );
                wrong(if from == 0 { "hardware" } else { "from" }, text);
            }
        }
        if errors.is_empty() { Ok(book) } else { Err(errors) }
    }

    /// The currency of all its amounts.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// What so many accelerators of a class cost an hour at that second since 1970, in millionths; none where the
    /// book does not say.
    pub fn micros_per_hour(&self, now_s: u64, hardware: &str, accelerators: u32) -> Option<u64> {
        let (_, each) = self.prices.get(hardware)?.range(..=now_s).next_back()?;
        Some(each.saturating_mul(accelerators.max(1).into()))
    }
}

/// The first second of a day.
fn day(text: &str) -> Option<u64> {
    let moment: Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
    Some(moment.unix_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "\
currency: EUR
prices:
- {hardware: h100-sxm, perHour: '2.50'}
- {hardware: h100-sxm, perHour: '2', from: 2027-01-01}
- hardware: l4
  perHour: '0.70'
  from: 2027-06-01
";

    #[test]
    fn each_price_holds_from_its_day() {
        let book = PriceBook::parse("book.yaml", BOOK).unwrap();
        let new_year = "2027-01-01T00:00:00Z".parse::<Timestamp>().unwrap().unix_seconds();
        let check = |now: u64, hardware: &str, count: u32, expect: Option<u64>| {
            assert_eq!(book.micros_per_hour(now, hardware, count), expect, "{hardware} at {now}");
        };
        assert_eq!(book.currency(), "EUR");
        check(new_year - 1, "h100-sxm", 1, Some(2_500_000));
        check(new_year, "h100-sxm", 8, Some(16_000_000));
        check(new_year, "l4", 1, None);
        check(new_year, "a100-80", 1, None);
    }

    #[test]
    fn mistakes_are_told_with_line_and_field() {
        let check = |text: &str, expect: &[(u64, &str)]| {
            let errors = PriceBook::parse("book.yaml", text).unwrap_err();
            let told: Vec<(u64, &str)> =
                errors.iter().map(|error| (error.line, error.field.as_str())).collect();
            assert_eq!(told, expect, "{text}: {errors:?}");
        };
        check("prices: []", &[(1, "currency")]);
        check("currency: EUR\nprice: []", &[(2, "price")]);
        check(
            "currency: EUR\nprices:\n- {hardware: l4, perHour: 0.7}",
            &[(3, "prices[0].perHour")],
        );
        check(
            "currency: EUR\nprices:\n- hardware: l4\n  perHour: '1'\n  from: 2027-02-30",
            &[(5, "prices[0].from")],
        );
        check(
            "currency: EUR\nprices:\n- {hardware: l4, perHour: '1'}\n- {hardware: l4, perHour: '2'}",
            &[(4, "prices[1].hardware")],
        );
        check("currency: EUR\n---\ncurrency: USD", &[(0, "")]);
        check("", &[(0, "")]);
    }
}
