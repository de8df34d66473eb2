//! The cells of one limit that has a budget per user, API key or client address.
//!
//! Cost: a lock of one of 16 parts, taken when a worker first meets a key; afterwards the worker has the cell itself.
//! Bounded: what a stranger can choose (an address) must not fill memory. A key that finds no room shares one of 64 overflow
//! cells with others; they are stricter to it, never more generous.
//! INVARIANT (one budget a key): a key that was in an overflow cell and finds room later gets a cell of which everything is
//! used, unless nothing is used of the overflow cell; and a worker that still counts it there notices (`Table::moved_out`).
//! Cells are dropped when no worker holds them and nothing of them is used: such a key comes back as it left.

use super::cell::Cell;
use crate::clock::Now;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, PoisonError};

/// Keys that one limit counts apart, over all tenants.
pub(super) const KEYS_MAX: usize = 200_000;
const PARTS: usize = 16;
const OVERFLOW_CELLS: usize = 64;

/// Room for keys of one limit, shared by the tables of all tenants it holds for.
#[derive(Debug)]
pub(super) struct Room {
    free: AtomicUsize,
}

impl Room {
    pub(super) fn new(keys: usize) -> Self {
        Self { free: AtomicUsize::new(keys) }
    }

    /// Takes room for one more key. A tenant's table grows while it is smaller than what is free, so the first tenant gets at
    /// most half of the room, and whoever comes later finds some: one tenant's strangers do not crowd out the others'.
    fn take(&self, held: usize) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| (held < free).then(|| free - 1)).is_ok()
    }

    fn give_back(&self, keys: usize) {
        self.free.fetch_add(keys, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_types, reason = "taken when a worker first meets a key, and by the sweep; never for a key it knows")]
type Part<C> = std::sync::Mutex<HashMap<Box<[u8]>, Arc<C>, foldhash::fast::RandomState>>;

/// The cells of one limit of one tenant, by key.
#[derive(Debug)]
pub(super) struct Table<C: Cell> {
    parts: [Part<C>; PARTS],
    hasher: foldhash::fast::RandomState,
    /// Keys in all parts.
    held: AtomicUsize,
    room: Arc<Room>,
    overflow: OnceLock<[Arc<C>; OVERFLOW_CELLS]>,
    /// How often a key got a cell of its own after others had to share.
    moved_out: AtomicU64,
}

/// The cell of a key.
#[derive(Debug)]
pub(super) enum Found<C> {
    /// Its own.
    Own(Arc<C>),
    /// One it shares, and [`Table::moved_out`] of that time.
    Shared(Arc<C>, u64),
}

impl<C: Cell> Table<C> {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            parts: std::array::from_fn(|_| Part::default()),
            hasher: foldhash::fast::RandomState::default(),
            held: AtomicUsize::new(0),
            room,
            overflow: OnceLock::new(),
            moved_out: AtomicU64::new(0),
        }
    }

    /// Changes whenever a key gets a cell of its own. A shared cell is good while this stays; whoever took from one looks again
    /// afterwards, because its key may be the one.
    pub(super) fn moved_out(&self) -> u64 {
        fence(Ordering::SeqCst);
        self.moved_out.load(Ordering::Relaxed)
    }

    /// The cell of a key.
    pub(super) fn find(&self, key: &[u8], now: Now, allowance: &C::Allowance) -> Found<C> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        let moved_out = self.moved_out();
        let mut cells = self.part(hash).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(key) {
            return Found::Own(Arc::clone(cell));
        }
        if !self.room.take(self.held.load(Ordering::Relaxed)) {
            return Found::Shared(self.shared(hash, allowance), moved_out);
        }
        let Some(cell) = self.moves_out(hash, now, allowance) else {
            self.room.give_back(1);
            return Found::Shared(self.shared(hash, allowance), self.moved_out());
        };
        let cell = Arc::new(cell);
        cells.insert(key.into(), Arc::clone(&cell));
        self.held.fetch_add(1, Ordering::Relaxed);
        Found::Own(cell)
    }

    /// A cell for a key that may have been counted in an overflow cell. `None`: it has to stay there.
    fn moves_out(&self, hash: usize, now: Now, allowance: &C::Allowance) -> Option<C> {
        if self.overflow.get().is_none() {
            return Some(C::unused(allowance));
        }
        // A worker takes from the shared cell and then reads `moved_out`; here it is the other way round. So either its request
        // is seen below, or it sees the change and gives its request back.
        self.moved_out.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.shared(hash, allowance).is_unused(now, allowance) { Some(C::unused(allowance)) } else { C::drained(now, allowance) }
    }

    /// Drops what nobody holds and nobody used: on the control side, from time to time.
    pub(super) fn sweep(&self, now: Now, allowance: &C::Allowance) {
        for part in &self.parts {
            let mut cells = part.lock().unwrap_or_else(PoisonError::into_inner);
            let before = cells.len();
            // Who holds a cell got it under this lock, so a count of one stays one.
            cells.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_unused(now, allowance));
            let dropped = before - cells.len();
            if dropped > 0 {
                cells.shrink_to_fit();
                self.held.fetch_sub(dropped, Ordering::Relaxed);
                self.room.give_back(dropped);
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is smaller than its divisor")]
    fn part(&self, hash: usize) -> &Part<C> {
        &self.parts[hash % PARTS]
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is smaller than its divisor")]
    fn shared(&self, hash: usize, allowance: &C::Allowance) -> Arc<C> {
        let cells = self.overflow.get_or_init(|| std::array::from_fn(|_| Arc::new(C::unused(allowance))));
        Arc::clone(&cells[hash / PARTS % OVERFLOW_CELLS])
    }
}

impl<C: Cell> Drop for Table<C> {
    fn drop(&mut self) {
        self.room.give_back(*self.held.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::quota::in_flight::{InFlight, Places};
    use crate::request::quota::rate::{Gcra, Rate};
    use bulkhead_config::unit::PerPeriod;
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, unix_ms: 0 }
    }

    /// One a second, ten at once.
    fn rate() -> Rate {
        Rate::new(PerPeriod { count: NonZeroU32::MIN, period: Duration::from_secs(1) }, 10)
    }

    fn table<C: Cell>(keys: usize) -> Table<C> {
        Table::new(Arc::new(Room::new(keys)))
    }

    fn key(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    fn takes(found: &Found<Gcra>, now: Now) -> usize {
        let (Found::Own(cell) | Found::Shared(cell, _)) = found;
        (0..100).take_while(|_| cell.take(now, &rate()).is_ok()).count()
    }

    #[test]
    fn a_key_has_one_cell_whoever_asks() {
        let table = table::<Gcra>(100);
        assert_eq!(takes(&table.find(b"ana", at(0), &rate()), at(0)), 10);
        assert_eq!(takes(&table.find(b"ana", at(0), &rate()), at(0)), 0);
        assert_eq!(takes(&table.find(b"bob", at(0), &rate()), at(0)), 10);
    }

    #[test]
    fn one_tenants_keys_leave_room_for_the_next() {
        let room = Arc::new(Room::new(1_000));
        let tables: Vec<_> = (0..3).map(|_| Table::<Gcra>::new(Arc::clone(&room))).collect();
        let held: Vec<_> = tables
            .iter()
            .map(|table| (0..1_000).filter(|number| matches!(table.find(&key(*number), at(0), &rate()), Found::Own(_))).count())
            .collect();
        assert_eq!(held, [500, 250, 125]);
        drop(tables);
        assert_eq!(room.free.load(Ordering::Relaxed), 1_000);
    }

    #[test]
    fn keys_without_room_share_and_get_no_more_than_one_key_would() {
        let table = table::<Gcra>(2);
        let taken: usize = (0..1_000).map(|number| takes(&table.find(&key(number), at(0), &rate()), at(0))).sum();
        assert!(taken <= (2 + OVERFLOW_CELLS) * 10, "{taken}");
    }

    #[test]
    fn a_key_that_moves_out_of_a_shared_cell_begins_with_nothing() {
        let table = table::<Gcra>(2);
        table.find(b"first", at(0), &rate());
        let shared = table.find(b"second", at(0), &rate());
        assert!(matches!(shared, Found::Shared(..)));
        assert_eq!(takes(&shared, at(0)), 10);
        table.sweep(at(0), &rate());
        let own = table.find(b"second", at(0), &rate());
        assert!(matches!(own, Found::Own(_)));
        assert_eq!(takes(&own, at(0)), 0);
        assert_eq!(takes(&own, at(3)), 3);
        let Found::Shared(_, moved_out) = shared else { return };
        assert_ne!(table.moved_out(), moved_out, "a worker that still counts it in the shared cell would not notice");
    }

    #[test]
    fn a_key_that_never_shared_begins_with_everything() {
        let table = table::<Gcra>(2);
        table.find(b"first", at(0), &rate());
        assert!(matches!(table.find(b"second", at(0), &rate()), Found::Shared(..)));
        table.sweep(at(0), &rate());
        assert_eq!(takes(&table.find(b"second", at(0), &rate()), at(0)), 10);
    }

    #[test]
    fn requests_in_flight_keep_their_key_in_its_shared_cell() {
        let (table, places) = (table::<InFlight>(2), Places(3));
        table.find(b"first", at(0), &places);
        let Found::Shared(cell, _) = table.find(b"second", at(0), &places) else { unreachable!("no room") };
        assert!(cell.take(at(0), &places).is_ok());
        table.sweep(at(0), &places);
        assert!(matches!(table.find(b"second", at(0), &places), Found::Shared(..)), "it would have three places beside this one");
        cell.give_back((), &places);
        assert!(matches!(table.find(b"second", at(0), &places), Found::Own(_)));
    }

    #[test]
    fn a_sweep_drops_only_what_nobody_holds_or_used() {
        let table = table::<Gcra>(100);
        let held = table.find(b"held", at(0), &rate());
        takes(&table.find(b"used", at(0), &rate()), at(0));
        table.find(b"unused", at(0), &rate());
        table.sweep(at(5), &rate());
        assert_eq!(table.held.load(Ordering::Relaxed), 2);
        assert_eq!(takes(&table.find(b"used", at(5), &rate()), at(5)), 5);
        drop(held);
        table.sweep(at(60), &rate());
        assert_eq!((table.held.load(Ordering::Relaxed), table.room.free.load(Ordering::Relaxed)), (0, 100));
    }
}
