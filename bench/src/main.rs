//! `bulkhead-bench`: what Bulkhead costs, beside what others cost on the same machine in the same run.

mod control;
mod load;
mod memory;
mod sidecar;
mod tenants;
mod versus;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  a target was missed, with --gate; under load: an answer was not as expected, or the second result is worse
    2  wrong usage
   69  something is absent: a program, a file, a peer; the message says what brings it
   70  a step failed, or our own sidecar could not be measured
  130  stopped by Ctrl-C, SIGTERM or a closed terminal; nothing is left running";

/// What Bulkhead costs, beside what others cost on the same machine in the same run
#[derive(Parser)]
#[command(name = "bulkhead-bench", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(after_help = EXIT_CODES)]
    Load(Box<load::Options>),
    #[command(after_help = EXIT_CODES)]
    Compare(load::compare::Options),
    #[command(after_help = EXIT_CODES)]
    Report(load::report::Options),
    #[command(after_help = EXIT_CODES)]
    Versus(versus::Options),
    #[command(after_help = EXIT_CODES)]
    Memory(memory::Options),
    #[command(after_help = EXIT_CODES)]
    Control(control::Options),
    #[command(after_help = EXIT_CODES)]
    Tenants(tenants::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match &cli.command {
        Command::Load(options) => load::run(options),
        Command::Compare(options) => load::compare::run(options),
        Command::Report(options) => load::report::run(options),
        Command::Versus(options) => versus::run(options),
        Command::Memory(options) => memory::run(options),
        Command::Control(options) => control::run(options),
        Command::Tenants(options) => tenants::run(options),
    };
    match ended {
        Ok(versus::Ended::Done) => ExitCode::SUCCESS,
        Ok(versus::Ended::TargetMissed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
