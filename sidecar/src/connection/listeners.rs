//! Listeners: the sockets that the policy declares, opened and closed as it changes, without touching the others.
//!
//! Cost: none per request; runs on the control runtime.
//! Bound plainly: a second process is told that the address is taken, instead of getting half of the connections.

use super::Entrance;
use super::accept::{self, Accepted, Listening};
use crate::policy::Live;
use crate::telemetry::log::{Log, Value};
use crate::worker::{Mail, Mailbox};
use bulkhead_config::snapshot::{ListenerTls, Platform};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Connections the system queues while nobody accepts.
const BACKLOG: i32 = 4_096;

/// A worker as connections are given to it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its letters.
    pub mailbox: Mailbox,
    /// Its open connections.
    pub load: Arc<AtomicU32>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "listener `{}` of service `{}` cannot listen on {address}; {}",
    entrance.listener, entrance.service, remedy(cause)
)]
pub struct ListenError {
    /// Which listener.
    pub entrance: Arc<Entrance>,
    /// Its address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// What to do about an address that cannot be had.
pub(crate) fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that one, or choose another address (port 0: any free one)",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has it: choose one that `ip address` shows, or 0.0.0.0",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher port",
        _ => "choose another address",
    }
}

/// A listener, as status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which one.
    pub entrance: Arc<Entrance>,
    /// The declared address.
    pub declared: SocketAddr,
    /// The address it listens on, or why it does not.
    pub listens: Result<SocketAddr, String>,
}

/// A socket that listens already, and nobody accepts from.
#[derive(Debug)]
pub struct AtHand {
    /// Which listener it is for; it may serve another one at its address.
    pub entrance: Arc<Entrance>,
    /// The address that was declared for it.
    pub declared: SocketAddr,
    /// The socket.
    pub listener: TcpListener,
}

/// What becomes of connections that are queued when a listener ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queued {
    /// They are served.
    Served,
    /// They are the other process's that has the socket too.
    Left,
}

#[derive(Debug)]
struct Open {
    declared: SocketAddr,
    tls: Option<ListenerTls>,
    address: SocketAddr,
    /// The same socket once more, for a process that takes over.
    socket: TcpListener,
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

/// The open listeners of this process.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<Place>,
    live: Arc<Live>,
    /// Addresses that stand in place of declared ones.
    instead: Vec<(Entrance, SocketAddr)>,
    at_hand: Vec<AtHand>,
    open: BTreeMap<Arc<Entrance>, Open>,
    failed: BTreeMap<Arc<Entrance>, (SocketAddr, String)>,
    log: Log,
}

impl Listeners {
    /// None open.
    #[must_use]
    pub fn new(workers: Vec<Place>, live: Arc<Live>, instead: Vec<(Entrance, SocketAddr)>, at_hand: Vec<AtHand>, log: Log) -> Self {
        Self { workers, live, instead, at_hand, open: BTreeMap::new(), failed: BTreeMap::new(), log }
    }

    /// Binds what is declared and not at hand, so that [`Listeners::follow`] has nothing left to fail at. Nothing is accepted yet.
    ///
    /// # Errors
    /// The first listener that cannot be had.
    pub fn prepare(&mut self, platform: &Platform) -> Result<(), ListenError> {
        for (entrance, declared) in self.declared(platform) {
            let bound = self.take_at_hand(&entrance, declared).map_or_else(|| bind(declared), Ok);
            match bound {
                Ok(listener) => self.at_hand.push(AtHand { entrance, declared, listener }),
                Err(cause) => return Err(ListenError { entrance, address: declared, cause }),
            }
        }
        Ok(())
    }

    /// Opens what is declared and not open, closes what is open and no longer declared. What cannot be opened is tried again
    /// with the next call; until then the listener stays where it was.
    ///
    /// # Errors
    /// Each listener that cannot be opened, for the first time with this cause.
    pub async fn follow(&mut self, platform: &Platform) -> Vec<ListenError> {
        let declared = self.declared(platform);
        for entrance in self.in_the_way(&declared) {
            self.close(&entrance).await;
        }
        self.failed.retain(|entrance, (address, _)| declared.get(entrance) == Some(address));
        let mut errors = Vec::new();
        for (entrance, address) in declared {
            if self.is_open(&entrance, address) {
                continue;
            }
            match self.listen(&entrance, address, tls(platform, &entrance)).await {
                Ok(()) => drop(self.failed.remove(&entrance)),
                Err(cause) => {
                    let why = cause.to_string();
                    let is_new = self.failed.insert(Arc::clone(&entrance), (address, why.clone())).is_none_or(|(_, before)| before != why);
                    if is_new {
                        errors.push(ListenError { entrance, address, cause });
                    }
                }
            }
        }
        // What nobody declares is closed.
        self.at_hand.clear();
        self.renew(platform).await;
        errors
    }

    /// Lets connections end that began by other demands than are declared now; what comes next meets the new ones.
    async fn renew(&mut self, platform: &Platform) {
        let mut outdated = Vec::new();
        for (entrance, open) in &mut self.open {
            let tls = tls(platform, entrance);
            if open.tls != tls {
                open.tls = tls;
                outdated.push(Arc::clone(entrance));
            }
        }
        for entrance in outdated {
            self.close_connections(&entrance).await;
        }
    }

    fn is_open(&self, entrance: &Entrance, declared: SocketAddr) -> bool {
        self.open.get(entrance).is_some_and(|open| open.declared == declared)
    }

    /// What is declared no more, and what has to be let go before something declared can be had: the same port on other interfaces,
    /// or two listeners that change places. Whatever else moves is closed once its new address is had.
    fn in_the_way(&self, declared: &BTreeMap<Arc<Entrance>, SocketAddr>) -> Vec<Arc<Entrance>> {
        let wanted: Vec<_> = declared.iter().filter(|(entrance, address)| !self.is_open(entrance, **address)).collect();
        let is_in_the_way = |entrance: &Entrance, open: &Open| match declared.get(entrance) {
            None => true,
            Some(address) => *address != open.declared && wanted.iter().any(|(_, wanted)| exclude_each_other(**wanted, open.address)),
        };
        self.open.iter().filter(|(entrance, open)| is_in_the_way(entrance, open)).map(|(entrance, _)| Arc::clone(entrance)).collect()
    }

    /// Whether something declared is not open.
    #[must_use]
    pub fn lacks_some(&self) -> bool {
        !self.failed.is_empty()
    }

    /// All of them, for status.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let open = self.open.iter().map(|(entrance, open)| Shown {
            entrance: Arc::clone(entrance),
            declared: open.declared,
            listens: Ok(open.address),
        });
        let failed = self.failed.iter().map(|(entrance, (declared, why))| Shown {
            entrance: Arc::clone(entrance),
            declared: *declared,
            listens: Err(why.clone()),
        });
        open.chain(failed).collect()
    }

    /// Takes what is queued everywhere, then closes all.
    pub async fn close_all(&mut self) {
        self.end_all(Queued::Served).await;
    }

    /// Accepts nothing more: what is queued is another process's, which has the same sockets.
    pub async fn leave_all(&mut self) {
        self.end_all(Queued::Left).await;
    }

    async fn end_all(&mut self, queued: Queued) {
        let all: Vec<_> = self.open.keys().cloned().collect();
        for entrance in all {
            self.end(&entrance, queued).await;
        }
    }

    /// Every open socket once more, with the address that was declared for it.
    #[must_use]
    pub fn sockets(&self) -> Vec<(Arc<Entrance>, SocketAddr, TcpListener)> {
        let socket = |(entrance, open): (&Arc<Entrance>, &Open)| Some((Arc::clone(entrance), open.declared, open.socket.try_clone().ok()?));
        self.open.iter().filter_map(socket).collect()
    }

    /// The socket that was made for this listener and address, or one that listens there for another.
    fn take_at_hand(&mut self, entrance: &Entrance, declared: SocketAddr) -> Option<TcpListener> {
        let is_own = |at_hand: &AtHand| *at_hand.entrance == *entrance && at_hand.declared == declared;
        let is_there = |at_hand: &AtHand| at_hand.listener.local_addr().is_ok_and(|address| address == declared);
        let at = self.at_hand.iter().position(is_own).or_else(|| self.at_hand.iter().position(is_there))?;
        Some(self.at_hand.swap_remove(at).listener)
    }

    fn declared(&self, platform: &Platform) -> BTreeMap<Arc<Entrance>, SocketAddr> {
        let mut declared = BTreeMap::new();
        for service in platform.services() {
            for listener in &service.listeners {
                let entrance = Entrance { service: service.name.clone(), listener: listener.name.clone() };
                let instead = self.instead.iter().find(|(replaced, _)| *replaced == entrance).map(|(_, address)| *address);
                declared.insert(Arc::new(entrance), instead.unwrap_or(listener.address));
            }
        }
        declared
    }

    async fn listen(&mut self, entrance: &Arc<Entrance>, declared: SocketAddr, tls: Option<ListenerTls>) -> io::Result<()> {
        let listener = self.take_at_hand(entrance, declared).map_or_else(|| bind(declared), Ok)?;
        let (address, socket) = (listener.local_addr()?, listener.try_clone()?);
        self.close(entrance).await;
        let (stop, stopped) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        self.accept(Listening { listener, entrance: Arc::clone(entrance), stop: stopped, done }).await?;
        let more = [("listener", entrance.listener.as_str().into()), ("address", Value::Shown(&address))];
        self.log.info("core.sidecar", None, "a listener is open", &more);
        self.open.insert(Arc::clone(entrance), Open { declared, tls, address, socket, stop, done: is_done });
        Ok(())
    }

    /// One worker accepts itself; of several, each socket goes to the one with the fewest.
    async fn accept(&self, listening: Listening) -> io::Result<()> {
        if let [only] = self.workers.as_slice() {
            let sent = only.mailbox.send(Mail::Listen(listening)).await;
            return sent.map_err(|_| io::Error::other("the worker has ended"));
        }
        let (workers, live, log) = (self.workers.clone(), Arc::clone(&self.live), self.log.clone());
        tokio::task::spawn_local(async move {
            let is_hop = |peer| live.load().snapshot.platform().is_trusted_hop(peer);
            let is_swamped = Cell::new(false);
            let give = |accepted| {
                let is_taken = hand_over(&workers, accepted);
                // Once per trouble, not once per connection.
                if !is_swamped.replace(!is_taken) && !is_taken {
                    log.warn("core.sidecar", None, "the workers take no more connections; new ones are closed", &[]);
                }
            };
            accept::run(listening, &log, is_hop, give).await;
        });
        Ok(())
    }

    async fn close_connections(&self, entrance: &Arc<Entrance>) {
        for worker in &self.workers {
            let _ = worker.mailbox.send(Mail::Close(Arc::clone(entrance))).await;
        }
    }

    async fn close(&mut self, entrance: &Arc<Entrance>) {
        self.end(entrance, Queued::Served).await;
    }

    async fn end(&mut self, entrance: &Arc<Entrance>, queued: Queued) {
        let Some(Open { socket, stop, done, .. }) = self.open.remove(entrance) else { return };
        // Before the other one: whoever connects after the queue was emptied must be refused, not reset.
        drop(socket);
        match queued {
            Queued::Served => drop(stop),
            // Where nobody waits for it, nobody accepts.
            Queued::Left => drop(stop.send(())),
        }
        // Answered by being dropped.
        let _ = done.await;
        self.close_connections(entrance).await;
        self.log.info("core.sidecar", None, "a listener is closed", &[("listener", entrance.listener.as_str().into())]);
    }
}

/// What a listener demands of TLS.
fn tls(platform: &Platform, entrance: &Entrance) -> Option<ListenerTls> {
    let service = platform.services().iter().find(|service| service.name == entrance.service)?;
    service.listeners.iter().find(|listener| listener.name == entrance.listener)?.tls.clone()
}

/// Gives a socket to the worker with the fewest connections. One whose letters are full is stuck or swamped; then the socket is
/// closed, as a full queue of the system's would. Whether it was taken.
fn hand_over(workers: &[Place], mut accepted: Accepted<TcpStream>) -> bool {
    let Some(place) = workers.iter().min_by_key(|place| place.load.load(Ordering::Relaxed)) else { return false };
    accepted.presence.at_worker(&place.load);
    accepted.leave().is_ok_and(|accepted| place.mailbox.try_send(Mail::Connection(Box::new(accepted))).is_ok())
}

/// Whether not both can be listened on.
fn exclude_each_other(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Not to share the port: to have it although connections of an earlier process still linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it, so no connection pays a system call for it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::telemetry::log::Level;
    use crate::telemetry::spool::Sink;

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listener.accept() {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert!(accepted.nodelay().unwrap());
        drop(client);
    }

    #[test]
    fn a_socket_at_hand_serves_its_own_listener_or_one_at_its_address() {
        let entrance = |name: &str| Arc::new(Entrance { service: "demo".parse().unwrap(), listener: name.parse().unwrap() });
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (first, second) = (bind(any).unwrap(), bind(any).unwrap());
        let (first_at, second_at) = (first.local_addr().unwrap(), second.local_addr().unwrap());
        let at_hand = vec![
            AtHand { entrance: entrance("a"), declared: any, listener: first },
            AtHand { entrance: entrance("b"), declared: second_at, listener: second },
        ];
        let log = Log::start(Sink::Other(Box::new(io::sink())), Level::Info).unwrap();
        let mut listeners = Listeners::new(Vec::new(), Arc::new(Live::from_pointee(Policy::empty())), Vec::new(), at_hand, log);
        let mut take = |name: &str, declared| listeners.take_at_hand(&entrance(name), declared).map(|taken| taken.local_addr().unwrap());
        assert_eq!(take("c", any), None, "any free port is none that another listener was given");
        assert_eq!(take("c", second_at), Some(second_at), "it has another name now");
        assert_eq!(take("a", any), Some(first_at));
        assert_eq!(take("a", any), None);
    }

    #[tokio::test]
    async fn connections_that_stay_are_spread_over_the_workers() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (places, mut letters): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (mailbox, letters) = tokio::sync::mpsc::channel(16);
                (Place { mailbox, load: Arc::default() }, letters)
            })
            .unzip();
        let entrance = Arc::new(Entrance { service: "demo".parse().unwrap(), listener: "http".parse().unwrap() });
        let (stop, stopped) = oneshot::channel();
        let (done, _) = oneshot::channel();
        let log = Log::start(Sink::Other(Box::new(io::sink())), Level::Info).unwrap();
        let given = Cell::new(0);
        let give = |accepted| {
            assert!(hand_over(&places, accepted));
            given.set(given.get() + 1);
        };
        let accepting = accept::run(Listening { listener, entrance, stop: stopped, done }, &log, |_| false, give);
        let mut held: [Vec<Mail>; 2] = Default::default();
        let connecting = async {
            // Some come and go between those that stay.
            for number in 0..16 {
                let _client = TcpStream::connect(address).await.unwrap();
                while given.get() <= number {
                    tokio::task::yield_now().await;
                }
                for (held, letters) in held.iter_mut().zip(&mut letters) {
                    held.extend(std::iter::from_fn(|| letters.try_recv().ok()).filter(|_| number % 2 == 0));
                }
            }
            drop(stop);
        };
        tokio::join!(accepting, connecting);
        assert_eq!(held.each_ref().map(Vec::len), [4, 4]);
    }

    #[test]
    fn a_second_listener_is_told_that_the_address_is_taken() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let cause = bind(address).unwrap_err();
        let entrance = Arc::new(Entrance { service: "demo".parse().unwrap(), listener: "http".parse().unwrap() });
        let text = ListenError { entrance, address, cause }.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("another process has it"), "{text}");
    }
}
