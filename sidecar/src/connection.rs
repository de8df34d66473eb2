//! Connections: once each, in order: accept → proxy_header → handshake → protocol → serve, from the accepted socket to its last
//! byte.
//!
//! Cost: per request; a few numbers written, and one deadline of the worker's wheel moved.
//! This file holds what is known of a connection while it lives. It knows no engine: `serve` drives one and tells it what happens.

pub mod accept;
pub mod handshake;
pub mod told;
pub mod http1;
pub mod http2;
mod extended;
pub mod flood;
pub mod framed;
pub mod limits;
pub mod listeners;
pub(crate) mod network;
pub mod protocol;
pub mod proxy_header;
pub mod serve;
pub mod stream;
pub mod tunnel;
pub mod wire;

use crate::deadline::{Deadline, Elapsed};
use crate::request::authn::Shown;
use crate::worker::Stream;
use accept::Presence;
use bulkhead_config::name::{ListenerName, ServiceName};
use bulkhead_config::snapshot::Scheme;
use limits::{CLOSING_GRACE, IDLE_TIMEOUT, WRITE_TIMEOUT};
use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tunnel::Tunnel;

/// Where a connection came in.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entrance {
    /// The service it is for.
    pub service: ServiceName,
    /// The listener of that service.
    pub listener: ListenerName,
}

/// What a client that waits to be told so is told to send its body, and any other ignores.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Bytes of informational answers that wait for one client.
const INFORMED_MAX: usize = 16 << 10;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The end of a request's head.
    Head,
    /// Its own answer.
    Serving,
    /// The next request.
    Idle,
}

/// One connection of a client.
#[derive(Debug)]
pub struct Downstream {
    /// Where it came in.
    pub entrance: Arc<Entrance>,
    peer: Cell<SocketAddr>,
    /// How it speaks to us.
    pub scheme: Scheme,
    forwarding: OnceCell<Forwarding>,
    shown: OnceCell<Shown>,
    head_timeout: Cell<Duration>,
    phase: Cell<Phase>,
    in_flight: Cell<u32>,
    is_http2: Cell<bool>,
    is_closing: Cell<bool>,
    is_stalled: Cell<bool>,
    listens: Cell<bool>,
    /// Informational answers on their way to a client that may be told of them.
    informed: RefCell<Option<Vec<u8>>>,
    saw_end: Cell<bool>,
    deadline: Deadline,
    presence: Presence,
    tunnel: RefCell<Option<Tunnel>>,
    /// Tunnels that are to be told when it is asked to end.
    to_be_told: RefCell<Vec<Waker>>,
    /// What is being answered, if it lasts.
    stream: RefCell<Option<Rc<Stream>>>,
}

/// What the upstream is told of a connection's peer: lines of fields, the same for every request.
#[derive(Debug)]
pub struct Forwarding {
    /// `X-Forwarded-For` and `Forwarded` (RFC 7239).
    pub client: Box<[u8]>,
    /// `X-Forwarded-Proto`.
    pub proto: Box<[u8]>,
}

/// A request of a connection. Dropped with the last byte of its answer.
#[derive(Debug)]
pub struct InFlight {
    from: Rc<Downstream>,
}

impl Downstream {
    /// A connection just accepted: it owes us a head.
    #[must_use]
    pub fn new(
        entrance: Arc<Entrance>,
        (peer, scheme): (SocketAddr, Scheme),
        presence: Presence,
        deadline: Deadline,
        head_timeout: Duration,
    ) -> Self {
        deadline.arm(head_timeout);
        Self {
            entrance,
            peer: Cell::new(peer),
            scheme,
            forwarding: OnceCell::new(),
            shown: OnceCell::new(),
            head_timeout: Cell::new(head_timeout),
            phase: Cell::new(Phase::Head),
            in_flight: Cell::new(0),
            is_http2: Cell::new(false),
            is_closing: Cell::new(false),
            is_stalled: Cell::new(false),
            listens: Cell::new(false),
            informed: RefCell::default(),
            saw_end: Cell::new(false),
            deadline,
            presence,
            tunnel: RefCell::default(),
            to_be_told: RefCell::default(),
            stream: RefCell::default(),
        }
    }

    /// Who is at the other end: of the socket, or of the balancer in front of us whose PROXY header said so.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer.get()
    }

    /// What the upstream is told of the peer. To be asked once that is known, which it is before the first request.
    pub fn forwarding(&self) -> &Forwarding {
        self.forwarding.get_or_init(|| Forwarding::of(self.peer().ip(), self.scheme))
    }

    /// What its client's certificate says, if it showed one.
    #[must_use]
    pub fn shown(&self) -> Option<&Shown> {
        self.shown.get()
    }

    /// A trusted hop says that the connection is this client's, which may be a hop itself.
    ///
    /// # Errors
    /// The client holds too much already.
    fn named(&self, client: SocketAddr, is_hop: bool) -> Result<(), accept::TooMany> {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        self.peer.set(client);
        if is_hop { Ok(()) } else { self.presence.named(client.ip()) }
    }

    /// Waits for what comes before the first request, as long as its head may take.
    async fn in_time<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_late(cx).map(|_| None),
        })
        .await
    }

    /// What it waits for.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether its streams are independent of each other.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.is_http2.get()
    }

    /// A request begins. `head_timeout` holds for the next one.
    #[must_use]
    pub fn begin(self: &Rc<Self>, head_timeout: Duration) -> InFlight {
        self.head_timeout.set(head_timeout);
        self.in_flight.set(self.in_flight.get() + 1);
        self.listens.set(false);
        self.enter(Phase::Serving);
        InFlight { from: Rc::clone(self) }
    }

    /// Asks it to end: what is being answered is answered, a request on its way is still taken, silence ends it soon.
    pub fn close_soon(&self) {
        self.is_closing.set(true);
        if self.phase.get() != Phase::Serving {
            self.deadline.arm(CLOSING_GRACE);
        }
        self.deadline.wake();
        self.to_be_told.take().into_iter().for_each(Waker::wake);
    }

    /// The answer of the request in flight is a change of protocols; the tunnel begins once the answer is out.
    pub fn open_tunnel(&self, tunnel: Tunnel) {
        self.tunnel.replace(Some(tunnel));
    }

    /// Whether the client said that it sends nothing more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.saw_end.get()
    }

    /// What is waited for may take long enough that somebody should listen whether the client is still there.
    pub fn listen(&self) {
        self.listens.set(true);
    }

    /// Whether the client of the request that begins may be told of informational answers: HTTP/1.0 knows none (RFC 9110 section
    /// 15.2), and the engine of HTTP/2 sends none.
    fn may_be_informed(&self, may: bool) {
        let mut informed = self.informed.borrow_mut();
        match &mut *informed {
            // Left over where serving the request before it failed.
            Some(left) if may => left.clear(),
            state => *state = may.then(Vec::new),
        }
    }

    /// Notes an informational answer. One that finds too much waiting is dropped: it is a hint.
    pub fn inform(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(informed) = self.informed.borrow_mut().as_mut().filter(|informed| informed.len() < INFORMED_MAX) {
            write(informed);
        }
    }

    /// Moves what was noted to the end of `out`. Whether there was anything.
    fn tell(&self, out: &mut Vec<u8>) -> bool {
        let mut informed = self.informed.borrow_mut();
        let noted = informed.as_mut().filter(|noted| !noted.is_empty());
        noted.map(|noted| out.append(noted)).is_some()
    }

    /// The answer under way lasts; when it may not go on, nor may the connection: half an answer must not look whole.
    pub fn heed(&self, stream: &Rc<Stream>) {
        self.stream.replace(Some(Rc::clone(stream)));
    }

    fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Whether it was asked to end; if not, the task is woken then.
    fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_closing() {
            return Poll::Ready(());
        }
        let mut tasks = self.to_be_told.borrow_mut();
        if !tasks.iter().any(|task| task.will_wake(cx.waker())) {
            tasks.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn poll_late(&self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        if self.stream.borrow().as_ref().is_some_and(|stream| stream.is_ended()) {
            return Poll::Ready(Elapsed);
        }
        self.deadline.poll(cx)
    }

    /// Keeps the count of unfinished heads per source.
    ///
    /// # Errors
    /// The source has too many of them.
    fn account(&self) -> Result<(), accept::TooMany> {
        self.presence.unfinished(self.phase.get() == Phase::Head)
    }

    /// Bytes came in.
    fn came(&self) {
        if self.phase.get() == Phase::Idle && !self.is_http2.get() {
            self.enter(Phase::Head);
        }
    }

    /// The client will send nothing more.
    fn ended(&self) {
        self.saw_end.set(true);
    }

    /// Whether bytes just offered could be handed to the system.
    fn went(&self, handed_over: bool) {
        if handed_over == self.is_stalled.get() {
            self.is_stalled.set(!handed_over);
            if handed_over { self.enter(self.phase.get()) } else { self.deadline.arm(WRITE_TIMEOUT) }
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        match phase {
            Phase::Serving => self.deadline.disarm(),
            Phase::Head => self.deadline.arm(self.head_timeout.get()),
            Phase::Idle => self.deadline.arm(if self.is_closing.get() { CLOSING_GRACE } else { IDLE_TIMEOUT }),
        }
    }
}

impl InFlight {
    /// The connection it came by.
    #[must_use]
    pub fn from(&self) -> &Rc<Downstream> {
        &self.from
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let left = self.from.in_flight.get().saturating_sub(1);
        self.from.in_flight.set(left);
        if left == 0 {
            self.from.stream.take();
            self.from.enter(Phase::Idle);
        }
    }
}

impl Forwarding {
    /// For a client at this address.
    fn of(ip: IpAddr, scheme: Scheme) -> Self {
        let proto = scheme.as_str();
        let node = match ip {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        let lines = |text: String| text.into_bytes().into_boxed_slice();
        Self {
            client: lines(format!("x-forwarded-for: {ip}\r\nforwarded: {node};proto={proto}\r\n")),
            proto: lines(format!("x-forwarded-proto: {proto}\r\n")),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::deadline::Wheel;
    use std::task::Waker;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn connection(wheel: &Rc<Wheel>) -> Rc<Downstream> {
        let entrance = Arc::new(Entrance { service: "demo".parse().unwrap(), listener: "http".parse().unwrap() });
        let peer = ([192, 0, 2, 1], 4_711).into();
        Rc::new(Downstream::new(entrance, (peer, Scheme::Http), accept::Presence::of_nobody(), wheel.take(), seconds(10)))
    }

    fn is_late(connection: &Downstream) -> bool {
        connection.poll_late(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_waits_to_go_out_has_a_time_whether_nothing_of_it_is_taken_or_a_drop_now_and_then() {
        let wheel = Wheel::new();
        let from = connection(&wheel);
        let _in_flight = from.begin(seconds(10));
        from.went(false);
        for second in 1..60 {
            wheel.turn_to(seconds(second));
            // A byte was taken, and more still waits.
            from.went(false);
            assert!(!is_late(&from), "after {second} s");
        }
        wheel.turn_to(WRITE_TIMEOUT + seconds(1));
        assert!(is_late(&from));
        from.went(true);
        wheel.turn_to(seconds(10_000));
        assert!(!is_late(&from), "once all of it was taken, the next has a time of its own");
    }

    #[test]
    fn a_connection_has_a_time_for_its_first_byte_for_each_head_and_between_requests() {
        let wheel = Wheel::new();
        let from = connection(&wheel);
        wheel.turn_to(seconds(11));
        assert!(is_late(&from), "not a byte");
        let in_flight = from.begin(seconds(10));
        wheel.turn_to(seconds(1_000));
        assert!(!is_late(&from), "an answer takes as long as the upstream may");
        drop(in_flight);
        wheel.turn_to(seconds(1_074));
        assert!(!is_late(&from), "silent between requests");
        from.came();
        for second in 1_075..1_084 {
            wheel.turn_to(seconds(second));
            // More bytes of a head give it no more time.
            from.came();
            assert!(!is_late(&from), "at {second} s");
        }
        wheel.turn_to(seconds(1_085));
        assert!(is_late(&from), "a head sent byte by byte");
    }
}
