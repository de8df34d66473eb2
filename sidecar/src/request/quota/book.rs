//! The book: the live cells of every limit, for the whole process.
//!
//! Cost: a lock of one of 64 parts when a worker first serves a tenant, or serves it by a new policy; none per request.
//! Cells are keyed by tenant and limit and stand outside the snapshot: they outlive every swap, and an edit of the numbers
//! keeps what is used. A limit that becomes another kind of limit starts anew.
//! What belongs to no tenant or limit any more is swept.

use super::cell::Cell;
use super::clock_hour::{ClockHour, PerHour};
use super::in_flight::{InFlight, Places};
use super::rate::{Gcra, Rate};
use super::sliding::{Sliding, Window};
use super::table::{KEYS_MAX, Room, Table};
use crate::clock::Now;
use bulkhead_config::declared::{Counted, Per};
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::{LimitId, LimitSpec, Slice, Snapshot};
use bulkhead_config::unit::Limit;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
#[expect(clippy::disallowed_types, reason = "taken when a worker meets a tenant or a new policy, at a scrape and by the sweep")]
type Locked<T> = std::sync::Mutex<T>;

const PARTS: usize = 64;

/// The live cells of every limit. One per process.
#[derive(Debug)]
pub struct Book {
    parts: [Locked<Part>; PARTS],
    rooms: Locked<Map<(LimitId, Per), Arc<Room>>>,
    hasher: foldhash::fast::RandomState,
}

/// The limits of the tenants whose names fall together.
#[derive(Debug, Default)]
struct Part {
    hours: Map<TenantId, (Arc<ClockHour>, PerHour)>,
    rates: Shelf<Gcra>,
    windows: Shelf<Sliding>,
    places: Shelf<InFlight>,
}

type Shelf<C> = Map<Key, Cells<C>>;

/// One limit of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    limit: LimitId,
    per: Per,
}

/// The cells of one limit of one tenant.
#[derive(Debug)]
pub(super) enum Cells<C: Cell> {
    /// The tenant's one budget.
    Whole(Arc<C>),
    /// A budget for each user, API key or address.
    Keyed(Arc<Table<C>>),
}

impl<C: Cell> Cells<C> {
    fn is_held(&self) -> bool {
        match self {
            Cells::Whole(cell) => Arc::strong_count(cell) > 1,
            Cells::Keyed(table) => Arc::strong_count(table) > 1,
        }
    }
}

impl<C: Cell> Clone for Cells<C> {
    fn clone(&self) -> Self {
        match self {
            Cells::Whole(cell) => Cells::Whole(Arc::clone(cell)),
            Cells::Keyed(table) => Cells::Keyed(Arc::clone(table)),
        }
    }
}

impl Book {
    /// A book in which nothing is written.
    #[must_use]
    pub fn new() -> Self {
        Self { parts: std::array::from_fn(|_| Locked::default()), rooms: Locked::default(), hasher: foldhash::fast::RandomState::default() }
    }

    /// How much of `api_quota_per_hour` a tenant used in this clock hour, from 0 to 1. `None`: it has none, or sent nothing yet.
    #[must_use]
    pub fn usage(&self, tenant: &str, now: Now) -> Option<f64> {
        let part = self.part(tenant).lock().unwrap_or_else(PoisonError::into_inner);
        let (cell, quota) = part.hours.get(tenant)?;
        let used = quota.0.saturating_sub(cell.peek(now, quota).remaining);
        Some(if quota.0 == 0 { 1.0 } else { f64::from(used) / f64::from(quota.0) })
    }

    /// Drops what is left of tenants and limits that are no more, and keys of which nothing is used. For the control side,
    /// every few seconds.
    pub fn sweep(&self, snapshot: &Snapshot, now: Now) {
        for part in &self.parts {
            let (mut rates, mut windows, mut places) = (Vec::new(), Vec::new(), Vec::new());
            {
                let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
                part.hours.retain(|tenant, (cell, _)| {
                    Arc::strong_count(cell) > 1 || snapshot.tenant(tenant.as_str()).is_some_and(|slice| hourly(slice).is_some())
                });
                tidy(&mut part.rates, snapshot, Rate::declared, &mut rates);
                tidy(&mut part.windows, snapshot, Window::declared, &mut windows);
                tidy(&mut part.places, snapshot, Places::declared, &mut places);
            }
            // Outside the part's lock: a table may be long, and has locks of its own.
            rates.iter().for_each(|(table, rate)| table.sweep(now, rate));
            windows.iter().for_each(|(table, window)| table.sweep(now, window));
            places.iter().for_each(|(table, places)| table.sweep(now, places));
        }
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, room| Arc::strong_count(room) > 1);
    }

    /// The cell of a tenant's `api_quota_per_hour`.
    pub(super) fn hour(&self, slice: &Slice) -> Option<(Arc<ClockHour>, PerHour)> {
        let quota = hourly(slice)?;
        let mut part = self.part(slice.id().as_str()).lock().unwrap_or_else(PoisonError::into_inner);
        let (cell, kept) = part.hours.entry(slice.id().clone()).or_insert_with(|| (Arc::new(ClockHour::unused(&quota)), quota));
        *kept = quota;
        Some((Arc::clone(cell), quota))
    }

    /// The cells of a rate.
    pub(super) fn rates(&self, tenant: &TenantId, spec: &LimitSpec, rate: &Rate) -> Cells<Gcra> {
        self.cells(tenant, spec, rate, |part| &mut part.rates)
    }

    /// The cells of a sliding window.
    pub(super) fn windows(&self, tenant: &TenantId, spec: &LimitSpec, window: &Window) -> Cells<Sliding> {
        self.cells(tenant, spec, window, |part| &mut part.windows)
    }

    /// The cells of a number of places.
    pub(super) fn places(&self, tenant: &TenantId, spec: &LimitSpec, places: &Places) -> Cells<InFlight> {
        self.cells(tenant, spec, places, |part| &mut part.places)
    }

    fn cells<C: Cell>(
        &self,
        tenant: &TenantId,
        spec: &LimitSpec,
        allowance: &C::Allowance,
        shelf: impl FnOnce(&mut Part) -> &mut Shelf<C>,
    ) -> Cells<C> {
        let key = Key { tenant: tenant.clone(), limit: spec.id.clone(), per: spec.per };
        let mut part = self.part(tenant.as_str()).lock().unwrap_or_else(PoisonError::into_inner);
        let cells = shelf(&mut part).entry(key).or_insert_with(|| match spec.per {
            Per::Tenant => Cells::Whole(Arc::new(C::unused(allowance))),
            Per::User | Per::ApiKey | Per::ClientAddress => Cells::Keyed(Arc::new(Table::new(self.room(spec)))),
        });
        cells.clone()
    }

    fn room(&self, spec: &LimitSpec) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry((spec.id.clone(), spec.per)).or_insert_with(|| Arc::new(Room::new(KEYS_MAX))))
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is smaller than its divisor")]
    fn part(&self, tenant: &str) -> &Locked<Part> {
        &self.parts[self.hasher.hash_one(tenant) as usize % PARTS]
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

/// Requests a tenant may make in a clock hour, if that is limited.
fn hourly(slice: &Slice) -> Option<PerHour> {
    match slice.api_quota_per_hour()? {
        Limit::Unlimited => None,
        Limit::Closed => Some(PerHour(0)),
        Limit::AtMost(requests) => Some(PerHour(requests.get())),
    }
}

/// Drops what is declared no more and held by nobody; collects the tables of what stays.
fn tidy<C: Cell>(
    shelf: &mut Shelf<C>,
    snapshot: &Snapshot,
    declared: fn(&Counted) -> Option<C::Allowance>,
    tables: &mut Vec<(Arc<Table<C>>, C::Allowance)>,
) {
    shelf.retain(|key, cells| {
        let slice = snapshot.tenant(key.tenant.as_str());
        let spec = slice.and_then(|slice| slice.policy().limits().iter().find(|spec| spec.id == key.limit && spec.per == key.per));
        let Some(allowance) = spec.and_then(|spec| declared(&spec.counted)) else { return cells.is_held() };
        if let Cells::Keyed(table) = cells {
            tables.push((Arc::clone(table), allowance));
        }
        true
    });
}
