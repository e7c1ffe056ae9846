//! Amounts of resources (`500m`, `1.5Gi`, `2e3`): read, compared, and written the one way in which servers
//! write them.

use std::fmt;

/// An amount, exact to a billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity {
    /// Billionths.
    nano: i128,
    form: Form,
}

/// In which units an amount was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Thousands: `k`, `M`.
    Decimal,
    /// 1024s: `Ki`, `Mi`.
    Binary,
    /// `e3`.
    Exponent,
}

const ONE: i128 = 1_000_000_000;
/// The largest exponent of ten that is read.
const EXPONENT_MAX: u32 = 18;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    pub(crate) const ZERO: Self = Self { nano: 0, form: Form::Decimal };

    /// Reads an amount; of what is none, nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let split = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let (number, unit) = digits.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (form, up, down) = scale(unit)?;
        let all: i128 = format!("{whole}{fraction}").parse().ok()?;
        let places = u32::try_from(fraction.len()).ok()?;
        let down = down.checked_mul(10_i128.checked_pow(places)?)?;
        let scaled = all.checked_mul(up)?.checked_mul(ONE)?;
        // Less than a billionth counts as one.
        let nano = scaled / down + i128::from(scaled % down > 0);
        Some(Self { nano: if text.starts_with('-') { -nano } else { nano }, form })
    }

    pub(crate) const fn count(count: u32) -> Self {
        Self { nano: count as i128 * ONE, form: Form::Decimal }
    }

    pub(crate) const fn is_negative(self) -> bool {
        self.nano < 0
    }

    pub(crate) const fn is_whole(self) -> bool {
        self.nano % ONE == 0
    }

    pub(crate) const fn exceeds(self, other: Self) -> bool {
        self.nano > other.nano
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        let form = if self.nano == 0 { other.form } else { self.form };
        Self { nano: self.nano.saturating_add(other.nano), form }
    }
}

/// What a unit multiplies and divides by.
fn scale(unit: &str) -> Option<(Form, i128, i128)> {
    if let Some(power) = BINARY.iter().position(|one| *one == unit) {
        return Some((Form::Binary, 1024_i128.checked_pow(u32::try_from(power).ok()? + 1)?, 1));
    }
    let (form, exponent) = match DECIMAL.iter().find(|(one, _)| *one == unit) {
        Some((_, exponent)) => (Form::Decimal, *exponent),
        None => {
            let exponent = unit.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            (Form::Exponent, exponent)
        }
    };
    if exponent.unsigned_abs() > EXPONENT_MAX {
        return None;
    }
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (form, 1, power) } else { (form, power, 1) })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let is_binary =
            self.form == Form::Binary && self.is_whole() && self.nano.abs() >= 1024 * ONE;
        if is_binary {
            let (mut number, mut unit) = (self.nano / ONE, "");
            for next in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                (number, unit) = (number / 1024, next);
            }
            return write!(f, "{number}{unit}");
        }
        let (mut number, mut at) = (self.nano, 0);
        while number % 1000 == 0 && at + 1 < DECIMAL.len() {
            (number, at) = (number / 1000, at + 1);
        }
        let (unit, exponent) = DECIMAL.get(at).copied().unwrap_or_default();
        match self.form {
            Form::Exponent if exponent != 0 => write!(f, "{number}e{exponent}"),
            _ => write!(f, "{number}{unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_one_way() {
        let check = |text: &str, expect: &str| {
            let got = Quantity::parse(text).map(|one| one.to_string());
            assert_eq!(got.as_deref(), Some(expect), "{text}");
        };
        check("1000m", "1");
        check("0.5", "500m");
        check("1.5Gi", "1536Mi");
        check("1024Mi", "1Gi");
        check("512", "512");
        check("0.5Ki", "512");
        check("2000k", "2M");
        check("2e3", "2e3");
        check("2000e0", "2e3");
        check("1073741824", "1073741824");
        check("0.0000000001", "1n");
        check("0", "0");
        check("-1500m", "-1500m");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "m", "1 Gi", "1gi", "1.2.3", "1e", "one", "1e99", "1KiB"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_compare_across_units() {
        let of = |text: &str| Quantity::parse(text).unwrap();
        assert!(of("1Gi").exceeds(of("1G")) && !of("1").exceeds(of("1000m")));
        assert_eq!(of("1Gi").plus(of("512Mi")).to_string(), "1536Mi");
    }
}
