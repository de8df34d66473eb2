//! Documents as operators write them: one file per kind, a reader and its JSON Schema side by side.
//!
//! What a reader returns is complete and well formed, but its references are names only: whether a role or a plan exists
//! is the compiler's question. Unknown fields are refused with the nearest known name.

use crate::diagnostic::{Diagnostics, Span};
use crate::name::{DocumentName, TenantId};
use std::fmt;
use std::sync::Arc;

pub mod read;
pub(crate) mod reader;
mod value;
mod schema;
mod enforce;
pub mod cache;
pub mod identity;
pub mod introspection;
pub mod jwks;
pub mod revoked;
pub mod quota;
pub mod resilience;
pub mod response_tenant;
pub mod answered;
pub mod cors;
pub mod header_rules;
pub mod rewrite;
mod matcher;
mod packed;
pub mod role;
pub mod security;
pub mod security_headers;
pub mod service;
pub mod tenant;
pub mod tls;
pub mod upstream;

pub use cache::CachePolicy;
pub use enforce::Enforce;
pub use identity::{ApiKey, Identity, JwtIssuer};
pub use introspection::Introspection;
pub use jwks::Jwks;
pub(crate) use matcher::header_is_good;
pub use packed::Packed;
pub(crate) use packed::Sheaf;
pub use quota::{AppliesTo, Counted, LimitRule, Per, QuotaPolicy};
pub use read::{NotAKind, read_document, read_file};
pub use revoked::Revoked;
pub use role::{Role, RoleBinding, Rule, Subject};
pub use security::SecurityPolicy;
pub use service::{Access, Listener, Route, Service};
pub use tenant::{Plan, Tenant, TenantState};
pub use upstream::Upstream;

/// Kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A customer of the service.
    Tenant,
    /// Defaults that tenants share.
    Plan,
    /// Listeners, upstreams and routes of one service.
    Service,
    /// Who may prove to be whom: token issuers, API keys.
    Identity,
    /// What may be done.
    Role,
    /// Who may do it.
    RoleBinding,
    /// How often.
    QuotaPolicy,
    /// Limits on requests, CORS, staleness.
    SecurityPolicy,
    /// What may be kept and for how long.
    CachePolicy,
}

impl Kind {
    /// Every kind, in the order in which the documentation tells them.
    pub const ALL: [Kind; 9] = [
        Kind::Tenant,
        Kind::Plan,
        Kind::Service,
        Kind::Identity,
        Kind::Role,
        Kind::RoleBinding,
        Kind::QuotaPolicy,
        Kind::SecurityPolicy,
        Kind::CachePolicy,
    ];

    /// The name as documents write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Tenant => "Tenant",
            Kind::Plan => "Plan",
            Kind::Service => "Service",
            Kind::Identity => "Identity",
            Kind::Role => "Role",
            Kind::RoleBinding => "RoleBinding",
            Kind::QuotaPolicy => "QuotaPolicy",
            Kind::SecurityPolicy => "SecurityPolicy",
            Kind::CachePolicy => "CachePolicy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What makes a document the same document: kind, tenant and name. For a Tenant, `tenant` is absent and `name` its `tenant_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    /// Its kind.
    pub kind: Kind,
    /// The tenant it belongs to; absent for what is platform-wide, and for a Tenant itself.
    pub tenant: Option<TenantId>,
    /// Its name.
    pub name: DocumentName,
}

/// `Role acme_corp/auditor`, `Plan free`, `Tenant globex`.
impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tenant {
            Some(tenant) => write!(f, "{} {tenant}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// The first line of the document in it.
    pub span: Span,
}

/// One document, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Which document.
    pub id: DocumentId,
    /// Where it stands; no part of what it declares.
    pub origin: Origin,
    /// What it declares.
    pub body: Body,
}

/// What a document declares, by kind; boxed, so that a small kind does not take the room of the largest.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Kind `Tenant`.
    Tenant(Box<Tenant>),
    /// Kind `Plan`.
    Plan(Box<Plan>),
    /// Kind `Service`.
    Service(Box<Service>),
    /// Kind `Identity`.
    Identity(Box<Identity>),
    /// Kind `Role`.
    Role(Box<Role>),
    /// Kind `RoleBinding`.
    RoleBinding(Box<RoleBinding>),
    /// Kind `QuotaPolicy`.
    QuotaPolicy(Box<QuotaPolicy>),
    /// Kind `SecurityPolicy`.
    SecurityPolicy(Box<SecurityPolicy>),
    /// Kind `CachePolicy`.
    CachePolicy(Box<CachePolicy>),
    /// A Role or RoleBinding as [`Document::packed`] leaves it; no reader makes one.
    Packed(Packed),
}

/// What one file holds: the documents that could be read, and what is wrong with the others.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// Documents without mistakes, each to be shared by whoever keeps it.
    pub documents: Vec<Arc<Document>>,
    /// Where each of them stands in the text, in bytes; see [`File::texts`].
    pub ranges: Vec<std::ops::Range<usize>>,
    /// Identities of documents that were recognised but have mistakes: their last good version stays.
    pub broken: Vec<DocumentId>,
    /// Whether documents may be missing from both lists: the text could not be read to its end, or a document in it cannot
    /// be told by kind and name.
    pub truncated: bool,
    /// Every mistake.
    pub diagnostics: Diagnostics,
}
