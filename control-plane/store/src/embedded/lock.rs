//! The file beside the store that only one process can hold, and that says what the store must still hold.

use super::Identity;
use super::open::{OWNER_ONLY, OpenError, beside, damaged, system};
use crate::model::Revision;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The file beside the store that only one process can hold, and what the last clean end wrote into it.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    recorded: Recorded,
}

/// What the lock file says.
#[derive(Debug, Default)]
struct Recorded {
    identity: Option<Identity>,
    /// How far the store went at its last clean end; none while it is open.
    revision: Option<Revision>,
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let refused = |source| system(path, source);
        let name = beside(path, ".lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(OWNER_ONLY).open(name);
        let mut file = opened.map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { file: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(refused(source)),
        }
        let mut text = String::new();
        // Not ours, or cut by a crash: then it says nothing, and nothing is held against the store.
        let recorded = if file.read_to_string(&mut text).is_ok() { Recorded::read(&text) } else { Recorded::default() };
        Ok(Self { file, recorded })
    }

    /// Whether a missing file may be a store that never was.
    pub(super) fn may_be_new(&self, path: &Path) -> Result<(), OpenError> {
        match self.recorded.identity {
            None => Ok(()),
            Some(was) => Err(damaged(path, format!("it is gone, although store {was} was there; {}", overrule(path)))),
        }
    }

    /// Whether the file is the one that ended cleanly, and all of it.
    pub(super) fn agrees(&self, path: &Path, found: Identity, revision: Revision) -> Result<(), OpenError> {
        if let Some(was) = self.recorded.identity.filter(|was| *was != found) {
            return Err(damaged(path, format!("it is store {found}, and {was} was there; {}", overrule(path))));
        }
        if let Some(was) = self.recorded.revision.filter(|was| *was > revision) {
            return Err(damaged(path, format!("it ends at revision {revision}, and {was} was stored; {}", overrule(path))));
        }
        Ok(())
    }

    /// The incarnation of the store that was here last, damaged or gone as it may be.
    pub(super) fn incarnation(&self) -> u64 {
        self.recorded.identity.map_or(0, |identity| identity.incarnation)
    }

    /// Says whose file this is and, at a clean end, how far it goes.
    pub(super) fn write(&mut self, identity: Identity, ended: Option<Revision>) -> io::Result<()> {
        let Identity { cluster, incarnation } = identity;
        let mut text = format!("cluster {cluster:016x}\nincarnation {incarnation}\n");
        if let Some(revision) = ended {
            text.push_str(&format!("revision {revision}\n"));
        }
        self.recorded = Recorded { identity: Some(identity), revision: ended };
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }

    /// The store ended cleanly at `revision`.
    pub(super) fn end(mut self, revision: Revision) -> io::Result<()> {
        match self.recorded.identity {
            Some(identity) => self.write(identity, Some(revision)),
            None => Ok(()),
        }
    }
}

impl Recorded {
    fn read(text: &str) -> Self {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let cluster = field("cluster").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let incarnation = field("incarnation").and_then(|number| number.parse().ok());
        Self {
            identity: cluster.zip(incarnation).map(|(cluster, incarnation)| Identity { cluster, incarnation }),
            revision: field("revision").and_then(|number| number.parse().ok()).map(Revision::new),
        }
    }
}

fn overrule(path: &Path) -> String {
    format!("if that is meant, remove {}", beside(path, ".lock").display())
}
