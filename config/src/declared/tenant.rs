//! Kinds `Tenant` and `Plan`.

use crate::diagnostic::Spanned;
use crate::name::{Feature, Host, PlanName, TenantId};

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TenantState {
    /// Served.
    #[default]
    Active,
    /// Every request is refused with its own problem.
    Suspended,
    /// Being taken down: refused like `suspended`.
    Offboarding,
}

/// A customer of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Its id.
    pub tenant_id: Spanned<TenantId>,
    /// Its name for people.
    pub name: String,
    /// Where welcome and notices go.
    pub email: String,
    /// Requests in a clock hour (UTC); absent: the plan's.
    pub api_quota_per_hour: Option<Spanned<u32>>,
    /// Storage in units of 10^9 bytes; absent: the plan's.
    pub storage_quota_gb: Option<Spanned<f64>>,
    /// Added to the plan's.
    pub features: Vec<Spanned<Feature>>,
    /// Absent: the default plan.
    pub plan: Option<Spanned<PlanName>>,
    /// Host names that name this tenant.
    pub hosts: Vec<Spanned<Host>>,
    /// BCP 47 language tag.
    pub locale: Option<String>,
    /// IANA time zone.
    pub time_zone: Option<String>,
    /// Where it is in its life.
    pub state: TenantState,
}

/// Defaults that tenants share.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name.
    pub name: PlanName,
    /// For tenants that name no plan.
    pub default: bool,
    /// Requests in a clock hour (UTC); absent: no such limit.
    pub api_quota_per_hour: Option<Spanned<u32>>,
    /// Storage in units of 10^9 bytes; absent: no such limit.
    pub storage_quota_gb: Option<Spanned<f64>>,
    /// What its tenants have.
    pub features: Vec<Spanned<Feature>>,
}
