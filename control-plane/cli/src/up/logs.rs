//! Where the logs of this start go.

use super::{Args, Error};
use crate::files;
use bulkhead_sidecar::telemetry::spool::Sink;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Where the logs go.
pub(super) struct Logs {
    access: Access,
    /// `None`: stderr.
    log: Option<PathBuf>,
}

enum Access {
    Off,
    Stdout,
    File(PathBuf),
}

impl Logs {
    /// As the command line says, else files in the data directory. A terminal is for people: without `--verbose` the log, which is
    /// JSON, goes to a file then too.
    pub(super) fn of(args: &Args, data_dir: &Path) -> Result<Self, Error> {
        let folder = data_dir.join("logs");
        files::make_private_dir(&folder).map_err(|source| Error::Unwritable { path: folder.clone(), source })?;
        let access = match args.access_log.as_deref() {
            None => Access::File(folder.join("access.jsonl")),
            Some(path) if path == Path::new("off") => Access::Off,
            Some(path) if path == Path::new("-") => Access::Stdout,
            Some(path) => Access::File(path.to_owned()),
        };
        let quiet = io::stderr().is_terminal() && !args.verbose;
        Ok(Self { access, log: quiet.then(|| folder.join("bulkhead.jsonl")) })
    }

    /// Whether a person watches, and gets sentences instead of log lines.
    pub(super) fn are_watched(&self) -> bool {
        self.log.is_some()
    }

    pub(super) fn log_sink(&self) -> Sink {
        self.log.clone().map_or(Sink::Stderr, Sink::File)
    }

    pub(super) fn access_sink(&self) -> Option<Sink> {
        match &self.access {
            Access::Off => None,
            Access::Stdout => Some(Sink::Stdout),
            Access::File(path) => Some(Sink::File(path.clone())),
        }
    }

    pub(super) fn log_file(&self) -> Option<PathBuf> {
        self.log.clone()
    }

    pub(super) fn access_file(&self) -> Option<PathBuf> {
        match &self.access {
            Access::File(path) => Some(path.clone()),
            Access::Off | Access::Stdout => None,
        }
    }
}
