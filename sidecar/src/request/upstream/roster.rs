//! Roster: what is known of each endpoint of a group, and which of them requests may go to. Pure: no clock, no task, no socket.
//!
//! Cost: none per request.

use super::fleet::{Member, Members};
use bulkhead_config::snapshot::Endpoint;
use std::net::IpAddr;
use std::sync::Arc;

/// The endpoints of one group, by place of the declaration.
#[derive(Debug)]
pub(super) struct Roster {
    declared: Box<[Declared]>,
}

/// One declared endpoint, and what it stands for.
#[derive(Debug)]
struct Declared {
    endpoint: Endpoint,
    members: Vec<Arc<Member>>,
    /// Why its name was never resolved.
    why_none: Option<Arc<str>>,
}

impl Roster {
    /// What needs no resolver is known from the start; `known` are the members of the group, which stay the same ones.
    pub(super) fn new(endpoints: &[Endpoint], known: &[Arc<Member>]) -> Self {
        let declared = |endpoint: &Endpoint| {
            let members = known.iter().filter(|member| member.endpoint == *endpoint).cloned().collect();
            Declared { endpoint: endpoint.clone(), members, why_none: None }
        };
        Self { declared: endpoints.iter().map(declared).collect() }
    }

    /// Names, with their places.
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
        let known = |address: &IpAddr| declared.members.iter().find(|member| *member.addresses == [*address]);
        let is_same = declared.members.len() == addresses.len() && addresses.iter().all(|address| known(address).is_some());
        if is_same {
            return false;
        }
        let member = |address: &IpAddr| known(address).map_or_else(|| Arc::new(Member::resolved(&declared.endpoint, *address)), Arc::clone);
        declared.members = addresses.iter().map(member).collect();
        true
    }

    /// The name at `place` could not be resolved. Whether that leaves it without an address.
    pub(super) fn unresolved(&mut self, place: usize, why: &str) -> bool {
        let unknown = self.declared.get_mut(place).filter(|declared| declared.members.is_empty());
        unknown.map(|declared| declared.why_none = Some(format!("{}: {why}", declared.endpoint.host).into())).is_some()
    }

    /// Those that requests may go to.
    pub(super) fn members(&self) -> Members {
        let usable = self.declared.iter().flat_map(|declared| declared.members.iter().cloned()).collect();
        // While one name is still asked for, there may be an address yet.
        let all_failed = self.declared.iter().all(|declared| declared.why_none.is_some());
        let why_none = self.declared.iter().find_map(|declared| declared.why_none.clone()).filter(|_| all_failed);
        Members { usable, why_none }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn roster(endpoints: &[&str]) -> Roster {
        let endpoints: Vec<Endpoint> = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        let known: Vec<_> = endpoints.iter().filter_map(|endpoint| Some(Arc::new(Member::declared(endpoint)?))).collect();
        Roster::new(&endpoints, &known)
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
}
