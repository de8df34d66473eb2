//! API keys: `bk1.<tenant>.<id>.<secret>`, known by the SHA-256 of their whole text.
//!
//! Cost: per key that is not remembered; one SHA-256 (about 300 ns). The form is checked before anything is hashed.
//! A secret has 256 random bits, so a plain hash is enough, and guessing is hopeless at any rate. An unknown id costs and
//! answers the same as a wrong secret: nobody learns which ids there are. That a key has expired is told to its holder only.

use super::memo::Grounds;
use super::refused::Refused;
use super::{Against, Outcome, Verified};
use crate::clock::Now;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::name::{KeyId, TenantId};
use bulkhead_config::snapshot::{ApiKey, Credential, Principal};
use std::cell::Cell;

/// How every key's text begins: format 1.
pub(super) const PREFIX: &str = "bk1.";
/// 32 bytes in base64url without padding.
const SECRET_CHARACTERS: usize = 43;

/// A key's text, its form checked.
pub(super) struct Unverified<'a> {
    text: &'a str,
    tenant: TenantId,
    id: KeyId,
}

/// A key and what is declared under its name.
pub(super) struct Candidate<'a> {
    key: Unverified<'a>,
    declared: Option<ApiKey>,
}

/// Takes a key's text apart.
pub(super) fn read(text: &str) -> Result<Unverified<'_>, Refused> {
    let parts = text.strip_prefix(PREFIX).map(|rest| rest.split('.').collect::<Vec<_>>());
    let Some([tenant, id, secret]) = parts.as_deref() else { return Err(Refused::ApiKeyMalformed) };
    let (Ok(tenant), Ok(id)) = (tenant.parse(), id.parse()) else { return Err(Refused::ApiKeyMalformed) };
    if secret.len() != SECRET_CHARACTERS || BASE64_URL_SAFE_NO_PAD.decode(secret).is_err() {
        return Err(Refused::ApiKeyMalformed);
    }
    Ok(Unverified { text, tenant, id })
}

impl<'a> Unverified<'a> {
    /// Looks up what is declared under the key's name.
    pub(super) fn candidate(self, against: &Against<'_>) -> Result<Candidate<'a>, Refused> {
        // The request names two tenants; no need to know whether the key is good to say so.
        if against.named.is_some_and(|slice| *slice.id() != self.tenant) {
            return Err(Refused::ApiKeyOfOtherTenant);
        }
        let declared = declared(against, &self.tenant, &self.id).cloned();
        Ok(Candidate { key: self, declared })
    }
}

/// What is declared under a key's name now.
pub(super) fn declared<'a>(against: &Against<'a>, tenant: &TenantId, id: &KeyId) -> Option<&'a ApiKey> {
    against.tenant(tenant.as_str())?.policy().api_key(id.as_str())
}

impl Candidate<'_> {
    /// The costly check.
    pub(super) fn prove(self, now: Now) -> (Grounds, Outcome) {
        let Unverified { text, tenant, id } = self.key;
        let expires = self.declared.as_ref().and_then(|key| key.expires);
        let checked = check(text, self.declared.as_ref(), now);
        let grounds = Grounds::ApiKey { tenant: tenant.clone(), id: id.clone(), declared: self.declared };
        let outcome = checked.map(|ends_ms| {
            let principal = Principal { user: id.as_str().into(), credential: Credential::ApiKey(id) };
            let grounds = grounds.clone();
            (Verified { tenant, principal, expires, forward: false, grounds, roles: Cell::new(None) }, ends_ms)
        });
        (grounds, outcome)
    }
}

/// Compares a key's text with what is declared; answers when it ends.
fn check(text: &str, declared: Option<&ApiKey>, now: Now) -> Result<Option<u64>, Refused> {
    let nobodys = [0; 32];
    let expected = declared.map_or(&nobodys, |key| &key.sha256);
    let is_it = verify_slices_are_equal(digest(&SHA256, text.as_bytes()).as_ref(), expected).is_ok();
    let Some(key) = declared.filter(|_| is_it) else { return Err(Refused::ApiKeyUnknown) };
    until(key, now)
}

/// Whether the key under a name is the one that was there before, and good.
pub(super) fn is_same(declared: Option<&ApiKey>, before: Option<&ApiKey>, now: Now) -> Result<(), Refused> {
    match declared {
        Some(key) if before.is_some_and(|before| before.sha256 == key.sha256) => until(key, now).map(|_| ()),
        _ => Err(Refused::ApiKeyUnknown),
    }
}

/// When a key ends.
fn until(key: &ApiKey, now: Now) -> Result<Option<u64>, Refused> {
    match key.expires {
        None => Ok(None),
        Some(expires) if now.unix() < expires => Ok(Some(u64::try_from(expires).unwrap_or(0).saturating_mul(1_000))),
        Some(_) => Err(Refused::ApiKeyExpired),
    }
}
