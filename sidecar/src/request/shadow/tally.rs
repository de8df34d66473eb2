//! Tally: what one worker saw pass that would have been refused, by tenant, route, principal and reason.
//!
//! Cost: per request that would be refused; one look into a map of the worker's own. Nothing is shared, so nothing is locked;
//! whoever asks is sent a copy.
//! Bounded: 1,024 findings with their principals, of one tenant at most half of them; then as many again in which all others are
//! one; what does not fit there either is only counted. So nobody's requests push out what was found of another, and nobody fills
//! memory by being somebody else each time.

use super::super::quota::{About, Kind};
use super::{Demand, Passed};
use crate::clock::Now;
use crate::telemetry::decisions::DecisionId;
use bulkhead_config::decide::Denial;
use bulkhead_config::name::{Feature, KeyId, RouteName, ServiceName, TenantId};
use bulkhead_config::snapshot::{Credential, Principal, Route, Scope};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Findings with a principal of their own; as many again without.
const FINDINGS_MAX: usize = 1_024;
/// Of these, those of one tenant.
const OF_A_TENANT_MAX: usize = FINDINGS_MAX / 2;
/// Budgets of limits whose demand is measured.
const BUDGETS_MAX: usize = 1_024;
/// Paths that are kept of one finding.
const PATHS_MAX: usize = 4;
/// A longer path is not kept.
const PATH_BYTES_MAX: usize = 256;

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// Nobody who proved it.
    Nobody,
    /// The user of a token, and whose issuer said so.
    User(Arc<str>, Scope),
    /// An API key.
    ApiKey(KeyId),
    /// A workload, by its user.
    Workload(Arc<str>),
    /// Those beyond the bound, together.
    Others,
}

/// What would have refused it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its credential, or that it has none; by the code of the problem, because a stranger can make up any number of reasons.
    Credential(&'static str),
    /// A feature that the tenant does not have.
    Feature(Feature),
    /// No rule allows it.
    NotPermitted,
    /// A rule denies it: its role, and as it is written.
    Denied(Box<str>, Box<str>),
    /// A limit, by its name.
    Quota(Box<str>),
}

/// What findings are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    route: (ServiceName, RouteName),
    method: Option<http::Method>,
    who: Who,
    cause: Cause,
}

/// Requests of one principal on one route that would have been refused for one reason.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whose they are.
    pub tenant: TenantId,
    /// The route they took, as it was declared when the last of them came.
    pub route: Arc<Route>,
    /// Their method; none where it is not a registered one.
    pub method: Option<http::Method>,
    /// Who made them.
    pub who: Who,
    /// What would have refused them.
    pub cause: Cause,
    /// The same as a refusal: its code and status.
    pub code: (&'static str, u16),
    /// How many.
    pub requests: u64,
    /// When the first came, in milliseconds since 1970-01-01 UTC.
    pub first_ms: u64,
    /// When the last came.
    pub last_ms: u64,
    /// The last decision.
    pub decision: DecisionId,
    /// Paths they asked for; a few of them.
    pub paths: Vec<Box<str>>,
    /// Whether there were others.
    pub has_more_paths: bool,
    /// What was wrong with the last, in words, where the code alone does not say it.
    pub why: Option<Box<str>>,
    /// The limit that is used up.
    pub limit: Option<Arc<About>>,
}

/// How far beyond one budget of a limit requests went.
#[derive(Debug, Clone)]
pub struct Beyond {
    /// The limit's tenant.
    pub tenant: TenantId,
    /// The limit's name.
    pub limit: Box<str>,
    /// The number of the budget.
    pub budget: u64,
    /// What came on top.
    pub demand: Demand,
}

/// What becomes of findings once they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// They stay.
    Kept,
    /// They are forgotten, and the next ones begin anew.
    Forgotten,
}

/// Everything that a worker found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Since when, in milliseconds since 1970-01-01 UTC; 0: since the start. Nobody was asked where it is nothing.
    pub since_ms: Option<u64>,
    /// Requests that went on and would have been refused.
    pub requests: u64,
    /// What was found, in no order.
    pub findings: Vec<Finding>,
    /// Reasons that were only counted.
    pub uncounted: u64,
    /// Demand beyond limits, in no order.
    pub beyond: Vec<Beyond>,
    /// Limits of which the demand is not known, because too many budgets were over theirs.
    pub has_unmeasured: bool,
}

impl Findings {
    /// Takes in what another worker found.
    pub fn join(&mut self, other: Findings) {
        self.since_ms = self.since_ms.into_iter().chain(other.since_ms).min();
        self.requests += other.requests;
        self.uncounted += other.uncounted;
        self.has_unmeasured |= other.has_unmeasured;
        self.beyond.extend(other.beyond);
        for finding in other.findings {
            match self.findings.iter_mut().find(|known| known.is_of(&finding)) {
                Some(known) => known.join(finding),
                None => self.findings.push(finding),
            }
        }
    }
}

/// What one worker saw pass.
#[derive(Debug, Default)]
pub struct Tally {
    /// When it was told to forget; 0: never.
    since_ms: u64,
    requests: u64,
    findings: HashMap<Key, Finding, FixedState>,
    of_tenant: HashMap<TenantId, usize, FixedState>,
    uncounted: u64,
    beyond: HashMap<(TenantId, Box<str>, u64), Demand, FixedState>,
    has_unmeasured: bool,
}

impl Tally {
    /// A request goes on that would have been refused for these reasons.
    pub fn add(&mut self, seen: &Seen<'_>, passed: &[Passed]) {
        self.requests += 1;
        for reason in passed {
            if let Passed::Quota(exceeded, budget) = reason {
                self.measure(seen.tenant, &exceeded.about.name, *budget, &exceeded.about.kind, seen.now);
            }
            self.enter(seen, reason);
        }
    }

    /// What was found; it may be forgotten in the same step, so that no request falls between two reports.
    pub fn tell(&mut self, afterwards: Afterwards, now: Now) -> Findings {
        let found = self.findings();
        if afterwards == Afterwards::Forgotten {
            *self = Self { since_ms: now.unix_ms, ..Self::default() };
        }
        found
    }

    fn findings(&self) -> Findings {
        let beyond = self.beyond.iter().map(|((tenant, limit, budget), demand)| Beyond {
            tenant: tenant.clone(),
            limit: limit.clone(),
            budget: *budget,
            demand: *demand,
        });
        Findings {
            since_ms: Some(self.since_ms),
            requests: self.requests,
            findings: self.findings.values().cloned().collect(),
            uncounted: self.uncounted,
            beyond: beyond.collect(),
            has_unmeasured: self.has_unmeasured,
        }
    }

    fn enter(&mut self, seen: &Seen<'_>, reason: &Passed) {
        let mut key = seen.key(reason);
        if !self.findings.contains_key(&key) && !self.has_place_for(seen.tenant) {
            key.who = Who::Others;
            if !self.findings.contains_key(&key) && self.findings.len() >= 2 * FINDINGS_MAX {
                self.uncounted += 1;
                return;
            }
        }
        let is_named = key.who != Who::Others;
        match self.findings.entry(key) {
            Entry::Occupied(mut known) => seen.again(known.get_mut(), reason),
            Entry::Vacant(place) => {
                let finding = seen.first(place.key(), reason);
                place.insert(finding);
                if is_named {
                    *self.of_tenant.entry(seen.tenant.clone()).or_default() += 1;
                }
            }
        }
    }

    fn has_place_for(&self, tenant: &TenantId) -> bool {
        let own = self.of_tenant.get(tenant).copied().unwrap_or_default();
        own < OF_A_TENANT_MAX && self.findings.len() < FINDINGS_MAX
    }

    fn measure(&mut self, tenant: &TenantId, limit: &str, budget: u64, kind: &Kind, now: Now) {
        let is_full = self.beyond.len() >= BUDGETS_MAX;
        match self.beyond.entry((tenant.clone(), limit.into(), budget)) {
            Entry::Occupied(mut known) => known.get_mut().add(kind, now),
            Entry::Vacant(_) if is_full => self.has_unmeasured = true,
            Entry::Vacant(place) => drop(place.insert(Demand::begin(kind, now))),
        }
    }
}

/// A request that goes on and would have been refused.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Whose it is.
    pub tenant: &'a TenantId,
    /// The route it takes.
    pub route: &'a Arc<Route>,
    /// Its method.
    pub method: &'a http::Method,
    /// Its path.
    pub path: &'a str,
    /// Who was proved.
    pub principal: Option<&'a Principal>,
    /// Its decision.
    pub decision: DecisionId,
    /// When it came.
    pub now: Now,
}

impl Seen<'_> {
    fn key(&self, reason: &Passed) -> Key {
        let route = (self.route.upstream.service.clone(), self.route.name.clone());
        let method = Some(self.method).filter(|method| is_registered(method)).cloned();
        Key { tenant: self.tenant.clone(), route, method, who: who(self.principal), cause: cause(reason) }
    }

    fn first(&self, key: &Key, reason: &Passed) -> Finding {
        let kind = reason.refusal().code().kind();
        Finding {
            tenant: key.tenant.clone(),
            route: Arc::clone(self.route),
            method: key.method.clone(),
            who: key.who.clone(),
            cause: key.cause.clone(),
            code: (kind.slug, kind.status.as_u16()),
            requests: 1,
            first_ms: self.now.unix_ms,
            last_ms: self.now.unix_ms,
            decision: self.decision,
            paths: self.kept_path().into_iter().collect(),
            has_more_paths: self.kept_path().is_none(),
            why: reason.refusal().why(),
            limit: match reason {
                Passed::Quota(exceeded, _) => Some(Arc::clone(&exceeded.about)),
                Passed::Credential(_) | Passed::Denied(_) => None,
            },
        }
    }

    fn again(&self, finding: &mut Finding, reason: &Passed) {
        finding.requests += 1;
        finding.last_ms = self.now.unix_ms;
        finding.decision = self.decision;
        if matches!(reason, Passed::Credential(_)) {
            finding.why = reason.refusal().why();
        }
        if finding.has_more_paths || finding.paths.iter().any(|known| **known == *self.path) {
            return;
        }
        match self.kept_path() {
            Some(path) if finding.paths.len() < PATHS_MAX => finding.paths.push(path),
            _ => finding.has_more_paths = true,
        }
    }

    fn kept_path(&self) -> Option<Box<str>> {
        (self.path.len() <= PATH_BYTES_MAX).then(|| self.path.into())
    }
}

impl Finding {
    /// Takes in what another worker found of the same.
    pub fn join(&mut self, other: Finding) {
        self.requests += other.requests;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.has_more_paths |= other.has_more_paths;
        for path in other.paths {
            match (self.paths.contains(&path), self.paths.len() < PATHS_MAX) {
                (true, _) => {}
                (false, true) => self.paths.push(path),
                (false, false) => self.has_more_paths = true,
            }
        }
        if other.last_ms > self.last_ms {
            (self.last_ms, self.decision, self.route) = (other.last_ms, other.decision, other.route);
            self.why = other.why;
        }
    }

    /// Whether both tell of the same.
    #[must_use]
    pub fn is_of(&self, other: &Finding) -> bool {
        fn route(finding: &Finding) -> (&ServiceName, &RouteName) {
            (&finding.route.upstream.service, &finding.route.name)
        }
        (&self.tenant, &self.method, &self.who, &self.cause) == (&other.tenant, &other.method, &other.who, &other.cause)
            && route(self) == route(other)
    }
}

/// A client can make up any number of other methods.
fn is_registered(method: &http::Method) -> bool {
    const REGISTERED: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    REGISTERED.contains(&method.as_str())
}

fn who(principal: Option<&Principal>) -> Who {
    let Some(principal) = principal else { return Who::Nobody };
    match &principal.credential {
        Credential::Token { scope, .. } => Who::User(Arc::clone(&principal.user), *scope),
        Credential::ApiKey(id) => Who::ApiKey(id.clone()),
        Credential::Certificate(_) => Who::Workload(Arc::clone(&principal.user)),
    }
}

fn cause(reason: &Passed) -> Cause {
    match reason {
        Passed::Credential(refused) => Cause::Credential(refused.problem_type()),
        Passed::Denied(Denial::FeatureMissing(feature)) => Cause::Feature(feature.clone()),
        Passed::Denied(Denial::NotPermitted) => Cause::NotPermitted,
        Passed::Denied(Denial::Denied(rule)) => Cause::Denied(rule.role.as_str().into(), rule.text.as_str().into()),
        Passed::Denied(Denial::NoCredential | Denial::NoRoute | Denial::NotServed(_)) => Cause::Credential("missing_credential"),
        Passed::Quota(exceeded, _) => Cause::Quota(exceeded.about.name.as_str().into()),
    }
}
