//! gRPC: which requests are, and how long their client waits.
//!
//! Cost: per request; one look at `content-type`.
//! gRPC is HTTP/2 with messages in the body and its outcome in the trailers, so what a proxy says to its clients must be said that
//! way too: see `problem`.

use crate::fields::{Fields, Name, visible};
use crate::problem::Code;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// How long the client waits.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits that the number of a timeout may have.
const TIMEOUT_DIGITS_MAX: usize = 8;
const GRPC: &[u8] = b"application/grpc";

/// Whether a message with these fields is gRPC: `application/grpc`, alone or with a message format or parameters. gRPC-Web has
/// another name, speaks HTTP/1.1 too and tells its outcome in the body.
#[must_use]
pub fn is_grpc(headers: &Fields) -> bool {
    let Some(value) = headers.get(Name::ContentType) else { return false };
    // Media types have no case (RFC 9110 section 8.3.1).
    let Some((kind, rest)) = value.split_at_checked(GRPC.len()) else { return false };
    kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The time its client gives a call, if it is one and has one.
#[must_use]
pub fn timeout(headers: &Fields) -> Option<Duration> {
    if !is_grpc(headers) {
        return None;
    }
    duration(visible(headers.get_named(&TIMEOUT).next()?)?)
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

/// Trailers that say why a call broke off after its answer had begun.
#[must_use]
pub fn trailers(code: Code, told: &'static str) -> HeaderMap {
    crate::problem::grpc_outcome(code, told).into_iter().collect::<HeaderMap<HeaderValue>>()
}

#[cfg(test)]
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
