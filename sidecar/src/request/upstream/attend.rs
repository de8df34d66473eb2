//! Attend: the task of one group on the control runtime. It alone writes which endpoints requests may go to.
//!
//! Cost: none per request.
//! Everything that can change them comes as an event; what follows from it is for `roster.rs` to say.

use super::fleet::{Group, Member, Members};
use super::health;
use super::resolve::{Lookup, Resolver};
use super::roster::Roster;
use super::tally::{Counted, Tally};
use crate::clock::{Clock, Origin};
use crate::policy::Live;
use crate::telemetry::log::{Log, Value};
use crate::worker::Random;
use arc_swap::ArcSwap;
use bulkhead_config::snapshot::Upstream;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// What may change the endpoints of a group.
#[derive(Debug)]
pub(super) enum Event {
    /// The name at this place was asked for.
    Resolved(usize, Result<Vec<IpAddr>, String>),
    /// Requests to this endpoint failed again and again.
    Failing(Arc<Member>),
    /// This endpoint was asked whether it is well.
    Answered(Arc<Member>, Result<(), String>),
}

/// What the tasks of groups are given.
#[derive(Debug, Clone)]
pub struct Surroundings {
    resolver: Resolver,
    pub(super) live: Arc<Live>,
    origin: Origin,
    log: Log,
}

impl Surroundings {
    /// Names are asked of `lookup`.
    #[must_use]
    pub fn new(lookup: Lookup, live: Arc<Live>, origin: Origin, log: Log) -> Self {
        Self { resolver: Resolver::new(lookup), live, origin, log }
    }
}

/// Keeps the endpoints of a group until it is gone.
pub(super) fn attend(
    group: &Group,
    sends: mpsc::WeakSender<Event>,
    events: mpsc::Receiver<Event>,
    surroundings: Surroundings,
) -> impl Future<Output = ()> + use<> {
    let attendant = Attendant {
        upstream: Arc::clone(&group.upstream),
        roster: Roster::new(&group.endpoints, &group.members.load().usable, group.line.clone()),
        members: Arc::clone(&group.members),
        changed: Arc::clone(&group.changed),
        tally: Arc::clone(&group.tally),
        sends,
        unresolved: Vec::new(),
        asked: Vec::new(),
        clock: Clock::new(surroundings.origin),
        surroundings,
    };
    attendant.run(events)
}

/// Whoever keeps the endpoints of a group. It does not hold the group, or that would never be gone.
struct Attendant {
    upstream: Arc<Upstream>,
    roster: Roster,
    members: Arc<ArcSwap<Members>>,
    changed: Arc<Notify>,
    tally: Arc<Tally>,
    sends: mpsc::WeakSender<Event>,
    surroundings: Surroundings,
    clock: Clock,
    /// Places of names whose failure was told.
    unresolved: Vec<usize>,
    /// Endpoints that are asked whether they are well.
    asked: Vec<(Arc<Member>, AbortHandle)>,
}

impl Attendant {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        // Ended with this task.
        let mut tasks = JoinSet::new();
        for (place, name) in self.roster.names() {
            let (resolver, events) = (self.surroundings.resolver.clone(), self.sends.clone());
            // Without randomness there was no start.
            let Ok(random) = Random::new() else { return };
            tasks.spawn_local(resolver.follow(name.to_owned(), place, self.upstream.refresh, events, random));
        }
        self.ask_everybody(&mut tasks);
        loop {
            let wait = self.roster.due().map(|due| due.since(self.clock.now()));
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Resolved(place, answer)) => {
                        if self.resolved(place, answer) {
                            self.publish();
                            self.ask_everybody(&mut tasks);
                        }
                    }
                    Some(Event::Failing(member)) => self.failing(&member),
                    Some(Event::Answered(member, answer)) => self.answered(&member, &answer),
                    None => return,
                },
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => self.readmit(),
            }
        }
    }

    /// Has every endpoint asked whether it is well, and no other.
    fn ask_everybody(&mut self, tasks: &mut JoinSet<()>) {
        let Some(check) = &self.upstream.health_check else { return };
        let everybody: Vec<&Arc<Member>> = self.roster.everybody().collect();
        self.asked.retain(|(member, asking)| {
            let is_there = everybody.iter().any(|known| Arc::ptr_eq(known, member));
            if !is_there {
                asking.abort();
            }
            is_there
        });
        for member in everybody {
            let is_asked = self.asked.iter().any(|(asked, _)| Arc::ptr_eq(asked, member));
            if let (false, Ok(random)) = (is_asked, Random::new()) {
                let (upstream, check, sends) = (Arc::clone(&self.upstream), check.clone(), self.sends.clone());
                let asking = health::ask(upstream, check, Arc::clone(member), self.surroundings.clone(), sends, random);
                self.asked.push((Arc::clone(member), tasks.spawn_local(asking)));
            }
        }
    }

    fn failing(&mut self, member: &Arc<Member>) {
        let Some(outlier) = &self.upstream.outlier else { return };
        let Some(time) = self.roster.failing(member, outlier, self.clock.now()) else { return };
        self.tally.count(Counted::Ejected);
        self.tell("an endpoint fails and is left alone for a while", member, &[("ejected_ms", time.into())]);
        self.publish();
    }

    fn readmit(&mut self) {
        for member in self.roster.readmit(self.clock.now()) {
            member.forget_failures();
            self.tell("an endpoint is given another chance", &member, &[]);
        }
        self.publish();
    }

    fn answered(&mut self, member: &Arc<Member>, answer: &Result<(), String>) {
        let Some(check) = &self.upstream.health_check else { return };
        self.tally.count(if answer.is_ok() { Counted::Well } else { Counted::Unwell });
        if !self.roster.answered(member, check, answer.is_ok()) {
            return;
        }
        match answer {
            Ok(()) => self.tell("an endpoint is well again", member, &[]),
            Err(why) => self.tell("an endpoint is not well", member, &[("cause", Value::Shown(why))]),
        }
        self.publish();
    }

    fn tell(&self, what: &'static str, member: &Member, more: &[(&'static str, Value<'_>)]) {
        let mut all = vec![("upstream", self.upstream.name.as_str().into()), ("endpoint", (&*member.authority).into())];
        all.extend_from_slice(more);
        self.surroundings.log.warn("core.sidecar", None, what, &all);
    }

    /// Whether that changes the endpoints.
    fn resolved(&mut self, place: usize, answer: Result<Vec<IpAddr>, String>) -> bool {
        self.tally.count(if answer.is_ok() { Counted::Resolved } else { Counted::Unresolved });
        let is_news = match &answer {
            Ok(addresses) => self.roster.resolved(place, addresses),
            Err(why) => self.roster.unresolved(place, why),
        };
        self.tell_resolved(place, answer.as_ref().err());
        is_news
    }

    fn publish(&self) {
        self.members.store(Arc::new(self.roster.members()));
        self.changed.notify_waiters();
    }

    /// Tells the first of several failures in a row, and their end.
    fn tell_resolved(&mut self, place: usize, failed: Option<&String>) {
        let was_told = self.unresolved.contains(&place);
        let name = self.roster.name(place);
        let upstream = ("upstream", self.upstream.name.as_str().into());
        let log = &self.surroundings.log;
        match failed {
            Some(why) if !was_told => {
                let more = [upstream, ("name", name.into()), ("cause", Value::Shown(why))];
                log.warn("core.sidecar", None, "the name of an endpoint cannot be resolved; addresses found earlier stay in use", &more);
                self.unresolved.push(place);
            }
            None if was_told => {
                log.info("core.sidecar", None, "the name of an endpoint can be resolved again", &[upstream, ("name", name.into())]);
                self.unresolved.retain(|told| *told != place);
            }
            _ => {}
        }
    }
}
