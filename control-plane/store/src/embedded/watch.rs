//! A watch: a place in the history, read when there is more of it. Nothing is queued for a watcher, so none can be too slow.

use super::fault::Fault;
use super::rows::{self, HISTORY};
use super::{Head, Shared, closing, read, read_apart};
use crate::model::{Batch, Keys, Revision};
use crate::{Error, Pending, Watch};
use redb::ReadTransaction;
use std::sync::Arc;
use tokio::sync::watch as signal;

/// Revisions read at once while none of them is about what is watched: so that a look ends and can be given up.
const LOOK: usize = 4_096;

/// A place in the history.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    head: signal::Receiver<Head>,
    keys: Keys,
    /// The next revision to read.
    next: Revision,
}

/// A watch of `keys` from a revision on.
pub(super) fn begin(shared: Arc<Shared>, keys: Keys, from: Revision) -> Result<Box<dyn Watch>, Error> {
    let head = shared.head.clone();
    let kept = head.borrow().kept;
    if from < kept {
        return Err(Error::Compacted { asked: from, kept });
    }
    Ok(Box::new(Place { shared, head, keys, next: from }))
}

impl Watch for Place {
    fn next(&mut self) -> Pending<'_, Batch> {
        Box::pin(async move {
            loop {
                // Read before it is waited for: a commit between the two wakes the wait at once.
                let newest = self.head.borrow_and_update().revision;
                if self.next <= newest {
                    let (keys, from) = (self.keys.clone(), self.next);
                    let (batch, next) = read_apart(Arc::clone(&self.shared), move |txn| look(txn, &keys, from)).await?;
                    self.next = next;
                    if let Some(batch) = batch {
                        return Ok(batch);
                    }
                } else {
                    self.head.changed().await.map_err(|_| closing())?;
                }
            }
        })
    }
}

/// The first revision from `from` on that changed one of `keys`, and where to look next.
fn look(txn: &ReadTransaction, keys: &Keys, from: Revision) -> Result<(Option<Batch>, Revision), Fault> {
    let (_, kept) = read::numbers(txn)?;
    if from < kept {
        return Err(Error::Compacted { asked: from, kept }.into());
    }
    let mut next = from;
    for row in txn.open_table(HISTORY)?.range(from.get()..)?.take(LOOK) {
        let (number, row) = row?;
        let revision = Revision::new(number.value());
        next = revision.next();
        let mut events = rows::events(row.value())?;
        events.retain(|event| keys.contain(event.key()));
        if !events.is_empty() {
            return Ok((Some(Batch { revision, events }), next));
        }
    }
    Ok((None, next))
}
