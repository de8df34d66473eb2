//! One connection of the load, whatever it speaks: takes requests into its slots and tells how each of them ended.

mod head;
mod http1;
mod http2;
mod transport;

use super::answer::Answer;
use super::plan::{Protocol, Request};
use http1::Http1;
use http2::Http2;
use std::rc::Rc;
pub(crate) use transport::Transport;

/// Longest answer, so that one without an end does not take all memory.
const ANSWER_MAX: usize = 64 << 20;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Lost {
    #[error("nobody listens there, or the network says so")]
    Connect,
    #[error("no TLS with this server, or none that is trusted")]
    Tls,
    #[error("the server ended the connection before the answer was whole")]
    Closed,
    #[error("the server, or the network, reset it")]
    Reset,
    #[error("no whole answer in time")]
    Timeout,
    #[error("what came is not of the protocol, or too long")]
    Malformed,
    /// HTTP/2 alone: the server says that it has not begun with it (RFC 9113 §8.7), so that it may be asked again.
    #[error("the server did not take it, twice")]
    Refused,
    /// Not a request's fate.
    #[error("bytes came that nobody had asked for")]
    Unasked,
}

impl Lost {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Unasked => "unasked",
        }
    }
}

/// What a connection is good for, now that it has told what it had to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// More requests.
    Stays,
    /// Those it has, and no others.
    Retires,
    /// Nothing: it is over.
    Over,
    /// Nothing: bytes came that nobody asked for, whoever asks next would take them for its answer.
    Unasked,
}

/// How requests of a connection ended, by slot.
pub(crate) type Ended = Vec<(usize, Result<Answer, Lost>)>;

/// A connection, connected or not yet.
pub(crate) enum Connection {
    Http1(Http1),
    Http2(Box<Http2>),
}

impl Connection {
    pub(crate) fn over(transport: Transport, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(Http1::over(transport)),
            Protocol::Http2 { streams } => Self::Http2(Box::new(Http2::over(transport, streams))),
        }
    }

    /// Gives it the next request of `slot`, which has none; `advance` sends it.
    pub(crate) fn ask(&mut self, slot: usize, request: Rc<Request>) {
        match self {
            Self::Http1(connection) => connection.ask(request),
            Self::Http2(connection) => connection.ask(slot, request),
        }
    }

    /// Takes `slot` its request, whose time is over; `advance` tells the server.
    pub(crate) fn forget(&mut self, slot: usize) {
        match self {
            Self::Http1(connection) => connection.forget(),
            Self::Http2(connection) => connection.forget(slot),
        }
    }

    /// Sends and receives what can be now. `ends`: the system says that the other side has ended it.
    pub(crate) fn advance(&mut self, ends: bool, ended: &mut Ended) -> After {
        match self {
            Self::Http1(connection) => connection.advance(ends, ended),
            // It reads until that end itself.
            Self::Http2(connection) => connection.advance(ended),
        }
    }
}
