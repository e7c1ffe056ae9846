//! Where an answer's body ends (RFC 9112, section 6), found while its bytes come by, however they are cut.

use thiserror::Error;

/// Digits of a chunk's size.
const SIZE_DIGITS_MAX: u8 = 15;

/// Bytes of what may stand behind a chunk's size, and of all trailers.
const EXTRA_MAX: u16 = 8192;

/// What is left of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the connection is closed.
    UntilClose,
}

/// Within chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunks {
    /// A size that was read so far, with so many digits.
    Size(u64, u8),
    /// What may stand behind a size, and how many bytes of that came.
    Extension(u64, u16),
    /// The end of the size's line.
    SizeEnd(u64),
    /// Bytes that are left of a chunk.
    Data(u64),
    /// The line's end behind a chunk,
    DataEnd,
    /// and its second byte.
    DataEnded,
    /// The trailers, in the middle of a line or not, after so many bytes.
    Trailers { line: bool, bytes: u16 },
    /// The second byte of a line's end among them; the last line is empty.
    TrailerEnd { last: bool, bytes: u16 },
    /// There is no more.
    Over,
}

/// What is no body.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum Garbage {
    #[error("a chunk's size is no number")]
    Size,
    #[error("a chunk does not end where it says")]
    End,
    #[error("its chunks carry too much besides data")]
    Extra,
    #[error("the connection was closed in the middle of a body")]
    Cut,
}

impl Framing {
    /// A body in chunks.
    pub(super) const CHUNKED: Self = Self::Chunked(Chunks::Size(0, 0));

    /// Whether nothing is left.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Over))
    }

    /// The connection was closed.
    pub(super) const fn close(self) -> Result<(), Garbage> {
        if matches!(self, Self::UntilClose) || self.is_over() { Ok(()) } else { Err(Garbage::Cut) }
    }

    /// How much is left, where that is known.
    pub(super) const fn left(self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Chunked(Chunks::Over) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Reads on, adds data to `out`, and returns how many bytes were the body's.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Garbage> {
        let most = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match self {
            Self::Length(left) => {
                let taken = most(*left);
                *left -= taken as u64;
                out.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
            Self::UntilClose => {
                out.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Self::Chunked(chunks) => chunks.take(bytes, out),
        }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Garbage> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Self::Data(left) = self {
                let rest = bytes.len() - at;
                let taken = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                out.extend_from_slice(&bytes[at..at + taken]);
                at += taken;
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            if *self == Self::Over {
                break;
            }
            *self = self.step(*byte)?;
            at += 1;
        }
        Ok(at)
    }

    /// After one byte that is no data.
    fn step(self, byte: u8) -> Result<Self, Garbage> {
        Ok(match (self, byte) {
            (Self::Size(_, 0), b'\r' | b';' | b' ' | b'\t') => return Err(Garbage::Size),
            (Self::Size(size, _) | Self::Extension(size, _), b'\r') => Self::SizeEnd(size),
            (Self::Size(size, _), b';' | b' ' | b'\t') => Self::Extension(size, 0),
            (Self::Size(size, digits), byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Garbage::Size)?;
                if digits >= SIZE_DIGITS_MAX {
                    return Err(Garbage::Size);
                }
                Self::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Self::Extension(_, EXTRA_MAX..), _) => return Err(Garbage::Extra),
            // A lone line feed would be where others see the line's end.
            (Self::Extension(..), b'\n') => return Err(Garbage::Size),
            (Self::Extension(size, seen), _) => Self::Extension(size, seen + 1),
            (Self::SizeEnd(0), b'\n') => Self::Trailers { line: false, bytes: 0 },
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::SizeEnd(_), _) => return Err(Garbage::Size),
            (Self::DataEnd, b'\r') => Self::DataEnded,
            (Self::DataEnded, b'\n') => Self::Size(0, 0),
            (Self::DataEnd | Self::DataEnded, _) => return Err(Garbage::End),
            (Self::Trailers { bytes: EXTRA_MAX.., .. }, _) => return Err(Garbage::Extra),
            (Self::Trailers { line, bytes }, b'\r') => Self::TrailerEnd { last: !line, bytes },
            (Self::Trailers { .. }, b'\n') => return Err(Garbage::End),
            (Self::Trailers { bytes, .. }, _) => Self::Trailers { line: true, bytes: bytes + 1 },
            (Self::TrailerEnd { last: true, .. }, b'\n') => Self::Over,
            (Self::TrailerEnd { bytes, .. }, b'\n') => {
                Self::Trailers { line: false, bytes: bytes + 1 }
            }
            (Self::TrailerEnd { .. }, _) => return Err(Garbage::End),
            (Self::Data(_) | Self::Over, _) => self,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All of it, cut at these places: data, bytes that were the body's, and what is left.
    fn read(
        mut framing: Framing,
        bytes: &[u8],
        cuts: &[usize],
    ) -> Result<(Vec<u8>, usize, Framing), Garbage> {
        let (mut out, mut taken, mut from) = (Vec::new(), 0, 0);
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let cut = cut.clamp(from, bytes.len());
            taken += framing.take(&bytes[from..cut], &mut out)?;
            from = cut;
        }
        Ok((out, taken, framing))
    }

    proptest! {
        #[test]
        fn chunks_are_the_same_however_they_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            extension in "(;[a-z]{0,5})?",
            trailers in "(x-[a-z]{1,5}: [a-z]{0,5}\r\n){0,2}",
            behind in prop::collection::vec(any::<u8>(), 0..8),
            mut cuts in prop::collection::vec(0..400_usize, 0..12),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(format!("0{extension}\r\n{trailers}\r\n").bytes());
            let length = bytes.len();
            bytes.extend(behind);
            cuts.sort_unstable();
            let (out, _, left) = read(Framing::CHUNKED, &bytes, &cuts).unwrap();
            prop_assert_eq!(out, chunks.concat());
            prop_assert!(left.is_over());
            prop_assert_eq!(read(Framing::CHUNKED, &bytes, &[]).unwrap().1, length);
        }

        #[test]
        fn whatever_comes_ends_in_data_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((out, taken, _)) = read(Framing::CHUNKED, &bytes, &[]) {
                prop_assert!(out.len() <= taken && taken <= bytes.len());
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let check = |bytes: &[u8], expect: Garbage| {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(read(Framing::CHUNKED, bytes, &[]), Err(expect), "{text:?}");
        };
        check(b"\r\n", Garbage::Size);
        check(b";x\r\n", Garbage::Size);
        check(b"g\r\n", Garbage::Size);
        check(b"-1\r\n", Garbage::Size);
        check(b"0x5\r\n", Garbage::Size);
        check(b"5\nhello\r\n", Garbage::Size);
        check(b"5;x\nhello\r\n", Garbage::Size);
        check(b"5\rhello", Garbage::Size);
        check(b"1000000000000000\r\n", Garbage::Size);
        check(b"5\r\nhello!\r\n", Garbage::End);
        check(b"5\r\nhello\r!", Garbage::End);
        check(b"0\r\nx: y\n", Garbage::End);
        check(b"0\r\nx: y\rz", Garbage::End);
        check(&[b"1;".as_slice(), &[b'x'; 9000]].concat(), Garbage::Extra);
        check(&[b"0\r\n".as_slice(), &[b'x'; 9000]].concat(), Garbage::Extra);
        check(&[b"0\r\n".as_slice(), &b"x:\r\n".repeat(3000)].concat(), Garbage::Extra);
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let check = |framing: Framing, bytes: &[u8], data: &[u8], closes: Result<(), Garbage>| {
            let (out, taken, left) = read(framing, bytes, &[]).unwrap();
            assert_eq!((out.as_slice(), taken, left.close()), (data, data.len(), closes));
        };
        check(Framing::Length(3), b"abcd", b"abc", Ok(()));
        check(Framing::Length(3), b"ab", b"ab", Err(Garbage::Cut));
        check(Framing::Length(0), b"ab", b"", Ok(()));
        check(Framing::UntilClose, b"abcd", b"abcd", Ok(()));
        let cut = read(Framing::CHUNKED, b"5\r\nhel", &[]).unwrap();
        assert_eq!((cut.0.as_slice(), cut.2.close()), (b"hel".as_slice(), Err(Garbage::Cut)));
        assert_eq!(Framing::Length(7).left(), Some(7));
        assert_eq!(Framing::CHUNKED.left(), None);
    }
}
