//! Starts a control plane, in order: store, what it holds compiled, operators, API. What fails is named.

use crate::api::Api;
use crate::archive::{Archive, ArchiveError, Loaded};
use crate::change::Changer;
use crate::fleet::Fleet;
use crate::identity::Identity;
use crate::listen;
use crate::publish::{self, Door, Publisher, Sign};
use crate::shelf::Shelf;
use crate::state::Operatory;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::snapshot::Epoch;
use bulkhead_store::{Past, Store};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Makes an archive of all that is stored, or says why not. Blocks: it reads the disk.
pub type Backup = Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>;

/// What a control plane is started with.
pub struct Settings {
    /// What it keeps things in.
    pub store: Arc<dyn Store>,
    /// Which life of the store this is: a restore raises it, and sidecars and events are to see that.
    pub incarnation: u64,
    /// Where the API is served; port 0: any free one.
    pub address: SocketAddr,
    /// Where sidecars connect, if they may; port 0: any free one.
    pub push_address: Option<SocketAddr>,
    /// Who the control plane is to its sidecars; without it their stream is plain and unsigned, for loopback.
    pub identity: Option<Arc<Identity>>,
    /// The text of the token that stands in the data directory: whoever reads it is a platform-admin.
    pub admin_token: Option<String>,
    /// Makes a backup, where the store is one that can.
    pub backup: Option<Backup>,
    /// The clock, in seconds since 1970-01-01 UTC.
    pub now: fn() -> i64,
}

/// Connections of sidecars that wait to be taken.
const BACKLOG: u32 = 4_096;
/// How often it is looked for what is kept for a time only.
const SWEEP: Duration = Duration::from_secs(3_600);

/// A control plane that serves.
pub struct Running {
    address: SocketAddr,
    push_address: Option<SocketAddr>,
    changer: Arc<Changer>,
    fleet: Arc<Fleet>,
    stop: watch::Sender<()>,
    serving: JoinHandle<()>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The address is taken, or not ours.
    #[error("the control plane cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A defect of ours.
    #[error("a defect of Bulkhead stopped what is stored from being compiled")]
    Defect,
}

/// Starts one; when this returns, it answers.
///
/// # Errors
/// What failed.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let Settings { store, incarnation, address, push_address, identity, admin_token, backup, now } = settings;
    let past = Past::new(Arc::clone(&store));
    let (archive, loaded) = Archive::open(store).await?;
    let Loaded { epoch, tip, documents, tokens } = loaded;
    // What is stored says the incarnation it was stored in, also after a restore.
    let epoch = Epoch { incarnation: epoch.incarnation.max(incarnation), ..epoch };
    let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
    let address = listener.local_addr().map_err(|cause| StartError::Listen { address, cause })?;
    let push = match push_address {
        None => None,
        Some(address) => Some(for_a_fleet(address).map_err(|cause| StartError::Listen { address, cause })?),
    };
    let push_address = push.as_ref().and_then(|push| push.local_addr().ok());
    let fleet = Fleet::new(now);
    let shelf = Arc::new(Shelf::new(epoch, documents));
    let versions = shelf.all();
    let compile = move || {
        let mut catalogue = Catalogue::since(epoch);
        // What this version cannot read was written by a newer one: it is not served by us, and stays as it is.
        let put = versions.iter().filter_map(|version| Some(Put { document: version.document().ok()?, text: version.text.clone()? }));
        catalogue.apply(&Offer { complete: true, put: put.collect(), ..Offer::default() });
        catalogue
    };
    let catalogue = tokio::task::spawn_blocking(compile).await.map_err(|_| StartError::Defect)?;
    let archive = Arc::new(archive);
    let changer = Arc::new(Changer::new(shelf, Arc::clone(&archive), tip, catalogue, now));
    let operators = Arc::new(Operatory::new(tokens, admin_token.as_deref()));
    let api = Arc::new(Api::new(Arc::clone(&changer), archive, operators, Arc::clone(&fleet), identity.clone(), backup, now));
    let sweeping = tokio::spawn(sweep(Arc::clone(&api.archive), past, now));
    let sign = identity.clone().map(|identity| -> Sign { Arc::new(move |bytes| identity.sign(bytes)) });
    let publisher = Publisher::new(&changer, Arc::clone(&fleet), sign);
    let renewing = identity.clone().map(|identity| tokio::spawn(identity.renew()));
    let door = Arc::new(Door { publisher, changer: Arc::clone(&changer), identity });
    let (stop, stopped) = watch::channel(());
    let serving = tokio::spawn(async move {
        let told = |mut stopped: watch::Receiver<()>| async move {
            // Told to stop, or nobody is left who could tell.
            let _ = stopped.changed().await;
        };
        let publishing = async {
            if let Some(push) = push {
                publish::serve(push, door, told(stopped.clone())).await;
            }
        };
        tokio::join!(listen::serve(listener, api, told(stopped.clone())), publishing);
        sweeping.abort();
        if let Some(renewing) = renewing {
            renewing.abort();
        }
    });
    Ok(Running { address, push_address, changer, fleet, stop, serving })
}

/// A listener with room for a fleet that comes back at once.
fn for_a_fleet(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Forgets what is kept for a time only, now and then.
async fn sweep(archive: Arc<Archive>, mut past: Past, now: fn() -> i64) {
    loop {
        // What cannot be removed now is older the next time.
        let _ = archive.forget_answers(now()).await;
        let _ = past.forget().await;
        tokio::time::sleep(SWEEP).await;
    }
}

impl Running {
    /// Where the API is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where sidecars connect.
    #[must_use]
    pub fn push_address(&self) -> Option<SocketAddr> {
        self.push_address
    }

    /// The sidecars.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// What takes changes.
    #[must_use]
    pub fn changer(&self) -> &Arc<Changer> {
        &self.changer
    }

    /// Takes nothing new, answers what was asked, and ends.
    pub async fn stop(self) {
        // If it is gone already, that is what was wanted.
        let _ = self.stop.send(());
        let _ = self.serving.await;
    }
}
