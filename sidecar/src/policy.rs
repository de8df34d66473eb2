//! The live policy: offers of one source compiled, kept and swapped in.
//!
//! `run` is the only writer. It takes an offer, has it compiled where nobody waits (`receive.rs`), and what came of it is swapped
//! in for every worker at once; a request reads one policy from start to end. What may be served after the process died of it
//! is for `last_good.rs` to say.
//!
//! Cost: none per request; workers read [`Live`] through a cache of their own.

use crate::clock::{Clock, Origin};
use crate::identity::{self, Fetched, Introspection, KeptSets, KeySets, Wants};
use crate::request::authn::Keys;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use crate::tls::Tls;
use crate::worker::Random;
use arc_swap::ArcSwap;
use bulkhead_config::compile::Mode;
use bulkhead_config::name::ServiceName;
use bulkhead_config::protocol::{Contents, Offer, Quarantined, Report};
use bulkhead_config::snapshot::Snapshot;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch as latest};
use tokio::task::spawn_blocking;

mod watch;
mod folder;
mod push;
mod receive;
mod contain;
mod key_files;
mod last_good;
mod status;
mod tell;
pub mod settings_watch;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use folder::{Folder, FolderError};
pub use last_good::PROBATION;
pub use push::{ControlPlane, IdentityError, Push};
pub use status::Status;

use key_files::KeyFiles;
use last_good::LastGood;
use receive::{Change, Receiver};

/// Documents come from operators and tenants, so their names are chosen keys: a fast hash that is not fooled by them.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Where policy comes from: a folder, the control plane, or the process that embeds this one. A sidecar has exactly one.
pub trait PolicySource: Send + 'static {
    /// The next change; `None` when no more will come. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Offer>> + Send;
    /// What became of the last one.
    fn report(&mut self, report: &Report);
    /// What it is, for people.
    fn describe(&self) -> String;
    /// How to read a key set that no offer brings, because only a version of the documents names it that a start falls back on.
    fn key_reader(&self) -> KeyReader {
        Arc::new(|_| None)
    }
    /// Whether a start may serve what was served last until this says something. A source that can always say something says no: what
    /// is declared now is better.
    fn serves_last_good(&self) -> bool {
        false
    }
}

/// Reads a key set by its name; `None`: it cannot be read. May take its time.
pub type KeyReader = Arc<dyn Fn(&str) -> Contents + Send + Sync>;

/// What is served, as a whole: a request reads one of these from start to end.
#[derive(Debug)]
pub struct Policy {
    /// What was compiled.
    pub snapshot: Arc<Snapshot>,
    /// Keys of the issuers.
    pub keys: Arc<Keys>,
    /// What handshakes are made with.
    pub tls: Arc<Tls>,
    /// Every part that is not served as declared.
    pub quarantined: Arc<[Quarantined]>,
    /// Since when it is served, in milliseconds since 1970-01-01 UTC.
    pub since_unix_ms: u64,
}

/// The policy of this moment. Shared as `Arc<Live>`; a worker reads it through an `arc_swap::Cache`.
pub type Live = ArcSwap<Policy>;

impl Policy {
    /// Nothing declared: what is served until the first offer was taken.
    #[must_use]
    pub fn empty() -> Self {
        let snapshot = Arc::clone(bulkhead_config::compile::Catalogue::new().snapshot());
        Self { snapshot, keys: Arc::default(), tls: Arc::default(), quarantined: Arc::new([]), since_unix_ms: 0 }
    }

    fn is_same(&self, other: &Policy) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot)
            && Arc::ptr_eq(&self.keys, &other.keys)
            && Arc::ptr_eq(&self.tls, &other.tls)
            && self.quarantined == other.quarantined
    }
}

/// What the live policy needs of the process around it.
#[derive(Clone)]
pub struct Surroundings {
    /// What it writes.
    pub live: Arc<Live>,
    /// What it tells of itself.
    pub status: Arc<Status>,
    /// Where changes are logged.
    pub log: Log,
    /// Where changes are counted.
    pub metrics: Arc<Metrics>,
    /// Where this process began to count time.
    pub origin: Origin,
    /// Where the last-known-good is kept, in `policy/`.
    pub data_dir: PathBuf,
    /// How long a version must be served to be good; see [`PROBATION`].
    pub probation: Duration,
    /// A service whose upstreams are replaced by an endpoint with TLS.
    pub instead: Option<ServiceName>,
    /// How what is declared is meant.
    pub mode: Mode,
}

/// A policy that has begun to be served.
pub struct Keeper<S> {
    surroundings: Surroundings,
    source: S,
    /// Absent only while it works.
    receiver: Option<Receiver>,
    /// Whether something was written down that a machine which dies would lose.
    is_unsynced: bool,
    wanted: latest::Sender<Wants>,
    fetched: mpsc::Receiver<Fetched>,
    retired: Vec<Arc<Policy>>,
    clock: Clock,
}

/// Asks whoever follows the policy to leave the data directory to another process. What is served stays.
#[derive(Debug)]
pub struct Pause {
    /// Told once it is left.
    pub left: oneshot::Sender<()>,
    /// Tells when it is had again; dropped when it never will be.
    pub back: oneshot::Receiver<()>,
}

/// Why no policy is served.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The source has nothing to say.
    #[error("the source of policy ({0}) ended before it said what is declared")]
    NoOffer(String),
    /// No randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// A defect of ours.
    #[error("a defect of Bulkhead stopped the policy from being taken in; the log says where")]
    Defect,
}

/// Fetched key sets that may wait to be taken in.
const FETCHED_MAX: usize = 64;
/// How often replaced policies are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// Replaced policies that are kept for workers to let go of first.
const RETIRED_MAX: usize = 64;

/// Takes the first offer: when this returns, what it declares is served, but for what is in quarantine.
///
/// # Errors
/// When there is no offer.
pub async fn begin<S: PolicySource>(
    surroundings: Surroundings,
    mut source: S,
    (asks, questions): (mpsc::Receiver<identity::Ask>, mpsc::Receiver<identity::TokenQuestion>),
) -> Result<Keeper<S>, PolicyError> {
    let clock = Clock::new(surroundings.origin);
    let (data_dir, probation, now) = (surroundings.data_dir.clone(), surroundings.probation, clock.now());
    let opened = spawn_blocking(move || LastGood::open(&data_dir, probation, now)).await;
    let (last_good, findings) = opened.map_err(|_| PolicyError::Defect)?;
    tell::findings(&surroundings.log, &findings, &last_good);
    let served = if source.serves_last_good() { last_good.offer() } else { None };
    let offer = match served {
        Some(offer) => offer,
        None => source.next().await.ok_or_else(|| PolicyError::NoOffer(source.describe()))?,
    };
    let keys = KeyFiles::new(surroundings.instead.clone(), KeptSets::new(&surroundings.data_dir));
    let receiver = Receiver::new(Arc::clone(&surroundings.live), surroundings.mode, last_good, source.key_reader(), keys);
    let (wanted, wants) = latest::channel(Wants::default());
    let (sender, fetched) = mpsc::channel(FETCHED_MAX);
    let mut keeper =
        Keeper { surroundings, source, receiver: Some(receiver), is_unsynced: false, wanted, fetched, retired: Vec::new(), clock };
    keeper.take(offer).await?;
    tokio::spawn(keeper.introspection(questions, wants.clone()).run());
    tokio::spawn(keeper.key_sets(asks, wants, sender)?.run());
    Ok(keeper)
}

impl<S: PolicySource> Keeper<S> {
    /// Follows the source until `stop` is ready, then ends in order: the next start has nothing to suspect. A pause is made between
    /// two changes; what the source says meanwhile is taken in after it.
    ///
    /// # Errors
    /// On a defect of ours: what is served stays, and changes are taken in no more.
    pub async fn follow(mut self, stop: impl Future<Output = ()>, mut pauses: mpsc::Receiver<Pause>) -> Result<(), PolicyError> {
        let mut stop = std::pin::pin!(stop);
        let mut has_ended = false;
        loop {
            self.clock.correct();
            let due = self.receiver.as_ref().and_then(|receiver| receiver.last_good().wait(self.clock.now()));
            tokio::select! {
                biased;
                () = std::future::ready(()), if self.is_unsynced => self.sync().await?,
                () = &mut stop => return Ok(()),
                Some(pause) = pauses.recv() => tokio::select! {
                    biased;
                    () = &mut stop => return Ok(()),
                    done = self.pause(pause) => done?,
                },
                offer = self.source.next(), if !has_ended => match offer {
                    Some(offer) => self.take(offer).await?,
                    None => {
                        has_ended = true;
                        self.surroundings.log.warn("core.config", None, "the source of policy has ended; what is served stays", &[]);
                    }
                },
                Some(fetched) = self.fetched.recv() => self.take_fetched(fetched).await?,
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => self.tick().await?,
                () = tokio::time::sleep(SWEEP), if !self.retired.is_empty() => self.sweep(),
            }
        }
    }

    /// After what was written down is served, and told: nobody waits for the disk.
    async fn sync(&mut self) -> Result<(), PolicyError> {
        self.is_unsynced = false;
        self.work(|receiver, clock| receiver.sync(clock.now())).await
    }

    async fn pause(&mut self, pause: Pause) -> Result<(), PolicyError> {
        self.work(|receiver, clock| receiver.let_go(clock.now())).await?;
        // Whoever asked may be gone, and with it what it had to say.
        let _ = pause.left.send(());
        if pause.back.await.is_err() {
            return std::future::pending().await;
        }
        self.work(|receiver, clock| receiver.take_back(clock.now())).await
    }

    async fn take(&mut self, offer: Offer) -> Result<(), PolicyError> {
        let began = self.clock.now();
        let change = self.work(move |receiver, clock| receiver.take(offer, clock.now())).await?;
        self.is_unsynced = true;
        self.tell(change, self.clock.now().since(began));
        Ok(())
    }

    /// Takes in a key set that was fetched; who waits for it is told once it is served.
    async fn take_fetched(&mut self, fetched: Fetched) -> Result<(), PolicyError> {
        let began = self.clock.now();
        let Fetched { name, set, kept, waiting } = fetched;
        if let Some(change) = self.work(move |receiver, clock| receiver.take_fetched(&name, set, kept, clock.now())).await? {
            self.is_unsynced = true;
            self.tell(change, self.clock.now().since(began));
        }
        waiting.tell();
        Ok(())
    }

    /// Whoever fetches the key sets that documents name by their URL.
    fn key_sets(
        &self,
        asks: mpsc::Receiver<identity::Ask>,
        wanted: latest::Receiver<Wants>,
        fetched: mpsc::Sender<Fetched>,
    ) -> Result<KeySets, PolicyError> {
        let Surroundings { log, metrics, status, origin, .. } = self.surroundings.clone();
        let random = Random::new().map_err(|_| PolicyError::Random)?;
        Ok(KeySets { asks, wanted, fetched, log, metrics, status, clock: Clock::new(origin), random })
    }

    /// Whoever asks about tokens.
    fn introspection(&self, questions: mpsc::Receiver<identity::TokenQuestion>, servers: latest::Receiver<Wants>) -> Introspection {
        let Surroundings { log, metrics, origin, .. } = self.surroundings.clone();
        Introspection { questions, servers, log, metrics, clock: Clock::new(origin) }
    }

    async fn tick(&mut self) -> Result<(), PolicyError> {
        self.is_unsynced = true;
        let began = self.clock.now();
        if let Some(change) = self.work(|receiver, clock| receiver.tick(clock.now())).await? {
            self.tell(change, self.clock.now().since(began));
        }
        Ok(())
    }

    /// Compiling and writing take their time: this thread serves probes meanwhile.
    async fn work<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Receiver, &Clock) -> T + Send + 'static) -> Result<T, PolicyError> {
        let mut receiver = self.receiver.take().ok_or(PolicyError::Defect)?;
        let trouble = receiver.last_good().trouble().map(str::to_owned);
        let clock = Clock::new(self.surroundings.origin);
        let done = spawn_blocking(move || {
            let result = work(&mut receiver, &clock);
            let wanted = receiver.newly_wanted();
            (receiver, result, wanted)
        });
        let (receiver, result, wanted) = done.await.map_err(|_| PolicyError::Defect)?;
        if let Some(wanted) = wanted {
            self.wanted.send_replace(wanted);
        }
        self.surroundings.status.ledger(receiver.last_good());
        tell::trouble(&self.surroundings.log, trouble.as_deref(), receiver.last_good().trouble());
        self.receiver = Some(receiver);
        Ok(result)
    }

    /// What became of a change: to the source, the metrics, the status and the log.
    fn tell(&mut self, change: Change, took: Duration) {
        let Surroundings { live, status, log, metrics, .. } = &self.surroundings;
        self.source.report(&change.report);
        metrics.policy(change.report.epoch, &change.report.quarantined);
        status.served(&live.load(), self.source.describe(), &change.warnings);
        tell::change(log, &change, took);
        self.retired.extend(change.retired);
    }

    /// Drops replaced policies that no worker reads any more; a big one takes its time, so not here.
    fn sweep(&mut self) {
        let (kept, mut idle): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.retired).into_iter().partition(|policy| Arc::strong_count(policy) > 1);
        self.retired = kept;
        let surplus = self.retired.len().saturating_sub(RETIRED_MAX);
        idle.extend(self.retired.drain(..surplus));
        if !idle.is_empty() {
            spawn_blocking(move || drop(idle));
        }
    }
}
