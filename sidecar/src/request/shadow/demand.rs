//! Demand: how far beyond a limit requests went, so that a number can be named under which none of them would have been refused.
//!
//! Cost: per request that is over a limit in shadow; a few comparisons.
//! Requests over the limit are counted in spans as long as the limit's own, and of two spans side by side the sum is kept: no span
//! of that length, wherever it begins, can hold more. What conforms to a limit and what was counted here conform together to the
//! limit raised by that sum, for windows as for rates (for a rate, burst and rate are raised alike, so that a burst is whole again
//! after the same time).

use super::super::quota::Kind;
use crate::clock::Now;
use std::time::Duration;

/// Requests beyond one budget of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    span: u64,
    this: u64,
    before: u64,
    most: u64,
}

impl Demand {
    /// The first one.
    #[must_use]
    pub fn begin(kind: &Kind, now: Now) -> Self {
        Self { span: number(kind, now), this: 1, before: 0, most: 1 }
    }

    /// One more.
    pub fn add(&mut self, kind: &Kind, now: Now) {
        let span = number(kind, now);
        match span.checked_sub(self.span) {
            Some(0) | None => self.this += 1,
            Some(1) => (self.before, self.this) = (self.this, 1),
            Some(_) => (self.before, self.this) = (0, 1),
        }
        self.span = self.span.max(span);
        let beside = match kind {
            // Its spans are the limit's own.
            Kind::ClockHour { .. } => 0,
            Kind::Rate { .. } | Kind::Window { .. } | Kind::InFlight { .. } => self.before,
        };
        self.most = self.most.max(self.this + beside);
    }

    /// The most of them in any one span.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.most
    }
}

/// Which span of the limit's length it is.
fn number(kind: &Kind, now: Now) -> u64 {
    let length = match kind {
        Kind::Rate { refill, .. } => *refill,
        Kind::Window { window, .. } => *window,
        Kind::ClockHour { .. } => Duration::from_secs(3_600),
        // Nobody knows how long they would have stayed.
        Kind::InFlight { .. } => Duration::MAX,
    };
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
    now.unix_ms / millis
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(unix_ms: u64) -> Now {
        Now { mono_ns: unix_ms * 1_000_000, unix_ms }
    }

    fn demand(kind: &Kind, times: &[u64]) -> u64 {
        let mut all: Option<Demand> = None;
        for time in times {
            match &mut all {
                None => all = Some(Demand::begin(kind, at(*time))),
                Some(demand) => demand.add(kind, at(*time)),
            }
        }
        all.map_or(0, |demand| demand.most())
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_was_counted(mut times in prop::collection::vec(0_u64..20_000, 0..60)) {
            times.sort_unstable();
            let kind = Kind::Window { requests: 1, window: Duration::from_secs(1) };
            let most = times.iter().map(|begin| times.iter().filter(|time| (*begin..begin + 1_000).contains(time)).count()).max();
            prop_assert!(most.unwrap_or(0) as u64 <= demand(&kind, &times));
        }
    }

    #[test]
    fn hours_of_the_clock_are_counted_apart() {
        let hour = 3_600_000;
        let kind = Kind::ClockHour { requests: 1 };
        assert_eq!(demand(&kind, &[hour - 2, hour - 1, hour, 3 * hour, 3 * hour + 1, 3 * hour + 2]), 3);
    }
}
