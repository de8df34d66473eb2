//! What goes wrong inside the engine, and how callers are told.

use super::rows::BadRow;
use crate::Error;
use std::path::Path;
use std::sync::Arc;

/// Why a step was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// The caller asked for what cannot be: nothing was written, and the others of the commit go on.
    Refused(Error),
    /// The file, or what is in it.
    Storage(redb::Error),
    /// A row that does not read.
    Row(BadRow),
}

impl Fault {
    /// What a reader is told.
    pub(super) fn on_reading(self, file: &Path) -> Error {
        let unavailable = |cause| Error::Unavailable { what: format!("{} cannot be read: {cause}", file.display()) };
        self.told(file).unwrap_or_else(unavailable)
    }

    /// What a writer is told whose change was not made.
    pub(super) fn on_writing(self, file: &Path) -> Error {
        self.told(file).unwrap_or_else(|cause| not_stored(file, Some(Arc::new(cause))))
    }

    /// What anybody is told; else the error of the system.
    fn told(self, file: &Path) -> Result<Error, redb::Error> {
        let what = match self {
            Self::Refused(error) => return Ok(error),
            Self::Storage(redb::Error::Corrupted(what)) => what,
            Self::Storage(cause) => return Err(cause),
            Self::Row(BadRow(what)) => what.to_owned(),
        };
        Ok(Error::Damaged { file: file.to_owned(), what })
    }
}

/// The file cannot be written, and nothing was changed.
pub(super) fn not_stored(file: &Path, cause: Option<Arc<dyn std::error::Error + Send + Sync>>) -> Error {
    let said = cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    Error::NotStored {
        what: format!("{} could not be written{said}: free space on its disk, or repair it, and try again", file.display()),
        cause,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<BadRow> for Fault {
    fn from(row: BadRow) -> Self {
        Self::Row(row)
    }
}

/// redb has an error type per step; ours is one.
macro_rules! of_storage {
    ($($step:ty),+) => {$(
        impl From<$step> for Fault {
            fn from(cause: $step) -> Self {
                Self::Storage(cause.into())
            }
        }
    )+};
}
of_storage!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
