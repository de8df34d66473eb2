//! What is kept of the stream across restarts, in `DIR/pushed`: how far it was, and the files that offers brought.
//!
//! Documents are not here: the last-known-good holds them. Where the disk takes nothing the stream goes on all the same; a restart
//! without a control plane then lacks key sets, and says which.

use aws_lc_rs::digest::{SHA256, digest};
use bulkhead_config::protocol::{Contents, Offer};
use bulkhead_config::snapshot::Epoch;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one file at most, as of a file of the watched folder.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("pushed"))
    }

    /// How far an earlier process was. A file that says nothing is none: then what was served is asked for anew, and checked as new.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        let text = fs::read_to_string(self.0.join("epoch")).ok()?;
        let (incarnation, revision) = text.trim().split_once('.')?;
        Some(Epoch { incarnation: incarnation.parse().ok()?, revision: revision.parse().ok()? })
    }

    /// Keeps what an offer brought, before it is served.
    pub(super) fn keep(&self, offer: &Offer) -> io::Result<()> {
        for (name, contents) in &offer.files {
            if let Some(contents) = contents {
                write_private(&self.0, &file_of(name), contents)?;
            }
        }
        match offer.epoch {
            Some(epoch) => write_private(&self.0, "epoch", format!("{}.{}\n", epoch.incarnation, epoch.revision).as_bytes()),
            None => Ok(()),
        }
    }

    /// A file that an offer brought once.
    pub(super) fn read(&self, name: &str) -> Contents {
        let path = self.0.join(file_of(name));
        let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        if is_small { fs::read(path).ok().map(Arc::from) } else { None }
    }
}

/// A name holds what no file name may: its digest stands for it.
fn file_of(name: &str) -> String {
    digest(&SHA256, name.as_bytes()).as_ref().iter().fold(String::from("file-"), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes a file that nobody else may read, whole or not at all.
pub(super) fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (aside, path) = (folder.join(format!(".{name}.new")), folder.join(name));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, &path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_an_offer_brought_is_there_after_a_restart_and_for_nobody_else() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        let kept = Kept::new(data.path());
        assert_eq!((kept.epoch(), kept.read("../keys")), (None, None));
        let epoch = Epoch { incarnation: 3, revision: 9 };
        let files = vec![(Arc::from("../keys"), Some(Arc::from(&b"{}"[..])))];
        kept.keep(&Offer { epoch: Some(epoch), files, ..Offer::default() }).unwrap();
        let next = Kept::new(data.path());
        assert_eq!(next.epoch(), Some(epoch));
        assert_eq!(next.read("../keys").as_deref(), Some(&b"{}"[..]));
        for entry in fs::read_dir(data.path().join("pushed")).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_epoch_is_none() {
        let data = tempfile::tempdir().unwrap();
        for text in ["", "1", "1.x", "-1.2", "\u{0}"] {
            write_private(&data.path().join("pushed"), "epoch", text.as_bytes()).unwrap();
            assert_eq!(Kept::new(data.path()).epoch(), None, "{text:?}");
        }
    }
}
