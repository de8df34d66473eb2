//! Forgetting: the history that watches read is kept for a while, not for ever.

use crate::model::Revision;
use crate::{Error, Store};
use std::sync::Arc;

/// Forgets what is older than a period, whose length is how often it is asked to: whoever was away for less finds its place again.
pub struct Past {
    store: Arc<dyn Store>,
    /// The newest revision when it was asked last.
    seen: Option<Revision>,
}

impl Past {
    /// Has seen nothing yet: the first period forgets nothing.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, seen: None }
    }

    /// A period has passed: what was older at its beginning is forgotten.
    ///
    /// # Errors
    /// Those of the store; the next period forgets what this one could not.
    pub async fn forget(&mut self) -> Result<(), Error> {
        let newest = self.store.revision().await?;
        match self.seen.replace(newest) {
            Some(seen) => self.store.compact(seen).await,
            None => Ok(()),
        }
    }
}
