//! One transaction on the tables of a commit. What is refused is refused before the first row is written, so that its neighbours in the
//! commit need not know.

use super::fault::Fault;
use super::rows::{self, COMMITS, ENTRIES, HISTORY, KEPT, LEASE, LEASED, LEASES, META, REVISION};
use super::{Head, read};
use crate::Error;
use crate::model::{Entry, Event, Key, Keys, Lease, LeaseId, Revision};
use crate::txn::{Answer, Op, Outcome, Txn};
use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};
use std::time::Duration;

/// The tables, open for one commit, and what it has done so far.
pub(super) struct Tables<'txn> {
    entries: Table<'txn, &'static [u8], &'static [u8]>,
    history: Table<'txn, u64, &'static [u8]>,
    leases: Table<'txn, u64, u64>,
    leased: Table<'txn, (u64, &'static [u8]), ()>,
    meta: Table<'txn, &'static str, u64>,
    committed: Committed,
    /// Whether anything was written.
    changed: bool,
}

/// What a commit leaves.
pub(super) struct Committed {
    pub(super) head: Head,
    pub(super) granted: Vec<Lease>,
    pub(super) ended: Vec<LeaseId>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction, head: Head) -> Result<Self, Fault> {
        Ok(Self {
            entries: txn.open_table(ENTRIES)?,
            history: txn.open_table(HISTORY)?,
            leases: txn.open_table(LEASES)?,
            leased: txn.open_table(LEASED)?,
            meta: txn.open_table(META)?,
            committed: Committed { head, granted: Vec::new(), ended: Vec::new() },
            changed: false,
        })
    }

    /// Compares, then does what follows from it.
    pub(super) fn txn(&mut self, txn: &Txn) -> Result<Outcome, Fault> {
        let mut succeeded = true;
        for compare in &txn.compares {
            succeeded &= compare.holds(self.get(&compare.key)?.as_ref());
        }
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        self.leases_exist(ops)?;
        let revision = self.committed.head.revision.next();
        let mut events = Vec::new();
        let mut answers = Vec::with_capacity(ops.len());
        for op in ops {
            answers.push(match op {
                Op::Put { key, value, lease } => {
                    events.push(self.put(revision, key, value, *lease)?);
                    Answer::Put
                }
                Op::Delete { keys } => {
                    let deleted = self.delete(keys)?;
                    let count = deleted.len() as u64;
                    events.extend(deleted);
                    Answer::Deleted(count)
                }
                Op::Get { keys, limit } => {
                    let (entries, more) = read::present(&self.entries, keys, *limit)?;
                    Answer::Found { entries, more }
                }
            });
        }
        self.record(&events)?;
        Ok(Outcome { succeeded, revision: self.committed.head.revision, answers })
    }

    /// Forgets how things stood before `revision`.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Fault> {
        if revision > self.committed.head.revision {
            return Err(Error::Future { asked: revision, newest: self.committed.head.revision }.into());
        }
        if revision > self.committed.head.kept {
            // From the oldest on, as far as there is any: a compaction costs what it forgets.
            self.history.retain_in(..revision.get(), |_, _| false)?;
            self.committed.head.kept = revision;
            self.changed = true;
        }
        Ok(())
    }

    /// A new lease.
    pub(super) fn grant(&mut self, ttl: Duration) -> Result<Lease, Fault> {
        let last = self.meta.get(LEASE)?.map_or(0, |number| number.value());
        let number = last.saturating_add(1);
        let id = LeaseId::new(number).ok_or(rows::BadRow("the number of the last lease is no number"))?;
        let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).max(1);
        self.meta.insert(LEASE, number)?;
        self.leases.insert(number, seconds)?;
        let lease = Lease { id, ttl: Duration::from_secs(seconds) };
        self.changed = true;
        self.committed.granted.push(lease);
        Ok(lease)
    }

    /// Ends a lease and its keys, in one revision.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<Revision, Fault> {
        if self.leases.remove(lease.get())?.is_none() {
            return Err(Error::NoLease { lease }.into());
        }
        let mut events = Vec::new();
        for key in self.keys_under(lease)? {
            events.extend(self.delete(&Keys::One(key))?);
        }
        self.record(&events)?;
        self.changed = true;
        self.committed.ended.push(lease);
        Ok(self.committed.head.revision)
    }

    /// Writes what the commit did to the numbers of the store, and tells what it leaves; nothing when it did nothing.
    pub(super) fn finish(mut self) -> Result<Option<Committed>, Fault> {
        if !self.changed {
            return Ok(None);
        }
        let head = &mut self.committed.head;
        head.commits = head.commits.saturating_add(1);
        for (name, number) in [(REVISION, head.revision.get()), (KEPT, head.kept.get()), (COMMITS, head.commits)] {
            self.meta.insert(name, number)?;
        }
        Ok(Some(self.committed))
    }

    fn leases_exist(&self, ops: &[Op]) -> Result<(), Fault> {
        for op in ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && self.leases.get(lease.get())?.is_none()
            {
                return Err(Error::NoLease { lease: *lease }.into());
            }
        }
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Option<Entry>, Fault> {
        match self.entries.get(key.as_bytes())? {
            Some(row) => Ok(Some(rows::entry(key.clone(), row.value())?)),
            None => Ok(None),
        }
    }

    fn put(&mut self, revision: Revision, key: &Key, value: &Bytes, lease: Option<LeaseId>) -> Result<Event, Fault> {
        let previous = self.get(key)?;
        let entry = Entry {
            key: key.clone(),
            value: value.clone(),
            create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(0, |previous| previous.version).saturating_add(1),
            lease,
        };
        if let Some(previous) = &previous {
            self.unbind(previous)?;
        }
        if let Some(lease) = lease {
            self.leased.insert((lease.get(), key.as_bytes()), ())?;
        }
        self.entries.insert(key.as_bytes(), rows::entry_row(&entry).as_slice())?;
        Ok(Event::Put { entry, previous })
    }

    fn delete(&mut self, keys: &Keys) -> Result<Vec<Event>, Fault> {
        let (found, _) = read::present(&self.entries, keys, usize::MAX)?;
        let mut events = Vec::with_capacity(found.len());
        for previous in found {
            self.unbind(&previous)?;
            self.entries.remove(previous.key.as_bytes())?;
            events.push(Event::Delete { previous });
        }
        Ok(events)
    }

    fn unbind(&mut self, entry: &Entry) -> Result<(), Fault> {
        if let Some(lease) = entry.lease {
            self.leased.remove((lease.get(), entry.key.as_bytes()))?;
        }
        Ok(())
    }

    fn keys_under(&self, lease: LeaseId) -> Result<Vec<Key>, Fault> {
        let none: &[u8] = &[];
        let mut keys = Vec::new();
        for row in self.leased.range((lease.get(), none)..(lease.get().saturating_add(1), none))? {
            let (name, _) = row?;
            keys.push(Key::from(Bytes::copy_from_slice(name.value().1)));
        }
        Ok(keys)
    }

    /// What changed something is a revision; what did not is none.
    fn record(&mut self, events: &[Event]) -> Result<(), Fault> {
        if !events.is_empty() {
            let revision = self.committed.head.revision.next();
            self.history.insert(revision.get(), rows::history_row(events).as_slice())?;
            self.committed.head.revision = revision;
            self.changed = true;
        }
        Ok(())
    }
}
