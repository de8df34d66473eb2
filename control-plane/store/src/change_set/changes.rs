//! Change sets as they are committed, each as one change whatever its size.

use super::stage::{self, Stages};
use crate::model::{Batch, Event, Key, Keys, Range, Revision};
use crate::txn::Op;
use crate::{Error, Store, Watch};
use bytes::Bytes;
use std::sync::Arc;

/// One change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision that is the change.
    pub revision: Revision,
    /// Its number in the line.
    pub number: u64,
    /// What it gave the head.
    pub value: Bytes,
    /// What it did: puts, and deletes of single keys.
    pub ops: Vec<Op>,
}

/// A place in the line of change sets.
pub struct Changes {
    store: Arc<dyn Store>,
    head: Key,
    stages: Stages,
    /// Of all keys: a small set is one revision, and its operations stand beside the head's in it.
    watch: Box<dyn Watch>,
    /// Taken from the watch and not told yet: a wait that is given up loses nothing.
    taken: Option<Batch>,
}

impl Changes {
    pub(super) async fn begin(store: Arc<dyn Store>, head: Key, stages: Stages, from: Revision) -> Result<Self, Error> {
        let watch = store.watch(Keys::all(), from).await?;
        Ok(Self { store, head, stages, watch, taken: None })
    }

    /// The next set: in order, none left out, none twice. Waits until there is one; a future that is dropped loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the history it has still to read was forgotten: read what stands now and watch from there.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(batch) = &self.taken {
                let change = self.change(batch).await?;
                self.taken = None;
                if let Some(change) = change {
                    return Ok(change);
                }
            }
            self.taken = Some(self.watch.next().await?);
        }
    }

    /// The set whose commit a revision is. Stages, what is rolled forward and the clearing of the head are none.
    async fn change(&self, batch: &Batch) -> Result<Option<Change>, Error> {
        let Some((entry, previous)) = batch.events.iter().find_map(|event| match event {
            Event::Put { entry, previous } if entry.key == self.head => Some((entry, previous.as_ref())),
            Event::Put { .. } | Event::Delete { .. } => None,
        }) else {
            return Ok(None);
        };
        let (number, value, pointer) = stage::read_head(entry)?;
        let before = previous.map(stage::read_head).transpose()?.map_or(0, |(number, ..)| number);
        if number == before {
            return Ok(None);
        }
        let revision = batch.revision;
        let ops = match pointer {
            None => batch.events.iter().filter(|event| *event.key() != self.head).map(op).collect(),
            Some(pointer) => {
                let mut ops = Vec::new();
                for part in 0..pointer.parts {
                    // As it stood then: by now it may be rolled forward and deleted.
                    let range = Range { at: Some(revision), ..Range::of(Keys::One(self.stages.part(pointer.id, part))) };
                    let staged = self.store.range(range).await?.entries.pop();
                    let lost = || Error::Malformed { key: self.head.clone(), what: "a part of its stage is missing" };
                    ops.extend(stage::read(&self.head, &staged.ok_or_else(lost)?.value)?);
                }
                ops
            }
        };
        Ok(Some(Change { revision, number, value, ops }))
    }
}

fn op(event: &Event) -> Op {
    match event {
        Event::Put { entry, .. } => Op::put(entry.key.clone(), entry.value.clone()),
        Event::Delete { previous } => Op::delete(previous.key.clone()),
    }
}
