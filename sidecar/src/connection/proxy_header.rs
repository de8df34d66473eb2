//! PROXY header (proxy-protocol.txt of HAProxy, versions 1 and 2): a balancer in front of us names the client of a connection
//! before the client's first byte.
//!
//! Cost: per connection; a lookup of its listener. Where that asks for a header, three system calls more when it comes at once.
//! The header is looked at where the system has it, and taken from there to its last byte: what follows is read by TLS or HTTP
//! as if there had been none. A header of anybody but a trusted hop ends the connection: its sender could be whoever it likes.

mod parse;

pub use parse::{Found, HEADER_BYTES_MAX, Header, Malformed, parse};

use super::{Downstream, accept};
use crate::telemetry::log::Value;
use crate::worker::Worker;
use bulkhead_config::snapshot::ProxyProtocol;
use rustix::net::{RecvFlags, recv};
use std::io;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Why a connection ended before its first byte was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The peer is no trusted hop.
    #[error("a PROXY header of somebody who is no trusted hop, or a connection of theirs where only hops may come in")]
    UntrustedPeer,
    /// The listener requires one.
    #[error("the PROXY header that the listener requires is missing")]
    Missing,
    /// It cannot be read.
    #[error("the PROXY header is refused: {0}")]
    Malformed(#[from] Malformed),
    /// Nothing more comes.
    #[error("the connection ended within its PROXY header")]
    CutShort,
    /// The time for a head was up.
    #[error("the PROXY header was not there in time")]
    Late,
    /// The client that it names holds too much already.
    #[error("the client that the PROXY header names holds as many connections, or unfinished heads, as it may")]
    TooMany,
}

impl Refused {
    /// Every reason, as metrics show it.
    pub const LABELS: [&str; 6] = ["untrusted_peer", "missing", "malformed", "cut_short", "late", "too_many"];

    /// The reason, as metrics show it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Refused::UntrustedPeer => "untrusted_peer",
            Refused::Missing => "missing",
            Refused::Malformed(_) => "malformed",
            Refused::CutShort => "cut_short",
            Refused::Late => "late",
            Refused::TooMany => "too_many",
        }
    }

    fn fix(self) -> &'static str {
        match self {
            Refused::UntrustedPeer => {
                "if the peer is a balancer of yours, name its network in `trusted_hops` of a platform-wide SecurityPolicy"
            }
            Refused::Missing => "have the balancer send one, or write `proxy_protocol: optional` at the listener",
            Refused::Malformed(_) => "have the balancer send version 1 or 2 for TCP over IPv4 or IPv6",
            Refused::CutShort | Refused::Late => "see whether the balancer reaches this listener without loss",
            Refused::TooMany => "see what this client does; the limits are per client address",
        }
    }
}

impl From<accept::TooMany> for Refused {
    fn from(_: accept::TooMany) -> Self {
        Refused::TooMany
    }
}

/// Takes the header off a connection whose listener asks for one; from then on the connection is that of the client it names.
///
/// # Errors
/// The connection has to end; counted and told already.
pub(super) async fn take(worker: &Worker, from: &Downstream, stream: &TcpStream) -> Result<(), Refused> {
    let asked = {
        let policy = worker.policy();
        let listener = policy.snapshot.platform().listener(&from.entrance.service, &from.entrance.listener);
        listener.map(|listener| listener.proxy_protocol).unwrap_or_default()
    };
    let taken = match asked {
        ProxyProtocol::Off => return Ok(()),
        // Nothing that an untrusted peer sends here can make its connection one that is served.
        ProxyProtocol::Required if !is_hop(worker, from) => Err(Refused::UntrustedPeer),
        ProxyProtocol::Required | ProxyProtocol::Optional => from.in_time(read(stream)).await.unwrap_or(Err(Refused::Late)),
    };
    let named = taken.and_then(|first| match first {
        First::Header(_) if !is_hop(worker, from) => Err(Refused::UntrustedPeer),
        First::Header(header) => name(worker, from, header),
        First::Other if asked == ProxyProtocol::Required => Err(Refused::Missing),
        First::Other | First::End => Ok(()),
    });
    named.inspect_err(|refused| tell(worker, from, *refused))
}

/// Whether what the peer says of clients is believed.
fn is_hop(worker: &Worker, from: &Downstream) -> bool {
    worker.policy().snapshot.platform().is_trusted_hop(from.peer().ip())
}

fn name(worker: &Worker, from: &Downstream, header: Header) -> Result<(), Refused> {
    let Some(client) = header.client else { return Ok(()) };
    // A balancer behind a balancer names that one; it is no single client either.
    let is_hop = worker.policy().snapshot.platform().is_trusted_hop(client.ip().to_canonical());
    Ok(from.named(client, is_hop)?)
}

/// What a connection began with.
enum First {
    /// A header, which was taken.
    Header(Header),
    /// Something else, which is still to be read.
    Other,
    /// Nothing: health checks come and go without a word.
    End,
}

async fn read(stream: &TcpStream) -> Result<First, Refused> {
    let mut seen = 0;
    loop {
        let ready = stream.ready(Interest::READABLE).await.map_err(|_| Refused::CutShort)?;
        // Asked before the look: what is there when the end is known is all there will be.
        let is_end = ready.is_read_closed();
        let mut start = [0; HEADER_BYTES_MAX];
        let length = match stream.try_io(Interest::READABLE, || look(stream, &mut start, seen, is_end)) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(Refused::CutShort),
        };
        match parse(start.get(..length).unwrap_or_default())? {
            Found::Nothing => return Ok(First::Other),
            Found::Header(header) => return discard(stream, header.bytes).map(|()| First::Header(header)),
            Found::Part if length == 0 => return Ok(First::End),
            Found::Part if is_end => return Err(Refused::CutShort),
            Found::Part => seen = length,
        }
    }
}

/// Looks at what has come, and takes nothing. Nothing new is told as a socket with nothing to read: then the runtime waits for
/// more to come instead of asking again at once.
fn look(stream: &TcpStream, start: &mut [u8], seen: usize, is_end: bool) -> io::Result<usize> {
    let (length, _) = recv(stream, start, RecvFlags::PEEK)?;
    if length == seen && length > 0 && !is_end { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
}

/// Takes what was looked at, to the last byte of the header: it is all with the system.
fn discard(stream: &TcpStream, bytes: usize) -> Result<(), Refused> {
    let mut header = [0; HEADER_BYTES_MAX];
    let taken = stream.try_read(header.get_mut(..bytes).unwrap_or_default());
    if taken.is_ok_and(|taken| taken == bytes) { Ok(()) } else { Err(Refused::CutShort) }
}

fn tell(worker: &Worker, from: &Downstream, refused: Refused) {
    worker.cells().proxy_header_refused(refused.label());
    let Some(others) = worker.refused_headers().is_due(worker.wheel().turn()) else { return };
    let more = [
        ("peer", Value::Shown(&from.peer())),
        ("service", from.entrance.service.as_str().into()),
        ("listener", from.entrance.listener.as_str().into()),
        ("fix", refused.fix().into()),
        ("others_since_the_last_line", others.into()),
    ];
    worker.log().warn("core.sidecar", None, refused, &more);
}
