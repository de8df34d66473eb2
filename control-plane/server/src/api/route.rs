//! Which endpoint a path and a method mean.

use crate::operation::{Endpoint, Scope, endpoints};
use crate::problem::Problem;
use bulkhead_config::declared::{DocumentId, Kind};
use bulkhead_config::name::TenantId;
use http::{Method, StatusCode};
use matchit::Router as Paths;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every endpoint by its path.
pub(super) struct Router {
    paths: Paths<Vec<Arc<Endpoint>>>,
    all: Vec<Arc<Endpoint>>,
}

/// What stands in a path where its template has names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routed {
    parameters: Vec<(String, String)>,
}

/// The endpoints of one path.
pub(super) struct Found<'a> {
    endpoints: &'a [Arc<Endpoint>],
    routed: Routed,
}

impl Router {
    pub(super) fn new() -> Self {
        let all: Vec<Arc<Endpoint>> = endpoints().into_iter().map(Arc::new).collect();
        let mut by_path: BTreeMap<&str, Vec<Arc<Endpoint>>> = BTreeMap::new();
        for endpoint in &all {
            by_path.entry(&endpoint.path).or_default().push(Arc::clone(endpoint));
        }
        let mut paths = Paths::new();
        for (path, endpoints) in by_path {
            // Two templates that clash would be a mistake in our table; a test routes every endpoint.
            let _ = paths.insert(path, endpoints);
        }
        Self { paths, all }
    }

    pub(super) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        let matched = self.paths.at(path).ok()?;
        let parameters = matched.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Found { endpoints: matched.value, routed: Routed { parameters } })
    }
}

impl Found<'_> {
    /// The endpoint of a method, else the methods there are. GET grants HEAD.
    pub(super) fn with_method(self, method: &Method) -> Result<(Arc<Endpoint>, Routed), String> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match self.endpoints.iter().find(|endpoint| endpoint.method == *wanted) {
            Some(endpoint) => Ok((Arc::clone(endpoint), self.routed)),
            None => {
                let mut methods: Vec<&str> = self.endpoints.iter().map(|endpoint| endpoint.method.as_str()).collect();
                if methods.contains(&"GET") {
                    methods.push("HEAD");
                }
                Err(methods.join(", "))
            }
        }
    }
}

impl Routed {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The tenant that a path names.
    pub(crate) fn tenant(&self) -> Result<TenantId, Problem> {
        let written = self.get("tenant").unwrap_or_default();
        written.parse().map_err(|_| Problem::not_found(format!("tenant {}", super::answer::shown(written))))
    }

    /// Whose documents a path means.
    pub(crate) fn whose(&self, endpoint: &Endpoint) -> Result<Option<TenantId>, Problem> {
        match endpoint.scope {
            Scope::Platform => Ok(None),
            Scope::Tenant => self.tenant().map(Some),
        }
    }

    /// The document that a path names.
    pub(crate) fn document(&self, endpoint: &Endpoint) -> Result<DocumentId, Problem> {
        let kind = kind(endpoint)?;
        let tenant = self.whose(endpoint)?;
        let written = self.get(if kind == Kind::Tenant { "tenant" } else { "name" }).unwrap_or_default();
        let name = written.parse().map_err(|_| Problem::not_found(format!("{kind} {}", super::answer::shown(written))))?;
        Ok(DocumentId { kind, tenant, name })
    }

    /// A revision that a path names.
    pub(crate) fn revision(&self) -> Result<u64, Problem> {
        let written = self.get("revision").unwrap_or_default();
        written.parse().map_err(|_| Problem::not_found(format!("revision {}", super::answer::shown(written))))
    }
}

/// The kind that an endpoint is about; every endpoint that asks has one.
pub(crate) fn kind(endpoint: &Endpoint) -> Result<Kind, Problem> {
    endpoint.kind.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "an endpoint without a kind was asked for one"))
}

/// Where a document is found.
pub(crate) fn path_of(id: &DocumentId) -> String {
    let kind = crate::operation::plural(id.kind);
    match &id.tenant {
        None => format!("/v1/{kind}/{}", id.name),
        Some(tenant) => format!("/v1/tenants/{tenant}/{kind}/{}", id.name),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_found_at_its_path() {
        let router = Router::new();
        for endpoint in router.endpoints() {
            let path = endpoint.path.replace("{tenant}", "acme").replace("{name}", "one").replace("{revision}", "7").replace("{id}", "x");
            let (found, _) = router.find(&path).unwrap().with_method(&endpoint.method).unwrap();
            assert_eq!(found.id, endpoint.id, "{path}");
        }
    }

    #[test]
    fn a_document_is_found_where_its_path_says() {
        let router = Router::new();
        for id in ["Role/acme/auditor", "Tenant//acme", "Plan//free", "QuotaPolicy//all"] {
            let id = crate::document::id_of(id).unwrap();
            let (endpoint, routed) = router.find(&path_of(&id)).unwrap().with_method(&Method::GET).unwrap();
            assert_eq!(routed.document(&endpoint).unwrap(), id);
        }
    }
}
