//! Section: the header section of a message, read once and strictly.
//!
//! Cost: per field; its bytes looked at by the parser, two places compared, no allocation.
//! The parser accepts lines that end in LF alone. Here every field must begin where the one before ended in CRLF, so that nothing
//! lies between them that another reader could take for something.

use crate::fields::Fields;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Fields that httparse keeps place for without an allocation.
pub const FIELDS_INLINE: usize = 100;

/// Something between the fields is neither of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untidy;

/// Where names and values stand. Keeps its memory from one message to the next.
#[derive(Debug, Default)]
pub struct Section {
    list: Vec<(Range<usize>, Range<usize>)>,
}

impl Section {
    /// Takes what a parser found in `head`, whose first field begins at `start`.
    ///
    /// # Errors
    /// When the fields do not fill the head from there to its end, line by line.
    pub fn take(&mut self, head: &[u8], start: usize, parsed: &[httparse::Header<'_>]) -> Result<(), Untidy> {
        self.list.clear();
        let mut at = start;
        for field in parsed {
            let name = place(head, field.name.as_bytes());
            if name.start != at || head.get(name.end) != Some(&b':') {
                return Err(Untidy);
            }
            let begin = skip_blank(head, name.end + 1);
            let value = begin..begin + field.value.len();
            if !field.value.is_empty() && place(head, field.value) != value {
                return Err(Untidy);
            }
            at = end_of_line(head, skip_blank(head, value.end)).ok_or(Untidy)?;
            self.list.push((name, value));
        }
        if end_of_line(head, at) == Some(head.len()) { Ok(()) } else { Err(Untidy) }
    }

    /// Makes `fields` the fields of `head`, which is what they were taken from.
    ///
    /// # Errors
    /// When one is longer than fields can be.
    pub fn fill(&mut self, fields: &mut Fields, mut head: BytesMut) -> Result<Bytes, Untidy> {
        fields.clear();
        for (name, value) in self.list.drain(..) {
            fields.note(&mut head, name, value).map_err(|_| Untidy)?;
        }
        let head = head.freeze();
        fields.over(head.clone());
        Ok(head)
    }
}

/// Where `part` lies in `whole`; nowhere that fits, if it is no part of it.
pub(super) fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    start..start.wrapping_add(part.len())
}

/// What follows CRLF at `at`.
pub(super) fn end_of_line(head: &[u8], at: usize) -> Option<usize> {
    (head.get(at..at + 2) == Some(b"\r\n")).then_some(at + 2)
}

fn skip_blank(head: &[u8], mut at: usize) -> usize {
    while matches!(head.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}
