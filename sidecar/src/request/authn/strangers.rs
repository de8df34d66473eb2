//! Strangers: who keeps failing must not buy a verification each time.
//!
//! Cost: per credential that is not remembered; one hash and one atomic. No lock, no allocation after the start, 32 KiB.
//! Failures that cost a verification are counted per source and named tenant: 200 a second, 1,000 at once, since many users
//! may share a gateway's address. Above that, credentials from there that are not remembered are refused unverified.
//! The counts are GCRA cells of ours in a table of fixed size, found by a keyed hash. governor was the plan, but it has no
//! look without taking, so good tokens would count as failures; and its keyed store locks and has no bound, which is what a
//! stranger with an IPv6 block of addresses needs. Two sources that share a cell are both limited when either fails
//! too often, which costs the innocent one a second's wait for a token that is not remembered.

use crate::clock::Now;
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
    cells: Box<[Gcra]>,
    hasher: foldhash::quality::RandomState,
    rate: Rate,
}

const CELLS: usize = 1_024;
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
        Self { cells: (0..CELLS).map(|_| Gcra::unused(&rate)).collect(), hasher: foldhash::quality::RandomState::default(), rate }
    }

    /// How long credentials of a source that are not remembered have to wait; `None`: not at all.
    pub(super) fn must_wait(&self, source: IpAddr, named: Option<&TenantId>, now: Now) -> Option<Duration> {
        (self.cell(source, named).peek(now, &self.rate).remaining == 0).then_some(RETRY_AFTER)
    }

    /// A verification failed.
    pub(super) fn failed(&self, source: IpAddr, named: Option<&TenantId>, now: Now) {
        // When nothing is left, the source has to wait already.
        let _ = self.cell(source, named).take(now, &self.rate);
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is smaller than its divisor")]
    fn cell(&self, source: IpAddr, named: Option<&TenantId>) -> &Gcra {
        let mut hasher = self.hasher.build_hasher();
        network(source).hash(&mut hasher);
        named.hash(&mut hasher);
        &self.cells[hasher.finish() as usize % self.cells.len()]
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new()
    }
}

/// What one stranger controls: an IPv4 address, or 64 bits of IPv6, the least that is handed out.
fn network(source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}
