//! Starts a control plane, in order: store, what it holds compiled, operators, API. What fails is named.

use crate::api::Api;
use crate::archive::{Archive, ArchiveError, Loaded};
use crate::change::Changer;
use crate::listen;
use crate::shelf::Shelf;
use crate::state::Operatory;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_store::{Past, Store};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a control plane is started with.
pub struct Settings {
    /// What it keeps things in.
    pub store: Arc<dyn Store>,
    /// Where the API is served; port 0: any free one.
    pub address: SocketAddr,
    /// The text of the token that stands in the data directory: whoever reads it is a platform-admin.
    pub admin_token: Option<String>,
    /// The clock, in seconds since 1970-01-01 UTC.
    pub now: fn() -> i64,
}

/// How often it is looked for what is kept for a time only.
const SWEEP: Duration = Duration::from_secs(3_600);

/// A control plane that serves.
pub struct Running {
    address: SocketAddr,
    changer: Arc<Changer>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The address is taken, or not ours.
    #[error("the API cannot listen on {address}: {cause}")]
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
    let Settings { store, address, admin_token, now } = settings;
    let past = Past::new(Arc::clone(&store));
    let (archive, loaded) = Archive::open(store).await?;
    let Loaded { epoch, tip, documents, tokens } = loaded;
    let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
    let address = listener.local_addr().map_err(|cause| StartError::Listen { address, cause })?;
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
    let api = Arc::new(Api::new(Arc::clone(&changer), archive, operators, now));
    let sweeping = tokio::spawn(sweep(Arc::clone(&api.archive), past, now));
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let told = async {
            // Told to stop, or nobody is left who could tell.
            let _ = stopped.await;
        };
        listen::serve(listener, api, told).await;
        sweeping.abort();
    });
    Ok(Running { address, changer, stop, serving })
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
