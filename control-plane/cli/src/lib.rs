//! The operator's command line: runs a bulkhead on this machine, checks documents, explains decisions.
//!
//! One command per file; `up` alone knows the sidecar. What a command finds goes to stdout, in a form for people or as JSON;
//! what it has to say about its work goes to stderr, so that `$(bulkhead token …)` is the token and nothing else.

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

mod args;
mod exit;
mod fault;
mod output;
mod context;
mod files;
mod documents;
mod transport;
mod admin;
mod client;
mod object;
mod answer;
mod issuer;
mod demo;
mod validate;
mod up;
mod shell;
mod schema;
mod token;
mod explain;
mod config;
mod status;
mod shadow;
mod api_key;
mod control_plane;
mod apply;
mod get;
mod trail;
mod operator_token;
mod backup;
mod fleet;
mod completion;

use args::{Cli, Command};
use exit::Exit;
use fault::Failure;
use output::Out;

/// Runs one command line, the program's name first, and says how it ended; `--help` has the codes.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(refusal) => return refused(&refusal),
    };
    let mut out = Out::new(cli.global.output.format());
    let outcome = dispatch(&cli, &mut out);
    outcome.unwrap_or_else(|failure| out.failed(&failure)).into()
}

fn dispatch(cli: &Cli, out: &mut Out) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Up(args) => up::run(args, global, out),
        Command::Validate(args) => validate::run(args, out),
        Command::Explain(args) => explain::run(args, global, out),
        Command::Config(args) => config::run(args, global, out),
        Command::Status(args) => status::run(args, global, out),
        Command::Shadow(args) => shadow::run(args, global, out),
        Command::Schema(args) => schema::run(args, out),
        Command::ApiKey(args) => api_key::run(args, global, out),
        Command::Token(args) => token::run(args, global, out),
        Command::ControlPlane(args) => control_plane::run(args, global, out),
        Command::Apply(args) => apply::run(args, global, out),
        Command::Get(args) => get::get(args, global, out),
        Command::Delete(args) => get::delete(args, global, out),
        Command::History(args) => get::history(args, global, out),
        Command::Diff(args) => get::diff(args, global, out),
        Command::Rollback(args) => get::rollback(args, global, out),
        Command::Audit(args) => trail::audit(args, global, out),
        Command::Events(args) => trail::events(args, global, out),
        Command::OperatorToken(args) => operator_token::run(args, global, out),
        Command::Fleet(args) => fleet::run(args, global, out),
        Command::JoinToken(args) => fleet::join_token(args, global, out),
        Command::Backup(args) => backup::backup(args, global, out),
        Command::Restore(args) => backup::restore(args, global, out),
        Command::Migrate(args) => backup::migrate(args, global, out),
        Command::Completion(args) => completion::run(args, out),
    }
}

/// Help and version go to stdout and are no mistake; a wrong command line is.
fn refused(refusal: &clap::Error) -> ExitCode {
    // A reader that has gone needs no help text.
    let _ = refusal.print();
    if refusal.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}
