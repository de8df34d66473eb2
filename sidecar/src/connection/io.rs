//! The socket as the HTTP engine reads and writes it; tells its connection when bytes come and when they cannot go.
//!
//! Cost: per read and write; one system call, no copy, no buffer of its own.
//! The only `unsafe` of this crate: the engine hands over memory that nobody has written yet, and clearing it before every
//! read would cost more than the read of a small request.

use crate::socket::Socket;
use bytes::{Buf, Bytes};
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
    /// Everything written so far is with the system.
    fn flushed(&self) {}
    /// What to send in place of bytes that the engine made up itself.
    fn instead(&self, _of: &[u8]) -> Option<Bytes> {
        None
    }
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
    /// What goes out in place of the engine's own words, with how much of those it is to be told as written.
    instead: Option<Bytes>,
    watch: W,
}

impl<W: Watch> Io<W> {
    /// A socket from which `first` was read already.
    pub fn new(stream: impl Into<Socket>, first: Bytes, watch: W) -> Self {
        Self { stream: stream.into(), first, instead: None, watch }
    }

    /// The socket back, with what was read but not yet given to the engine.
    pub fn into_parts(self) -> (Socket, Bytes) {
        (self.stream, self.first)
    }
}

/// Sends what stands in place of the engine's words; `Ready` once all of it went.
fn send_instead(stream: &mut Socket, instead: &mut Option<Bytes>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while let Some(rest) = instead {
        let sent = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
        rest.advance(sent);
        if rest.is_empty() || sent == 0 {
            *instead = None;
        }
    }
    Poll::Ready(Ok(()))
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
        let Self { stream, instead, watch, .. } = self.get_mut();
        if instead.is_none() {
            *instead = watch.instead(buf);
        }
        let sent = match instead {
            Some(_) => send_instead(stream, instead, cx).map_ok(|()| buf.len()),
            None => Pin::new(stream).poll_write(cx, buf),
        };
        watch.went(sent.is_ready());
        sent
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, watch, .. } = self.get_mut();
        ready!(Pin::new(stream).poll_flush(cx))?;
        watch.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
