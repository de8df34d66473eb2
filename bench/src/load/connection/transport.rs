//! The bytes under a connection: TCP that does not block, with TLS over it or without.
//!
//! Cost: per read and write; TLS adds its records, TCP nothing.

use super::Lost;
use crate::load::plan::Peer;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A TCP connection from its first SYN.
pub(crate) struct Tcp {
    stream: TcpStream,
    /// It has carried a byte: the other side was there.
    reached: bool,
}

/// TCP or TLS, from its first SYN.
pub(crate) enum Transport {
    Plain(Tcp),
    Tls(Box<StreamOwned<ClientConnection, Tcp>>),
}

impl Transport {
    /// Begins to connect; whether it can is told by the first read or write.
    pub(crate) fn open(peer: &Peer) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(peer.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&peer.address.into()) {
            Err(cause) if cause.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(cause),
            _ => {}
        }
        let tcp = Tcp { stream: socket.into(), reached: false };
        let Some(tls) = &peer.tls else { return Ok(Self::Plain(tcp)) };
        let session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    fn tcp(&self) -> &Tcp {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    /// Goes on with what comes before the first byte of a request: true once that is done.
    pub(crate) fn shake(&mut self) -> io::Result<bool> {
        let Self::Tls(tls) = self else { return Ok(true) };
        while tls.conn.is_handshaking() {
            match tls.conn.complete_io(&mut tls.sock) {
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(cause) => return Err(cause),
            }
        }
        Ok(true)
    }

    /// What both sides agreed to speak over TLS.
    pub(crate) fn agreed(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.conn.alpn_protocol(),
        }
    }

    /// What `cause` makes of requests that wait on this connection.
    pub(crate) fn lost(&self, cause: &io::Error) -> Lost {
        match self {
            _ if !self.tcp().reached => Lost::Connect,
            Self::Tls(tls) if tls.conn.is_handshaking() => Lost::Tls,
            _ if cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Lost::Tls,
            _ if cause.kind() == io::ErrorKind::UnexpectedEof => Lost::Closed,
            _ => Lost::Reset,
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().stream.as_fd()
    }
}

impl Read for Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        self.reached |= read > 0;
        Ok(read)
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.reached = true;
        Ok(written)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.stream.write_vectored(parts)?;
        self.reached = true;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            // A server that ends TCP and not TLS: what it sent ends there all the same, and whether it was whole its framing tells.
            Self::Tls(tls) => match tls.read(into) {
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof && !tls.conn.is_handshaking() => Ok(0),
                read => read,
            },
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write_vectored(parts),
            Self::Tls(tls) => tls.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
