//! W3C trace context, level 1: the `traceparent` header.

use std::fmt;

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The name of the header with what tracing systems say of a trace besides.
pub const TRACESTATE: &str = "tracestate";

/// A position in a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    /// The trace, never zero.
    pub trace: u128,
    /// The span that is the parent of the next, never zero.
    pub span: u64,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the header; nothing comes of an invalid one, and the reader starts a new trace.
    /// Versions after 00 are read by the rules of 00, as the standard asks.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let surplus = version == 0 && parts.next().is_some();
        if version == 0xff || trace == 0 || span == 0 || surplus {
            return None;
        }
        Some(Self { trace, span: u64::try_from(span).ok()?, sampled: flags & 1 == 1 })
    }

    /// The first position of a new trace from two random numbers. It is not sampled: nobody
    /// asked for it.
    pub fn start(random: u128, span: u64) -> Self {
        Self { trace: random.max(1), span: span.max(1), sampled: false }
    }

    /// The same trace one span further down.
    pub fn child(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }
}

/// Lower-case hexadecimal of exactly that length: upper case is invalid by the standard.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(valid) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_it_writes() {
        let parent = TraceParent::parse(VALID).unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), VALID);
        assert_eq!(
            parent.child(7).to_string(),
            VALID.replace("00f067aa0ba902b7", "0000000000000007")
        );
    }

    #[test]
    fn invalid_headers_start_a_new_trace() {
        let check = |header: String| assert_eq!(TraceParent::parse(&header), None, "{header}");
        check(String::new());
        check(VALID.to_uppercase());
        check(VALID.replace("00-4", "ff-4"));
        check(VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)));
        check(VALID.replace("00f067aa0ba902b7", &"0".repeat(16)));
        check(format!("{VALID}-x"));
        check(VALID[..54].to_owned());
        check(VALID.replace('4', "é"));
    }

    #[test]
    fn later_versions_may_say_more() {
        assert!(TraceParent::parse(&format!("{}-x", VALID.replace("00-4", "01-4"))).is_some());
    }
}
