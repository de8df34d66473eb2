//! Connect: one socket to an endpoint, within the upstream's connect timeout, handshake included.
//!
//! Cost: per connection to an upstream, not per request.

use super::fleet::Member;
use super::{Failed, Step, Wire};
use crate::deadline::Deadline;
use crate::socket::Socket;
use crate::tls::{self, NotConnected, Tls};
use crate::worker::Worker;
use bulkhead_config::snapshot::{Scheme, Upstream};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A connection to `member`, for requests that go out as `wire`.
///
/// # Errors
/// The step that failed.
pub(super) async fn connect(
    worker: &Worker,
    upstream: &Upstream,
    member: &Member,
    wire: Wire,
    deadline: &Deadline,
) -> Result<Socket, Failed> {
    let policy = worker.policy();
    let connecting = open(&policy.tls, upstream, member, wire);
    deadline.limit(upstream.connect_timeout, connecting).await.unwrap_or_else(|_| Err(Failed::at(Step::ConnectTimeout)))
}

/// The same, for as long as it takes.
///
/// # Errors
/// The step that failed.
pub(super) async fn open(tls: &Tls, upstream: &Upstream, member: &Member, wire: Wire) -> Result<Socket, Failed> {
    let stream = dial(member).await?;
    match member.endpoint.scheme {
        Scheme::Http => Ok(stream.into()),
        Scheme::Https => {
            let shaken = tls::connect(tls, &upstream.tls, &member.endpoint.host, wire, stream).await;
            shaken.map(Socket::from).map_err(|why| Failed::because(step(&why), why))
        }
    }
}

fn step(why: &NotConnected) -> Step {
    match why {
        NotConnected::Certificate(_) => Step::Certificate,
        NotConnected::Unready | NotConnected::Protocol(_) => Step::Tls,
    }
}

async fn dial(member: &Member) -> Result<TcpStream, Failed> {
    let mut last = Failed::at(Step::Connect);
    for address in &member.addresses {
        let address = SocketAddr::new(*address, member.endpoint.port);
        match open_tcp(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Failed::because(step_of(&error), format!("{address}: {error}")),
        }
    }
    Err(last)
}

async fn open_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A request is written at once; waiting to fill a segment would only delay it.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn step_of(error: &io::Error) -> Step {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Step::Refused,
        io::ErrorKind::TimedOut => Step::ConnectTimeout,
        _ => Step::Connect,
    }
}
