//! `requests: 5, window: 1m`: never more than so many in any span of that length.
//!
//! Cost: per request; one compare-and-swap, and a look at up to 64 words where the window is nearly full; no lock, and no
//! allocation but the slots of a cell the first time it needs more than eight.
//! A cell is a set of at most 64 slots that share its requests out among them. A slot admits up to its share, and then again
//! once its latest request has left the window. So no span of the window's length holds more than one share of any slot, and
//! the shares add up to what is declared.
//! Up to 64 requests a share is one, and the cell refuses exactly what a list of all moments would refuse. Beyond, requests
//! of a slot leave together with its latest: at any time at most one share less one (a 64th of the limit) is held longer than
//! need be. A ring of counters for parts of the window would hold back a whole part, and its sum is no single word to swap.
//! Time counts in whole milliseconds, rounded against the caller.

use super::cell::{Cell, Empty, Level};
use crate::clock::Now;
use bulkhead_config::declared::Counted;
use bulkhead_config::unit::Limit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The declared numbers of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    requests: u32,
    window_ms: u64,
}

impl Window {
    /// Numbers as declared; with 0 requests nothing passes.
    #[must_use]
    pub fn new(requests: u32, window: Duration) -> Self {
        // A window of less than a millisecond would be no limit at all.
        Self { requests, window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1) }
    }

    /// The numbers of a limit, if it counts this way.
    pub(super) fn declared(counted: &Counted) -> Option<Self> {
        match *counted {
            Counted::Sliding { requests: Limit::AtMost(requests), window } => Some(Self::new(requests.get(), window)),
            Counted::Sliding { requests: Limit::Closed, window } => Some(Self::new(0, window)),
            Counted::Sliding { requests: Limit::Unlimited, .. } | Counted::Rate { .. } | Counted::Concurrent { .. } => None,
        }
    }

    /// How many requests.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// In any span of this length.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    fn slots(&self) -> usize {
        usize::try_from(self.requests).unwrap_or(SLOTS).min(SLOTS)
    }

    /// Requests that one slot admits. It never shrinks when `requests` grows, so a raised limit needs no second look.
    fn share(&self, slot: usize) -> u32 {
        let slots = SLOTS as u32;
        let share = self.requests / slots + u32::from(slot < (self.requests % slots) as usize);
        share.min(COUNT_MAX)
    }
}

const SLOTS: usize = 64;
/// Slots within the cell; most limits of a user or an address are small.
const NEAR: usize = 8;
const FAR: usize = SLOTS - NEAR;

/// The cell of a window.
#[derive(Debug)]
pub struct Sliding {
    near: [AtomicU64; NEAR],
    far: OnceLock<Box<[AtomicU64; FAR]>>,
    /// Where the latest request went: its slot may have room, and the next one is the oldest.
    latest: AtomicU32,
    /// The largest limit this cell was ever asked to keep. Below it, slots beyond the present ones may still count.
    largest: AtomicU32,
}

/// Requests of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// When the latest came, in milliseconds.
    latest_ms: u64,
    /// How many since the slot was last free.
    count: u32,
}

/// Bits of the count: the 64th part of the largest limit, less one. The rest counts 8.7 years of milliseconds; a process that
/// lives longer refuses.
const COUNT_BITS: u32 = 26;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

impl Slot {
    const FREE: Slot = Slot { latest_ms: 0, count: 0 };

    fn unpack(packed: u64) -> Self {
        Self { latest_ms: packed >> COUNT_BITS, count: packed as u32 & COUNT_MAX }
    }

    fn pack(self) -> u64 {
        if self.count == 0 {
            return 0;
        }
        (self.latest_ms.min(u64::MAX >> COUNT_BITS) << COUNT_BITS) | u64::from(self.count)
    }

    /// Time until the slot is free; zero when it is.
    fn held_ms(self, now: Now, window: &Window) -> u64 {
        if self.count == 0 {
            return 0;
        }
        self.latest_ms.saturating_add(window.window_ms).saturating_sub(now.mono_ns / 1_000_000)
    }

    /// The slot with one more request in it, if it has room.
    fn with_one(self, now: Now, window: &Window, share: u32) -> Option<Slot> {
        let now_ms = now.mono_ns.div_ceil(1_000_000);
        if self.held_ms(now, window) == 0 {
            return (share > 0).then_some(Slot { latest_ms: now_ms, count: 1 });
        }
        (self.count < share).then(|| Slot { latest_ms: self.latest_ms.max(now_ms), count: self.count + 1 })
    }
}

/// Where a request was counted.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    slot: usize,
    at_ms: u64,
}

// Every access that decides is sequentially consistent: `is_over` counts after its own request was entered, so of the threads
// that enter at once, the last one sees all the others.
impl Sliding {
    fn empty() -> Self {
        Self {
            near: std::array::from_fn(|_| AtomicU64::new(0)),
            far: OnceLock::new(),
            latest: AtomicU32::new(0),
            largest: AtomicU32::new(0),
        }
    }

    fn slot(&self, at: usize) -> Option<&AtomicU64> {
        match self.near.get(at) {
            Some(slot) => Some(slot),
            None => self.far.get()?.get(at - NEAR),
        }
    }

    fn all(&self) -> impl Iterator<Item = Slot> {
        let far = self.far.get().map(|far| far.iter()).into_iter().flatten();
        self.near.iter().chain(far).map(|slot| Slot::unpack(slot.load(Ordering::SeqCst)))
    }

    fn used(&self, now: Now, window: &Window) -> u32 {
        self.all().filter(|slot| slot.held_ms(now, window) > 0).fold(0, |sum, slot| sum.saturating_add(slot.count))
    }

    /// Room for every slot of this limit.
    fn widen(&self, window: &Window) {
        if window.slots() > NEAR {
            self.far.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))));
        }
        if self.largest.load(Ordering::Relaxed) < window.requests {
            self.largest.fetch_max(window.requests, Ordering::SeqCst);
        }
    }

    /// Enters one request in a slot, if that has room.
    fn enter(&self, at: usize, now: Now, window: &Window) -> Option<Receipt> {
        let slot = self.slot(at)?;
        let mut packed = slot.load(Ordering::SeqCst);
        loop {
            let next = Slot::unpack(packed).with_one(now, window, window.share(at))?;
            match slot.compare_exchange_weak(packed, next.pack(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(Receipt { slot: at, at_ms: next.latest_ms }),
                Err(found) => packed = found,
            }
        }
    }

    fn is_over(&self, now: Now, window: &Window) -> bool {
        window.requests < self.largest.load(Ordering::SeqCst) && self.used(now, window) > window.requests
    }

    /// Time until fewer than the limit are held; that of a window when none ever are.
    fn empty_for(&self, now: Now, window: &Window) -> Empty {
        let mut held = [(u64::MAX, 0); SLOTS];
        for (place, slot) in held.iter_mut().zip(self.all()) {
            let held_ms = slot.held_ms(now, window);
            if held_ms > 0 {
                *place = (held_ms, slot.count);
            }
        }
        held.sort_unstable();
        let mut left = held.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        let room = held.iter().find(|(_, count)| {
            left = left.saturating_sub(*count);
            left < window.requests
        });
        let wait_ms = room.map_or(window.window_ms, |(held_ms, _)| (*held_ms).min(window.window_ms));
        Empty { wait: Duration::from_millis(wait_ms) }
    }
}

impl Cell for Sliding {
    type Allowance = Window;
    type Receipt = Receipt;

    fn unused(window: &Window) -> Self {
        let cell = Self::empty();
        cell.widen(window);
        cell
    }

    fn drained(now: Now, window: &Window) -> Option<Self> {
        let cell = Self::unused(window);
        for at in 0..window.slots() {
            let full = Slot { latest_ms: now.mono_ns.div_ceil(1_000_000), count: window.share(at) };
            if let Some(slot) = cell.slot(at) {
                slot.store(full.pack(), Ordering::SeqCst);
            }
        }
        Some(cell)
    }

    fn take(&self, now: Now, window: &Window) -> Result<Receipt, Empty> {
        self.widen(window);
        let slots = window.slots();
        let latest = self.latest.load(Ordering::Relaxed) as usize;
        let order = (latest..slots).chain(0..latest.min(slots));
        for at in order {
            let Some(receipt) = self.enter(at, now, window) else { continue };
            if self.is_over(now, window) {
                self.give_back(receipt, window);
                break;
            }
            if at != latest {
                self.latest.store(at as u32, Ordering::Relaxed);
            }
            return Ok(receipt);
        }
        Err(self.empty_for(now, window))
    }

    fn give_back(&self, receipt: Receipt, window: &Window) {
        let Some(slot) = self.slot(receipt.slot) else { return };
        let mut packed = slot.load(Ordering::SeqCst);
        loop {
            let Slot { latest_ms, count } = Slot::unpack(packed);
            // A window later the slot was free and counts other requests.
            if count == 0 || latest_ms >= receipt.at_ms.saturating_add(window.window_ms) {
                return;
            }
            let next = if count == 1 { Slot::FREE } else { Slot { latest_ms, count: count - 1 } };
            match slot.compare_exchange_weak(packed, next.pack(), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(found) => packed = found,
            }
        }
    }

    fn peek(&self, now: Now, window: &Window) -> Level {
        let used = self.used(now, window);
        let reset = if used == 0 { Duration::ZERO } else { self.empty_for(now, window).wait };
        Level { remaining: window.requests.saturating_sub(used), reset }
    }

    fn is_unused(&self, now: Now, window: &Window) -> bool {
        self.used(now, window) == 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * 1_000_000, unix_ms: 0 }
    }

    fn window(requests: u32, ms: u64) -> Window {
        Window::new(requests, Duration::from_millis(ms))
    }

    fn takes(cell: &Sliding, now: Now, window: &Window) -> u32 {
        (0..100_000).take_while(|_| cell.take(now, window).is_ok()).count().try_into().unwrap()
    }

    #[test]
    fn no_span_holds_more_than_the_limit() {
        let five = window(5, 60_000);
        let cell = Sliding::unused(&five);
        assert!(cell.take(at(0), &five).is_ok());
        assert_eq!(takes(&cell, at(30_000), &five), 4);
        assert_eq!(cell.take(at(59_999), &five).unwrap_err(), Empty { wait: Duration::from_millis(1) });
        assert_eq!(takes(&cell, at(60_000), &five), 1);
        assert_eq!(cell.take(at(60_000), &five).unwrap_err(), Empty { wait: Duration::from_secs(30) });
        assert_eq!(takes(&cell, at(90_000), &five), 4);
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_pass() {
        let closed = window(0, 1_000);
        let cell = Sliding::unused(&closed);
        assert_eq!(cell.take(at(5_000), &closed).unwrap_err(), Empty { wait: Duration::from_secs(1) });
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        for requests in [1, 5, 64, 65, 1_000] {
            let window = window(requests, 60_000);
            let cell = Sliding::unused(&window);
            for _ in 1..requests {
                cell.take(at(1), &window).unwrap();
            }
            let receipt = cell.take(at(2), &window).unwrap();
            assert!(cell.take(at(2), &window).is_err());
            cell.give_back(receipt, &window);
            assert_eq!(takes(&cell, at(3), &window), 1, "{requests}");
        }
    }

    #[test]
    fn a_receipt_of_an_earlier_window_takes_nothing_from_the_present_one() {
        let one = window(1, 1_000);
        let cell = Sliding::unused(&one);
        let old = cell.take(at(0), &one).unwrap();
        cell.take(at(1_000), &one).unwrap();
        cell.give_back(old, &one);
        assert_eq!(takes(&cell, at(1_500), &one), 0);
    }

    #[test]
    fn a_look_says_what_is_left_and_when_there_is_more() {
        let five = window(5, 60_000);
        let cell = Sliding::unused(&five);
        assert_eq!(cell.peek(at(0), &five), Level { remaining: 5, reset: Duration::ZERO });
        cell.take(at(10_000), &five).unwrap();
        cell.take(at(20_000), &five).unwrap();
        assert_eq!(cell.peek(at(25_000), &five), Level { remaining: 3, reset: Duration::from_secs(45) });
    }

    #[test]
    fn other_numbers_are_in_force_at_once_and_keep_what_is_used() {
        for (before, after) in [(5, 8), (5, 200), (64, 65), (200, 5), (1_000, 64), (70, 1_000)] {
            let (before, after) = (window(before, 60_000), window(after, 60_000));
            let cell = Sliding::unused(&before);
            assert_eq!(takes(&cell, at(0), &before), before.requests);
            assert_eq!(takes(&cell, at(1), &after), after.requests.saturating_sub(before.requests));
            assert_eq!(takes(&cell, at(60_001), &after), after.requests);
        }
    }

    #[test]
    fn a_lowered_limit_counts_what_the_higher_one_let_pass() {
        let (ten, four) = (window(10, 60_000), window(4, 60_000));
        let cell = Sliding::unused(&ten);
        for second in 0..10 {
            cell.take(at(second * 1_000), &ten).unwrap();
        }
        assert_eq!(cell.take(at(30_000), &four).unwrap_err(), Empty { wait: Duration::from_secs(36) });
        assert_eq!(takes(&cell, at(65_999), &four), 0);
        // At 66 s three of the ten are left in the window, so one more fits below four.
        assert_eq!(takes(&cell, at(66_000), &four), 1);
    }

    #[test]
    fn a_drained_cell_opens_after_a_window() {
        for requests in [3, 100] {
            let window = window(requests, 1_000);
            let cell = Sliding::drained(at(500), &window).unwrap();
            assert_eq!(takes(&cell, at(1_499), &window), 0);
            assert_eq!(takes(&cell, at(1_500), &window), requests);
        }
    }

    #[test]
    fn threads_together_never_take_more_than_one_would() {
        for requests in [7, 64, 1_000] {
            let window = window(requests, 60_000);
            for _ in 0..20 {
                let cell = Sliding::unused(&window);
                let taken: u32 = std::thread::scope(|threads| {
                    let racing: Vec<_> = (0..4).map(|_| threads.spawn(|| takes(&cell, at(1), &window))).collect();
                    racing.into_iter().map(|thread| thread.join().unwrap()).sum()
                });
                assert_eq!(taken, requests);
            }
        }
    }

    #[test]
    fn threads_with_a_lowered_limit_never_take_one_too_many() {
        let (hundred, sixty) = (window(100, 60_000), window(60, 60_000));
        for _ in 0..50 {
            let cell = Sliding::unused(&hundred);
            for _ in 0..40 {
                cell.take(at(0), &hundred).unwrap();
            }
            let taken: u32 = std::thread::scope(|threads| {
                let racing: Vec<_> = (0..4).map(|_| threads.spawn(|| takes(&cell, at(1), &sixty))).collect();
                racing.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert!(taken <= 20, "{taken}");
        }
    }

    /// The list of all moments, less those no span reaches any more: what a window means.
    struct Oracle {
        window: Window,
        admitted: VecDeque<u64>,
    }

    impl Oracle {
        fn used(&mut self, now_ms: u64) -> usize {
            while self.admitted.front().is_some_and(|then| now_ms - then >= self.window.window_ms) {
                self.admitted.pop_front();
            }
            self.admitted.len()
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, usize)>> {
        prop::collection::vec((0_u64..400, 1_usize..40), 1..60)
    }

    proptest! {
        #[test]
        fn up_to_64_requests_it_is_the_list_of_all_moments(requests in 0_u32..=64, length in 1_u64..3_000, steps in steps()) {
            let window = window(requests, length);
            let (cell, mut oracle) = (Sliding::unused(&window), Oracle { window, admitted: VecDeque::new() });
            let mut now_ms = 0;
            for (pause_ms, tries) in steps {
                now_ms += pause_ms;
                for _ in 0..tries {
                    let room = oracle.used(now_ms) < requests as usize;
                    prop_assert_eq!(cell.take(at(now_ms), &window).is_ok(), room);
                    if room {
                        oracle.admitted.push_back(now_ms);
                    }
                }
            }
        }

        #[test]
        fn beyond_it_never_lets_pass_what_the_list_refuses(requests in 65_u32..700, length in 1_u64..3_000, steps in steps()) {
            let window = window(requests, length);
            let (cell, mut oracle) = (Sliding::unused(&window), Oracle { window, admitted: VecDeque::new() });
            let (mut now_ms, limit) = (0, requests as usize);
            for (pause_ms, tries) in steps {
                now_ms += pause_ms;
                for _ in 0..tries * 4 {
                    let used = oracle.used(now_ms);
                    if cell.take(at(now_ms), &window).is_ok() {
                        prop_assert!(used < limit);
                        oracle.admitted.push_back(now_ms);
                    } else {
                        prop_assert!(used + limit.div_ceil(SLOTS) > limit, "refused at {used} of {limit}");
                    }
                }
            }
        }
    }
}
