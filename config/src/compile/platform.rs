//! The platform's documents into the ground that every tenant stands on: services, roles, plans with their policies.
//!
//! All or nothing: with a mistake anywhere in it, the platform stays on its last good version as a whole.

use super::Mode;
use super::documents::Documents;
use super::limit::{LimitTable, Names, Quota};
use super::mistake::{Hinted, Mistakes, in_document};
use super::role::RoleTable;
use super::rule::RuleTable;
use super::security::Security;
use super::{binding, feature, identity, limit, rule, security, service};
use crate::declared::{Body, Document};
use crate::diagnostic::{Diagnostics, Spanned};
use crate::name::{Feature, Host, PlanName, TenantId};
use crate::snapshot::{Binding, Platform, Policy, PolicyId, Route, Scope, Shadow};
use crate::unit::Limit;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The compiled platform, with what compiling a tenant needs of it.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) platform: Arc<Platform>,
    pub(super) roles: RoleTable,
    pub(super) rules: RuleTable,
    pub(super) bindings: Arc<[Binding]>,
    pub(super) quotas: Vec<Quota>,
    pub(super) security: Security,
    pub(super) plans: BTreeMap<PlanName, Plan>,
    /// The plan of tenants that name none.
    pub(super) default_plan: Option<PlanName>,
    /// For tenants without a plan, where no plan is the default.
    pub(super) planless: Arc<Policy>,
    pub(super) shared_hosts: BTreeSet<Host>,
    /// Tenants that quota policies name: their policy is their own.
    pub(super) named_tenants: BTreeSet<TenantId>,
    /// Where policies name tenants.
    pub(super) mentions: Vec<(Arc<Document>, Spanned<TenantId>)>,
    pub(super) warnings: Diagnostics,
}

/// A plan, compiled once for all its tenants.
#[derive(Debug)]
pub(super) struct Plan {
    /// Sorted.
    pub(super) features: Arc<[Feature]>,
    pub(super) api_quota_per_hour: Option<Limit>,
    pub(super) storage_quota_gb: Option<f64>,
    /// What it puts in shadow for its tenants.
    pub(super) shadow: Shadow,
    pub(super) policy: Arc<Policy>,
}

/// Compiles the platform's documents. What `before` holds and is declared the same is kept.
pub(super) fn compile(documents: &Documents, mode: Mode, before: &Ground) -> Result<Ground, Diagnostics> {
    let mut mistakes = Mistakes::default();
    let services = service::compile(documents, &before.platform.services, &mut mistakes);
    let identities = identity::compile(documents, Scope::Platform, &before.platform.issuers, &mut mistakes);
    let roles = RoleTable::of_platform(documents, &mut mistakes);
    let rules = rule::of_platform(documents, &roles, &services.routes, &before.rules, &mut mistakes);
    let bindings = binding::compile(documents, Scope::Platform, &roles, &[], &mut mistakes).into();
    let security = security::of_platform(documents, &mut mistakes);
    service::warn_of_unbelieved_headers(documents, &security.trusted_hops, &mut mistakes);
    service::warn_of_endless_redirects(documents, &security.trusted_hops, &mut mistakes);
    let names = Names { plans: documents.plans().map(|(_, plan)| &plan.name).collect(), routes: &services.routes };
    let quotas = limit::compile(documents, &names, &mut mistakes);
    for (document, cache) in documents.caches() {
        names.check(document, &cache.applies_to, &mut mistakes);
    }
    let default_plan = default_plan(documents, &mut mistakes);
    let features = feature::of_plans(documents, &mut mistakes);
    let mut ground = Ground {
        planless: Arc::clone(&before.planless),
        named_tenants: quotas.iter().flat_map(|quota| quota.tenants().iter().cloned()).collect(),
        mentions: mentions(documents),
        shared_hosts: services.services.iter().flat_map(|service| service.shared_hosts.iter().cloned()).collect(),
        plans: BTreeMap::new(),
        platform: Arc::new(Platform {
            services: services.services,
            issuers: identities.issuers,
            api_key_header: identities.api_key_header,
            revoked: identities.revoked,
            introspection: identities.introspection,
            bounds: security.bounds,
            written: security.written,
            max_staleness: security.max_staleness,
            trusted_hops: security.trusted_hops.clone(),
            cors: security.cors.clone(),
            security_headers: security.security_headers.clone(),
            shadow: mode.shadow().and(identity::shadow(documents)),
            routes: services.routes,
        }),
        warnings: mistakes.warnings,
        roles,
        rules,
        bindings,
        quotas,
        security,
        default_plan,
    };
    mistakes.mistakes.into_result(())?;
    ground.add_plans(documents, features, before);
    Ok(ground)
}

fn default_plan(documents: &Documents, mistakes: &mut Mistakes) -> Option<PlanName> {
    let defaults: Vec<_> = documents.plans().filter(|(_, plan)| plan.default).collect();
    if let [_, _, ..] = defaults.as_slice() {
        for (document, plan) in &defaults {
            let others: Vec<_> =
                defaults.iter().filter(|(_, other)| other.name != plan.name).map(|(_, other)| other.name.as_str()).collect();
            let message = format!("plan `{}` is the default, and so is {}", plan.name, others.join(", "));
            mistakes.push(in_document(document, "/default", message).hint("one plan at most is for tenants that name none"));
        }
    }
    defaults.first().map(|(_, plan)| plan.name.clone())
}

/// Every place where a policy names a tenant.
fn mentions(documents: &Documents) -> Vec<(Arc<Document>, Spanned<TenantId>)> {
    let mut mentions = Vec::new();
    for document in documents.iter() {
        let applies_to = match &document.body {
            Body::QuotaPolicy(policy) => &policy.applies_to,
            Body::CachePolicy(policy) => &policy.applies_to,
            _ => continue,
        };
        mentions.extend(applies_to.tenants.iter().flatten().map(|tenant| (Arc::clone(document), tenant.clone())));
    }
    mentions
}

impl Ground {
    /// A platform in which nothing is declared.
    pub(super) fn empty() -> Self {
        let security = security::of_platform(&Documents::default(), &mut Mistakes::default());
        let platform = Platform {
            services: Vec::new(),
            issuers: Vec::new(),
            api_key_header: None,
            revoked: None,
            introspection: None,
            bounds: security.bounds,
            written: security.written,
            max_staleness: security.max_staleness,
            trusted_hops: Vec::new(),
            cors: None,
            security_headers: None,
            shadow: Shadow::NONE,
            routes: Vec::new(),
        };
        let planless = Policy {
            id: PolicyId::fresh(),
            roles: Arc::default(),
            platform_bindings: Arc::default(),
            own_bindings: Vec::new(),
            rules: Arc::default(),
            limits: Arc::default(),
            limits_by_route: Arc::default(),
            issuers: Vec::new(),
            api_keys: Vec::new(),
            workloads: Vec::new(),
            revoked: None,
            introspection: None,
            bounds: security.bounds,
            max_staleness: None,
            cors: None,
        };
        Ground {
            platform: Arc::new(platform),
            roles: RoleTable { infos: Arc::default() },
            rules: Arc::default(),
            bindings: Arc::default(),
            quotas: Vec::new(),
            security,
            plans: BTreeMap::new(),
            default_plan: None,
            planless: Arc::new(planless),
            shared_hosts: BTreeSet::new(),
            named_tenants: BTreeSet::new(),
            mentions: Vec::new(),
            warnings: Diagnostics::new(),
        }
    }

    /// Policies of the plans, each once for all its tenants.
    fn add_plans(&mut self, documents: &Documents, mut features: feature::ByPlan, before: &Ground) {
        self.planless = self.shared_policy(None, Some(&before.planless));
        for (_, plan) in documents.plans() {
            let policy = self.shared_policy(Some(&plan.name), before.plans.get(&plan.name).map(|plan| &plan.policy));
            let compiled = Plan {
                features: features.remove(&plan.name).unwrap_or_default(),
                api_quota_per_hour: plan.api_quota_per_hour.as_ref().map(|quota| Limit::from(quota.value)),
                storage_quota_gb: plan.storage_quota_gb.as_ref().map(|quota| quota.value),
                shadow: if plan.enforce.is_shadow() { Shadow::FEATURE.and(Shadow::HOURLY_QUOTA) } else { Shadow::NONE },
                policy,
            };
            self.plans.insert(plan.name.clone(), compiled);
        }
    }

    /// What decides for tenants of a plan that have nothing of their own.
    fn shared_policy(&self, plan: Option<&PlanName>, before: Option<&Arc<Policy>>) -> Arc<Policy> {
        let limits = LimitTable::of(self.quotas.iter().filter(|quota| quota.applies(plan, None)), self.routes());
        let policy = Policy {
            id: PolicyId::fresh(),
            roles: Arc::clone(&self.roles.infos),
            platform_bindings: Arc::clone(&self.bindings),
            own_bindings: Vec::new(),
            rules: Arc::clone(&self.rules),
            limits: limits.limits,
            limits_by_route: limits.by_route,
            issuers: Vec::new(),
            api_keys: Vec::new(),
            workloads: Vec::new(),
            revoked: None,
            introspection: None,
            bounds: self.security.bounds,
            max_staleness: self.security.max_staleness,
            cors: self.security.cors.clone(),
        };
        Arc::new(policy.continuing(before))
    }

    /// Every route, by index.
    pub(super) fn routes(&self) -> &[Arc<Route>] {
        &self.platform.routes
    }

    /// Whether both serve alike, wherever their declarations stand.
    pub(super) fn means_the_same(&self, other: &Ground) -> bool {
        let same_plan = |(name, plan): (&PlanName, &Plan), (other_name, other): (&PlanName, &Plan)| {
            name == other_name
                && plan.features == other.features
                && plan.api_quota_per_hour == other.api_quota_per_hour
                && plan.storage_quota_gb == other.storage_quota_gb
                && plan.policy.means_the_same(&other.policy)
        };
        self.platform == other.platform
            && self.quotas == other.quotas
            && self.default_plan == other.default_plan
            && self.planless.means_the_same(&other.planless)
            && self.plans.len() == other.plans.len()
            && self.plans.iter().zip(&other.plans).all(|(a, b)| same_plan(a, b))
    }
}

impl Policy {
    /// This policy, under the id of the one before it when both mean the same: what was derived from that stays good.
    pub(super) fn continuing(mut self, before: Option<&Arc<Policy>>) -> Policy {
        if let Some(before) = before
            && self.means_the_same(before)
        {
            self.id = before.id;
        }
        self
    }
}
