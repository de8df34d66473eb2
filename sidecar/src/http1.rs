//! HTTP/1.1, ours, on both sides: what is read, what is written, where a body ends. It knows bytes and no time.
//!
//! Cost: per request; its bytes looked at once, appended to a buffer that is used again, its fields noted in a list that is used
//! again.
//! Ours, because a sidecar that keeps tenants apart must see the bytes that decide where a message ends; and because engines of
//! others cost more than half of a plain request: they hand every message through channels, read into buffers of their own, and
//! take fields away that are needed once more if the request must be sent again.
//! What two readers of a message could take for two things is an error, never a guess (RFC 9112 section 6.3): the next message on
//! the same connection would be somebody else's.

pub mod lane;
pub mod request;
pub mod section;
pub mod scan;
pub mod write;
pub mod answer;
pub mod chunks;

/// Why bytes of an upstream are no answer. The message completes "the answer …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its status line or a field.
    #[error("has a head that cannot be read: {0}")]
    Head(httparse::Error),
    /// A line that ends in LF alone, or something between two fields.
    #[error("has a head with a line that does not end in CRLF")]
    LineEnd,
    /// Its size.
    #[error("has a head of more than {} bytes", answer::HEAD_BYTES_MAX)]
    HeadTooLarge,
    /// A flood before the answer.
    #[error("comes after more than {} informational ones", answer::INFORMATIONAL_MAX)]
    TooManyInformational,
    /// A status that does not exist.
    #[error("has a status outside 100 to 999")]
    Status,
    /// No number, or several that differ.
    #[error("has a Content-Length that is not one number")]
    Length,
    /// Length and encoding, or an encoding in a version that has none.
    #[error("has a Transfer-Encoding beside Content-Length, or in HTTP/1.0")]
    LengthAndEncoding,
    /// Anything but `chunked`.
    #[error("has a Transfer-Encoding other than `chunked`")]
    Encoding,
    /// A chunk.
    #[error("has a body whose chunks cannot be read")]
    Chunk,
    /// Fields behind the last chunk.
    #[error("has trailers that cannot be read")]
    Trailers,
}

/// Digits alone: no sign, no space, no list.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
