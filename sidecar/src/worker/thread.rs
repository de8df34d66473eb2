//! The thread of a worker: its runtime, its letters, its ticks.

use super::bound::Tenants;
use super::buffers::Buffers;
use super::date::Date;
use super::departures::Departures;
use super::mail::MAIL_MAX;
use super::random::Random;
use super::{Current, Mail, Mailbox, Worker};
use crate::clock::{Clock, Origin};
use crate::connection::told::Told;
use crate::connection::{accept, serve};
use crate::deadline::{TURN, Wheel};
use crate::identity::{self, Introspector, Looks};
use crate::policy::Live;
use crate::request::authn::{Memo, Strangers};
use crate::request::quota::Book;
use crate::request::upstream::Targets;
use crate::request::upstream::fleet::Fleet;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::decisions::{Decisions, Ids};
use crate::telemetry::log::{Log, Value};
use crate::telemetry::metrics::Metrics;
use arc_swap::Cache;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

/// Turns of the wheel between two ticks, and between two sweeps.
const TURNS_PER_TICK: u64 = 2;
const TURNS_PER_SWEEP: u64 = 20;

/// What all workers are given.
#[derive(Clone)]
pub struct Common {
    /// Where time begins.
    pub origin: Origin,
    /// The policy.
    pub live: Arc<Live>,
    /// Who failed too often.
    pub strangers: Arc<Strangers>,
    /// Limit cells.
    pub book: Arc<Book>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The application log.
    pub log: Log,
    /// The access log.
    pub access_log: AccessLog,
    /// Names of decisions.
    pub ids: Ids,
    /// Endpoints of all upstreams.
    pub fleet: Arc<Fleet>,
    /// The way to whoever fetches key sets.
    pub key_asker: identity::Asker,
    /// The way to whoever asks about tokens.
    pub token_asker: identity::TokenAsker,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No thread or no runtime.
    #[error("worker {0} has no thread: {1}; raise the limit of threads and open files of this user")]
    Thread(usize, #[source] io::Error),
    /// No randomness.
    #[error("worker {0} got no random numbers from the system")]
    Random(usize),
    /// More workers than were counted.
    #[error("worker {0} has no place among the metrics")]
    Uncounted(usize),
}

/// Starts a worker.
///
/// # Errors
/// Why there is none.
pub fn spawn(index: usize, common: Common) -> Result<(Mailbox, std::thread::JoinHandle<()>), WorkerError> {
    let (mailbox, letters) = mpsc::channel(MAIL_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| WorkerError::Thread(index, error))?;
    let random = Random::new().map_err(|_| WorkerError::Random(index))?;
    let cells = common.metrics.worker(index).ok_or(WorkerError::Uncounted(index))?;
    let body = move || {
        let policy = common.live.load_full();
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        let worker = Rc::new(Worker {
            clock: Clock::new(common.origin),
            wheel: Wheel::new(),
            live: RefCell::new(Cache::new(common.live)),
            current: RefCell::new(Rc::new(Current(policy))),
            tenants: Tenants::new(index, common.book, Arc::clone(&common.metrics)),
            memo: RefCell::new(Memo::new()),
            strangers: common.strangers,
            targets: Targets::new(common.fleet, common.origin),
            looks: Looks::new(common.key_asker),
            introspector: Introspector::new(common.token_asker),
            access_log: RefCell::new(common.access_log.buffer()),
            decisions: RefCell::new(Decisions::new(common.ids, number)),
            remembered: Cell::new((0, 0)),
            shadow: RefCell::default(),
            cells,
            metrics: common.metrics,
            log: common.log,
            random,
            buffers: Buffers::default(),
            departures: Departures::default(),
            date: Date::default(),
            refused_headers: Told::default(),
            refused_handshakes: Told::default(),
            connections: RefCell::default(),
            open: Cell::new(0),
            streams: super::Streams::default(),
            scratch: RefCell::default(),
            is_draining: Cell::new(false),
        });
        LocalSet::new().block_on(&runtime, run(worker, letters));
    };
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(body);
    Ok((mailbox, thread.map_err(|error| WorkerError::Thread(index, error))?))
}

/// Reads letters until one says that it is over.
async fn run(worker: Rc<Worker>, mut letters: mpsc::Receiver<Mail>) {
    tokio::task::spawn_local(turn(Rc::clone(&worker)));
    let departing = Rc::clone(&worker);
    tokio::task::spawn_local(async move { departing.departures().run().await });
    while let Some(letter) = letters.recv().await {
        match letter {
            Mail::Connection(accepted) => match accepted.arrive() {
                Ok(accepted) => serve::begin(&worker, accepted),
                Err(error) => worker.log.error("core.sidecar", None, "a socket was lost", &[("cause", Value::Shown(&error))]),
            },
            Mail::Listen(listening) => {
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move {
                    let (log, serving) = (worker.log.clone(), Rc::clone(&worker));
                    let is_hop = |peer| worker.policy().snapshot.platform().is_trusted_hop(peer);
                    accept::run(listening, &log, is_hop, move |accepted| serve::begin(&serving, accepted)).await;
                });
            }
            Mail::Close(entrance) => worker.close_connections(|connection| connection.entrance == entrance),
            // Who asked may have given up waiting.
            Mail::Decision(id, answer) => drop(answer.send(worker.replay(id))),
            Mail::ApiKeyUses(tenant, answer) => drop(answer.send(worker.memo().api_key_uses(&tenant))),
            Mail::Shadow(afterwards, answer) => drop(answer.send(worker.shadow().tell(afterwards, worker.now()))),
            Mail::Drain(done) => {
                worker.drain();
                tokio::task::spawn_local(tell_when_empty(Rc::clone(&worker), done));
            }
            Mail::End(left) => {
                worker.access_log.borrow_mut().hand_over();
                let _ = left.send(worker.open.get());
                return;
            }
        }
    }
}

async fn tell_when_empty(worker: Rc<Worker>, done: oneshot::Sender<()>) {
    while worker.open.get() > 0 {
        tokio::time::sleep(TURN).await;
    }
    worker.access_log.borrow_mut().hand_over();
    let _ = done.send(());
}

/// Turns the wheel, ticks and sweeps.
async fn turn(worker: Rc<Worker>) {
    let start = worker.now();
    let mut every = tokio::time::interval(TURN);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_u64.. {
        every.tick().await;
        worker.wheel.turn_to(worker.now().since(start));
        if turn % TURNS_PER_TICK == 0 {
            worker.tick();
        }
        if turn % TURNS_PER_SWEEP == 0 {
            worker.sweep();
        }
    }
}
