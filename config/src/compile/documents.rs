//! The documents of one part (the platform, or one tenant), in the order of their identities whatever order they came in.

use crate::declared::{
    Body, CachePolicy, Document, DocumentId, Identity, Plan, QuotaPolicy, Role, RoleBinding, SecurityPolicy, Service, Tenant,
};
use crate::name::Host;
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
    pub(super) fn declare_the_same(&self, other: &Documents) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(a, b) || (a.id == b.id && a.body == b.body))
    }
}
