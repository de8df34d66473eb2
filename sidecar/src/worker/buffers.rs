//! Buffers: memory that a connection holds while it has bytes in it, and no longer.
//!
//! Cost: per request; one taken from a list and put back. A connection that is silent holds none.

use crate::fields::Lines;
use crate::http1::lane::READ_BYTES;
use crate::request::outgoing::Outgoing;
use bytes::BytesMut;
use std::cell::RefCell;

/// Buffers kept for the next taker.
const SPARE_MAX: usize = 64;
/// What the fields that we add to a request or to an answer mostly take.
const TEXT_BYTES: usize = 1 << 10;

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub struct Buffers {
    spare: RefCell<Vec<BytesMut>>,
    #[expect(clippy::vec_box, reason = "who takes one takes the box")]
    requests: RefCell<Vec<Box<Outgoing>>>,
    lines: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer.
    #[must_use]
    pub fn take(&self) -> BytesMut {
        self.spare.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES))
    }

    /// A request of nothing, with room for what we add.
    #[must_use]
    pub fn take_request(&self) -> Box<Outgoing> {
        self.requests.borrow_mut().pop().unwrap_or_else(|| Box::new(Outgoing::blank(TEXT_BYTES)))
    }

    /// Gives one back. Nothing of what it was is kept but the memory.
    pub fn give_back_request(&self, mut request: Box<Outgoing>) {
        request.clear();
        let mut requests = self.requests.borrow_mut();
        if requests.len() < SPARE_MAX && request.added.capacity() <= 4 * TEXT_BYTES {
            requests.push(request);
        }
    }

    /// No lines, with room for what we say in an answer.
    #[must_use]
    pub fn take_lines(&self) -> Lines {
        Lines::within(self.lines.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(TEXT_BYTES)))
    }

    /// Gives them back for their memory.
    pub fn give_back_lines(&self, own: Lines) {
        let (buffer, mut lines) = (own.into_buffer(), self.lines.borrow_mut());
        if lines.len() < SPARE_MAX && buffer.capacity() <= 4 * TEXT_BYTES {
            lines.push(buffer);
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
