//! Accept: sockets out of a listener's queue, and how many one source may hold.
//!
//! Cost: per connection; one system call, a lookup by its network and a lock that next to nobody else takes. Runs on the worker
//! itself when there is only one, else on the control runtime, which hands each socket to the worker with the fewest connections.
//! When the process has no file descriptors left it waits a moment and tries again: the queue stays in the system, and what is
//! open goes on.

use super::Entrance;
use super::limits::{CONNECTIONS_MAX, UNFINISHED_MAX};
use super::network::Network;
use crate::telemetry::log::{Log, Value};
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Pause after the system could not give a socket.
const PAUSE: Duration = Duration::from_millis(100);
/// Sources remembered before those without connections are forgotten.
const SOURCES_KEPT: usize = 1_024;

/// A socket, and what is known of it. Between threads it goes as `std` has it, so that it wakes the thread that serves it.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The socket.
    pub stream: S,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Where it came in.
    pub entrance: Arc<Entrance>,
    /// Its place among those of its source.
    pub presence: Presence,
}

/// A listener to be accepted from.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub listener: std::net::TcpListener,
    /// Which one it is.
    pub entrance: Arc<Entrance>,
    /// Ends it, when dropped; when sent, what is queued is left to the other process that has this socket.
    pub stop: oneshot::Receiver<()>,
    /// Dropped when it has ended.
    pub done: oneshot::Sender<()>,
}

impl Accepted<TcpStream> {
    /// On its way to another thread.
    ///
    /// # Errors
    /// When the socket is lost.
    pub fn leave(self) -> io::Result<Accepted<std::net::TcpStream>> {
        let Accepted { stream, peer, entrance, presence } = self;
        Ok(Accepted { stream: stream.into_std()?, peer, entrance, presence })
    }
}

impl Accepted<std::net::TcpStream> {
    /// Arrived on the thread that serves it.
    ///
    /// # Errors
    /// When the socket is lost.
    pub fn arrive(self) -> io::Result<Accepted<TcpStream>> {
        let Accepted { stream, peer, entrance, presence } = self;
        Ok(Accepted { stream: TcpStream::from_std(stream)?, peer, entrance, presence })
    }
}

/// The source has as many connections, or unfinished heads, as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one source holds as many connections, or unfinished heads, as it may")]
pub struct TooMany;

/// What one source holds; shared by the threads that serve its connections.
#[derive(Debug, Default)]
struct Source {
    connections: AtomicU32,
    unfinished: AtomicU32,
}

impl Source {
    /// Counts one more connection, which owes us a head. To be called under the lock of [`Sources`]: nobody else adds between the
    /// look and the addition.
    fn add(&self) -> Result<(), TooMany> {
        let full = self.connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX || self.unfinished.load(Ordering::Relaxed) >= UNFINISHED_MAX;
        if full {
            return Err(TooMany);
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// One connection among those of its source and of its worker, until dropped.
#[derive(Debug)]
pub struct Presence {
    /// None as long as all that is known of its client is the trusted hop that it came by.
    source: OnceCell<Arc<Source>>,
    /// Where the client is counted that a hop names.
    others: Option<Arc<Sources>>,
    load: Option<Arc<AtomicU32>>,
    is_unfinished: Cell<bool>,
}

impl Presence {
    /// Of a source that it is counted for already.
    fn of(source: Arc<Source>) -> Self {
        Self { source: OnceCell::from(source), others: None, load: None, is_unfinished: Cell::new(true) }
    }

    /// Of a source that nobody else is of.
    #[cfg(any(test, fuzzing))]
    pub fn of_nobody() -> Self {
        Self::of(Arc::default())
    }

    /// Of a trusted hop, behind which there are many clients: what one client may hold is no measure for it.
    fn of_hop(others: &Arc<Sources>) -> Self {
        Self { source: OnceCell::new(), others: Some(Arc::clone(others)), load: None, is_unfinished: Cell::new(true) }
    }

    /// The hop said whose it is. To be called before the first head has ended.
    ///
    /// # Errors
    /// The client has too many of them.
    pub fn named(&self, client: IpAddr) -> Result<(), TooMany> {
        let (None, Some(others)) = (self.source.get(), &self.others) else { return Ok(()) };
        // It was empty, and no other thread has this connection.
        let _ = self.source.set(others.add(client)?);
        Ok(())
    }

    /// Counts it for its worker too.
    pub fn at_worker(&mut self, load: &Arc<AtomicU32>) {
        load.fetch_add(1, Ordering::Relaxed);
        self.load = Some(Arc::clone(load));
    }

    /// Whether it owes us the end of a head. Counts only when that changed, which for most requests it does not.
    ///
    /// # Errors
    /// The source now has too many of them.
    pub fn unfinished(&self, is_unfinished: bool) -> Result<(), TooMany> {
        if self.is_unfinished.replace(is_unfinished) == is_unfinished {
            return Ok(());
        }
        let Some(source) = self.source.get() else { return Ok(()) };
        if !is_unfinished {
            source.unfinished.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let before = source.unfinished.fetch_add(1, Ordering::Relaxed);
        if before >= UNFINISHED_MAX { Err(TooMany) } else { Ok(()) }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(source) = self.source.get() {
            source.connections.fetch_sub(1, Ordering::Relaxed);
            if self.is_unfinished.get() {
                source.unfinished.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The sources of one listener. Its flood must not lock a source out of another listener, so each has its own.
#[derive(Debug, Default)]
struct Sources {
    #[expect(
        clippy::disallowed_types,
        reason = "taken once per connection, for a lookup: by who accepts, and where a PROXY header names a client"
    )]
    known: std::sync::Mutex<HashMap<Network, Arc<Source>, foldhash::fast::RandomState>>,
}

impl Sources {
    fn admit(&self, ip: IpAddr) -> Result<Presence, TooMany> {
        self.add(ip).map(Presence::of)
    }

    fn add(&self, ip: IpAddr) -> Result<Arc<Source>, TooMany> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SOURCES_KEPT && known.len() == known.capacity() {
            known.retain(|_, source| source.connections.load(Ordering::Relaxed) > 0);
        }
        let source = known.entry(Network::of(ip)).or_default();
        source.add()?;
        Ok(Arc::clone(source))
    }
}

/// Accepts until told to stop; then takes what is queued already, unless that is another process's, and closes. What one client
/// may hold is no measure for trusted hops, and the policy that says who they are may change meanwhile.
pub async fn run(listening: Listening, log: &Log, is_hop: impl Fn(IpAddr) -> bool, hand_over: impl Fn(Accepted<TcpStream>)) {
    let Listening { listener, entrance, mut stop, done } = listening;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log.error("core.sidecar", None, "a listener cannot be waited for", &[("cause", Value::Shown(&error))]),
    };
    let acceptor = Acceptor { entrance, sources: Arc::default(), log, is_troubled: Cell::new(false), is_hop, hand_over };
    let is_left = loop {
        let accepted = tokio::select! {
            biased;
            stopped = &mut stop => break stopped.is_ok(),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => acceptor.admit(stream, peer),
            Err(error) if is_lack(&error) => {
                acceptor.tell(&error);
                tokio::time::sleep(PAUSE).await;
            }
            // The client left while it was queued, or the network did (accept(2), "Error handling").
            Err(_) => {}
        }
    };
    if !is_left && let Ok(listener) = listener.into_std() {
        acceptor.empty(&listener);
    }
    drop(done);
}

struct Acceptor<'a, H, F> {
    entrance: Arc<Entrance>,
    sources: Arc<Sources>,
    log: &'a Log,
    is_troubled: Cell<bool>,
    is_hop: H,
    hand_over: F,
}

impl<H: Fn(IpAddr) -> bool, F: Fn(Accepted<TcpStream>)> Acceptor<'_, H, F> {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.is_troubled.set(false);
        let presence = if (self.is_hop)(peer.ip()) { Ok(Presence::of_hop(&self.sources)) } else { self.sources.admit(peer.ip()) };
        // A source over its limit is closed at once: answering would cost what the limit is there to save.
        if let Ok(presence) = presence {
            (self.hand_over)(Accepted { stream, peer, entrance: Arc::clone(&self.entrance), presence });
        }
    }

    /// Takes what the system has queued: those clients were told that they are connected.
    fn empty(&self, listener: &std::net::TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                        self.admit(stream, peer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_lack(&error) => return,
                Err(_) => {}
            }
        }
    }

    /// Once per trouble, not once per try.
    fn tell(&self, error: &io::Error) {
        if !self.is_troubled.replace(true) {
            let more = [
                ("listener", self.entrance.listener.as_str().into()),
                ("cause", Value::Shown(error)),
                ("fix", "raise the limit of open files (ulimit -n, LimitNOFILE)".into()),
            ];
            self.log.error("core.sidecar", None, "no connection can be accepted; trying again", &more);
        }
    }
}

/// The process or the system has no descriptors or memory left.
fn is_lack(error: &io::Error) -> bool {
    let lacking = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOBUFS, rustix::io::Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| lacking.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_source_holds_so_many_unfinished_heads_and_no_more() {
        let sources = Sources::default();
        let held: Vec<Presence> = (0..UNFINISHED_MAX).map(|_| sources.admit(IP).unwrap()).collect();
        assert!(sources.admit(IP).is_err());
        assert!(sources.admit([192, 0, 2, 1].into()).is_ok(), "another source is not concerned");
        held.first().unwrap().unfinished(false).unwrap();
        let next = sources.admit(IP).unwrap();
        assert_eq!(held.first().unwrap().unfinished(true), Err(TooMany), "a kept connection counts as well");
        drop(next);
        drop(held);
        assert!(sources.admit(IP).is_ok());
    }

    #[test]
    fn whoever_has_a_block_of_addresses_is_one_source() {
        let sources = Sources::default();
        let address = |network, host| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let held: Vec<Presence> = (0..512).map(|host| sources.admit(address(1, host)).unwrap()).collect();
        assert!(sources.admit(address(1, 512)).is_err());
        assert!(sources.admit(address(2, 0)).is_ok(), "another network is not concerned");
        drop(held);
    }

    #[test]
    fn a_source_holds_so_many_connections_and_no_more() {
        let sources = Sources::default();
        let held: Vec<Presence> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let presence = sources.admit(IP).unwrap();
                presence.unfinished(false).unwrap();
                presence
            })
            .collect();
        assert!(sources.admit(IP).is_err());
        drop(held);
        assert!(sources.admit(IP).is_ok());
    }

    #[test]
    fn behind_a_trusted_hop_each_client_has_limits_and_the_hop_none() {
        let sources = Arc::new(Sources::default());
        let hops: Vec<Presence> = (0..=CONNECTIONS_MAX).map(|_| Presence::of_hop(&sources)).collect();
        let (ours, others) = hops.split_at(UNFINISHED_MAX as usize);
        for hop in ours {
            hop.named(IP).unwrap();
        }
        let [next, other, ..] = others else { unreachable!("there are more") };
        assert_eq!(next.named(IP), Err(TooMany));
        other.named([192, 0, 2, 1].into()).unwrap();
        assert!(sources.admit(IP).is_err(), "the client is the same wherever it comes from");
        ours.first().unwrap().unfinished(false).unwrap();
        next.named(IP).unwrap();
        drop(hops);
        assert!(sources.admit(IP).is_ok());
    }

    #[test]
    fn sources_without_connections_are_forgotten() {
        let sources = Sources::default();
        for source in 0..100_000_u32 {
            drop(sources.admit(IpAddr::V4(source.into())));
        }
        assert!(sources.known.lock().unwrap().len() < 4 * SOURCES_KEPT);
    }
}
