//! WebSocket: what its handshake has in HTTP/1.1 (RFC 6455) and HTTP/2 does without (RFC 8441): a key, and the proof that it was read.
//!
//! Cost: per WebSocket where one side speaks HTTP/2; one digest of 60 bytes.
//! Absent on purpose: a look at the key. It keeps caches from being taken for servers, and to whom it means nothing we need not say so.

use crate::fields::Fields;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_KEY;

/// Its name, as `Upgrade` and `:protocol` have it.
pub const PROTOCOL: &str = "websocket";
/// What a server appends to the key before it digests it (RFC 6455 section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request that asks to upgrade to `protocol` opens a WebSocket: with one key, which HTTP/1.1 cannot do without.
#[must_use]
pub fn is_opened_by(fields: &Fields, protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(PROTOCOL.as_bytes()) && fields.get_named(&SEC_WEBSOCKET_KEY).count() == 1
}

/// What a server accepts a key with, as `Sec-WebSocket-Accept`.
#[must_use]
pub fn acceptance(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat()))
}

/// What accepts the request of these fields, if it has a key.
#[must_use]
pub fn accept(fields: &Fields) -> Option<HeaderValue> {
    let key = fields.get_named(&SEC_WEBSOCKET_KEY).next()?;
    HeaderValue::from_str(&acceptance(key)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_the_rfc_shows() {
        assert_eq!(acceptance(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
