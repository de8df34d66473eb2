//! Entries in memory, for tests and for control planes that keep nothing.

use super::{Entries, Pending, Put, Puts, Storage, Version};
use std::sync::{Arc, Mutex, PoisonError};

/// Entries that end with the process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<Entries>>);

impl MemoryStorage {
    /// With entries that are there already.
    #[must_use]
    pub fn with(entries: Entries) -> Self {
        Self(Arc::new(Mutex::new(entries)))
    }

    /// All there are.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Storage for MemoryStorage {
    fn load(&self) -> Pending<'_, Entries> {
        Box::pin(async { Ok(self.entries()) })
    }

    fn put(&self, entries: Puts, seen: Version) -> Pending<'_, Put> {
        Box::pin(async move {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if held.version != seen {
                return Ok(Put::Moved);
            }
            held.apply(entries);
            Ok(Put::Done(held.version))
        })
    }
}
