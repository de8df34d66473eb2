//! Change sets: any number of puts and deletes as one change, over any [`Store`].
//!
//! A transaction takes 128 operations and 1.5 MiB; an operator applies 5,000 documents at once, and all of them or none shall be there.
//! All change sets of a store stand in one line, and the **head** key is its end: it counts them, and holds a value of the caller's.
//!
//! ```text
//! /head                  number of sets so far, value of the caller's, and while a large set is being written: which stage it is
//! /stage/head/ID         marker of a stage, under a lease: somebody is writing it
//! /stage/head/ID/n       n-th part of it: operations, as many as one transaction does
//! ```
//!
//! What fits one transaction is one: the head is compared and put together with its operations. A larger set goes in three steps:
//! 1. *Stage*: its parts are put under a new ID. Nothing refers to them, so nobody looks at them.
//! 2. *Flip*: one transaction compares the head and puts it with the ID. **With it the set is committed**: this revision is the change.
//! 3. *Roll forward*: the parts are written to their keys, each only while the head still says so, and in any order, for a set names a key
//!    once. Then the head is put without the ID, and the stage deleted.
//!
//! Whoever comes after a crash finds the ID in the head and does step 3 again, which changes nothing where it was done: a committed set is
//! never half there for whoever reads here. [`ChangeSets::range`] answers from a revision at which no set is being rolled forward, and
//! [`Changes`] tells a large set as one change, at the revision of its flip, with all its operations. Who reads or watches the keys past
//! this module sees the parts arrive.
//!
//! A stage whose writer is gone loses its marker with its lease; [`ChangeSets::collect`] deletes what has neither marker nor head. The flip
//! compares the marker, so what was collected cannot be committed.

mod stage;
mod changes;

pub use changes::{Change, Changes};

use crate::model::{Entry, Key, Keys, LeaseId, Page, Range, Revision};
use crate::txn::{Answer, Compare, Op, Txn};
use crate::{Error, Store};
use bytes::Bytes;
use stage::{Name, Pointer, Stages};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// How long a stage outlives a writer that is gone.
const STAGE_TTL: Duration = Duration::from_secs(60);

/// Pages of parts read at once when stages are looked through: each part may be as large as a transaction.
const PARTS_AT_ONCE: usize = 8;

/// The change sets of a store, in one line that ends at a head key.
#[derive(Clone)]
pub struct ChangeSets {
    store: Arc<dyn Store>,
    head: Key,
    stages: Stages,
    /// One at a time in this process: two that roll the same set forward would only do it twice.
    line: Arc<Mutex<()>>,
}

/// The end of the line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// How many sets were committed. The next one has the number after it, which history keys may hold before it is committed.
    pub number: u64,
    /// What the last commit gave it.
    pub value: Bytes,
    /// The revision that put it: what the next commit expects. Zero when there is none.
    pub revision: Revision,
}

/// What became of a change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is there, all of it.
    Done {
        /// The revision that is the change, as [`Changes`] tells it.
        revision: Revision,
        /// The head as the next commit must expect it.
        head: Head,
    },
    /// The head was another than expected: nothing was changed.
    Conflict {
        /// The head there is.
        head: Head,
    },
}

impl ChangeSets {
    /// The line that ends at `head`. Finishes a set that was committed and not rolled forward, and collects stages that nobody needs.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Arc<dyn Store>, head: Key) -> Result<Self, Error> {
        let sets = Self { store, stages: Stages::of(&head), head, line: Arc::default() };
        sets.head().await?;
        sets.collect().await?;
        Ok(sets)
    }

    /// The head, with no set left to roll forward.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn head(&self) -> Result<Head, Error> {
        let (head, pointer) = self.look().await?;
        if pointer.is_none() {
            return Ok(head);
        }
        let _line = self.line.lock().await;
        self.settled().await
    }

    /// Commits `ops`, puts and deletes of single keys, with `value` at the head, if the head was put by `expected` (zero: there is none).
    ///
    /// Answers when the set is durable and rolled forward. Where the rolling forward fails after the flip, the set is committed all the
    /// same, and the next call of anything here goes on with it.
    ///
    /// # Errors
    /// [`Error::DuplicateKey`] when a key stands twice, [`Error::TooLarge`] when one operation is beyond a transaction,
    /// [`Error::Unsuited`] for an operation of another kind; and those of the store: [`Error::Uncertain`] means here, too, that the set may
    /// have been committed whole.
    pub async fn commit(&self, expected: Revision, value: Bytes, ops: Vec<Op>) -> Result<Committed, Error> {
        stage::check(&self.head, &ops)?;
        let _line = self.line.lock().await;
        let head = self.settled().await?;
        if head.revision != expected {
            return Ok(Committed::Conflict { head });
        }
        let next = Head { number: head.number.saturating_add(1), value, revision: expected };
        let txn = self.put_head(&next, None);
        let txn = ops.iter().cloned().fold(txn, Txn::then);
        if txn.check().is_ok() { self.commit_at_once(next, txn).await } else { self.commit_staged(next, ops).await }
    }

    /// Entries, from a revision at which no set is being rolled forward. Without `range.at` that is one at which every set is there that
    /// was committed before the call.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn range(&self, range: Range) -> Result<Page, Error> {
        loop {
            let page = self.store.range(range.clone()).await?;
            match self.rolling_at(page.revision).await? {
                None => return Ok(page),
                // A set of the past: as it stood before its flip, for nothing can be rolled forward there.
                Some(flipped) if range.at.is_some() => {
                    let before = Revision::new(flipped.get().saturating_sub(1));
                    return self.store.range(Range { at: Some(before), ..range }).await;
                }
                Some(_) => drop(self.head().await?),
            }
        }
    }

    /// The entry under `key`, under the same promise.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get(&self, key: Key) -> Result<Option<Entry>, Error> {
        Ok(self.range(Range::of(Keys::One(key))).await?.entries.pop())
    }

    /// Every change set from `from` on, each as one change.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `from` is older than what is kept.
    pub async fn watch(&self, from: Revision) -> Result<Changes, Error> {
        Changes::begin(Arc::clone(&self.store), self.head.clone(), self.stages.clone(), from).await
    }

    /// Deletes the stages that nobody writes and no head refers to. Done by [`ChangeSets::open`] and before each large set.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn collect(&self) -> Result<(), Error> {
        let (head, pointer) = self.look().await?;
        let mut range = Range::of(self.stages.all()).limit(PARTS_AT_ONCE);
        let (referred, mut marked) = (pointer.map(|pointer| pointer.id), None);
        loop {
            let page = self.store.range(range.clone()).await?;
            for key in page.entries.iter().map(|entry| &entry.key) {
                match self.stages.name(key) {
                    // Its parts come right behind it.
                    Some(Name::Marker { id }) => marked = Some(id),
                    Some(Name::Part { id }) if marked != Some(id) && referred != Some(id) => {
                        let abandoned = Txn::new().when(Compare::absent(self.stages.marker(id))).when(self.head_is(head.revision));
                        self.store.txn(abandoned.then(Op::delete(key.clone()))).await?;
                    }
                    Some(Name::Part { .. }) | None => {}
                }
            }
            // As it stood when the first page was read: what is staged meanwhile has its marker.
            match range.clone().following(&page) {
                Some(following) => range = following,
                None => return Ok(()),
            }
        }
    }

    async fn commit_at_once(&self, next: Head, txn: Txn) -> Result<Committed, Error> {
        let outcome = self.store.txn(txn).await?;
        if outcome.succeeded {
            let revision = outcome.revision;
            return Ok(Committed::Done { revision, head: Head { revision, ..next } });
        }
        Ok(Committed::Conflict { head: found(outcome.answers)?.0 })
    }

    async fn commit_staged(&self, next: Head, ops: Vec<Op>) -> Result<Committed, Error> {
        self.collect().await?;
        let pointer = self.stage(&ops).await?;
        let marker = self.stages.marker(pointer.id);
        let flip = self.put_head(&next, Some(pointer)).when(Compare::present(marker));
        let outcome = self.store.txn(flip).await?;
        if !outcome.succeeded {
            // Nothing refers to it. What cannot be deleted now is collected later.
            let _ = self.drop_stage(pointer).await;
            let head = found(outcome.answers)?.0;
            if head.revision == next.revision {
                return Err(Error::Unavailable { what: "writing the change set took longer than its lease: try again".into() });
            }
            return Ok(Committed::Conflict { head });
        }
        let revision = outcome.revision;
        let flipped = Head { revision, ..next };
        let head = self.roll_forward(flipped.clone(), pointer).await.unwrap_or(flipped);
        Ok(Committed::Done { revision, head })
    }

    /// Puts the parts of a set where nobody looks.
    async fn stage(&self, ops: &[Op]) -> Result<Pointer, Error> {
        let lease = self.store.grant(STAGE_TTL).await?.id;
        let parts = stage::parts(&self.head, ops);
        let pointer = Pointer { id: lease.get(), parts: parts.len() as u64 };
        let staged = self.put_parts(pointer, lease, parts).await;
        if staged.is_err() {
            let _ = self.drop_stage(pointer).await;
        }
        staged.map(|()| pointer)
    }

    async fn put_parts(&self, pointer: Pointer, lease: LeaseId, parts: Vec<Bytes>) -> Result<(), Error> {
        self.store.txn(Txn::new().then(Op::put_leased(self.stages.marker(pointer.id), "", lease))).await?;
        let puts = (0..).zip(parts).map(|(part, value)| Txn::new().then(Op::put(self.stages.part(pointer.id, part), value)));
        self.all(puts).await?;
        // The flip is next, and needs the marker.
        self.store.keep_alive(lease).await.map(drop)
    }

    /// Writes a committed set to its keys, and clears the head of it.
    async fn roll_forward(&self, flipped: Head, pointer: Pointer) -> Result<Head, Error> {
        let mut txns = Vec::new();
        for part in 0..pointer.parts {
            let staged = self.store.get(self.stages.part(pointer.id, part)).await?;
            let Some(staged) = staged else { return self.rolled_by_another(&flipped).await };
            let ops = stage::read(&self.head, &staged.value)?;
            txns.push(ops.into_iter().fold(Txn::new().when(self.head_is(flipped.revision)), Txn::then));
        }
        self.all(txns).await?;
        let cleared = self.store.txn(self.put_head(&flipped, None)).await?;
        if !cleared.succeeded {
            return Ok(found(cleared.answers)?.0);
        }
        // Nothing refers to it any more. What cannot be deleted now is collected later.
        let _ = self.drop_stage(pointer).await;
        Ok(Head { revision: cleared.revision, ..flipped })
    }

    /// A part that is gone was rolled forward by another process: then the head says so.
    async fn rolled_by_another(&self, flipped: &Head) -> Result<Head, Error> {
        let (head, _) = self.look().await?;
        if head.revision == flipped.revision {
            return Err(Error::Unavailable { what: format!("change set {} has lost its stage: restore a backup", flipped.number) });
        }
        Ok(head)
    }

    /// The head, once nothing is left to roll forward. Called by who holds the line.
    async fn settled(&self) -> Result<Head, Error> {
        loop {
            let (head, pointer) = self.look().await?;
            match pointer {
                None => return Ok(head),
                Some(pointer) => drop(self.roll_forward(head, pointer).await?),
            }
        }
    }

    /// Its marker first: without it, whatever is left is garbage.
    async fn drop_stage(&self, pointer: Pointer) -> Result<(), Error> {
        if let Some(lease) = LeaseId::new(pointer.id) {
            match self.store.revoke(lease).await {
                Ok(_) | Err(Error::NoLease { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let parts = (0..pointer.parts).map(|part| Txn::new().then(Op::delete(self.stages.part(pointer.id, part))));
        self.all(parts).await
    }

    /// Does all of them side by side, so that the store can make one commit of many.
    async fn all(&self, txns: impl IntoIterator<Item = Txn>) -> Result<(), Error> {
        let mut running = JoinSet::new();
        for txn in txns {
            let store = Arc::clone(&self.store);
            running.spawn(async move { store.txn(txn).await });
        }
        let mut all = Ok(());
        while let Some(ended) = running.join_next().await {
            // Every one is waited for, also after a failure: what is under way must not act later.
            let done = ended.unwrap_or_else(|_| Err(Error::Unavailable { what: "the process is ending".into() }));
            all = all.and(done.map(drop));
        }
        all
    }

    /// Puts the head, if it is the one that `next` was made from; else reads it.
    fn put_head(&self, next: &Head, pointer: Option<Pointer>) -> Txn {
        let row = stage::head_row(next.number, &next.value, pointer);
        Txn::new().when(self.head_is(next.revision)).then(Op::put(self.head.clone(), row)).otherwise(Op::get(self.head.clone()))
    }

    fn head_is(&self, revision: Revision) -> Compare {
        Compare::unchanged(self.head.clone(), revision)
    }

    async fn look(&self) -> Result<(Head, Option<Pointer>), Error> {
        read_head(self.store.get(self.head.clone()).await?)
    }

    /// The flip of the set that was being rolled forward at `revision`.
    async fn rolling_at(&self, revision: Revision) -> Result<Option<Revision>, Error> {
        let range = Range { at: Some(revision), ..Range::of(Keys::One(self.head.clone())) };
        let (head, pointer) = read_head(self.store.range(range).await?.entries.pop())?;
        Ok(pointer.map(|_| head.revision))
    }
}

fn read_head(entry: Option<Entry>) -> Result<(Head, Option<Pointer>), Error> {
    let Some(entry) = entry else { return Ok((Head::default(), None)) };
    let (number, value, pointer) = stage::read_head(&entry)?;
    Ok((Head { number, value, revision: entry.mod_revision }, pointer))
}

/// The head that the losing side of a comparison read.
fn found(answers: Vec<Answer>) -> Result<(Head, Option<Pointer>), Error> {
    let entries = answers.into_iter().find_map(|answer| if let Answer::Found { entries, .. } = answer { Some(entries) } else { None });
    read_head(entries.unwrap_or_default().pop())
}
