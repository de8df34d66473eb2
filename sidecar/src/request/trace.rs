//! Trace: W3C Trace Context. A trace that comes in goes on under a span of ours; where none comes, one begins.
//!
//! Cost: per request; 55 bytes composed, no allocation.

use crate::fields::{Fields, Name};
use crate::worker::Random;

const LENGTH: usize = 55;

/// `traceparent` as it goes on: version, trace id, our span id, flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    text: [u8; LENGTH],
}

/// Whether a trace came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It goes on.
    Continued,
    /// It begins here; a `tracestate` without it means nothing.
    Begun,
}

impl Trace {
    /// The trace of a request.
    #[must_use]
    pub fn of(headers: &Fields, random: &Random) -> (Self, Came) {
        let mut fields = headers.get_all(Name::Traceparent);
        let came = match (fields.next(), fields.next()) {
            (Some(one), None) => parse(one),
            _ => None,
        };
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let begun = came.is_none();
        match came {
            Some((id, flags)) => {
                write(&mut text, 3, id);
                write(&mut text, 53, flags);
            }
            None => write_hex(&mut text, 3, &random.trace().to_be_bytes()),
        }
        write_hex(&mut text, 36, &random.span().to_be_bytes());
        (Self { text }, if begun { Came::Begun } else { Came::Continued })
    }

    /// The trace's id: digits of base 16.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.text.get(3..35).unwrap_or_default()
    }

    /// The field's value: digits and dashes.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.text
    }
}

/// Trace id and flags of a valid field. A later version may be longer and is read as far as version 00 goes (section 4.3).
fn parse(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, rest) = field.split_at_checked(2)?;
    let future = version != b"00";
    let fits = if future { field.len() == LENGTH || field.get(LENGTH) == Some(&b'-') } else { field.len() == LENGTH };
    let (id, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
    let (span, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
    let flags = rest.strip_prefix(b"-")?.get(..2)?;
    let is_hex = |text: &[u8]| text.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let is_zero = |text: &[u8]| text.iter().all(|&b| b == b'0');
    let good = fits && version != b"ff" && [version, id, span, flags].into_iter().all(is_hex) && !is_zero(id) && !is_zero(span);
    good.then_some((id, flags))
}

fn write(text: &mut [u8; LENGTH], at: usize, bytes: &[u8]) {
    for (place, byte) in text.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

fn write_hex(text: &mut [u8; LENGTH], at: usize, bytes: &[u8]) {
    let (_, digits) = text.split_at_mut(at);
    crate::telemetry::json::write_hex(digits, bytes);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> (Trace, Came) {
        let mut headers = http::HeaderMap::new();
        for field in fields {
            headers.append("traceparent", field.parse().unwrap());
        }
        Trace::of(&Fields::from(&headers), &Random::new().unwrap())
    }

    #[test]
    fn a_trace_that_comes_in_goes_on_under_a_span_of_ours() {
        let came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, whence) = of(&[came]);
        let text = std::str::from_utf8(trace.value()).unwrap().to_owned();
        assert_eq!((whence, trace.id()), (Came::Continued, &b"4bf92f3577b34da6a3ce929d0e0e4736"[..]));
        assert!(text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && text.ends_with("-01"), "{text}");
        assert!(!text.contains("00f067aa0ba902b7"), "{text}");
        assert!(parse(text.as_bytes()).is_some());
        assert_eq!(of(&["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later"]).1, Came::Continued);
    }

    #[test]
    fn what_is_no_trace_begins_one() {
        for fields in [
            &[][..],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736"],
            &["x"],
        ] {
            let (trace, whence) = of(fields);
            assert_eq!(whence, Came::Begun, "{fields:?}");
            assert_ne!(trace.id(), of(fields).0.id(), "every trace has an id of its own");
            assert!(parse(trace.value()).is_some());
        }
    }
}
