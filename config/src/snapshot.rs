//! The snapshot: what the request path reads. Immutable, shared slice by slice, precedence settled when it was compiled.
//!
//! Shape: a platform part, 1,024 shards of tenants by id and 1,024 by host, each behind an `Arc`, so that a change of one
//! tenant copies the root and one shard of each. No setter, no `Default`: only `compile` makes one.
//! What changes without a revision (keys, secrets, health, the clock) is in no slice; a slice holds its name.
//!
//! Cost: per request; lookups hash once and allocate nothing.

use crate::declared::role::When;
use crate::declared::{Counted, Per, TenantState};
use crate::name::{Feature, Host, KeyId, LimitName, ListenerName, PlanName, RoleName, RouteName, ServiceName, TenantId, UpstreamName};
use crate::path::Pattern;
use crate::unit::{Limit, UnixSeconds};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use crate::declared::identity::Algorithm;
pub use crate::declared::service::{Access, Endpoint, Protocol};

/// Shards by tenant id, and as many by host.
pub const SHARDS: usize = 1_024;
/// Roles one tenant can hold, its own and the platform's together: the bits of a [`RoleSet`].
pub const ROLES_MAX: usize = 256;

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
    pub(crate) tenants: Arc<[Arc<HashMap<TenantId, Arc<Slice>, foldhash::fast::FixedState>>]>,
    pub(crate) hosts: Arc<[Arc<HashMap<Host, Arc<Slice>, foldhash::fast::FixedState>>]>,
    pub(crate) tenant_count: usize,
}

/// What no tenant owns.
#[derive(Debug)]
pub struct Platform {
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) issuers: Vec<Arc<Issuer>>,
    pub(crate) api_key_header: Option<http::HeaderName>,
    pub(crate) bounds: Bounds,
    pub(crate) trusted_hops: Vec<IpNet>,
    pub(crate) route_count: usize,
}

/// Place of a service in its platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceIndex(pub(crate) u32);

/// Place of a route among all routes of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(pub(crate) u32);

/// One service: where requests come in, which paths exist, where they go.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Addresses it is served on.
    pub listeners: Vec<Listener>,
    /// Where requests go; a route names one by its place.
    pub upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: crate::path::Trie<Arc<Route>>,
    pub(crate) shared_hosts: Vec<Host>,
}

/// An address requests come in on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Its address; port 0: the system chooses.
    pub address: SocketAddr,
}

/// A group of endpoints that answer alike. Two snapshots share it while its declaration does not change, so live state
/// (connections, health) can be keyed by its identity: service, name and what it declares.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its name.
    pub name: UpstreamName,
    /// Its endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// Which protocol goes out.
    pub protocol: Protocol,
    /// To an established connection.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's head.
    pub response_timeout: Duration,
    /// Longest silence within a response's body.
    pub idle_timeout: Duration,
}

/// One path of a service.
#[derive(Debug)]
pub struct Route {
    /// Its place among all routes.
    pub index: RouteIndex,
    /// Its name.
    pub name: RouteName,
    /// Its pattern.
    pub pattern: Pattern,
    /// Whether it asks for a credential.
    pub access: Access,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// A feature the tenant must have.
    pub requires_feature: Option<Feature>,
    /// Passes `Authorization` on to the upstream.
    pub forward_authorization: bool,
}

/// One tenant as it is served. A tenant without roles, bindings, limits or identity of its own shares its plan's [`Policy`].
#[derive(Debug)]
pub struct Slice {
    pub(crate) id: TenantId,
    pub(crate) plan: Option<PlanName>,
    pub(crate) state: SliceState,
    pub(crate) features: Arc<[Feature]>,
    pub(crate) api_quota_per_hour: Option<Limit>,
    pub(crate) storage_quota_gb: Option<f64>,
    pub(crate) policy: Arc<Policy>,
}

/// Whether a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceState {
    /// By its declared state.
    Declared(TenantState),
    /// Known, but no version of its documents can be served: 503 `policy_held`.
    Held,
}

/// What decides about the requests of one tenant, or of all tenants of a plan that have nothing of their own.
#[derive(Debug)]
pub struct Policy {
    /// Differs from every other policy of this process: what was derived from a policy is valid while this stays the same.
    pub(crate) id: u64,
    /// Names and provenance of roles, by bit.
    pub(crate) roles: Vec<RoleInfo>,
    pub(crate) bindings: Vec<Binding>,
    /// By [`RouteIndex`].
    pub(crate) routes: Vec<RoutePolicy>,
    /// Every limit of the tenant; routes refer to them by place.
    pub(crate) limits: Vec<LimitSpec>,
    pub(crate) issuers: Vec<Arc<Issuer>>,
    pub(crate) api_keys: HashMap<KeyId, ApiKey, foldhash::fast::FixedState>,
    pub(crate) bounds: Bounds,
    pub(crate) max_staleness: Option<Duration>,
}

/// Roles held within one tenant, as bits of that tenant's role table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleSet(pub(crate) [u64; 4]);

/// A role of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleInfo {
    /// Its name.
    pub name: RoleName,
    /// Whose it is.
    pub scope: Scope,
}

/// Whose declaration something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The platform's.
    Platform,
    /// One tenant's.
    Tenant,
}

/// A compiled binding: whoever matches holds these roles (inheritance already followed).
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) scope: Scope,
    pub(crate) subjects: Vec<crate::declared::Subject>,
    pub(crate) grants: RoleSet,
}

/// What is allowed on one route: every rule of every role whose patterns are not disjoint from it.
#[derive(Debug)]
pub(crate) struct RoutePolicy {
    /// Denies first.
    pub(crate) rules: Vec<CompiledRule>,
    /// Places in [`Policy::limits`].
    pub(crate) limits: Vec<u32>,
}

/// One rule on one route.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) id: Arc<RuleId>,
    /// Roles that carry it, by inheritance too.
    pub(crate) roles: RoleSet,
    pub(crate) methods: MethodSet,
    /// `None`: the pattern covers the whole route; else one of these must match the path.
    pub(crate) paths: Option<Vec<Pattern>>,
    pub(crate) when: Option<Arc<When>>,
}

/// Methods as bits; tokens beyond the registered ones are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MethodSet {
    pub(crate) known: u16,
    pub(crate) others: Vec<http::Method>,
}

impl MethodSet {
    /// Registered methods, by bit.
    const KNOWN: [http::Method; 9] = [
        http::Method::GET,
        http::Method::HEAD,
        http::Method::POST,
        http::Method::PUT,
        http::Method::DELETE,
        http::Method::PATCH,
        http::Method::OPTIONS,
        http::Method::TRACE,
        http::Method::CONNECT,
    ];

    /// Every method there is: `*`.
    pub(crate) const ALL: MethodSet = MethodSet { known: u16::MAX, others: Vec::new() };

    /// These methods; GET brings HEAD.
    pub(crate) fn of(methods: impl IntoIterator<Item = http::Method>) -> Self {
        let mut set = MethodSet { known: 0, others: Vec::new() };
        for method in methods {
            match Self::bit(&method) {
                Some(0) => set.known |= 0b11,
                Some(bit) => set.known |= 1 << bit,
                None => set.others.push(method),
            }
        }
        set
    }

    /// Whether a method is in it.
    pub(crate) fn has(&self, method: &http::Method) -> bool {
        match Self::bit(method) {
            Some(bit) => self.known & (1 << bit) != 0,
            None => self.known == u16::MAX || self.others.contains(method),
        }
    }

    fn bit(method: &http::Method) -> Option<usize> {
        Self::KNOWN.iter().position(|known| known == method)
    }
}

/// Which rule: enough to find it in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleId {
    /// Its role.
    pub role: RoleName,
    /// Whose role it is.
    pub scope: Scope,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// The rule as written, in its short form where it has one: `GET /v1/items`.
    pub text: String,
    /// The file it stands in.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Lets through.
    Allow,
    /// Refuses, whatever else is allowed.
    Deny,
}

/// One limit as the quota stage counts it.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitSpec {
    /// Which limit: live state is keyed by tenant, this and the key of `per`.
    pub id: LimitId,
    /// What has a budget of its own.
    pub per: Per,
    /// What is counted.
    pub counted: Counted,
    /// Whether the policy names routes: a public route takes only from such limits, and from `per: client_address`.
    pub names_routes: bool,
}

/// Which limit of which policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId {
    /// Whose policy it is.
    pub tenant: Option<TenantId>,
    /// The QuotaPolicy's name.
    pub policy: crate::name::DocumentName,
    /// The limit's name in it.
    pub limit: LimitName,
}

/// An issuer of tokens, its keys named only.
#[derive(Debug, PartialEq)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Name of its key set among the files of the policy: path of the document's folder and the written name joined.
    pub keys: Arc<str>,
    /// Claim that names the tenant; always for a platform issuer, never for a tenant's.
    pub tenant_claim: Option<String>,
    /// Accepted difference of clocks.
    pub leeway: Duration,
    /// Passes `Authorization` on to the upstream.
    pub forward: bool,
    /// Whose issuer it is.
    pub scope: Scope,
}

/// One API key, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// SHA-256 of the key's whole text.
    pub sha256: [u8; 32],
    /// It is refused from then on.
    pub expires: Option<UnixSeconds>,
}

/// Bounds on a request, every one of them set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of request line and header section.
    pub header_bytes_max: u64,
    /// Number of header fields.
    pub headers_max: u32,
    /// Bytes of a body.
    pub body_bytes_max: u64,
    /// Time to the end of the head.
    pub head_timeout: Duration,
    /// Longest silence within a request's body.
    pub body_idle_timeout: Duration,
}

impl Bounds {
    /// Where no SecurityPolicy says otherwise.
    pub const DEFAULT: Bounds = Bounds {
        header_bytes_max: 32 << 10,
        headers_max: 100,
        body_bytes_max: 10 << 20,
        head_timeout: Duration::from_secs(10),
        body_idle_timeout: Duration::from_secs(30),
    };
}

/// Who a request is proved to come from. Made by authentication, never from a name alone.
#[derive(Debug, Clone)]
pub struct Principal {
    /// `sub` of a token, or the id of an API key.
    pub user: Arc<str>,
    /// How it was proved.
    pub credential: Credential,
}

/// How a principal was proved.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A verified token.
    Token {
        /// Whose issuer: platform-wide bindings count claims of platform issuers only.
        scope: Scope,
        /// `iss`.
        issuer: Arc<str>,
        /// All its claims; a map.
        claims: Arc<crate::text::Value>,
    },
    /// An API key of the tenant.
    ApiKey(KeyId),
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
        self.tenants.get(shard(id))?.get(id)
    }

    /// The tenant a host names. `host` is in lower case, without port and trailing dot.
    #[must_use]
    pub fn tenant_by_host(&self, host: &str) -> Option<&Arc<Slice>> {
        self.hosts.get(shard(host))?.get(host)
    }

    /// Every tenant, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Slice>> {
        self.tenants.iter().flat_map(|shard| shard.values())
    }

    /// How many tenants.
    #[must_use]
    pub fn tenant_count(&self) -> usize {
        self.tenant_count
    }
}

/// Which of the [`SHARDS`] a tenant id or host belongs to.
pub(crate) fn shard(text: &str) -> usize {
    use std::hash::BuildHasher;
    // A seed other than the maps' own, so that the names of one shard do not collide in its map.
    let hash = foldhash::fast::FixedState::with_seed(0x0062_756c_6b68_6561).hash_one(text);
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

impl Platform {
    /// Its services.
    #[must_use]
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// Issuers that prove any tenant by their `tenant_claim`.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// Header that carries API keys.
    #[must_use]
    pub fn api_key_header(&self) -> Option<&http::HeaderName> {
        self.api_key_header.as_ref()
    }

    /// Bounds that hold before a tenant is known.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Peers whose forwarding headers are believed.
    #[must_use]
    pub fn trusted_hops(&self) -> &[IpNet] {
        &self.trusted_hops
    }

    /// How many routes all services have: every [`RouteIndex`] is below it.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.route_count
    }
}

impl Service {
    /// The most specific route of a path in normal form: literal before `{x}` before a final `**`.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes.find(path)
    }

    /// Every route.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Whether this host names nobody, so that proof alone binds.
    #[must_use]
    pub fn is_shared_host(&self, host: &str) -> bool {
        self.shared_hosts.iter().any(|shared| shared.as_str() == host)
    }
}

impl Slice {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &TenantId {
        &self.id
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

    /// Storage in units of 10^9 bytes; `None`: no such limit.
    #[must_use]
    pub fn storage_quota_gb(&self) -> Option<f64> {
        self.storage_quota_gb
    }

    /// What decides about its requests.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

impl Policy {
    /// Differs from every other policy of this process: what was derived from one (roles of a token, cells) holds while it stays.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Issuers that prove this tenant only; to be asked before the platform's.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// An API key by its id.
    #[must_use]
    pub fn api_key(&self, id: &str) -> Option<&ApiKey> {
        self.api_keys.get(id)
    }

    /// Bounds on its requests.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Longest time a cut-off sidecar may serve it.
    #[must_use]
    pub fn max_staleness(&self) -> Option<Duration> {
        self.max_staleness
    }

    /// Every limit; [`Policy::limits_of`] refers to them by place.
    #[must_use]
    pub fn limits(&self) -> &[LimitSpec] {
        &self.limits
    }

    /// Places in [`Policy::limits`] of the limits that count requests of this route.
    #[must_use]
    pub fn limits_of(&self, route: RouteIndex) -> &[u32] {
        self.routes.get(route.0 as usize).map_or(&[], |route| &route.limits)
    }

    /// Names of roles, by bit.
    #[must_use]
    pub fn roles(&self) -> &[RoleInfo] {
        &self.roles
    }

    /// Roles that bindings give a principal. Pure; remember it with the token and this policy's [`Policy::id`].
    #[must_use]
    pub fn roles_of(&self, principal: &Principal) -> RoleSet {
        crate::compile::binding::roles_of(self, principal)
    }
}

impl RoleSet {
    /// No role.
    pub const EMPTY: RoleSet = RoleSet([0; 4]);

    /// Whether no role is held.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    /// Whether any role is in both.
    #[must_use]
    pub fn meets(self, other: RoleSet) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    /// Roles in either.
    #[must_use]
    pub fn union(self, other: RoleSet) -> RoleSet {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        RoleSet([a | e, b | f, c | g, d | h])
    }

    /// The set with the role at `bit` in it; unchanged beyond [`ROLES_MAX`].
    #[must_use]
    pub fn with(mut self, bit: usize) -> RoleSet {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
        self
    }

    /// Whether the role at `bit` is in it.
    #[must_use]
    pub fn has(self, bit: usize) -> bool {
        self.0.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// Bits that are set, lowest first.
    pub fn bits(self) -> impl Iterator<Item = usize> {
        (0..ROLES_MAX).filter(move |&bit| self.has(bit))
    }
}

impl SliceState {
    /// Whether requests go on to the decision.
    #[must_use]
    pub fn is_served(self) -> bool {
        self == SliceState::Declared(TenantState::Active)
    }
}
