//! Quota: takes one request out of the limits of tenant, user, key and address, or refuses it.
//!
//! Cost: per request; one atomic per limit; no lock, no allocation, no await. A budget per user, key or address takes a lock
//! when a worker first meets the key.
//! A request is charged to all its limits or to none. What nobody proved is charged to no tenant: without proof only limits
//! of named routes and of client addresses count.
//! Absent on purpose: no refund when the upstream fails, or a failing route could be hammered for free; and no cost but one,
//! until something is declared in bytes.

pub mod cell;
pub mod rate;
pub mod sliding;
pub mod clock_hour;
pub mod in_flight;
mod table;
mod book;
mod meter;
mod exceeded;

pub use book::Book;
pub use exceeded::{About, Exceeded, Fields, Kind};

use crate::clock::Now;
use crate::connection::network::Network;
use bulkhead_config::declared::Per;
use bulkhead_config::name::NAME_BYTES_MAX;
use bulkhead_config::snapshot::{Policy, RouteIndex, Shadow, Slice};
use cell::Level;
use foldhash::fast::FixedState;
use in_flight::InFlight;
use meter::{Charge, Meter, Taken};
use std::cell::RefCell;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;

/// The limits of one tenant as one worker counts them: made when the worker first serves it by a policy.
#[derive(Debug)]
pub struct Handles {
    policy: Arc<Policy>,
    hourly: Option<Meter>,
    /// By place in [`Policy::limits`]; what is `unlimited` has none.
    meters: Box<[Option<Meter>]>,
    /// Empty between requests; kept for its memory.
    taken: RefCell<Vec<Taken>>,
}

/// What limits ask about a request.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Its route.
    pub route: RouteIndex,
    /// Whether it is proved to come from the tenant.
    pub proven: bool,
    /// The user it is proved to come from; an API key's is the key.
    pub user: Option<&'a str>,
    /// The API key that proved it, at most [`NAME_BYTES_MAX`] bytes.
    pub api_key: Option<&'a str>,
    /// The client's address.
    pub source: IpAddr,
}

impl Handles {
    /// The limits of a tenant. What is used of them is in the book and stays.
    #[must_use]
    pub fn new(book: &Book, slice: &Slice) -> Self {
        let policy = Arc::clone(slice.policy());
        Self {
            hourly: Meter::hourly(book, slice),
            meters: policy.limits().iter().map(|spec| Meter::new(book, slice, spec)).collect(),
            policy,
            taken: RefCell::default(),
        }
    }

    /// Takes one request out of every limit that counts it, or out of none.
    ///
    /// # Errors
    /// The first limit that is used up.
    pub fn take(&self, ask: &Ask<'_>, now: Now) -> Result<Receipts, Exceeded> {
        self.take_unless(ask, now, |_, exceeded, _| Err(exceeded))
    }

    /// Takes one request that would be refused once more. What is in shadow is told to `passed`, with the number of the budget, takes
    /// nothing and refuses nothing.
    ///
    /// # Errors
    /// The first limit that is used up and not in shadow.
    pub fn take_in_shadow(
        &self,
        ask: &Ask<'_>,
        now: Now,
        shadow: Shadow,
        mut passed: impl FnMut(Exceeded, u64),
    ) -> Result<Receipts, Exceeded> {
        self.take_unless(ask, now, |meter, exceeded, key| {
            if !meter.is_tried(shadow) {
                return Err(exceeded);
            }
            passed(exceeded, FixedState::default().hash_one(key));
            Ok(())
        })
    }

    fn take_unless(
        &self,
        ask: &Ask<'_>,
        now: Now,
        pass: impl FnMut(&Meter, Exceeded, &[u8]) -> Result<(), Exceeded>,
    ) -> Result<Receipts, Exceeded> {
        let mut taken = self.taken.take();
        let charged = self.charge(ask, now, &mut taken, pass);
        let receipts = match charged {
            Ok(shown) => Ok(Receipts::new(shown, taken.drain(..))),
            Err(exceeded) => {
                taken.drain(..).for_each(Taken::give_back);
                Err(exceeded)
            }
        };
        self.taken.replace(taken);
        receipts
    }

    /// Takes from one limit after the other; `taken` holds what was taken until one refuses and is not passed.
    fn charge(
        &self,
        ask: &Ask<'_>,
        now: Now,
        taken: &mut Vec<Taken>,
        mut pass: impl FnMut(&Meter, Exceeded, &[u8]) -> Result<(), Exceeded>,
    ) -> Result<Vec<(Arc<About>, Level)>, Exceeded> {
        let mut shown = Vec::new();
        let network = Network::of(ask.source).bytes();
        let mut space = [0; 1 + NAME_BYTES_MAX];
        for meter in self.meters_of(ask) {
            let key = match meter.about.per {
                Per::Tenant => Some(&[][..]),
                Per::User => user_key(ask, &mut space),
                Per::ApiKey => ask.api_key.map(str::as_bytes),
                Per::ClientAddress => Some(&network[..]),
            };
            let Some(key) = key else { continue };
            let took = match meter.take(key, now) {
                Ok(took) => took,
                Err(empty) => {
                    pass(meter, Exceeded { about: Arc::clone(&meter.about), wait: empty.wait }, key)?;
                    continue;
                }
            };
            if meter.is_shown {
                shown.push((Arc::clone(&meter.about), took.level(now)));
            }
            taken.push(took);
        }
        Ok(shown)
    }

    /// Limits that count a request.
    fn meters_of(&self, ask: &Ask<'_>) -> impl Iterator<Item = &Meter> {
        let declared = self.policy.limits_of(ask.route).iter().filter_map(|&place| self.meters.get(place as usize)?.as_ref());
        let proven = ask.proven;
        self.hourly.iter().chain(declared).filter(move |meter| proven || meter.counts_unproven)
    }
}

/// The key of a user's budget. An API key is a user too, and none that a token's `sub` can name: it stands behind a byte with which
/// no text begins. `space` takes it.
fn user_key<'a>(ask: &Ask<'a>, space: &'a mut [u8; 1 + NAME_BYTES_MAX]) -> Option<&'a [u8]> {
    let Some(id) = ask.api_key else { return ask.user.map(str::as_bytes) };
    let (first, rest) = space.split_first_mut()?;
    *first = 0xff;
    rest.get_mut(..id.len())?.copy_from_slice(id.as_bytes());
    space.get(..=id.len())
}

/// What a request took. Moved into the response body: a slow download holds its place until the last byte.
#[derive(Debug, Default)]
#[must_use = "dropping it frees the request's places"]
pub struct Receipts {
    shown: Vec<(Arc<About>, Level)>,
    // Nearly every request holds one place or none; the list is there for the others, and an empty one is no allocation.
    place: Option<Place>,
    more_places: Vec<Place>,
}

impl Receipts {
    fn new(shown: Vec<(Arc<About>, Level)>, taken: impl Iterator<Item = Taken>) -> Self {
        let mut receipts = Self { shown, ..Self::default() };
        for taken in taken {
            let Taken::Place(charge) = taken else { continue };
            match receipts.place {
                None => receipts.place = Some(Place(charge)),
                Some(_) => receipts.more_places.push(Place(charge)),
            }
        }
        receipts
    }

    /// Fields for the answer: where a window limit of named routes counted the request, so that its client can pace itself.
    #[must_use]
    pub fn fields(&self) -> Option<Fields> {
        exceeded::fields(self.shown.iter().map(|(about, level)| (&**about, *level)))
    }
}

/// A place among the requests in flight; free again when dropped.
#[derive(Debug)]
struct Place(Charge<InFlight>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
