//! Authentication: whom a request is proved to come from.
//!
//! Cost: per request; one look into this worker's memo (about 50 ns). A token met for the first time costs its verification
//! (18 to 62 µs), a refused one no more than once in ten seconds.
//! Order of checks, because it is an order of costs: what is presented, what is remembered, the token's form, its issuer,
//! algorithm, key and claims, whether its source failed too often, and the signature last. So a stranger makes us verify only
//! what would be accepted but for its signature, and an expired token costs no cryptography at all.
//! Whether what is proved agrees with what the request names is not asked here: `tenant::bind` does, for every kind of proof.

mod presented;
mod jwks;
mod jwt;
mod claims;
mod api_key;
mod certificate;
mod introspection;
mod uses;
mod memo;
mod strangers;
mod revoked;
mod refused;

pub use certificate::Shown;
pub use introspection::learn;
pub use jwks::{KeyFault, KeyFinding, Keys};
pub use memo::Memo;
pub use presented::{Presented, holds_api_key, is_api_key, presented, text_of_token};
pub use refused::{Part, Refused};
pub use strangers::Strangers;

use crate::clock::Now;
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::{Credential, Introspection, Issuer, Policy, Principal, RoleSet, Slice, Snapshot};
use bulkhead_config::text::Value;
use bulkhead_config::unit::UnixSeconds;
use memo::{Grounds, Remembered, Stamp};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A principal, proved. Only [`verify`] and [`Shown::verify`] make one.
#[derive(Debug)]
pub struct Verified {
    tenant: TenantId,
    principal: Principal,
    expires: Option<UnixSeconds>,
    forward: bool,
    grounds: Grounds,
    /// Roles by the policy of this id: bindings are matched once per credential and policy, not per request.
    roles: Cell<Option<(u64, RoleSet)>>,
}

impl Verified {
    /// The tenant it is proved to be of.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// When the proof ends, leeway not counted; a stream that lasts longer outlives its proof.
    #[must_use]
    pub fn expires(&self) -> Option<UnixSeconds> {
        self.expires
    }

    /// Whether `Authorization` may be passed on to the upstream. Never for API keys.
    #[must_use]
    pub fn forward(&self) -> bool {
        self.forward
    }

    /// Whether it would be proved again, as far as issuers, keys and the clock tell without the credential.
    ///
    /// # Errors
    /// What its credential would be refused with.
    pub fn stands(&self, against: &Against<'_>) -> Result<(), Refused> {
        revoked::check(&self.principal, &self.tenant, against)?;
        match (&self.principal.credential, &self.grounds) {
            (Credential::Token { scope, claims, .. }, Grounds::Token { issuer, keys, key }) => {
                let now = against.issuer(&issuer.issuer).filter(|now| now.scope == *scope).ok_or(Refused::IssuerUnknown)?;
                let tenant = claims::check(claims, now, against)?.tenant;
                if tenant != self.tenant {
                    return Err(Refused::IssuerUnknown);
                }
                jwt::still_verifies(key, now, *keys, against.keys)
            }
            (Credential::ApiKey(id), Grounds::ApiKey { declared, .. }) => {
                let now = api_key::declared(against, &self.tenant, id);
                api_key::is_same(now, declared.as_ref(), against.now)
            }
            (Credential::Certificate(_), grounds @ Grounds::Certificate { .. }) => {
                if !grounds.hold(against) {
                    return Err(Refused::CertificateUnknown);
                }
                certificate::is_good(self.expires, against.now)
            }
            (Credential::Token { .. }, grounds @ Grounds::Introspected { .. }) => {
                if !grounds.hold(against) {
                    return Err(Refused::IssuerUnknown);
                }
                introspection::is_good(self.expires, against)
            }
            // A credential of one kind never has the grounds of the other.
            (Credential::Token { .. } | Credential::ApiKey(_) | Credential::Certificate(_), _) => Err(Refused::IssuerUnknown),
        }
    }

    fn is_not_revoked(&self, against: &Against<'_>) -> bool {
        revoked::check(&self.principal, &self.tenant, against).is_ok()
    }

    fn claims(&self) -> Option<&Value> {
        match &self.principal.credential {
            Credential::Token { claims, .. } => Some(claims),
            Credential::ApiKey(_) | Credential::Certificate(_) => None,
        }
    }

    /// Roles that a policy gives it.
    pub fn roles(&self, policy: &Policy) -> RoleSet {
        match self.roles.get() {
            Some((id, roles)) if id == policy.id() => roles,
            _ => {
                let roles = policy.roles_of(&self.principal);
                self.roles.set(Some((policy.id(), roles)));
                roles
            }
        }
    }
}

/// What a credential is verified against.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// Issuers and API keys.
    pub snapshot: &'a Snapshot,
    /// Keys of the issuers.
    pub keys: &'a Keys,
    /// The tenant that the request names; `None` on a shared host, where only platform issuers and API keys prove: they say
    /// themselves of whom.
    pub named: Option<&'a Slice>,
    /// The client's address: who fails too often is known by it.
    pub source: IpAddr,
    /// The time.
    pub now: Now,
}

impl<'a> Against<'a> {
    /// The declaration of an issuer. The named tenant's own come first: it cannot be shadowed by the platform's.
    fn issuer(&self, name: &str) -> Option<&'a Arc<Issuer>> {
        let own = self.named.map_or(&[][..], |slice| slice.policy().issuers());
        own.iter().chain(self.snapshot.platform().issuers()).find(|issuer| issuer.issuer == name)
    }

    /// Who is asked about tokens that do not say themselves what they are; the named tenant's own first.
    fn introspection(&self) -> Option<&'a Arc<Introspection>> {
        let own = self.named.and_then(|slice| slice.policy().introspection());
        own.or_else(|| self.snapshot.platform().introspection())
    }

    /// The tenant of a key that names it.
    fn tenant(&self, name: &str) -> Option<&'a Slice> {
        match self.named {
            Some(slice) => (slice.id().as_str() == name).then_some(slice),
            None => self.snapshot.tenant(name).map(|slice| &**slice),
        }
    }

    fn named_id(&self) -> Option<&'a TenantId> {
        self.named.map(Slice::id)
    }

    fn stamp(&self) -> Stamp {
        Stamp { epoch: self.snapshot.epoch(), keys: self.keys.stamp() }
    }
}

/// Proves whom a request comes from, by what it presents.
///
/// # Errors
/// Why it proves nobody.
pub fn verify(memo: &mut Memo, strangers: &Strangers, against: &Against<'_>, presented: Presented<'_>) -> Result<Rc<Verified>, Refused> {
    match memo.recall(against, presented) {
        Some(Remembered::Verified(verified)) => return Ok(verified),
        Some(Remembered::Refused(refused)) => return Err(refused),
        None => {}
    }
    let candidate = match presented {
        Presented::Bearer(token) => {
            let token = text_of_token(token)?;
            match introspection::asked(token, against) {
                Some(declared) => return Err(unasked(strangers, against, declared)),
                None => Candidate::Token(jwt::read(token)?.candidate(against)?),
            }
        }
        Presented::ApiKey(key) => {
            let text = presented::text_of_api_key(key, against.snapshot.platform().api_key_header())?;
            Candidate::ApiKey(api_key::read(text)?.candidate(against)?)
        }
    };
    // Only now: whoever has no chance anyway was sent away above for less than this look costs.
    if let Some(retry_after) = strangers.must_wait(against.source, against.named_id(), against.now) {
        return Err(Refused::TooManyFailures { retry_after });
    }
    let (grounds, outcome) = candidate.prove(against.now);
    let outcome = outcome.and_then(|(verified, ends_ms)| {
        revoked::check(&verified.principal, &verified.tenant, against)?;
        Ok((verified, ends_ms))
    });
    match outcome {
        Ok((verified, ends_ms)) => Ok(memo.remember(against, presented, grounds, verified, ends_ms)),
        Err(refused) => {
            strangers.failed(against.source, against.named_id(), against.now);
            memo.remember_refused(against, presented, grounds, refused.clone());
            Err(refused)
        }
    }
}

/// That somebody has to be asked about a token, unless its source has had too many asked about in vain.
fn unasked(strangers: &Strangers, against: &Against<'_>, declared: &Introspection) -> Refused {
    match strangers.must_wait(against.source, against.named_id(), against.now) {
        Some(retry_after) => Refused::TooManyFailures { retry_after },
        None => Refused::Opaque { asked: Arc::clone(&declared.asked) },
    }
}

/// A credential that would prove somebody, but for its one costly check.
enum Candidate<'a> {
    Token(jwt::Candidate<'a>),
    ApiKey(api_key::Candidate<'a>),
}

/// What verification ends in: who it is, and the millisecond (UTC) from which it is not remembered.
type Outcome = Result<(Verified, Option<u64>), Refused>;

impl Candidate<'_> {
    fn prove(self, now: Now) -> (Grounds, Outcome) {
        match self {
            Candidate::Token(token) => token.prove(),
            Candidate::ApiKey(key) => key.prove(now),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
