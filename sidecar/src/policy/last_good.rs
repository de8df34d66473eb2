//! Last-known-good, earned part by part: what this process may serve, and what it falls back on, across its own deaths.
//!
//! `DIR/policy/journal` holds the ledger, `DIR/policy/running` stands while a process runs and is left behind by one that did
//! not end in order. Where neither can be written, policy is served all the same, and status says that nothing is kept.

use super::Map;
use crate::clock::Now;
use bulkhead_config::protocol::{Broken, Offer, Part};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod texts;
mod ledger;
mod journal;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

use journal::{Journal, Record, Recovered};
use ledger::{End, Ledger};

pub use ledger::PROBATION;
pub(crate) use ledger::{Entry, Phase};
pub(crate) use texts::{Text, Texts};

/// Parts that are written in one go: what a hundred thousand take at once is bounded.
const CHUNK: usize = 1_024;
/// A full disk is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// The ledger, and its keeping on disk.
#[derive(Debug)]
pub(crate) struct LastGood {
    pub(crate) ledger: Ledger,
    journal: Option<Journal>,
    folder: PathBuf,
    /// The mark that this process runs, removed when this is dropped in order, or why there is none; nothing while the folder is
    /// another process's.
    running: Option<Result<Running, String>>,
    /// Why nothing is kept.
    trouble: Option<String>,
    /// The last revision that was served from this folder.
    revision: u64,
    /// Whether this is the first start: there is nothing that was served before.
    is_first_start: bool,
}

/// What opening found that people should know.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Whether the process before this one did not end in order.
    pub(crate) is_unclean: bool,
    /// What could not be trusted.
    pub(crate) damage: Vec<String>,
    /// Whether nothing is left of what earlier processes kept.
    pub(crate) is_lost: bool,
}

impl LastGood {
    /// Opens `data_dir/policy` and takes the end of the process before into account.
    pub(crate) fn open(data_dir: &Path, probation: Duration, now: Now) -> (Self, Findings) {
        let folder = data_dir.join("policy");
        let mut trouble = fs::create_dir_all(&folder).err().map(|error| at(&folder, &error));
        let is_unclean = Running::at(&folder).exists();
        let (journal, recovered) = match Journal::open(&folder) {
            Ok((journal, recovered)) => (Some(journal), recovered),
            Err(error) => {
                trouble.get_or_insert(at(&folder, &error));
                (None, Recovered::default())
            }
        };
        let running = Some(Running::mark(&folder, now));
        let revision = recovered.records.iter().map(|record| record.revision).max().unwrap_or(0);
        let ended = if is_unclean { End::Unclean } else { End::Clean };
        let (ledger, changed) = Ledger::open(latest(recovered.records), ended, probation);
        let findings =
            Findings { is_unclean, is_lost: ledger.is_blank() && (is_unclean || !recovered.damage.is_empty()), damage: recovered.damage };
        let is_first_start = ledger.is_blank();
        let mut last_good = Self { ledger, journal, folder, running, trouble, revision, is_first_start };
        if !findings.damage.is_empty() {
            last_good.rewrite(now);
        }
        // Before anything is served: should this process die at once, the next one has to know how far this one was.
        last_good.record(&changed, revision, now);
        last_good.sync(now);
        (last_good, findings)
    }

    /// Why nothing is kept on disk, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        let unmarked = self.running.as_ref().and_then(|running| running.as_ref().err());
        self.trouble.as_deref().or(unmarked.map(String::as_str))
    }

    /// Leaves the folder to another process, as if this one had ended in order. Nothing may be recorded until it is taken back.
    pub(crate) fn let_go(&mut self, now: Now) {
        self.sync(now);
        if let Some(journal) = &mut self.journal {
            journal.close();
        }
        self.running = None;
    }

    /// Has the folder again, as if nobody else had had it: what stands there gives way to what this process knows.
    pub(crate) fn take_back(&mut self, now: Now) {
        self.running = Some(Running::mark(&self.folder, now));
        self.rewrite(now);
    }

    /// Time until there is something to do: what the ledger waits for, or another try to keep what could not be kept.
    pub(crate) fn wait(&self, now: Now) -> Option<Duration> {
        let again = (self.trouble.is_some() && self.journal.is_some()).then_some(AGAIN);
        self.ledger.wait(now).into_iter().chain(again).min()
    }

    /// The last revision that an earlier process served.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether nothing was ever served from this data directory.
    pub(crate) fn is_first_start(&self) -> bool {
        self.is_first_start
    }

    /// What was declared last, as an offer: for a source that may have nothing to say at a start. Nothing on the very first one.
    pub(crate) fn offer(&self) -> Option<Offer> {
        if self.is_first_start {
            return None;
        }
        let mut offer = Offer::default();
        for text in self.ledger.parts().filter_map(|(_, entry)| entry.declared()).flat_map(Texts::iter) {
            match text.read() {
                Ok(put) => offer.put.push(put),
                Err(diagnostics) => offer.broken.push(Broken { file: Arc::clone(&text.file), id: Some(text.id.clone()), diagnostics }),
            }
        }
        Some(offer)
    }

    /// Writes down where these parts stand in the ledger. To be called before they are served.
    pub(crate) fn record(&mut self, parts: &[Part], revision: u64, now: Now) {
        let Some(journal) = &mut self.journal else { return };
        let is_later = revision > self.revision;
        self.revision = self.revision.max(revision);
        let record = |part: &Part| Record { part: part.clone(), at_ms: now.unix_ms, revision, entry: self.ledger.entry(part).cloned() };
        // A line says the revision too, so where no part has news one is said again: the next process counts on from it.
        let parts = if parts.is_empty() && is_later { &[Part::Platform] } else { parts };
        let written = parts.chunks(CHUNK).try_for_each(|parts| journal.append(parts.iter().map(record)));
        if !parts.is_empty() {
            self.trouble = written.err().map(|error| error.to_string());
        }
        if self.trouble.is_some() {
            self.rewrite(now);
        }
    }

    /// Makes what was recorded survive the machine. To be called after it is served: nobody waits for the disk.
    pub(crate) fn sync(&mut self, now: Now) {
        let Some(journal) = &mut self.journal else { return };
        if let Err(error) = journal.sync() {
            self.trouble = Some(error.to_string());
        }
        if journal.is_overgrown(now.unix_ms) {
            self.rewrite(now);
        }
    }

    fn rewrite(&mut self, now: Now) {
        let Some(journal) = &mut self.journal else { return };
        let record = |(part, entry): (&Part, &Entry)| Record {
            part: part.clone(),
            at_ms: now.unix_ms,
            revision: self.revision,
            entry: Some(entry.clone()),
        };
        self.trouble = journal.rewrite(self.ledger.parts().map(record)).err().map(|error| error.to_string());
    }
}

/// The last state of each part.
fn latest(records: Vec<Record>) -> Map<Part, Entry> {
    let mut parts = Map::default();
    for record in records {
        match record.entry {
            Some(entry) => parts.insert(record.part, entry),
            None => parts.remove(&record.part),
        };
    }
    parts
}

fn at(folder: &Path, error: &io::Error) -> String {
    format!("{}: {error}", folder.display())
}

/// The mark that a process runs.
#[derive(Debug)]
struct Running(PathBuf);

impl Running {
    fn at(folder: &Path) -> PathBuf {
        folder.join("running")
    }

    fn mark(folder: &Path, now: Now) -> Result<Self, String> {
        let marked = Self::write(Self::at(folder), now);
        marked.map_err(|error| at(folder, &error))
    }

    fn write(path: PathBuf, now: Now) -> io::Result<Self> {
        let mut file = File::create(&path)?;
        writeln!(file, "{{\"since_unix_ms\":{}}}", now.unix_ms)?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(path))
    }
}

/// A process that unwinds from a defect does not end in order.
impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_file(&self.0);
        }
    }
}
