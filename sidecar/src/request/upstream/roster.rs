//! Roster: what is known of each endpoint of a group, and which of them requests may go to. Pure: no clock, no task, no socket.
//!
//! Cost: none per request.

use super::breaker::Line;
use super::fleet::{Member, Members};
use super::health::Answers;
use super::outlier::Ejections;
use crate::clock::Now;
use bulkhead_config::snapshot::{Endpoint, HealthCheck, Outlier};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The endpoints of one group, by place of the declaration.
#[derive(Debug)]
pub(super) struct Roster {
    declared: Box<[Declared]>,
    /// Who waits for a place, where places are limited.
    line: Option<Arc<Line>>,
}

/// One declared endpoint, and what it stands for.
#[derive(Debug)]
struct Declared {
    endpoint: Endpoint,
    members: Vec<Known>,
    /// Why its name was never resolved.
    why_none: Option<Arc<str>>,
}

/// What is known of one endpoint.
#[derive(Debug)]
struct Known {
    member: Arc<Member>,
    ejections: Ejections,
    answers: Answers,
}

impl Known {
    fn new(member: Arc<Member>) -> Self {
        Self { member, ejections: Ejections::default(), answers: Answers::default() }
    }

    fn is_out(&self) -> bool {
        self.ejections.is_out() || self.answers.is_unwell()
    }
}

impl Roster {
    /// What needs no resolver is known from the start; `known` are the members of the group, which stay the same ones.
    pub(super) fn new(endpoints: &[Endpoint], known: &[Arc<Member>], line: Option<Arc<Line>>) -> Self {
        let declared = |endpoint: &Endpoint| {
            let members = known.iter().filter(|member| member.endpoint == *endpoint).cloned().map(Known::new).collect();
            Declared { endpoint: endpoint.clone(), members, why_none: None }
        };
        Self { declared: endpoints.iter().map(declared).collect(), line }
    }

    /// Names, with their places, as long as none is resolved.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        let unknown = self.declared.iter().enumerate().filter(|(_, declared)| declared.members.is_empty());
        unknown.map(|(place, declared)| (place, &*declared.endpoint.host))
    }

    /// The name at `place`.
    pub(super) fn name(&self, place: usize) -> &str {
        self.declared.get(place).map_or("", |declared| &declared.endpoint.host)
    }

    /// The name at `place` has these addresses. Whether that is news.
    pub(super) fn resolved(&mut self, place: usize, addresses: &[IpAddr]) -> bool {
        let Some(declared) = self.declared.get_mut(place) else { return false };
        declared.why_none = None;
        let is_known = |address: &IpAddr| declared.members.iter().any(|known| *known.member.addresses == [*address]);
        if declared.members.len() == addresses.len() && addresses.iter().all(is_known) {
            return false;
        }
        let mut before = std::mem::take(&mut declared.members);
        for address in addresses {
            let known = before.iter().position(|known| *known.member.addresses == [*address]).map(|at| before.swap_remove(at));
            let new = || Known::new(Arc::new(Member::resolved(&declared.endpoint, *address, self.line.as_ref())));
            declared.members.push(known.unwrap_or_else(new));
        }
        true
    }

    /// The name at `place` could not be resolved. Whether that leaves it without an address.
    pub(super) fn unresolved(&mut self, place: usize, why: &str) -> bool {
        let unknown = self.declared.get_mut(place).filter(|declared| declared.members.is_empty());
        unknown.map(|declared| declared.why_none = Some(format!("{}: {why}", declared.endpoint.host).into())).is_some()
    }

    /// An endpoint failed again and again. For how long it is left alone; not at all where it is already, or too many others are.
    pub(super) fn failing(&mut self, member: &Arc<Member>, outlier: &Outlier, now: Now) -> Option<Duration> {
        let all = self.all().count();
        let ejected = self.all().filter(|known| known.ejections.is_out()).count();
        let may = (ejected + 1) * 100 <= all * usize::from(outlier.ejected_max_percent);
        let known = self.known(member).filter(|known| may && !known.ejections.is_out())?;
        Some(known.ejections.eject(outlier, now))
    }

    /// When the next ejection ends.
    pub(super) fn due(&self) -> Option<Now> {
        self.all().filter_map(|known| known.ejections.until()).min()
    }

    /// Ends ejections whose time is over. Whose.
    pub(super) fn readmit(&mut self, now: Now) -> Vec<Arc<Member>> {
        let all = self.declared.iter_mut().flat_map(|declared| &mut declared.members);
        all.filter_map(|known| known.ejections.end(now).then(|| Arc::clone(&known.member))).collect()
    }

    /// An endpoint was asked whether it is well. Whether that changes what it is taken for.
    pub(super) fn answered(&mut self, member: &Arc<Member>, check: &HealthCheck, is_good: bool) -> bool {
        self.known(member).is_some_and(|known| known.answers.take(check, is_good))
    }

    /// Every endpoint, in or out.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.all().map(|known| &known.member)
    }

    /// Those that requests may go to. Where more than half are out everybody is: then it is more likely that what they have in
    /// common fails, and the few that are left would go down under the load of all.
    pub(super) fn members(&self) -> Members {
        let out = self.all().filter(|known| known.is_out()).count();
        let is_panic = out * 2 > self.all().count();
        let usable = self.all().filter(|known| is_panic || !known.is_out()).map(|known| Arc::clone(&known.member)).collect();
        let ejected = self.all().filter(|known| known.ejections.is_out()).count();
        let unwell = self.all().filter(|known| known.answers.is_unwell()).count();
        // While one name is still asked for, there may be an address yet.
        let all_failed = self.declared.iter().all(|declared| declared.why_none.is_some());
        let why_none = self.declared.iter().find_map(|declared| declared.why_none.clone()).filter(|_| all_failed);
        Members { usable, why_none, ejected, unwell }
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        self.declared.iter().flat_map(|declared| &declared.members)
    }

    fn known(&mut self, member: &Arc<Member>) -> Option<&mut Known> {
        let mut all = self.declared.iter_mut().flat_map(|declared| &mut declared.members);
        all.find(|known| Arc::ptr_eq(&known.member, member))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::snapshot::Question;

    fn roster(endpoints: &[&str]) -> Roster {
        let endpoints: Vec<Endpoint> = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        let known: Vec<_> = endpoints.iter().filter_map(|endpoint| Some(Arc::new(Member::declared(endpoint, None)?))).collect();
        Roster::new(&endpoints, &known, None)
    }

    fn shown(roster: &Roster) -> Vec<String> {
        roster.members().usable.iter().map(|member| member.authority.to_string()).collect()
    }

    fn addresses(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
    }

    #[test]
    fn every_address_of_a_name_is_an_endpoint_and_stays_the_same_one() {
        let mut roster = roster(&["http://127.0.0.1:80", "http://app.internal:81", "http://[::1]:80"]);
        assert_eq!(roster.names().collect::<Vec<_>>(), [(1, "app.internal")]);
        assert_eq!(shown(&roster), ["127.0.0.1:80", "[::1]:80"]);
        assert!(roster.resolved(1, &addresses(&[1, 2])));
        assert_eq!(shown(&roster), ["127.0.0.1:80", "192.0.2.1:81", "192.0.2.2:81", "[::1]:80"]);
        assert!(!roster.resolved(1, &addresses(&[2, 1])), "another order is no news");
        let before = roster.members();
        assert!(roster.resolved(1, &addresses(&[2, 3])));
        let after = roster.members();
        let same = |authority: &str| {
            let of = |members: &Members| members.usable.iter().find(|member| &*member.authority == authority).cloned().unwrap();
            Arc::ptr_eq(&of(&before), &of(&after))
        };
        assert!(same("192.0.2.2:81") && same("127.0.0.1:80"));
        assert_eq!(shown(&roster), ["127.0.0.1:80", "192.0.2.2:81", "192.0.2.3:81", "[::1]:80"]);
    }

    #[test]
    fn a_failure_takes_no_address_away_and_is_the_reason_only_where_all_names_failed() {
        let mut roster = roster(&["http://a.internal:80", "http://b.internal:80"]);
        assert!(roster.members().why_none.is_none(), "not asked yet");
        assert!(roster.unresolved(0, "no such name"));
        assert!(roster.members().why_none.is_none(), "the other one is still asked for");
        assert!(roster.unresolved(1, "no such name"));
        assert_eq!(roster.members().why_none.as_deref(), Some("a.internal: no such name"));
        assert!(roster.resolved(0, &addresses(&[1])));
        assert!(!roster.unresolved(0, "no such name"));
        assert_eq!(shown(&roster), ["192.0.2.1:80"]);
    }

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, unix_ms: 0 }
    }

    /// So many endpoints, of which half may be ejected, for ten seconds at first.
    fn watched(count: usize) -> (Roster, Vec<Arc<Member>>, Outlier) {
        let endpoints: Vec<String> = (1..=count).map(|port| format!("http://127.0.0.1:{port}")).collect();
        let roster = roster(&endpoints.iter().map(String::as_str).collect::<Vec<_>>());
        let members = roster.everybody().cloned().collect();
        let (ejection_time, ejection_time_max) = (Duration::from_secs(10), Duration::from_secs(60));
        (roster, members, Outlier { failures: 5, ejection_time, ejection_time_max, ejected_max_percent: 50 })
    }

    #[test]
    fn who_fails_is_out_for_a_while_and_then_in_again() {
        let (mut roster, members, outlier) = watched(3);
        let [first, second, _] = members.as_slice() else { unreachable!() };
        assert_eq!(roster.failing(first, &outlier, at(0)), Some(Duration::from_secs(10)));
        assert_eq!(roster.failing(first, &outlier, at(1)), None, "it is out already");
        assert_eq!(roster.failing(second, &outlier, at(1)), None, "two of three are more than half");
        assert_eq!(shown(&roster), ["127.0.0.1:2", "127.0.0.1:3"]);
        assert_eq!(roster.due(), Some(at(0).after(Duration::from_secs(10))));
        assert!(roster.readmit(at(9)).is_empty());
        assert_eq!(roster.readmit(at(10)).len(), 1);
        assert_eq!((shown(&roster).len(), roster.due()), (3, None));
        assert_eq!(roster.failing(first, &outlier, at(11)), Some(Duration::from_secs(20)), "longer each time");
    }

    #[test]
    fn the_only_endpoint_is_never_ejected() {
        let (mut roster, members, outlier) = watched(1);
        assert_eq!(roster.failing(members.first().unwrap(), &outlier, at(0)), None);
    }

    #[test]
    fn where_more_than_half_are_out_everybody_is_used() {
        let (mut roster, members, outlier) = watched(4);
        let second = Duration::from_secs(1);
        let check = HealthCheck { question: Question::Get("/".to_owned()), interval: second, timeout: second, healthy: 1, unhealthy: 1 };
        let [first, second, third, fourth] = members.as_slice() else { unreachable!() };
        assert!(roster.answered(first, &check, false));
        assert!(roster.failing(second, &outlier, at(0)).is_some());
        assert_eq!(shown(&roster), ["127.0.0.1:3", "127.0.0.1:4"]);
        assert!(roster.answered(third, &check, false));
        let members = roster.members();
        assert_eq!((members.usable.len(), members.ejected, members.unwell), (4, 1, 2));
        assert!(!roster.answered(fourth, &check, true), "it was well all along");
        assert!(roster.answered(third, &check, true));
        assert_eq!(shown(&roster), ["127.0.0.1:3", "127.0.0.1:4"]);
    }
}
