//! THE DECISION: facts and a slice in, a verdict out.
//!
//! Pure: it waits for nothing, charges nothing and reads no clock, so that explain, replay and the decision tables run this
//! same function. Default deny; a held `deny` beats every allow. Generic over a [`Trace`], so that it explains itself;
//! [`NoTrace`] compiles away.
//!
//! Order of refusals: tenant not served, no route, no credential, feature missing, denied by a rule, not permitted.
//!
//! Cost: per request; no lock, no allocation; a few nanoseconds a rule on the route.

use crate::name::Feature;
use crate::snapshot::{Access, CompiledRule, Effect, Principal, RoleSet, Route, RuleId, Slice, SliceState};
use crate::unit::UnixSeconds;
use std::net::IpAddr;
use std::sync::Arc;

/// What is known of a request when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The route of its path, from [`crate::snapshot::Service::route`].
    pub route: Option<&'a Arc<Route>>,
    /// Its method.
    pub method: &'a http::Method,
    /// Its path in normal form.
    pub path: &'a str,
    /// The client's address: the peer's, or what a trusted hop says.
    pub source: IpAddr,
    /// Who it is proved to come from, with the roles [`crate::snapshot::Policy::roles_of`] gives.
    pub principal: Option<(&'a Principal, RoleSet)>,
    /// The time.
    pub now: UnixSeconds,
}

/// Proof that a request may go on. Only [`decide`] makes one; quota, cache and upstream ask for it.
#[derive(Debug, Clone)]
pub struct Permit {
    route: Arc<Route>,
    access: Permitted,
}

/// On what ground a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    /// The route is public: nothing about the caller is proven.
    Public,
    /// A rule allows it.
    Rule,
}

impl Permit {
    /// The route.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// On what ground.
    #[must_use]
    pub fn ground(&self) -> Permitted {
        self.access
    }
}

/// Why a request may not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The tenant is suspended, leaving, or held.
    NotServed(SliceState),
    /// No route has this path.
    NoRoute,
    /// The route asks for a credential and there is none.
    NoCredential,
    /// The tenant lacks the feature that the route demands.
    FeatureMissing(Feature),
    /// A rule of a role the principal holds denies it.
    Denied(Arc<RuleId>),
    /// No rule allows it.
    NotPermitted,
}

/// What a decision tells of its steps. Every method does nothing unless implemented.
pub trait Trace {
    /// Whether anything listens: where it costs something to know more, `false` skips it.
    const LISTENS: bool;
    /// A rule on the route was looked at.
    fn rule(&mut self, _rule: &Arc<RuleId>, _outcome: RuleOutcome) {}
}

/// What a rule said to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It matches and decides or could decide.
    Matches,
    /// The principal does not hold its role.
    RoleNotHeld,
    /// Another method.
    OtherMethod,
    /// Another path.
    OtherPath,
    /// The client's address is outside its ranges.
    OtherSource,
    /// The clock is outside its window.
    OtherTime,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct NoTrace;

impl Trace for NoTrace {
    const LISTENS: bool = false;
}

/// Decides one request.
///
/// # Errors
/// Why it may not go on.
pub fn decide<T: Trace>(slice: &Slice, facts: &Facts<'_>, trace: &mut T) -> Result<Permit, Denial> {
    if !slice.state.is_served() {
        return Err(Denial::NotServed(slice.state));
    }
    let route = facts.route.ok_or(Denial::NoRoute)?;
    // A stranger learns nothing about the tenant's features: without a credential that comes first.
    if route.access == Access::Authenticated && facts.principal.is_none() {
        return Err(Denial::NoCredential);
    }
    if let Some(feature) = &route.requires_feature
        && slice.features.binary_search(feature).is_err()
    {
        return Err(Denial::FeatureMissing(feature.clone()));
    }
    let access = match facts.principal {
        Some((_, held)) if route.access == Access::Authenticated => {
            judge(slice, route, held, facts, trace)?;
            Permitted::Rule
        }
        _ => Permitted::Public,
    };
    Ok(Permit { route: Arc::clone(route), access })
}

/// Asks the rules of the route. Denies stand first, so the first that matches decides; a trace hears of every rule.
fn judge<T: Trace>(slice: &Slice, route: &Route, held: RoleSet, facts: &Facts<'_>, trace: &mut T) -> Result<(), Denial> {
    let mut verdict = None;
    for rule in slice.policy.rules_of(route.index) {
        if verdict.is_some() && !T::LISTENS {
            break;
        }
        let outcome = ask(rule, held, facts);
        trace.rule(&rule.id, outcome);
        if outcome == RuleOutcome::Matches && verdict.is_none() {
            verdict = Some(match rule.id.effect {
                Effect::Allow => Ok(()),
                Effect::Deny => Err(Denial::Denied(Arc::clone(&rule.id))),
            });
        }
    }
    verdict.unwrap_or(Err(Denial::NotPermitted))
}

/// What one rule says, cheapest question first.
fn ask(rule: &CompiledRule, held: RoleSet, facts: &Facts<'_>) -> RuleOutcome {
    if !held.has(usize::from(rule.role)) {
        return RuleOutcome::RoleNotHeld;
    }
    if !rule.methods.has(facts.method) {
        return RuleOutcome::OtherMethod;
    }
    if let Some(paths) = &rule.paths
        && !paths.iter().any(|pattern| pattern.matches(facts.path))
    {
        return RuleOutcome::OtherPath;
    }
    let Some(when) = &rule.when else { return RuleOutcome::Matches };
    if !when.source.is_empty() && !when.source.iter().any(|range| range.contains(&facts.source)) {
        return RuleOutcome::OtherSource;
    }
    match &when.time {
        Some(window) if !window.holds(facts.now) => RuleOutcome::OtherTime,
        _ => RuleOutcome::Matches,
    }
}
