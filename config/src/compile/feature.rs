//! Features of plans and tenants: those of a tenant and of its plan unite.
//!
//! They are bounded: a route looks one up per request, and a condition may go through all of them.

use super::documents::Documents;
use super::mistake::{Hinted, Mistakes, at};
use super::platform::Plan;
use crate::declared::{Document, Tenant};
use crate::diagnostic::Spanned;
use crate::name::{Feature, PlanName};
use crate::snapshot::FEATURES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What each plan has, sorted.
pub(super) type ByPlan = BTreeMap<PlanName, Arc<[Feature]>>;

/// The features of every plan.
pub(super) fn of_plans(documents: &Documents, mistakes: &mut Mistakes) -> ByPlan {
    documents.plans().map(|(document, plan)| (plan.name.clone(), united(document, &[], &plan.features, mistakes))).collect()
}

/// The plan's features and the tenant's own, sorted; the plan's list itself where nothing is added.
pub(super) fn of_tenant(document: &Document, tenant: &Tenant, plan: Option<&Plan>, mistakes: &mut Mistakes) -> Arc<[Feature]> {
    let plans = plan.map_or_else(Arc::default, |plan| Arc::clone(&plan.features));
    if tenant.features.is_empty() { plans } else { united(document, &plans, &tenant.features, mistakes) }
}

fn united(document: &Document, given: &[Feature], own: &[Spanned<Feature>], mistakes: &mut Mistakes) -> Arc<[Feature]> {
    let mut all: BTreeSet<&Feature> = given.iter().collect();
    for feature in own {
        if all.insert(&feature.value) && all.len() == FEATURES_MAX + 1 {
            let of_plan = if given.is_empty() { String::new() } else { format!(", {} of them of its plan", given.len()) };
            let message = format!("feature `{}` is one more than the {FEATURES_MAX} that a tenant can have{of_plan}", feature.value);
            mistakes.push(at(document, feature, message).hint("take out features that no route and no condition asks for"));
        }
    }
    all.into_iter().cloned().collect()
}
