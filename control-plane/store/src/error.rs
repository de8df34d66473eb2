//! What a store answers instead.

use crate::model::{Key, LeaseId, Revision};
use crate::txn::{MAX_OPERATIONS, MAX_TXN_BYTES};
use std::path::PathBuf;
use std::sync::Arc;

/// Why there is no answer. Cloned to everybody who waited for the same commit.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The history asked for is forgotten.
    #[error("revision {asked} is forgotten: the history begins at {kept}; read what stands now and go on from its revision")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest that is kept.
        kept: Revision,
    },
    /// The revision asked for is not there yet.
    #[error("revision {asked} has not come yet: the newest is {newest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest there is.
        newest: Revision,
    },
    /// More than [`MAX_OPERATIONS`].
    #[error("{count} operations in one transaction, of at most {MAX_OPERATIONS}: write larger ones as a change set")]
    TooManyOperations {
        /// Comparisons, or operations of the longer list.
        count: usize,
    },
    /// More than [`MAX_TXN_BYTES`].
    #[error("a transaction of {bytes} bytes, of at most {MAX_TXN_BYTES}: write larger ones as a change set")]
    TooLarge {
        /// Its keys, values and what goes around them.
        bytes: usize,
    },
    /// A key without a byte.
    #[error("an empty key names no entry")]
    EmptyKey,
    /// A key is written twice by one list of operations.
    #[error("key {key:?} is written twice in one transaction: one revision changes a key once")]
    DuplicateKey {
        /// The key.
        key: Key,
    },
    /// A change set puts and deletes single keys, for good.
    #[error("a change set puts and deletes single keys, without leases: read before it, and name each key that shall go")]
    Unsuited,
    /// An entry of ours does not read: somebody else wrote it, or a newer version.
    #[error("the entry {key:?} does not read: {what}; it was written by a newer version, or past Bulkhead")]
    Malformed {
        /// The entry.
        key: Key,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no such lease, or no longer.
    #[error("lease {lease} has ended, or never was: grant a new one and put its keys again")]
    NoLease {
        /// The lease.
        lease: LeaseId,
    },
    /// The store could not write. Nothing was changed; it goes on, and takes writes again once it can.
    #[error("nothing was changed: {what}")]
    NotStored {
        /// What hinders it, and what helps.
        what: String,
        /// What the system said.
        #[source]
        cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// Writing failed at its very end. Read to learn whether it was applied.
    #[error("the change may have been stored or not, since writing failed at its end: read before trying again")]
    Uncertain {
        /// What the system said.
        #[source]
        cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// The store cannot be read at the moment.
    #[error("the store cannot be reached: {what}")]
    Unavailable {
        /// What hinders it, and what helps.
        what: String,
    },
    /// What is stored contradicts itself.
    #[error("{} is damaged: {what}; stop, keep the file, and restore a backup: `bulkhead restore`", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}
