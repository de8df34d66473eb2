//! Backups: all that a store held at one moment, and a new store made of it.

use super::file::Disk;
use super::lock::Lock;
use super::rows::{self, BadRow, ENTRIES, HISTORY, KEPT, LEASE, LEASED, LEASES, META, REVISION};
use super::{Fault, Identity, OpenError, Shared, open, read};
use crate::model::{Batch, Entry, Key, Lease, LeaseId, Revision};
use crate::{Error, framed};
use bytes::{Buf, BufMut, Bytes};
use redb::{ReadTransaction, WriteTransaction};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a backup says of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which store it is of.
    pub identity: Identity,
    /// The newest revision: its records stood so then.
    pub revision: Revision,
    /// The oldest revision that its history reaches.
    pub kept: Revision,
    /// The last lease that was given: its name, and those before it, are not given again.
    pub last_lease: u64,
}

/// One thing that a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A lease that has not ended.
    Lease(Lease),
    /// An entry that stands.
    Entry(Entry),
    /// What a revision did.
    Batch(Batch),
}

const OF_LEASE: u8 = 1;
const OF_ENTRY: u8 = 2;
const OF_BATCH: u8 = 3;

impl Record {
    /// Its bytes, for an archive.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Lease(lease) => {
                bytes.put_u8(OF_LEASE);
                bytes.put_u64_le(lease.id.get());
                bytes.put_u64_le(lease.ttl.as_secs());
            }
            Self::Entry(entry) => {
                bytes.put_u8(OF_ENTRY);
                framed::put(&mut bytes, entry.key.as_bytes());
                bytes.put_slice(&rows::entry_row(entry));
            }
            Self::Batch(batch) => {
                bytes.put_u8(OF_BATCH);
                bytes.put_u64_le(batch.revision.get());
                bytes.put_slice(&rows::history_row(&batch.events));
            }
        }
        bytes
    }

    /// The record whose bytes these are; none when they are of nothing that this version knows.
    pub fn from_bytes(mut bytes: Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            OF_LEASE => {
                let id = LeaseId::new(bytes.try_get_u64_le().ok()?)?;
                let ttl = Duration::from_secs(bytes.try_get_u64_le().ok()?);
                (!bytes.has_remaining()).then_some(Self::Lease(Lease { id, ttl }))
            }
            OF_ENTRY => {
                let key = Key::from(framed::take(&mut bytes)?);
                rows::entry(key, &bytes).ok().map(Self::Entry)
            }
            OF_BATCH => {
                let revision = Revision::new(bytes.try_get_u64_le().ok()?);
                let events = rows::events(&bytes).ok()?;
                Some(Self::Batch(Batch { revision, events }))
            }
            _ => None,
        }
    }
}

/// All that a store held at one moment.
pub struct Snapshot {
    txn: ReadTransaction,
    header: Header,
    path: PathBuf,
}

impl Snapshot {
    pub(super) fn take(shared: &Shared, identity: Identity) -> Result<Self, Error> {
        let txn = shared.begin_read()?;
        let header = header(&txn, identity).map_err(|fault| fault.on_reading(&shared.path))?;
        Ok(Self { txn, header, path: shared.path.clone() })
    }

    /// What a backup says of its records.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Its records: leases, then entries in the order of their keys, then revisions in theirs. Reads the disk as it is asked for the next.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file does not read, here or at any record.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record, Error>> + use<>, Error> {
        let path = self.path.clone();
        let records = records(&self.txn).map_err(|fault| fault.on_reading(&path))?;
        Ok(records.map(move |record| record.map_err(|fault| fault.on_reading(&path))))
    }
}

fn header(txn: &ReadTransaction, identity: Identity) -> Result<Header, Fault> {
    let (revision, kept) = read::numbers(txn)?;
    let last_lease = txn.open_table(META)?.get(LEASE)?.map_or(0, |number| number.value());
    Ok(Header { identity, revision, kept, last_lease })
}

fn records(txn: &ReadTransaction) -> Result<impl Iterator<Item = Result<Record, Fault>> + use<>, Fault> {
    let leases = txn.open_table(LEASES)?.range_owned::<u64>(..)?.map(|row| {
        let (number, seconds) = row?;
        let id = LeaseId::new(number.value()).ok_or(BadRow("a lease has no number"))?;
        Ok(Record::Lease(Lease { id, ttl: Duration::from_secs(seconds.value()) }))
    });
    let entries = txn.open_table(ENTRIES)?.range_owned::<&[u8]>(..)?.map(|row| {
        let (key, row) = row?;
        Ok(Record::Entry(rows::entry(Key::from(Bytes::copy_from_slice(key.value())), row.value())?))
    });
    let history = txn.open_table(HISTORY)?.range_owned::<u64>(..)?.map(|row| {
        let (number, row) = row?;
        Ok(Record::Batch(Batch { revision: Revision::new(number.value()), events: rows::events(row.value())? }))
    });
    Ok(leases.chain(entries).chain(history))
}

/// A store of what a backup holds.
pub(super) fn restore<E: fmt::Display>(
    path: &Path,
    header: Header,
    records: impl IntoIterator<Item = Result<Record, E>>,
    above: u64,
) -> Result<Identity, OpenError> {
    let mut lock = Lock::take(path)?;
    if path.try_exists().map_err(|source| open::system(path, source))? {
        return Err(OpenError::Exists { file: path.to_owned() });
    }
    let before = header.identity.incarnation.max(lock.incarnation()).max(above);
    let identity = Identity { incarnation: before.saturating_add(1), ..header.identity };
    // What is wrong with the backup is told apart from what is wrong with the disk.
    let mut bad = None;
    let made = open::create(path, &Arc::new(Disk::default()), |txn| {
        open::lay_tables(txn, identity)?;
        fill(txn, header, records, &mut bad)
    });
    match bad {
        Some(what) => Err(OpenError::BadBackup { what }),
        None => made.and_then(|()| lock.write(identity, None).map_err(|source| open::system(path, source)).map(|()| identity)),
    }
}

/// Writes every record; tells in `bad` what does not fit, and stops there.
fn fill<E: fmt::Display>(
    txn: &WriteTransaction,
    header: Header,
    records: impl IntoIterator<Item = Result<Record, E>>,
    bad: &mut Option<String>,
) -> Result<(), Fault> {
    let (mut entries, mut history) = (txn.open_table(ENTRIES)?, txn.open_table(HISTORY)?);
    let (mut leases, mut leased) = (txn.open_table(LEASES)?, txn.open_table(LEASED)?);
    let mut fits = Fits::new(header);
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => return stop(bad, error.to_string()),
        };
        if let Err(what) = fits.check(&record) {
            return stop(bad, what);
        }
        match record {
            Record::Lease(lease) => drop(leases.insert(lease.id.get(), lease.ttl.as_secs())?),
            Record::Entry(entry) => {
                if let Some(lease) = entry.lease {
                    leased.insert((lease.get(), entry.key.as_bytes()), ())?;
                }
                entries.insert(entry.key.as_bytes(), rows::entry_row(&entry).as_slice())?;
            }
            Record::Batch(batch) => drop(history.insert(batch.revision.get(), rows::history_row(&batch.events).as_slice())?),
        }
    }
    if let Err(what) = fits.end() {
        return stop(bad, what);
    }
    let mut kept = header.kept;
    if fits.newest_batch.is_none() && header.revision > Revision::ZERO {
        // Without a history nothing older than the present can be asked for, and nobody knows what made the present.
        kept = header.revision;
        history.insert(kept.get(), rows::history_row(&[]).as_slice())?;
    }
    let mut meta = txn.open_table(META)?;
    for (name, number) in [(REVISION, header.revision.get()), (KEPT, kept.get()), (LEASE, header.last_lease)] {
        meta.insert(name, number)?;
    }
    Ok(())
}

fn stop(bad: &mut Option<String>, what: String) -> Result<(), Fault> {
    *bad = Some(what);
    Err(BadRow("the backup does not fit together").into())
}

/// What the records so far say of those to come.
struct Fits {
    header: Header,
    leases: BTreeSet<LeaseId>,
    last_key: Option<Key>,
    newest_batch: Option<Revision>,
}

impl Fits {
    fn new(header: Header) -> Self {
        Self { header, leases: BTreeSet::new(), last_key: None, newest_batch: None }
    }

    fn check(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Lease(lease) if lease.id.get() > self.header.last_lease => Err(format!("lease {} was never given", lease.id)),
            Record::Lease(lease) => {
                self.leases.insert(lease.id);
                Ok(())
            }
            Record::Entry(entry) => self.entry(entry),
            Record::Batch(batch) => self.batch(batch),
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), String> {
        let key = &entry.key;
        if self.last_key.as_ref().is_some_and(|last| last >= key) {
            return Err(format!("entry {key} stands out of its order"));
        }
        if entry.mod_revision > self.header.revision || entry.create_revision > entry.mod_revision {
            return Err(format!("entry {key} was changed by revision {}, which was not there yet", entry.mod_revision));
        }
        if entry.lease.is_some_and(|lease| !self.leases.contains(&lease)) {
            return Err(format!("entry {key} is under a lease that is not in the backup"));
        }
        self.last_key = Some(key.clone());
        Ok(())
    }

    /// One behind the other up to the newest, or whoever watches would miss what lies between.
    fn batch(&mut self, batch: &Batch) -> Result<(), String> {
        let expected = self.newest_batch.map_or(self.header.kept.max(Revision::ZERO.next()), Revision::next);
        if batch.revision != expected || batch.revision > self.header.revision {
            return Err(format!("its history has revision {} where {expected} should be", batch.revision));
        }
        self.newest_batch = Some(batch.revision);
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        match self.newest_batch.filter(|newest| *newest != self.header.revision) {
            Some(newest) => Err(format!("its history ends at revision {newest}, and its entries at {}", self.header.revision)),
            None => Ok(()),
        }
    }
}
