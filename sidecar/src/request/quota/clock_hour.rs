//! `api_quota_per_hour`: so many requests in a clock hour of UTC.
//!
//! Cost: per request; one compare-and-swap on one `AtomicU64`; no lock, no allocation.
//! The word holds the hour and the requests counted in it, so a new hour starts with the request that finds the old one.

use super::cell::{Cell, Empty, Level};
use crate::clock::Now;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests in a clock hour; with 0 nothing passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerHour(pub u32);

const HOUR_MS: u64 = 3_600_000;

/// The cell of a clock hour.
#[derive(Debug)]
pub struct ClockHour(AtomicU64);

/// An hour and what was counted in it.
#[derive(Debug, Clone, Copy)]
struct Counted {
    hour: u32,
    count: u32,
}

impl Counted {
    fn unpack(packed: u64) -> Self {
        Self { hour: (packed >> 32) as u32, count: packed as u32 }
    }

    fn pack(self) -> u64 {
        (u64::from(self.hour) << 32) | u64::from(self.count)
    }

    /// What counts at a moment. A clock that is set back by up to an hour goes on with the hour it came from, or setting it
    /// back would hand out that hour twice; set back farther, it was wrong before, and waiting for that hour could take years.
    fn at(self, now: Now) -> Self {
        let hour = u32::try_from(now.unix_ms / HOUR_MS).unwrap_or(u32::MAX);
        if self.hour == hour || self.hour == hour.saturating_add(1) { self } else { Self { hour, count: 0 } }
    }

    fn until_over(self, now: Now) -> Duration {
        Duration::from_millis((u64::from(self.hour) + 1).saturating_mul(HOUR_MS).saturating_sub(now.unix_ms))
    }
}

/// The hour a request was counted in.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    hour: u32,
}

impl Cell for ClockHour {
    type Allowance = PerHour;
    type Receipt = Receipt;

    fn unused(_: &PerHour) -> Self {
        Self(AtomicU64::new(0))
    }

    fn drained(now: Now, quota: &PerHour) -> Option<Self> {
        let now = Counted { hour: 0, count: 0 }.at(now);
        Some(Self(AtomicU64::new(Counted { count: quota.0, ..now }.pack())))
    }

    fn take(&self, now: Now, quota: &PerHour) -> Result<Receipt, Empty> {
        let mut packed = self.0.load(Ordering::Relaxed);
        loop {
            let counted = Counted::unpack(packed).at(now);
            if counted.count >= quota.0 {
                return Err(Empty { wait: counted.until_over(now) });
            }
            let next = Counted { count: counted.count + 1, ..counted };
            match self.0.compare_exchange_weak(packed, next.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(Receipt { hour: counted.hour }),
                Err(found) => packed = found,
            }
        }
    }

    fn give_back(&self, receipt: Receipt, _: &PerHour) {
        let mut packed = self.0.load(Ordering::Relaxed);
        loop {
            let counted = Counted::unpack(packed);
            if counted.hour != receipt.hour {
                return;
            }
            let next = Counted { count: counted.count.saturating_sub(1), ..counted };
            match self.0.compare_exchange_weak(packed, next.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => packed = found,
            }
        }
    }

    fn peek(&self, now: Now, quota: &PerHour) -> Level {
        let counted = Counted::unpack(self.0.load(Ordering::Relaxed)).at(now);
        Level { remaining: quota.0.saturating_sub(counted.count), reset: counted.until_over(now) }
    }

    fn is_unused(&self, now: Now, _: &PerHour) -> bool {
        Counted::unpack(self.0.load(Ordering::Relaxed)).at(now).count == 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(unix_ms: u64) -> Now {
        Now { mono_ns: 0, unix_ms }
    }

    fn takes(cell: &ClockHour, now: Now, quota: PerHour) -> usize {
        (0..100_000).take_while(|_| cell.take(now, &quota).is_ok()).count()
    }

    const NOON: u64 = 490_000 * HOUR_MS;

    #[test]
    fn an_hour_begins_on_the_hour_whenever_the_first_request_came() {
        let cell = ClockHour::unused(&PerHour(3));
        assert_eq!(takes(&cell, at(NOON + HOUR_MS - 1_500), PerHour(3)), 3);
        assert_eq!(cell.take(at(NOON + HOUR_MS - 1_500), &PerHour(3)).unwrap_err().wait, Duration::from_millis(1_500));
        assert_eq!(takes(&cell, at(NOON + HOUR_MS), PerHour(3)), 3);
    }

    #[test]
    fn another_quota_keeps_what_is_used() {
        let cell = ClockHour::unused(&PerHour(3));
        assert_eq!(takes(&cell, at(NOON), PerHour(3)), 3);
        assert_eq!(takes(&cell, at(NOON), PerHour(5)), 2);
        assert_eq!(takes(&cell, at(NOON), PerHour(4)), 0);
        assert_eq!(takes(&cell, at(NOON), PerHour(0)), 0);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_within_its_hour() {
        let cell = ClockHour::unused(&PerHour(2));
        let receipt = cell.take(at(NOON), &PerHour(2)).unwrap();
        cell.give_back(receipt, &PerHour(2));
        assert_eq!(takes(&cell, at(NOON), PerHour(2)), 2);
        assert_eq!(takes(&cell, at(NOON + HOUR_MS), PerHour(2)), 2);
        cell.give_back(receipt, &PerHour(2));
        assert_eq!(takes(&cell, at(NOON + HOUR_MS), PerHour(2)), 0);
    }

    #[test]
    fn a_clock_set_back_does_not_hand_out_an_hour_twice() {
        let cell = ClockHour::unused(&PerHour(2));
        assert_eq!(takes(&cell, at(NOON), PerHour(2)), 2);
        assert_eq!(takes(&cell, at(NOON - 1), PerHour(2)), 0);
        assert_eq!(cell.take(at(NOON - 1), &PerHour(2)).unwrap_err().wait, Duration::from_millis(HOUR_MS + 1));
    }

    #[test]
    fn a_clock_that_was_wrong_by_years_does_not_close_the_tenant_for_years() {
        let cell = ClockHour::unused(&PerHour(2));
        assert_eq!(takes(&cell, at(NOON + 9_000 * HOUR_MS), PerHour(2)), 2);
        assert_eq!(takes(&cell, at(NOON), PerHour(2)), 2);
    }

    #[test]
    fn threads_together_never_take_more_than_one_would() {
        for _ in 0..20 {
            let cell = ClockHour::unused(&PerHour(1_000));
            let taken: usize = std::thread::scope(|threads| {
                let racing: Vec<_> = (0..4).map(|_| threads.spawn(|| takes(&cell, at(NOON), PerHour(1_000)))).collect();
                racing.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(taken, 1_000);
        }
    }
}
