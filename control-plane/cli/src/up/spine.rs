//! The control plane within `up`: what the folder declares and what comes through the API, as one source for the sidecar beside it.
//!
//! What is good in the folder's offers goes to the store under the owner `files`, and then all of them, mistakes included, to the sidecar;
//! what comes through the API goes to the store first and from there to the sidecar. A document that the API has is not the
//! folder's to take: it is left out, and the log says so.

use crate::backup;
use crate::exit::Exit;
use crate::fault::{Fault, chain};
use bulkhead_config::declared::DocumentId;
use bulkhead_config::protocol::{Offer, Put, Report};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_keyring::KekSource;
use bulkhead_server::change::{Changer, Committed};
use bulkhead_server::document::Owner;
use bulkhead_server::files::{Files, Left};
use bulkhead_server::fleet::Seat;
use bulkhead_server::identity::{self, Identity, IdentityError};
use bulkhead_server::shelf::Delta;
use bulkhead_server::state::SECRET_CHARACTERS_MIN;
use bulkhead_server::{Backup, Running, Settings, StartError};
use bulkhead_sidecar::policy::{KeyReader, PolicySource};
use bulkhead_store::{Embedded, OpenError, Options, Store};
use rustls::pki_types::ServerName;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Name of the store in a data directory.
pub(crate) const STORE: &str = "store.redb";

/// How long until what could not be written down is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{0}")]
    Start(StartError),
    #[error(transparent)]
    Store(#[from] bulkhead_store::Error),
    #[error("cannot read the operator's token")]
    Token(#[source] io::Error),
    #[error("a defect of Bulkhead stopped the store from being opened")]
    Defect,
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Open(OpenError::Locked { .. }) => Exit::Unavailable,
            Error::Open(OpenError::System { source, .. }) | Error::Token(source) => Exit::of(source),
            Error::Start(StartError::Listen { cause, .. }) => Exit::of(cause),
            Error::Identity(_) => Exit::Configuration,
            Error::Open(_) | Error::Store(_) | Error::Start(StartError::Archive(_)) => Exit::BadData,
            Error::Start(StartError::Defect) | Error::Defect => Exit::Unavailable,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::Start(StartError::Listen { .. }) => {
                Some("stop what listens there, or serve the API elsewhere with --api-address ADDRESS".into())
            }
            Error::Token(_) => Some("remove DIR/admin.token, and a new one is made".into()),
            // They say themselves what to do.
            _ => None,
        }
    }
}

/// Where sidecars elsewhere connect, and who the control plane is to them.
pub(crate) struct Push {
    /// Where they connect.
    pub(crate) address: SocketAddr,
    /// In which the sidecars are named.
    pub(crate) domain: TrustDomain,
    /// What they ask the control plane by.
    pub(crate) names: Vec<ServerName<'static>>,
}

/// Starts the control plane of a data directory.
pub(crate) async fn start(data_dir: &Path, address: SocketAddr, kek: KekSource, push: Option<Push>) -> Result<Running, Error> {
    let path = data_dir.join(STORE);
    let opened = tokio::task::spawn_blocking(move || Embedded::open(path, Options::default())).await.map_err(|_| Error::Defect)?;
    let embedded = Arc::new(opened?);
    let incarnation = embedded.identity().incarnation;
    let store: Arc<dyn Store> = Arc::<Embedded>::clone(&embedded);
    let admin_token = fs::read_to_string(data_dir.join("admin.token")).map_err(Error::Token)?;
    if admin_token.trim().len() < SECRET_CHARACTERS_MIN {
        return Err(Error::Token(io::Error::new(io::ErrorKind::InvalidData, "it holds no token of 43 or more characters")));
    }
    let admin_token = Some(admin_token);
    let now = || jiff::Timestamp::now().as_second();
    let push_address = push.as_ref().map(|push| push.address);
    let identity = match push {
        None => None,
        Some(Push { domain, names, .. }) => Some(Arc::new(Identity::open(Arc::clone(&store), &kek, domain, names, now).await?)),
    };
    let backup = Some(backup(embedded, kek).await?);
    bulkhead_server::start(Settings { store, incarnation, address, push_address, identity, admin_token, backup, now })
        .await
        .map_err(Error::Start)
}

/// Makes backups of the store, for whoever asks the API.
async fn backup(store: Arc<Embedded>, kek: KekSource) -> Result<Backup, Error> {
    let has_keyring = identity::has_keyring(&*store).await?;
    Ok(Arc::new(move || {
        let key = backup::key(&kek, has_keyring).map_err(|why| chain(&why))?;
        backup::make(&store, &key).map_err(|why| chain(&why))
    }))
}

/// Told of what the store did not take of the folder.
pub(crate) type Tell = Box<dyn Fn(&str) + Send>;

/// The folder and the API as one.
pub(crate) struct Spine<S> {
    folder: S,
    has_folder_ended: bool,
    changer: Arc<Changer>,
    committed: broadcast::Receiver<Arc<Committed>>,
    /// Documents of the API that the sidecar was told of.
    told: BTreeSet<DocumentId>,
    /// The revision up to which it was told of them all: older changes that still wait to be read are in that.
    read_to: u64,
    /// To whoever writes down what the folder declares.
    mirror: mpsc::UnboundedSender<(Offer, oneshot::Sender<()>)>,
    /// What the folder said last, until it is written down.
    pending: Option<(Offer, oneshot::Receiver<()>)>,
    /// This process's place among the sidecars.
    seat: Option<Seat>,
}

impl<S: PolicySource> Spine<S> {
    pub(crate) fn new(folder: S, control: &Running, tell: Tell) -> Self {
        let changer = control.changer();
        // What waits here is at most what changed in the folder while the disk took its time.
        let (mirror, offers) = mpsc::unbounded_channel();
        tokio::spawn(keep(Arc::clone(changer), offers, tell));
        let committed = changer.committed();
        let (changer, told) = (Arc::clone(changer), BTreeSet::new());
        // There are no others yet.
        let seat = control.fleet().enter("up", env!("CARGO_PKG_VERSION"), None).ok();
        Self { folder, has_folder_ended: false, changer, committed, told, read_to: 0, mirror, pending: None, seat }
    }

    /// What the folder says, without what the API has; where it is everything, with what the API has.
    fn of_folder(&mut self, mut offer: Offer) -> Offer {
        let shelf = self.changer.shelf();
        let is_foreign = |id: &DocumentId| shelf.get(id).is_some_and(|version| version.owner == Owner::Api);
        offer.put.retain(|put| !is_foreign(&put.document.id));
        offer.remove.retain(|id| !is_foreign(id));
        if offer.complete {
            let all = self.of_api();
            offer.put.extend(all.put);
            offer.epoch = all.epoch;
        }
        offer
    }

    /// Everything that the API declared, and what it declared once and does no more.
    fn of_api(&mut self) -> Offer {
        // Documents and epoch of one moment.
        let Delta { epoch, put: versions, .. } = self.changer.shelf().since(None);
        self.read_to = epoch.revision;
        let versions = versions.into_iter().filter(|version| version.owner == Owner::Api);
        // A version that cannot be read is of a newer program; it stays in the store and is not served by this one.
        let put = versions.filter_map(|version| Some(Put { document: version.document().ok()?, text: version.text.clone()? }));
        let put: Vec<Put> = put.collect();
        let now: BTreeSet<DocumentId> = put.iter().map(|put| put.document.id.clone()).collect();
        let remove = self.told.difference(&now).cloned().collect();
        self.told = now;
        Offer { put, remove, epoch: Some(epoch), ..Offer::default() }
    }

    /// What a change through the API made of its documents; of one that was the folder's, only its epoch.
    fn of_change(&mut self, committed: &Committed) -> Option<Offer> {
        if committed.epoch.revision <= self.read_to {
            return None;
        }
        let mut offer = Offer { epoch: Some(committed.epoch), ..Offer::default() };
        for edit in committed.edits.iter().filter(|edit| edit.owner == Owner::Api) {
            match &edit.to {
                Some(put) => {
                    self.told.insert(edit.id.clone());
                    offer.put.push(put.clone());
                }
                None => {
                    self.told.remove(&edit.id);
                    offer.remove.push(edit.id.clone());
                }
            }
        }
        // One of the folder brings nothing but its epoch: what it holds was told by the folder.
        Some(offer)
    }
}

impl<S: PolicySource> PolicySource for Spine<S> {
    async fn next(&mut self) -> Option<Offer> {
        loop {
            // Written down first, so that both planes count it alike. Where it could not be, it is served all the same.
            if let Some((_, written)) = &mut self.pending {
                let _ = written.await;
            }
            if let Some((offer, _)) = self.pending.take() {
                return Some(self.of_folder(offer));
            }
            tokio::select! {
                offer = self.folder.next(), if !self.has_folder_ended => match offer {
                    Some(offer) => {
                        let (done, written) = oneshot::channel();
                        // Whoever keeps it is gone only with this process.
                        let _ = self.mirror.send((offer.clone(), done));
                        self.pending = Some((offer, written));
                    }
                    None => self.has_folder_ended = true,
                },
                committed = self.committed.recv() => match committed {
                    Ok(committed) => {
                        if let Some(offer) = self.of_change(&committed) {
                            return Some(offer);
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => return Some(self.of_api()),
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            }
        }
    }

    fn report(&mut self, report: &Report) {
        if let Some(seat) = &self.seat {
            seat.report(report);
        }
        self.folder.report(report);
    }

    fn describe(&self) -> String {
        format!("{}, and the API", self.folder.describe())
    }

    fn key_reader(&self) -> KeyReader {
        self.folder.key_reader()
    }
}

/// Writes down what the folder declares, until it ends.
async fn keep(changer: Arc<Changer>, mut offers: mpsc::UnboundedReceiver<(Offer, oneshot::Sender<()>)>, tell: Tell) {
    let mut files = Files::default();
    let mut has_failed = false;
    loop {
        let next = match has_failed {
            false => offers.recv().await,
            // What could not be written down is tried again, also when nothing new comes.
            true => match tokio::time::timeout(AGAIN, offers.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    has_failed = files.mirror(&changer).await.is_err();
                    continue;
                }
            },
        };
        let Some((offer, done)) = next else { return };
        files.take(&offer);
        let mirrored = files.mirror(&changer).await;
        has_failed = mirrored.is_err();
        match mirrored {
            // Mistakes are told by the sidecar, which takes the same documents.
            Ok(Left { foreign, .. }) => {
                foreign.iter().for_each(|id| tell(&format!("{id} came through the API, so the one in the folder is left out")))
            }
            Err(why) => tell(&format!("the store does not take what the folder declares: {why:?}")),
        }
        // Nobody waits any more when the sidecar has gone.
        let _ = done.send(());
    }
}
