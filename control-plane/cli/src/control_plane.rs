//! `bulkhead control-plane`: the control plane by itself, for sidecars that run elsewhere.

use crate::args::Global;
use crate::client::PLACE_FILE;
use crate::context;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::output::{FAINT, Format, GOOD, Out, STRONG, paint};
use crate::up::spine::Push;
use crate::up::{Ends, flags, ground, spine};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_keyring::{KekError, KekSource};
use bulkhead_sidecar::policy::settings_watch::{SettingsError, SettingsSource};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::env;
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
    /// Where sidecars connect, over TLS with certificates of its own authority
    #[arg(long, value_name = "ADDRESS", value_parser = flags::address, default_value = "127.0.0.1:4781")]
    push_address: SocketAddr,
    /// A host name or address by which sidecars ask for it; may stand several times [default: localhost, 127.0.0.1]
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Trust domain in which its sidecars are named
    #[arg(long, value_name = "DOMAIN", default_value = "bulkhead.internal")]
    trust_domain: TrustDomain,
    /// Settings over the built-in ones; core.security.encryption_key seals its keys
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
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
    #[error("`{0}` is no host name or address")]
    Name(String),
    // These say their causes themselves.
    #[error("{0}")]
    Settings(SettingsError),
    #[error(transparent)]
    Kek(#[from] KekError),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Unwritable { source, .. } => Exit::of(source),
            Error::Runtime(_) => Exit::Io,
            Error::Name(_) => Exit::Usage,
            Error::Settings(SettingsError::Unreadable { cause, .. }) => Exit::of(cause),
            Error::Settings(_) | Error::Kek(_) => Exit::Configuration,
        }
    }
    fn fix(&self) -> Option<String> {
        match self {
            Error::Unwritable { .. } => Some("choose a directory you may write to with --data-dir DIR".into()),
            Error::Runtime(_) => Some("raise the limit on open files".into()),
            Error::Name(_) => Some("write `control.example`, for example, without scheme and port".into()),
            Error::Settings(_) | Error::Kek(_) => None,
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
    let (kek, push) = push(args, &data_dir)?;
    runtime.block_on(serve(args, kek, push, &data_dir, out))
}

/// With which key all is sealed, and where sidecars connect.
fn push(args: &Args, data_dir: &Path) -> Result<(KekSource, Push), Error> {
    let variables = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let source = SettingsSource { environment: args.env, file: args.settings.clone(), variables: variables.collect(), flags: Vec::new() };
    let settings = source.load().map_err(Error::Settings)?;
    let local = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let names = if args.names.is_empty() { &local[..] } else { &args.names };
    let name = |name: &String| ServerName::try_from(name.clone()).map_err(|_| Error::Name(name.clone()));
    let push =
        Push { address: args.push_address, domain: args.trust_domain.clone(), names: names.iter().map(name).collect::<Result<_, _>>()? };
    Ok((KekSource::of(&settings, data_dir)?, push))
}

async fn serve(args: &Args, kek: KekSource, push: Push, data_dir: &Path, out: &mut Out) -> Result<Exit, Failure> {
    let mut ends = Ends::new().map_err(Error::Runtime)?;
    let control = spine::start(data_dir, args.api_address, kek, Some(push)).await?;
    register(data_dir, control.address())?;
    let (api, push) = (control.address(), control.push_address());
    // Nobody reads it (`| head`)? It serves all the same.
    let _ = match out.format() {
        Format::Json => out.json(&json!({ "api": api, "push": push, "data_dir": data_dir })),
        Format::Human => {
            let line = |what: &str, value: String| format!("  {} {value}\n", paint(FAINT, format_args!("{what:<11}")));
            let head = format!("{} {}\n\n", paint(STRONG, "bulkhead control plane"), paint(GOOD, "is ready"));
            let push =
                push.map(|push| line("sidecars", format!("{push}  `bulkhead join-token new --name NAME` lets one in"))).unwrap_or_default();
            out.raw(&format!("{head}{}{push}{}", line("API", format!("http://{api}")), line("data", data_dir.display().to_string())))
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
