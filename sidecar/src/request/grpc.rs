//! gRPC: which requests are, how long their client waits, and how large their messages are.
//!
//! Cost: per request; one look at `content-type`. Where a route bounds messages, per message five bytes read as they pass.
//! gRPC is HTTP/2 with messages in the body and its outcome in the trailers, so what a proxy says to its clients must be said that
//! way too: see `problem`.

use crate::fields::{Fields, Name, begins_with_type, visible};
use crate::problem::Code;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// How long the client waits.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits that the number of a timeout may have.
const TIMEOUT_DIGITS_MAX: usize = 8;
const GRPC: &[u8] = b"application/grpc";
/// Bytes before a message: a flag and a length.
const PREFIX_BYTES: u8 = 5;

/// Whether a message with these fields is gRPC: `application/grpc`, alone or with a message format or parameters. gRPC-Web has
/// another name, speaks HTTP/1.1 too and tells its outcome in the body.
#[must_use]
pub fn is_grpc(headers: &Fields) -> bool {
    let Some(value) = headers.get(Name::ContentType) else { return false };
    begins_with_type(value, GRPC) && matches!(value.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

/// The time its client gives a call, if it is one and has one.
#[must_use]
pub fn timeout(headers: &Fields) -> Option<Duration> {
    if !is_grpc(headers) {
        return None;
    }
    duration(visible(headers.get_named(&TIMEOUT).next()?)?)
}

/// Tells the next hop how long its client still waits.
pub fn tell_timeout(headers: &mut HeaderMap, left: Duration) {
    // Nobody waits for no time at all; what has more digits than there may be is as good as a day.
    let millis = left.as_millis().clamp(1, 99_999_999);
    if let Ok(value) = HeaderValue::try_from(format!("{millis}m")) {
        headers.insert(TIMEOUT, value);
    }
}

/// A timeout as gRPC writes it: up to eight digits and a unit.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=TIMEOUT_DIGITS_MAX).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Where a body stands in its messages: each is five bytes, a flag and a length, and as many bytes as that says. They are counted as
/// they pass and never held, so a message is refused by its length, before any of it went on.
#[derive(Debug, Clone, Copy)]
pub struct Messages {
    bytes_max: u64,
    /// Bytes of the prefix that came.
    prefix: u8,
    /// The length, as far as it came.
    length: u32,
    /// Bytes of the message that are still to come.
    left: usize,
}

/// A message is larger than it may be; what lies before it in the same piece may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Where it begins in the piece.
    pub at: usize,
}

impl Messages {
    /// Of a body of which nothing has come, with so many bytes in each at most.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, prefix: 0, length: 0, left: 0 }
    }

    /// A piece passes.
    ///
    /// # Errors
    /// A message that begins in it, or whose prefix ends in it, is too large.
    pub fn pass(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        let (mut rest, mut at) = (piece, 0);
        while let Some((byte, after)) = rest.split_first() {
            if self.left > 0 {
                let gone = self.left.min(rest.len());
                self.left -= gone;
                rest = rest.get(gone..).unwrap_or_default();
                continue;
            }
            if self.prefix == 0 {
                // The flag says whether it is compressed; its length is that of what is sent.
                at = piece.len() - rest.len();
            } else {
                self.length = self.length << 8 | u32::from(*byte);
            }
            self.prefix += 1;
            rest = after;
            if self.prefix == PREFIX_BYTES {
                if u64::from(self.length) > self.bytes_max {
                    return Err(TooLarge { at });
                }
                *self = Self { left: usize::try_from(self.length).unwrap_or(usize::MAX), ..Self::new(self.bytes_max) };
            }
        }
        Ok(())
    }
}

/// Trailers that say why a call broke off after its answer had begun.
#[must_use]
pub fn trailers(code: Code, told: &'static str) -> HeaderMap {
    crate::problem::grpc_outcome(code, told).into_iter().collect::<HeaderMap<HeaderValue>>()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_grpc(&Fields::from(&headers)), expected, "{value}");
        }
        assert!(!is_grpc(&Fields::default()));
    }

    #[test]
    fn a_message_is_refused_by_its_length_however_the_body_is_cut() {
        let message = |length: u32, kept: usize| [&[0][..], &length.to_be_bytes(), &vec![7; kept]].concat();
        let (good, bad) = ([message(4, 4), message(0, 0), message(3, 3)].concat(), message(5, 0));
        let body = [&good[..], &bad].concat();
        for size in 1..=body.len() {
            let mut messages = Messages::new(4);
            let ended = body.chunks(size).enumerate().find_map(|(number, piece)| Some((number * size, messages.pass(piece).err()?)));
            let (begun, TooLarge { at }) = ended.unwrap();
            assert!(begun + at == good.len() || at == 0 && begun > good.len(), "pieces of {size}: {begun} + {at}");
            let mut messages = Messages::new(4);
            assert!(good.chunks(size).all(|piece| messages.pass(piece).is_ok()), "pieces of {size}");
        }
        assert_eq!(Messages::new(u64::MAX).pass(&message(u32::MAX, 9)), Ok(()));
        assert_eq!(Messages::new(0).pass(&[message(0, 0), message(1, 0)].concat()), Err(TooLarge { at: 5 }));
    }

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(359_999_996_400))),
            ("20M", Some(Duration::from_secs(1_200))),
            ("500m", Some(Duration::from_millis(500))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("-5S", None),
            ("+5S", None),
            ("5s", None),
            ("5é", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
