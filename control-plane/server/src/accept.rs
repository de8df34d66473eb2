//! Taking connections: each has a place, and nobody is taken while there is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long to wait after a connection that could not be taken.
const AGAIN: Duration = Duration::from_millis(20);

/// The next connection, once there is a place for it, which it holds. Nothing when the places are closed. Cancel-safe.
pub(crate) async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Some((stream, address, place)),
            // Out of descriptors, or the peer is gone already: neither is ours to mend, and the next may be taken.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
