//! Attend: the task of one group on the control runtime. It alone writes which endpoints requests may go to.
//!
//! Cost: none per request.
//! Everything that can change them comes as an event; what follows from it is for `roster.rs` to say.

use super::fleet::{Group, Members};
use super::resolve::{Lookup, Resolver};
use super::roster::Roster;
use super::tally::{Counted, Tally};
use crate::telemetry::log::{Log, Value};
use crate::worker::Random;
use arc_swap::ArcSwap;
use bulkhead_config::snapshot::Upstream;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// What may change the endpoints of a group.
#[derive(Debug)]
pub(super) enum Event {
    /// The name at this place was asked for.
    Resolved(usize, Result<Vec<IpAddr>, String>),
}

/// What the tasks of groups are given.
#[derive(Debug, Clone)]
pub struct Surroundings {
    resolver: Resolver,
    log: Log,
}

impl Surroundings {
    /// Names are asked of `lookup`.
    #[must_use]
    pub fn new(lookup: Lookup, log: Log) -> Self {
        Self { resolver: Resolver::new(lookup), log }
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
        roster: Roster::new(&group.endpoints, &group.members.load().usable),
        members: Arc::clone(&group.members),
        changed: Arc::clone(&group.changed),
        tally: Arc::clone(&group.tally),
        sends,
        surroundings,
        failing: Vec::new(),
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
    /// Places of names whose failure was told.
    failing: Vec<usize>,
}

impl Attendant {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        // Ended with this task.
        let mut asking = JoinSet::new();
        for (place, name) in self.roster.names() {
            let (resolver, events) = (self.surroundings.resolver.clone(), self.sends.clone());
            // Without randomness there was no start.
            let Ok(random) = Random::new() else { return };
            asking.spawn_local(resolver.follow(name.to_owned(), place, self.upstream.refresh, events, random));
        }
        while let Some(event) = events.recv().await {
            match event {
                Event::Resolved(place, answer) => self.resolved(place, answer),
            }
        }
    }

    fn resolved(&mut self, place: usize, answer: Result<Vec<IpAddr>, String>) {
        self.tally.count(if answer.is_ok() { Counted::Resolved } else { Counted::Unresolved });
        let is_news = match &answer {
            Ok(addresses) => self.roster.resolved(place, addresses),
            Err(why) => self.roster.unresolved(place, why),
        };
        self.tell_resolved(place, answer.as_ref().err());
        if is_news {
            self.publish();
        }
    }

    fn publish(&self) {
        self.members.store(Arc::new(self.roster.members()));
        self.changed.notify_waiters();
    }

    /// Tells the first of several failures in a row, and their end.
    fn tell_resolved(&mut self, place: usize, failed: Option<&String>) {
        let was_told = self.failing.contains(&place);
        let name = self.roster.name(place);
        let upstream = ("upstream", self.upstream.name.as_str().into());
        let log = &self.surroundings.log;
        match failed {
            Some(why) if !was_told => {
                let more = [upstream, ("name", name.into()), ("cause", Value::Shown(why))];
                log.warn("core.sidecar", None, "the name of an endpoint cannot be resolved; addresses found earlier stay in use", &more);
                self.failing.push(place);
            }
            None if was_told => {
                log.info("core.sidecar", None, "the name of an endpoint can be resolved again", &[upstream, ("name", name.into())]);
                self.failing.retain(|failing| *failing != place);
            }
            _ => {}
        }
    }
}
