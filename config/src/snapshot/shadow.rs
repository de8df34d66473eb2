//! Shadow: which refusals are only recorded, while the request goes on.
//!
//! Cost: none for a request that would go on anyway; it is asked about when one would be refused.
//! What can be in shadow stands here and nowhere else: ambiguous bytes, an unknown, other or suspended tenant, sizes and
//! time-outs have no bit.

use super::{Platform, Route, Slice};

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
