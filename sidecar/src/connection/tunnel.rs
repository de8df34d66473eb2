//! Tunnel: bytes both ways after a change of protocols (WebSocket and the like), until one side ends.
//!
//! Cost: per tunnel; two buffers of 8 KiB. What it moved is recorded when it ends.
//! A peer that vanished is noticed by TCP keep-alive; silence is no fault of a tunnel.

use crate::request::record::Record;
use crate::socket::Socket;
use bytes::Bytes;
use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::timeout;

/// Silence after which the system asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// After one side has said all, the other may go on for so long.
const HALF_OPEN: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 8 << 10;

/// The upstream's half of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// Its socket.
    pub upstream: Socket,
    /// What it said already.
    pub early: Bytes,
    /// The request that opened it; holds its place among those in flight.
    pub record: Box<Record>,
}

/// Moves bytes until both sides have ended. `early` is what the client said already.
pub async fn run(client: Socket, early: Bytes, tunnel: Tunnel) {
    let Tunnel { upstream, early: answer, mut record } = tunnel;
    for stream in [&client, &upstream] {
        // Without it a vanished peer is noticed later.
        let _ = socket2::SockRef::from(stream.tcp()).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEP_ALIVE));
    }
    let (up, down) = (Cell::new(0), Cell::new(0));
    {
        let (from_client, to_client) = tokio::io::split(client);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        let mut upward = pin!(relay(&early, from_client, to_upstream, &up));
        let mut downward = pin!(relay(&answer, from_upstream, to_client, &down));
        // Whoever has said all may still listen, but not for ever to somebody who says nothing.
        tokio::select! {
            ended = &mut upward => if ended.is_ok() { drop(timeout(HALF_OPEN, downward).await) },
            ended = &mut downward => if ended.is_ok() { drop(timeout(HALF_OPEN, upward).await) },
        }
    }
    record.tunnelled(up.get(), down.get());
}

/// Moves `first` and then what comes, until its end, which is passed on.
async fn relay(first: &[u8], mut from: ReadHalf<Socket>, mut to: WriteHalf<Socket>, count: &Cell<u64>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    to.write_all(first).await?;
    count.set(first.len() as u64);
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
        count.set(count.get() + length as u64);
    }
}
