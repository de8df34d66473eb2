//! The snapshot: what the request path reads. Immutable, shared slice by slice, precedence settled when it was compiled.
//!
//! Shape: a platform part and a slice for each tenant, found by id and by host in tries that share all but the path to what
//! changed. No setter, no `Default`: only `compile` makes one.
//! What changes without a revision (keys, secrets, health, the clock) is in no slice; a slice holds its name.
//!
//! Cost: per request; lookups hash once and allocate nothing.

use crate::declared::{Body, Document, Tenant, TenantState};
use crate::name::{Feature, Host, PlanName, TenantId};
use crate::unit::Limit;
use std::sync::Arc;

mod cors;
mod index;
mod platform;
mod policy;
mod revoked;
mod shadow;

pub use cors::{Cors, KnownOrigin};
pub(crate) use index::Index;
pub use platform::{
    Access, AdaptiveConcurrency, Algorithm, Alpn, Answered, Bounds, Came, CertifiedKey, ClientCertificates, Endpoint, FieldNames,
    FieldValue, HeaderLine, HeaderRules, HealthCheck, Introspection, IntrospectionUrl, Issuer, JsonPointer, KeySource, KeyUrl, Limits,
    Listener, ListenerTls, NewPath, Outlier, Piece, Platform, Protocol, ProxyProtocol, Question, Reason, Redirect, Respond, ResponseTenant,
    Retry, Rewrite, Route, RouteIndex, SaidIn, Scheme, SecurityHeaders, Service, Step, TlsVersion, Unseen, Upstream, UpstreamTls, Variable,
};
pub use policy::{ApiKey, Credential, Effect, LimitId, LimitSpec, Place, Policy, Principal, RoleInfo, RoleSet, RuleId, Scope, Workload};
pub(crate) use policy::{Asks, Binding, CompiledRule, MethodSet, PolicyId};
pub use revoked::Revoked;
pub use shadow::Shadow;

/// Roles one tenant can hold, its own and the platform's together: the bits of a [`RoleSet`].
pub const ROLES_MAX: usize = 256;

/// Features one tenant can have, its plan's and its own together; conditions that go through them are reckoned with so many.
pub const FEATURES_MAX: usize = 256;

/// Which state of the declared documents a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Rises when a backup is restored.
    pub incarnation: u64,
    /// Rises with each change.
    pub revision: u64,
}

/// Everything that is served, at one epoch. Cloning it is cheap only behind an `Arc`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) epoch: Epoch,
    pub(crate) platform: Arc<Platform>,
    pub(crate) tenants: Index<TenantId>,
    pub(crate) hosts: Index<Host>,
}

/// One tenant as it is served. A tenant without roles, bindings, limits or identity of its own shares its plan's [`Policy`].
#[derive(Debug, Clone)]
pub struct Slice {
    pub(crate) id: TenantId,
    /// Sorted.
    pub(crate) hosts: Arc<[Host]>,
    pub(crate) plan: Option<PlanName>,
    pub(crate) state: SliceState,
    /// Sorted.
    pub(crate) features: Arc<[Feature]>,
    pub(crate) api_quota_per_hour: Option<Limit>,
    /// In units of 10^9 bytes; `None`: no such limit.
    pub(crate) storage_quota_gb: Option<f64>,
    pub(crate) policy: Arc<Policy>,
    /// What its Tenant document and its plan put in shadow.
    pub(crate) shadow: Shadow,
    pub(crate) written: Written,
}

/// The Tenant document a slice was compiled from: what it says of the tenant beyond what is served, and which values are its own.
/// Shared with the catalogue, so a slice pays a pointer.
#[derive(Clone)]
pub(crate) struct Written(pub(crate) Option<Arc<Document>>);

impl Written {
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        match &self.0.as_deref()?.body {
            Body::Tenant(tenant) => Some(tenant),
            _ => None,
        }
    }
}

/// Equal wherever it stands.
impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.tenant() == other.tenant()
    }
}

/// Shown as nothing: it holds places, and what is served of it stands beside it.
impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

/// Whether a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceState {
    /// By its declared state.
    Declared(TenantState),
    /// Known, but no version of its documents can be served: 503 `policy_held`.
    Held,
}

impl Snapshot {
    /// Which state of the documents this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What no tenant owns.
    #[must_use]
    pub fn platform(&self) -> &Arc<Platform> {
        &self.platform
    }

    /// A tenant by its id.
    #[must_use]
    pub fn tenant(&self, id: &str) -> Option<&Arc<Slice>> {
        self.tenants.get(id.as_bytes())
    }

    /// The tenant a host names. `host` is in lower case, without port and trailing dot.
    #[must_use]
    pub fn tenant_by_host(&self, host: impl AsRef<[u8]>) -> Option<&Arc<Slice>> {
        self.hosts.get(host.as_ref())
    }

    /// Every tenant, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Slice>> {
        self.tenants.iter().map(|(_, slice)| slice)
    }

    /// How many tenants.
    #[must_use]
    pub fn tenant_count(&self) -> usize {
        self.tenants.len()
    }

    /// Everything it says, in one order whatever order the documents came in: two snapshots with equal text serve alike, and
    /// explain alike. Epoch and ids of policies are no part of it.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut tenants: Vec<_> = self.tenants().collect();
        tenants.sort_by(|a, b| a.id.cmp(&b.id));
        let mut hosts: Vec<_> = self.hosts.iter().map(|(host, slice)| (host, &slice.id)).collect();
        hosts.sort();
        format!("{:#?}\n{tenants:#?}\n{hosts:#?}\n", self.platform)
    }
}

impl Slice {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Hosts that name it, sorted.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Its plan.
    #[must_use]
    pub fn plan(&self) -> Option<&PlanName> {
        self.plan.as_ref()
    }

    /// Whether it is served.
    #[must_use]
    pub fn state(&self) -> SliceState {
        self.state
    }

    /// Plan's and own features, sorted.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Requests in a clock hour (UTC); `None`: no such limit.
    #[must_use]
    pub fn api_quota_per_hour(&self) -> Option<Limit> {
        self.api_quota_per_hour
    }

    /// What decides about its requests.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Whether both serve alike, wherever their declarations stand.
    pub(crate) fn means_the_same(&self, other: &Slice) -> bool {
        let Slice { id, hosts, plan, state, features, api_quota_per_hour, storage_quota_gb, policy, shadow, written } = self;
        *id == other.id
            && *hosts == other.hosts
            && *plan == other.plan
            && *state == other.state
            && *features == other.features
            && *api_quota_per_hour == other.api_quota_per_hour
            && *storage_quota_gb == other.storage_quota_gb
            && *shadow == other.shadow
            && *written == other.written
            && policy.means_the_same(&other.policy)
    }
}

impl SliceState {
    /// Whether requests go on to the decision.
    #[must_use]
    pub fn is_served(self) -> bool {
        self == SliceState::Declared(TenantState::Active)
    }
}
