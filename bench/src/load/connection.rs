//! One HTTP/1.1 connection of the load: writes a request, collects its answer, tells why it cannot.
//!
//! Cost: per request; a write and two reads, no allocation once its buffer has its size.

use super::answer::{self, Answer, Names};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Longest answer, so that one without an end does not take all memory.
const ANSWER_MAX: usize = 64 << 20;
/// Bytes asked for at once.
const READ: usize = 16 << 10;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// Nobody listens there, or the network says so.
    Connect,
    /// The server ended the connection before the answer was whole.
    Closed,
    /// The server, or the network, reset it.
    Reset,
    /// No whole answer in time.
    Timeout,
    /// What came is no HTTP/1.1, or too long.
    Malformed,
    /// Not a request's fate: bytes came that nobody had asked for.
    Unasked,
}

impl Lost {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Unasked => "unasked",
        }
    }
}

/// What a connection says that is not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Nothing,
    /// It is over.
    End,
    /// Bytes that nobody asked for: it is out of step.
    Unasked,
}

/// A connection, from its first SYN.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// What has come of the answer.
    read: Vec<u8>,
    /// Bytes of the request that are under way.
    written: usize,
    connected: bool,
    /// Requests it was given.
    pub(crate) given: u64,
}

impl Connection {
    /// Begins to connect; whether it can is told by the first write.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(cause) if cause.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(cause),
            _ => {}
        }
        Ok(Self { stream: socket.into(), read: Vec::with_capacity(READ), written: 0, connected: false, given: 0 })
    }

    /// Makes room for the next request.
    pub(crate) fn begin(&mut self) {
        self.written = 0;
        self.given += 1;
    }

    /// Writes what is left of `request` and reads what has come. `None`: the rest is yet to come.
    pub(crate) fn advance(&mut self, request: &[u8], to_head: bool, names: Option<&Names>) -> Result<Option<Answer>, Lost> {
        while let Some(rest) = request.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(bytes) => (self.written, self.connected) = (self.written + bytes, true),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) if !self.connected => return Err(Lost::Connect),
                // A server may answer and close before it has read a body: its answer counts.
                Err(_) => break,
            }
        }
        self.collect(to_head, names)
    }

    /// What came while nothing was asked.
    pub(crate) fn idle_says(&mut self) -> Idle {
        match self.stream.read(&mut [0]) {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Idle::Nothing,
            Ok(1..) => Idle::Unasked,
            Ok(0) | Err(_) => Idle::End,
        }
    }

    fn collect(&mut self, to_head: bool, names: Option<&Names>) -> Result<Option<Answer>, Lost> {
        loop {
            let had = self.read.len();
            self.read.resize(had + READ, 0);
            let came = self.stream.read(self.read.get_mut(had..).unwrap_or_default());
            self.read.truncate(had + came.as_ref().copied().unwrap_or(0));
            let closed = match came {
                Ok(bytes) => bytes == 0,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(Lost::Reset),
            };
            let answer = answer::parse(&self.read, to_head, closed, names).map_err(|_| Lost::Malformed)?;
            match answer {
                // More bytes than one answer has: the next would be taken for this one's.
                Some(answer) if answer.bytes < self.read.len() => return Err(Lost::Malformed),
                Some(answer) => {
                    self.read.clear();
                    return Ok(Some(answer));
                }
                None if closed => return Err(Lost::Closed),
                None if self.read.len() > ANSWER_MAX => return Err(Lost::Malformed),
                None => {}
            }
        }
    }
}
