//! What documents refer to: a set that is only a part of the whole cannot tell whether all of it exists.

use bulkhead_config::declared::{AppliesTo, Body, Document, DocumentId, Kind, Subject};
use bulkhead_config::diagnostic::{Span, Spanned};
use bulkhead_config::name::TenantId;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// One reference to something that stands elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) file: Arc<str>,
    pub(super) span: Span,
    pub(super) to: Target,
}

/// What is referred to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Plan(String),
    Tenant(String),
    Route(String),
    /// In the tenant's scope first, then in the platform's.
    Role(Option<TenantId>, String),
    ApiKey(Option<TenantId>, String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Plan(name) => write!(f, "plan `{name}`"),
            Target::Tenant(name) => write!(f, "tenant `{name}`"),
            Target::Route(name) => write!(f, "route `{name}`"),
            Target::Role(_, name) => write!(f, "role `{name}`"),
            Target::ApiKey(_, name) => write!(f, "API key `{name}`"),
        }
    }
}

/// Whether what is referred to stands in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Here,
    /// It stands in a document with mistakes, or may do so.
    Broken,
    Absent,
}

/// What stands in a set of documents.
#[derive(Debug, Default)]
pub(super) struct Known {
    here: HashSet<Target>,
    broken: HashSet<Target>,
    /// Broken documents whose contents others refer to: what they would have declared is anybody's guess.
    opaque: HashSet<(Kind, Option<TenantId>)>,
}

impl Known {
    pub(super) fn add(&mut self, document: &Document) {
        let (tenant, name) = (&document.id.tenant, document.id.name.to_string());
        match &document.body {
            Body::Tenant(_) => drop(self.here.insert(Target::Tenant(name))),
            Body::Plan(_) => drop(self.here.insert(Target::Plan(name))),
            Body::Role(_) => drop(self.here.insert(Target::Role(tenant.clone(), name))),
            Body::Service(service) => {
                self.here.extend(service.routes.iter().map(|route| Target::Route(route.name.to_string())));
            }
            Body::Identity(identity) => {
                self.here.extend(identity.api_keys.iter().map(|key| Target::ApiKey(tenant.clone(), key.id.to_string())));
            }
            Body::RoleBinding(_) | Body::QuotaPolicy(_) | Body::SecurityPolicy(_) | Body::CachePolicy(_) | Body::Packed(_) => {}
        }
    }

    pub(super) fn add_broken(&mut self, id: &DocumentId) {
        let (tenant, name) = (id.tenant.clone(), id.name.to_string());
        match id.kind {
            Kind::Tenant => drop(self.broken.insert(Target::Tenant(name))),
            Kind::Plan => drop(self.broken.insert(Target::Plan(name))),
            Kind::Role => drop(self.broken.insert(Target::Role(tenant, name))),
            kind => drop(self.opaque.insert((kind, tenant))),
        }
    }

    pub(super) fn standing(&self, target: &Target) -> Standing {
        // A tenant's own scope first, then the platform's.
        let wider = match target {
            Target::Role(Some(_), name) => Some(Target::Role(None, name.clone())),
            _ => None,
        };
        let among = |set: &HashSet<Target>| set.contains(target) || wider.as_ref().is_some_and(|wider| set.contains(wider));
        let opaque = match target {
            Target::Route(_) => self.opaque.contains(&(Kind::Service, None)),
            Target::ApiKey(tenant, _) => self.opaque.contains(&(Kind::Identity, tenant.clone())),
            Target::Plan(_) | Target::Tenant(_) | Target::Role(..) => false,
        };
        match among(&self.here) {
            true => Standing::Here,
            false if opaque || among(&self.broken) => Standing::Broken,
            false => Standing::Absent,
        }
    }
}

/// Every reference of a document.
pub(super) fn of(document: &Document) -> Vec<Reference> {
    let tenant = &document.id.tenant;
    let mut found = Found { file: &document.origin.file, list: Vec::new() };
    if let Some(tenant) = tenant {
        found.list.push(Reference {
            file: document.origin.file.clone(),
            span: document.origin.span,
            to: Target::Tenant(tenant.to_string()),
        });
    }
    match &document.body {
        Body::Tenant(declared) => found.all(&declared.plan, |plan| Target::Plan(plan.to_string())),
        Body::Role(role) => found.all(&role.inherits, |role| Target::Role(tenant.clone(), role.to_string())),
        Body::RoleBinding(binding) => {
            found.all([&binding.role], |role| Target::Role(tenant.clone(), role.to_string()));
            for subject in &binding.subjects {
                if let Subject::ApiKey(key) = &subject.value {
                    found.push(subject, Target::ApiKey(tenant.clone(), key.to_string()));
                }
            }
        }
        Body::QuotaPolicy(policy) => found.applies_to(&policy.applies_to),
        Body::CachePolicy(policy) => found.applies_to(&policy.applies_to),
        Body::Plan(_) | Body::Service(_) | Body::Identity(_) | Body::SecurityPolicy(_) | Body::Packed(_) => {}
    }
    found.list
}

struct Found<'a> {
    file: &'a Arc<str>,
    list: Vec<Reference>,
}

impl Found<'_> {
    fn push<T>(&mut self, written: &Spanned<T>, to: Target) {
        self.list.push(Reference { file: Arc::clone(self.file), span: written.span, to });
    }

    fn all<'t, T: 't>(&mut self, written: impl IntoIterator<Item = &'t Spanned<T>>, target: impl Fn(&T) -> Target) {
        for one in written {
            self.push(one, target(&one.value));
        }
    }

    fn applies_to(&mut self, applies_to: &AppliesTo) {
        self.all(applies_to.plans.iter().flatten(), |plan| Target::Plan(plan.to_string()));
        self.all(applies_to.tenants.iter().flatten(), |tenant| Target::Tenant(tenant.to_string()));
        self.all(applies_to.routes.iter().flatten(), |route| Target::Route(route.to_string()));
    }
}
