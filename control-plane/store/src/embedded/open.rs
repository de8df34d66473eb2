//! Opening the file: one process, the right schema, nothing missing.
//!
//! A new store is made under another name and renamed when it is whole, so a file under the store's name is a store, or damage: one that
//! is empty, cut or gone is never taken for a new one. What the lock file says of the last clean end is what the file must still hold.

use super::fault::Fault;
use super::file::{Allocated, Disk};
use super::lock::Lock;
use super::rows::{CLUSTER, COMMITS, ENTRIES, HISTORY, INCARNATION, KEPT, LEASED, LEASES, META, REVISION, SCHEMA};
use super::{Head, Identity};
use crate::clock::{Clock, SystemClock};
use crate::model::{Lease, LeaseId, Revision};
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, WriteTransaction};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Version of the tables that this build reads and writes.
pub const SCHEMA_NOW: u64 = 1;

/// What redb keeps of the file in memory. Its own default is 1 GiB, more than the whole control plane shall take.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// What only the owner may read: documents name hosts, and hold hashes of keys.
pub(super) const OWNER_ONLY: u32 = 0o600;

/// What an embedded store is given.
#[derive(Debug, Clone)]
pub struct Options {
    /// What leases end by.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::default()) }
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process: stop that one, or name another data directory", file.display())]
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// What is there is not a whole store.
    #[error("{} is damaged: {what}; keep the file, and restore a backup: `bulkhead restore`", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It was written by an older version.
    #[error(
        "{} has schema {found}, this version {SCHEMA_NOW}: `bulkhead migrate --dry-run` shows the steps, `bulkhead migrate` does them",
        file.display()
    )]
    Older {
        /// The file.
        file: PathBuf,
        /// The schema it has.
        found: u64,
    },
    /// It was written by a newer version.
    #[error("{} has schema {found}, this version knows {SCHEMA_NOW}: run the version that wrote it, or restore a backup", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// The schema it has.
        found: u64,
    },
    /// There is one where another shall be made.
    #[error("{} is there already: move it away before a backup takes its place", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// What shall be restored does not fit together.
    #[error("the backup cannot be restored: {what}; take another one")]
    BadBackup {
        /// What is wrong with it.
        what: String,
    },
    /// The system refuses.
    #[error("{} cannot be opened", file.display())]
    System {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A store that is open.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) found: Found,
    pub(super) disk: Arc<Disk>,
    pub(super) lock: Lock,
}

/// What it says of itself.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) leases: Vec<Lease>,
    pub(super) identity: Identity,
}

/// Opens the store at `path`, and makes a new one where none has ever been.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let mut lock = Lock::take(path)?;
    let disk = Arc::new(Disk::default());
    if !path.try_exists().map_err(|source| system(path, source))? {
        lock.may_be_new(path)?;
        let identity = Identity { cluster: draw(path)?, incarnation: 1 };
        create(path, &disk, |txn| lay_tables(txn, identity))?;
    }
    let database = database(path, &disk)?;
    let found = look(path, &database)?;
    lock.agrees(path, found.identity, found.head.revision)?;
    lock.write(found.identity, None).map_err(|source| system(path, source))?;
    Ok(Opened { database, found, disk, lock })
}

/// Opens the file again after a failed write; who calls this holds the lock.
pub(super) fn reopen(path: &Path, disk: &Arc<Disk>) -> Result<(Database, Found), OpenError> {
    let database = database(path, disk)?;
    let found = look(path, &database)?;
    Ok((database, found))
}

/// A new store, filled and whole before it has its name.
pub(super) fn create(path: &Path, disk: &Arc<Disk>, fill: impl FnOnce(&WriteTransaction) -> Result<(), Fault>) -> Result<(), OpenError> {
    let unfinished = beside(path, ".new");
    let refused = |source| system(path, source);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&unfinished).map_err(refused)?;
    let made = Allocated::new(file, Arc::clone(disk)).and_then(|file| Builder::new().create_with_backend(file));
    let database = made.map_err(|error| told(path, error))?;
    let filled = commit(&database, fill).map_err(|fault| not_written(path, fault));
    let filled = filled.and_then(|()| database.close().map_err(|error| told(path, error)));
    // What is half filled is of no use, and whatever failed is told already.
    filled.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
    std::fs::rename(&unfinished, path).map_err(refused)?;
    sync_folder(path).map_err(refused)
}

/// Does it all in one commit.
pub(super) fn commit(database: &Database, fill: impl FnOnce(&WriteTransaction) -> Result<(), Fault>) -> Result<(), Fault> {
    let txn = database.begin_write()?;
    fill(&txn)?;
    Ok(txn.commit()?)
}

/// The tables of a store in which nothing has happened.
pub(super) fn lay_tables(txn: &WriteTransaction, identity: Identity) -> Result<(), Fault> {
    txn.open_table(ENTRIES)?;
    txn.open_table(HISTORY)?;
    txn.open_table(LEASES)?;
    txn.open_table(LEASED)?;
    let mut meta = txn.open_table(META)?;
    let Identity { cluster, incarnation } = identity;
    for (name, number) in [(SCHEMA, SCHEMA_NOW), (CLUSTER, cluster), (INCARNATION, incarnation), (REVISION, 0), (KEPT, 0), (COMMITS, 0)] {
        meta.insert(name, number)?;
    }
    Ok(())
}

/// The file as a database: every checksum is read, for the engine below trusts what ended cleanly.
pub(super) fn database(path: &Path, disk: &Arc<Disk>) -> Result<Database, OpenError> {
    let refused = |source| system(path, source);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if metadata.len() == 0 {
        return Err(damaged(path, "it is empty"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(OWNER_ONLY)).map_err(refused)?;
    }
    let backend = Allocated::new(file, Arc::clone(disk)).map_err(|error| told(path, error))?;
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    // redb asserts some of what it reads before it has checked it.
    match catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(backend))) {
        Ok(opened) => opened.map_err(|error| told(path, error)),
        Err(_) => Err(damaged(path, "what it holds contradicts itself")),
    }
}

/// Reads what the store says of itself.
fn look(path: &Path, database: &Database) -> Result<Found, OpenError> {
    let unreadable = |error: redb::Error| damaged(path, error.to_string());
    let txn = database.begin_read().map_err(|error| unreadable(error.into()))?;
    match schema(path, &txn)? {
        SCHEMA_NOW => {}
        found if found < SCHEMA_NOW => return Err(OpenError::Older { file: path.to_owned(), found }),
        found => return Err(OpenError::Newer { file: path.to_owned(), found }),
    }
    let number = |name| meta(&txn, name).map_err(unreadable)?.ok_or_else(|| damaged(path, format!("it has no {name}")));
    let head = Head { revision: Revision::new(number(REVISION)?), kept: Revision::new(number(KEPT)?), commits: number(COMMITS)? };
    let leases = leases(&txn).map_err(unreadable)?;
    let identity = Identity { cluster: number(CLUSTER)?, incarnation: number(INCARNATION)? };
    Ok(Found { head, leases, identity })
}

/// Version of the tables of a store.
pub(super) fn schema(path: &Path, txn: &ReadTransaction) -> Result<u64, OpenError> {
    let schema = meta(txn, SCHEMA).map_err(|error| damaged(path, error.to_string()))?;
    schema.ok_or_else(|| damaged(path, "it is no store of Bulkhead"))
}

fn meta(txn: &ReadTransaction, name: &str) -> Result<Option<u64>, redb::Error> {
    match txn.open_table(META) {
        Ok(meta) => Ok(meta.get(name)?.map(|number| number.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn leases(txn: &ReadTransaction) -> Result<Vec<Lease>, redb::Error> {
    let mut leases = Vec::new();
    for row in txn.open_table(LEASES)?.iter()? {
        let (number, seconds) = row?;
        leases.extend(LeaseId::new(number.value()).map(|id| Lease { id, ttl: Duration::from_secs(seconds.value()) }));
    }
    Ok(leases)
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// A number that no other store has.
fn draw(path: &Path) -> Result<u64, OpenError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|error| system(path, error.into()))?;
    Ok(u64::from_le_bytes(bytes))
}

pub(super) fn system(path: &Path, source: io::Error) -> OpenError {
    OpenError::System { file: path.to_owned(), source }
}

pub(super) fn damaged(path: &Path, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: path.to_owned(), what: what.into() }
}

/// Why a commit on a file that is only being made was not.
pub(super) fn not_written(path: &Path, fault: Fault) -> OpenError {
    match fault {
        Fault::Storage(redb::Error::Io(source)) => system(path, source),
        Fault::Storage(other) => system(path, io::Error::other(other)),
        Fault::Row(row) => damaged(path, row.0),
        Fault::Refused(error) => system(path, io::Error::other(error)),
    }
}

pub(super) fn told(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::Locked { file: path.to_owned() },
        // What is no file of redb's, or is cut, is told so, as an error of reading.
        DatabaseError::Storage(StorageError::Io(source))
            if !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            system(path, source)
        }
        DatabaseError::Storage(StorageError::Corrupted(what)) => damaged(path, what),
        other => damaged(path, other.to_string()),
    }
}
