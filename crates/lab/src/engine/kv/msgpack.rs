//! The few forms of MessagePack that KV events need.

/// Writes a number, in the shortest form.
pub(super) fn put_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend([0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend((value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend(value.to_be_bytes());
        }
    }
}

pub(super) fn put_float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend(value.to_be_bytes());
}

pub(super) fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend([0xd9, length as u8]),
        length => {
            out.push(0xda);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend(text.bytes().take(usize::from(u16::MAX)));
}

/// Begins an array of so many.
pub(super) fn put_array(out: &mut Vec<u8>, length: usize) {
    match length {
        0..=15 => out.push(0x90 | length as u8),
        16..=0xffff => {
            out.push(0xdc);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend((length as u32).to_be_bytes());
        }
    }
}

/// Begins a map of so few.
pub(super) fn put_map(out: &mut Vec<u8>, length: usize) {
    out.push(0x80 | length.min(15) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(put: impl Fn(&mut Vec<u8>), expect: &[u8]) {
        let mut out = Vec::new();
        put(&mut out);
        assert_eq!(out, expect);
    }

    #[test]
    fn writes_the_shortest_form() {
        check(|out| put_uint(out, 0x7f), &[0x7f]);
        check(|out| put_uint(out, 0x80), &[0xcc, 0x80]);
        check(|out| put_uint(out, 0x100), &[0xcd, 1, 0]);
        check(|out| put_uint(out, 0x1_0000), &[0xce, 0, 1, 0, 0]);
        check(|out| put_uint(out, u64::MAX), &[0xcf, 255, 255, 255, 255, 255, 255, 255, 255]);
        check(|out| put_float(out, 1.0), &[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        check(|out| put_text(out, "ab"), &[0xa2, b'a', b'b']);
        check(|out| put_array(out, 15), &[0x9f]);
        check(|out| put_array(out, 16), &[0xdc, 0, 16]);
        check(|out| put_map(out, 2), &[0x82]);
    }
}
