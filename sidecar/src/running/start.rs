//! Start: the parts a sidecar is put together from, in the order in which it needs them.
//!
//! Cost: once, at the start of the process.

use super::control::StartError;
use super::for_admin::ForAdmin;
use super::hand_over::{Ask, Desk, Giver, TakeOver, Taken};
use crate::admin::{Admin, Loopback, Socket, Token};
use crate::clock::{Clock, Origin};
use crate::connection::listeners::Place;
use crate::connection::proxy_header::Refused;
use crate::policy::Pause;
use crate::problem::Code;
use crate::request::quota::Book;
use crate::request::upstream::Step;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log::{Level, Log};
use crate::telemetry::metrics::{Counted, Metrics};
use crate::telemetry::spool::Sink;
use crate::worker::{self, Common, WorkerError};
use bulkhead_config::settings::Settings as Core;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Makes the data directory.
pub(super) fn prepare(data_dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(|cause| StartError::DataDir { path: data_dir.to_owned(), cause })
}

/// What no other process has any more. Whoever has it takes it apart in this order and so drops it in the reverse: the data directory
/// is free before the old process looks.
pub(super) struct Claimed {
    /// From a running sidecar, if this one is to take its place, and the sockets it gave.
    pub(super) taking: Option<TakeOver>,
    pub(super) taken: Vec<Taken>,
    /// The data directory, by its admin socket.
    pub(super) socket: Socket,
    pub(super) loopback: Option<Loopback>,
}

impl Claimed {
    pub(super) async fn claim(take_over: Option<&Path>, data_dir: &Path, admin_port: Option<u16>) -> Result<Self, StartError> {
        let (taking, taken) = match take_over {
            Some(running) => TakeOver::begin(running).await.map(|(taking, taken)| (Some(taking), taken))?,
            None => (None, Vec::new()),
        };
        let socket = Socket::open(data_dir)?;
        let loopback = match admin_port {
            Some(port) => Some(open_loopback(port, data_dir).await?),
            None => None,
        };
        Ok(Self { taking, taken, socket, loopback })
    }
}

async fn open_loopback(port: u16, data_dir: &Path) -> Result<Loopback, StartError> {
    let token = Token::open(data_dir)?;
    Loopback::open(port, token).await.map_err(|cause| StartError::AdminPort { port, cause })
}

pub(super) fn write_logs(log: Sink, access_log: Option<Sink>, core: &Core) -> Result<(Log, AccessLog), StartError> {
    let log = Log::start(log, core.log_level().as_str().parse().unwrap_or(Level::Info))?;
    let access_log = match access_log {
        Some(sink) => AccessLog::start(sink, &log)?,
        None => AccessLog::off(),
    };
    Ok((log, access_log))
}

/// Everything that is counted, with what only others know: what the logs dropped, and what tenants used of their quotas.
pub(super) fn measure(
    workers: NonZeroUsize,
    (log, access_log): (&Log, &AccessLog),
    book: Arc<Book>,
    origin: Origin,
) -> Result<Arc<Metrics>, StartError> {
    let counted = Counted {
        workers,
        refusals: Code::SLUGS.into(),
        upstream_steps: Step::LABELS.into(),
        proxy_headers: Refused::LABELS.into(),
        logs: vec![("access", access_log.dropped()), ("application", log.dropped().clone())],
    };
    let metrics = Metrics::new(counted).map_err(|_| StartError::Defect)?;
    metrics.api_quota_usage_from(Box::new(move |tenant| book.usage(tenant.as_str(), Clock::new(origin).now())));
    Ok(Arc::new(metrics))
}

/// Answers operators, until another process takes over: for the keeper and for the control thread, what it asks of them then.
pub(super) fn serve_admin(
    admin: Arc<Admin<ForAdmin>>,
    data_dir: PathBuf,
    (socket, loopback): (Socket, Option<Loopback>),
    log: Log,
) -> (mpsc::Receiver<Pause>, mpsc::Receiver<Ask>) {
    let port = loopback.as_ref().map(|loopback| loopback.address().port());
    let mut desk = Desk { data_dir, port, admin, open: None };
    desk.open(socket, loopback);
    let ((pausing, pauses), (asking, asks)) = (mpsc::channel(1), mpsc::channel(1));
    tokio::task::spawn_local(Giver { desk, pauses: pausing, asks: asking, log }.run());
    (pauses, asks)
}

pub(super) fn spawn_workers(count: usize, common: &Common) -> Result<(Vec<Place>, Vec<JoinHandle<()>>), WorkerError> {
    let (mut places, mut threads) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (mailbox, thread) = worker::spawn(index, common.clone())?;
        places.push(Place { mailbox, load: Arc::new(AtomicU32::new(0)) });
        threads.push(thread);
    }
    Ok((places, threads))
}
