//! Transactions: compare, then do one of two lists, all or nothing.
//!
//! The limits are etcd's own defaults, and checked here for every engine: what fits one fits the other.

use crate::error::Error;
use crate::model::{Entry, Key, Keys, LeaseId, Revision};
use bytes::Bytes;
use std::cmp::Ordering;

/// Most comparisons, and most operations of either list, in one transaction.
pub const MAX_OPERATIONS: usize = 128;

/// Most bytes of one transaction: keys, values and what goes around them.
pub const MAX_TXN_BYTES: usize = 3 * 1024 * 1024 / 2;

/// What etcd puts around a comparison or an operation at most: three nested lengths, tags, numbers and a lease.
const BYTES_AROUND_EACH: usize = 64;

/// What to compare, what to do then, and what to do otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All of them must hold.
    pub compares: Vec<Compare>,
    /// Done when they do.
    pub then: Vec<Op>,
    /// Done when one does not.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// One that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only when `compare` holds.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Does `op` when all comparisons hold.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Does `op` when a comparison does not hold.
    #[must_use]
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Bytes that count against [`MAX_TXN_BYTES`].
    pub fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(Compare::bytes);
        let ops = self.then.iter().chain(&self.otherwise).map(Op::bytes);
        compares.chain(ops).fold(0, |sum, bytes| sum.saturating_add(bytes).saturating_add(BYTES_AROUND_EACH))
    }

    /// Refuses what no engine takes, before any of them is asked.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let count = self.compares.len().max(self.then.len()).max(self.otherwise.len());
        if count > MAX_OPERATIONS {
            return Err(Error::TooManyOperations { count });
        }
        let bytes = self.bytes();
        if bytes > MAX_TXN_BYTES {
            return Err(Error::TooLarge { bytes });
        }
        if self.compares.iter().any(|compare| compare.key.as_bytes().is_empty()) {
            return Err(Error::EmptyKey);
        }
        check_list(&self.then)?;
        check_list(&self.otherwise)
    }

    /// Whether it could make the store larger.
    pub(crate) fn puts(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(|op| matches!(op, Op::Put { .. }))
    }
}

/// A key is written once in a transaction: its one revision has one event for it.
fn check_list(ops: &[Op]) -> Result<(), Error> {
    let mut written: Vec<&Key> = ops.iter().filter_map(Op::put_key).collect();
    if written.iter().any(|key| key.as_bytes().is_empty()) {
        return Err(Error::EmptyKey);
    }
    written.sort_unstable();
    let twice = written.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    });
    let also_deleted = || {
        let mut deleted = ops.iter().filter_map(|op| if let Op::Delete { keys } = op { Some(keys) } else { None });
        deleted.find_map(|keys| written.iter().find(|key| keys.contain(key)).copied())
    };
    match twice.or_else(also_deleted) {
        Some(key) => Err(Error::DuplicateKey { key: key.clone() }),
        None => Ok(()),
    }
}

/// One comparison of what stands under a key. An absent key has the revisions and version 0, and no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Key,
    /// What must hold of it.
    pub test: Test,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The revision that changed it last.
    ModRevision(Relation, Revision),
    /// The revision that made it.
    CreateRevision(Relation, Revision),
    /// How often it was put.
    Version(Relation, u64),
    /// Its value; never holds of an absent key.
    Value(Relation, Bytes),
}

/// How the stored side must relate to the given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// Larger.
    Greater,
    /// Smaller.
    Less,
}

impl Compare {
    /// There is no such key.
    pub fn absent(key: impl Into<Key>) -> Self {
        Self { key: key.into(), test: Test::CreateRevision(Relation::Equal, Revision::ZERO) }
    }

    /// There is one.
    pub fn present(key: impl Into<Key>) -> Self {
        Self { key: key.into(), test: Test::CreateRevision(Relation::Greater, Revision::ZERO) }
    }

    /// It was last changed by this revision.
    pub fn unchanged(key: impl Into<Key>, since: Revision) -> Self {
        Self { key: key.into(), test: Test::ModRevision(Relation::Equal, since) }
    }

    /// Its value is this.
    pub fn value(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), test: Test::Value(Relation::Equal, value.into()) }
    }

    /// Whether it holds of what stands under the key.
    pub(crate) fn holds(&self, entry: Option<&Entry>) -> bool {
        match &self.test {
            Test::ModRevision(relation, given) => relation.holds(entry.map_or(Revision::ZERO, |entry| entry.mod_revision).cmp(given)),
            Test::CreateRevision(relation, given) => relation.holds(entry.map_or(Revision::ZERO, |entry| entry.create_revision).cmp(given)),
            Test::Version(relation, given) => relation.holds(entry.map_or(0, |entry| entry.version).cmp(given)),
            Test::Value(relation, given) => entry.is_some_and(|entry| relation.holds(entry.value.cmp(given))),
        }
    }

    fn bytes(&self) -> usize {
        let value = if let Test::Value(_, value) = &self.test { value.len() } else { 0 };
        self.key.as_bytes().len().saturating_add(value)
    }
}

impl Relation {
    fn holds(self, stored: Ordering) -> bool {
        match self {
            Self::Equal => stored.is_eq(),
            Self::NotEqual => stored.is_ne(),
            Self::Greater => stored.is_gt(),
            Self::Less => stored.is_lt(),
        }
    }
}

/// One operation. Each sees what the ones before it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Puts a value.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Bytes,
        /// The lease it goes away with; without one it stays, whatever lease it had before.
        lease: Option<LeaseId>,
    },
    /// Deletes what is there.
    Delete {
        /// Which.
        keys: Keys,
    },
    /// Reads.
    Get {
        /// Which.
        keys: Keys,
        /// At most so many entries.
        limit: usize,
    },
}

impl Op {
    /// Puts `value` under `key`, for good.
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// Puts `value` under `key`, until `lease` ends.
    pub fn put_leased(key: impl Into<Key>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    /// Deletes `key`.
    pub fn delete(key: impl Into<Key>) -> Self {
        Self::Delete { keys: Keys::One(key.into()) }
    }

    /// Reads `key`.
    pub fn get(key: impl Into<Key>) -> Self {
        Self::Get { keys: Keys::One(key.into()), limit: 1 }
    }

    fn put_key(&self) -> Option<&Key> {
        if let Self::Put { key, .. } = self { Some(key) } else { None }
    }

    fn bytes(&self) -> usize {
        let keys = |keys: &Keys| match keys {
            Keys::One(key) => key.as_bytes().len(),
            // A prefix goes over the wire as its two ends.
            Keys::Prefix(key) => key.as_bytes().len().saturating_mul(2),
            Keys::Between(from, to) => from.as_bytes().len().saturating_add(to.as_bytes().len()),
        };
        match self {
            Self::Put { key, value, .. } => key.as_bytes().len().saturating_add(value.len()),
            Self::Delete { keys: which } | Self::Get { keys: which, .. } => keys(which),
        }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all comparisons held, so `then` was done; else `otherwise` was.
    pub succeeded: bool,
    /// The revision it made; where it changed nothing, the one it saw.
    pub revision: Revision,
    /// An answer an operation of the list that was done, in its order.
    pub answers: Vec<Answer>,
}

/// What one operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was put.
    Put,
    /// So many went away.
    Deleted(u64),
    /// What was found, and whether there was more than the limit.
    Found {
        /// The entries in the order of their keys.
        entries: Vec<Entry>,
        /// Whether more follow.
        more: bool,
    },
}
