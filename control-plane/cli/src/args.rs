//! The command line: what every command shares, and the list of commands. Each command's own arguments stand in its file.

use crate::output::Output;
use crate::{
    api_key, apply, backup, completion, config, control_plane, exit, explain, fleet, get, operator_token, schema, shadow, status, token,
    trail, up, validate,
};
use std::path::PathBuf;

/// Keep the tenants of a service apart: run the sidecar, check documents, explain decisions.
#[derive(Debug, clap::Parser)]
#[command(name = "bulkhead", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Form of the results
    #[arg(long, global = true, value_parser = Output::form(), default_value = "human", hide_possible_values = true, value_name = "human|json")]
    pub(crate) output: Output,
    /// Data directory of the bulkhead that is meant [else: BULKHEAD_DATA_DIR, the context]
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "context")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Context that is meant; `up` registers itself as `dev`
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Control plane that is meant, http://HOST:PORT [else: BULKHEAD_SERVER, the data directory]
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["context", "data_dir"])]
    pub(crate) server: Option<String>,
    /// Token of the operator [else: BULKHEAD_TOKEN, the data directory's]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) operator_token: Option<String>,
}

/// One command per file.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Up(up::Args),
    Validate(validate::Args),
    Explain(explain::Args),
    Status(status::Args),
    Shadow(shadow::Args),
    Config(config::Args),
    Schema(schema::Args),
    Token(token::Args),
    ApiKey(api_key::Args),
    ControlPlane(control_plane::Args),
    Apply(apply::Args),
    Get(get::Get),
    Delete(get::Delete),
    History(get::History),
    Diff(get::Diff),
    Rollback(get::Rollback),
    Audit(trail::Audit),
    Events(trail::Events),
    OperatorToken(operator_token::Args),
    Fleet(fleet::Args),
    JoinToken(fleet::JoinToken),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Migrate(backup::Migrate),
    Completion(completion::Args),
}
