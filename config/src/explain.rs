//! A decision in words: the rule that decided, or up to three nearest misses. For the CLI, the admin socket and tests.
//!
//! Runs the one decision function with a trace that listens, so that an explanation cannot differ from what is decided.
//! Explanations are for operators: they name tenants, hosts and documents that a refused client never hears of.

use crate::decide::Facts;
use crate::name::{Feature, PlanName, RoleName, TenantId};
use crate::snapshot::{Epoch, LimitSpec, Place, Route, RuleId, Scope, Slice, SliceState, Snapshot};
use crate::text::Value;
use crate::unit::{Limit, UnixSeconds};
use std::net::IpAddr;
use std::sync::Arc;

mod question;
mod decision;
mod show;

/// A request as somebody describes it. What is left out is not known: a question without any credential is one of a client that
/// shows none.
#[derive(Debug, Clone)]
pub struct Question {
    /// The service it comes to; may be left out where only one has such a route.
    pub service: Option<String>,
    /// The host it names.
    pub host: Option<String>,
    /// The tenant its credential proves; also the one it names where no host is given.
    pub tenant: Option<String>,
    /// Its method.
    pub method: String,
    /// Its path as the client writes it, with or without query.
    pub path: String,
    /// Claims of its token, taken as verified; a map.
    pub claims: Option<Value>,
    /// `sub` of its token.
    pub user: Option<String>,
    /// Id of its API key.
    pub api_key: Option<String>,
    /// Roles the principal is supposed to hold beside those its bindings give.
    pub roles: Vec<String>,
    /// The client's address; left out, it is outside every range.
    pub source: Option<IpAddr>,
    /// The time.
    pub now: UnixSeconds,
    /// Its header fields, as rules may ask for them.
    pub headers: Vec<(String, String)>,
}

/// What the sidecar would answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes on to quota and upstream.
    Allowed,
    /// It is refused.
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's code, as in the answer.
        problem: &'static str,
    },
    /// It would be refused, and goes on: what refuses it is in shadow.
    Shadow {
        /// HTTP status that it would get.
        status: u16,
        /// Code of the problem that it would get.
        problem: &'static str,
    },
    /// The question does not say enough, or names what does not exist.
    Unclear,
}

/// Why a request gets through or not.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What would be answered.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub because: String,
    /// The rule that decided, if one did.
    pub rule: Option<Arc<RuleId>>,
    /// What the condition of that rule read, and what stood there.
    pub values: Vec<String>,
    /// What comes nearest to another answer, nearest first; at most three.
    pub nearest: Vec<String>,
    /// The request, its path in normal form where it has one.
    pub request: String,
    /// Whose request it is.
    pub tenant: Option<TenantFacts>,
    /// Where it goes.
    pub route: Option<Arc<Route>>,
    /// What becomes of it there, where it does not go up as it came.
    pub becomes: Option<String>,
    /// What the principal holds.
    pub roles: Vec<HeldRole>,
    /// Limits that would count it.
    pub limits: Vec<LimitSpec>,
    /// The limit on requests in a clock hour, where it would count it.
    pub api_quota_per_hour: Option<Limit>,
    /// The state of the documents that this is true of.
    pub epoch: Epoch,
}

/// What is known of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantFacts {
    /// Its id.
    pub id: TenantId,
    /// Its plan.
    pub plan: Option<PlanName>,
    /// Whether it is served.
    pub state: SliceState,
    /// The plan's features and its own.
    pub features: Vec<Feature>,
}

/// A role of the principal.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldRole {
    /// Its name.
    pub name: RoleName,
    /// Whose role it is.
    pub scope: Scope,
    /// Bindings that give it, or a role that inherits it; empty where the question supposes it.
    pub by: Vec<Bound>,
}

/// A binding that gives a role.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The role it binds, where that is another one that inherits this.
    pub through: Option<RoleName>,
}

/// Explains what the sidecar would answer to a described request.
#[must_use]
pub fn explain(snapshot: &Snapshot, question: &Question) -> Explanation {
    match question::answer(snapshot, question) {
        Ok(explanation) => explanation,
        Err(explanation) => *explanation,
    }
}

/// Explains the decision about recorded facts: the same inputs, so the same decision as long as the policy is the same.
#[must_use]
pub fn explain_facts(snapshot: &Snapshot, slice: &Slice, facts: &Facts<'_>) -> Explanation {
    decision::explain(snapshot, slice, facts)
}

impl Question {
    /// A request of which nothing else is known.
    #[must_use]
    pub fn new(method: &str, path: &str, now: UnixSeconds) -> Self {
        Self {
            service: None,
            host: None,
            tenant: None,
            method: method.to_owned(),
            path: path.to_owned(),
            claims: None,
            user: None,
            api_key: None,
            roles: Vec::new(),
            source: None,
            now,
            headers: Vec::new(),
        }
    }

    /// Reads a JSON object with the fields of a question, `at` (RFC 3339) for the time; `now` where that is left out.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn from_json(bytes: &[u8], now: UnixSeconds) -> Result<Self, String> {
        question::read(bytes, now)
    }

    /// Whether it shows any credential.
    fn has_credential(&self) -> bool {
        self.claims.is_some() || self.user.is_some() || self.api_key.is_some() || !self.roles.is_empty()
    }
}

impl Verdict {
    /// The same refusal, in shadow.
    #[must_use]
    pub fn in_shadow(self) -> Self {
        match self {
            Verdict::Refused { status, problem } => Verdict::Shadow { status, problem },
            other => other,
        }
    }
}

impl Explanation {
    /// With nothing but what would be answered, and why.
    #[must_use]
    pub fn new(snapshot: &Snapshot, request: String, verdict: Verdict, because: impl Into<String>) -> Self {
        Self {
            verdict,
            because: because.into(),
            rule: None,
            values: Vec::new(),
            nearest: Vec::new(),
            request,
            tenant: None,
            route: None,
            becomes: None,
            roles: Vec::new(),
            limits: Vec::new(),
            api_quota_per_hour: None,
            epoch: snapshot.epoch(),
        }
    }
}
