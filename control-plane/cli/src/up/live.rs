//! What an edit became, told on the terminal as it happens: which parts are live, and which are not and why.

use crate::output::{BAD, FAINT, GOOD, paint};
use crate::validate::render::{self, Weight};
use bulkhead_config::protocol::{Offer, Quarantined, Report, Serving};
use bulkhead_sidecar::policy::{KeyReader, PolicySource};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs;
use std::io::Write as _;

/// A policy source whose reports are shown to whoever watches.
pub(super) struct Shown<S> {
    source: S,
    /// What was told to be in quarantine: it is not told again with every edit elsewhere.
    told: Vec<Quarantined>,
    /// The first report says what was there at the start, which the banner tells.
    started: bool,
}

impl<S> Shown<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, told: Vec::new(), started: false }
    }
}

impl<S: PolicySource> PolicySource for Shown<S> {
    async fn next(&mut self) -> Option<Offer> {
        self.source.next().await
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn key_reader(&self) -> KeyReader {
        self.source.key_reader()
    }

    fn report(&mut self, report: &Report) {
        let lines = lines(report, &self.told, self.started);
        // A terminal that has gone is no reason to stop serving.
        let _ = write!(anstream::stderr(), "{lines}");
        self.started = true;
        self.told.clone_from(&report.quarantined);
        self.source.report(report);
    }
}

fn lines(report: &Report, told: &[Quarantined], started: bool) -> String {
    let mut text = String::new();
    let time = paint(FAINT, TimeZone::system().to_datetime(Timestamp::now()).strftime("%H:%M:%S"));
    if started && !report.accepted.is_empty() {
        let parts: Vec<String> = report.accepted.iter().map(ToString::to_string).collect();
        text.push_str(&format!("{time} {} {}\n", paint(GOOD, "live"), parts.join(", ")));
    }
    for held in report.quarantined.iter().filter(|held| !told.contains(held)) {
        let instead = match held.serving {
            Serving::LastGood => "its last good version is served",
            Serving::Held => "nothing is served of it",
        };
        text.push_str(&format!("{time} {} {}: {instead}\n", paint(BAD, "held"), held.part));
        for mistake in held.diagnostics.iter() {
            let source = fs::read_to_string(&*mistake.file).ok();
            text.push_str(&render::diagnostic(Weight::Mistake, mistake, source.as_deref()));
        }
    }
    text
}
