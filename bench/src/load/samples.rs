//! Every answer in a file, so that anybody can compute from it what this program told.

use super::answer::Status;
use crate::sidecar::unusable;
use crate::versus::step::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Columns of the file: nanoseconds, but for the last two.
const HEAD: &str = "ended_at,latency,service,lag,tenant,status";

/// One answer.
pub(crate) struct Sample<'a> {
    /// Since counting began.
    pub(crate) ended_at: Duration,
    pub(crate) latency: Duration,
    pub(crate) service: Duration,
    pub(crate) lag: Duration,
    pub(crate) tenant: &'a str,
    pub(crate) status: Status,
}

/// A file of comma-separated values, a line for each answer.
pub(crate) struct Samples {
    file: PathBuf,
    out: BufWriter<File>,
    failed: Option<io::Error>,
}

impl Samples {
    pub(crate) fn create(file: &Path) -> Result<Self, Error> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(file).map_err(unusable(file.display()))?);
        writeln!(out, "{HEAD}").map_err(unusable(file.display()))?;
        Ok(Self { file: file.to_owned(), out, failed: None })
    }

    /// The first failure is told at the end: a full disk ends no measurement.
    pub(crate) fn add(&mut self, sample: &Sample<'_>) {
        if self.failed.is_some() {
            return;
        }
        let [ended_at, latency, service, lag] = [sample.ended_at, sample.latency, sample.service, sample.lag].map(|time| time.as_nanos());
        let Sample { tenant, status, .. } = sample;
        self.failed = writeln!(self.out, "{ended_at},{latency},{service},{lag},{tenant},{status}").err();
    }

    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let ended = self.failed.map_or_else(|| self.out.flush(), Err);
        ended.map_err(unusable(self.file.display()))
    }
}
