//! `bulkhead up`: a sidecar in this process, in front of a demo that shows what it does.
//!
//! In order: data directory, settings, the demo service, the control plane, the sidecar, the context by which later commands find it. What fails is
//! named, and what had started goes down with the process. Outside of dev there is no demo, no issuer and no token.

use crate::args::Global;
use crate::context::{self, Registration};
use crate::control_plane;
use crate::demo::service::Service;
use crate::exit::Exit;
use crate::fault::{Failure, Fault, chain};
use crate::output::{Format, Out};
use crate::validate::render::{self, Weight};
use banner::{Banner, Serving};
use bulkhead_config::settings::Environment;
use bulkhead_keyring::{KekError, KekSource};
use bulkhead_sidecar::connection::Entrance;
use bulkhead_sidecar::connection::listeners::ListenError;
use bulkhead_sidecar::policy::settings_watch::{SettingsError, SettingsSource};
use bulkhead_sidecar::policy::{Folder, FolderError};
use bulkhead_sidecar::telemetry::log::Log;
use bulkhead_sidecar::{Running, StartError};
use ground::Ground;
use live::Shown;
use logs::Logs;
use plan::Plan;
use serde_json::Value;
use spine::Spine;
use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) mod flags;
pub(crate) mod ground;
mod plan;
pub(crate) mod spine;
mod logs;
mod live;
mod banner;
mod tries;

/// Run a bulkhead on this machine; in dev with a demo behind it
///
/// The first start fills DIR/documents with the demo's documents; from then on they are yours, and an edit is live within a
/// second. Ctrl-C and SIGTERM end it once everything in flight is answered; a second one ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Documents to serve, a file or a folder [default: DIR/documents]
    #[arg(long, value_name = "PATH")]
    documents: Option<PathBuf>,
    /// Send the demo's requests there instead of to the bundled service: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = flags::endpoint)]
    upstream: Option<plan::Endpoint>,
    /// Environment; else BULKHEAD_ENV
    #[arg(long, value_name = "NAME", env = "BULKHEAD_ENV", hide_env = true, default_value = "dev", value_parser = flags::environment())]
    env: Environment,
    /// Settings over the built-in ones
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// One setting over all others; may stand several times
    #[arg(long = "set", value_name = "core.KEY=VALUE")]
    set: Vec<String>,
    /// Threads that serve requests [default: the processors it may use, at most 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
    /// Record what would be refused, and let it through
    #[arg(long)]
    shadow: bool,
    /// Where the demo, or the only Service, is served, in place of what its document says
    #[arg(long, value_name = "ADDRESS", value_parser = flags::address)]
    listen: Option<SocketAddr>,
    /// Where probes and metrics are served [default: 0.0.0.0:4791]
    #[arg(long, value_name = "ADDRESS", value_parser = flags::address)]
    probe_address: Option<SocketAddr>,
    /// Where the API of the control plane is served
    #[arg(long, value_name = "ADDRESS", value_parser = flags::address, default_value = "127.0.0.1:4780")]
    api_address: SocketAddr,
    /// Where the bundled demo service listens [default: 127.0.0.1:4789]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "upstream", value_parser = flags::address)]
    demo_address: Option<SocketAddr>,
    /// Open the admin on this port of loopback too, for the token in DIR/admin.token
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Where a line per request goes: a file, `-` for stdout, or off [default: DIR/logs/access.jsonl]
    #[arg(long, value_name = "-|off|FILE")]
    access_log: Option<PathBuf>,
    /// Write the log to the terminal too; without one it always goes to stderr
    #[arg(long, short)]
    verbose: bool,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there are mistakes in the settings")]
    WrongSettings,
    #[error("cannot make {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the demo service cannot listen on {address}")]
    Demo { address: SocketAddr, source: io::Error },
    // These three say their causes themselves.
    #[error("{0}")]
    Settings(SettingsError),
    #[error(transparent)]
    Kek(#[from] KekError),
    #[error("{0}")]
    Folder(FolderError),
    #[error("{error}")]
    Sidecar { error: StartError, written: Option<String> },
    #[error("the system gives no runtime")]
    Runtime(#[source] io::Error),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::WrongSettings | Error::Kek(_) => Exit::Configuration,
            Error::Settings(SettingsError::Unreadable { cause, .. }) => Exit::of(cause),
            Error::Settings(SettingsError::Mistakes(_)) => Exit::Configuration,
            Error::Unwritable { source, .. } | Error::Demo { source, .. } => Exit::of(source),
            Error::Folder(_) => Exit::NoInput,
            Error::Sidecar { error, .. } => match error {
                StartError::Listen(ListenError { cause, .. }) => Exit::of(cause),
                StartError::Probes { cause, .. } | StartError::AdminPort { cause, .. } | StartError::DataDir { cause, .. } => {
                    Exit::of(cause)
                }
                _ => Exit::Unavailable,
            },
            Error::Runtime(_) => Exit::Io,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::Demo { address, source } if source.kind() == io::ErrorKind::AddrInUse => Some(format!(
                "stop what listens there, send the demo's requests to it with --upstream http://{address}, or move the demo service with --demo-address"
            )),
            Error::Sidecar { error: StartError::Listen(_), written: Some(written) } => {
                Some(format!("change the address at {written}, or serve the demo elsewhere with --listen ADDRESS"))
            }
            Error::Runtime(_) => Some("raise the limit on open files".into()),
            _ => None,
        }
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let began = Instant::now();
    let data_dir = context::data_dir(global, args.env.as_str())?;
    let settings = load(args, data_dir.clone(), out)?;
    let ground = Ground::prepare(&data_dir, args.documents.as_deref(), args.env)?;
    let plan = Plan::of(args, &ground)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let start = Start { args, global, ground, plan, began };
    runtime.block_on(start.serve(settings, out))
}

/// Settings of every layer; their mistakes are shown as `validate` shows them.
fn load(args: &Args, data_dir: PathBuf, out: &mut Out) -> Result<bulkhead_sidecar::Settings, Failure> {
    let workers = args.workers.map(|workers| format!("core.sidecar.workers={workers}"));
    let shadow = args.shadow.then(|| "core.sidecar.shadow=true".to_owned());
    let source = SettingsSource {
        environment: args.env,
        file: args.settings.clone(),
        // A setting cannot be written in what is no text, so such a variable is none of ours.
        variables: env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect(),
        flags: args.set.iter().cloned().chain(workers).chain(shadow).collect(),
    };
    bulkhead_sidecar::Settings::load(data_dir, source).map_err(|error| {
        let SettingsError::Mistakes(mistakes) = error else { return Error::Settings(error).into() };
        for mistake in mistakes.iter() {
            let text = fs::read_to_string(&*mistake.file).ok();
            out.remark(render::diagnostic(Weight::Mistake, mistake, text.as_deref()));
        }
        Error::WrongSettings.into()
    })
}

/// Remarks that wait for the log; more of them say the same.
const REMARKS_MAX: usize = 64;

/// Whether later commands find it, and from whom it took the context.
type Registered = Result<Option<context::Displaced>, context::Error>;

/// Everything a start needs.
struct Start<'a> {
    args: &'a Args,
    global: &'a Global,
    ground: Ground,
    plan: Plan,
    began: Instant,
}

impl Start<'_> {
    async fn serve(mut self, mut settings: bulkhead_sidecar::Settings, out: &mut Out) -> Result<Exit, Failure> {
        // Before anything is said to be ready: from then on a signal is an order to drain.
        let mut ends = Ends::new().map_err(Error::Runtime)?;
        let demo = self.start_demo().await?;
        let logs = Logs::of(self.args, &self.ground.place.data_dir)?;
        let folder = Folder::watch(&self.ground.place.documents).map_err(Error::Folder)?;
        let kek = KekSource::of(&settings.core, &self.ground.place.data_dir).map_err(Error::Kek)?;
        let control = spine::start(&self.ground.place.data_dir, self.args.api_address, kek, None).await?;
        control_plane::register(&self.ground.place.data_dir, control.address())?;
        let (remarks, told) = tokio::sync::mpsc::channel(REMARKS_MAX);
        let source = Spine::new(folder, &control, Box::new(move |remark| drop(remarks.try_send(remark.to_owned()))));
        self.configure(&mut settings, &logs);
        let started = match logs.are_watched() {
            true => bulkhead_sidecar::start(settings, Shown::new(source, anstream::stderr()).map_err(Error::Runtime)?).await,
            false => bulkhead_sidecar::start(settings, source).await,
        };
        let running = started.map_err(|error| self.not_started(error))?;
        tokio::spawn(log_remarks(running.log().clone(), told));
        let mut registered = self.register(&running, control.address());
        let banner = self.banner(&running, control.address(), demo, &logs, &registered);
        // Nobody reads it (`| head`)? It serves all the same.
        let _ = match out.format() {
            Format::Human => out.raw(&banner.text()),
            Format::Json => out.json(&banner.json()),
        };
        tokio::select! {
            () = ends.next() => {}
            () = running.drain_wanted() => {}
        }
        drain(running, &mut ends, out).await;
        control.stop().await;
        if let Ok(Some(displaced)) = registered.as_mut().map(Option::take)
            && let Err(why) = context::give_back(displaced, &self.ground.place)
        {
            out.warn(format_args!("the context is left as it is: {}", chain(&why)));
        }
        Ok(Exit::Done)
    }

    fn not_started(&self, error: StartError) -> Error {
        let written = match &error {
            StartError::Listen(refused) => self.ground.place_of(&refused.entrance.service, &refused.entrance.listener),
            _ => None,
        };
        Error::Sidecar { error, written }
    }

    /// The demo service, where the documents or the command line ask for it.
    async fn start_demo(&mut self) -> Result<Option<SocketAddr>, Error> {
        let Some(address) = self.plan.demo else { return Ok(None) };
        let failed = |source| Error::Demo { address, source };
        let service = Service::bind(address).await.map_err(failed)?;
        let address = service.address().map_err(failed)?;
        self.plan.demo_is_at(address);
        tokio::spawn(service.run());
        Ok(Some(address))
    }

    /// What flags and documents say beside the settings.
    fn configure(&mut self, settings: &mut bulkhead_sidecar::Settings, logs: &Logs) {
        settings.data_dir.clone_from(&self.ground.place.data_dir);
        settings.probe_address = self.args.probe_address.unwrap_or(settings.probe_address);
        settings.admin_port = self.args.admin_port;
        settings.listen = self.plan.listen.take().into_iter().collect();
        settings.endpoint = self.plan.endpoint.clone();
        settings.access_log = logs.access_sink();
        settings.log = logs.log_sink();
    }

    fn banner(&self, running: &Running, api: SocketAddr, demo: Option<SocketAddr>, logs: &Logs, registered: &Registered) -> Banner {
        let addresses = running.addresses();
        let policy = running.live().load_full();
        let open = |(entrance, address): &(Arc<Entrance>, SocketAddr)| {
            let listener = policy.snapshot.platform().listener(&entrance.service, &entrance.listener);
            let scheme = if listener.is_some_and(|listener| listener.tls.is_some()) { "https" } else { "http" };
            Serving { service: entrance.service.to_string(), listener: entrance.listener.to_string(), scheme, address: *address }
        };
        Banner {
            environment: self.args.env.as_str(),
            took: self.began.elapsed(),
            listeners: addresses.listeners.iter().map(open).collect(),
            demo,
            upstream: self.args.upstream.as_ref().map(ToString::to_string),
            probes: addresses.probes,
            api,
            data_dir: self.ground.place.data_dir.clone(),
            documents: self.ground.place.documents.clone(),
            access_log: logs.access_file(),
            log: logs.log_file(),
            tries: self.tries(running, registered.is_ok()),
            warnings: self.warnings(registered),
        }
    }

    fn warnings(&self, registered: &Registered) -> Vec<String> {
        let Ground { place, declared, made_key_sets, foreign_key_sets, .. } = &self.ground;
        let unregistered = registered.as_ref().err().map(|why| format!("it is not registered: {}", chain(why)));
        let mut warnings: Vec<String> = unregistered.into_iter().collect();
        warnings.extend(
            made_key_sets
                .iter()
                .map(|path| format!("{} was made: the documents look there for the keys of the demo's issuer", path.display())),
        );
        warnings.extend(foreign_key_sets.iter().map(|path| {
            let path = path.display();
            format!("{path} holds another key than this data directory's, so tokens of `bulkhead token` are refused; delete it to have it written again")
        }));
        if !declared.mistakes().is_empty() {
            warnings.push(format!("there are mistakes in the documents: `bulkhead validate {}`", place.documents.display()));
        }
        if let Ok(Some(displaced)) = registered {
            let other = displaced.place.data_dir.display();
            warnings.push(format!("commands mean this bulkhead now; the one on {other} runs on, and is meant with --data-dir {other}"));
        }
        warnings
    }

    fn tries(&self, running: &Running, registered: bool) -> Vec<tries::Try> {
        let demo = running.addresses().listeners.iter().find(|(entrance, _)| Some(&entrance.service) == self.plan.service.as_ref());
        match demo {
            // They live on tokens, which only dev makes.
            Some((_, address)) if self.args.env == Environment::Dev && self.ground.is_the_demo() => {
                let program = tries::program();
                let data_dir = (!registered || self.context() != context::DEFAULT).then_some(&*self.ground.place.data_dir);
                tries::of_the_demo(&tries::Reach { program: &program, data_dir, port: address.port() })
            }
            _ => Vec::new(),
        }
    }

    fn context(&self) -> &str {
        self.global.context.as_deref().unwrap_or(self.args.env.as_str())
    }

    fn register(&self, running: &Running, api: SocketAddr) -> Registered {
        let mut addresses: Value = serde_json::from_str(&running.addresses().to_json()).unwrap_or_default();
        if let Some(addresses) = addresses.as_object_mut() {
            addresses.insert("api".to_owned(), api.to_string().into());
        }
        let told = Registration {
            environment: self.args.env.as_str(),
            place: &self.ground.place,
            token_file: &self.ground.token_file(),
            addresses,
        };
        context::register(self.context(), &told)
    }
}

/// What the control plane remarks goes to the log of the sidecar beside it.
async fn log_remarks(log: Log, mut remarks: tokio::sync::mpsc::Receiver<String>) {
    while let Some(remark) = remarks.recv().await {
        log.warn("core.config", None, &remark, &[]);
    }
}

async fn drain(running: Running, ends: &mut Ends, out: &mut Out) {
    if io::stderr().is_terminal() {
        out.remark("draining; Ctrl-C again stops at once");
    }
    let deadline = running.settings().load().drain_deadline();
    tokio::select! {
        drained = running.drain(deadline) => {
            if drained.cut > 0 {
                out.warn(format_args!("{} connections were still busy after {} s and were cut", drained.cut, deadline.as_secs()));
            }
        }
        // Whoever asks twice means now.
        () = ends.next() => {}
    }
}

/// The signals that end it.
pub(crate) struct Ends {
    term: Signal,
    interrupt: Signal,
}

impl Ends {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
