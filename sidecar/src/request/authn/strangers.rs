//! Strangers: who keeps failing must not buy a verification each time.
//!
//! Cost: per credential that is not remembered; one hash and two atomics. No lock, no allocation after the start, 128 KiB.
//! Failures that cost a verification are counted per source and named tenant: 200 a second, 1,000 at once, since many users
//! may share a gateway's address. Above that, credentials from there that are not remembered are refused unverified.
//! The counts are GCRA cells of ours, and no table of sources: whoever has a block of IPv6 addresses could fill any table. A
//! source has a cell in each of two rows, found by a keyed hash, and waits only when both are used up (a count-min sketch). So
//! an innocent source waits with a failing one once in four million times, and then only for a token that is not remembered.
//! governor was the plan; it cannot look without taking, so good tokens would count as failures, and its store has no bound.

use crate::clock::Now;
use crate::connection::network::Network;
use crate::request::quota::cell::Cell;
use crate::request::quota::rate::{Gcra, Rate};
use bulkhead_config::name::TenantId;
use bulkhead_config::unit::PerPeriod;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Who failed how often. One per process.
#[derive(Debug)]
pub struct Strangers {
    rows: [Box<[Gcra]>; 2],
    hasher: foldhash::quality::RandomState,
    rate: Rate,
}

/// Cells of a row.
const CELLS: usize = 2_048;
/// Failures a second.
const RATE: u32 = 200;
/// Failures at once.
const BURST: u32 = 1_000;
/// `Retry-After` has no fractions.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Strangers {
    /// Nobody failed yet.
    #[must_use]
    pub fn new() -> Self {
        let count = NonZeroU32::new(RATE).unwrap_or(NonZeroU32::MIN);
        let rate = Rate::new(PerPeriod { count, period: Duration::from_secs(1) }, BURST);
        let row = || (0..CELLS).map(|_| Gcra::unused(&rate)).collect();
        Self { rows: [row(), row()], hasher: foldhash::quality::RandomState::default(), rate }
    }

    /// How long credentials of a source that are not remembered have to wait; `None`: not at all.
    pub(super) fn must_wait(&self, source: IpAddr, named: Option<&TenantId>, now: Now) -> Option<Duration> {
        let is_used_up = self.cells(source, named).iter().all(|cell| cell.peek(now, &self.rate).remaining == 0);
        is_used_up.then_some(RETRY_AFTER)
    }

    /// A verification failed.
    pub(super) fn failed(&self, source: IpAddr, named: Option<&TenantId>, now: Now) {
        for cell in self.cells(source, named) {
            // A cell of which nothing is left says so already.
            let _ = cell.take(now, &self.rate);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is smaller than its divisor")]
    fn cells(&self, source: IpAddr, named: Option<&TenantId>) -> [&Gcra; 2] {
        let mut hasher = self.hasher.build_hasher();
        Network::of(source).hash(&mut hasher);
        named.hash(&mut hasher);
        let hash = hasher.finish();
        let [first, second] = &self.rows;
        [&first[hash as u32 as usize % CELLS], &second[(hash >> 32) as usize % CELLS]]
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new()
    }
}
