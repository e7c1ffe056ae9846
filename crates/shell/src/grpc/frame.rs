//! Messages in a stream of bytes: each has its length before it, and whether it is compressed.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use super::{Code, Status};

/// Bytes before a message: one says whether it is compressed, four are its length.
const HEAD: usize = 5;

/// Cuts what comes into messages. It keeps no more than one of them and what came with its end.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: BytesMut,
    message_bytes_max: usize,
}

impl Frames {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), message_bytes_max }
    }

    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether there is no part of a message.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next message, if it is whole. To be asked before more is pushed.
    ///
    /// # Errors
    /// It is larger than it may be, or compressed.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((head, _)) = self.bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        if compressed != 0 {
            let message = "compressed messages are not read here; send them as they are";
            return Err(Status::new(Code::Unimplemented, message));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.message_bytes_max {
            let most = self.message_bytes_max;
            let message = format!("a message may have {most} bytes at most, and one has {length}");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        if self.bytes.len() - HEAD < length {
            return Ok(None);
        }
        self.bytes.advance(HEAD);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

/// A message that is encoded already, with its length before it.
pub(super) fn write_bytes(message: &[u8], compressed: bool) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + message.len());
    bytes.put_u8(compressed.into());
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// A message with its length before it.
pub(super) fn write(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(HEAD + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // There is room for all of it.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_large_or_compressed_is_refused_by_its_head() {
        let check = |bytes: &'static [u8], expect: Code| {
            let mut frames = Frames::new(4);
            frames.push(&Bytes::from_static(bytes));
            assert_eq!(frames.take().unwrap_err().code, expect);
        };
        check(&[0, 0, 0, 0, 5], Code::ResourceExhausted);
        check(&[0, 255, 255, 255, 255], Code::ResourceExhausted);
        check(&[1, 0, 0, 0, 1], Code::Unimplemented);
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(".{0,40}", 0..6),
            cut in 1..32_usize,
        ) {
            let mut sent = Vec::new();
            messages.iter().for_each(|message| sent.extend_from_slice(&write(message)));
            let mut frames = Frames::new(1024);
            let mut came = Vec::new();
            for part in sent.chunks(cut) {
                frames.push(&Bytes::copy_from_slice(part));
                while let Some(message) = frames.take().unwrap() {
                    came.push(String::decode(message).unwrap());
                }
            }
            prop_assert_eq!(came, messages);
            prop_assert!(frames.is_empty());
        }
    }
}
