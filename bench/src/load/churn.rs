//! Policy that changes while the load runs: a document in a watched folder, or a command of one's own, again and again.
//!
//! It has a thread of its own: what a change costs the load is to be seen in the answers, and not in when they were asked for.

use crate::sidecar::unusable;
use crate::versus::step::Error;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The document that comes and goes in a folder.
const DOCUMENT: &str = "load-churn.yaml";
/// Between two looks at a command that runs.
const LOOK: Duration = Duration::from_millis(5);

/// What changes the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Churn {
    /// A tenant of its own in this folder, whose host changes each time: the whole snapshot is made anew, and nobody else's slice.
    Folder(PathBuf),
    /// A line for the shell, with its number in `BULKHEAD_CHURN`.
    Command(String),
}

impl FromStr for Churn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is neither a folder nor a command".to_owned()),
            text if Path::new(text).is_dir() => Ok(Self::Folder(text.into())),
            text => Ok(Self::Command(text.to_owned())),
        }
    }
}

/// What came of the changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    made: Vec<Instant>,
    failed: u64,
    /// Why the first of them failed.
    why: Option<String>,
}

impl Changes {
    /// What was to change and did not: the load met another policy than it was meant to.
    pub(crate) fn failed(&self) -> bool {
        self.failed > 0 || self.made.is_empty()
    }

    pub(crate) fn json(&self, began: Instant) -> Value {
        let at: Vec<_> = self.made.iter().map(|made| made.saturating_duration_since(began).as_secs_f64()).collect();
        json!({ "made": self.made.len(), "failed": self.failed, "at_seconds": at })
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "policy changed {} times, {} times in vain", self.made.len(), self.failed)?;
        self.why.iter().try_for_each(|why| write!(out, ": {why}"))
    }
}

/// Changes under way.
pub(crate) struct Churning {
    /// Dropped to end it.
    stop: Sender<()>,
    thread: JoinHandle<Changes>,
}

impl Churning {
    pub(crate) fn start(churn: Churn, every: Duration) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let run = move || changes(&churn, every, &stopped);
        let thread = thread::Builder::new().name("churn".to_owned()).spawn(run).map_err(unusable("a thread"))?;
        Ok(Self { stop, thread })
    }

    /// Ends it, and puts the folder back as it was.
    pub(crate) fn end(self) -> Changes {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

fn changes(churn: &Churn, every: Duration, stopped: &Receiver<()>) -> Changes {
    let mut changes = Changes::default();
    let mut due = Instant::now() + every;
    for number in 1.. {
        if has_ended(stopped, due.saturating_duration_since(Instant::now())) {
            break;
        }
        due = (due + every).max(Instant::now());
        match churn.change(number, stopped) {
            Ok(Done::Changed) => changes.made.push(Instant::now()),
            Ok(Done::Stopped) => break,
            Err(cause) => {
                changes.failed += 1;
                changes.why.get_or_insert_with(|| cause.to_string());
            }
        }
    }
    if let Churn::Folder(folder) = churn {
        // It may never have been made.
        let _ = fs::remove_file(folder.join(DOCUMENT));
    }
    changes
}

fn has_ended(stopped: &Receiver<()>, within: Duration) -> bool {
    stopped.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
}

enum Done {
    Changed,
    Stopped,
}

impl Churn {
    fn change(&self, number: u64, stopped: &Receiver<()>) -> io::Result<Done> {
        match self {
            Self::Folder(folder) => replace(folder, number).map(|()| Done::Changed),
            Self::Command(line) => command(line, number, stopped),
        }
    }
}

/// Beside it, then renamed: whoever watches sees whole documents only.
fn replace(folder: &Path, number: u64) -> io::Result<()> {
    let text = format!(
        "# Written by `bulkhead-bench load --policy-churn`, which takes it away at its end.\n\
         kind: Tenant\ntenant_id: load-churn\nname: Load\nemail: load@load-churn.invalid\nhosts: [\"change-{number}.load-churn.invalid\"]\n"
    );
    let aside = folder.join(format!(".{DOCUMENT}.new"));
    fs::write(&aside, text)?;
    fs::rename(aside, folder.join(DOCUMENT))
}

fn command(line: &str, number: u64, stopped: &Receiver<()>) -> io::Result<Done> {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("BULKHEAD_CHURN", number.to_string());
    // A group of its own: what the shell has started ends with it.
    let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(Done::Changed),
            Some(status) => return Err(io::Error::other(format!("`{line}` ended with {status}"))),
            None if has_ended(stopped, LOOK) => {
                // The run is over, whatever it still had to do.
                kill_process_group(Pid::from_child(&child), Signal::KILL)?;
                child.wait()?;
                return Ok(Done::Stopped);
            }
            None => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use bulkhead_config::compile::Catalogue;
    use bulkhead_config::declared::read_file;
    use bulkhead_config::protocol::{Offer, Put};

    #[test]
    fn every_change_is_served_and_moves_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalogue = Catalogue::new();
        for number in 1..4 {
            replace(folder.path(), number).unwrap();
            let file = read_file(DOCUMENT, &fs::read_to_string(folder.path().join(DOCUMENT)).unwrap());
            assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
            let put = file.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
            let outcome = catalogue.apply(&Offer { complete: true, put, ..Offer::default() });
            assert_eq!(outcome.quarantined, []);
            let is_served = |number| outcome.snapshot.tenant_by_host(format!("change-{number}.load-churn.invalid")).is_some();
            assert!(is_served(number) && !is_served(number - 1), "{number}");
        }
    }

    #[test]
    fn changes_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(DOCUMENT);
        let churning = Churning::start(Churn::Folder(folder.path().to_owned()), Duration::from_millis(1)).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let number = |text: String| text.split_once("change-")?.1.split_once('.')?.0.parse::<u64>().ok();
        while fs::read_to_string(&file).ok().and_then(number).is_none_or(|number| number < 7) {
            assert!(Instant::now() < until, "seven changes within a minute");
        }
        let changes = churning.end();
        assert!(changes.made.len() >= 7 && !changes.failed(), "{changes}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_command_that_fails_is_told_and_one_that_hangs_is_ended() {
        let ended = |line: &str| {
            let (stop, stopped) = mpsc::channel::<()>();
            drop(stop);
            command(line, 1, &stopped)
        };
        assert!(matches!(ended("sleep 3600; exit 1"), Ok(Done::Stopped)));
        let (_stop, stopped) = mpsc::channel();
        assert!(command("exit 3", 1, &stopped).is_err_and(|cause| cause.to_string().contains("exit 3")));
        assert!(matches!(command("test $BULKHEAD_CHURN = 8", 8, &stopped), Ok(Done::Changed)));
    }
}
