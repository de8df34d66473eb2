//! The words of the store: revisions, keys, entries, events.

use bytes::Bytes;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// A number that each change raises by one; zero before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// The revision of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it: where a watch goes on for whoever has read up to this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Name of a lease, never given twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(NonZeroU64);

impl LeaseId {
    /// The lease of this number; zero names none.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// A lease and how long it lasts from when it was last kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// Time without `keep_alive` after which its keys go away.
    pub ttl: Duration,
}

/// Name of an entry: any bytes but none, ordered as bytes. Ours are paths such as `/tenant/acme`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first key that does not begin with this one; none when that would be beyond every key.
    pub(crate) fn after_prefix(&self) -> Option<Self> {
        let mut end = self.0.to_vec();
        while let Some(last) = end.pop() {
            if let Some(raised) = last.checked_add(1) {
                end.push(raised);
                return Some(Self(end.into()));
            }
        }
        None
    }

    /// The key right behind this one.
    pub(crate) fn successor(&self) -> Self {
        let mut next = self.0.to_vec();
        next.push(0);
        Self(next.into())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{self}`")
    }
}

/// Which keys are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// This one.
    One(Key),
    /// Those that begin with it. An empty one is every key.
    Prefix(Key),
    /// From the first, up to and without the second.
    Between(Key, Key),
}

impl Keys {
    /// Every key there is.
    pub fn all() -> Self {
        Self::Prefix(Key::from(""))
    }

    /// Those that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        Self::Prefix(prefix.into())
    }

    /// Whether `key` is one of them.
    pub fn contain(&self, key: &Key) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Prefix(prefix) => key.as_bytes().starts_with(prefix.as_bytes()),
            Self::Between(from, to) => from <= key && key < to,
        }
    }

    /// From the first key, up to and without the second; without a second, to the last there is.
    pub(crate) fn bounds(&self) -> (Key, Option<Key>) {
        match self {
            Self::One(key) => (key.clone(), Some(key.successor())),
            Self::Prefix(prefix) => (prefix.clone(), prefix.after_prefix()),
            Self::Between(from, to) => (from.clone(), Some(to.clone())),
        }
    }
}

/// A question for entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: Keys,
    /// Only those behind this key: the last one of the page before.
    pub after: Option<Key>,
    /// At most so many entries.
    pub limit: usize,
    /// As they stood then; without it, as they stand now. Pages that shall agree name the revision of the first.
    pub at: Option<Revision>,
}

impl Range {
    /// All entries of `keys`, as they stand now.
    pub fn of(keys: Keys) -> Self {
        Self { keys, after: None, limit: usize::MAX, at: None }
    }

    /// At most `limit` of them.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The page behind `page`, as things stood when that one was read; none when it was the last.
    #[must_use]
    pub fn following(self, page: &Page) -> Option<Self> {
        let last = page.entries.last().filter(|_| page.more)?;
        Some(Self { after: Some(last.key.clone()), at: Some(page.revision), ..self })
    }
}

/// Entries in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// They stood so at this revision.
    pub revision: Revision,
    /// Whether more follow.
    pub more: bool,
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// The revision that made it, since it was last absent.
    pub create_revision: Revision,
    /// The revision that changed it last.
    pub mod_revision: Revision,
    /// How often it was put since it was made: 1 for a new one.
    pub version: u64,
    /// The lease it goes away with.
    pub lease: Option<LeaseId>,
}

/// What a revision did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was put.
    Put {
        /// What stands now.
        entry: Entry,
        /// What stood before.
        previous: Option<Entry>,
    },
    /// It went away.
    Delete {
        /// What stood before.
        previous: Entry,
    },
}

impl Event {
    /// The key it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { previous } => &previous.key,
        }
    }
}

/// One revision: what it did to the keys that are watched, in the order of its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// At least one event; a key stands in it once.
    pub events: Vec<Event>,
}
