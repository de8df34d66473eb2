//! Endpoint: one endpoint as one worker sees it: its connections, the requests it is answering, and whether it has a place for more.
//!
//! Cost: per request; one connection popped from a stack, a few numbers counted.

use super::adaptive::{Adaptive, Asked};
use super::breaker::Places;
use super::fleet::Member;
use super::http1::Link;
use super::http2::{Connection, Stream};
use super::{Failed, Wire};
use crate::clock::Origin;
use crate::deadline::{TURN, Wheel};
use bulkhead_config::snapshot::{Scheme, Upstream};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Connections kept for an endpoint by one worker.
const IDLE_MAX: usize = 256;
/// A connection not used for so long is closed; most servers do it after 60 s or more, and who closes first loses no request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// HTTP/2 connections to an endpoint that one worker opens. A server that takes a hundred streams on each, as nearly all do, gets
/// more requests at once than one worker can serve; one that takes a single stream is not asked for more.
const SHARED_MAX: usize = 16;
/// An endpoint that could not be reached is tried after the others for so long.
pub(super) const AVOIDED: Duration = Duration::from_secs(5);

/// One endpoint as one worker sees it.
#[derive(Debug)]
pub struct EndpointState {
    /// As all workers know it.
    pub member: Arc<Member>,
    /// `host:port`, for logs.
    pub authority: Rc<str>,
    in_flight: Cell<u32>,
    /// Absent where it is not declared.
    adaptive: Option<Box<Adaptive>>,
    /// What it picked in its last handshake that left the choice. Until there was one HTTP/2: then one request opens a connection
    /// and the others wait to see what it becomes.
    picks: Cell<Wire>,
    /// Turn of the wheel until which others are preferred.
    avoided_until: Cell<u64>,
    #[expect(clippy::vec_box, reason = "a link is large and moves between here and its request; the box moves instead")]
    idle: RefCell<Vec<Box<Link>>>,
    http2: RefCell<Shared>,
    wheel: Rc<Wheel>,
}

/// The HTTP/2 connections of an endpoint.
#[derive(Debug, Default)]
struct Shared {
    open: Vec<Rc<Connection>>,
    /// A request opens one; the others wait for it.
    opening: Option<Rc<Opening>>,
}

/// A connection that is being opened.
#[derive(Debug, Default)]
struct Opening {
    over: Notify,
    /// It became one of HTTP/1.1.
    is_http1: Cell<bool>,
    /// Why it could not be: all who waited are told, and do not try one after the other.
    failed: RefCell<Option<Failed>>,
}

/// A request on an endpoint, counted until dropped.
#[derive(Debug)]
pub struct InUse {
    state: Rc<EndpointState>,
    asked: Cell<Asked>,
}

impl EndpointState {
    pub(super) fn new(upstream: &Upstream, member: &Arc<Member>, wheel: &Rc<Wheel>, origin: Origin) -> Self {
        Self {
            member: Arc::clone(member),
            authority: Rc::from(&*member.authority),
            in_flight: Cell::new(0),
            adaptive: upstream.adaptive_concurrency.as_ref().map(|declared| Adaptive::new(declared, member, origin)),
            picks: Cell::new(if member.endpoint.scheme == Scheme::Https { Wire::Http2 } else { Wire::Http1 }),
            avoided_until: Cell::new(0),
            idle: RefCell::default(),
            http2: RefCell::default(),
            wheel: Rc::clone(wheel),
        }
    }

    /// Whether it has no place for one more request.
    pub(super) fn is_full(&self) -> bool {
        self.adaptive.as_ref().is_some_and(|adaptive| adaptive.is_full()) || self.member.places.as_ref().is_some_and(Places::are_taken)
    }

    /// Its adaptive limit, in words, where that is reached.
    pub(super) fn reached(&self) -> Option<String> {
        let adaptive = self.adaptive.as_ref().filter(|adaptive| adaptive.is_full())?;
        Some(format!("{} is answering {} requests of this worker, its adaptive limit now", self.authority, adaptive.limit()))
    }

    /// Requests of this worker that it is answering.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// A kept connection that still stands.
    #[must_use]
    pub fn take_idle(&self) -> Option<Box<Link>> {
        loop {
            let link = self.idle.borrow_mut().pop()?;
            if link.is_idle() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub fn put_aside(&self, mut link: Box<Link>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX {
            link.is_used = true;
            link.idle_since = self.wheel.turn();
            idle.push(link);
        }
    }

    /// What its next connection is expected to be where it has the choice.
    #[must_use]
    pub fn picks(&self) -> Wire {
        self.picks.get()
    }

    /// A connection became this.
    pub fn picked(&self, wire: Wire) {
        self.picks.set(wire);
    }

    /// Whether it speaks HTTP/1.1 of its own choice, over a kept connection that still stands.
    #[must_use]
    pub fn keeps_http1(&self) -> bool {
        self.picks.get() == Wire::Http1 && self.idle.borrow().last().is_some_and(|link| link.is_idle())
    }

    /// Others are preferred for a while.
    pub fn avoid(&self) {
        self.avoided_until.set(self.wheel.turn() + turns(AVOIDED));
    }

    pub(super) fn is_avoided(&self) -> bool {
        self.avoided_until.get() > self.wheel.turn()
    }

    pub(super) fn sweep(&self) {
        let oldest = self.wheel.turn().saturating_sub(turns(IDLE_TIMEOUT));
        self.idle.borrow_mut().retain(|link| link.idle_since >= oldest && link.is_idle());
        self.http2.borrow_mut().open.retain(|connection| connection.is_open() && !connection.is_idle_since(oldest));
        if let Some(adaptive) = &self.adaptive {
            adaptive.tell();
        }
    }
}

impl Shared {
    /// The connection for one more stream, other than `not`. The fullest that has room: so those that were opened for a peak fall
    /// idle and are closed. Where no more may be opened the emptiest, whose engine lets the stream wait.
    fn choose(&mut self, not: Option<&Rc<Connection>>) -> Option<&Rc<Connection>> {
        self.open.retain(|connection| connection.is_open());
        let others = || self.open.iter().filter(|other| !not.is_some_and(|not| Rc::ptr_eq(not, other)));
        let with_room = others().filter(|connection| connection.room() > 0).max_by_key(|connection| connection.streams());
        let is_full = self.open.len() >= SHARED_MAX;
        with_room.or_else(|| others().filter(|_| is_full).min_by_key(|connection| connection.streams()))
    }
}

/// Lets those who wait for a connection go on, also when the request that opens it is cancelled.
struct Opener<'a> {
    state: &'a EndpointState,
    opening: Rc<Opening>,
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.state.http2.borrow_mut().opening = None;
        self.opening.over.notify_waiters();
    }
}

impl InUse {
    /// One more, if there is a place for it.
    pub(super) fn of(state: &Rc<EndpointState>) -> Option<Self> {
        if state.adaptive.as_ref().is_some_and(|adaptive| adaptive.is_full()) || !state.member.places.as_ref().is_none_or(Places::take) {
            return None;
        }
        state.in_flight.set(state.in_flight.get() + 1);
        let asked = state.adaptive.as_ref().map_or(Asked::Uncounted, |adaptive| adaptive.begin());
        Some(Self { state: Rc::clone(state), asked: Cell::new(asked) })
    }

    /// Whether somebody wants to know how long its answer takes.
    pub(super) fn is_timed(&self) -> bool {
        self.adaptive.is_some()
    }

    /// It has all of the request.
    pub(super) fn has_all(&self) {
        if let (Some(adaptive), Asked::Chosen) = (&self.adaptive, self.asked.get()) {
            self.asked.set(adaptive.whole());
        }
    }

    /// Its answer has begun.
    pub(super) fn answered(&self, is_good: bool) {
        let Some(adaptive) = &self.adaptive else { return };
        let asked = self.asked.replace(Asked::Uncounted);
        if is_good { adaptive.answered(asked) } else { adaptive.unanswered(asked) }
    }

    /// The endpoint; the place is given back.
    pub(super) fn leave(self) -> Rc<EndpointState> {
        Rc::clone(&self.state)
    }

    /// The endpoint, to be told from others.
    pub(super) fn state(&self) -> Rc<EndpointState> {
        Rc::clone(&self.state)
    }

    /// A stream on an HTTP/2 connection other than `not`; opened by `open` if none has room. One request opens it, others wait.
    /// Nothing where the endpoint picked HTTP/1.1 instead.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn stream(
        &self,
        not: Option<&Rc<Connection>>,
        open: impl AsyncFn() -> Result<Option<Rc<Connection>>, Failed>,
    ) -> Result<Option<Stream>, Failed> {
        loop {
            let opening = {
                let mut shared = self.http2.borrow_mut();
                if let Some(connection) = shared.choose(not) {
                    return Ok(Some(connection.stream()));
                }
                shared.opening.clone()
            };
            match opening {
                Some(opening) => {
                    opening.over.notified().await;
                    if let Some(failed) = &*opening.failed.borrow() {
                        return Err(failed.clone());
                    }
                    if opening.is_http1.get() {
                        return Ok(None);
                    }
                }
                None if self.open(&open).await? == Wire::Http1 => return Ok(None),
                None => {}
            }
        }
    }

    /// A stream on a connection that was opened elsewhere and is shared from now on.
    pub(super) fn share(&self, connection: Rc<Connection>) -> Stream {
        let stream = connection.stream();
        self.http2.borrow_mut().open.push(connection);
        stream
    }

    async fn open(&self, open: &impl AsyncFn() -> Result<Option<Rc<Connection>>, Failed>) -> Result<Wire, Failed> {
        let opener = Opener { state: self, opening: Rc::default() };
        self.http2.borrow_mut().opening = Some(Rc::clone(&opener.opening));
        match open().await {
            Ok(Some(connection)) => {
                self.http2.borrow_mut().open.push(connection);
                Ok(Wire::Http2)
            }
            Ok(None) => {
                opener.opening.is_http1.set(true);
                Ok(Wire::Http1)
            }
            Err(failed) => {
                opener.opening.failed.replace(Some(failed.clone()));
                Err(failed)
            }
        }
    }

    /// Whether it is a request on this endpoint.
    pub(super) fn is_at(&self, state: &Rc<EndpointState>) -> bool {
        Rc::ptr_eq(&self.state, state)
    }
}

impl std::ops::Deref for InUse {
    type Target = EndpointState;
    fn deref(&self) -> &EndpointState {
        &self.state
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.state.in_flight.set(self.state.in_flight.get().saturating_sub(1));
        if let Some(places) = &self.state.member.places {
            places.give_back();
        }
        if let Some(adaptive) = &self.state.adaptive {
            adaptive.unanswered(self.asked.get());
        }
    }
}

fn turns(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TURN.as_millis()).unwrap_or(u64::MAX / 2)
}
