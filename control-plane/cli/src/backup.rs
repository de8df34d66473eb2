//! `bulkhead backup`, `restore` and `migrate`: the store of a data directory carried away, put back, and brought to this version.
//!
//! A store is one process's. Where a control plane runs on it, that one makes the backup; else this process opens the store itself.
//! A restore checks the whole archive before it writes, and never writes over a store.

pub(crate) mod archive;

use crate::args::Global;
use crate::client::{Ask, Client};
use crate::context;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::output::{Format, Out, Output};
use crate::up::{flags, spine};
use archive::{CannotRead, CannotWrite, Opened};
use bulkhead_config::seal::Key;
use bulkhead_config::settings::Environment;
use bulkhead_keyring::{KekError, KekSource};
use bulkhead_server::identity;
use bulkhead_sidecar::policy::settings_watch::{SettingsError, SettingsSource};
use bulkhead_store::{Embedded, OpenError, Options, Plan};
use hyper::Method;
use serde_json::json;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a backup's name ends in.
const ENDING: &str = ".tar.gz";

/// Write all that a control plane stores into one sealed file; it may run meanwhile
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// File to write, FILE.tar.gz; one that is there is replaced
    #[arg(long, value_name = "FILE", value_parser = Output::file())]
    output: Output,
    #[command(flatten)]
    key: KeyArgs,
}

/// Make the store of a data directory from a backup; the control plane must not run
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Move a store that is there aside
    #[arg(long)]
    force: bool,
    /// File with the key that sealed the backup, DIR/keyring.key of where it was made [default: from the settings]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
}

/// Bring the store of a data directory to the schema of this version; the control plane must not run
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    /// Do and undo every step, and say which they are
    #[arg(long)]
    dry_run: bool,
}

/// Where the key that seals comes from.
#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// Settings over the built-in ones; core.security.encryption_key seals backups
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Environment that names its data directory; else BULKHEAD_ENV
    #[arg(long, value_name = "NAME", env = "BULKHEAD_ENV", hide_env = true, default_value = "dev", value_parser = flags::environment())]
    env: Environment,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} does not end in {ENDING}, the form in which backups are written", .0.display())]
    Form(PathBuf),
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    #[error("there is a store in {}", .0.display())]
    Occupied(PathBuf),
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("cannot restore {}: {cause}", path.display())]
    Archive { path: PathBuf, cause: CannotRead },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    NotMade(#[from] CannotWrite),
    // It says its causes itself.
    #[error("{0}")]
    Settings(SettingsError),
    #[error(transparent)]
    Kek(#[from] KekError),
    #[error("the system gives no runtime")]
    Runtime(#[source] io::Error),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Form(_) => Exit::Usage,
            Error::NoStore(_) => Exit::NoInput,
            Error::Occupied(_) | Error::Open(OpenError::Locked { .. } | OpenError::Exists { .. }) => Exit::Unavailable,
            Error::Unreadable { source, .. } | Error::Unwritable { source, .. } => Exit::of(source),
            Error::Open(OpenError::System { source, .. }) => Exit::of(source),
            Error::Archive { cause: CannotRead::OtherKey { .. }, .. } | Error::Settings(_) | Error::Kek(_) => Exit::Configuration,
            Error::Archive { .. } | Error::Open(_) | Error::NotMade(CannotWrite::Store(_)) => Exit::BadData,
            Error::NotMade(_) | Error::Runtime(_) => Exit::Io,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::Form(_) => Some(format!("write --output NAME{ENDING}")),
            Error::NoStore(_) => Some("name the data directory of a control plane with --data-dir DIR".into()),
            Error::Occupied(_) => Some("restore into another --data-dir, or move it aside with --force".into()),
            Error::Unwritable { .. } => Some("name a place you may write to".into()),
            Error::Unreadable { .. } => Some("name a file that is there and that you may read".into()),
            Error::Archive { .. } => Some("nothing was written".into()),
            // They say themselves what to do.
            Error::Open(_) | Error::NotMade(_) | Error::Settings(_) | Error::Kek(_) | Error::Runtime(_) => None,
        }
    }
}

pub(crate) fn backup(args: &Backup, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let Output::File(file) = &args.output else { return Err(Error::Form(PathBuf::new()).into()) };
    if !file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING)) {
        return Err(Error::Form(file.clone()).into());
    }
    let archive = if Client::is_elsewhere(global) { from_running(global)? } else { from_here(args, global)? };
    files::replace(file, &archive, Readers::Owner).map_err(|source| Error::Unwritable { path: file.clone(), source })?;
    out.say(format_args!("wrote {} ({} bytes)", file.display(), archive.len()))?;
    Ok(Exit::Done)
}

/// By the control plane that runs.
fn from_running(global: &Global) -> Result<Vec<u8>, Failure> {
    let ask = Ask { method: Method::POST, accept: "application/gzip", ..Ask::get("/v1/backup") };
    Ok(Client::find(global)?.fetch(&ask)?)
}

/// Of a data directory, by whoever may open it.
fn from_here(args: &Backup, global: &Global) -> Result<Vec<u8>, Failure> {
    let data_dir = context::find(global)?.data_dir;
    let path = store_in(&data_dir)?;
    let store = match Embedded::open(path, Options::default()) {
        Ok(store) => store,
        Err(OpenError::Locked { .. }) => return from_running(global),
        Err(why) => return Err(Error::Open(why).into()),
    };
    let kek = args.key.kek(&data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Error::Runtime)?;
    let has_keyring = runtime.block_on(identity::has_keyring(&store)).map_err(CannotWrite::Store).map_err(Error::NotMade)?;
    let key = key(&kek, has_keyring).map_err(Error::Kek)?;
    Ok(make(&store, &key).map_err(Error::NotMade)?)
}

/// The key that seals backups. Once a keyring was sealed with one it must be there, and no new one takes its place.
pub(crate) fn key(kek: &KekSource, has_keyring: bool) -> Result<Key, KekError> {
    if has_keyring { kek.held() } else { kek.first() }
}

/// A backup of what a store holds at this moment.
pub(crate) fn make(store: &Embedded, key: &Key) -> Result<Vec<u8>, CannotWrite> {
    archive::write(&store.snapshot()?, key, &jiff::Timestamp::now().to_string())
}

pub(crate) fn restore(args: &Restore, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let data_dir = context::data_dir(global, args.key.env.as_str())?;
    let unreadable = |source| Error::Unreadable { path: args.input.clone(), source };
    let bytes = fs::read(&args.input).map_err(unreadable)?;
    let own = args.key.kek(&data_dir)?;
    let brought = args.key_file.clone().map(KekSource::File);
    let key = brought.as_ref().unwrap_or(&own).held().map_err(Error::Kek)?;
    let opened = archive::read(&bytes, &key).map_err(|cause| Error::Archive { path: args.input.clone(), cause })?;

    let unwritable = |source| Error::Unwritable { path: data_dir.clone(), source };
    let path = data_dir.join(spine::STORE);
    files::make_private_dir(&data_dir).map_err(unwritable)?;
    let aside = match path.try_exists().map_err(unwritable)? {
        false => None,
        true if args.force => Some(move_aside(&path)?),
        true => return Err(Error::Occupied(data_dir).into()),
    };
    let put = put(&path, opened).and_then(|identity| keep_key(&own, args.key_file.as_deref()).map(|()| identity));
    let identity = put.inspect_err(|_| {
        // What was here is here again; the first error is the one to tell.
        if let Some(aside) = aside.as_ref().filter(|_| !path.exists()) {
            let _ = fs::rename(aside, &path);
        }
    })?;
    match out.format() {
        Format::Json => {
            let incarnation = identity.incarnation;
            out.json(
                &json!({ "store": path, "cluster": format!("{:016x}", identity.cluster), "incarnation": incarnation, "aside": aside }),
            )?;
        }
        Format::Human => {
            out.say(format_args!("restored {}, store {identity}", path.display()))?;
            if let Some(aside) = aside {
                out.say(format_args!("the store that was there is {}", aside.display()))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn put(path: &Path, opened: Opened) -> Result<bulkhead_store::Identity, Error> {
    let header = opened.header;
    Ok(Embedded::restore(path, header, opened.records(), 0)?)
}

/// Gives a store that is there another name, if no process has it; damaged ones are what this is for.
fn move_aside(path: &Path) -> Result<PathBuf, Error> {
    if let Err(locked @ OpenError::Locked { .. }) = Embedded::open(path, Options::default()) {
        return Err(locked.into());
    }
    let unwritable = |source| Error::Unwritable { path: path.to_owned(), source };
    for number in 1_u32.. {
        let aside = path.with_extension(format!("redb.before-{number}"));
        if !aside.try_exists().map_err(unwritable)? {
            fs::rename(path, &aside).map_err(unwritable)?;
            return Ok(aside);
        }
    }
    Err(unwritable(io::ErrorKind::AlreadyExists.into()))
}

/// The keyring in the backup is sealed with the key that was brought: where a file holds the key and there is none, it is this one.
fn keep_key(own: &KekSource, brought: Option<&Path>) -> Result<(), Error> {
    let (KekSource::File(path), Some(brought)) = (own, brought) else { return Ok(()) };
    if path.exists() {
        return Ok(());
    }
    let text = fs::read(brought).map_err(|source| Error::Unreadable { path: brought.to_owned(), source })?;
    files::replace(path, &text, Readers::Owner).map_err(|source| Error::Unwritable { path: path.clone(), source })
}

pub(crate) fn migrate(args: &Migrate, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let path = store_in(&context::find(global)?.data_dir)?;
    let Plan { from, to, steps, kept } = Embedded::migrate(path, args.dry_run).map_err(Error::Open)?;
    match out.format() {
        Format::Json => {
            let steps: Vec<_> = steps.iter().map(|step| json!({ "from": step.from, "what": step.what })).collect();
            out.json(&json!({ "from": from, "to": to, "steps": steps, "dry_run": args.dry_run, "kept": kept }))?;
        }
        Format::Human if steps.is_empty() => out.say(format_args!("the store has schema {to}, that of this version: nothing to do"))?,
        Format::Human => {
            for step in &steps {
                out.say(format_args!("schema {}: {}", step.from, step.what))?;
            }
            let done = if args.dry_run { "would be brought" } else { "was brought" };
            out.say(format_args!("the store {done} from schema {from} to {to}"))?;
            if let Some(kept) = kept {
                out.say(format_args!("as it was before it is in {}", kept.display()))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn store_in(data_dir: &Path) -> Result<PathBuf, Error> {
    let path = data_dir.join(spine::STORE);
    // The lock beside it says that there was one: that it is gone is the store's to tell.
    let lock = data_dir.join(format!("{}.lock", spine::STORE));
    if path.exists() || lock.exists() { Ok(path) } else { Err(Error::NoStore(data_dir.to_owned())) }
}

impl KeyArgs {
    fn kek(&self, data_dir: &Path) -> Result<KekSource, Error> {
        let variables = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let source =
            SettingsSource { environment: self.env, file: self.settings.clone(), variables: variables.collect(), flags: Vec::new() };
        Ok(KekSource::of(&source.load().map_err(Error::Settings)?, data_dir)?)
    }
}
