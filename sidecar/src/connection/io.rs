//! The socket as the HTTP engine reads and writes it; tells its connection when bytes come and when they cannot go.
//!
//! Cost: per read and write; one system call, no copy, no buffer of its own.
//! The only `unsafe` of this crate: the engine hands over memory that nobody has written yet, and clearing it before every
//! read would cost more than the read of a small request.

use crate::socket::Socket;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection wants to know of its socket. Every method does nothing unless implemented.
pub trait Watch {
    /// Bytes came in.
    fn came(&self) {}
    /// The peer will send nothing more.
    fn ended(&self) {}
    /// Whether bytes just offered could be handed to the system.
    fn went(&self, _handed_over: bool) {}
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// A socket under an HTTP engine.
#[derive(Debug)]
pub struct Io<W> {
    stream: Socket,
    /// Bytes read before the engine was chosen.
    first: Bytes,
    watch: W,
}

impl<W: Watch> Io<W> {
    /// A socket from which `first` was read already.
    pub fn new(stream: impl Into<Socket>, first: Bytes, watch: W) -> Self {
        Self { stream: stream.into(), first, watch }
    }
}

impl<W: Watch + Unpin> hyper::rt::Read for Io<W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: hyper::rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let Self { stream, first, watch, .. } = self.get_mut();
        if !first.is_empty() {
            let length = first.len().min(buf.remaining());
            buf.put_slice(&first.split_to(length));
            return Poll::Ready(Ok(()));
        }
        #[expect(unsafe_code, reason = "tokio and hyper name uninitialised memory by two types")]
        let read = {
            // SAFETY: the slice goes into a `ReadBuf`, which only writes to it, so nothing initialised becomes uninitialised.
            let mut target = ReadBuf::uninit(unsafe { buf.as_mut() });
            ready!(Pin::new(stream).poll_read(cx, &mut target))?;
            let read = target.filled().len();
            // SAFETY: `filled` of a `ReadBuf` is initialised, and it began at the cursor.
            unsafe { buf.advance(read) };
            read
        };
        if read == 0 {
            watch.ended()
        } else {
            watch.came()
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: Watch + Unpin> hyper::rt::Write for Io<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, watch, .. } = self.get_mut();
        let sent = Pin::new(stream).poll_write(cx, buf);
        watch.went(sent.is_ready());
        sent
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
