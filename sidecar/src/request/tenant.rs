//! Tenant: whom a request names, whom it proves to come from, and that both agree.
//!
//! Cost: per request; one lookup by host, one in the worker's memo.
//! INVARIANT (naming selects, proof binds): the only way to a `Proved` is `bind`, which compares the two.

use super::Refusal;
use super::authn::{self, Against, Shown, Verified};
use super::head::Head;
use super::host::Host;
use crate::clock::Now;
use crate::policy::Policy;
use crate::worker::{Bound, Worker};
use bulkhead_config::snapshot::{Access, Route, Service, Slice, SliceState};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Whom a request names; nothing can be served with it.
#[derive(Debug)]
pub enum Claim {
    /// The tenant of its host.
    Named(Rc<Bound>),
    /// Nobody: the host is shared, so proof alone binds.
    Nobody,
}

/// A tenant on whom naming and proof agree. Without proof it is only named, which is enough for a public route.
#[derive(Debug)]
pub struct Proved {
    tenant: Rc<Bound>,
    proof: Option<Rc<Verified>>,
}

impl Claim {
    /// The tenant, where one is named.
    #[must_use]
    pub fn tenant(&self) -> Option<&Rc<Bound>> {
        match self {
            Claim::Named(tenant) => Some(tenant),
            Claim::Nobody => None,
        }
    }
}

impl Proved {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &Rc<Bound> {
        &self.tenant
    }

    /// As it is served.
    #[must_use]
    pub fn slice(&self) -> &Arc<Slice> {
        &self.tenant.slice
    }

    /// Who it was proved to come from.
    #[must_use]
    pub fn proof(&self) -> Option<&Rc<Verified>> {
        self.proof.as_ref()
    }
}

/// Whom a request names.
///
/// # Errors
/// A host of nobody: a valid token does not make it somebody's.
pub fn claim(worker: &Worker, policy: &Policy, service: &Service, host: &Host) -> Result<Claim, Refusal> {
    let host = host.as_bytes();
    match policy.snapshot.tenant_by_host(host) {
        Some(slice) => Ok(Claim::Named(worker.bound(slice))),
        None if service.is_shared_host(host) => Ok(Claim::Nobody),
        None => Err(Refusal::UnknownTenant),
    }
}

/// Verifies what a request presents. On a public route of a named tenant, and where none of its policies can be served, nothing
/// is: it would change nothing, and anybody could make us verify.
///
/// # Errors
/// Why the credential proves nobody.
pub fn prove(
    worker: &Worker,
    policy: &Policy,
    claim: &Claim,
    route: Option<&Arc<Route>>,
    (head, shown): (&Head, Option<&Shown>),
    source: IpAddr,
    now: Now,
) -> Result<Option<Rc<Verified>>, Refusal> {
    let is_public = route.is_some_and(|route| route.access == Access::Public);
    // Of a tenant that is held nobody knows whose keys are good: to call them bad would send their holders for new ones.
    let proves_nothing = |tenant: &Rc<Bound>| is_public || tenant.slice.state() == SliceState::Held;
    if claim.tenant().is_some_and(proves_nothing) {
        return Ok(None);
    }
    let presented = authn::presented(&head.headers, policy.snapshot.platform().api_key_header())?;
    let named = claim.tenant().map(|tenant| &*tenant.slice);
    let against = Against { snapshot: &policy.snapshot, keys: &policy.keys, named, source, now };
    match (presented, shown) {
        // A token says who asks; beside it, a certificate only says who brings the request, as a gateway does.
        (Some(presented), _) => Ok(Some(authn::verify(&mut worker.memo(), worker.strangers(), &against, presented)?)),
        (None, Some(shown)) => Ok(shown.verify(&against)?),
        (None, None) => Ok(None),
    }
}

/// Takes in what a server said of the token that a request presents; `None`: it said nothing.
///
/// # Errors
/// Nobody knows what the token is, or the request asks for something else by now.
pub fn learn(
    worker: &Worker,
    policy: &Policy,
    service: &Service,
    head: &Head,
    (source, now): (IpAddr, Now),
    said: Option<&[u8]>,
) -> Result<(), Refusal> {
    let claim = claim(worker, policy, service, &head.host)?;
    let presented = authn::presented(&head.headers, policy.snapshot.platform().api_key_header())?;
    let named = claim.tenant().map(|tenant| &*tenant.slice);
    let against = Against { snapshot: &policy.snapshot, keys: &policy.keys, named, source, now };
    let presented = presented.ok_or(Refusal::MissingCredential)?;
    Ok(authn::learn(&mut worker.memo(), worker.strangers(), &against, presented, said)?)
}

/// Makes sure that naming and proof mean one tenant.
///
/// # Errors
/// They mean two; or nobody is named and nothing is proved.
pub fn bind(worker: &Worker, policy: &Policy, claim: Claim, proof: Option<Rc<Verified>>) -> Result<Proved, Refusal> {
    match (claim, proof) {
        (Claim::Named(tenant), None) => Ok(Proved { tenant, proof: None }),
        (Claim::Named(tenant), Some(proof)) if proof.tenant() == tenant.slice.id() => Ok(Proved { tenant, proof: Some(proof) }),
        (Claim::Named(_), Some(_)) => Err(Refusal::OtherTenant),
        (Claim::Nobody, None) => Err(Refusal::MissingCredential),
        (Claim::Nobody, Some(proof)) => {
            // A platform issuer may vouch for a tenant that is gone, or not there yet.
            let slice = policy.snapshot.tenant(proof.tenant().as_str()).ok_or(Refusal::UnknownTenant)?;
            Ok(Proved { tenant: worker.bound(slice), proof: Some(proof) })
        }
    }
}
