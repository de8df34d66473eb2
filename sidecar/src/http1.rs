//! HTTP/1.1 towards upstreams, ours: what is written, what is read, where a body ends. Pure: it knows bytes, no sockets and no time.
//!
//! Cost: per request; its bytes appended to a buffer that is used again, those of the answer looked at once, its fields put into
//! the map that the request's fields had.
//! An engine of others in this place cost two fifths of the instructions of a plain request: it hands every message through
//! channels to the task that has just given it, reads into buffers of its own, and takes the request's fields away, so that a
//! request had to be copied in case it must be sent again.
//! What two readers of an answer could take for two things is an error, never a guess (RFC 9112 section 6.3): the next answer on
//! the same connection would be somebody else's.

pub mod write;
pub mod answer;
pub mod chunks;

/// Why bytes of an upstream are no answer. The message completes "the answer …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its status line or a field.
    #[error("has a head that cannot be read: {0}")]
    Head(httparse::Error),
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
