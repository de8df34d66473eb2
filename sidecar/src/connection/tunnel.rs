//! Tunnel: bytes both ways after a change of protocols (WebSocket and the like), until one side ends.
//!
//! Cost: per tunnel; two buffers of 8 KiB. What it moved is recorded when it ends.
//! A peer that vanished is noticed by TCP keep-alive; silence is no fault of a tunnel.

use crate::request::record::Record;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

/// Silence after which the system asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The upstream's half of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// Its socket.
    pub upstream: TcpStream,
    /// What it said already.
    pub early: Bytes,
    /// The request that opened it; holds its place among those in flight.
    pub record: Box<Record>,
}

/// Moves bytes until one side ends. `early` is what the client said already.
pub async fn run(mut client: TcpStream, early: Bytes, tunnel: Tunnel) {
    let Tunnel { mut upstream, early: answer, mut record } = tunnel;
    if let Ok((up, down)) = relay(&mut client, &early, &mut upstream, &answer).await {
        record.tunnelled(up, down);
    }
}

async fn relay(client: &mut TcpStream, early: &Bytes, upstream: &mut TcpStream, answer: &Bytes) -> io::Result<(u64, u64)> {
    for stream in [&*client, &*upstream] {
        socket2::SockRef::from(stream).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEP_ALIVE))?;
    }
    upstream.write_all(early).await?;
    client.write_all(answer).await?;
    let (up, down) = copy_bidirectional(client, upstream).await?;
    Ok((up + early.len() as u64, down + answer.len() as u64))
}
