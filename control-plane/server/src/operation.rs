//! Every operation of the API, one line each: method, path, who may, what it is called. Routing, permissions, OpenAPI and the permission
//! matrix of the tests are all made from this one table, so they cannot drift apart.

use crate::operator::{Operator, Role};
use bulkhead_config::declared::Kind;
use http::Method;

/// What is asked for, once the path has said of which kind and tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Documents of a kind, in pages.
    List,
    /// A new document.
    Create,
    /// One document.
    Read,
    /// A document as it shall be.
    Replace,
    /// A document away.
    Delete,
    /// How a document stands on the sidecars.
    State,
    /// Every version of a document.
    History,
    /// One version of a document.
    Version,
    /// What differs between two versions of a document.
    Difference,
    /// A document as it was at a revision.
    Rollback,
    /// What a tenant has in effect.
    TenantConfig,
    /// Many documents, all or nothing.
    Apply,
    /// A report on documents; changes nothing.
    Validate,
    /// Which revision is declared now.
    Revision,
    /// What happened.
    Events,
    /// Who did what.
    Audit,
    /// The sidecars.
    Fleet,
    /// Who asks.
    WhoAmI,
    /// Tokens of operators.
    Tokens,
    /// A new token for an operator.
    MintToken,
    /// An operator's token away.
    RevokeToken,
    /// A new join token for a sidecar.
    MintJoinToken,
    /// Whom sidecars trust to be the control plane.
    TrustBundle,
    /// All that is stored, as an archive.
    Backup,
    /// The description of this API.
    OpenApi,
    /// The same, for people.
    Docs,
    /// Whether the process lives.
    Live,
    /// Whether it serves.
    Ready,
    /// Whether it has started.
    Started,
    /// Metrics.
    Metrics,
}

/// How far a role's permission reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Not at all.
    Nothing,
    /// What belongs to the operator's own tenant.
    OwnTenant,
    /// Everything the operator is not held from by its tenant.
    Everything,
}

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Whoever asks; no credential is looked at.
    Nobody,
    /// Any operator who proves to be one.
    Anybody,
    /// Whoever may read documents.
    Reader,
    /// Whoever may write documents; a tenant-admin only those of its tenant that are its to write.
    Writer,
    /// Whoever may read the audit trail.
    Auditor,
    /// Whoever may do everything.
    Admin,
}

/// Where a document's path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `/v1/roles`.
    Platform,
    /// `/v1/tenants/{tenant}/roles`.
    Tenant,
}

/// One operation at one path.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What is asked for.
    pub operation: Operation,
    /// With which method.
    pub method: Method,
    /// Where: segments of text and of `{name}`.
    pub path: String,
    /// Of which kind of documents.
    pub kind: Option<Kind>,
    /// The platform's, or a tenant's.
    pub scope: Scope,
    /// Who may.
    pub needs: Needs,
    /// Its name in OpenAPI: unique.
    pub id: String,
    /// What it does, in a few words.
    pub summary: String,
}

impl Needs {
    /// How far a role may go with what needs this.
    #[must_use]
    pub fn reach(self, role: Role) -> Reach {
        match (self, role) {
            (Needs::Nobody | Needs::Anybody, _) | (_, Role::PlatformAdmin) => Reach::Everything,
            (Needs::Reader, Role::TenantAdmin) | (Needs::Writer, Role::TenantAdmin) => Reach::OwnTenant,
            (Needs::Reader, Role::Viewer | Role::Auditor) | (Needs::Auditor, Role::Auditor) => Reach::Everything,
            (Needs::Writer, Role::Viewer | Role::Auditor) | (Needs::Auditor | Needs::Admin, _) => Reach::Nothing,
        }
    }
}

/// What a tenant-admin may write of its own tenant. Tenant, Plan and Service are the platform's.
#[must_use]
pub fn tenants_may_write(kind: Kind) -> bool {
    !kind.is_platform_wide()
}

/// Documents of a kind, as a path names them.
#[must_use]
pub const fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Tenant => "tenants",
        Kind::Plan => "plans",
        Kind::Service => "services",
        Kind::Identity => "identities",
        Kind::Role => "roles",
        Kind::RoleBinding => "role-bindings",
        Kind::QuotaPolicy => "quota-policies",
        Kind::SecurityPolicy => "security-policies",
        Kind::CachePolicy => "cache-policies",
    }
}

impl Endpoint {
    /// Whether an operator may ask for it at all; of which tenants is another question.
    #[must_use]
    pub fn admits(&self, operator: &Operator) -> bool {
        self.needs.reach(operator.role) != Reach::Nothing
    }

    fn new(operation: Operation, method: Method, path: &str, needs: Needs, (id, summary): (&str, &str)) -> Self {
        Self {
            operation,
            method,
            path: path.to_owned(),
            kind: None,
            scope: Scope::Platform,
            needs,
            id: id.to_owned(),
            summary: summary.to_owned(),
        }
    }
}

/// Every endpoint, in the order in which the description lists them.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        documents(kind, Scope::Platform, &mut all);
        if !kind.is_platform_wide() {
            documents(kind, Scope::Tenant, &mut all);
        }
    }
    let tenant_config = ("getTenantConfig", "What a tenant has in effect, and where each value comes from");
    all.push(Endpoint {
        scope: Scope::Tenant,
        ..Endpoint::new(Operation::TenantConfig, Method::GET, "/v1/tenants/{tenant}/config", Needs::Reader, tenant_config)
    });
    all.extend(others());
    all
}

/// The operations on documents of one kind, below one path.
fn documents(kind: Kind, scope: Scope, all: &mut Vec<Endpoint>) {
    use Operation::{Create, Delete, Difference, History, List, Read, Replace, Rollback, State, Version};
    let base = match scope {
        Scope::Platform => format!("/v1/{}", plural(kind)),
        Scope::Tenant => format!("/v1/tenants/{{tenant}}/{}", plural(kind)),
    };
    // A Tenant's own name stands where the other kinds have their tenant's.
    let name = if kind == Kind::Tenant { "{tenant}" } else { "{name}" };
    let (whose, of) = match scope {
        Scope::Platform => ("", ""),
        Scope::Tenant => ("Tenant", " of a tenant"),
    };
    let operations = [
        (List, Method::GET, "", "list", "", "Lists every"),
        (Create, Method::POST, "", "create", "", "Creates a"),
        (Read, Method::GET, "/N", "get", "", "Reads a"),
        (Replace, Method::PUT, "/N", "put", "", "Creates or replaces a"),
        (Delete, Method::DELETE, "/N", "delete", "", "Removes a"),
        (State, Method::GET, "/N/status", "get", "Status", "How the sidecars stand to a"),
        (History, Method::GET, "/N/history", "list", "History", "Lists the versions of a"),
        (Version, Method::GET, "/N/history/{revision}", "get", "Version", "Reads one version of a"),
        (Difference, Method::GET, "/N/diff", "diff", "", "What differs between two versions of a"),
        (Rollback, Method::POST, "/N/rollback", "rollback", "", "Brings back one version of a"),
    ];
    for (operation, method, tail, verb, what, words) in operations {
        let needs = match scope {
            _ if method == Method::GET => Needs::Reader,
            Scope::Platform => Needs::Admin,
            Scope::Tenant => Needs::Writer,
        };
        let noun = if operation == List { camel(plural(kind)) } else { kind.as_str().to_owned() };
        let id = format!("{verb}{whose}{noun}{what}");
        let summary = format!("{words} {kind}{of}");
        let path = format!("{base}{}", tail.replace('N', name));
        all.push(Endpoint { operation, method, path, kind: Some(kind), scope, needs, id, summary });
    }
}

/// `RoleBindings` of `role-bindings`.
fn camel(text: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    text.split('-').map(capital).collect()
}

/// What is about no kind of documents.
fn others() -> Vec<Endpoint> {
    use Needs::{Admin, Anybody, Auditor, Nobody, Reader, Writer};
    use Operation as O;
    let get = |operation, path, needs, words| Endpoint::new(operation, Method::GET, path, needs, words);
    let post = |operation, path, needs, words| Endpoint::new(operation, Method::POST, path, needs, words);
    vec![
        post(O::Apply, "/v1/apply", Writer, ("apply", "Declares many documents, all or nothing")),
        post(O::Validate, "/v1/validate", Anybody, ("validate", "Reports every mistake in documents; changes nothing")),
        get(O::Revision, "/v1/revision", Anybody, ("getRevision", "Which revision is declared now")),
        get(O::Events, "/v1/events", Reader, ("listEvents", "What happened, as CloudEvents")),
        get(O::Audit, "/v1/audit", Auditor, ("listAudit", "Who did what, and what was refused to whom")),
        get(O::Fleet, "/v1/fleet", Reader, ("getFleet", "The sidecars, and what each of them serves")),
        get(O::WhoAmI, "/v1/whoami", Anybody, ("whoAmI", "Who asks, and with which role")),
        get(O::Tokens, "/v1/tokens", Admin, ("listTokens", "Lists the tokens of operators")),
        post(O::MintToken, "/v1/tokens", Admin, ("createToken", "Makes a token for an operator; its text is shown once")),
        Endpoint::new(O::RevokeToken, Method::DELETE, "/v1/tokens/{id}", Admin, ("deleteToken", "Revokes a token of an operator")),
        post(
            O::MintJoinToken,
            "/v1/join-tokens",
            Admin,
            ("createJoinToken", "Makes a token with which one sidecar joins; its text is shown once"),
        ),
        get(O::TrustBundle, "/v1/trust-bundle", Nobody, ("getTrustBundle", "Whom sidecars trust to be the control plane, as PEM")),
        post(O::Backup, "/v1/backup", Admin, ("createBackup", "Makes a backup of all that is stored, sealed: a .tar.gz")),
        get(O::OpenApi, "/openapi.json", Nobody, ("getOpenApi", "This description")),
        get(O::Docs, "/docs", Nobody, ("getDocs", "This description, for people")),
        get(O::Live, "/livez", Nobody, ("getLive", "Whether the process lives")),
        get(O::Ready, "/readyz", Nobody, ("getReady", "Whether it serves")),
        get(O::Started, "/startupz", Nobody, ("getStarted", "Whether it has started")),
        get(O::Metrics, "/metrics", Reader, ("getMetrics", "Metrics, in the text format of Prometheus")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_has_a_name_and_a_place_of_its_own() {
        let all = endpoints();
        let names: BTreeSet<&str> = all.iter().map(|endpoint| endpoint.id.as_str()).collect();
        let places: BTreeSet<(&str, &str)> = all.iter().map(|endpoint| (endpoint.path.as_str(), endpoint.method.as_str())).collect();
        assert_eq!((names.len(), places.len()), (all.len(), all.len()));
    }

    #[test]
    fn only_a_platform_admin_writes_what_is_the_platforms() {
        for endpoint in endpoints().iter().filter(|endpoint| endpoint.needs == Needs::Admin) {
            for role in [Role::TenantAdmin, Role::Viewer, Role::Auditor] {
                assert_eq!(endpoint.needs.reach(role), Reach::Nothing, "{} by {role}", endpoint.id);
            }
        }
    }
}
