//! A problem as gRPC tells it: status 200, and the outcome in `grpc-status` and `grpc-message`. An answer of nothing but a head is
//! "trailers only"; any other status, or a body, would reach the caller as `UNKNOWN` with none of our words.

use super::{Code, Problem};
use http::{HeaderName, HeaderValue, StatusCode};
use std::fmt::Write as _;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What is wrong and how to fix it, as a caller's error message shows it.
pub(super) fn of(problem: &Problem) -> [(HeaderName, HeaderValue); 2] {
    outcome(problem.code, &format!("{} {} ({})", problem.what(), problem.remedy(), problem.code.kind().slug))
}

/// The outcome of a call that ends with this code.
pub(super) fn outcome(code: Code, message: &str) -> [(HeaderName, HeaderValue); 2] {
    let message = HeaderValue::try_from(encoded(message)).unwrap_or(HeaderValue::from_static(""));
    [(STATUS, HeaderValue::from(status(code))), (MESSAGE, message)]
}

/// The status code of gRPC: as its clients read the HTTP status of a proxy that does not speak it (http-grpc-status-mapping), and
/// for what that knows nothing of, the nearest meaning.
fn status(code: Code) -> u16 {
    match (code, code.kind().status) {
        (Code::DeadlineExceeded, _) => 4,
        (_, StatusCode::UNAUTHORIZED) => 16,
        (_, StatusCode::FORBIDDEN) => 7,
        (_, StatusCode::NOT_FOUND) => 12,
        (_, StatusCode::REQUEST_TIMEOUT) => 4,
        (_, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS) => 8,
        (_, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => 14,
        _ => 13,
    }
}

/// A message as the header holds it: bytes other than space to `~`, and `%`, percent-encoded.
fn encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_the_status_its_callers_expect() {
        for (code, expected) in [
            (Code::AmbiguousRequest, 13),
            (Code::InvalidToken, 16),
            (Code::NotPermitted, 7),
            (Code::NoRoute, 12),
            (Code::QuotaExceeded, 8),
            (Code::BodyTooLarge, 8),
            (Code::MessageTooLarge, 8),
            (Code::KeysUnavailable, 14),
            (Code::UpstreamUnreachable, 14),
            (Code::UpstreamTimeout, 14),
            (Code::DeadlineExceeded, 4),
        ] {
            assert_eq!(status(code), expected, "{code:?}");
        }
        for code in Code::ALL {
            assert!((1..=16).contains(&status(*code)), "{code:?}");
        }
    }

    #[test]
    fn a_message_cannot_leave_its_header() {
        assert_eq!(encoded("50% of `é`\r\nx: y"), "50%25 of `%C3%A9`%0D%0Ax: y");
    }
}
