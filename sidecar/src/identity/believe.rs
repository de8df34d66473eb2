//! Who may vouch for a server that is asked: the authorities of a file, or those that this system trusts.
//!
//! Cost: once for each server and change of its file. Made where it is first needed, and where it may take its time: what a system
//! trusts are hundreds of certificates.

use crate::tls;
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

/// What handshakes are made with, once somebody asked.
pub(super) type Believed = Arc<OnceCell<Arc<ClientConfig>>>;

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the file of its `roots`, `{0}`, cannot be read")]
    Unreadable(Arc<str>),
    #[error("`{0}`: {1}")]
    Unusable(Arc<str>, String),
    #[error("a defect of Bulkhead; the log says where")]
    Defect,
}

/// What handshakes are made with; `contents` is what stands in the file `roots`, if one is named and can be read.
pub(super) async fn who(believed: &Believed, roots: Option<&Arc<str>>, contents: Option<&Arc<[u8]>>) -> Result<Arc<ClientConfig>, Failure> {
    believed.get_or_try_init(|| make(roots, contents)).await.cloned()
}

async fn make(roots: Option<&Arc<str>>, contents: Option<&Arc<[u8]>>) -> Result<Arc<ClientConfig>, Failure> {
    let roots = match (roots, contents) {
        (None, _) => None,
        (Some(file), Some(contents)) => Some((Arc::clone(file), Arc::clone(contents))),
        (Some(file), None) => return Err(Failure::Unreadable(Arc::clone(file))),
    };
    let made = spawn_blocking(move || tls::asking(roots.as_ref().map(|(file, contents)| (file, contents)))).await;
    made.map_err(|_| Failure::Defect)?.map_err(|mistake| Failure::Unusable(mistake.file, mistake.message))
}
