//! Messages between a policy source (a folder, the control plane) and a sidecar: offer, accept, reject.

use crate::declared::{Document, DocumentId, Kind};
use crate::diagnostic::Diagnostics;
use crate::name::TenantId;
use crate::snapshot::Epoch;
use std::sync::Arc;

/// A change of what is declared.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Whether `put` is everything there is: documents not in it (and not in `broken`) are gone.
    pub complete: bool,
    /// New or changed documents.
    pub put: Vec<Put>,
    /// Documents that are gone.
    pub remove: Vec<DocumentId>,
    /// Documents that are there but cannot be read: their last good version stays, and they are named.
    pub broken: Vec<Broken>,
    /// Contents of referenced files (key sets), by the name that [`crate::compile::files_of`] gives.
    pub files: Vec<(Arc<str>, Contents)>,
    /// Which state of the documents it leads to, where somebody counts them; else whoever takes it counts.
    pub epoch: Option<Epoch>,
}

/// What stands in a file; `None`: it cannot be read.
pub type Contents = Option<Arc<[u8]>>;

/// One document of an offer.
#[derive(Debug, Clone)]
pub struct Put {
    /// The document.
    pub document: Arc<Document>,
    /// Its text, for the last-known-good on disk; YAML or JSON, one document.
    pub text: Arc<str>,
}

/// Something in the source that cannot be read. It stays so until the document is put or removed, until a document of the file is
/// put, or until an offer is complete without it; the same entry without diagnostics says that nothing is wrong any more.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Where it stands.
    pub file: Arc<str>,
    /// Which document, when that much could be read.
    pub id: Option<DocumentId>,
    /// What is wrong.
    pub diagnostics: Diagnostics,
}

/// A part of the policy that stands or falls on its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Everything platform-wide.
    Platform,
    /// One tenant's slice.
    Tenant(TenantId),
    /// A file whose documents cannot be told apart.
    File(Arc<str>),
}

impl Part {
    /// The part a document belongs to.
    #[must_use]
    pub fn of(id: &DocumentId) -> Self {
        match (id.kind, &id.tenant) {
            (_, Some(tenant)) => Part::Tenant(tenant.clone()),
            (Kind::Tenant, None) => Part::Tenant(TenantId::from(&id.name)),
            (_, None) => Part::Platform,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Platform => f.write_str("platform"),
            Part::Tenant(tenant) => write!(f, "tenant {tenant}"),
            Part::File(file) => write!(f, "file {file}"),
        }
    }
}

/// A part that is not served as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Which part.
    pub part: Part,
    /// Why.
    pub diagnostics: Diagnostics,
    /// What is served instead.
    pub serving: Serving,
}

/// What is served in place of a part with mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// Its last good version.
    LastGood,
    /// Nothing: requests for it get 503 `policy_held`.
    Held,
}

impl Quarantined {
    /// What is served of it meanwhile, in words.
    #[must_use]
    pub fn instead(&self) -> &'static str {
        match (&self.part, self.serving) {
            // Which documents it would hold, and whether any of them was ever good, nobody can tell.
            (Part::File(_), _) => "nothing new is taken from it; what was served of it before stays",
            (_, Serving::LastGood) => "its last good version is served",
            (Part::Tenant(_), Serving::Held) => "there is no good version of it, so its requests are refused",
            (Part::Platform, Serving::Held) => "there is no good version of it with a Service, so nothing is served",
        }
    }
}

/// The answer to an offer.
#[derive(Debug, Clone)]
pub struct Report {
    /// What is served now.
    pub epoch: Epoch,
    /// Parts that the offer changed and that are live.
    pub accepted: Vec<Part>,
    /// Parts that were live and are declared no more.
    pub gone: Vec<Part>,
    /// Every part that is in quarantine now, from whichever offer.
    pub quarantined: Vec<Quarantined>,
}
