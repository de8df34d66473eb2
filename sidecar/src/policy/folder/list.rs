//! Lists the files of a folder that hold documents, with what tells whether they changed. Opens none of them.
//!
//! Hidden entries are left out: editors' and version control's own files, and the `..data` folders behind Kubernetes'
//! links (the links beside them are followed). Key sets are named `*.jwks` or `*.jwks.json`, so that they are no documents.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Levels of folders below the watched one.
const DEPTH_MAX: usize = 16;
/// Files of one folder, as many as a million tenants with a file each need.
const FILES_MAX: usize = 1 << 20;

/// What changes when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Set by the kernel alone, so tools that keep the time of modification do not hide a change.
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a later change is sure to give another stamp: clocks of file systems are coarse, so a file that changed just
    /// now may change again without showing it.
    pub(crate) fn is_settled(&self, unix_ms: u64) -> bool {
        let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX);
        self.changed.0.saturating_add(2) < seconds && self.modified.0.saturating_add(2) < seconds
    }
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Files of documents.
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// What could not be listed, and why: what was known below it is not gone.
    pub(crate) unlisted: Vec<(PathBuf, String)>,
}

impl Listing {
    /// Whether a path that is not listed may be there all the same.
    pub(crate) fn may_hide(&self, path: &Path) -> bool {
        self.unlisted.iter().any(|(hidden, _)| path.starts_with(hidden))
    }
}

/// Lists a folder, or the one file that `root` is. `enter` is called for each folder before it is read.
pub(crate) fn list(root: &Path, enter: &mut dyn FnMut(&Path, &Metadata)) -> Listing {
    let mut listing = Listing::default();
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {
            let mut above = Vec::new();
            folder(root, &metadata, &mut above, enter, &mut listing);
        }
        Ok(metadata) => {
            listing.files.insert(root.to_owned(), Stamp::of(&metadata));
        }
        Err(error) => listing.unlisted.push((root.to_owned(), error.to_string())),
    }
    listing
}

/// Lists one folder and those in it. `above` are the folders it stands in, so that a link to one of them ends here.
fn folder(path: &Path, metadata: &Metadata, above: &mut Vec<(u64, u64)>, enter: &mut dyn FnMut(&Path, &Metadata), listing: &mut Listing) {
    let identity = (metadata.dev(), metadata.ino());
    if above.contains(&identity) {
        return;
    }
    if above.len() > DEPTH_MAX {
        listing.unlisted.push((path.to_owned(), format!("it stands more than {DEPTH_MAX} folders deep")));
        return;
    }
    enter(path, metadata);
    above.push(identity);
    if let Err(error) = entries(path, above, enter, listing) {
        listing.unlisted.push((path.to_owned(), error.to_string()));
    }
    above.pop();
}

fn entries(path: &Path, above: &mut Vec<(u64, u64)>, enter: &mut dyn FnMut(&Path, &Metadata), listing: &mut Listing) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => folder(&path, &metadata, above, enter, listing),
            Ok(_) if !holds_documents(&name) => {}
            Ok(_) if listing.files.len() >= FILES_MAX => {
                return Err(io::Error::other(format!("the folder holds more than {FILES_MAX} files")));
            }
            Ok(metadata) => {
                listing.files.insert(path, Stamp::of(&metadata));
            }
            // Deleted between listing and looking.
            Err(_) if fs::symlink_metadata(&path).is_err() => {}
            // A link that leads nowhere, to a file or to a folder: what was found through it is not gone.
            Err(error) => listing.unlisted.push((path, error.to_string())),
        }
    }
    Ok(())
}

/// Whether a file of this name is read for documents.
fn holds_documents(name: &str) -> bool {
    let keys = name.ends_with(".jwks.json") || name.ends_with(".jwks");
    !keys && !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}
