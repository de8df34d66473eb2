//! The control thread: everything that serves no request.

use super::for_admin::{ForAdmin, listeners_json};
use super::hand_over::{Ask, TakeOverError, Taken, Which};
use super::probing::Probing;
use super::start::{self, Claimed};
use super::{Addresses, Entrance};
use crate::admin::{Admin, Loopback, SocketError, TokenError};
use crate::clock::{Clock, Origin};
use crate::connection::listeners::{AtHand, ListenError, Listeners, Place, remedy};
use crate::identity;
use crate::policy::settings_watch::{self, Current, Hands};
use crate::policy::{self, Live, Pause, Policy, PolicyError, PolicySource, Status, Surroundings};
use crate::probes::{Health, Probes};
use crate::request::authn::Strangers;
use crate::request::quota::Book;
use crate::request::upstream::attend::Surroundings as UpstreamSurroundings;
use crate::request::upstream::fleet::Fleet;
use crate::settings::Settings;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::decisions::Ids;
use crate::telemetry::log::{Log, Value};
use crate::telemetry::spool::SpoolError;
use crate::telemetry::system;
use crate::worker::{Common, Mail, WorkerError};
use arc_swap::ArcSwap;
use bulkhead_config::compile::Mode;
use bulkhead_config::snapshot::Scheme;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, timeout};

/// How often the control thread looks whether the policy changed.
const LOOK: Duration = Duration::from_millis(100);
/// How often limits of tenants that are gone are forgotten, in looks.
const LOOKS_PER_SWEEP: u64 = 50;
/// How long the logs may take to be written out at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// Threads for what blocks: compiling, the disk, the system's resolver.
const BLOCKING_MAX: usize = 8;

/// What a running sidecar is told.
#[derive(Debug)]
pub(super) enum Order {
    /// End, within this time; tells how many connections were cut.
    Drain(Duration, oneshot::Sender<usize>),
}

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread or no runtime.
    #[error("there is no thread for the control runtime: {0}; raise the limit of threads and open files of this user")]
    Thread(#[source] io::Error),
    /// The data directory.
    #[error("the data directory {} cannot be made or written: {cause}; name another one with --data-dir", path.display())]
    DataDir {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A log.
    #[error(transparent)]
    Log(#[from] SpoolError),
    /// The sidecar whose place it is to take.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] SocketError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The admin port.
    #[error("the admin cannot listen on 127.0.0.1:{port}: {cause}; {}", remedy(cause))]
    AdminPort {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Probes.
    #[error("probes and metrics cannot listen on {address}: {cause}; {} (--probe-address)", remedy(cause))]
    Probes {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// No policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// Metrics that contradict each other, or a thread that ended: a defect of ours.
    #[error("a defect of Bulkhead stopped the start; the log says where")]
    Defect,
}

/// What a start answers.
pub(super) type Started = Result<Shared, StartError>;

/// What a running sidecar shares with whoever started it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) addresses: Addresses,
    pub(super) live: Arc<Live>,
    pub(super) settings: Arc<Current>,
    pub(super) log: Log,
}

/// The body of the control thread.
pub(super) fn run(
    settings: Settings,
    source: impl PolicySource,
    orders: mpsc::Receiver<Order>,
    drain_wanted: watch::Sender<bool>,
    started: oneshot::Sender<Started>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_MAX).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(StartError::Thread(error)))),
    };
    LocalSet::new().block_on(&runtime, async {
        match Control::start(settings, source, drain_wanted).await {
            Ok((control, begun)) => {
                if started.send(Ok(control.shared())).is_ok() {
                    control.serve(begun, orders).await;
                }
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    // What blocks past the end (a resolver that hangs) must not hold the process.
    runtime.shutdown_timeout(FLUSH);
}

/// What has begun with a sidecar, besides the control thread itself.
struct Begun<S> {
    keeper: policy::Keeper<S>,
    /// For the keeper.
    pauses: mpsc::Receiver<Pause>,
    /// For the control thread.
    asks: mpsc::Receiver<Ask>,
}

/// The endpoints of upstreams, and what the tasks that keep them need.
struct Upstreams {
    fleet: Arc<Fleet>,
    surroundings: UpstreamSurroundings,
}

impl Upstreams {
    fn follow(&self, policy: &Policy) {
        self.fleet.follow(policy.snapshot.platform(), &self.surroundings);
    }
}

/// What the control thread holds.
struct Control {
    addresses: Addresses,
    data_dir: PathBuf,
    /// Whether the data directory is this process's.
    is_in_charge: bool,
    /// Whether another process has taken over.
    has_gone: bool,
    drain_wanted: watch::Sender<bool>,
    probing: Probing,
    live: Arc<Live>,
    settings: Arc<Current>,
    health: Arc<Health>,
    listeners: Listeners,
    shown: Arc<ArcSwap<serde_json::Value>>,
    places: Vec<Place>,
    threads: Vec<JoinHandle<()>>,
    book: Arc<Book>,
    upstreams: Upstreams,
    clock: Clock,
    log: Log,
    access_log: AccessLog,
}

impl Control {
    /// Starts everything in order; what fails drops what was started before it.
    async fn start<S: PolicySource>(
        settings: Settings,
        source: S,
        drain_wanted: watch::Sender<bool>,
    ) -> Result<(Self, Begun<S>), StartError> {
        let workers = settings.workers();
        let Settings {
            data_dir,
            take_over,
            probe_address,
            admin_port,
            listen,
            endpoint,
            lookup,
            access_log,
            log,
            core,
            source: settings_source,
        } = settings;
        start::prepare(&data_dir)?;
        let origin = Origin::begin();
        let (log, access_log) = start::write_logs(log, access_log, &core)?;
        let Claimed { taking, mut taken, socket, loopback } = Claimed::claim(take_over.as_deref(), &data_dir, admin_port).await?;
        let book = Arc::new(Book::new());
        let metrics = start::measure(workers, (&log, &access_log), Arc::clone(&book), origin)?;
        tokio::task::spawn_local(system::watch(Arc::clone(&metrics), data_dir.clone()));

        let health = Arc::new(Health::default());
        let probes = Probes { health: Arc::clone(&health), metrics: Arc::clone(&metrics), origin };
        let mut probing =
            Probing::open(probe_address, &mut taken, probes).map_err(|cause| StartError::Probes { address: probe_address, cause })?;
        // Where another process still serves, it answers: this one would say that it is not ready.
        if taking.is_none() {
            probing.start();
        }

        let live = Arc::new(Live::from_pointee(Policy::empty()));
        let (key_asker, key_asks) = identity::channel();
        let (token_asker, token_questions) = identity::token_channel();
        let instead = endpoint.as_ref().filter(|(_, endpoint)| endpoint.scheme == Scheme::Https).map(|(service, _)| service.clone());
        let fleet = Arc::new(Fleet::new(endpoint));
        metrics.upstreams_from(Arc::clone(&fleet));
        let common = Common {
            origin,
            live: Arc::clone(&live),
            strangers: Arc::new(Strangers::new()),
            book: Arc::clone(&book),
            metrics: Arc::clone(&metrics),
            log: log.clone(),
            access_log: access_log.clone(),
            ids: Ids::new().map_err(|_| StartError::Random)?,
            fleet: Arc::clone(&fleet),
            key_asker,
            token_asker,
        };
        let (places, threads) = start::spawn_workers(workers.get(), &common)?;

        let status = Arc::new(Status::default());
        let current = Arc::new(ArcSwap::from_pointee(core.clone()));
        let hands = Hands { log: log.clone(), metrics: Arc::clone(&metrics), status: Arc::clone(&status), current: Arc::clone(&current) };
        hands.take(core.clone());
        tokio::task::spawn_local(settings_watch::follow(settings_source, hands, std::future::pending()));
        let surroundings = Surroundings {
            live: Arc::clone(&live),
            status: Arc::clone(&status),
            log: log.clone(),
            metrics: Arc::clone(&metrics),
            origin,
            data_dir: data_dir.clone(),
            probation: core.probation(),
            instead,
            mode: if core.shadow() { Mode::Shadow } else { Mode::AsDeclared },
        };
        if core.shadow() {
            let why = "everything is in shadow: credentials, permissions, features and quotas refuse nothing";
            log.warn("core.sidecar", None, why, &[]);
        }
        let keeper = policy::begin(surroundings, source, (key_asks, token_questions)).await?;
        let mut listeners = Listeners::new(places.clone(), Arc::clone(&live), listen, at_hand(taken), log.clone());
        let policy = live.load_full();
        listeners.prepare(policy.snapshot.platform())?;
        let upstreams = Upstreams {
            fleet: Arc::clone(&fleet),
            surroundings: UpstreamSurroundings::new(lookup, Arc::clone(&live), origin, log.clone()),
        };
        upstreams.follow(&policy);
        if let Some(taking) = taking {
            taking.finish(&log).await?;
        }
        if let Some(error) = listeners.follow(policy.snapshot.platform()).await.into_iter().next() {
            return Err(error.into());
        }
        health.serves(policy.snapshot.platform().services().len());
        probing.start();

        let shown = Arc::new(ArcSwap::from_pointee(listeners_json(&listeners.shown())));
        let admin_port = loopback.as_ref().map(Loopback::address);
        let addresses =
            Addresses { listeners: addresses_of(&listeners), probes: probing.address(), admin: socket.path().to_owned(), admin_port };
        let sidecar = ForAdmin {
            status,
            live: Arc::clone(&live),
            listeners: Arc::clone(&shown),
            settings: Arc::clone(&current),
            workers: places.iter().map(|place| place.mailbox.clone()).collect(),
            drain_wanted: drain_wanted.clone(),
            fleet,
            origin,
        };
        let admin = Arc::new(Admin { sidecar, health: Arc::clone(&health), metrics, log: log.clone(), origin });
        let (pauses, asks) = start::serve_admin(admin, data_dir.clone(), (socket, loopback), log.clone());
        let control = Self {
            addresses,
            data_dir,
            is_in_charge: true,
            has_gone: false,
            drain_wanted,
            probing,
            live,
            settings: current,
            health,
            listeners,
            shown,
            places,
            threads,
            book,
            upstreams,
            clock: Clock::new(origin),
            log,
            access_log,
        };
        control.write_addresses();
        Ok((control, Begun { keeper, pauses, asks }))
    }

    fn shared(&self) -> Shared {
        let (live, settings) = (Arc::clone(&self.live), Arc::clone(&self.settings));
        Shared { addresses: self.addresses.clone(), live, settings, log: self.log.clone() }
    }

    /// Follows the policy until told to end, then ends.
    async fn serve<S: PolicySource>(mut self, begun: Begun<S>, mut orders: mpsc::Receiver<Order>) {
        let Begun { keeper, pauses, mut asks } = begun;
        let (stop, stopped) = oneshot::channel::<()>();
        let log = self.log.clone();
        let following = tokio::task::spawn_local(async move {
            let stopped = async { drop(stopped.await) };
            if let Err(error) = keeper.follow(stopped, pauses).await {
                log.error(
                    "core.config",
                    None,
                    "the policy is no longer followed; what is served stays",
                    &[("cause", Value::Shown(&error))],
                );
            }
        });
        let mut seen = self.live.load_full();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = 0_u64;
        let order = loop {
            tokio::select! {
                order = orders.recv() => break order,
                Some(ask) = asks.recv() => self.answer(ask).await,
                () = self.upstreams.fleet.news() => self.upstreams.follow(&self.live.load()),
                _ = looks.tick() => {
                    look += 1;
                    self.look(look, &mut seen).await;
                }
            }
        };
        drop(seen);
        // Whoever let go of a running sidecar without draining it waits for nothing.
        let (deadline, done) = match order {
            Some(Order::Drain(deadline, done)) => (deadline, Some(done)),
            None => (Duration::ZERO, None),
        };
        let cut = self.drain(deadline).await;
        drop(stop);
        let _ = following.await;
        self.end(cut).await;
        done.map(|done| done.send(cut));
    }

    /// What a hand-over asks.
    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Sockets(answer) => {
                let probes = self.probing.socket().into_iter().map(|(declared, socket)| (Which::Probes, declared, socket));
                let listeners = self.listeners.sockets().into_iter();
                let listeners = listeners.map(|(entrance, declared, socket)| (Which::Listener(entrance), declared, socket));
                // Nobody waits any more where the new process has gone meanwhile.
                let _ = answer.send(probes.chain(listeners).collect());
            }
            Ask::InCharge(is_in_charge) => {
                self.is_in_charge = is_in_charge;
                if is_in_charge {
                    self.write_addresses();
                }
            }
            Ask::Gone => {
                self.has_gone = true;
                self.probing.leave();
                self.listeners.leave_all().await;
                // Nobody waits for it while the process ends anyway.
                let _ = self.drain_wanted.send(true);
            }
        }
    }

    async fn look(&mut self, look: u64, seen: &mut Arc<Policy>) {
        let now = self.live.load_full();
        let changed = !Arc::ptr_eq(&now, seen);
        if changed {
            *seen = now;
            self.upstreams.follow(seen);
            self.health.serves(seen.snapshot.platform().services().len());
        }
        let retry = self.listeners.lacks_some() && look.is_multiple_of(10);
        if (changed || retry) && !self.has_gone {
            self.follow(seen).await;
        }
        if look.is_multiple_of(LOOKS_PER_SWEEP) {
            self.clock.correct();
            self.book.sweep(&seen.snapshot, self.clock.now());
        }
    }

    async fn follow(&mut self, policy: &Policy) {
        for error in self.listeners.follow(policy.snapshot.platform()).await {
            self.log.error("core.sidecar", None, &error, &[("cause", Value::Shown(&error.cause)), ("retried", true.into())]);
        }
        let addresses = addresses_of(&self.listeners);
        self.shown.store(Arc::new(listeners_json(&self.listeners.shown())));
        if addresses != self.addresses.listeners {
            self.addresses.listeners = addresses;
            if self.is_in_charge {
                self.write_addresses();
            }
        }
    }

    /// Takes nothing new and waits for what is being answered; tells how many connections were cut.
    async fn drain(&mut self, within: Duration) -> usize {
        // Whoever asks for readiness is answered by the process that has taken over, or was accepted while this one was ready.
        if !self.has_gone {
            self.health.drains();
        }
        self.log.info("core.sidecar", None, "draining", &[("deadline_ms", within.into())]);
        // A worker that is stuck answers nothing; it must not keep the process from ending.
        let _ = timeout(FLUSH, self.listeners.close_all()).await;
        let all_done = async {
            let mut waiting = Vec::new();
            for place in &self.places {
                let (done, is_done) = oneshot::channel();
                if place.mailbox.send(Mail::Drain(done)).await.is_ok() {
                    waiting.push(is_done);
                }
            }
            for is_done in waiting {
                let _ = is_done.await;
            }
        };
        // What is not done by then is cut below, and counted.
        let _ = timeout(within, all_done).await;
        let mut cut = 0;
        for (place, thread) in self.places.drain(..).zip(self.threads.drain(..)) {
            match timeout(FLUSH, end(&place)).await {
                Ok(left) => {
                    cut += left;
                    // Its panic was counted and logged where it happened.
                    let _ = thread.join();
                }
                Err(_) => self.log.error("core.sidecar", None, "a worker is stuck; the process ends without it", &[]),
            }
        }
        cut
    }

    async fn end(&mut self, cut: usize) {
        if self.is_in_charge {
            let _ = std::fs::remove_file(self.data_dir.join(ADDRESSES));
        }
        self.log.info("core.sidecar", None, "ended", &[("connections_cut", cut.into())]);
        self.access_log.flush(FLUSH).await;
        self.log.flush(FLUSH).await;
    }

    /// For tools that want to know which ports were chosen. A sidecar serves without it, so a failure is told and no more.
    fn write_addresses(&self) {
        let (to, draft) = (self.data_dir.join(ADDRESSES), self.data_dir.join(format!("{ADDRESSES}.new")));
        let written = std::fs::write(&draft, self.addresses.to_json()).and_then(|()| std::fs::rename(&draft, &to));
        if let Err(error) = written {
            let more = [("file", Value::Shown(&to.display())), ("cause", Value::Shown(&error))];
            self.log.warn("core.sidecar", None, "the addresses cannot be written", &more);
        }
    }
}

/// Ends a worker; tells how many connections were cut.
async fn end(place: &Place) -> usize {
    let (left, is_left) = oneshot::channel();
    match place.mailbox.send(Mail::End(left)).await {
        Ok(()) => is_left.await.unwrap_or(0),
        Err(_) => 0,
    }
}

/// Name of the file that tells addresses.
const ADDRESSES: &str = "addresses.json";

/// Sockets of listeners that were taken over.
fn at_hand(taken: Vec<Taken>) -> Vec<AtHand> {
    let of_listener = |Taken { which, declared, listener }| match which {
        Which::Listener(entrance) => Some(AtHand { entrance, declared, listener }),
        Which::Probes => None,
    };
    taken.into_iter().filter_map(of_listener).collect()
}

fn addresses_of(listeners: &Listeners) -> Vec<(Arc<Entrance>, SocketAddr)> {
    let open = listeners.shown().into_iter();
    open.filter_map(|shown| shown.listens.ok().map(|address| (shown.entrance, address))).collect()
}
