//! Protocol: which one a client speaks, told by its first bytes.
//!
//! Cost: per connection; one system call, whose bytes the engine is given as if it had read them itself.
//! HTTP/2 begins with a preface that no HTTP/1 request can be (RFC 9113 section 3.4); one byte that differs settles it.

use crate::socket::Socket;
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Enough for most heads, so that the engine need not read again.
const FIRST_READ: usize = 4 << 10;

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
pub async fn detect(socket: &mut Socket) -> io::Result<(Protocol, Bytes)> {
    let mut read = Vec::new();
    loop {
        poll_fn(|cx| poll_some(socket, &mut read, cx)).await?;
        if let Some(protocol) = protocol_of(&read) {
            return Ok((protocol, Bytes::from(read)));
        }
    }
}

/// The buffer lives for the length of the call: a connection that has not spoken yet holds none.
fn poll_some(socket: &mut Socket, read: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    ready!(socket.poll_readable(cx))?;
    let mut buffer = [0; FIRST_READ];
    let mut buffer = ReadBuf::new(&mut buffer);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    read.extend_from_slice(buffer.filled());
    if buffer.filled().is_empty() { Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())) } else { Poll::Ready(Ok(())) }
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
