//! The engine that needs nothing but one file: redb, written by one thread.
//!
//! Readers look at what was last committed, each at a moment of its own, and wait for no writer. Writes go through a queue to one thread,
//! which puts all that wait into one commit with one sync of the disk (group commit, `writer.rs`): every transaction keeps its revision and
//! its all-or-nothing, and is answered when the commit is durable. The history that watches read is a table beside the entries, so a slow
//! watcher costs the disk until the next compaction, and memory never.
//!
//! INVARIANT (one process): whoever holds the lock file beside the store is the only one to open it, also while the engine reopens it
//! after a failed write.

mod rows;
mod fault;
mod file;
mod open;
mod lock;
mod apply;
mod read;
mod leases;
mod writer;
mod watch;
mod backup;
mod migrate;
#[cfg(test)]
mod disk_tests;

pub use backup::{Header, Record, Snapshot};
pub use migrate::{Plan, Step};
pub use open::{OpenError, Options, SCHEMA_NOW};

use crate::model::{Keys, Lease, LeaseId, Page, Range, Revision};
use crate::txn::{Outcome, Txn};
use crate::{Error, Pending, Store, Watch};
use apply::Tables;
use fault::Fault;
use file::Disk;
use leases::Leases;
use redb::{Database, ReadTransaction, ReadableDatabase};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch as signal};
use writer::{Message, Size, Task, Writer};

/// Most writes that wait for the writer. Whoever comes then waits for a place, so that a slow disk is felt by callers, not by memory.
const WAITING_MAX: usize = 1_024;

/// A store in one file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    /// `None` once it is being dropped: the writer ends with the last sender.
    queue: Option<mpsc::Sender<Message>>,
    places: Arc<Semaphore>,
    identity: Identity,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// Which store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the store was made, and kept by its backups.
    pub cluster: u64,
    /// Raised by each restore: its revisions are none of those that were lost, whatever their numbers.
    pub incarnation: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x} (incarnation {})", self.cluster, self.incarnation)
    }
}

/// What readers and the writer share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// `None` while it cannot be opened. Locked for writing only to reopen it, never for a commit.
    database: RwLock<Option<Database>>,
    /// Closes when the writer ends, and with it whoever waits for more.
    head: signal::Receiver<Head>,
    disk: Arc<Disk>,
}

/// What the last commit left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// The newest revision.
    revision: Revision,
    /// The oldest revision that can be asked for.
    kept: Revision,
    /// Commits so far: tells after a failed one whether it counts.
    commits: u64,
}

impl Embedded {
    /// Opens the store at `path`, and makes a new one where none has ever been. Blocks: it reads the whole file and checks every checksum.
    ///
    /// # Errors
    /// [`OpenError`]: another process has it, its schema is another, it is damaged, or the system refuses.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let opened = open::open(&path)?;
        let (publish, head) = signal::channel(opened.found.head);
        let shared = Arc::new(Shared { path, database: RwLock::new(Some(opened.database)), head, disk: opened.disk });
        let (queue, received) = mpsc::channel();
        let leases = Leases::new(options.clock, &opened.found.leases);
        let writer = Writer { shared: Arc::clone(&shared), publish, queue: received, leases, lock: opened.lock };
        let cannot_start = |source| OpenError::System { file: shared.path.clone(), source };
        let writer = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).map_err(cannot_start)?;
        let (places, identity) = (Arc::new(Semaphore::new(WAITING_MAX)), opened.found.identity);
        Ok(Self { shared, queue: Some(queue), places, identity, writer: Some(writer) })
    }

    /// Which store it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// All that it holds at this moment, for a backup. Writers go on beside it; the pages it sees stay until it is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the file cannot be opened, [`Error::Damaged`] when it does not read.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        Snapshot::take(&self.shared, self.identity)
    }

    /// Makes the store at `path` of what a backup holds, with a higher incarnation than its own, than that of the store that was here
    /// last, and than `above`: what whoever restores knows of, such as the one that sidecars have. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is a file, [`OpenError::BadBackup`] when the records do not fit together; nothing is there then.
    pub fn restore<E: fmt::Display>(
        path: impl AsRef<Path>,
        header: Header,
        records: impl IntoIterator<Item = Result<Record, E>>,
        above: u64,
    ) -> Result<Identity, OpenError> {
        backup::restore(path.as_ref(), header, records, above)
    }

    /// Brings the store at `path` to the schema of this version, or only says how: with `dry_run` every step is done and undone. Blocks.
    ///
    /// # Errors
    /// Those of [`Embedded::open`], and the system's; the store is as it was then.
    pub fn migrate(path: impl AsRef<Path>, dry_run: bool) -> Result<Plan, OpenError> {
        migrate::migrate(path.as_ref(), dry_run)
    }

    /// Reads on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static) -> Result<T, Error> {
        read_apart(Arc::clone(&self.shared), read).await
    }

    /// Has the writer do `run`, and waits until that is durable.
    async fn write<T: Send + 'static>(
        &self,
        size: Size,
        run: impl FnMut(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closing())?;
        let (task, answer) = Task::waited_for(run);
        self.send(Message::Write { task, size, place })?;
        answer.await.unwrap_or_else(|_| Err(closing()))
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        let queue = self.queue.as_ref().ok_or_else(closing)?;
        queue.send(message).map_err(|_| closing())
    }
}

impl Store for Embedded {
    fn revision(&self) -> Pending<'_, Revision> {
        Box::pin(async { Ok(self.shared.head.borrow().revision) })
    }

    fn range(&self, range: Range) -> Pending<'_, Page> {
        Box::pin(self.read(move |txn| read::page(txn, &range)))
    }

    fn txn(&self, txn: Txn) -> Pending<'_, Outcome> {
        Box::pin(async move {
            txn.check()?;
            let size = Size { bytes: txn.bytes(), grows: txn.puts() };
            self.write(size, move |tables| tables.txn(&txn)).await
        })
    }

    fn watch(&self, keys: Keys, from: Revision) -> Pending<'_, Box<dyn Watch>> {
        Box::pin(async move { watch::begin(Arc::clone(&self.shared), keys, from) })
    }

    fn compact(&self, revision: Revision) -> Pending<'_, ()> {
        Box::pin(self.write(Size::SMALL, move |tables| tables.compact(revision)))
    }

    fn grant(&self, ttl: Duration) -> Pending<'_, Lease> {
        Box::pin(self.write(Size { grows: true, ..Size::SMALL }, move |tables| tables.grant(ttl)))
    }

    fn keep_alive(&self, lease: LeaseId) -> Pending<'_, Lease> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.send(Message::KeepAlive { lease, reply })?;
            answer.await.unwrap_or_else(|_| Err(closing()))
        })
    }

    fn revoke(&self, lease: LeaseId) -> Pending<'_, Revision> {
        Box::pin(self.write(Size::SMALL, move |tables| tables.revoke(lease)))
    }
}

impl Drop for Embedded {
    /// Waits for the commit under way, if there is one, so that the file can be opened again right after.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // It catches what panics; there is nobody left to tell of anything else.
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// How things stand at the last commit; stays so for whoever holds it.
    fn begin_read(&self) -> Result<ReadTransaction, Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| Error::Unavailable { what: "its file cannot be opened at the moment".into() })?;
        database.begin_read().map_err(|cause| Fault::from(cause).on_reading(&self.path))
    }
}

async fn read_apart<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Error> {
    let path = shared.path.clone();
    let reading = tokio::task::spawn_blocking(move || read(&shared.begin_read()?).map_err(|fault| fault.on_reading(&shared.path)));
    match reading.await {
        Ok(found) => found,
        Err(ended) if ended.is_cancelled() => Err(closing()),
        // redb asserts what its checksums promise: a page changed under our feet.
        Err(_) => Err(Error::Damaged { file: path, what: "a page of it does not hold what it should".into() }),
    }
}

fn closing() -> Error {
    Error::Unavailable { what: "it is being closed".into() }
}
