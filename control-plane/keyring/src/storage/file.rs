//! Entries in one file: JSON, replaced whole, written by one process at a time.

use super::{Entries, Pending, Put, Puts, Storage, StorageError, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Entries in a file of mode 0600. Reads and writes block for as long as the disk takes: there are few of either.
#[derive(Debug, Clone)]
pub struct FileStorage {
    path: PathBuf,
}

impl FileStorage {
    /// In this file, whose directory is there; the file itself is made by the first put.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> Result<Entries, StorageError> {
        match fs::read(&self.path) {
            Ok(bytes) => parse(&bytes).ok_or_else(|| {
                let what = format!("the keyring {} is no keyring any more; restore it from a backup", self.path.display());
                StorageError::new(what, "it is not the JSON that was written")
            }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Entries::default()),
            Err(cause) => Err(StorageError::new(format!("the keyring {} cannot be read", self.path.display()), cause)),
        }
    }

    fn write(&self, entries: Puts, seen: Version) -> Result<Put, StorageError> {
        let unwritable = |cause| StorageError::new(format!("the keyring {} cannot be written", self.path.display()), cause);
        // Held until the end: between what is read here and what is written nobody else writes.
        let lock = private(&self.path.with_extension("lock")).map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        let mut held = self.read()?;
        if held.version != seen {
            return Ok(Put::Moved);
        }
        held.apply(entries);
        replace(&self.path, show(&held).to_string().as_bytes()).map_err(unwritable)?;
        Ok(Put::Done(held.version))
    }
}

impl Storage for FileStorage {
    fn load(&self) -> Pending<'_, Entries> {
        Box::pin(async { self.read() })
    }

    fn put(&self, entries: Puts, seen: Version) -> Pending<'_, Put> {
        Box::pin(async move { self.write(entries, seen) })
    }
}

fn parse(bytes: &[u8]) -> Option<Entries> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let entries = value.get("entries")?.as_object()?.iter();
    let entries = entries.map(|(name, value)| Some((name.clone(), STANDARD.decode(value.as_str()?).ok()?))).collect::<Option<_>>()?;
    Some(Entries { version: value.get("version")?.as_u64()?, entries })
}

fn show(held: &Entries) -> Value {
    let entries: Map<_, _> = held.entries.iter().map(|(name, bytes)| (name.clone(), STANDARD.encode(bytes).into())).collect();
    json!({ "version": held.version, "entries": entries })
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A reader sees the old content or the new, never a part; when this returns, the new one is on the disk.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private(&beside)?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
