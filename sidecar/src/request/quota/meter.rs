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
use bulkhead_config::snapshot::{LimitSpec, Slice};
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
            is_shown: spec.names_routes && matches!(kind, Kind::Window { .. }),
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
            gauge: Gauge::ClockHour(Source::new(quota, Cells::Whole(cell))),
        })
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
