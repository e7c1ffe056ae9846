//! The encoding of certificates (X.690, DER): elements of a tag, a length and a content, and what is told
//! by numbers of their own.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// Of a certificate's own fields and of other names, by their numbers.
pub(super) const VERSION: u8 = 0xa0;
pub(super) const EXTENSIONS: u8 = 0xa3;
pub(super) const DNS_NAME: u8 = 0x82;

/// 2.5.4.3
pub(super) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 1.2.840.10045.2.1
pub(super) const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.2.840.10045.4.3.2
pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 2.5.29.19
pub(super) const BASIC: &[u8] = &[0x55, 0x1d, 0x13];
/// 2.5.29.15
pub(super) const USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.37
pub(super) const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.17
pub(super) const OTHER_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.3.6.1.5.5.7.3.1
pub(super) const SERVER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// 1.3.6.1.5.5.7.3.2
pub(super) const CLIENT: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// An element that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

impl<'a> Element<'a> {
    /// What it holds, if it is of that kind.
    pub(super) fn content_of(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut whole = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len) if len < 0x80 => whole.push(len),
        _ => {
            let len = content.len().to_be_bytes();
            let zeros = len.iter().take_while(|byte| **byte == 0).count();
            whole.push(0x80 | (len.len() - zeros) as u8);
            whole.extend_from_slice(&len[zeros..]);
        }
    }
    whole.extend_from_slice(content);
    whole
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

pub(super) fn oid(number: &[u8]) -> Vec<u8> {
    element(OID, number)
}

/// Bits, so many of the last byte unused.
pub(super) fn bits(unused: u8, bytes: &[u8]) -> Vec<u8> {
    element(BITS, &[&[unused], bytes].concat())
}

/// What the only element holds, which has to be of that kind.
pub(super) fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (element, rest) = read(bytes)?;
    if rest.is_empty() { element.content_of(tag) } else { None }
}

/// The elements in a content, and none once it is not well formed.
pub(super) fn parts(content: &[u8]) -> impl Iterator<Item = Option<Element<'_>>> {
    let mut rest = Some(content);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let Some((element, left)) = read(bytes) else { return Some(None) };
        rest = Some(left);
        Some(Some(element))
    })
}

fn read(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (len, bytes) = if first < 0x80 {
        (usize::from(first), bytes)
    } else {
        let count = usize::from(first & 0x7f);
        // Four bytes of length are more than any certificate has.
        let (len, bytes) = bytes.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), bytes)
    };
    let (content, rest) = bytes.split_at_checked(len)?;
    Some((Element { tag, content }, rest))
}
