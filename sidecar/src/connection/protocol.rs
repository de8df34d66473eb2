//! Protocol: which one a client speaks, told by its first bytes.
//!
//! Cost: per connection; one system call, whose bytes the engine is given as if it had read them itself. A connection that has
//! not spoken yet holds no buffer.
//! HTTP/2 begins with a preface that no HTTP/1 request can be (RFC 9113 section 3.4); one byte that differs settles it.

use crate::socket::Socket;
use crate::worker::Buffers;
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use tokio::io::AsyncReadExt as _;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Reads until the protocol is certain. The connection's deadline for a head bounds it.
///
/// # Errors
/// The client left, or the socket failed.
pub async fn detect(socket: &mut Socket, buffers: &Buffers) -> io::Result<(Protocol, BytesMut)> {
    poll_fn(|cx| socket.poll_readable(cx)).await?;
    let mut read = buffers.take();
    loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = protocol_of(&read) {
            return Ok((protocol, read));
        }
    }
}

/// Nothing while it can still become either.
fn protocol_of(read: &[u8]) -> Option<Protocol> {
    if read.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    (!PREFACE.starts_with(read)).then_some(Protocol::Http1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_from_the_preface_settles_it() {
        for (read, protocol) in [
            (&b""[..], None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            (b"PO", Some(Protocol::Http1)),
            (b"PRI * HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"GET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"\x16\x03\x01", Some(Protocol::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Some(Protocol::Http2)),
        ] {
            assert_eq!(protocol_of(read), protocol, "{read:?}");
        }
    }
}
