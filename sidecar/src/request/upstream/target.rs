//! Targets: what one worker keeps for each upstream, and which of its endpoints a request goes to.
//!
//! Cost: per request; one lookup by the declaration's address.
//! A target is keyed by the identity of its declaration, which snapshots share while nothing about it changes.

use super::breaker::Line;
use super::budget::Budget;
use super::endpoint::{EndpointState, InUse};
use super::fleet::{Fleet, Group, Member, Members};
use super::tally::{Counted, Tally};
use super::{Failed, Step, balance};
use crate::clock::Origin;
use crate::deadline::Wheel;
use crate::worker::{Random, Worker};
use arc_swap::{ArcSwap, Cache};
use bulkhead_config::snapshot::{Platform, Retry, Upstream};
use http::StatusCode;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// All targets of a worker.
#[derive(Debug)]
pub struct Targets {
    /// What all workers know.
    fleet: Arc<Fleet>,
    origin: Origin,
    /// By the address of the declaration, which its target keeps alive.
    known: RefCell<HashMap<usize, Rc<Target>, foldhash::fast::FixedState>>,
}

/// An upstream as one worker sees it.
#[derive(Debug)]
pub struct Target {
    /// What is declared.
    pub upstream: Arc<Upstream>,
    group: Arc<Group>,
    /// Absent where the endpoints are always the same.
    watch: Option<RefCell<Watch>>,
    endpoints: RefCell<Vec<Rc<EndpointState>>>,
    next: Cell<usize>,
    /// Absent where nothing is declared of retries.
    budget: Option<Budget>,
    wheel: Rc<Wheel>,
    origin: Origin,
}

/// The endpoints as this worker last saw them.
#[derive(Debug)]
struct Watch {
    cache: Cache<Arc<ArcSwap<Members>>, Arc<Members>>,
    seen: Arc<Members>,
}

impl Targets {
    /// None yet.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, origin: Origin) -> Self {
        Self { fleet, origin, known: RefCell::default() }
    }

    /// The target of a declaration.
    #[must_use]
    pub fn of(&self, upstream: &Arc<Upstream>, wheel: &Rc<Wheel>) -> Rc<Target> {
        let key = Arc::as_ptr(upstream).addr();
        let mut known = self.known.borrow_mut();
        Rc::clone(known.entry(key).or_insert_with(|| Rc::new(Target::new(self.fleet.of(upstream), wheel, self.origin))))
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
            for endpoint in target.endpoints.borrow().iter() {
                endpoint.sweep();
            }
        }
    }
}

impl Target {
    fn new(group: Arc<Group>, wheel: &Rc<Wheel>, origin: Origin) -> Self {
        let members = group.members.load_full();
        let state = |member: &Arc<Member>| Rc::new(EndpointState::new(&group.upstream, member, wheel, origin));
        let endpoints = members.usable.iter().map(state).collect();
        let watch = || RefCell::new(Watch { cache: Cache::new(Arc::clone(&group.members)), seen: members });
        Self {
            upstream: Arc::clone(&group.upstream),
            watch: group.needs_attention().then(watch),
            endpoints: RefCell::new(endpoints),
            next: Cell::new(0),
            budget: group.upstream.retry.as_ref().map(|retry| Budget::new(retry.budget_percent)),
            wheel: Rc::clone(wheel),
            origin,
            group,
        }
    }

    /// Whom to send the next request to, where it was not tried at these. None where there is nobody else with a place left, or no
    /// address is known.
    #[must_use]
    pub fn choose(&self, not: &[Rc<EndpointState>], random: &Random) -> Option<InUse> {
        self.look();
        let endpoints = self.endpoints.borrow();
        if let ([only], []) = (endpoints.as_slice(), not) {
            return InUse::of(only);
        }
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        balance::choose(&endpoints, turn, random.span(), not).and_then(InUse::of)
    }

    /// The same, where no address is known yet or no place is left: waits for one.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn wait<'a>(&'a self, worker: &'a Worker) -> Pin<Box<dyn Future<Output = Result<InUse, Failed>> + 'a>> {
        Box::pin(async {
            let (random, deadline) = (worker.random(), worker.deadline());
            let known = async {
                let mut in_line = None;
                loop {
                    let changed = self.group.changed.notified();
                    if let Some(chosen) = self.choose(&[], random) {
                        return Ok(chosen);
                    }
                    if self.has_none() {
                        if let Some(why) = &self.group.members.load().why_none {
                            return Err(Failed::because(Step::Resolve, why));
                        }
                        changed.await;
                        continue;
                    }
                    match (&in_line, self.line()?) {
                        // Looked at once more, now that whoever gives a place back knows of it.
                        (None, line) => in_line = Some(line.enter().ok_or_else(|| Failed::at(Step::Overloaded))?),
                        (Some(in_line), _) => in_line.freed().await,
                    }
                }
            };
            let within = self.upstream.connect_timeout;
            deadline.limit(within, known).await.unwrap_or_else(|_| {
                let step = if self.has_none() { Step::ResolveTimeout } else { Step::Overloaded };
                Err(Failed::at(step))
            })
        })
    }

    /// Whether no endpoint is known.
    fn has_none(&self) -> bool {
        self.endpoints.borrow().is_empty()
    }

    /// Where a request waits for a place at endpoints that are full.
    ///
    /// # Errors
    /// Nobody waits: that is not declared, or an endpoint would get slower by what has waited for it.
    fn line(&self) -> Result<&Line, Failed> {
        if let Some(full) = self.endpoints.borrow().iter().find_map(|state| state.reached()) {
            self.tally().count(Counted::Shed);
            return Err(Failed::because(Step::AdaptiveLimit, full));
        }
        self.group.line.as_deref().ok_or_else(|| Failed::at(Step::Overloaded))
    }

    /// The endpoint of this address.
    pub(super) fn named(&self, authority: &str) -> Option<Rc<EndpointState>> {
        self.endpoints.borrow().iter().find(|state| *state.authority == *authority).cloned()
    }

    /// How often its requests may be sent again, and what pays for it, where that is declared.
    pub(super) fn retry(&self) -> Option<(&Retry, &Budget)> {
        self.upstream.retry.as_ref().zip(self.budget.as_ref())
    }

    /// An answer to a request at one of its endpoints has this status. What fails may be fast, so it says nothing of the time it takes.
    pub(super) fn answered(&self, endpoint: &InUse, status: StatusCode) {
        let is_good = !status.is_server_error();
        self.judge(endpoint, is_good);
        endpoint.answered(is_good);
    }

    /// How a request to one of its endpoints ended.
    pub(super) fn judge(&self, endpoint: &EndpointState, is_good: bool) {
        self.group.judge(&endpoint.member, is_good);
    }

    /// What is counted of it.
    pub(super) fn tally(&self) -> &Tally {
        &self.group.tally
    }

    /// Takes over a change of the endpoints. Those that stay keep their connections.
    fn look(&self) {
        let Some(watch) = &self.watch else { return };
        let mut watch = watch.borrow_mut();
        let Watch { cache, seen } = &mut *watch;
        let now = cache.load();
        if Arc::ptr_eq(now, seen) {
            return;
        }
        *seen = Arc::clone(now);
        let mut endpoints = self.endpoints.borrow_mut();
        let state = |member: &Arc<Member>| {
            let known = endpoints.iter().find(|state| Arc::ptr_eq(&state.member, member));
            known.map_or_else(|| Rc::new(EndpointState::new(&self.upstream, member, &self.wheel, self.origin)), Rc::clone)
        };
        *endpoints = now.usable.iter().map(state).collect();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::request::upstream::Wire;
    use crate::request::upstream::endpoint::AVOIDED;
    use crate::request::upstream::fleet::tests::upstream;

    fn target(endpoints: &[&str]) -> (Target, Rc<Wheel>) {
        let wheel = Wheel::new();
        (Target::new(Fleet::new(None).of(&Arc::new(upstream("app", endpoints))), &wheel, Origin::begin()), wheel)
    }

    /// A target of so many endpoints, whose ports are 1, 2, 3, …
    fn of(count: usize) -> (Target, Rc<Wheel>) {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4"];
        target(endpoints.get(..count).unwrap())
    }

    fn choose(target: &Target, not: &[Rc<EndpointState>]) -> InUse {
        target.choose(not, &Random::new().unwrap()).unwrap()
    }

    fn chosen(target: &Target, not: &[Rc<EndpointState>]) -> u16 {
        choose(target, not).member.endpoint.port
    }

    #[test]
    fn an_ipv6_endpoint_is_logged_in_brackets() {
        for (endpoint, shown) in [("http://[::1]:80", "[::1]:80"), ("http://localhost:80", "localhost:80")] {
            assert_eq!(&*choose(&target(&[endpoint]).0, &[]).authority, shown);
        }
    }

    #[test]
    fn only_a_tls_endpoint_is_thought_to_pick_http2_also_one_in_place_of_the_declared() {
        let (target, wheel) = of(1);
        for (endpoint, picks) in [("http://localhost:80", Wire::Http1), ("https://localhost:443", Wire::Http2)] {
            let instead = Fleet::new(Some((target.upstream.service.clone(), endpoint.parse().unwrap())));
            let target = Targets::new(Arc::new(instead), Origin::begin()).of(&target.upstream, &wheel);
            assert_eq!(choose(&target, &[]).picks(), picks, "{endpoint}");
        }
    }

    #[test]
    fn an_idle_upstream_gets_the_same_at_every_endpoint() {
        let (target, _) = of(3);
        let mut counts = [0; 4];
        for _ in 0..300 {
            *counts.get_mut(usize::from(chosen(&target, &[]))).unwrap() += 1;
        }
        assert_eq!(counts, [0, 100, 100, 100]);
    }

    #[test]
    fn of_two_the_one_with_fewer_requests_is_chosen() {
        let (target, _) = of(2);
        let busy: Vec<InUse> = (0..9).map(|_| choose(&target, &[])).collect();
        let (of_first, of_second): (Vec<InUse>, Vec<InUse>) = busy.into_iter().partition(|in_use| in_use.member.endpoint.port == 1);
        assert!(of_first.len().abs_diff(of_second.len()) <= 1, "{} and {}", of_first.len(), of_second.len());
        drop(of_second);
        assert_eq!([chosen(&target, &[]), chosen(&target, &[])], [2, 2]);
    }

    #[test]
    fn a_slow_endpoint_among_several_gets_few_requests() {
        let (target, _) = of(4);
        let mut held = Vec::new();
        // The first never answers, the others at once.
        for _ in 0..400 {
            let in_use = choose(&target, &[]);
            if in_use.member.endpoint.port == 1 {
                held.push(in_use);
            }
        }
        assert!(held.len() <= 2, "{} of 400 went to the endpoint that answers none", held.len());
    }

    #[test]
    fn an_endpoint_that_failed_is_tried_last_for_a_while() {
        let (target, wheel) = of(2);
        let failed = choose(&target, &[]);
        let port = failed.member.endpoint.port;
        let other = 3 - port;
        failed.avoid();
        assert_eq!(chosen(&target, &[failed.leave()]), other);
        assert_eq!([chosen(&target, &[]), chosen(&target, &[])], [other; 2]);
        wheel.turn_to(2 * AVOIDED);
        assert!([chosen(&target, &[]), chosen(&target, &[])].contains(&port));
    }

    #[test]
    fn where_all_failed_another_than_the_last_is_tried() {
        let (target, _) = of(3);
        for _ in 0..3 {
            choose(&target, &[]).avoid();
        }
        let last = choose(&target, &[]);
        let port = last.member.endpoint.port;
        assert_ne!(chosen(&target, &[last.leave()]), port);
    }

    #[test]
    fn the_only_endpoint_is_chosen_even_when_it_failed() {
        let (target, _) = of(1);
        let only = choose(&target, &[]);
        only.avoid();
        assert_eq!(chosen(&target, &[]), 1);
        assert!(target.choose(&[only.leave()], &Random::new().unwrap()).is_none(), "and not tried twice");
    }

    #[test]
    fn endpoints_that_stay_keep_their_state_when_others_change() {
        let (target, _) = target(&["http://app.internal:80"]);
        assert!(target.choose(&[], &Random::new().unwrap()).is_none(), "not resolved yet");
        let endpoint = target.upstream.endpoints.first().unwrap();
        let [one, two, three] = [1, 2, 3].map(|last| Arc::new(Member::resolved(endpoint, [192, 0, 2, last].into(), None)));
        let publish = |members: [&Arc<Member>; 2]| {
            let usable = members.map(Arc::clone).into();
            target.group.members.store(Arc::new(Members { usable, ..Members::default() }));
        };
        publish([&one, &two]);
        let held = [choose(&target, &[]), choose(&target, &[])];
        publish([&two, &three]);
        let after = choose(&target, &[]);
        assert!(Arc::ptr_eq(&after.member, &three), "the one that stayed still has a request");
        assert!(held.iter().any(|in_use| Arc::ptr_eq(&in_use.member, &one)), "a request outlives its endpoint");
    }
}
