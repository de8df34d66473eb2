//! When leases end. Only their length is on disk: a store that was away gives each its whole time again, for nobody could keep one alive.

use crate::clock::Clock;
use crate::model::{Lease, LeaseId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time that passes by another clock than the thread waits by, or that a suspended machine slept through, is noticed this late at most.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// When each lease ends, on the clock of the store.
#[derive(Debug)]
pub(super) struct Leases {
    clock: Arc<dyn Clock>,
    ends: BTreeMap<LeaseId, Ends>,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    at: Duration,
    ttl: Duration,
}

impl Leases {
    pub(super) fn new(clock: Arc<dyn Clock>, leases: &[Lease]) -> Self {
        let mut all = Self { clock, ends: BTreeMap::new() };
        for lease in leases {
            all.begin(*lease);
        }
        all
    }

    /// Its time begins, now.
    pub(super) fn begin(&mut self, lease: Lease) {
        self.ends.insert(lease.id, Ends { at: self.clock.now().saturating_add(lease.ttl), ttl: lease.ttl });
    }

    /// Those that the file has are those there are: who is new begins, who is gone has ended, and the others go on.
    pub(super) fn agree_with(&mut self, leases: &[Lease]) {
        self.ends.retain(|id, _| leases.iter().any(|lease| lease.id == *id));
        for lease in leases {
            if !self.ends.contains_key(&lease.id) {
                self.begin(*lease);
            }
        }
    }

    /// Its time begins anew; none when there is no such lease.
    pub(super) fn keep_alive(&mut self, id: LeaseId) -> Option<Lease> {
        let ends = self.ends.get_mut(&id)?;
        ends.at = self.clock.now().saturating_add(ends.ttl);
        Some(Lease { id, ttl: ends.ttl })
    }

    /// It has ended.
    pub(super) fn end(&mut self, id: LeaseId) {
        self.ends.remove(&id);
    }

    /// Those whose time is over. They stay until their end is durable.
    pub(super) fn due(&self) -> Vec<LeaseId> {
        let now = self.clock.now();
        self.ends.iter().filter(|(_, ends)| ends.at <= now).map(|(id, _)| *id).collect()
    }

    /// How long nothing can become due; none when there is no lease.
    pub(super) fn wait(&self) -> Option<Duration> {
        let next = self.ends.values().map(|ends| ends.at).min()?;
        let left = next.saturating_sub(self.clock.now());
        // Those that are due and could not be ended wait as well, or a disk that refuses would be asked without pause.
        Some(if left.is_zero() { LOOK_AGAIN } else { left.min(LOOK_AGAIN) })
    }
}
