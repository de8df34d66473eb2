//! Publishing: one stream a sidecar, on which it is told what is declared and tells what became of it.
//!
//! What a sidecar lacks is made from the shelf when it is to be sent, from the state it has: a slow one is not written to in advance, it
//! skips to the newest state with its next offer. Offers from one state to another are made once and shared by all who need them.
//! How many begin from nothing at the same time is bounded, so that a fleet that comes back at once is served one after another.

use crate::change::Changer;
use crate::document::Version;
use crate::fleet::{Fleet, Seat};
use crate::shelf::{Delta, Shelf};
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::Epoch;
use bulkhead_config::wire::message::from_control_plane::Said as Tells;
use bulkhead_config::wire::message::from_sidecar::Said;
use bulkhead_config::wire::message::{Chunk, FromControlPlane, FromSidecar, Hello, Ping, Telemetry};
use bulkhead_config::wire::{self, Carried, PROTOCOL_VERSION, Parcel};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::{Status, Streaming};

mod listen;

pub use listen::{Door, serve};

/// How often a sidecar hears that its stream lives, when nothing is new.
const PING: Duration = Duration::from_secs(10);
/// How long a sidecar may leave a message unread before its stream ends.
const STALLED: Duration = Duration::from_secs(30);
/// How long a sidecar may be silent before its first message.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Messages that wait to be written to one sidecar.
const WAITING_MAX: usize = 2;
/// Offers of everything that are being sent at the same time.
const FULL_MAX: usize = 8;
/// Offers that are kept for others who need the same.
const KEPT_MAX: usize = 16;
/// Alerts that one sidecar may tell.
const ALERTS_MAX: usize = 100;
/// Characters of an alert.
const ALERT_CHARS_MAX: usize = 500;
/// Characters of what a sidecar calls itself.
const NAME_MAX: usize = 253;

/// Signs what goes to sidecars; the answer goes with the offer as it is.
pub type Sign = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Tells sidecars what is declared.
pub struct Publisher {
    shelf: Arc<Shelf>,
    epochs: watch::Receiver<Epoch>,
    fleet: Arc<Fleet>,
    sign: Option<Sign>,
    full: Semaphore,
    kept: Mutex<VecDeque<Arc<Sealed>>>,
    /// One offer is made at a time: whoever waits for it may find that it is made.
    making: tokio::sync::Mutex<()>,
}

/// An offer, cut and signed.
struct Sealed {
    base: Option<Epoch>,
    epoch: Epoch,
    chunks: Vec<Chunk>,
}

/// Messages to one sidecar.
pub(crate) type Telling = mpsc::Receiver<Result<FromControlPlane, Status>>;

impl Publisher {
    /// Tells what a changer declares. Without a signer offers go unsigned, which sidecars take over loopback only.
    #[must_use]
    pub fn new(changer: &Changer, fleet: Arc<Fleet>, sign: Option<Sign>) -> Arc<Self> {
        let (shelf, epochs) = (Arc::clone(changer.shelf()), changer.epochs());
        Arc::new(Self {
            shelf,
            epochs,
            fleet,
            sign,
            full: Semaphore::new(FULL_MAX),
            kept: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        })
    }

    /// Serves one sidecar's stream. `certified` is the name that its certificate proves; it counts, whatever the sidecar calls itself.
    pub(crate) async fn follow(self: Arc<Self>, certified: Option<String>, mut said: Streaming<FromSidecar>) -> Result<Telling, Status> {
        let first = tokio::time::timeout(HELLO_MAX, said.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Hello within 10 s"))??;
        let Some(Said::Hello(hello)) = first.and_then(|message| message.said) else {
            return Err(Status::invalid_argument("the first message is a Hello"));
        };
        let seat = self.welcome(&hello, certified)?;
        let (telling, told) = mpsc::channel(WAITING_MAX);
        let have = hello.serving.map(wire::epoch_from);
        tokio::spawn(async move {
            let listening = listen_to(said, &seat);
            let mut listening = std::pin::pin!(listening);
            tokio::select! {
                // Its side of the stream ended, or said what cannot be meant: then ours ends too.
                ended = &mut listening => if let Err(why) = ended { let _ = telling.send(Err(why)).await; },
                () = self.tell(have, &telling) => {}
            }
        });
        Ok(told)
    }

    fn welcome(&self, hello: &Hello, certified: Option<String>) -> Result<Seat, Status> {
        if hello.protocol_version != PROTOCOL_VERSION {
            let why =
                format!("this control plane speaks version {PROTOCOL_VERSION} of the protocol, and the sidecar {}", hello.protocol_version);
            return Err(Status::failed_precondition(why));
        }
        let name = certified.unwrap_or_else(|| hello.name.clone());
        let is_good = |text: &str| !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_good(&name) || !is_good(&hello.version) {
            return Err(Status::invalid_argument("name and version are 1 to 253 visible ASCII characters"));
        }
        let serving = hello.serving.map(wire::epoch_from);
        self.fleet.enter(&name, &hello.version, serving).map_err(|full| Status::resource_exhausted(full.to_string()))
    }

    /// Tells a sidecar what is new until it goes.
    async fn tell(self: &Arc<Self>, mut have: Option<Epoch>, telling: &mpsc::Sender<Result<FromControlPlane, Status>>) {
        let mut epochs = self.epochs.clone();
        loop {
            epochs.mark_unchanged();
            let now = self.shelf.epoch();
            if have != Some(now) {
                match self.offer(have, telling).await {
                    Some(sent) => have = Some(sent),
                    None => return,
                }
                continue;
            }
            let news = tokio::time::timeout(PING, epochs.changed()).await;
            match news {
                Ok(Ok(())) => {}
                // The control plane ends.
                Ok(Err(_)) => return,
                Err(_) => {
                    let ping = FromControlPlane { said: Some(Tells::Ping(Ping {})) };
                    if telling.send(Ok(ping)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends what leads from one state to the newest; which that was, or nothing when the sidecar has gone.
    async fn offer(self: &Arc<Self>, have: Option<Epoch>, telling: &mpsc::Sender<Result<FromControlPlane, Status>>) -> Option<Epoch> {
        // First a place, then the work: it is never closed.
        let _place = if self.knows(have) { None } else { Some(self.full.acquire().await.ok()?) };
        let Some(sealed) = self.sealed(have).await else {
            // Whoever has gone needs no reason.
            let _ = telling.send(Err(Status::unavailable("offers cannot be signed at the moment"))).await;
            return None;
        };
        for chunk in &sealed.chunks {
            let message = FromControlPlane { said: Some(Tells::Chunk(chunk.clone())) };
            // Whoever does not read makes room, and comes back.
            tokio::time::timeout(STALLED, telling.send(Ok(message))).await.ok()?.ok()?;
        }
        Some(sealed.epoch)
    }

    /// The offer from one state to the newest; made once for all who need it. Nothing when it cannot be signed.
    async fn sealed(self: &Arc<Self>, have: Option<Epoch>) -> Option<Arc<Sealed>> {
        if let Some(known) = self.known(have) {
            return Some(known);
        }
        let _turn = self.making.lock().await;
        if let Some(known) = self.known(have) {
            return Some(known);
        }
        // Everything takes its time to write out, so not on a thread that serves.
        let publisher = Arc::clone(self);
        let sealed = tokio::task::spawn_blocking(move || publisher.make(have)).await.ok()??;
        let sealed = Arc::new(sealed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Of those of everything, which are large, the newest is enough.
        kept.retain(|known| known.base.is_some() || sealed.base.is_some());
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&sealed));
        Some(sealed)
    }

    /// One that leads from a state to the newest, made before.
    fn known(&self, have: Option<Epoch>) -> Option<Arc<Sealed>> {
        let now = self.shelf.epoch();
        let base = have.filter(|have| self.shelf.knows(*have));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|known| known.epoch == now && known.base == base).cloned()
    }

    fn make(&self, have: Option<Epoch>) -> Option<Sealed> {
        let Delta { base, epoch, put, remove } = self.shelf.since(have);
        let parcel = Parcel { put: put.iter().filter_map(|version| carried(version)).collect(), remove, files: Vec::new() };
        let (mut chunks, signed) = wire::chunks(parcel, base, epoch);
        if let Some(sign) = &self.sign {
            let signature = sign(&signed)?;
            if let Some(last) = chunks.last_mut() {
                last.signature = signature;
            }
        }
        Some(Sealed { base, epoch, chunks })
    }

    fn knows(&self, have: Option<Epoch>) -> bool {
        have.is_some_and(|have| self.shelf.knows(have))
    }
}

fn carried(version: &Version) -> Option<Carried> {
    Some(Carried { id: version.id.clone(), text: version.text.clone()?, file: version.file(), line: 1 })
}

/// Takes in what a sidecar says until its side ends.
async fn listen_to(mut said: Streaming<FromSidecar>, seat: &Seat) -> Result<(), Status> {
    while let Some(message) = said.message().await? {
        match message.said {
            Some(Said::Report(report)) => {
                let report = wire::report_from(report).map_err(|why| Status::invalid_argument(why.to_string()))?;
                seat.report(&report);
            }
            Some(Said::Telemetry(telemetry)) => take_telemetry(telemetry, seat),
            Some(Said::Hello(_)) => return Err(Status::invalid_argument("a Hello comes once")),
            // Of a newer sidecar.
            None => seat.seen(),
        }
    }
    Ok(())
}

fn take_telemetry(telemetry: Telemetry, seat: &Seat) {
    // A name that is none would be another label of the metrics.
    let is_tenant = |tenant: &str| tenant.parse::<TenantId>().is_ok();
    let counts = telemetry.tenants.into_iter().filter(|counts| is_tenant(&counts.tenant));
    let counts = counts.map(|counts| (counts.tenant, [counts.requests, counts.refused, counts.upstream_errors]));
    let short = |text: String| text.chars().take(ALERT_CHARS_MAX).collect::<String>();
    let alerts = telemetry.alerts.into_iter().take(ALERTS_MAX).map(|alert| (short(alert.name), short(alert.text))).collect();
    seat.telemetry(counts, alerts);
}

/// A future that is boxed.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
