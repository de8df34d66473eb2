//! Shadow: what would refuse a request, and only records it, while the request goes on.
//!
//! Cost: none for a request that is not refused: each stage comes here with its refusal in hand, and runs once more where that is
//! in shadow. Then one allocation, and a look into this worker's table of findings.
//! INVARIANT (shadow proves nothing): what goes on for want of a credential is as unproven as a request of a public route, so that
//! nothing of a tenant's name, user or roles goes up with it.
//! Absent on purpose: a word of it to the client. Whoever tries doors must not learn which are only being watched.

mod demand;
mod tally;

pub use demand::Demand;
pub use tally::{Afterwards, Beyond, Cause, Finding, Findings, Seen, Tally, Who};

use super::Refusal;
use super::authn::{Refused, Verified};
use super::head::{Head, Target};
use super::quota::{Ask, Exceeded, Receipts};
use super::record::Record;
use super::tenant::{self, Claim, Proved};
use crate::policy::Policy;
use crate::worker::Worker;
use bulkhead_config::decide::{Denial, Facts, Permit, decide_in_shadow};
use bulkhead_config::snapshot::{Route, Service, Shadow, Slice};
use std::rc::Rc;
use std::sync::Arc;

/// What would have refused a request that went on.
#[derive(Debug)]
pub enum Passed {
    /// Its credential.
    Credential(Refused),
    /// The decision.
    Denied(Denial),
    /// A limit, and the number of the budget that is used up.
    Quota(Exceeded, u64),
}

/// Whether somebody was asked who knows more of a credential than is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Not yet: that comes before anything is passed.
    Ahead,
    /// They answered.
    Done,
    /// They could not be asked.
    InVain,
}

impl Passed {
    /// As the refusal that it would have been.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Passed::Credential(refused) => refused.clone().into(),
            Passed::Denied(denial) => denial.clone().into(),
            Passed::Quota(exceeded, _) => exceeded.clone().into(),
        }
    }
}

/// Goes on without proof, where a bad credential is only recorded.
///
/// # Errors
/// The refusal, where it is one.
#[cold]
pub fn unproven(
    policy: &Policy,
    claim: &Claim,
    route: Option<&Arc<Route>>,
    (refusal, look): (Refusal, Look),
    record: &mut Record,
) -> Result<Option<Rc<Verified>>, Refusal> {
    let refused = match (refusal, look) {
        (Refusal::Credential(refused @ (Refused::NewKey { .. } | Refused::Opaque { .. })), Look::Ahead) => return Err(refused.into()),
        (Refusal::Credential(refused), Look::Done) => refused.after_a_look(),
        (Refusal::Credential(refused), _) => refused,
        (refusal, _) => return Err(refusal),
    };
    if !passes(policy, claim, route, &refused) {
        return Err(refused.into());
    }
    record.passes(Passed::Credential(refused));
    Ok(None)
}

/// Whether a request with a credential that is refused so goes on without it. Whoever names no tenant is refused: nobody would know
/// for whom it goes on.
fn passes(policy: &Policy, claim: &Claim, route: Option<&Arc<Route>>, refused: &Refused) -> bool {
    let tries = |slice| tried(policy, slice, route).has(Shadow::CREDENTIAL);
    refused.may_be_passed() && claim.tenant().is_some_and(|tenant| tries(&tenant.slice))
}

/// Whether a request goes on whose credential nobody could be asked about.
#[cold]
pub fn passes_unasked(worker: &Worker, policy: &Policy, service: &Service, head: &Head, refusal: &Refusal) -> bool {
    let Refusal::Credential(refused) = refusal else { return false };
    let Ok(claim) = tenant::claim(worker, policy, service, &head.host) else { return false };
    let route = if matches!(head.target, Target::Path(_)) { service.route(head.path()) } else { None };
    passes(policy, &claim, route, refused)
}

/// Whether what lasts goes on although its credential is not good any more.
///
/// # Errors
/// Why not.
#[cold]
pub fn lapsed(policy: &Policy, claim: &Claim, route: Option<&Arc<Route>>, refused: Refused) -> Result<(), Refusal> {
    if passes(policy, claim, route, &refused) { Ok(()) } else { Err(refused.into()) }
}

/// The permit of a request that is denied, where everything that denies it is only recorded.
///
/// # Errors
/// The first denial that is not.
#[cold]
pub fn permit(policy: &Policy, proved: &Proved, facts: &Facts<'_>, record: &mut Record) -> Result<Permit, Refusal> {
    let shadow = tried(policy, proved.slice(), facts.route);
    let mut passed = Vec::new();
    let permit = decide_in_shadow(proved.slice(), facts, shadow, |denial| passed.push(denial))?;
    for denial in passed {
        // Why there is no credential is known where one was refused.
        if denial != Denial::NoCredential || !record.has_passed_a_credential() {
            record.passes(Passed::Denied(denial));
        }
    }
    Ok(permit)
}

/// Whether what lasts goes on although it would be denied by now.
///
/// # Errors
/// What denies it and is not only recorded.
#[cold]
pub fn still_permitted(policy: &Policy, proved: &Proved, facts: &Facts<'_>) -> Result<(), Denial> {
    decide_in_shadow(proved.slice(), facts, tried(policy, proved.slice(), facts.route), |_| ()).map(drop)
}

/// What a request takes of limits of which one is used up, where all that are used up only count.
///
/// # Errors
/// The first limit that refuses.
#[cold]
pub fn receipts(policy: &Policy, proved: &Proved, route: &Arc<Route>, ask: &Ask<'_>, record: &mut Record) -> Result<Receipts, Refusal> {
    let shadow = tried(policy, proved.slice(), Some(route));
    let now = record.begun();
    let passed = |exceeded, budget| record.passes(Passed::Quota(exceeded, budget));
    Ok(proved.tenant().limits.take_in_shadow(ask, now, shadow, passed)?)
}

fn tried(policy: &Policy, slice: &Slice, route: Option<&Arc<Route>>) -> Shadow {
    Shadow::of(policy.snapshot.platform(), slice, route.map(|route| &**route))
}
