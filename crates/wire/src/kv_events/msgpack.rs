//! As much of MessagePack as reading KV events takes: heads of values, and passing over whole ones.
//!
//! Nothing is copied and nothing recurses, so that neither lengths that a head claims nor the depth of
//! what is nested cost anything: what claims more than there is ends with `None`.

/// A value, or the begin of one that holds others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head<'a> {
    Uint(u64),
    Float(f64),
    Text(&'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
    /// Something whose content does not matter here: nil, truth values, negative numbers, bytes,
    /// extensions.
    Other,
}

/// Reads values one after the other.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next value's head, with all of a value that holds no others; none where the bytes end
    /// before, or are no MessagePack.
    pub(super) fn head(&mut self) -> Option<Head<'a>> {
        let first = self.byte()?;
        Some(match first {
            0x00..=0x7f => Head::Uint(first.into()),
            0x80..=0x8f => Head::Map((first & 0x0f).into()),
            0x90..=0x9f => Head::Array((first & 0x0f).into()),
            0xa0..=0xbf => Head::Text(self.take((first & 0x1f).into())?),
            0xc1 => return None,
            0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Head::Other,
            0xc4..=0xc6 => self.sized(first - 0xc4, 0)?,
            0xc7..=0xc9 => self.sized(first - 0xc7, 1)?,
            0xca => Head::Float(f32::from_bits(u32::try_from(self.number(4)?).ok()?).into()),
            0xcb => Head::Float(f64::from_bits(self.number(8)?)),
            0xcc..=0xcf => Head::Uint(self.number(1 << (first - 0xcc))?),
            0xd0..=0xd3 => {
                let bytes = 1 << (first - 0xd0);
                let value = self.number(bytes)?;
                // The highest bit is the sign.
                if value >> (8 * bytes - 1) == 0 { Head::Uint(value) } else { Head::Other }
            }
            0xd4..=0xd8 => {
                self.take(1 + (1 << (first - 0xd4)))?;
                Head::Other
            }
            0xd9..=0xdb => {
                let length = self.number(1 << (first - 0xd9))?;
                Head::Text(self.take(usize::try_from(length).ok()?)?)
            }
            0xdc | 0xdd => Head::Array(u32::try_from(self.number(2 << (first - 0xdc))?).ok()?),
            0xde | 0xdf => Head::Map(u32::try_from(self.number(2 << (first - 0xde))?).ok()?),
        })
    }

    /// Passes over one value, with all it holds.
    pub(super) fn skip(&mut self) -> Option<()> {
        let head = self.head()?;
        self.skip_rest(head)
    }

    /// Passes over what a value holds whose head was read.
    pub(super) fn skip_rest(&mut self, head: Head<'_>) -> Option<()> {
        // Each value is at least a byte, so that this ends with the bytes.
        let mut left = held(head);
        while left > 0 {
            left = left - 1 + held(self.head()?);
        }
        Some(())
    }

    /// Bytes, or those of an extension, whose length is in front of them.
    fn sized(&mut self, size: u8, more: usize) -> Option<Head<'a>> {
        let length = usize::try_from(self.number(1 << size)?).ok()?;
        self.take(length.checked_add(more)?)?;
        Some(Head::Other)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.take(bytes)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Values that follow a head as its own.
fn held(head: Head<'_>) -> u64 {
    match head {
        Head::Array(count) => count.into(),
        Head::Map(pairs) => u64::from(pairs) * 2,
        Head::Uint(_) | Head::Float(_) | Head::Text(_) | Head::Other => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_every_form() {
        let check = |bytes: &[u8], expect: Head<'_>| {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.head(), Some(expect), "{bytes:x?}");
            assert!(reader.rest.is_empty(), "{bytes:x?} leaves {:x?}", reader.rest);
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..cut]).head(), None, "{bytes:x?} cut at {cut}");
            }
        };
        check(&[0x7f], Head::Uint(127));
        check(&[0xcc, 0xff], Head::Uint(255));
        check(&[0xcd, 1, 0], Head::Uint(256));
        check(&[0xce, 0, 1, 0, 0], Head::Uint(65_536));
        check(&[0xcf, 0xff, 0, 0, 0, 0, 0, 0, 1], Head::Uint(0xff00_0000_0000_0001));
        check(&[0xd1, 0, 5], Head::Uint(5));
        check(&[0xd0, 0x80], Head::Other);
        check(&[0xff], Head::Other);
        check(&[0xc0], Head::Other);
        check(&[0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0], Head::Float(0.5));
        check(&[0xca, 0x3f, 0, 0, 0], Head::Float(0.5));
        check(b"\xa2GP", Head::Text(b"GP"));
        check(b"\xd9\x03GPU", Head::Text(b"GPU"));
        check(&[0xc4, 2, 1, 2], Head::Other);
        check(&[0xc7, 2, 9, 1, 2], Head::Other);
        check(&[0xd5, 9, 1, 2], Head::Other);
        check(&[0x93], Head::Array(3));
        check(&[0xdd, 0, 1, 0, 0], Head::Array(65_536));
        check(&[0xde, 1, 0], Head::Map(256));
        assert_eq!(Reader::new(&[0xc1]).head(), None, "never used");
    }

    #[test]
    fn what_is_nested_deep_or_claims_much_costs_nothing() {
        let deep = [vec![0x91; 1 << 20], vec![1, 2]].concat();
        let mut reader = Reader::new(&deep);
        assert_eq!(reader.skip(), Some(()));
        assert_eq!(reader.head(), Some(Head::Uint(2)));
        let many = [0xdd, 0xff, 0xff, 0xff, 0xff, 0xdf, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&many).skip(), None);
    }
}
