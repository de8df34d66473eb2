//! Frames: where the frames of a WebSocket begin and end (RFC 6455 section 5.2), so that a word of ours fits between two of them.
//!
//! Cost: per frame; the bytes of its header are looked at, those of its payload counted.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Opcode of a frame that closes.
const CLOSE: u8 = 0x8;
/// A control frame's payload is at most so long, its status included (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// One direction of a WebSocket.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of the header under way that were seen.
    seen: u8,
    /// Bytes that tell a length beyond 125.
    extension: u8,
    /// Bytes of the whole header.
    header: u8,
    length: u64,
    /// Bytes of the payload still to come.
    left: u64,
    has_closed: bool,
}

impl Frames {
    /// These bytes go by.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let payload = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= payload as u64;
            let Some((&byte, rest)) = bytes.get(payload..).and_then(<[u8]>::split_first) else { return };
            self.header(byte);
            bytes = rest;
        }
    }

    /// Whether the last byte ended a frame, so that another may follow.
    pub(crate) fn is_between(&self) -> bool {
        self.seen == 0 && self.left == 0
    }

    /// Whether this side has closed: nothing may follow.
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    fn header(&mut self, byte: u8) {
        match self.seen {
            0 => self.has_closed |= byte & 0x0f == CLOSE,
            1 => {
                (self.extension, self.length) = match byte & 0x7f {
                    126 => (2, 0),
                    127 => (8, 0),
                    length => (0, u64::from(length)),
                };
                self.header = 2 + self.extension + if byte & 0x80 == 0 { 0 } else { 4 };
            }
            seen if seen < 2 + self.extension => self.length = self.length << 8 | u64::from(byte),
            // The mask.
            _ => {}
        }
        self.seen += 1;
        if self.seen >= 2 && self.seen == self.header {
            self.seen = 0;
            self.left = self.length;
        }
    }
}

/// A frame that closes with this status and reason; `mask` where a client would send it.
pub(crate) fn close(status: u16, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
    let reason = reason.get(..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)).unwrap_or_default();
    let mut payload = status.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    let mut frame = BytesMut::with_capacity(6 + payload.len());
    frame.put_u8(0x80 | CLOSE);
    let length = u8::try_from(payload.len()).unwrap_or(0);
    frame.put_u8(if mask.is_some() { 0x80 | length } else { length });
    if let Some(mask) = mask {
        frame.put_slice(&mask);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    frame.put_slice(&payload);
    frame.freeze()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a peer sends it.
    fn frame(opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match payload {
            0..=125 => bytes.push(mask | payload as u8),
            126..=65_535 => {
                bytes.push(mask | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(0xa5, if masked { 4 } else { 0 } + payload));
        bytes
    }

    proptest! {
        #[test]
        fn the_end_of_a_frame_is_known_however_its_bytes_arrive(
            shapes in proptest::collection::vec((0u8..8, any::<bool>(), prop_oneof![0usize..200, 65_500usize..65_600]), 1..6),
            piece in 1usize..5_000,
        ) {
            let mut frames = Frames::default();
            for (opcode, masked, payload) in shapes {
                let bytes = frame(opcode, masked, payload);
                let (last, before) = bytes.split_last().unwrap();
                for piece in before.chunks(piece) {
                    frames.pass(piece);
                    prop_assert!(!frames.is_between());
                }
                frames.pass(&[*last]);
                prop_assert!(frames.is_between() && !frames.has_closed());
            }
        }
    }

    #[test]
    fn a_close_that_went_by_is_remembered() {
        let mut frames = Frames::default();
        frames.pass(&[frame(1, false, 3), close(1000, "bye", None).to_vec()].concat());
        assert!(frames.is_between() && frames.has_closed());
    }

    #[test]
    fn a_close_of_ours_is_one_frame_that_says_status_and_reason() {
        assert_eq!(&close(1008, "no", None)[..], b"\x88\x04\x03\xf0no");
        assert_eq!(&close(1008, "no", Some([1, 2, 3, 4]))[..], b"\x88\x84\x01\x02\x03\x04\x02\xf2mk");
        assert_eq!(close(1001, &"ä".repeat(200), None).len(), 2 + 124, "a reason is cut at a character");
    }
}
