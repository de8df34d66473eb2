//! Where a keyring rests: names and sealed bytes, written all at once and only over what the writer has seen.

mod file;
mod memory;

pub use file::FileStorage;
pub use memory::MemoryStorage;

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;

/// The entry that every [`Storage::put`] writes. A store with revisions compares that of this entry, and needs no other version.
pub const HEAD: &str = "head";
/// Entries that one [`Storage::put`] writes at most, the head among them: what one transaction of etcd takes, with room for its compares.
pub const PUT_MAX: usize = 100;

/// What a storage answers, once it has.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Which state of the entries; 0 where there are none. It rises with each put.
pub type Version = u64;

/// Keeps entries. What it keeps is sealed, each entry on its own: whoever reads, moves or changes it learns and achieves nothing.
pub trait Storage: Send + Sync + 'static {
    /// All entries there are.
    fn load(&self) -> Pending<'_, Entries>;

    /// Writes all of these entries, and durably, or none of them: none when something was put since `seen`. `None` removes.
    fn put(&self, entries: Puts, seen: Version) -> Pending<'_, Put>;
}

/// What a storage has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// Which state this is.
    pub version: Version,
    /// Sealed bytes by name: words of `a-z 0-9 . _ -` with `/` between them.
    pub entries: BTreeMap<String, Vec<u8>>,
}

/// What is put: sealed bytes by name, none where an entry goes away.
pub type Puts = BTreeMap<String, Option<Vec<u8>>>;

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Written, and this is the state now.
    Done(Version),
    /// Somebody else has put since; nothing was written.
    Moved,
}

/// A storage that could not be read or written; what it says itself.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StorageError {
    what: String,
    #[source]
    cause: Box<dyn Error + Send + Sync>,
}

impl StorageError {
    /// With what was tried and where, and how to fix it.
    pub fn new(what: impl Into<String>, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), cause: cause.into() }
    }
}

impl Entries {
    /// Puts what is to be put.
    pub(crate) fn apply(&mut self, entries: Puts) {
        for (name, bytes) in entries {
            match bytes {
                Some(bytes) => self.entries.insert(name, bytes),
                None => self.entries.remove(&name),
            };
        }
        self.version += 1;
    }
}
