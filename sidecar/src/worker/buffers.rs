//! Buffers: memory that a connection holds while it has bytes in it, and no longer.
//!
//! Cost: per request; one taken from a list and put back. A connection that is silent holds none.

use crate::http1::lane::READ_BYTES;
use bytes::BytesMut;
use std::cell::RefCell;

/// Buffers kept for the next taker.
const SPARE_MAX: usize = 64;
/// What the fields that we add to a request mostly take.
const TEXT_BYTES: usize = 1 << 10;

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: RefCell<Vec<BytesMut>>,
    texts: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer.
    #[must_use]
    pub fn take(&self) -> BytesMut {
        self.spare.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES))
    }

    /// An empty text.
    #[must_use]
    pub fn take_text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(TEXT_BYTES))
    }

    /// Gives one back.
    pub fn give_back_text(&self, mut text: Vec<u8>) {
        text.clear();
        let mut texts = self.texts.borrow_mut();
        if texts.len() < SPARE_MAX && text.capacity() <= 4 * TEXT_BYTES {
            texts.push(text);
        }
    }

    /// Gives one back. It is used again unless somebody still holds a part of what was in it.
    pub fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && buffer.try_reclaim(READ_BYTES) && buffer.capacity() <= 2 * READ_BYTES {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_holds_a_part_of_it() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let head = buffer.split().freeze();
        buffers.give_back(buffer);
        assert!(buffers.spare.borrow().is_empty(), "the head is still held");
        drop(head);
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        drop(buffer.split().freeze());
        let at = buffer.as_ptr().addr();
        buffers.give_back(buffer);
        let again = buffers.take();
        assert_eq!((again.len(), again.capacity() >= READ_BYTES), (0, true));
        assert!(at.checked_sub(again.as_ptr().addr()).unwrap() < READ_BYTES, "the same memory");
    }
}
