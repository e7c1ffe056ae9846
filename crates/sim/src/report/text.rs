//! Numbers and names as people read them.

/// A whole number with its thousands apart.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number with so many decimals and its thousands apart.
pub(super) fn decimal(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    let (digits, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = digits.parse().map_or_else(|_| digits.to_owned(), whole);
    let sign = if number < 0.0 && text.bytes().any(|byte| byte > b'0') { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{digits}{point}{fraction}")
}

/// A number with as many decimals as its size deserves.
pub(super) fn figure(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 1000.0 || size == 0.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    decimal(number, decimals)
}

/// Seconds, with the unit.
pub(super) fn time(seconds: f64) -> String {
    let size = seconds.abs();
    if size > 0.0 && size < 1.0 {
        return format!("{} ms", decimal(seconds * 1000.0, 0));
    }
    format!("{} s", decimal(seconds, if size < 100.0 { 1 } else { 0 }))
}

/// A part of one as a percentage.
pub(super) fn percent(part: f64) -> String {
    format!("{} %", decimal(part * 100.0, 1))
}

/// A weight: whole where it is.
pub(super) fn weight(weight: f64) -> String {
    decimal(weight, if weight.fract() == 0.0 { 0 } else { 2 })
}

/// A number beside an axis, where space is short.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, "G"),
        size if size >= 1e6 => (number / 1e6, "M"),
        size if size >= 1e3 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let check = |got: String, expect: &str| assert_eq!(got, expect);
        check(whole(0), "0");
        check(whole(999), "999");
        check(whole(1_234_567), "1,234,567");
        check(decimal(-1234.567, 2), "−1,234.57");
        check(decimal(-0.001, 2), "0.00");
        check(figure(248_716.0), "248,716");
        check(figure(0.25), "0.250");
        check(figure(0.0), "0");
        check(time(0.0125), "12 ms");
        check(time(0.0), "0.0 s");
        check(time(46.77), "46.8 s");
        check(time(1234.5), "1,234 s");
        check(percent(0.3333), "33.3 %");
        check(weight(2.0), "2");
        check(weight(1.5), "1.50");
        check(short(20_000.0), "20k");
        check(short(2_500_000.0), "2.5M");
        check(short(500.0), "500");
        check(short(0.25), "0.25");
        check(short(0.0), "0");
    }
}
