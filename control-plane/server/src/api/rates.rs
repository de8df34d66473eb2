//! How fast one operator may ask: governor's cells, one of each class an operator. One that asks too fast holds up no other.

use crate::operator::Operator;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::Method;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Writes of one operator a second, and at once.
const WRITES: (u32, u32) = (50, 500);
/// Reads of one operator a second, and at once.
const READS: (u32, u32) = (5_000, 20_000);
/// Failed credentials that the audit trail tells a second, and at once.
const STRANGERS: (u32, u32) = (5, 50);

/// The cells.
pub(super) struct Rates {
    writes: DefaultKeyedRateLimiter<Arc<str>>,
    reads: DefaultKeyedRateLimiter<Arc<str>>,
    strangers: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            writes: RateLimiter::keyed(quota(WRITES)),
            reads: RateLimiter::keyed(quota(READS)),
            strangers: RateLimiter::direct(quota(STRANGERS)),
            clock: DefaultClock::default(),
        }
    }
}

fn quota((a_second, at_once): (u32, u32)) -> Quota {
    let some = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(some(a_second)).allow_burst(some(at_once))
}

impl Rates {
    /// Takes one request out of its operator's rate.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn charge(&self, operator: &Operator, method: &Method) -> Result<(), Duration> {
        let cells = if method.is_safe() { &self.reads } else { &self.writes };
        // The proof, not the name: two tokens of one name are two programs.
        cells.check_key(&operator.proof).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Whether a failed credential goes into the audit trail.
    pub(super) fn may_note_stranger(&self) -> bool {
        self.strangers.check().is_ok()
    }
}
