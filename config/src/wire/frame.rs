//! How messages stand in a gRPC stream: a byte that says "not compressed", four of length, the message.
//!
//! Pure: who moves the bytes is others' affair. A reader holds one message and what came with its end, never more.

use super::{MESSAGE_BYTES_MAX, WireError};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes before a message.
pub const PREFIX_BYTES: usize = 5;

/// What goes before a message.
///
/// # Errors
/// The message is longer than any reader takes.
pub fn prefix(message: &[u8]) -> Result<Bytes, WireError> {
    at_most(message.len())?;
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
    prefix.put_u8(0);
    // At most MESSAGE_BYTES_MAX, see above.
    prefix.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    Ok(prefix.freeze())
}

/// Takes bytes as they come and gives messages.
#[derive(Debug, Default)]
pub struct Deframer(BytesMut);

impl Deframer {
    /// Takes bytes. To be called once no whole message is left.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// It is compressed, which nobody asked for, or longer than is taken: the stream cannot go on.
    pub fn message(&mut self) -> Result<Option<Bytes>, WireError> {
        let mut head = self.0.get(..PREFIX_BYTES).unwrap_or_default();
        if head.is_empty() {
            return Ok(None);
        }
        if head.get_u8() != 0 {
            return Err(WireError::Garbled);
        }
        let length = head.get_u32() as usize;
        at_most(length)?;
        if self.0.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.0.advance(PREFIX_BYTES);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

fn at_most(length: usize) -> Result<(), WireError> {
    if length > MESSAGE_BYTES_MAX { Err(WireError::TooLarge(MESSAGE_BYTES_MAX)) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_of_a_stream_as_they_went_in_however_it_is_cut() {
        let sent: Vec<Vec<u8>> = vec![b"one".to_vec(), Vec::new(), vec![7; 300]];
        let stream: Vec<u8> = sent.iter().flat_map(|message| [prefix(message).unwrap().to_vec(), message.clone()].concat()).collect();
        for cut in 1..stream.len() {
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            for bytes in stream.chunks(cut) {
                deframer.push(bytes);
                while let Some(message) = deframer.message().unwrap() {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, sent, "{cut}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_or_compressed_is_refused_at_its_prefix() {
        let too_long = u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
        for bytes in [[&[0][..], &too_long].concat(), vec![1, 0, 0, 0, 1]] {
            let mut deframer = Deframer::default();
            deframer.push(&bytes);
            assert!(deframer.message().is_err(), "{bytes:?}");
        }
        assert!(prefix(&vec![0; MESSAGE_BYTES_MAX + 1]).is_err());
    }
}
