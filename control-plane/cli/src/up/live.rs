//! What an edit became, told on the terminal as it happens: which parts are live, and which are not and why.

use crate::output::{BAD, FAINT, GOOD, WARN, paint};
use crate::validate::render::{self, Weight};
use bulkhead_config::protocol::{Offer, Part, Quarantined, Report};
use bulkhead_sidecar::policy::{KeyReader, PolicySource};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Reports that wait to be shown. When a terminal is stopped (Ctrl-S) later ones are dropped: the policy waits for nobody.
const REPORTS_MAX: usize = 16;

/// A policy source whose reports are shown to whoever watches.
pub(super) struct Shown<S> {
    source: S,
    reports: SyncSender<Report>,
}

impl<S> Shown<S> {
    /// Shows reports on `screen`, from a thread of its own.
    pub(super) fn new(source: S, screen: impl Write + Send + 'static) -> io::Result<Self> {
        let (reports, received) = sync_channel(REPORTS_MAX);
        thread::Builder::new().name("terminal".to_owned()).spawn(move || show(&received, screen))?;
        Ok(Self { source, reports })
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
        // Full: see above. Closed: the terminal has gone, which is no reason to stop serving.
        let _ = self.reports.try_send(report.clone());
        self.source.report(report);
    }
}

fn show(reports: &Receiver<Report>, mut screen: impl Write) {
    // What was told to be in quarantine is not told again with every edit elsewhere.
    let mut told = Vec::new();
    // The first report says what was there at the start, which the banner tells.
    let mut started = false;
    for report in reports {
        if screen.write_all(lines(&report, &told, started).as_bytes()).is_err() {
            return;
        }
        started = true;
        told = report.quarantined;
    }
}

fn lines(report: &Report, told: &[Quarantined], started: bool) -> String {
    let mut text = String::new();
    let mut line = |style, what: &str, told: &str| {
        let time = TimeZone::system().to_datetime(Timestamp::now()).strftime("%H:%M:%S");
        text.push_str(&format!("{} {} {told}\n", paint(FAINT, time), paint(style, what)));
    };
    if started && !report.accepted.is_empty() {
        line(GOOD, "live", &joined(&report.accepted));
    }
    if started && !report.gone.is_empty() {
        line(WARN, "gone", &format!("{}: no longer declared", joined(&report.gone)));
    }
    let is_told = |part: &Part| report.accepted.contains(part) || report.gone.contains(part);
    let is_held = |part: &Part| report.quarantined.iter().any(|held| held.part == *part);
    let well = told.iter().map(|held| &held.part).filter(|part| !is_held(part) && !is_told(part)).cloned();
    // Of a file nobody says what it holds now, or whether it is still there.
    let (files, parts): (Vec<Part>, Vec<Part>) = well.partition(|part| matches!(part, Part::File(_)));
    if !parts.is_empty() {
        line(GOOD, "live", &format!("{}, as declared again", joined(&parts)));
    }
    if !files.is_empty() {
        line(GOOD, "well", &format!("{}: nothing is wrong there any more", joined(&files)));
    }
    for held in report.quarantined.iter().filter(|held| !told.contains(held)) {
        let instead = held.instead();
        let mistakes = held.diagnostics.iter().map(|mistake| {
            let source = fs::read_to_string(&*mistake.file).ok();
            render::diagnostic(Weight::Mistake, mistake, source.as_deref())
        });
        let told = format!("{}: {instead}\n{}", held.part, mistakes.collect::<String>());
        line(BAD, "held", told.trim_end());
    }
    text
}

fn joined(parts: &[Part]) -> String {
    parts.iter().map(Part::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::diagnostic::Diagnostics;
    use bulkhead_config::protocol::Serving;
    use bulkhead_config::snapshot::Epoch;

    fn told(report: &Report, told: &[Quarantined], started: bool) -> Vec<String> {
        let text = anstream::adapter::strip_str(&lines(report, told, started)).to_string();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    struct Silent;
    impl PolicySource for Silent {
        async fn next(&mut self) -> Option<Offer> {
            None
        }
        fn report(&mut self, _: &Report) {}
        fn describe(&self) -> String {
            String::new()
        }
    }

    /// A terminal that takes nothing until it is told to go on.
    struct Stopped(Receiver<()>);
    impl Write for Stopped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// It would hang.
    #[test]
    fn a_stopped_terminal_holds_up_no_policy() {
        let (_go_on, stopped) = sync_channel(1);
        let mut shown = Shown::new(Silent, Stopped(stopped)).unwrap();
        let epoch = Epoch { incarnation: 1, revision: 1 };
        let report = Report { epoch, accepted: vec![Part::Platform], gone: Vec::new(), quarantined: Vec::new() };
        for _ in 0..10 * REPORTS_MAX {
            shown.report(&report);
        }
    }

    /// Nothing of it may ever have been served, and it may be well because it is deleted.
    #[test]
    fn of_a_file_nothing_is_claimed_to_be_served() {
        let file = |serving| Quarantined { part: Part::File("a.yaml".into()), diagnostics: Diagnostics::new(), serving };
        let report = |quarantined| {
            let epoch = Epoch { incarnation: 1, revision: 1 };
            Report { epoch, accepted: Vec::new(), gone: Vec::new(), quarantined }
        };
        let held = vec![file(Serving::LastGood)];
        let expected = "held file a.yaml: nothing new is taken from it; what was served of it before stays";
        assert_eq!(told(&report(held.clone()), &[], true), [expected]);
        assert_eq!(told(&report(Vec::new()), &held, true), ["well file a.yaml: nothing is wrong there any more"]);
    }

    #[test]
    fn an_edit_is_told_once_for_what_it_became() {
        let tenant = |id: &str| Part::Tenant(id.parse().unwrap());
        let held = |id: &str| Quarantined { part: tenant(id), diagnostics: Diagnostics::new(), serving: Serving::LastGood };
        let report = |accepted: &[&str], quarantined: &[&str]| Report {
            epoch: Epoch { incarnation: 1, revision: 2 },
            accepted: accepted.iter().map(|id| tenant(id)).collect(),
            gone: Vec::new(),
            quarantined: quarantined.iter().map(|id| held(id)).collect(),
        };
        assert_eq!(told(&report(&["a"], &[]), &[], false), [""; 0], "the banner tells what is there at the start");
        assert_eq!(told(&report(&["a", "b"], &[]), &[], true), ["live tenant a, tenant b"]);
        assert_eq!(told(&report(&[], &["a"]), &[], true), ["held tenant a: its last good version is served"]);
        assert_eq!(told(&report(&["b"], &["a"]), &[held("a")], true), ["live tenant b"]);
        assert_eq!(told(&report(&[], &[]), &[held("a")], true), ["live tenant a, as declared again"]);
        assert_eq!(told(&report(&["a"], &[]), &[held("a")], true), ["live tenant a"]);
        let gone = Report { gone: vec![tenant("a")], ..report(&["b"], &[]) };
        assert_eq!(told(&gone, &[held("a")], true), ["live tenant b", "gone tenant a: no longer declared"]);
    }
}
