//! The watched folder: a source of policy that reads documents from files and tells what changed.
//!
//! A thread of its own reads, so that neither a slow disk nor a hundred thousand files hold up anything else. It reads again
//! after 50 ms of quiet (at the latest after half a second of noise), and every 30 s unasked.

use super::watch::{Interest, Stop, Watch, Woken};
use super::{KeyReader, PolicySource};
use arc_swap::ArcSwapOption;
use bulkhead_config::protocol::{Offer, Report};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

mod list;
mod file;
mod scan;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub(super) use file::bytes;
use scan::Scan;

/// Offers that wait to be taken: while one is compiled the next gathers everything that happens meanwhile.
const OFFERS_MAX: usize = 1;

/// Documents in a folder (`*.yaml`, `*.yml`, `*.json`, in folders below it too), or in one file.
///
/// Left out are hidden files, and key sets, which are named `*.jwks` or `*.jwks.json`. Files that documents name are read
/// beside the document that names them, wherever that is.
#[derive(Debug)]
pub struct Folder {
    offers: mpsc::Receiver<Offer>,
    stop: Stop,
    place: String,
    blind: Arc<ArcSwapOption<String>>,
}

/// Why a folder cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Nothing stands there.
    #[error("cannot read the documents in `{}`: {cause}; name a folder or a file that is there", path.display())]
    NotThere {
        /// The path as named.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: std::io::Error,
    },
    /// No thread for it.
    #[error("cannot start the thread that watches `{}`", path.display())]
    Thread {
        /// The path as named.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: std::io::Error,
    },
}

impl Folder {
    /// Watches a folder or a file from now on. Places in diagnostics begin with `path` as it is written here.
    ///
    /// # Errors
    /// When nothing stands there, or the thread cannot be started. A folder that goes away later is waited for.
    pub fn watch(path: impl Into<PathBuf>) -> Result<Folder, FolderError> {
        let path = path.into();
        if let Err(cause) = std::fs::metadata(&path) {
            return Err(FolderError::NotThere { path, cause });
        }
        let place = path.display().to_string();
        let (sender, offers) = mpsc::channel(OFFERS_MAX);
        let (watch, stop) = Watch::new();
        let blind = Arc::new(ArcSwapOption::empty());
        let (told, root) = (Arc::clone(&blind), path.clone());
        let thread = std::thread::Builder::new().name("documents".to_owned());
        match thread.spawn(move || follow(Scan::new(root), watch, &sender, &told)) {
            Ok(_) => Ok(Folder { offers, stop, place, blind }),
            Err(cause) => Err(FolderError::Thread { path, cause }),
        }
    }

    /// Reads a folder or a file once: everything in it, and everything that is wrong with it.
    #[must_use]
    pub fn read_once(path: impl Into<PathBuf>) -> Offer {
        Scan::new(path.into()).read(&mut |_, _| {}).unwrap_or_default()
    }
}

impl PolicySource for Folder {
    async fn next(&mut self) -> Option<Offer> {
        self.offers.recv().await
    }

    fn report(&mut self, _report: &Report) {}

    fn describe(&self) -> String {
        match &*self.blind.load() {
            None => format!("folder {}", self.place),
            Some(why) => format!("folder {} (looked at every 2 s, because it cannot be watched: {why})", self.place),
        }
    }

    fn key_reader(&self) -> KeyReader {
        Arc::new(|name| Some(file::bytes(Path::new(name), file::KEY_FILE_BYTES_MAX).ok()?.into()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// What the thread does until nobody listens any more.
fn follow(mut scan: Scan, mut watch: Watch, offers: &mpsc::Sender<Offer>, blind: &ArcSwapOption<String>) {
    loop {
        watch.begin();
        watch_above(scan.root(), &mut watch);
        let offer = scan.read(&mut |folder, metadata| watch.directory(folder, metadata, Interest::All));
        watch.finish();
        blind.store(watch.blind().map(|why| Arc::new(why.to_owned())));
        if offer.is_some_and(|offer| offers.blocking_send(offer).is_err()) || offers.is_closed() {
            return;
        }
        if watch.wait() == Woken::Stop {
            return;
        }
    }
}

/// Watches the place where the folder stands, so that its own coming and going shows. A folder that is there, and no link, tells of
/// its going itself; beside it logs may be written, and each line would wake us.
fn watch_above(root: &Path, watch: &mut Watch) {
    let Ok(root) = std::path::absolute(root) else { return };
    if root.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return;
    }
    let (Some(above), Some(name)) = (root.parent(), root.file_name()) else { return };
    if let Ok(metadata) = above.metadata() {
        // Beside a single file the links that lead to it may change under any name.
        let interest = if root.is_dir() { Interest::Only(name.to_owned()) } else { Interest::All };
        watch.directory(above, &metadata, interest);
    }
}
