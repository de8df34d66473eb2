//! Kind `QuotaPolicy`: how much of the service a tenant, a user, a key or an address may take.

use super::Enforce;
use crate::diagnostic::Spanned;
use crate::name::{LimitName, PlanName, RouteName, TenantId};
use crate::unit::{Limit, PerPeriod};
use std::time::Duration;

/// Limits; all policies that match a request stack.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaPolicy {
    /// Which requests it counts.
    pub applies_to: AppliesTo,
    /// Its limits.
    pub limits: Vec<LimitRule>,
    /// Whether it refuses.
    pub enforce: Enforce,
}

/// Which requests a policy is about; a key left out means all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppliesTo {
    /// Tenants on these plans; platform-wide only.
    pub plans: Option<Vec<Spanned<PlanName>>>,
    /// These tenants; platform-wide only.
    pub tenants: Option<Vec<Spanned<TenantId>>>,
    /// These routes.
    pub routes: Option<Vec<Spanned<RouteName>>>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitRule {
    /// Its name; live state is keyed by it, so it survives edits.
    pub name: Spanned<LimitName>,
    /// What has a budget of its own.
    pub per: Per,
    /// What is counted.
    pub counted: Counted,
}

/// What has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// The whole tenant.
    Tenant,
    /// Each principal of it.
    User,
    /// Each API key of it; requests without one are not counted.
    ApiKey,
    /// Each client address.
    ClientAddress,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// `rate: 200/s, burst: 400`: a steady rate with a burst (GCRA).
    Rate {
        /// The steady rate.
        rate: PerPeriod,
        /// How many may come at once.
        burst: u32,
    },
    /// `requests: 5, window: 1m`: never more than so many in any such span (sliding window).
    Sliding {
        /// How many.
        requests: Limit,
        /// The span.
        window: Duration,
    },
    /// `concurrent: 64`: so many in flight.
    Concurrent {
        /// How many.
        concurrent: Limit,
    },
}
