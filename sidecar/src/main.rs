//! The lean binary that ships in pods: one sidecar that follows a folder of documents, or a control plane.

mod arguments;

use arguments::{Arguments, Asked, Source};
use bulkhead_sidecar::policy::{Folder, Push};
use std::collections::BTreeMap;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Exit codes, as sysexits.h has them.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os().skip(1), variables()) {
        Ok(Asked::Run(arguments)) => *arguments,
        Ok(Asked::Text(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("bulkhead-sidecar: {mistake}\nTry `bulkhead-sidecar --help`.");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bulkhead-sidecar: no runtime: {error}; raise the limit of open files of this user");
            return ExitCode::from(UNAVAILABLE);
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulkhead-sidecar: {error}");
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// The process's variables. A setting cannot be written in what is no text, so such a variable is none of ours.
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Serves until a signal or an operator ends it.
async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = match arguments.source {
        Source::Documents(path) => bulkhead_sidecar::start(arguments.settings, Folder::watch(path)?).await?,
        Source::ControlPlane(control_plane) => bulkhead_sidecar::start(arguments.settings, Push::begin(control_plane)?).await?,
    };
    running.log().take_panics();
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
        () = running.drain_wanted() => {}
    }
    let deadline = running.settings().load().drain_deadline();
    tokio::select! {
        _ = running.drain(deadline) => {}
        // Whoever asks twice means now.
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
