//! Revoked: a credential that is good and was taken back.
//!
//! Cost: per verification, and once per remembered credential and change of the policy; two or three binary searches where anything
//! is revoked at all.
//! Asked after the signature: that something was revoked is told to its holder only.

use super::Against;
use super::refused::{Because, Refused};
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::{Credential, Principal, Revoked, Scope};
use bulkhead_config::text::Value;
use bulkhead_config::unit::UnixSeconds;

/// Whether what a principal of this tenant was proved by was taken back: by the tenant, or by the platform where its issuer is the
/// platform's.
pub(super) fn check(principal: &Principal, tenant: &TenantId, against: &Against<'_>) -> Result<(), Refused> {
    let own = against.tenant(tenant.as_str()).and_then(|slice| slice.policy().revoked());
    let is_platforms = matches!(&principal.credential, Credential::Token { scope: Scope::Platform, .. });
    let platforms = against.snapshot.platform().revoked().filter(|_| is_platforms);
    own.into_iter().chain(platforms).try_for_each(|revoked| check_by(revoked, principal))
}

fn check_by(revoked: &Revoked, principal: &Principal) -> Result<(), Refused> {
    let user_is = revoked.has_user(&principal.user);
    match &principal.credential {
        Credential::Token { .. } if user_is => Err(Refused::TokenRevoked(Because::User)),
        Credential::Token { claims, .. } => check_token(revoked, claims),
        Credential::ApiKey(id) if user_is || revoked.has_api_key(id) => Err(Refused::ApiKeyRevoked),
        Credential::Certificate(_) if user_is => Err(Refused::CertificateRevoked),
        Credential::ApiKey(_) | Credential::Certificate(_) => Ok(()),
    }
}

fn check_token(revoked: &Revoked, claims: &Value) -> Result<(), Refused> {
    let id = claims.get("jti").and_then(|id| id.value.as_str());
    if id.is_some_and(|id| revoked.has_token(id)) {
        return Err(Refused::TokenRevoked(Because::Id));
    }
    match revoked.issued_before() {
        Some(moment) if issued(claims).is_none_or(|issued| issued < moment) => Err(Refused::TokenRevoked(Because::Time)),
        _ => Ok(()),
    }
}

/// `iat` in whole seconds; its form was checked with the other claims.
fn issued(claims: &Value) -> Option<UnixSeconds> {
    match claims.get("iat")?.value {
        Value::Int(seconds) => Some(seconds),
        Value::Float(seconds) => Some(seconds.floor() as i64),
        _ => None,
    }
}
