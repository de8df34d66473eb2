//! What decides about the requests of one tenant: roles, bindings, rules by route, limits, its own issuers and keys.
//!
//! Shared as far as it is the same: tenants without policy of their own point to their plan's, and a policy of a tenant's own
//! shares every table to which it adds nothing, so that a binding costs a binding and not a copy of all rules.
//!
//! Cost: per request; tables by route index, bits for roles, nothing allocated.

use crate::condition::{self, Asked, Kept};
use crate::declared::role::When;
use crate::declared::{Counted, Per, Subject};
use crate::name::{DocumentName, KeyId, LimitName, RoleName, TenantId};
use crate::path::Pattern;
use crate::snapshot::{Bounds, Cors, Introspection, Issuer, ROLES_MAX, Revoked, RouteIndex};
use crate::spiffe::{SpiffeId, SpiffePattern};
use crate::unit::UnixSeconds;
use std::sync::Arc;
use std::time::Duration;

/// What decides about the requests of one tenant, or of all tenants of a plan that have nothing of their own.
#[derive(Debug)]
pub struct Policy {
    pub(crate) id: PolicyId,
    /// Names and provenance of roles, by bit: the platform's, then the tenant's.
    pub(crate) roles: Arc<[RoleInfo]>,
    pub(crate) platform_bindings: Arc<[Binding]>,
    pub(crate) own_bindings: Vec<Binding>,
    /// By [`RouteIndex`]: every rule of every role whose patterns are not disjoint from the route; denies first.
    pub(crate) rules: Arc<[Arc<[CompiledRule]>]>,
    /// Every limit of the tenant; routes refer to them by place.
    pub(crate) limits: Arc<[LimitSpec]>,
    /// By [`RouteIndex`]: places in `limits`.
    pub(crate) limits_by_route: Arc<[Box<[u32]>]>,
    pub(crate) issuers: Vec<Arc<Issuer>>,
    /// Sorted by id.
    pub(crate) api_keys: Vec<(KeyId, ApiKey)>,
    /// The closest pattern first.
    pub(crate) workloads: Vec<Workload>,
    pub(crate) revoked: Option<Arc<Revoked>>,
    pub(crate) introspection: Option<Arc<Introspection>>,
    pub(crate) bounds: Bounds,
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) cors: Option<Arc<Cors>>,
}

/// Differs between any two policies of this process that mean different things.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyId(u64);

impl PolicyId {
    /// One that no policy had before.
    pub(crate) fn fresh() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        PolicyId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Shown as nothing: it is chance, and no part of what a policy says.
impl std::fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
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
    /// Itself and every role it inherits: whoever is bound to it holds these.
    pub(crate) carries: RoleSet,
    /// Whether it is in shadow itself.
    pub(crate) in_shadow: bool,
}

/// Whose declaration something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The platform's.
    Platform,
    /// One tenant's.
    Tenant,
}

/// Where something was written. Two declarations mean the same wherever they stand, so places always compare equal.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A compiled binding: whoever matches holds these roles (inheritance already followed).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Binding {
    pub(crate) name: DocumentName,
    pub(crate) place: Place,
    pub(crate) scope: Scope,
    pub(crate) subjects: Vec<Subject>,
    /// The bound role, by bit.
    pub(crate) role: usize,
    pub(crate) grants: RoleSet,
    /// Whether what it grants is held in shadow.
    pub(crate) in_shadow: bool,
}

/// One rule on one route.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompiledRule {
    pub(crate) id: Arc<RuleId>,
    /// Its role, by bit. Held sets are closed under inheritance, so a rule needs to know its own role only, and a tenant's roles
    /// that inherit it change nothing here.
    pub(crate) role: u8,
    pub(crate) methods: MethodSet,
    /// `None`: the pattern covers the whole route; else one of these must match the path.
    pub(crate) paths: Option<Box<[Pattern]>>,
    pub(crate) when: Option<Arc<Asks>>,
}

/// What a rule asks beside method and path, ready to be asked.
#[derive(Debug)]
pub(crate) struct Asks {
    pub(crate) when: When,
    /// Patterns of its condition, by number; one that stands in many rules of a part is there once.
    pub(crate) patterns: Box<[Arc<condition::Pattern>]>,
}

/// Patterns follow from the text of the condition.
impl PartialEq for Asks {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

/// Methods as bits; tokens beyond the registered ones are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MethodSet {
    known: u16,
    others: Vec<http::Method>,
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

/// Which rule: enough to find it in a document. Equal wherever it stands, like [`Place`].
#[derive(Debug, Clone)]
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

impl PartialEq for RuleId {
    fn eq(&self, other: &Self) -> bool {
        (&self.role, self.scope, self.effect, &self.text) == (&other.role, other.scope, other.effect, &other.text)
    }
}

impl Eq for RuleId {}

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
    /// Whether it only counts what it would refuse.
    pub in_shadow: bool,
}

/// Which limit of which policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId {
    /// Whose policy it is.
    pub tenant: Option<TenantId>,
    /// The QuotaPolicy's name.
    pub policy: DocumentName,
    /// The limit's name in it.
    pub limit: LimitName,
}

/// One API key, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// SHA-256 of the key's whole text.
    pub sha256: [u8; 32],
    /// It is refused from then on.
    pub expires: Option<UnixSeconds>,
}

/// Who shows a certificate with one of these SPIFFE ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Which ids.
    pub id: SpiffePattern,
    /// As whom it comes; absent: its id.
    pub user: Option<Arc<str>>,
}

/// Who a request is proved to come from. Made by authentication, never from a name alone.
#[derive(Debug, Clone)]
pub struct Principal {
    /// `sub` of a token, the id of an API key, or as whom a workload is declared.
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
    /// A certificate of a workload of the tenant.
    Certificate(SpiffeId),
}

impl Policy {
    /// Differs from every other policy of this process: what was derived from one (roles of a token, cells) holds while it stays.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id.0
    }

    /// Issuers that prove this tenant only; to be asked before the platform's.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// API keys, by id.
    pub fn api_keys(&self) -> impl Iterator<Item = (&KeyId, &ApiKey)> {
        self.api_keys.iter().map(|(id, key)| (id, key))
    }

    /// An API key by its id.
    #[must_use]
    pub fn api_key(&self, id: &str) -> Option<&ApiKey> {
        let at = self.api_keys.binary_search_by(|(known, _)| known.as_str().cmp(id)).ok()?;
        self.api_keys.get(at).map(|(_, key)| key)
    }

    /// Who is asked about tokens of this tenant only; to be asked before the platform's.
    #[must_use]
    pub fn introspection(&self) -> Option<&Arc<Introspection>> {
        self.introspection.as_ref()
    }

    /// What the tenant revokes of what proves somebody to be of it.
    #[must_use]
    pub fn revoked(&self) -> Option<&Revoked> {
        self.revoked.as_deref()
    }

    /// Whether it declares workloads at all.
    #[must_use]
    pub fn has_workloads(&self) -> bool {
        !self.workloads.is_empty()
    }

    /// The workload that this id means, by the closest pattern.
    #[must_use]
    pub fn workload(&self, id: &SpiffeId) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.id.matches(id))
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

    /// Cross-origin rules.
    #[must_use]
    pub fn cors(&self) -> Option<&Arc<Cors>> {
        self.cors.as_ref()
    }

    /// Every limit; [`Policy::limits_of`] refers to them by place.
    #[must_use]
    pub fn limits(&self) -> &[LimitSpec] {
        &self.limits
    }

    /// Places in [`Policy::limits`] of the limits that count requests of this route.
    #[must_use]
    pub fn limits_of(&self, route: RouteIndex) -> &[u32] {
        self.limits_by_route.get(route.at()).map_or(&[], |places| places)
    }

    /// Rules on this route, denies first.
    pub(crate) fn rules_of(&self, route: RouteIndex) -> &[CompiledRule] {
        self.rules.get(route.at()).map_or(&[], |rules| rules)
    }

    /// What rules on this route read of a request, so that its decision can be made again; most read nothing of it.
    #[must_use]
    pub fn keep(&self, route: RouteIndex, asked: &Asked<'_>) -> Option<Arc<Kept>> {
        let reading =
            || self.rules_of(route).iter().filter_map(|rule| Some(&rule.when.as_deref()?.when)).filter(|when| when.reads_the_request());
        reading().next()?;
        Some(Arc::new(Kept::of(asked, reading().flat_map(When::headers))))
    }

    /// Names of roles, by bit.
    #[must_use]
    pub fn roles(&self) -> &[RoleInfo] {
        &self.roles
    }

    /// The roles of a set.
    pub fn roles_in(&self, held: RoleSet) -> impl Iterator<Item = &RoleInfo> {
        held.bits().filter_map(|bit| self.roles.get(bit))
    }

    /// Roles that bindings give a principal, inherited ones included. Pure; remember it with the token and this policy's
    /// [`Policy::id`].
    #[must_use]
    pub fn roles_of(&self, principal: &Principal) -> RoleSet {
        crate::compile::binding::roles_of(self, principal)
    }

    /// Roles that a principal holds in shadow, inherited ones included: because the role is, or a binding that gives it. Asked
    /// when a request would be refused.
    pub(crate) fn held_in_shadow(&self, principal: &Principal, held: RoleSet) -> RoleSet {
        let roles = held.bits().filter_map(|bit| self.roles.get(bit)).filter(|role| role.in_shadow);
        let by_role = roles.fold(RoleSet::EMPTY, |all, role| all.union(role.carries));
        let bindings = self.bindings().filter(|binding| binding.in_shadow && crate::compile::binding::binds(binding, principal));
        bindings.fold(by_role, |all, binding| all.union(binding.grants))
    }

    /// Every binding that acts within the tenant.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.platform_bindings.iter().chain(&self.own_bindings)
    }

    /// Whether both decide alike, wherever their declarations stand.
    pub(crate) fn means_the_same(&self, other: &Policy) -> bool {
        // Taken apart, so that a field added later cannot be forgotten here.
        let Policy {
            id,
            roles,
            platform_bindings,
            own_bindings,
            rules,
            limits,
            limits_by_route,
            issuers,
            api_keys,
            workloads,
            revoked,
            introspection,
            bounds,
            max_staleness,
            cors,
        } = self;
        *id == other.id
            || (*roles == other.roles
                && *platform_bindings == other.platform_bindings
                && *own_bindings == other.own_bindings
                && *rules == other.rules
                && *limits == other.limits
                && *limits_by_route == other.limits_by_route
                && *issuers == other.issuers
                && *api_keys == other.api_keys
                && *workloads == other.workloads
                && *revoked == other.revoked
                && *introspection == other.introspection
                && *bounds == other.bounds
                && *max_staleness == other.max_staleness
                && *cors == other.cors)
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
