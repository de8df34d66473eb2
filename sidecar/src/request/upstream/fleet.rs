//! Fleet: the endpoints of every upstream as this process knows them, for the workers to read and the control runtime to write.
//!
//! Cost: per request; nothing where endpoints are addresses and nothing watches them, else one look whether they changed.
//! A group is keyed by the identity of its declaration, which snapshots share while nothing about it changes. Who asks first
//! enters it; one task on the control runtime (`attend.rs`) keeps its endpoints as long as it is declared.

use super::adaptive::{Together, Told};
use super::attend::{self, Event, Surroundings};
use super::breaker::{Line, Places};
use super::resolve;
use super::tally::{Counts, Tally};
use arc_swap::ArcSwap;
use bulkhead_config::name::ServiceName;
use bulkhead_config::snapshot::{Endpoint, Platform, Upstream};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, mpsc};

/// Events that may wait for the task of a group. What finds no place comes again.
const EVENTS_MAX: usize = 256;

/// All groups of this process.
#[derive(Debug)]
pub struct Fleet {
    groups: ArcSwap<Groups>,
    /// An endpoint in place of those that the policy declares for a service.
    instead: Option<(ServiceName, Endpoint)>,
    /// Told when a worker met an upstream first.
    news: Notify,
}

/// By the address of the declaration, which its group keeps alive.
type Groups = HashMap<usize, Arc<Group>, foldhash::fast::FixedState>;

/// One upstream as metrics show it.
#[derive(Debug)]
pub struct Reading {
    /// Its service.
    pub service: String,
    /// Its name.
    pub upstream: String,
    /// Endpoints that requests may go to.
    pub usable: usize,
    /// Endpoints that are left alone for a while.
    pub ejected: usize,
    /// Endpoints that are not well.
    pub unwell: usize,
    /// Adaptive limits of all workers at all of these, where they are declared.
    pub adaptive: Option<Told>,
    /// What happened.
    pub counts: Counts,
}

/// The adaptive limits of all workers at one endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Adapted {
    /// Its service.
    pub service: String,
    /// Its upstream.
    pub upstream: String,
    /// `address:port`.
    pub endpoint: String,
    /// As the workers told of them within the last second.
    pub told: Told,
}

/// Upstreams that metrics show by name.
const READINGS_MAX: usize = 100;
/// Name of the others together.
const OTHER: &str = "other";

impl Reading {
    fn of(group: &Group) -> Self {
        let Upstream { service, name, .. } = &*group.upstream;
        let members = group.members.load();
        let (usable, ejected, unwell) = (members.usable.len(), members.ejected, members.unwell);
        let adaptive = group.adapted().map(|(_, told)| told).reduce(Told::and);
        Self { service: service.to_string(), upstream: name.to_string(), usable, ejected, unwell, adaptive, counts: group.tally.read() }
    }

    fn and(mut self, other: Reading) -> Self {
        self.usable += other.usable;
        self.ejected += other.ejected;
        self.unwell += other.unwell;
        self.adaptive = self.adaptive.into_iter().chain(other.adaptive).reduce(Told::and);
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self
    }
}

/// An upstream as this process knows it.
#[derive(Debug)]
pub struct Group {
    /// What is declared.
    pub upstream: Arc<Upstream>,
    /// What is declared, or stands in its place.
    pub(super) endpoints: Box<[Endpoint]>,
    /// As they are now.
    pub(super) members: Arc<ArcSwap<Members>>,
    /// Told when they changed.
    pub(super) changed: Arc<Notify>,
    pub(super) tally: Arc<Tally>,
    /// Who waits for a place, where places are limited.
    pub(super) line: Option<Arc<Line>>,
    /// The way to the task that keeps them; it ends when the group is gone.
    events: OnceLock<mpsc::Sender<Event>>,
}

/// The endpoints of a group at one moment.
#[derive(Debug, Default)]
pub struct Members {
    /// Those that requests may go to.
    pub usable: Box<[Arc<Member>]>,
    /// Why there are none; absent while their names were not yet resolved.
    pub why_none: Option<Arc<str>>,
    /// How many are left alone for a while.
    pub ejected: usize,
    /// How many are not well.
    pub unwell: usize,
}

/// One endpoint.
#[derive(Debug)]
pub struct Member {
    /// As declared.
    pub endpoint: Endpoint,
    /// Its address; several only of `localhost`, tried in turn.
    pub addresses: Box<[IpAddr]>,
    /// `address:port`, for logs.
    pub authority: Arc<str>,
    /// Failures in a row, where somebody counts them.
    failures: AtomicU32,
    /// Places for requests, where they are limited.
    pub(super) places: Option<Places>,
    /// What its adaptive limits share, where there are some.
    pub(super) together: Together,
}

impl Fleet {
    /// No group yet.
    #[must_use]
    pub fn new(instead: Option<(ServiceName, Endpoint)>) -> Self {
        Self { groups: ArcSwap::default(), instead, news: Notify::new() }
    }

    /// The group of a declaration. The first time it costs a copy of the table.
    #[must_use]
    pub fn of(&self, upstream: &Arc<Upstream>) -> Arc<Group> {
        let key = Arc::as_ptr(upstream).addr();
        if let Some(known) = self.groups.load().get(&key) {
            return Arc::clone(known);
        }
        let new = Arc::new(self.group(upstream));
        let mut kept = Arc::clone(&new);
        self.groups.rcu(|groups| {
            let mut grown = Groups::clone(groups);
            kept = Arc::clone(grown.entry(key).or_insert_with(|| Arc::clone(&new)));
            grown
        });
        if kept.needs_attention() {
            self.news.notify_one();
        }
        kept
    }

    /// Takes care of the groups that a policy declares, and of no others.
    pub fn follow(&self, platform: &Platform, surroundings: &Surroundings) {
        let declared = || platform.services().iter().flat_map(|service| &service.upstreams);
        for group in declared().map(|upstream| self.of(upstream)) {
            group.attend(surroundings);
        }
        let is_declared = |group: &Group| declared().any(|upstream| Arc::ptr_eq(upstream, &group.upstream));
        if self.groups.load().len() > declared().count() {
            self.groups.rcu(|groups| {
                let mut kept = Groups::clone(groups);
                kept.retain(|_, group| is_declared(group));
                kept
            });
        }
    }

    /// What metrics show, by service and name. Beyond a hundred upstreams the others are added up.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let mut all: Vec<Reading> = self.groups.load().values().map(|group| Reading::of(group)).collect();
        all.sort_unstable_by(|a, b| (&a.service, &a.upstream).cmp(&(&b.service, &b.upstream)));
        let others = all.split_off(all.len().min(READINGS_MAX)).into_iter();
        all.extend(others.reduce(Reading::and).map(|sum| Reading { service: OTHER.to_owned(), upstream: OTHER.to_owned(), ..sum }));
        all
    }

    /// Every adaptive limit, by service, upstream and endpoint.
    #[must_use]
    pub fn adapted(&self) -> Vec<Adapted> {
        let of = |group: &Arc<Group>| {
            let [service, upstream] = [group.upstream.service.to_string(), group.upstream.name.to_string()];
            let shown = |(endpoint, told)| Adapted { service: service.clone(), upstream: upstream.clone(), endpoint, told };
            group.adapted().map(shown).collect::<Vec<_>>()
        };
        let mut all: Vec<Adapted> = self.groups.load().values().flat_map(of).collect();
        all.sort_unstable_by(|a, b| (&a.service, &a.upstream, &a.endpoint).cmp(&(&b.service, &b.upstream, &b.endpoint)));
        all
    }

    /// Waits until a worker met an upstream that nobody takes care of.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn group(&self, upstream: &Arc<Upstream>) -> Group {
        let instead = self.instead.as_ref().filter(|(service, _)| *service == upstream.service);
        let endpoints = instead.map_or(upstream.endpoints.as_slice(), |(_, endpoint)| std::slice::from_ref(endpoint));
        Group::new(upstream, endpoints)
    }
}

impl Group {
    pub(super) fn new(upstream: &Arc<Upstream>, endpoints: &[Endpoint]) -> Self {
        let line = upstream.limits.as_ref().map(Line::new);
        let known = endpoints.iter().filter_map(|endpoint| Some(Arc::new(Member::declared(endpoint, line.as_ref())?)));
        let members = Members { usable: known.collect(), ..Members::default() };
        Self {
            upstream: Arc::clone(upstream),
            endpoints: endpoints.into(),
            members: Arc::new(ArcSwap::from_pointee(members)),
            changed: Arc::default(),
            tally: Arc::default(),
            line,
            events: OnceLock::new(),
        }
    }

    /// Whether its endpoints can change: some are names, or they are watched.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        let is_watched = self.upstream.outlier.is_some() || self.upstream.health_check.is_some();
        is_watched || self.endpoints.iter().any(|endpoint| resolve::literal(&endpoint.host).is_none())
    }

    /// Its endpoints with their adaptive limits, where these are declared.
    fn adapted(&self) -> impl Iterator<Item = (String, Told)> {
        let members = self.members.load_full();
        let count = if self.upstream.adaptive_concurrency.is_some() { members.usable.len() } else { 0 };
        (0..count).filter_map(move |at| members.usable.get(at).map(|member| (member.authority.to_string(), member.together.told())))
    }

    /// How a request to one of its endpoints ended, where failures in a row are counted.
    pub(super) fn judge(&self, member: &Arc<Member>, is_good: bool) {
        let Some(outlier) = &self.upstream.outlier else { return };
        if is_good {
            member.forget_failures();
            return;
        }
        let failures = member.failures.fetch_add(1, Ordering::Relaxed) + 1;
        // Again and again while it goes on: whoever was told may have found too many others out.
        if failures.is_multiple_of(u32::from(outlier.failures))
            && let Some(events) = self.events.get()
        {
            let _ = events.try_send(Event::Failing(Arc::clone(member)));
        }
    }

    /// Begins the task that keeps its endpoints, once.
    fn attend(&self, surroundings: &Surroundings) {
        if !self.needs_attention() || self.events.get().is_some() {
            return;
        }
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let sends = sender.downgrade();
        if self.events.set(sender).is_ok() {
            tokio::task::spawn_local(attend::attend(self, sends, events, surroundings.clone()));
        }
    }
}

impl Member {
    /// An endpoint whose address is declared; nothing for a name.
    pub(super) fn declared(endpoint: &Endpoint, line: Option<&Arc<Line>>) -> Option<Self> {
        Some(Self::new(endpoint, resolve::literal(&endpoint.host)?, endpoint.authority(), line))
    }

    /// One address of a name.
    pub(super) fn resolved(endpoint: &Endpoint, address: IpAddr, line: Option<&Arc<Line>>) -> Self {
        Self::new(endpoint, [address].into(), SocketAddr::new(address, endpoint.port).to_string(), line)
    }

    fn new(endpoint: &Endpoint, addresses: Box<[IpAddr]>, authority: String, line: Option<&Arc<Line>>) -> Self {
        let (endpoint, authority, places) = (endpoint.clone(), authority.into(), line.map(Places::new));
        Self { endpoint, addresses, authority, failures: AtomicU32::new(0), places, together: Together::default() }
    }

    /// It serves, or is given another chance. What others write all the time is only read where there is nothing to forget.
    pub(super) fn forget_failures(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests {
    use super::*;
    use bulkhead_config::snapshot::{Protocol, UpstreamTls};
    use std::time::Duration;

    /// An upstream with these endpoints, and everything else as it is left out.
    pub(crate) fn upstream(name: &str, endpoints: &[&str]) -> Upstream {
        Upstream {
            service: "demo".parse().unwrap(),
            name: name.parse().unwrap(),
            endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
            tls: UpstreamTls::default(),
            protocol: Protocol::Auto,
            refresh: Duration::from_secs(5),
            retry: None,
            outlier: None,
            health_check: None,
            limits: None,
            adaptive_concurrency: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            stream_idle_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn who_asks_first_enters_a_group_and_everybody_gets_the_same() {
        let (fleet, upstream) = (Fleet::new(None), Arc::new(upstream("app", &["http://127.0.0.1:1", "http://app.internal:1"])));
        let first = fleet.of(&upstream);
        assert!(Arc::ptr_eq(&first, &fleet.of(&upstream)) && first.needs_attention());
        assert_eq!(first.members.load().usable.len(), 1, "the name is not resolved yet");
    }
}
