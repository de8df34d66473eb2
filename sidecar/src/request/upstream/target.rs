//! Targets: what one worker knows of each upstream: its endpoints, their kept connections, and whom to try first.
//!
//! Cost: per request; one lookup by the declaration's address, one connection popped from a stack.
//! A target is keyed by the identity of its declaration, which snapshots share while nothing about it changes.

use super::http1::Link;
use super::http2::{Connection, Stream};
use super::{Failed, Wire};
use crate::deadline::{TURN, Wheel};
use bulkhead_config::name::ServiceName;
use bulkhead_config::snapshot::{Endpoint, Platform, Scheme, Upstream};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
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
const AVOIDED: Duration = Duration::from_secs(5);

/// All targets of a worker.
#[derive(Debug)]
pub struct Targets {
    /// An endpoint in place of those that the policy declares for a service.
    instead: Option<(ServiceName, Endpoint)>,
    /// By the address of the declaration, which its target keeps alive.
    known: RefCell<HashMap<usize, Rc<Target>, foldhash::fast::FixedState>>,
}

/// An upstream as one worker sees it.
#[derive(Debug)]
pub struct Target {
    /// What is declared.
    pub upstream: Arc<Upstream>,
    endpoints: Vec<Rc<EndpointState>>,
    next: Cell<usize>,
}

/// One endpoint as one worker sees it.
#[derive(Debug)]
pub struct EndpointState {
    /// Its address as declared.
    pub endpoint: Endpoint,
    /// `host:port`, for logs.
    pub authority: Rc<str>,
    in_flight: Cell<u32>,
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
pub struct InUse(Rc<EndpointState>);

impl Targets {
    /// None yet.
    #[must_use]
    pub fn new(instead: Option<(ServiceName, Endpoint)>) -> Self {
        Self { instead, known: RefCell::default() }
    }

    /// The target of a declaration.
    #[must_use]
    pub fn of(&self, upstream: &Arc<Upstream>, wheel: &Rc<Wheel>) -> Rc<Target> {
        let key = Arc::as_ptr(upstream).addr();
        let mut known = self.known.borrow_mut();
        Rc::clone(known.entry(key).or_insert_with(|| {
            let instead = self.instead.as_ref().filter(|(service, _)| *service == upstream.service);
            let endpoints = instead.map_or(upstream.endpoints.as_slice(), |(_, endpoint)| std::slice::from_ref(endpoint));
            Rc::new(Target::new(upstream, endpoints, wheel))
        }))
    }

    /// Forgets targets that the platform no longer declares; their connections close as their requests end.
    pub fn keep_declared(&self, platform: &Platform) {
        let declared = |target: &Target| {
            platform.services().iter().flat_map(|service| &service.upstreams).any(|upstream| Arc::ptr_eq(upstream, &target.upstream))
        };
        self.known.borrow_mut().retain(|_, target| declared(target));
    }

    /// Closes connections that were idle for too long or that the upstream closed.
    pub fn sweep(&self) {
        for target in self.known.borrow().values() {
            for endpoint in &target.endpoints {
                endpoint.sweep();
            }
        }
    }
}

impl Target {
    fn new(upstream: &Arc<Upstream>, endpoints: &[Endpoint], wheel: &Rc<Wheel>) -> Self {
        let state = |endpoint: &Endpoint| {
            Rc::new(EndpointState {
                endpoint: endpoint.clone(),
                authority: endpoint.authority().into(),
                in_flight: Cell::new(0),
                picks: Cell::new(if endpoint.scheme == Scheme::Https { Wire::Http2 } else { Wire::Http1 }),
                avoided_until: Cell::new(0),
                idle: RefCell::default(),
                http2: RefCell::default(),
                wheel: Rc::clone(wheel),
            })
        };
        Self { upstream: Arc::clone(upstream), endpoints: endpoints.iter().map(state).collect(), next: Cell::new(0) }
    }

    /// Whom to send the next request to: of the two next in turn the one with fewer requests, an avoided one only if there is
    /// no other. `not` is one that just failed.
    #[must_use]
    pub fn choose(&self, not: Option<&EndpointState>) -> Option<InUse> {
        if let [only] = self.endpoints.as_slice() {
            return Some(InUse::of(only));
        }
        let start = self.next.get();
        self.next.set(start.wrapping_add(1));
        let count = self.endpoints.len();
        let is_other = |state: &&Rc<EndpointState>| !not.is_some_and(|not| std::ptr::eq(not, Rc::as_ptr(state)));
        let mut in_turn = self.endpoints.iter().cycle().skip(start.checked_rem(count)?).take(count).filter(is_other);
        let mut preferred = in_turn.clone().filter(|state| !state.is_avoided());
        let best = match (preferred.next(), preferred.next()) {
            (Some(first), Some(second)) if second.in_flight < first.in_flight => second,
            (Some(first), _) => first,
            (None, _) => in_turn.next()?,
        };
        Some(InUse::of(best))
    }
}

impl EndpointState {
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

    fn is_avoided(&self) -> bool {
        self.avoided_until.get() > self.wheel.turn()
    }

    fn sweep(&self) {
        let oldest = self.wheel.turn().saturating_sub(turns(IDLE_TIMEOUT));
        self.idle.borrow_mut().retain(|link| link.idle_since >= oldest && link.is_idle());
        self.http2.borrow_mut().open.retain(|connection| connection.is_open() && !connection.is_idle_since(oldest));
    }

    /// The turn of the wheel now under way.
    pub(super) fn turn(&self) -> u64 {
        self.wheel.turn()
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
    fn of(state: &Rc<EndpointState>) -> Self {
        state.in_flight.set(state.in_flight.get() + 1);
        Self(Rc::clone(state))
    }

    /// Another one on the same endpoint.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::of(&self.0)
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
                    return Ok(Some(connection.stream(self.again())));
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
        let stream = connection.stream(self.again());
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

    /// Whether both are on one endpoint.
    #[must_use]
    pub fn is_same(&self, other: &InUse) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl std::ops::Deref for InUse {
    type Target = EndpointState;
    fn deref(&self) -> &EndpointState {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

fn turns(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TURN.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::snapshot::{Protocol, Scheme, UpstreamTls};

    fn target(endpoints: u16) -> (Target, Rc<Wheel>) {
        let wheel = Wheel::new();
        let upstream = Upstream {
            service: "demo".parse().unwrap(),
            name: "app".parse().unwrap(),
            endpoints: (0..endpoints).map(|port| Endpoint { scheme: Scheme::Http, host: "app".to_owned(), port }).collect(),
            tls: UpstreamTls::default(),
            protocol: Protocol::Auto,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            stream_idle_timeout: Duration::from_secs(1),
        };
        {
            let endpoints = upstream.endpoints.clone();
            (Target::new(&Arc::new(upstream), &endpoints, &wheel), wheel)
        }
    }

    fn chosen(target: &Target, not: Option<&EndpointState>) -> u16 {
        target.choose(not).unwrap().endpoint.port
    }

    #[test]
    fn an_ipv6_endpoint_is_logged_in_brackets() {
        let (target, wheel) = target(1);
        let endpoint = "http://[::1]:80".parse().unwrap();
        let ipv6 = Target::new(&target.upstream, &[endpoint], &wheel);
        assert_eq!([&target, &ipv6].map(|target| target.choose(None).unwrap().authority.to_string()), ["app:0", "[::1]:80"]);
    }

    #[test]
    fn only_a_tls_endpoint_is_thought_to_pick_http2_also_one_in_place_of_the_declared() {
        let (target, wheel) = target(1);
        let instead = |endpoint: &str| Targets::new(Some((target.upstream.service.clone(), endpoint.parse().unwrap())));
        for (endpoint, picks) in [("http://app:80", Wire::Http1), ("https://app:443", Wire::Http2)] {
            let chosen = instead(endpoint).of(&target.upstream, &wheel).choose(None).unwrap();
            assert_eq!(chosen.picks(), picks, "{endpoint}");
        }
    }

    #[test]
    fn requests_go_to_every_endpoint_in_turn() {
        let (target, _) = target(3);
        let mut counts = [0; 3];
        for _ in 0..300 {
            *counts.get_mut(usize::from(chosen(&target, None))).unwrap() += 1;
        }
        assert_eq!(counts, [100; 3]);
    }

    #[test]
    fn of_two_the_one_with_fewer_requests_is_chosen() {
        let (target, _) = target(2);
        let busy: Vec<InUse> = (0..9).map(|_| target.choose(None).unwrap()).collect();
        let ports: Vec<u16> = busy.iter().map(|in_use| in_use.endpoint.port).collect();
        assert!(ports.iter().filter(|port| **port == 0).count().abs_diff(ports.len() / 2) <= 1, "{ports:?}");
        let (of_first, of_second): (Vec<InUse>, Vec<InUse>) = busy.into_iter().partition(|in_use| in_use.endpoint.port == 0);
        drop(of_second);
        assert_eq!([chosen(&target, None), chosen(&target, None)], [1, 1]);
        drop(of_first);
    }

    #[test]
    fn an_endpoint_that_failed_is_tried_last_for_a_while() {
        let (target, wheel) = target(2);
        let failed = target.choose(None).unwrap();
        let (other, port) = (1 - failed.endpoint.port, failed.endpoint.port);
        failed.avoid();
        assert_eq!(chosen(&target, Some(&failed)), other);
        drop(failed);
        assert_eq!([chosen(&target, None), chosen(&target, None)], [other; 2]);
        wheel.turn_to(2 * AVOIDED);
        assert!([chosen(&target, None), chosen(&target, None)].contains(&port));
    }

    #[test]
    fn the_only_endpoint_is_chosen_even_when_it_failed() {
        let (target, _) = target(1);
        let only = target.choose(None).unwrap();
        only.avoid();
        assert_eq!(chosen(&target, Some(&only)), 0);
    }
}
