//! `bulkhead control-plane`: the control plane by itself, for sidecars that run elsewhere.

use crate::args::Global;
use crate::client::PLACE_FILE;
use crate::context;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::output::{FAINT, Format, GOOD, Out, STRONG, paint};
use crate::up::{Ends, flags, ground, spine};
use serde_json::json;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Run a control plane: what operators declare is checked, stored and told to every sidecar
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the API is served
    #[arg(long, value_name = "ADDRESS", value_parser = flags::address, default_value = "127.0.0.1:4780")]
    api_address: SocketAddr,
    /// Environment that names its data directory; else BULKHEAD_ENV
    #[arg(long, value_name = "NAME", env = "BULKHEAD_ENV", hide_env = true, default_value = "dev", value_parser = flags::environment())]
    env: bulkhead_config::settings::Environment,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the system gives no runtime")]
    Runtime(#[source] io::Error),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Unwritable { source, .. } => Exit::of(source),
            Error::Runtime(_) => Exit::Io,
        }
    }
    fn fix(&self) -> Option<String> {
        match self {
            Error::Unwritable { .. } => Some("choose a directory you may write to with --data-dir DIR".into()),
            Error::Runtime(_) => Some("raise the limit on open files".into()),
        }
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let data_dir = context::data_dir(global, args.env.as_str())?;
    let unwritable = |source| Error::Unwritable { path: data_dir.clone(), source };
    files::make_private_dir(&data_dir).map_err(unwritable)?;
    let data_dir = fs::canonicalize(&data_dir).map_err(unwritable)?;
    ground::write_token(&data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(serve(args, &data_dir, out))
}

async fn serve(args: &Args, data_dir: &Path, out: &mut Out) -> Result<Exit, Failure> {
    let mut ends = Ends::new().map_err(Error::Runtime)?;
    let control = spine::start(data_dir, args.api_address).await?;
    register(data_dir, control.address())?;
    let api = control.address();
    // Nobody reads it (`| head`)? It serves all the same.
    let _ = match out.format() {
        Format::Json => out.json(&json!({ "api": api, "data_dir": data_dir })),
        Format::Human => {
            let line = |what: &str, value: String| format!("  {} {value}\n", paint(FAINT, format_args!("{what:<11}")));
            let head = format!("{} {}\n\n", paint(STRONG, "bulkhead control plane"), paint(GOOD, "is ready"));
            out.raw(&format!("{head}{}{}", line("API", format!("http://{api}")), line("data", data_dir.display().to_string())))
        }
    };
    ends.next().await;
    control.stop().await;
    Ok(Exit::Done)
}

/// Writes down where it is, for commands that are given the data directory.
pub(crate) fn register(data_dir: &Path, api: SocketAddr) -> Result<(), Failure> {
    let path = data_dir.join(PLACE_FILE);
    let place = format!("{:#}\n", json!({ "api": api }));
    files::replace(&path, place.as_bytes(), Readers::Owner).map_err(|source| Error::Unwritable { path, source }.into())
}
