//! One tenant's documents into its slice: the plan's values, then its own over them; features unite.

use super::documents::{Documents, Kept};
use super::limit::{LimitTable, Names};
use super::mistake::{Hinted, Mistakes, at, in_document};
use super::platform::{Ground, Plan};
use super::role::RoleTable;
use super::{binding, feature, identity, limit, rule, security};
use crate::declared::{Document, Kind, Tenant, TenantState};
use crate::diagnostic::Diagnostics;
use crate::name::{Host, PlanName, TenantId};
use crate::snapshot::{LimitSpec, Platform, Policy, PolicyId, Route, Scope, Shadow, Slice, SliceState, Written};
use crate::unit::Limit;
use std::sync::Arc;

/// A slice, and what is odd about its documents.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) slice: Slice,
    pub(super) warnings: Diagnostics,
}

/// Compiles a tenant's documents on the ground of the platform. All or nothing: on a mistake the caller keeps what it has.
pub(super) fn compile(id: &TenantId, documents: &Documents, ground: &Ground, before: Option<&Slice>) -> Result<Compiled, Diagnostics> {
    let mut mistakes = Mistakes::default();
    let Some((document, tenant)) = documents.tenant() else {
        orphans(id, documents, &mut mistakes);
        return Err(mistakes.mistakes);
    };
    let plan = plan(document, tenant, ground, &mut mistakes);
    let name = plan.map(|(name, _)| name);
    let policy = match has_policy_of_its_own(id, documents, ground) {
        false => Arc::clone(plan.map_or(&ground.planless, |(_, plan)| &plan.policy)),
        true => own_policy(id, documents, ground, name, before.map(|slice| &slice.policy), &mut mistakes),
    };
    for (document, cache) in documents.caches() {
        Names::of(ground).check(document, &cache.applies_to, &mut mistakes);
    }
    let plan = plan.map(|(_, plan)| plan);
    let own_quota = tenant.api_quota_per_hour.as_ref().map(|quota| Limit::from(quota.value));
    let own_storage = tenant.storage_quota_gb.as_ref().map(|quota| quota.value);
    let slice = Slice {
        id: id.clone(),
        hosts: sorted(documents.hosts()),
        plan: name.cloned(),
        state: SliceState::Declared(tenant.state),
        features: feature::of_tenant(document, tenant, plan, &mut mistakes),
        api_quota_per_hour: own_quota.or(plan.and_then(|plan| plan.api_quota_per_hour)),
        storage_quota_gb: own_storage.or(plan.and_then(|plan| plan.storage_quota_gb)),
        policy,
        shadow: plan.map_or(Shadow::NONE, |plan| plan.shadow).and(Shadow::all_if(tenant.enforce.is_shadow())),
        written: Written(Some(Arc::clone(document))),
    };
    let Mistakes { mistakes, warnings } = mistakes;
    mistakes.into_result(Compiled { slice, warnings })
}

/// Documents of a tenant that nobody declares.
fn orphans(id: &TenantId, documents: &Documents, mistakes: &mut Mistakes) {
    for document in documents.iter() {
        let mistake = in_document(document, "/tenant", format!("tenant `{id}` does not exist"));
        mistakes.push(mistake.hint("add its Tenant document, or take this one away"));
    }
}

/// The plan a tenant is on: the one it names, else the default.
fn plan<'a>(document: &Document, tenant: &Tenant, ground: &'a Ground, mistakes: &mut Mistakes) -> Option<(&'a PlanName, &'a Plan)> {
    let Some(name) = &tenant.plan else { return ground.plans.get_key_value(ground.default_plan.as_ref()?) };
    let plan = ground.plans.get_key_value(&name.value);
    if plan.is_none() {
        let mistake = at(document, name, format!("plan `{}` does not exist", name.value));
        mistakes.push(mistake.nearest(name.as_str(), ground.plans.keys().map(PlanName::as_str), "plan"));
    }
    plan
}

/// Whether something decides for this tenant that does not for all of its plan.
fn has_policy_of_its_own(id: &TenantId, documents: &Documents, ground: &Ground) -> bool {
    let of_policy = |document: &Arc<Document>| !matches!(document.id.kind, Kind::Tenant | Kind::CachePolicy);
    documents.iter().any(of_policy) || ground.named_tenants.contains(id)
}

fn own_policy(
    id: &TenantId,
    documents: &Documents,
    ground: &Ground,
    plan: Option<&PlanName>,
    before: Option<&Arc<Policy>>,
    mistakes: &mut Mistakes,
) -> Arc<Policy> {
    let issuers_before = before.map_or(&[][..], |policy| &policy.issuers);
    let rules_before = before.map_or(&[][..], |policy| &policy.rules);
    let identities = identity::compile(documents, Scope::Tenant, issuers_before, mistakes);
    if ground.platform.api_key_header().is_none() {
        identity::warn_of_unheard_keys(documents, mistakes);
    }
    let roles = RoleTable::of_tenant(&ground.roles, documents, mistakes);
    let own_quotas = limit::compile(documents, &Names::of(ground), mistakes);
    let platforms = ground.quotas.iter().filter(|quota| quota.applies(plan, Some(id)));
    let limits = LimitTable::of(platforms.chain(&own_quotas), ground.routes());
    let security = security::of_tenant(&ground.security, documents, mistakes);
    let policy = Policy {
        id: PolicyId::fresh(),
        platform_bindings: Arc::clone(&ground.bindings),
        own_bindings: binding::compile(documents, Scope::Tenant, &roles, &identities.api_keys, mistakes),
        rules: rule::of_tenant(&ground.rules, documents, &roles, ground.routes(), rules_before, mistakes),
        roles: roles.infos,
        limits: limits.limits,
        limits_by_route: limits.by_route,
        issuers: identities.issuers,
        api_keys: identities.api_keys,
        workloads: identities.workloads,
        revoked: identities.revoked,
        introspection: identities.introspection,
        bounds: security.bounds,
        max_staleness: security.max_staleness,
        cors: security.cors,
    };
    Arc::new(policy.continuing(before))
}

fn sorted<'a>(hosts: impl Iterator<Item = &'a Host>) -> Arc<[Host]> {
    let mut hosts: Vec<Host> = hosts.cloned().collect();
    hosts.sort();
    hosts.dedup();
    hosts.into()
}

/// A tenant that is known, but of which no version can be served.
pub(super) fn held(id: &TenantId, documents: &Kept, ground: &Ground) -> Slice {
    Slice {
        id: id.clone(),
        hosts: sorted(documents.hosts()),
        plan: None,
        state: SliceState::Held,
        features: Arc::default(),
        api_quota_per_hour: None,
        storage_quota_gb: None,
        policy: Arc::clone(&ground.planless),
        shadow: Shadow::NONE,
        written: Written(documents.tenant().map(|(document, _)| Arc::clone(document))),
    }
}

impl Slice {
    /// The same slice in another state. A tenant that is suspended is suspended at once, even while the rest of what is
    /// declared of it cannot be served.
    pub(super) fn in_state(&self, state: TenantState) -> Slice {
        Slice { state: SliceState::Declared(state), ..self.clone() }
    }

    /// The same slice under a policy that was carried to another platform.
    pub(super) fn carried(&self, policy: Arc<Policy>) -> Slice {
        Slice { policy, ..self.clone() }
    }
}

/// A policy as it was, for the routes of another platform: for a tenant whose documents do not compile there. Routes that are
/// the same keep their rules and limits. On others nothing is allowed, and all limits that name no route count.
pub(super) fn carry(policy: &Policy, from: &Platform, to: &Platform) -> Policy {
    let same = |a: &Route, b: &Route| a.name == b.name && a.pattern == b.pattern && a.upstream.service == b.upstream.service;
    let old = |route: &Route| from.routes.iter().find(|known| same(known, route));
    let rules = to.routes.iter().map(|route| old(route).and_then(|old| policy.rules.get(old.index.at()).cloned()).unwrap_or_default());
    let unnamed: Box<[u32]> =
        (0u32..).zip(&*policy.limits).filter(|(_, limit): &(u32, &LimitSpec)| !limit.names_routes).map(|(place, _)| place).collect();
    let limits = to.routes.iter().map(|route| old(route).map_or_else(|| unnamed.clone(), |old| policy.limits_of(old.index).into()));
    Policy {
        id: PolicyId::fresh(),
        roles: Arc::clone(&policy.roles),
        platform_bindings: Arc::clone(&policy.platform_bindings),
        own_bindings: policy.own_bindings.clone(),
        rules: rules.collect(),
        limits: Arc::clone(&policy.limits),
        limits_by_route: limits.collect(),
        issuers: policy.issuers.clone(),
        api_keys: policy.api_keys.clone(),
        workloads: policy.workloads.clone(),
        revoked: policy.revoked.clone(),
        introspection: policy.introspection.clone(),
        bounds: policy.bounds,
        max_staleness: policy.max_staleness,
        cors: policy.cors.clone(),
    }
}
