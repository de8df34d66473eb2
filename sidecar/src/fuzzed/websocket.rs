//! The frames of a WebSocket, as they go by.

use super::arrivals;
use crate::connection::tunnel::frames::{Frames, close};

/// Whether the bytes end with the end of a frame.
///
/// # Panics
/// Where a frame ends depends on how the bytes arrive, or differs from what they say.
pub fn check(data: &[u8]) -> bool {
    let told = walk(data);
    for pieces in arrivals(data) {
        let mut frames = Frames::default();
        pieces.into_iter().for_each(|piece| frames.pass(piece));
        assert_eq!((frames.is_between(), frames.has_closed()), told);
        if frames.is_between() {
            frames.pass(&close(1001, "going", Some([1, 2, 3, 4])));
            assert!(frames.is_between() && frames.has_closed(), "a frame of ours does not fit there");
        }
    }
    told.0
}

/// Whether the bytes end where a frame does, and whether one of them closes (RFC 6455 section 5.2).
fn walk(mut data: &[u8]) -> (bool, bool) {
    let mut has_closed = false;
    while let Some(first) = data.first() {
        has_closed |= first & 0x0f == 8;
        let Some(end) = end_of_frame(data) else { return (false, has_closed) };
        data = &data[end..];
    }
    (true, has_closed)
}

/// Bytes of the first frame, if all of them are there.
fn end_of_frame(data: &[u8]) -> Option<usize> {
    let second = *data.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (header, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*data.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*data.get(2..)?.first_chunk()?)),
        length => (2, u64::from(length)),
    };
    let end = usize::try_from(length).ok()?.checked_add(header + mask)?;
    (end <= data.len()).then_some(end)
}
