//! One step of the comparison: a program that runs to its end, or is ended with everything it started.
//!
//! Each program leads a process group of its own, so that one signal reaches bash, its cargo and its compilers alike.
//! `compare.py` puts its proxies outside of that group and stops them itself; that is why it is asked and waited for, not killed.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use tokio::runtime::Runtime;
use tokio::signal::unix::{self, SignalKind};

/// Exit code by which our scripts say that something must be installed first (`EX_UNAVAILABLE`).
const ABSENT: i32 = 69;
/// Exit code of wrong usage, as argparse and clap have it.
const USAGE: i32 = 2;

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A name or value on the command line.
    #[error("{0}")]
    Usage(String),
    /// A file or program that has to be there.
    #[error("{what} is absent; {brings}")]
    Absent {
        /// What was looked for.
        what: String,
        /// What brings it.
        brings: &'static str,
    },
    /// A step that said itself that something is absent.
    #[error("`{program}` found something absent; its message above says what brings it")]
    StepAbsent {
        /// The program of that step.
        program: &'static str,
    },
    /// A step that ended badly.
    #[error("`{program}` failed ({status}); its own message stands above")]
    Failed {
        /// The program of that step.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// Something that is there and cannot be used.
    #[error("{what}: {why}")]
    Unusable {
        /// A file or an answer.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Our own sidecar did not take part in a scenario it has a configuration for.
    #[error("the sidecar was left out of `{scenario}`: {reason}; KEEP=1 keeps its output under the folder `run` of the peers")]
    LeftOut {
        /// The first such scenario.
        scenario: String,
        /// What compare.py saw.
        reason: String,
    },
    /// Ctrl-C, SIGTERM or a closed terminal.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// As `--help` lists them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Absent { .. } | Self::StepAbsent { .. } => 69,
            Self::Failed { .. } | Self::Unusable { .. } | Self::LeftOut { .. } => 70,
            Self::Stopped => 130,
        }
    }
}

/// Runs programs one after the other and watches for the signals that end them.
pub(crate) struct Steps {
    runtime: Runtime,
    signals: Signals,
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Steps {
    /// From here on Ctrl-C no longer ends the process by itself; a signal between two steps is obeyed by the next one.
    pub(crate) fn new() -> Result<Self, Error> {
        let unusable = |cause: io::Error| Error::Unusable { what: "signals of this process".to_owned(), why: cause.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(unusable)?;
        let signals = {
            let _entered = runtime.enter();
            Signals {
                interrupt: unix::signal(SignalKind::interrupt()).map_err(unusable)?,
                terminate: unix::signal(SignalKind::terminate()).map_err(unusable)?,
                hangup: unix::signal(SignalKind::hangup()).map_err(unusable)?,
            }
        };
        Ok(Self { runtime, signals })
    }

    /// Runs `program` to its end, its output to our own.
    pub(crate) fn run(&mut self, program: &'static str, command: &mut Command) -> Result<(), Error> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn().map_err(|cause| not_started(program, cause))?;
        let group = Pid::from_child(&child);
        let status = self.wait(program, group, move || {
            let mut child = child;
            child.wait()
        })?;
        judge(program, status, None)
    }

    /// Runs `program` to its end and gives what it wrote to standard output.
    pub(crate) fn output(&mut self, program: &'static str, command: &mut Command) -> Result<String, Error> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|cause| not_started(program, cause))?;
        let group = Pid::from_child(&child);
        let output = self.wait(program, group, move || child.wait_with_output())?;
        judge(program, output.status, Some(&String::from_utf8_lossy(&output.stderr)))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn wait<T: Send + 'static>(
        &mut self,
        program: &'static str,
        group: Pid,
        ended: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let signals = &mut self.signals;
        let ended = self.runtime.block_on(async {
            let mut ended = tokio::task::spawn_blocking(ended);
            tokio::select! {
                ended = &mut ended => return Some(ended),
                () = signals.any() => {}
            }
            eprintln!("stopping `{program}` and what it started");
            // It may have ended in this moment: then there is nobody left to tell.
            let _ = kill_process_group(group, Signal::TERM);
            let _ = ended.await;
            None
        });
        let lost = |why: String| Error::Unusable { what: format!("the end of `{program}`"), why };
        match ended {
            None => Err(Error::Stopped),
            Some(Ok(ended)) => ended.map_err(|cause| lost(cause.to_string())),
            Some(Err(cause)) => Err(lost(cause.to_string())),
        }
    }
}

impl Signals {
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn not_started(program: &'static str, cause: io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::NotFound => {
            Error::Absent { what: format!("the program `{program}`"), brings: "install it, or put its folder into PATH" }
        }
        _ => Error::Unusable { what: format!("the program `{program}`"), why: cause.to_string() },
    }
}

/// `unseen`: what the program wrote to standard error, where the user has not seen it.
fn judge(program: &'static str, status: ExitStatus, unseen: Option<&str>) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    if status.code() == Some(USAGE)
        && let Some(message) = unseen
    {
        // argparse: its usage, which is not ours, then `PROGRAM: error: MESSAGE`.
        let message = message.rsplit_once("error: ").map_or(message, |(_, last)| last);
        return Err(Error::Usage(message.trim().to_owned()));
    }
    if let Some(message) = unseen {
        eprint!("{message}");
    }
    Err(if status.code() == Some(ABSENT) { Error::StepAbsent { program } } else { Error::Failed { program, status } })
}
