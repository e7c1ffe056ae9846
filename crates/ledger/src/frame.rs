//! How entries lie in a file of the journal: `length (4) · CRC-32 (4) · number (8) · JSON`, all numbers with
//! their lowest byte first. The checksum covers number and JSON.
//!
//! A file that ends within a frame was cut by a crash: what is before holds. A frame that is wrong though more comes
//! behind it is damage, and said so.

use crate::entry::Entry;

/// Bytes before the JSON.
pub(crate) const HEAD: usize = 16;

/// The most bytes of one entry; rows have some thousand at most.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// What is at a place of a file.
#[derive(Debug)]
pub(crate) enum Read {
    /// An entry, its number, and where the next one begins.
    Entry(u64, Box<Entry>, usize),
    /// Nothing more.
    End,
    /// The begin of a frame that was not written to its end.
    Torn,
    /// Something else.
    Damaged,
}

/// Appends an entry.
pub(crate) fn write(sequence: u64, entry: &Entry, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let begin = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&sequence.to_le_bytes());
    if let Err(error) = serde_json::to_writer(&mut *out, entry) {
        out.truncate(begin);
        return Err(error);
    }
    let length = u32::try_from(out.len() - begin - HEAD).unwrap_or(u32::MAX);
    let sum = crc32(&out[begin + 8..]);
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// The entry that begins there.
pub(crate) fn read(bytes: &[u8], at: usize) -> Read {
    let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { return Read::End };
    let Some((head, body)) = rest.split_at_checked(HEAD) else { return Read::Torn };
    let number = |from: usize| {
        head[from..from + 4].iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
    };
    let length = number(0) as usize;
    if length > ENTRY_BYTES_MAX || length == 0 {
        // A disk that lost power may show zeros where something was to be written.
        return if rest.iter().all(|byte| *byte == 0) { Read::Torn } else { Read::Damaged };
    }
    let Some(json) = body.get(..length) else { return Read::Torn };
    let end = at + HEAD + length;
    let whole = crc32(&rest[8..HEAD + length]) == number(4);
    match serde_json::from_slice(json) {
        Ok(entry) if whole => {
            let sequence = head[8..].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            Read::Entry(sequence, Box::new(entry), end)
        }
        // The last frame may have its length and not yet its bytes.
        _ if end == bytes.len() => Read::Torn,
        _ => Read::Damaged,
    }
}

/// Where the next entry begins, at that byte or behind it.
pub(crate) fn seek(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len().saturating_sub(HEAD)).find(|at| {
        let number = |from: usize| -> u32 {
            bytes[from..from + 4].iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
        };
        let length = number(*at) as usize;
        let body = bytes.get(at + 8..at + HEAD + length);
        (1..=ENTRY_BYTES_MAX).contains(&length)
            && body.is_some_and(|body| crc32(body) == number(at + 4))
            && matches!(read(bytes, *at), Read::Entry(..))
    })
}

/// CRC-32 as of IEEE 802.3, the reflected polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use pilotage_lens::usage::Row;

    use super::*;

    fn entry(id: &str) -> Entry {
        Entry::Row(Box::new(Row { request_id: id.to_owned(), ..Row::default() }))
    }

    fn all(bytes: &[u8]) -> (Vec<u64>, Read) {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            match read(bytes, at) {
                Read::Entry(sequence, _, next) => {
                    found.push(sequence);
                    at = next;
                }
                end => return (found, end),
            }
        }
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_cut_anywhere_ends_before() {
        let mut bytes = Vec::new();
        write(7, &entry("a"), &mut bytes).unwrap();
        let first = bytes.len();
        write(8, &entry("b"), &mut bytes).unwrap();
        assert!(matches!(all(&bytes), (found, Read::End) if found == [7, 8]));
        for cut in first + 1..bytes.len() {
            assert!(matches!(all(&bytes[..cut]), (found, Read::Torn) if found == [7]), "{cut}");
        }
        let mut zeros = bytes[..first].to_vec();
        zeros.resize(first + 100, 0);
        assert!(matches!(all(&zeros), (found, Read::Torn) if found == [7]));
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut bytes = Vec::new();
        write(7, &entry("a"), &mut bytes).unwrap();
        let first = bytes.len();
        write(8, &entry("b"), &mut bytes).unwrap();
        for at in 4..first {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(matches!(all(&damaged), (found, Read::Damaged) if found.is_empty()), "{at}");
        }
    }

    #[test]
    fn what_is_behind_damage_is_found_again() {
        let mut bytes = Vec::new();
        write(7, &entry("a"), &mut bytes).unwrap();
        let first = bytes.len();
        write(8, &entry("b"), &mut bytes).unwrap();
        for at in 0..first {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(seek(&damaged, 1), Some(first), "{at}");
        }
        assert_eq!(seek(&bytes, 0), Some(0));
        assert_eq!(seek(&bytes, first + 1), None);
        assert_eq!(seek(&vec![0; 1 << 20], 0), None);
    }
}
