//! Socket: bytes to and from one peer, whatever carries them.
//!
//! Cost: per read and write; one match and the system call. Over TLS a write becomes records at once and all of them go out with one
//! system call; what the system does not take waits in the session and goes with the next write, flush or read.
//! A connection over TLS that ends without a farewell ends with an error, so that whoever cuts it cannot make a body look whole
//! (RFC 8446 section 6.1). Shutting down says farewell; dropping does not.

use hyper::upgrade::Upgraded;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection to a client or to an upstream.
#[derive(Debug)]
pub enum Socket {
    /// As it is.
    Plain(TcpStream),
    /// Over TLS, by either side. Boxed: a session is a kilobyte.
    Tls(Box<TlsStream<TcpStream>>),
    /// One stream of an HTTP/2 connection, which is a tunnel (RFC 8441).
    Stream(Box<Upgraded>),
}

impl Socket {
    /// The connection underneath, if that is its own.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Socket::Plain(stream) => Some(stream),
            Socket::Tls(stream) => Some(stream.get_ref().0),
            Socket::Stream(_) => None,
        }
    }

    /// The protocol agreed on in the handshake (RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Socket::Plain(_) | Socket::Stream(_) => None,
            Socket::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// The certificate that the peer showed and that was verified, in DER.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Socket::Plain(_) | Socket::Stream(_) => None,
            Socket::Tls(stream) => stream.get_ref().1.peer_certificates()?.first().map(|leaf| &**leaf),
        }
    }

    /// Waits until a read would find something, so that nobody holds a buffer while a peer is silent. A stream cannot tell: the read
    /// itself waits.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(stream) => stream.poll_read_ready(cx),
            Socket::Tls(stream) => {
                let (tcp, session) = stream.get_ref();
                // It wants nothing while there is something to take out of it, or its peer has said farewell.
                if !session.wants_read() {
                    return Poll::Ready(Ok(()));
                }
                // Nobody else may wait for the room that is needed to go on, so a read is due then, too.
                if session.wants_write() && tcp.poll_write_ready(cx)?.is_ready() {
                    return Poll::Ready(Ok(()));
                }
                tcp.poll_read_ready(cx)
            }
            Socket::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the peer has said nothing, nor left, since the last read. Bytes that it did say are lost by asking.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        // The system is asked only where something may be there.
        let is_silent = |tcp: &TcpStream| matches!(tcp.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        match self {
            Socket::Plain(tcp) => is_silent(tcp),
            Socket::Tls(stream) => {
                let (tcp, session) = stream.get_ref();
                // It wants nothing while there is something to take out of it.
                session.wants_read() && is_silent(tcp)
            }
            Socket::Stream(_) => false,
        }
    }
}

/// Hands over what the system did not take when it was written.
fn send_rest(stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>) -> io::Result<()> {
    if stream.get_ref().1.wants_write() {
        // Still no room is no reason not to read.
        let _ = Pin::new(stream).poll_flush(cx)?;
    }
    Ok(())
}

impl From<tokio_rustls::server::TlsStream<TcpStream>> for Socket {
    fn from(stream: tokio_rustls::server::TlsStream<TcpStream>) -> Self {
        Socket::Tls(Box::new(stream.into()))
    }
}

impl From<tokio_rustls::client::TlsStream<TcpStream>> for Socket {
    fn from(stream: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        Socket::Tls(Box::new(stream.into()))
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Socket::Plain(stream)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => {
                send_rest(stream, cx)?;
                Pin::new(stream).poll_read(cx, buf)
            }
            Socket::Stream(stream) => {
                let mut read = hyper::rt::ReadBuf::new(buf.initialize_unfilled());
                ready!(hyper::rt::Read::poll_read(Pin::new(stream), cx, read.unfilled()))?;
                let length = read.filled().len();
                buf.advance(length);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Stream(stream) => hyper::rt::Write::poll_write(Pin::new(stream), cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Stream(stream) => hyper::rt::Write::poll_write_vectored(Pin::new(stream), cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
            Socket::Stream(stream) => hyper::rt::Write::is_write_vectored(&**stream),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Stream(stream) => hyper::rt::Write::poll_flush(Pin::new(stream), cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Stream(stream) => hyper::rt::Write::poll_shutdown(Pin::new(stream), cx),
        }
    }
}
