//! THE DECISION: facts and a slice in, a verdict out.
//!
//! Pure: it waits for nothing, charges nothing and reads no clock, so that explain, replay and the decision tables run this
//! same function. Default deny; a held `deny` beats every allow. Generic over a [`Trace`], so that it explains itself;
//! [`NoTrace`] compiles away.
//!
//! Order of refusals: tenant not served, no route, no credential, feature missing, denied by a rule, not permitted.
//!
//! Cost: per request; no lock, no allocation; a few nanoseconds a rule on the route.

use crate::condition::{self, Asked, Condition, Inquiry};
use crate::declared::role::When;
use crate::name::Feature;
use crate::snapshot::{Access, CompiledRule, Effect, Principal, RoleSet, Route, RuleId, Shadow, Slice, SliceState};
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
    /// What else it says of itself; rules with conditions ask for it.
    pub asked: Asked<'a>,
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
    /// It would be refused, and what refuses it is in shadow. Nothing is proven by such a permit, and nothing may be kept of what
    /// it leads to.
    Shadow,
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
    /// Whether anything listens: then every rule is asked every question, instead of stopping where the verdict is certain.
    const LISTENS: bool;
    /// A rule on the route was asked. Without a miss it matches.
    fn rule(&mut self, _rule: &Arc<RuleId>, _misses: Misses) {}
    /// What about the request the matchers and the condition of the rule that was asked last do not match, in words.
    fn lacks(&mut self, _what: Vec<String>) {}
    /// What the condition of the rule that was asked last reads, and what stands there.
    fn values(&mut self, _values: Vec<String>) {}
}

/// What about a request a rule does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// The principal does not hold its role.
    Role,
    /// A header field, a query parameter or a claim is another.
    Matchers,
    /// Its condition does not hold.
    Condition,
    /// The clock is outside its window.
    Time,
    /// The client's address is outside its ranges.
    Source,
    /// Another path.
    Path,
    /// Another method.
    Method,
}

/// Misses of one rule, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Misses(u8);

impl Misses {
    /// Whether the rule matches.
    #[must_use]
    pub fn is_match(self) -> bool {
        self.0 == 0
    }

    /// Each miss.
    pub fn iter(self) -> impl Iterator<Item = Miss> {
        const ALL: [Miss; 7] = [Miss::Role, Miss::Matchers, Miss::Condition, Miss::Time, Miss::Source, Miss::Path, Miss::Method];
        ALL.into_iter().filter(move |&miss| self.has(miss))
    }

    /// Whether a miss is among them.
    #[must_use]
    pub fn has(self, miss: Miss) -> bool {
        self.0 & (1 << miss as u8) != 0
    }

    fn with(self, miss: Miss) -> Self {
        Self(self.0 | 1 << miss as u8)
    }
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
    if let Some(feature) = missing_feature(slice, route) {
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

/// Decides once more about a request that was denied: what is in shadow is told to `passed`, and does not refuse it. Pure, as
/// [`decide`] is.
///
/// # Errors
/// The first denial that is not in shadow: what is enforced is not hidden by what is being tried.
pub fn decide_in_shadow(slice: &Slice, facts: &Facts<'_>, shadow: Shadow, mut passed: impl FnMut(Denial)) -> Result<Permit, Denial> {
    if !slice.state.is_served() {
        return Err(Denial::NotServed(slice.state));
    }
    let route = facts.route.ok_or(Denial::NoRoute)?;
    let mut pass = |may_pass: bool, denial: Denial| {
        if !may_pass {
            return Err(denial);
        }
        passed(denial);
        Ok(())
    };
    let asks_who = route.access == Access::Authenticated;
    if asks_who && facts.principal.is_none() {
        pass(shadow.has(Shadow::CREDENTIAL), Denial::NoCredential)?;
    }
    if let Some(feature) = missing_feature(slice, route) {
        pass(shadow.has(Shadow::FEATURE), Denial::FeatureMissing(feature.clone()))?;
    }
    if let (true, Some((principal, held))) = (asks_who, facts.principal)
        && let Err(denial) = judge(slice, route, held, facts, &mut NoTrace)
    {
        let tried = if shadow.has(Shadow::PERMISSION) { held } else { slice.policy.held_in_shadow(principal, held) };
        if let Some(rule) = enforced_deny(slice, route, (held, tried), facts) {
            return Err(Denial::Denied(rule));
        }
        pass(shadow.has(Shadow::PERMISSION) || !tried.is_empty(), denial)?;
    }
    Ok(Permit { route: Arc::clone(route), access: Permitted::Shadow })
}

/// The feature that a route demands and the tenant does not have.
fn missing_feature<'a>(slice: &Slice, route: &'a Route) -> Option<&'a Feature> {
    route.requires_feature.as_ref().filter(|feature| slice.features.binary_search(feature).is_err())
}

/// A rule that denies it, of a role that is held and not tried.
fn enforced_deny(slice: &Slice, route: &Route, (held, tried): (RoleSet, RoleSet), facts: &Facts<'_>) -> Option<Arc<RuleId>> {
    let denies = slice.policy.rules_of(route.index).iter().take_while(|rule| rule.id.effect == Effect::Deny);
    let mut enforced = denies.filter(|rule| !tried.has(usize::from(rule.role)));
    let denies_it = |rule: &&CompiledRule| ask::<NoTrace>(&Question { slice, rule, held, facts }).is_match();
    enforced.find(denies_it).map(|rule| Arc::clone(&rule.id))
}

/// Asks the rules of the route. Denies stand first, so the first that matches decides; a trace hears of every rule.
fn judge<T: Trace>(slice: &Slice, route: &Route, held: RoleSet, facts: &Facts<'_>, trace: &mut T) -> Result<(), Denial> {
    let mut verdict = None;
    for rule in slice.policy.rules_of(route.index) {
        if verdict.is_some() && !T::LISTENS {
            break;
        }
        let misses = ask::<T>(&Question { slice, rule, held, facts });
        trace.rule(&rule.id, misses);
        if T::LISTENS
            && let Some(asks) = &rule.when
        {
            tell(&Question { slice, rule, held, facts }, &asks.when, trace);
        }
        if misses.is_match() && verdict.is_none() {
            verdict = Some(match rule.id.effect {
                Effect::Allow => Ok(()),
                Effect::Deny => Err(Denial::Denied(Arc::clone(&rule.id))),
            });
        }
    }
    verdict.unwrap_or(Err(Denial::NotPermitted))
}

/// One rule and what is asked of it.
struct Question<'a> {
    slice: &'a Slice,
    rule: &'a CompiledRule,
    held: RoleSet,
    facts: &'a Facts<'a>,
}

/// Whether a rule matches in one respect.
type Holds = fn(&Question<'_>) -> bool;

/// What one rule asks of a request, cheapest question first.
const QUESTIONS: [(Miss, Holds); 7] = [
    (Miss::Role, |asks| asks.held.has(usize::from(asks.rule.role))),
    (Miss::Method, |asks| asks.rule.methods.has(asks.facts.method)),
    (Miss::Path, |asks| asks.rule.paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.matches(asks.facts.path)))),
    (Miss::Source, |asks| asks.when(|when| comes_from(&when.source, asks.facts.source))),
    (Miss::Time, |asks| asks.when(|when| when.time.as_ref().is_none_or(|window| window.holds(asks.facts.now)))),
    (Miss::Matchers, |asks| asks.when(|when| when.matchers.is_empty() || asks.unless_unclear(asks.matchers(when)))),
    (Miss::Condition, |asks| asks.when(|when| when.condition.as_ref().is_none_or(|condition| asks.condition(condition)))),
];

impl<'a> Question<'a> {
    /// Rules without conditions have none to fail.
    fn when(&self, holds: impl FnOnce(&'a When) -> bool) -> bool {
        self.rule.when.as_deref().is_none_or(|asks| holds(&asks.when))
    }

    fn matchers(&self, when: &When) -> Option<bool> {
        when.matchers.hold(&self.facts.asked, condition::claims(self.facts, self.rule.id.scope))
    }

    fn inquiry(&self) -> Inquiry<'a> {
        let patterns = self.rule.when.as_deref().map_or(&[][..], |asks| &asks.patterns);
        Inquiry { slice: self.slice, facts: self.facts, claims: condition::claims(self.facts, self.rule.id.scope), patterns }
    }

    fn condition(&self, condition: &'a Condition) -> bool {
        self.unless_unclear(condition.holds(&self.inquiry()).ok())
    }

    /// What cannot be said helps nobody: then a rule that allows does not match, and one that denies does.
    fn unless_unclear(&self, holds: Option<bool>) -> bool {
        holds.unwrap_or(self.rule.id.effect == Effect::Deny)
    }
}

/// Tells a trace what the conditions of a rule found.
fn tell<T: Trace>(asks: &Question<'_>, when: &When, trace: &mut T) {
    let mut lacks = when.matchers.lacks(&asks.facts.asked, condition::claims(asks.facts, asks.rule.id.scope));
    if let Some(condition) = &when.condition {
        let inquiry = asks.inquiry();
        let values = condition.values(&inquiry);
        match condition.holds(&inquiry) {
            Ok(true) => {}
            Ok(false) => lacks.push(format!("its condition is false: {}", values.join(", "))),
            Err(failure) => lacks.push(format!("its condition is unclear: {}", condition.told(&failure))),
        }
        trace.values(values);
    }
    trace.lacks(lacks);
}

/// Whether an address is in one of the ranges; no range means anywhere. An IPv4 client of an IPv6 socket is an IPv4 client.
fn comes_from(ranges: &[ipnet::IpNet], source: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&source.to_canonical()))
}

/// What one rule says: its first miss, or all of them where somebody listens.
fn ask<T: Trace>(asks: &Question<'_>) -> Misses {
    let mut misses = Misses::default();
    for (miss, holds) in QUESTIONS {
        if !holds(asks) {
            misses = misses.with(miss);
            if !T::LISTENS {
                break;
            }
        }
    }
    misses
}
