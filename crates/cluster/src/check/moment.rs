//! Moments to the millionth of a second, which servers read in one form alone.

/// Whether it is one: `2026-01-31T09:08:07.000000Z`, with exactly six digits of a second's parts.
pub(super) fn is_moment(text: &str) -> bool {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddddd";
    let bytes = text.as_bytes();
    let Some((moment, zone)) = bytes.split_at_checked(FORM.len()) else { return false };
    let zone_form: &[u8] = if zone == b"Z" { b"Z" } else { b"+dd:dd" };
    fits(FORM, moment) && fits(zone_form, zone)
}

fn fits(form: &[u8], text: &[u8]) -> bool {
    let letter = |(form, is): (&u8, &u8)| match form {
        b'd' => is.is_ascii_digit(),
        b'+' => matches!(is, b'+' | b'-'),
        form => form == is,
    };
    form.len() == text.len() && form.iter().zip(text).all(letter)
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_have_six_digits() {
        let check = |text: &str, is: bool| assert_eq!(super::is_moment(text), is, "{text}");
        check("2026-01-31T09:08:07.000000Z", true);
        check("2026-01-31T09:08:07.123456+02:00", true);
        check("2026-01-31T09:08:07Z", false);
        check("2026-01-31T09:08:07.123Z", false);
        check("2026-01-31T09:08:07.1234567Z", false);
        check("", false);
    }
}
