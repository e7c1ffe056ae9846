//! Text in percents (RFC 3986, section 2.1), as settings and gRPC's messages have it.

/// The text without percents; none where one is not followed by two hexadecimal digits, or what comes out is no text.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_bytes() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(decode(text).as_deref(), expect, "{text}");
        };
        check("plain text+", Some("plain text+"));
        check("100 %25%0A%C3%A9", Some("100 %\né"));
        check("%", None);
        check("%2", None);
        check("%+1", None);
        check("%zz", None);
        check("%ff", None);
    }
}
