//! Store: keys with revisions, in etcd's terms. What the control plane knows is here, and nowhere else.
//!
//! Everything is a key with a value. Each transaction that changes something makes one new **revision**, a number that only grows; an
//! entry remembers the revision that made it and the one that changed it last. A transaction compares before it writes, so that whoever
//! decided on what it read is refused when that has changed meanwhile. A watch tells every revision since one, in order, each whole.
//! What is older than a compaction is told to nobody: the watcher learns that it came too late and reads anew.
//!
//! [`Store`] is the trait, [`Embedded`] the engine that needs nothing but one file. An engine passes the conformance suite in
//! `tests/store/conformance`, which knows the trait alone.

mod model;
mod txn;
mod error;
mod clock;
mod framed;
mod embedded;
mod past;
pub mod change_set;
pub mod history;

pub use clock::{Clock, ManualClock, SystemClock};
pub use embedded::{Embedded, Header, Identity, OpenError, Options, Plan, Record, SCHEMA_NOW as SCHEMA, Snapshot, Step};
pub use error::Error;
pub use model::{Batch, Entry, Event, Key, Keys, Lease, LeaseId, Page, Range, Revision};
pub use past::Past;
pub use txn::{Answer, Compare, MAX_OPERATIONS, MAX_TXN_BYTES, Op, Outcome, Relation, Test, Txn};

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What a store answers, once it has.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Keys with revisions, whichever engine holds them.
///
/// A trait object (`Arc<dyn Store>`), not a type parameter: which engine it is, is read from the settings when the process starts,
/// and a parameter would make everything that stands on the store generic. The boxed future is
/// nothing beside a sync of the disk or a trip to etcd.
///
/// Operations are linearisable: what one caller was answered, every later call sees. A future that is dropped may have acted or not.
pub trait Store: Send + Sync + 'static {
    /// The newest revision that is durable.
    fn revision(&self) -> Pending<'_, Revision>;

    /// A page of entries in the order of their keys, all as they stood at one revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] when `range.at` names a revision that is no longer, or not yet, there.
    fn range(&self, range: Range) -> Pending<'_, Page>;

    /// The entry under `key`, if there is one.
    fn get(&self, key: Key) -> Pending<'_, Option<Entry>> {
        Box::pin(async move { Ok(self.range(Range::of(Keys::One(key))).await?.entries.pop()) })
    }

    /// Compares, then does one of two lists of operations, all or nothing. Answered when it is durable.
    ///
    /// # Errors
    /// [`Error::TooManyOperations`], [`Error::TooLarge`], [`Error::EmptyKey`], [`Error::DuplicateKey`] and [`Error::NoLease`] for what
    /// cannot be asked; [`Error::NotStored`] when nothing was changed, and [`Error::Uncertain`] when that cannot be told.
    fn txn(&self, txn: Txn) -> Pending<'_, Outcome>;

    /// Every revision from `from` on that changed one of `keys`.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `from` is older than what is kept.
    fn watch(&self, keys: Keys, from: Revision) -> Pending<'_, Box<dyn Watch>>;

    /// Forgets how things stood before `revision`. What stands now stays. No change where that is forgotten already.
    ///
    /// # Errors
    /// [`Error::Future`] when `revision` has not come yet.
    fn compact(&self, revision: Revision) -> Pending<'_, ()>;

    /// A lease: keys put under it go away, in one revision, when it is not kept alive for `ttl` (whole seconds, rounded up).
    fn grant(&self, ttl: Duration) -> Pending<'_, Lease>;

    /// Begins the lease's time anew.
    ///
    /// # Errors
    /// [`Error::NoLease`] when it has ended.
    fn keep_alive(&self, lease: LeaseId) -> Pending<'_, Lease>;

    /// Ends the lease and its keys now.
    ///
    /// # Errors
    /// [`Error::NoLease`] when it has ended.
    fn revoke(&self, lease: LeaseId) -> Pending<'_, Revision>;
}

/// One watcher's place in the history of a store.
pub trait Watch: Send {
    /// The next revision that changed what is watched: in order, none left out, none twice. Waits until there is one; a future that is
    /// dropped loses nothing. A watcher that reads slowly costs no memory: what it has not read stays in the history.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the history it has still to read was forgotten: read what stands now and watch from there.
    fn next(&mut self) -> Pending<'_, Batch>;
}
