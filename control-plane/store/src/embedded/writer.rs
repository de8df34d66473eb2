//! The one thread that writes. Everything that waits goes into one commit: a sync of the disk costs the same for one as for hundreds.
//!
//! A commit that fails changes nothing, whatever it failed of: the file is opened again, which undoes what was half written, and everybody
//! in it is told. Only when the very last write failed can it be that the commit counts; the file is asked, and if it does, those who
//! waited learn that they must read.

use super::apply::{Committed, Tables};
use super::fault::{Fault, not_stored};
use super::leases::{LOOK_AGAIN, Leases};
use super::lock::Lock;
use super::open::{self, OpenError};
use super::{Head, Shared};
use crate::Error;
use crate::model::{Lease, LeaseId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch as signal};

/// Most bytes of one commit: bounds the memory of a burst, and how long its first caller waits for its last.
const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer is asked.
pub(super) enum Message {
    /// To write.
    Write { task: Box<dyn Job>, size: Size, place: OwnedSemaphorePermit },
    /// To begin a lease's time anew, which writes nothing.
    KeepAlive { lease: LeaseId, reply: Reply<Lease> },
}

/// What a write asks of the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) bytes: usize,
    /// Whether it could make the file larger. What frees space is tried on a full disk too.
    pub(super) grows: bool,
}

impl Size {
    /// A few numbers, none of them new.
    pub(super) const SMALL: Self = Self { bytes: 64, grows: false };
}

/// A write and whoever waits for it.
pub(super) trait Job: Send {
    /// Does it on the tables of a commit. An error is the file's: what the caller is to blame for it keeps for its answer.
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;

    /// Answers: the commit is durable, or is not.
    fn settle(self: Box<Self>, committed: Result<(), Error>);
}

/// A job with an answer of its own type.
pub(super) struct Task<T, F> {
    run: F,
    done: Option<Result<T, Error>>,
    reply: Reply<T>,
}

impl<T: Send + 'static, F: FnMut(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static> Task<T, F> {
    pub(super) fn waited_for(run: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { run, done: None, reply }), answer)
    }
}

impl<T: Send, F: FnMut(&mut Tables<'_>) -> Result<T, Fault> + Send> Job for Task<T, F> {
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.done = Some(match (self.run)(tables) {
            Ok(done) => Ok(done),
            Err(Fault::Refused(error)) => Err(error),
            Err(fault) => return Err(fault),
        });
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), Error>) {
        let answer = match (committed, self.done) {
            // What it was refused for holds whether the others were stored or not.
            (_, Some(Err(refused))) => Err(refused),
            (Err(error), _) => Err(error),
            (Ok(()), Some(Ok(done))) => Ok(done),
            // Nobody answers for a job that never ran: whoever waits sees the channel close.
            (Ok(()), None) => return,
        };
        // Whoever asked may be gone.
        let _ = self.reply.send(answer);
    }
}

/// Why a commit was not made.
struct Failed {
    fault: Fault,
    /// Whether the last step had begun.
    at_the_end: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, at_the_end: false }
    }
}

/// The writer's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) publish: signal::Sender<Head>,
    pub(super) queue: Receiver<Message>,
    pub(super) leases: Leases,
    pub(super) lock: Lock,
}

/// What goes into one commit, with the places it holds in the queue.
#[derive(Default)]
struct Load {
    jobs: Vec<Box<dyn Job>>,
    places: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Writer {
    /// Writes until nobody can ask any more, then closes the file.
    pub(super) fn run(mut self) {
        while let Some(first) = self.wait() {
            let mut load = Load::default();
            let mut next = first;
            while let Some(message) = next {
                self.take(message, &mut load);
                next = if load.bytes < COMMIT_BYTES_MAX { self.queue.try_recv().ok() } else { None };
            }
            // After what waited in the queue: a lease that somebody keeps alive in time does not end.
            for lease in self.leases.due() {
                load.jobs.push(Task::waited_for(move |tables| tables.revoke(lease)).0);
            }
            if !load.jobs.is_empty() {
                self.commit(load);
            } else {
                // A file that could not be opened is tried again for its readers, too.
                let _ = self.ready();
            }
        }
        self.close();
    }

    /// The next message; `Some(None)` when it is time to look at the leases or the file, `None` when nobody is left to ask.
    fn wait(&self) -> Option<Option<Message>> {
        let time = if self.is_open() { self.leases.wait() } else { Some(LOOK_AGAIN) };
        let Some(time) = time else { return self.queue.recv().ok().map(Some) };
        match self.queue.recv_timeout(time) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn take(&mut self, message: Message, load: &mut Load) {
        match message {
            Message::KeepAlive { lease, reply } => {
                let _ = reply.send(self.leases.keep_alive(lease).ok_or(Error::NoLease { lease }));
            }
            Message::Write { task, size, place: _ } if size.grows && !self.shared.disk.has_room(&self.shared.path) => {
                task.settle(Err(not_stored(&self.shared.path, Some(Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull))))));
            }
            Message::Write { task, size, place } => {
                load.bytes = load.bytes.saturating_add(size.bytes);
                load.jobs.push(task);
                load.places.push(place);
            }
        }
    }

    /// One commit, and its answers.
    fn commit(&mut self, mut load: Load) {
        if let Err(error) = self.ready() {
            return settle(load.jobs, &Err(error));
        }
        // redb asserts what its checksums promise: a page changed under our feet ends this commit, not the thread.
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&mut load.jobs)));
        let written = written.unwrap_or_else(|_| Err(damage().into()));
        let committed = match written {
            Ok(committed) => {
                committed.into_iter().for_each(|committed| self.adopt(committed));
                Ok(())
            }
            Err(failed) => Err(self.recover(failed)),
        };
        settle(load.jobs, &committed);
    }

    fn write(&self, jobs: &mut [Box<dyn Job>]) -> Result<Option<Committed>, Failed> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(damage)?;
        let txn = database.begin_write().map_err(Fault::from)?;
        let mut tables = Tables::open(&txn, *self.publish.borrow())?;
        for job in jobs {
            job.run(&mut tables)?;
        }
        let Some(committed) = tables.finish()? else {
            // It was compared and read, and that is all: what was read is durable already.
            txn.abort().map_err(Fault::from)?;
            return Ok(None);
        };
        // One phase, one sync: a commit is known by its checksums. A second sync would protect from bytes that are chosen to collide
        // in a commit that is cut off at a chosen moment; who can do that to this process has its data directory already.
        txn.commit().map_err(|error| Failed { fault: error.into(), at_the_end: true })?;
        Ok(Some(committed))
    }

    /// Makes what is durable known: to readers before to those who waited, so that nobody is answered what another cannot see.
    fn adopt(&mut self, committed: Committed) {
        for lease in committed.granted {
            self.leases.begin(lease);
        }
        for lease in committed.ended {
            self.leases.end(lease);
        }
        self.publish.send_replace(committed.head);
    }

    /// Opens the file again after a failed commit, and says what became of that one.
    fn recover(&mut self, failed: Failed) -> Error {
        let before = self.publish.borrow().commits;
        let reopened = self.reopen();
        let counts = reopened.is_err() || self.publish.borrow().commits != before;
        if failed.at_the_end && counts {
            let cause: Option<Arc<dyn std::error::Error + Send + Sync>> = match failed.fault {
                Fault::Storage(cause) => Some(Arc::new(cause)),
                Fault::Refused(_) | Fault::Row(_) => None,
            };
            return Error::Uncertain { cause };
        }
        failed.fault.on_writing(&self.shared.path)
    }

    /// The file is open; if it could not be opened before, now is the time to try again.
    fn ready(&mut self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { self.reopen() }
    }

    fn is_open(&self) -> bool {
        self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Readers wait meanwhile, for a file that is being repaired has no state to read.
    fn reopen(&mut self) -> Result<(), Error> {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened: the file is locked against ourselves too.
        *database = None;
        let (opened, found) = open::reopen(&self.shared.path, &self.shared.disk).map_err(|error| match error {
            OpenError::Damaged { file, what } => Error::Damaged { file, what },
            other => not_stored(&self.shared.path, Some(Arc::new(other))),
        })?;
        *database = Some(opened);
        drop(database);
        // A commit that failed and counts all the same may have given leases, or ended them.
        self.leases.agree_with(&found.leases);
        self.publish.send_replace(found.head);
        Ok(())
    }

    /// A clean end, and how far the file goes.
    fn close(self) {
        let closed = self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take().map(redb::Database::close);
        if let Some(Ok(())) = closed {
            // Without it the next start has one check less.
            let _ = self.lock.end(self.publish.borrow().revision);
        }
    }
}

fn settle(jobs: Vec<Box<dyn Job>>, committed: &Result<(), Error>) {
    for job in jobs {
        job.settle(committed.clone());
    }
}

fn damage() -> Fault {
    Fault::Row(super::rows::BadRow("a page of it does not hold what it should"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::embedded::{Embedded, Options, WAITING_MAX};
    use crate::{Op, Revision, Store as _, Txn};
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn what_waits_is_one_commit_and_only_so_many_wait() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(folder.path().join("store.redb"), Options::default()).unwrap());
        let asked = WAITING_MAX + 10;
        let mut writes = JoinSet::new();
        // The writer cannot begin while somebody has the file.
        let shared = Arc::clone(&store.shared);
        let (held, holding) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            let _database = shared.database.write().unwrap();
            held.send(()).unwrap();
            released.recv().unwrap();
        });
        holding.recv().unwrap();
        for number in 0..asked {
            let store = Arc::clone(&store);
            writes.spawn(async move { store.txn(Txn::new().then(Op::put(format!("{number}"), "v"))).await.unwrap().revision });
        }
        while store.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..asked {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.shared.head.borrow().revision, Revision::ZERO);
        release.send(()).unwrap();
        holder.join().unwrap();

        let revisions: BTreeSet<_> = writes.join_all().await.into_iter().collect();
        assert_eq!(revisions, (1..=asked as u64).map(Revision::new).collect(), "each has a revision of its own");
        // One with what had come when it began, one with what waited meanwhile; the ten come as places become free.
        let commits = store.shared.head.borrow().commits;
        assert!(commits <= 2 + 10, "{asked} changes made {commits} commits");
    }
}
