//! The documents of one part (the platform, or one tenant), in the order of their identities whatever order they came in.

use crate::declared::{
    Body, CachePolicy, Document, DocumentId, Identity, Plan, QuotaPolicy, Role, RoleBinding, SecurityPolicy, Service, Sheaf, Tenant,
};
use crate::name::Host;
use std::borrow::Cow;
use std::sync::Arc;

/// Documents sorted by identity. A part with few documents, as most tenants have, stays small.
#[derive(Debug, Clone, Default)]
pub(super) struct Documents(Vec<Arc<Document>>);

macro_rules! kinds {
    ($($(#[$doc:meta])* $method:ident: $kind:ident)*) => {$(
        $(#[$doc])*
        pub(super) fn $method(&self) -> impl Iterator<Item = (&Arc<Document>, &$kind)> {
            self.0.iter().filter_map(|document| match &document.body {
                Body::$kind(body) => Some((document, &**body)),
                _ => None,
            })
        }
    )*};
}

impl Documents {
    kinds! {
        plans: Plan
        services: Service
        identities: Identity
        roles: Role
        bindings: RoleBinding
        quotas: QuotaPolicy
        securities: SecurityPolicy
        caches: CachePolicy
        tenants: Tenant
    }

    /// The tenant that a tenant's documents declare.
    pub(super) fn tenant(&self) -> Option<(&Arc<Document>, &Tenant)> {
        self.tenants().next()
    }

    /// Hosts that the tenant claims.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.tenant().into_iter().flat_map(|(_, tenant)| tenant.hosts.iter().map(|host| &host.value))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds documents, each of another identity, in place of those that are there under the same.
    pub(super) fn put(&mut self, documents: Vec<Arc<Document>>) {
        for document in documents {
            match self.find(&document.id) {
                Ok(at) => {
                    if let Some(place) = self.0.get_mut(at) {
                        *place = document;
                    }
                }
                Err(at) => self.0.insert(at, document),
            }
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: &DocumentId) -> bool {
        let found = self.find(id);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }

    fn find(&self, id: &DocumentId) -> Result<usize, usize> {
        self.0.binary_search_by(|known| known.id.cmp(id))
    }

    /// Whether both declare the same, wherever it stands.
    fn declare_the_same(&self, other: &Documents) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(a, b) || (a.id == b.id && a.body == b.body))
    }
}

/// Documents between two changes: what nobody reads meanwhile is packed.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    whole: Documents,
    packed: Option<Sheaf>,
}

impl Kept {
    pub(super) fn of(documents: Documents) -> Self {
        let packed: Vec<Arc<Document>> = documents.iter().map(Document::packed).collect();
        let is_packed = |document: &&Arc<Document>| matches!(document.body, Body::Packed(_));
        let tenant = packed.iter().find(is_packed).and_then(|document| document.id.tenant.clone());
        let Some(tenant) = tenant else { return Self { whole: documents, packed: None } };
        let sheaf = Sheaf::of(&tenant, packed.iter());
        let whole = packed.into_iter().filter(|document| !is_packed(&document)).collect();
        Self { whole: Documents(whole), packed: Some(sheaf) }
    }

    /// All of them, none packed.
    pub(super) fn documents(&self) -> Cow<'_, Documents> {
        let Some(packed) = &self.packed else { return Cow::Borrowed(&self.whole) };
        let mut all = Documents(self.whole.iter().cloned().chain(packed.documents()).collect());
        all.0.sort_by(|a, b| a.id.cmp(&b.id));
        Cow::Owned(all)
    }

    /// The tenant that a tenant's documents declare. It is never packed.
    pub(super) fn tenant(&self) -> Option<(&Arc<Document>, &Tenant)> {
        self.whole.tenant()
    }

    /// Hosts that the tenant claims.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.whole.hosts()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.packed.is_none()
    }

    /// Whether both declare the same, wherever it stands.
    pub(super) fn declare_the_same(&self, other: &Kept) -> bool {
        let is_packed_alike = self.packed == other.packed && self.whole.declare_the_same(&other.whole);
        is_packed_alike || self.documents().declare_the_same(&other.documents())
    }
}
