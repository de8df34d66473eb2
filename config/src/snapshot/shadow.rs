//! Shadow: which refusals are only recorded, while the request goes on.
//!
//! Cost: none for a request that would go on anyway; it is asked about when one would be refused.
//! What can be in shadow stands here and nowhere else: ambiguous bytes, an unknown, other or suspended tenant, sizes and
//! time-outs have no bit.

use super::{Platform, Policy, Route, Scope, Service, Slice, Snapshot};
use std::collections::BTreeSet;

/// Kinds of refusals that are only recorded, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shadow(u8);

impl Shadow {
    /// Nothing: every refusal is one.
    pub const NONE: Shadow = Shadow(0);
    /// A missing or bad credential.
    pub const CREDENTIAL: Shadow = Shadow(1);
    /// No rule that allows it, or one that denies it.
    pub const PERMISSION: Shadow = Shadow(1 << 1);
    /// A missing feature.
    pub const FEATURE: Shadow = Shadow(1 << 2);
    /// `api_quota_per_hour`.
    pub const HOURLY_QUOTA: Shadow = Shadow(1 << 3);
    /// Limits of QuotaPolicies.
    pub const LIMITS: Shadow = Shadow(1 << 4);
    /// Everything that can be in shadow.
    pub const ALL: Shadow = Shadow(0b1_1111);

    /// All of these kinds, or none.
    #[must_use]
    pub const fn all_if(is_in_shadow: bool) -> Shadow {
        if is_in_shadow { Shadow::ALL } else { Shadow::NONE }
    }

    /// Kinds in either.
    #[must_use]
    pub const fn and(self, other: Shadow) -> Shadow {
        Shadow(self.0 | other.0)
    }

    /// Whether all of these kinds are in it.
    #[must_use]
    pub const fn has(self, kinds: Shadow) -> bool {
        self.0 & kinds.0 == kinds.0
    }

    /// What is in shadow for a request of this tenant on this route: whatever puts it there, it is let through. Roles, bindings and
    /// limits that are in shadow themselves come on top.
    #[must_use]
    pub fn of(platform: &Platform, slice: &Slice, route: Option<&Route>) -> Shadow {
        platform.shadow.and(slice.shadow).and(Shadow::all_if(route.is_some_and(|route| route.in_shadow)))
    }
}

impl Snapshot {
    /// What puts requests in shadow, by the documents that say so, sorted: `Role auditor`, `Service demo, route reports`. Where
    /// everything is in shadow, that alone.
    #[must_use]
    pub fn in_shadow(&self) -> BTreeSet<String> {
        if self.platform.shadow.has(Shadow::ALL) {
            return BTreeSet::from(["everything".to_owned()]);
        }
        let mut all = BTreeSet::new();
        if self.platform.shadow.has(Shadow::CREDENTIAL) {
            all.insert("Identity of the platform".to_owned());
        }
        self.platform.services.iter().for_each(|service| service.add_in_shadow(&mut all));
        let mut last = None;
        for slice in self.tenants() {
            slice.add_in_shadow(&mut all);
            // Tenants of one plan that have nothing of their own share a policy.
            if last != Some(slice.policy.id()) {
                slice.policy.add_in_shadow(&mut all);
            }
            last = Some(slice.policy.id());
        }
        all
    }
}

impl Service {
    fn add_in_shadow(&self, all: &mut BTreeSet<String>) {
        let mut tried = self.routes().filter(|route| route.in_shadow).peekable();
        if tried.peek().is_some() && self.routes().all(|route| route.in_shadow) {
            all.insert(format!("Service {}", self.name));
        } else {
            all.extend(tried.map(|route| format!("Service {}, route {}", self.name, route.name)));
        }
    }
}

impl Slice {
    fn add_in_shadow(&self, all: &mut BTreeSet<String>) {
        let document = match &self.plan {
            _ if self.shadow.has(Shadow::ALL) => Some(format!("Tenant {}", self.id)),
            Some(plan) if self.shadow != Shadow::NONE => Some(format!("Plan {plan}")),
            _ => None,
        };
        all.extend(document);
    }
}

impl Policy {
    /// Only the platform's: documents of a tenant cannot be in shadow.
    fn add_in_shadow(&self, all: &mut BTreeSet<String>) {
        let roles = self.roles.iter().filter(|role| role.in_shadow && role.scope == Scope::Platform);
        let bindings = self.platform_bindings.iter().filter(|binding| binding.in_shadow);
        let limits = self.limits.iter().filter(|limit| limit.in_shadow);
        all.extend(roles.map(|role| format!("Role {}", role.name)));
        all.extend(bindings.map(|binding| format!("RoleBinding {}", binding.name)));
        all.extend(limits.map(|limit| format!("QuotaPolicy {}", limit.id.policy)));
    }
}
