//! `rate: 200/s, burst: 400`: a steady rate with a burst, as the generic cell rate algorithm (GCRA, ITU-T I.371) counts it.
//!
//! Cost: per request; one compare-and-swap on one `AtomicU64`; no lock, no allocation.
//! The word holds the moment at which nothing of the burst would be used any more (the theoretical arrival time). It counts
//! requests in nanoseconds, so it means nothing without the rate it was written with. When the declared rate changes, the
//! backlog is converted: five used requests stay five. Kept as time, a change from 10/s to 1/m would refill every burst.
//! One bit of the word says which of two increments it counts in, so a word and its scale are replaced at once, and no thread
//! reads one with the other's meaning.

use super::cell::{Cell, Empty, Level};
use crate::clock::Now;
use bulkhead_config::declared::Counted;
use bulkhead_config::unit::PerPeriod;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The declared numbers of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one request stands for.
    increment_ns: u64,
    /// How many may come at once.
    burst: u32,
}

/// Backlogs end here, 73 years: far from overflow, and longer than a process lives. A burst that would take longer to refill
/// is cut, never extended.
const HORIZON_NS: u64 = 1 << 61;

impl Rate {
    /// Numbers as declared. What does not divide is rounded against the caller: at 3/s a request stands for 333,333,334 ns.
    #[must_use]
    pub fn new(rate: PerPeriod, burst: u32) -> Self {
        let period_ns = u64::try_from(rate.period.as_nanos()).unwrap_or(HORIZON_NS).min(HORIZON_NS);
        Self { increment_ns: period_ns.div_ceil(u64::from(rate.count.get())).max(1), burst }
    }

    /// The numbers of a limit, if it counts this way.
    pub(super) fn declared(counted: &Counted) -> Option<Self> {
        match *counted {
            Counted::Rate { rate, burst } => Some(Self::new(rate, burst)),
            Counted::Sliding { .. } | Counted::Concurrent { .. } => None,
        }
    }

    /// How many may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Time in which an exhausted burst is whole again.
    #[must_use]
    pub fn refill(&self) -> Duration {
        Duration::from_nanos(self.tolerance(self.increment_ns))
    }

    /// Backlog at which nothing is left.
    fn tolerance(&self, increment_ns: u64) -> u64 {
        increment_ns.saturating_mul(u64::from(self.burst)).min(HORIZON_NS)
    }
}

/// The cell of a rate.
#[derive(Debug)]
pub struct Gcra {
    word: AtomicU64,
    /// Nanoseconds a request, by [`Word::scale`]. Only the one the word does not point to is ever written.
    increments: [AtomicU64; 2],
    /// Held while the scale changes. Who does not get it goes on with the scale it finds: nobody waits.
    changing: AtomicBool,
}

/// What the word means.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// When nothing would be used any more.
    arrival_ns: u64,
    /// Place in [`Gcra::increments`].
    scale: usize,
}

impl Word {
    fn unpack(packed: u64) -> Self {
        Self { arrival_ns: packed >> 1, scale: usize::from(packed & 1 == 1) }
    }

    fn pack(self) -> u64 {
        (self.arrival_ns.min(u64::MAX >> 1) << 1) | u64::from(self.scale == 1)
    }

    fn backlog(self, now: Now) -> u64 {
        self.arrival_ns.saturating_sub(now.mono_ns)
    }
}

impl Gcra {
    fn increment(&self, word: Word) -> u64 {
        let [first, second] = &self.increments;
        if word.scale == 0 { first } else { second }.load(Ordering::Relaxed)
    }

    fn read(&self) -> (u64, Word, u64) {
        // Acquire: the increment that the word points to was written before the word was.
        let packed = self.word.load(Ordering::Acquire);
        let word = Word::unpack(packed);
        (packed, word, self.increment(word))
    }

    fn swap(&self, packed: u64, next: Word) -> bool {
        self.word.compare_exchange_weak(packed, next.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Converts the backlog to another rate.
    #[cold]
    fn change(&self, now: Now, increment_ns: u64) {
        if self.changing.swap(true, Ordering::Acquire) {
            return;
        }
        loop {
            let (packed, word, old_ns) = self.read();
            if old_ns == increment_ns {
                break;
            }
            let scale = 1 - word.scale;
            let [first, second] = &self.increments;
            if scale == 0 { first } else { second }.store(increment_ns, Ordering::Relaxed);
            let backlog = u128::from(word.backlog(now)) * u128::from(increment_ns);
            let backlog_ns = u64::try_from(backlog.div_ceil(u128::from(old_ns))).unwrap_or(HORIZON_NS).min(HORIZON_NS);
            if self.swap(packed, Word { arrival_ns: now.mono_ns.saturating_add(backlog_ns), scale }) {
                break;
            }
        }
        self.changing.store(false, Ordering::Release);
    }
}

impl Cell for Gcra {
    type Allowance = Rate;
    type Receipt = ();

    fn unused(rate: &Rate) -> Self {
        let increments = [AtomicU64::new(rate.increment_ns), AtomicU64::new(rate.increment_ns)];
        Self { word: AtomicU64::new(0), increments, changing: AtomicBool::new(false) }
    }

    fn drained(now: Now, rate: &Rate) -> Option<Self> {
        let cell = Self::unused(rate);
        let arrival_ns = now.mono_ns.saturating_add(rate.tolerance(rate.increment_ns));
        cell.word.store(Word { arrival_ns, scale: 0 }.pack(), Ordering::Relaxed);
        Some(cell)
    }

    fn take(&self, now: Now, rate: &Rate) -> Result<(), Empty> {
        let (mut packed, mut word, mut increment_ns) = self.read();
        if increment_ns != rate.increment_ns {
            self.change(now, rate.increment_ns);
            (packed, word, increment_ns) = self.read();
        }
        loop {
            let backlog = word.backlog(now).saturating_add(increment_ns);
            let over = backlog.saturating_sub(rate.tolerance(increment_ns));
            if over > 0 {
                return Err(Empty { wait: Duration::from_nanos(over) });
            }
            if self.swap(packed, Word { arrival_ns: now.mono_ns.saturating_add(backlog), ..word }) {
                return Ok(());
            }
            (packed, word, increment_ns) = self.read();
        }
    }

    fn give_back(&self, (): (), _: &Rate) {
        loop {
            let (packed, word, increment_ns) = self.read();
            if self.swap(packed, Word { arrival_ns: word.arrival_ns.saturating_sub(increment_ns), ..word }) {
                return;
            }
        }
    }

    fn peek(&self, now: Now, rate: &Rate) -> Level {
        let (_, word, increment_ns) = self.read();
        let (backlog, tolerance) = (word.backlog(now), rate.tolerance(increment_ns));
        let remaining = tolerance.saturating_sub(backlog) / increment_ns;
        let at_next = tolerance.saturating_sub((remaining + 1).saturating_mul(increment_ns));
        Level {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(if backlog == 0 { 0 } else { backlog.saturating_sub(at_next) }),
        }
    }

    fn is_unused(&self, now: Now, _: &Rate) -> bool {
        self.read().1.backlog(now) == 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use governor::{Quota, RateLimiter};
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn at(mono_ns: u64) -> Now {
        Now { mono_ns, unix_ms: 0 }
    }

    fn rate(written: &str, burst: u32) -> Rate {
        Rate::new(written.parse().unwrap(), burst)
    }

    fn takes(cell: &Gcra, now: Now, rate: &Rate) -> u32 {
        (0..100_000).take_while(|_| cell.take(now, rate).is_ok()).count().try_into().unwrap()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = rate("10/s", 4);
        let cell = Gcra::unused(&rate);
        assert_eq!(takes(&cell, at(0), &rate), 4);
        assert_eq!(cell.take(at(0), &rate), Err(Empty { wait: Duration::from_millis(100) }));
        assert_eq!(takes(&cell, at(99_999_999), &rate), 0);
        assert_eq!(takes(&cell, at(100_000_000), &rate), 1);
        assert_eq!(takes(&cell, at(350_000_000), &rate), 2);
        assert_eq!(takes(&cell, at(60_000_000_000), &rate), 4);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let rate = rate("1/m", 3);
        let cell = Gcra::unused(&rate);
        assert_eq!(takes(&cell, at(5), &rate), 3);
        cell.give_back((), &rate);
        cell.give_back((), &rate);
        assert_eq!(takes(&cell, at(5), &rate), 2);
    }

    #[test]
    fn a_look_says_what_can_be_taken_and_when_there_is_more() {
        let rate = rate("10/s", 4);
        let cell = Gcra::unused(&rate);
        assert_eq!(cell.peek(at(7), &rate), Level { remaining: 4, reset: Duration::ZERO });
        cell.take(at(7), &rate).unwrap();
        assert_eq!(cell.peek(at(7), &rate), Level { remaining: 3, reset: Duration::from_millis(100) });
        takes(&cell, at(7), &rate);
        assert_eq!(cell.peek(at(50_000_007), &rate), Level { remaining: 0, reset: Duration::from_millis(50) });
    }

    #[test]
    fn another_rate_is_in_force_at_once_and_keeps_the_number_of_used_requests() {
        for (before, after) in [("10/s", "1/m"), ("1/m", "10/s"), ("3/s", "7/h"), ("1/d", "1000000/s")] {
            let (before, after) = (rate(before, 10), rate(after, 10));
            let cell = Gcra::unused(&before);
            for _ in 0..7 {
                cell.take(at(1_000), &before).unwrap();
            }
            assert_eq!(takes(&cell, at(1_000), &after), 3);
            assert_eq!(takes(&cell, at(999 + after.increment_ns), &after), 0);
            assert_eq!(takes(&cell, at(1_000 + 2 * after.increment_ns), &after), 2, "it fills at the new rate");
        }
    }

    #[test]
    fn another_burst_is_in_force_at_once() {
        let (small, large) = (rate("1/m", 5), rate("1/m", 8));
        let cell = Gcra::unused(&small);
        assert_eq!(takes(&cell, at(0), &small), 5);
        assert_eq!(takes(&cell, at(0), &large), 3);
        assert_eq!(takes(&cell, at(0), &small), 0);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let rate = rate("10/s", 4);
        let cell = Gcra::unused(&rate);
        assert_eq!(takes(&cell, at(10_000_000_000), &rate), 4);
        assert_eq!(takes(&cell, at(0), &rate), 0);
        assert_eq!(takes(&cell, at(10_100_000_000), &rate), 1);
    }

    #[test]
    fn a_drained_cell_fills_at_its_rate() {
        let rate = rate("10/s", 4);
        let cell = Gcra::drained(at(1_000), &rate).unwrap();
        assert_eq!(takes(&cell, at(1_000), &rate), 0);
        assert_eq!(takes(&cell, at(200_001_000), &rate), 2);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let rate = rate("1/d", u32::MAX);
        let cell = Gcra::unused(&rate);
        assert!(cell.take(at(u64::MAX >> 3), &rate).is_ok());
        assert!(cell.peek(at(u64::MAX >> 3), &rate).remaining > 10_000);
    }

    #[test]
    fn threads_together_never_take_more_than_one_would() {
        let rate = rate("1/h", 1_000);
        for _ in 0..20 {
            let cell = Gcra::unused(&rate);
            let taken: u32 = std::thread::scope(|threads| {
                let racing: Vec<_> = (0..4).map(|_| threads.spawn(|| takes(&cell, at(1), &rate))).collect();
                racing.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(taken, 1_000);
        }
    }

    #[test]
    fn threads_with_old_and_new_numbers_never_take_more_than_the_larger_allows() {
        let (old, new) = (rate("1000/h", 500), rate("1/h", 500));
        for _ in 0..50 {
            let cell = Gcra::unused(&old);
            let taken: u32 = std::thread::scope(|threads| {
                let racing: Vec<_> = [old, new, old, new]
                    .map(|rate| {
                        threads.spawn({
                            let cell = &cell;
                            move || takes(cell, at(1), &rate)
                        })
                    })
                    .into();
                racing.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert!(taken <= 500, "{taken}");
            assert_eq!(taken + takes(&cell, at(1), &old), 500, "what a race refused can be taken now");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_oracle(
            count in 1_u32..5_000,
            unit in prop::sample::select(vec!["s", "m", "h"]),
            burst in 1_u32..50,
            steps in prop::collection::vec((0_u64..3_000_000_000, 1_usize..60), 1..40),
        ) {
            let declared: PerPeriod = format!("{count}/{unit}").parse().unwrap();
            let rate = Rate::new(declared, burst);
            let clock = FakeRelativeClock::default();
            let quota = Quota::with_period(declared.period / declared.count.get()).unwrap().allow_burst(NonZeroU32::new(burst).unwrap());
            let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
            let cell = Gcra::unused(&rate);
            let (mut now, mut ours, mut theirs) = (0, 0_u64, 0_u64);
            for (pause_ns, requests) in steps {
                now += pause_ns;
                clock.advance(Duration::from_nanos(pause_ns));
                for _ in 0..requests {
                    ours += u64::from(cell.take(at(now), &rate).is_ok());
                    theirs += u64::from(oracle.check().is_ok());
                    prop_assert!(ours <= theirs);
                }
            }
            if declared.period.as_nanos().is_multiple_of(u128::from(count)) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
