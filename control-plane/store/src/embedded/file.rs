//! The file under redb: space is taken before it is written to.
//!
//! redb lengthens its file by leaving a hole and fills it later, so a full disk would be met in the middle of a commit and again when the
//! file is repaired. Here a file becomes longer only with its blocks allocated: a full disk refuses the growth, and everything within the
//! file's length can be written whatever happens on that disk.

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is known of the disk between one opening of the file and the next.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The length that the file was last refused; 0 when it has what it wanted.
    wanted: AtomicU64,
    /// Which write or sync from now on the disk refuses; 0 for none.
    #[cfg(test)]
    pub(super) refuse: AtomicU64,
    /// Whether it refuses all of them.
    #[cfg(test)]
    pub(super) dead: std::sync::atomic::AtomicBool,
}

impl Disk {
    /// Where a test makes the disk fail.
    #[cfg(test)]
    fn refused(&self) -> io::Result<()> {
        let counted = self.refuse.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        let refused = counted == Ok(1) || self.dead.load(Ordering::Acquire);
        if refused { Err(io::Error::other("the disk refuses")) } else { Ok(()) }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a disk fails by itself")]
    fn refused(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is room now for what was refused before. Costs nothing while nothing was.
    pub(super) fn has_room(&self, path: &Path) -> bool {
        let wanted = self.wanted.load(Ordering::Acquire);
        if wanted == 0 {
            return true;
        }
        let reserved = File::options().write(true).open(path).and_then(|file| allocate(&file, FallocateFlags::KEEP_SIZE, wanted));
        if reserved.is_ok() {
            self.wanted.store(0, Ordering::Release);
        }
        reserved.is_ok()
    }
}

/// redb's own file, but for how it grows.
#[derive(Debug)]
pub(super) struct Allocated {
    inner: FileBackend,
    /// The same file again: redb's keeps it to itself.
    file: File,
    disk: Arc<Disk>,
}

impl Allocated {
    pub(super) fn new(file: File, disk: Arc<Disk>) -> Result<Self, DatabaseError> {
        let same = file.try_clone()?;
        Ok(Self { inner: FileBackend::new(file)?, file: same, disk })
    }
}

impl StorageBackend for Allocated {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > self.inner.len()? {
            allocate(&self.file, FallocateFlags::empty(), length).inspect_err(|_| self.disk.wanted.store(length, Ordering::Release))?;
        }
        self.inner.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.refused()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.refused()?;
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// Gives `file` its blocks up to `length`. A file system that cannot (NFS before 4.2, some in user space) leaves holes as redb does.
fn allocate(file: &File, how: FallocateFlags, length: u64) -> io::Result<()> {
    match fallocate(file, how, 0, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}
