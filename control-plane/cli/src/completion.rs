//! `bulkhead completion`: the script that completes commands in a shell.

use crate::args::Cli;
use crate::exit::Exit;
use crate::fault::Failure;
use crate::output::Out;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print the completion script of a shell
///
///   bash  bulkhead completion bash > ~/.local/share/bash-completion/completions/bulkhead
///   zsh   bulkhead completion zsh > "${fpath[1]}/_bulkhead"
///   fish  bulkhead completion fish > ~/.config/fish/completions/bulkhead.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bulkhead", &mut script);
    out.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
