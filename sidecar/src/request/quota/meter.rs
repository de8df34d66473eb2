//! A meter: one limit of one tenant as one worker counts it.
//!
//! Cost: per request and limit; the cell's own. A limit per user, key or address adds a look into the worker's cache of
//! cells, and a lock when the key is not in it.

use super::book::{Book, Cells};
use super::cell::{Cell, Empty, Level};
use super::clock_hour::ClockHour;
use super::exceeded::{About, Kind};
use super::in_flight::{InFlight, Places};
use super::rate::{Gcra, Rate};
use super::sliding::{Sliding, Window};
use super::table::{Found, Table};
use crate::clock::Now;
use bulkhead_config::declared::Per;
use bulkhead_config::snapshot::{LimitSpec, Shadow, Slice};
use quick_cache::unsync::Cache;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// One limit of one tenant as one worker counts it.
#[derive(Debug)]
pub(super) struct Meter {
    /// What is told of it.
    pub(super) about: Arc<About>,
    /// Whether it counts requests of which nobody proved to come from the tenant.
    pub(super) counts_unproven: bool,
    /// Whether its level is told with an answer that it let through.
    pub(super) is_shown: bool,
    /// Whether its policy only counts what it would refuse.
    is_in_shadow: bool,
    gauge: Gauge,
}

#[derive(Debug)]
enum Gauge {
    Rate(Source<Gcra>),
    Sliding(Source<Sliding>),
    ClockHour(Source<ClockHour>),
    InFlight(Source<InFlight>),
}

impl Meter {
    /// The meter of a declared limit; `None` if it is `unlimited`.
    pub(super) fn new(book: &Book, slice: &Slice, spec: &LimitSpec) -> Option<Self> {
        let tenant = slice.id();
        let (gauge, kind) = if let Some(rate) = Rate::declared(&spec.counted) {
            let source = Source::new(rate, book.rates(tenant, spec, &rate));
            (Gauge::Rate(source), Kind::Rate { burst: rate.burst(), refill: rate.refill() })
        } else if let Some(window) = Window::declared(&spec.counted) {
            let source = Source::new(window, book.windows(tenant, spec, &window));
            (Gauge::Sliding(source), Kind::Window { requests: window.requests(), window: window.length() })
        } else {
            let places = Places::declared(&spec.counted)?;
            (Gauge::InFlight(Source::new(places, book.places(tenant, spec, &places))), Kind::InFlight { places: places.0 })
        };
        Some(Self {
            about: Arc::new(About { name: format!("{}.{}", spec.id.policy, spec.id.limit), per: spec.per, kind }),
            counts_unproven: spec.names_routes || spec.per == Per::ClientAddress,
            // Nobody shall pace himself by what refuses nothing.
            is_shown: spec.names_routes && matches!(kind, Kind::Window { .. }) && !spec.in_shadow,
            is_in_shadow: spec.in_shadow,
            gauge,
        })
    }

    /// The meter of `api_quota_per_hour`, if the tenant has one.
    pub(super) fn hourly(book: &Book, slice: &Slice) -> Option<Self> {
        let (cell, quota) = book.hour(slice)?;
        let kind = Kind::ClockHour { requests: quota.0 };
        Some(Self {
            about: Arc::new(About { name: "api_quota_per_hour".to_owned(), per: Per::Tenant, kind }),
            counts_unproven: false,
            is_shown: false,
            is_in_shadow: false,
            gauge: Gauge::ClockHour(Source::new(quota, Cells::Whole(cell))),
        })
    }

    /// Whether it refuses nothing to a request of which this is in shadow.
    pub(super) fn is_tried(&self, shadow: Shadow) -> bool {
        let kind = if matches!(self.gauge, Gauge::ClockHour(_)) { Shadow::HOURLY_QUOTA } else { Shadow::LIMITS };
        self.is_in_shadow || shadow.has(kind)
    }

    /// Takes one request; `key` is what the limit keeps a budget for, empty for the tenant's one.
    pub(super) fn take(&self, key: &[u8], now: Now) -> Result<Taken, Empty> {
        Ok(match &self.gauge {
            Gauge::Rate(source) => Taken::Rate(source.take(key, now)?),
            Gauge::Sliding(source) => Taken::Sliding(source.take(key, now)?),
            Gauge::ClockHour(source) => Taken::ClockHour(source.take(key, now)?),
            Gauge::InFlight(source) => Taken::Place(source.take(key, now)?),
        })
    }
}

/// A request that one meter counted.
#[derive(Debug)]
pub(super) enum Taken {
    Rate(Charge<Gcra>),
    Sliding(Charge<Sliding>),
    ClockHour(Charge<ClockHour>),
    Place(Charge<InFlight>),
}

impl Taken {
    /// Makes as if it had never been counted.
    pub(super) fn give_back(self) {
        match self {
            Taken::Rate(charge) => charge.give_back(),
            Taken::Sliding(charge) => charge.give_back(),
            Taken::ClockHour(charge) => charge.give_back(),
            Taken::Place(charge) => charge.give_back(),
        }
    }

    /// What is left now.
    pub(super) fn level(&self, now: Now) -> Level {
        match self {
            Taken::Rate(charge) => charge.level(now),
            Taken::Sliding(charge) => charge.level(now),
            Taken::ClockHour(charge) => charge.level(now),
            Taken::Place(charge) => charge.level(now),
        }
    }
}

/// A cell in this worker's hands: cloned without an atomic.
type Held<C> = Rc<Arc<C>>;

/// A request counted in a cell.
#[derive(Debug)]
pub(super) struct Charge<C: Cell> {
    cell: Held<C>,
    receipt: C::Receipt,
    allowance: C::Allowance,
}

impl<C: Cell> Charge<C> {
    pub(super) fn give_back(&self) {
        self.cell.give_back(self.receipt, &self.allowance);
    }

    fn level(&self, now: Now) -> Level {
        self.cell.peek(now, &self.allowance)
    }
}

/// Where a meter takes from.
#[derive(Debug)]
struct Source<C: Cell> {
    allowance: C::Allowance,
    supply: Supply<C>,
}

#[derive(Debug)]
enum Supply<C: Cell> {
    Whole(Held<C>),
    Keyed { table: Arc<Table<C>>, known: RefCell<Cache<Box<[u8]>, Known<C>>> },
}

/// The cell of a key that this worker met.
#[derive(Debug)]
enum Known<C> {
    Own(Held<C>),
    /// Shared with other keys, while [`Table::moved_out`] stays what it was.
    Shared(Held<C>, u64),
}

impl<C> Clone for Known<C> {
    fn clone(&self) -> Self {
        match self {
            Known::Own(cell) => Known::Own(Rc::clone(cell)),
            Known::Shared(cell, moved_out) => Known::Shared(Rc::clone(cell), *moved_out),
        }
    }
}

/// Keys of one limit whose cells a worker keeps at hand.
const KNOWN_MAX: usize = 1_024;

impl<C: Cell> Source<C> {
    fn new(allowance: C::Allowance, cells: Cells<C>) -> Self {
        let supply = match cells {
            Cells::Whole(cell) => Supply::Whole(Rc::new(cell)),
            Cells::Keyed(table) => Supply::Keyed { table, known: RefCell::new(Cache::new(KNOWN_MAX)) },
        };
        Self { allowance, supply }
    }

    fn take(&self, key: &[u8], now: Now) -> Result<Charge<C>, Empty> {
        match &self.supply {
            Supply::Whole(cell) => self.charge(cell, now),
            Supply::Keyed { table, known } => self.take_keyed(table, known, key, now),
        }
    }

    fn take_keyed(&self, table: &Table<C>, known: &RefCell<Cache<Box<[u8]>, Known<C>>>, key: &[u8], now: Now) -> Result<Charge<C>, Empty> {
        let at_hand = known.borrow().get(key).cloned();
        let mut found = at_hand.unwrap_or_else(|| self.meet(table, known, key, now));
        loop {
            match &found {
                Known::Own(cell) => return self.charge(cell, now),
                Known::Shared(cell, moved_out) => {
                    let charge = self.charge(cell, now);
                    if table.moved_out() == *moved_out {
                        return charge;
                    }
                    // Some key got a cell of its own meanwhile, perhaps this one. Each time round, some key did.
                    if let Ok(charge) = charge {
                        charge.give_back();
                    }
                }
            }
            found = self.meet(table, known, key, now);
        }
    }

    /// Asks the table, and remembers.
    #[cold]
    fn meet(&self, table: &Table<C>, known: &RefCell<Cache<Box<[u8]>, Known<C>>>, key: &[u8], now: Now) -> Known<C> {
        let found = match table.find(key, now, &self.allowance) {
            Found::Own(cell) => Known::Own(Rc::new(cell)),
            Found::Shared(cell, moved_out) => Known::Shared(Rc::new(cell), moved_out),
        };
        known.borrow_mut().insert(key.into(), found.clone());
        found
    }

    fn charge(&self, cell: &Held<C>, now: Now) -> Result<Charge<C>, Empty> {
        let receipt = cell.take(now, &self.allowance)?;
        Ok(Charge { cell: Rc::clone(cell), receipt, allowance: self.allowance })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::table::Room;
    use super::*;
    use std::sync::Barrier;

    const NOW: Now = Now { mono_ns: 0, unix_ms: 0 };

    #[test]
    fn a_worker_notices_that_a_key_moved_out_of_the_cell_it_knows() {
        let rate = Rate::new("1/s".parse().unwrap(), 50);
        let table = Arc::new(Table::<Gcra>::new(Arc::new(Room::new(2))));
        table.find(b"first", NOW, &rate);
        let [one, other] = [(); 2].map(|()| Source::new(rate, Cells::Keyed(Arc::clone(&table))));
        assert!(one.take(b"second", NOW).is_ok(), "shared");
        let later = Now { mono_ns: 60_000_000_000, ..NOW };
        table.sweep(later, &rate);
        let taken = (0..100).filter(|_| other.take(b"second", later).is_ok()).count();
        assert_eq!(taken, 50, "of its own: nothing is used of the shared one any more");
        assert!(one.take(b"second", later).is_err());
    }

    #[test]
    fn a_key_that_moves_out_of_a_shared_cell_under_load_takes_no_more_than_its_budget() {
        let rate = Rate::new("1/h".parse().unwrap(), 50);
        for _ in 0..200 {
            let table = Arc::new(Table::<Gcra>::new(Arc::new(Room::new(2))));
            table.find(b"first", NOW, &rate);
            assert!(matches!(table.find(b"second", NOW, &rate), Found::Shared(..)));
            let start = Barrier::new(3);
            let taken: usize = std::thread::scope(|threads| {
                threads.spawn(|| {
                    start.wait();
                    table.sweep(NOW, &rate);
                });
                let workers: Vec<_> = (0..2)
                    .map(|_| {
                        threads.spawn(|| {
                            let source = Source::new(rate, Cells::Keyed(Arc::clone(&table)));
                            start.wait();
                            (0..100).filter(|_| source.take(b"second", NOW).is_ok()).count()
                        })
                    })
                    .collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).sum()
            });
            assert!(taken <= 50, "{taken}");
        }
    }
}
