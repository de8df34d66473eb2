//! Quota policies into limits by route. Every policy that matches stacks with the others.

use super::documents::Documents;
use super::mistake::{Count, Hinted, Mistakes, at};
use super::platform::Ground;
use crate::declared::{AppliesTo, Document, QuotaPolicy};
use crate::diagnostic::Spanned;
use crate::name::{PlanName, RouteName, TenantId};
use crate::snapshot::{LimitId, LimitSpec, Route};
use std::sync::Arc;

/// Limits that the policies of one scope may have: each may be asked by each request.
const LIMITS_MAX: usize = 256;

/// One QuotaPolicy, its references checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quota {
    plans: Option<Vec<PlanName>>,
    tenants: Option<Vec<TenantId>>,
    routes: Option<Vec<RouteName>>,
    limits: Vec<LimitSpec>,
}

/// The limits of one policy of the snapshot, and which of them count requests of which route.
#[derive(Debug, Clone)]
pub(super) struct LimitTable {
    pub(super) limits: Arc<[LimitSpec]>,
    pub(super) by_route: Arc<[Box<[u32]>]>,
}

/// Quota policies of one scope, in the order of their names.
pub(super) fn compile(documents: &Documents, names: &Names<'_>, mistakes: &mut Mistakes) -> Vec<Quota> {
    let mut count = Count::new("limits", LIMITS_MAX);
    let mut quotas = Vec::new();
    for (document, policy) in documents.quotas() {
        if count.add(document, policy.limits.len(), mistakes) {
            quotas.push(quota(document, policy, names, mistakes));
        }
    }
    quotas
}

fn quota(document: &Document, policy: &QuotaPolicy, names: &Names<'_>, mistakes: &mut Mistakes) -> Quota {
    let applies_to = &policy.applies_to;
    names.check(document, applies_to, mistakes);
    let limits = policy.limits.iter().map(|limit| LimitSpec {
        id: LimitId { tenant: document.id.tenant.clone(), policy: document.id.name.clone(), limit: limit.name.value.clone() },
        per: limit.per,
        counted: limit.counted,
        names_routes: applies_to.routes.is_some(),
        in_shadow: policy.enforce.is_shadow(),
    });
    let limits = limits.collect();
    Quota { plans: bare(&applies_to.plans), tenants: bare(&applies_to.tenants), routes: bare(&applies_to.routes), limits }
}

fn bare<T: Clone + Ord>(names: &Option<Vec<Spanned<T>>>) -> Option<Vec<T>> {
    let mut bare: Vec<T> = names.as_ref()?.iter().map(|name| name.value.clone()).collect();
    bare.sort();
    Some(bare)
}

impl Quota {
    /// Tenants it names.
    pub(super) fn tenants(&self) -> &[TenantId] {
        self.tenants.as_deref().unwrap_or_default()
    }

    /// Whether it counts for tenants of a plan, and for this one. `None` is a tenant that no policy names.
    pub(super) fn applies(&self, plan: Option<&PlanName>, tenant: Option<&TenantId>) -> bool {
        let named = |names: &Option<Vec<PlanName>>| names.as_ref().is_none_or(|names| plan.is_some_and(|plan| names.contains(plan)));
        named(&self.plans) && self.tenants.as_ref().is_none_or(|names| tenant.is_some_and(|tenant| names.contains(tenant)))
    }
}

impl LimitTable {
    /// The limits of these policies, and for each route the places of those that count its requests.
    pub(super) fn of<'a>(quotas: impl IntoIterator<Item = &'a Quota>, routes: &[Arc<Route>]) -> Self {
        let mut limits = Vec::new();
        let mut by_route: Vec<Vec<u32>> = vec![Vec::new(); routes.len()];
        for quota in quotas {
            let first = limits.len();
            limits.extend(quota.limits.iter().cloned());
            for (route, places) in routes.iter().zip(&mut by_route) {
                if quota.routes.as_ref().is_none_or(|names| names.contains(&route.name)) {
                    places.extend((first..limits.len()).filter_map(|place| u32::try_from(place).ok()));
                }
            }
        }
        Self { limits: limits.into(), by_route: by_route.into_iter().map(Vec::into_boxed_slice).collect() }
    }
}

/// Names that `applies_to` may hold.
pub(super) struct Names<'a> {
    pub(super) plans: Vec<&'a PlanName>,
    pub(super) routes: &'a [Arc<Route>],
}

impl<'a> Names<'a> {
    /// What a tenant's policy may name.
    pub(super) fn of(ground: &'a Ground) -> Self {
        Names { plans: ground.plans.keys().collect(), routes: ground.routes() }
    }

    /// Checks the plans and routes that a policy names. Tenants are not asked for here: a platform policy that names a tenant
    /// who left, or whose document cannot be read, must not take the platform with it.
    pub(super) fn check(&self, document: &Document, applies_to: &AppliesTo, mistakes: &mut Mistakes) {
        for name in applies_to.plans.iter().flatten() {
            if !self.plans.contains(&&name.value) {
                let known = self.plans.iter().map(|plan| plan.as_str());
                let mistake = at(document, name, format!("plan `{}` does not exist", name.value));
                mistakes.push(mistake.nearest(name.as_str(), known, "plan"));
            }
        }
        for name in applies_to.routes.iter().flatten() {
            if !self.routes.iter().any(|route| route.name == name.value) {
                let known = self.routes.iter().map(|route| route.name.as_str());
                let mistake = at(document, name, format!("route `{}` does not exist", name.value));
                mistakes.push(mistake.nearest(name.as_str(), known, "route"));
            }
        }
    }
}
