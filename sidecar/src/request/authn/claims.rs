//! Claims of a token (RFC 7519 section 4): for whom, of whom, from when, until when.
//!
//! Cost: per token that is not remembered; a few comparisons.

use super::Against;
use super::refused::Refused;
use bulkhead_config::name::TenantId;
use bulkhead_config::snapshot::{Issuer, Scope};
use bulkhead_config::text::Value;
use bulkhead_config::unit::UnixSeconds;
use std::sync::Arc;

/// What claims prove once the signature is found good.
pub(super) struct Proof {
    pub(super) tenant: TenantId,
    pub(super) user: Arc<str>,
    /// `exp` in whole seconds.
    pub(super) expires: UnixSeconds,
    /// Milliseconds (UTC) from which the token is refused, leeway counted.
    pub(super) ends_ms: u64,
}

/// Longest `sub` in bytes (OpenID Connect Core section 2): it becomes a log field, a header and the key of a budget.
const SUBJECT_BYTES_MAX: usize = 255;

/// `iss`, not verified yet: it finds the issuer whose keys will tell.
pub(super) fn issuer(claims: &Value) -> Result<&str, Refused> {
    text(claims, "iss").map(|issuer| &**issuer)
}

/// Checks the claims of a token against its issuer's declaration.
pub(super) fn check(claims: &Value, issuer: &Issuer, against: &Against<'_>) -> Result<Proof, Refused> {
    let (now_ms, leeway_ms) = (i128::from(against.now.unix_ms), i128::try_from(issuer.leeway.as_millis()).unwrap_or(0));
    let exp_ms = moment(claims, "exp")?.ok_or(Refused::ClaimMissing { claim: "exp" })?;
    if now_ms >= exp_ms + leeway_ms {
        return Err(Refused::Expired);
    }
    if moment(claims, "nbf")?.is_some_and(|nbf_ms| nbf_ms > now_ms + leeway_ms) {
        return Err(Refused::NotYetValid);
    }
    if moment(claims, "iat")?.is_some_and(|iat_ms| iat_ms > now_ms + leeway_ms) {
        return Err(Refused::IssuedInFuture);
    }
    check_audience(claims, &issuer.audiences)?;
    Ok(Proof {
        user: Arc::clone(subject(claims)?),
        tenant: tenant(claims, issuer.scope, issuer.tenant_claim.as_deref(), against)?,
        expires: i64::try_from(exp_ms.div_euclid(1_000)).unwrap_or(i64::MAX),
        ends_ms: u64::try_from(exp_ms + leeway_ms).unwrap_or(u64::MAX),
    })
}

/// `sub`.
pub(super) fn subject(claims: &Value) -> Result<&Arc<str>, Refused> {
    let user = text(claims, "sub")?;
    match user.len() {
        1..=SUBJECT_BYTES_MAX => Ok(user),
        bytes => Err(Refused::SubjectLength { bytes }),
    }
}

/// The tenant that a token proves.
pub(super) fn tenant(claims: &Value, scope: Scope, tenant_claim: Option<&str>, against: &Against<'_>) -> Result<TenantId, Refused> {
    match (scope, tenant_claim, against.named_id()) {
        (Scope::Platform, Some(claim), _) => match claims.get(claim).map(|found| &found.value) {
            Some(Value::Str(tenant)) => tenant.parse().map_err(|_| Refused::TenantForm { claim: claim.into() }),
            Some(_) => Err(Refused::TenantForm { claim: claim.into() }),
            None => Err(Refused::TenantMissing { claim: claim.into() }),
        },
        // A tenant's own issuer was found among the issuers of the tenant that is named, and proves that one.
        (Scope::Tenant, _, Some(named)) => Ok(named.clone()),
        (Scope::Tenant, _, None) | (Scope::Platform, None, _) => Err(Refused::IssuerUnknown),
    }
}

/// `aud` must hold one of the issuer's audiences: without that check, a token for any other service of that issuer would do here.
pub(super) fn check_audience(claims: &Value, audiences: &[String]) -> Result<(), Refused> {
    let is_ours = |audience: &str| audiences.iter().any(|ours| ours == audience);
    let wrong_form = || Refused::ClaimForm { claim: "aud", expected: "a string or a list of strings" };
    let found = match claims.get("aud").map(|aud| &aud.value) {
        None => return Err(Refused::ClaimMissing { claim: "aud" }),
        Some(Value::Str(audience)) => is_ours(audience),
        Some(Value::List(audiences)) => {
            let mut found = false;
            for audience in audiences {
                found |= is_ours(audience.value.as_str().ok_or_else(wrong_form)?);
            }
            found
        }
        Some(_) => return Err(wrong_form()),
    };
    if found { Ok(()) } else { Err(Refused::OtherAudience) }
}

fn text<'a>(claims: &'a Value, claim: &'static str) -> Result<&'a Arc<str>, Refused> {
    match claims.get(claim).map(|found| &found.value) {
        Some(Value::Str(text)) => Ok(text),
        Some(_) => Err(Refused::ClaimForm { claim, expected: "a string" }),
        None => Err(Refused::ClaimMissing { claim }),
    }
}

/// A NumericDate (RFC 7519 section 2) in milliseconds; fractions of a second are allowed there.
pub(super) fn moment(claims: &Value, claim: &'static str) -> Result<Option<i128>, Refused> {
    match claims.get(claim).map(|found| &found.value) {
        None => Ok(None),
        Some(Value::Int(seconds)) => Ok(Some(i128::from(*seconds) * 1_000)),
        // The cast saturates: what is out of range is at the end of time, on its side.
        Some(Value::Float(seconds)) => Ok(Some(i128::from((seconds * 1_000.0).floor() as i64))),
        Some(_) => Err(Refused::ClaimForm { claim, expected: "a number of seconds" }),
    }
}
