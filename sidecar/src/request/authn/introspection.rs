//! Opaque tokens: what the server that made one says of it (RFC 7662) is what it proves.
//!
//! Cost: per token that is not remembered, a wait for that server, off this thread; then as for any remembered credential.
//! A token that has the form of a JSON Web Token is one: its issuer's keys tell, and no server is asked.
//! An active token is remembered for as long as the document allows, never beyond its end; a refused one for ten seconds. So what
//! is taken back at the server ends within that time; to end it at once there is `revoked`.

use super::claims;
use super::memo::{Grounds, Memo};
use super::presented::{Presented, text_of_token};
use super::refused::{Part, Refused};
use super::strangers::Strangers;
use super::{Against, Verified, revoked};
use bulkhead_config::snapshot::{Credential, Introspection, Principal};
use bulkhead_config::text::{Budget, Value, json};
use bulkhead_config::unit::UnixSeconds;
use std::cell::Cell;
use std::sync::Arc;

/// Who is asked about a token; `None`: nobody, it says itself what it is, or nobody is declared.
pub(super) fn asked<'a>(token: &str, against: &Against<'a>) -> Option<&'a Arc<Introspection>> {
    let has_form_of_jwt = || matches!(token.split('.').count(), 3 | 5);
    against.introspection().filter(|_| !has_form_of_jwt())
}

/// Takes in what a server said of a token, so that it is found among what is remembered; `None`: it said nothing.
///
/// # Errors
/// Nobody knows what the token is.
pub fn learn(
    memo: &mut Memo,
    strangers: &Strangers,
    against: &Against<'_>,
    presented: Presented<'_>,
    said: Option<&[u8]>,
) -> Result<(), Refused> {
    let Presented::Bearer(token) = presented else { return Err(Refused::IssuerUnknown) };
    let declared = asked(text_of_token(token)?, against).ok_or(Refused::IssuerUnknown)?;
    let unknown = || Refused::Opaque { asked: Arc::clone(&declared.asked) };
    let answer = said.and_then(|said| json::read(said, Budget::TOKEN).ok()).ok_or_else(unknown)?.value;
    let grounds = Grounds::Introspected { declared: Arc::clone(declared) };
    let judged = judge(answer, declared, grounds.clone(), against).and_then(|(verified, ends_ms)| {
        revoked::check(&verified.principal, &verified.tenant, against)?;
        Ok((verified, ends_ms))
    });
    match judged {
        Ok((verified, ends_ms)) => drop(memo.remember(against, presented, grounds, verified, Some(ends_ms))),
        Err(refused) => {
            strangers.failed(against.source, against.named_id(), against.now);
            memo.remember_refused(against, presented, grounds, refused);
        }
    }
    Ok(())
}

/// What an answer proves, and until when it is remembered.
fn judge(answer: Value, declared: &Introspection, grounds: Grounds, against: &Against<'_>) -> Result<(Verified, u64), Refused> {
    match answer.get("active").map(|active| &active.value) {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(Refused::Inactive),
        _ => return Err(Refused::Json(Part::Claims)),
    }
    let now_ms = i128::from(against.now.unix_ms);
    let exp_ms = claims::moment(&answer, "exp")?;
    if exp_ms.is_some_and(|exp_ms| exp_ms <= now_ms) {
        return Err(Refused::Expired);
    }
    if claims::moment(&answer, "nbf")?.is_some_and(|nbf_ms| nbf_ms > now_ms) {
        return Err(Refused::NotYetValid);
    }
    claims::check_audience(&answer, &declared.audiences)?;
    let user = Arc::clone(claims::subject(&answer)?);
    let tenant = claims::tenant(&answer, declared.scope, declared.tenant_claim.as_deref(), against)?;
    let remembered_ms = now_ms + i128::try_from(declared.remember.as_millis()).unwrap_or(0);
    let ends_ms = exp_ms.map_or(remembered_ms, |exp_ms| exp_ms.min(remembered_ms));
    let expires = exp_ms.map(|exp_ms| UnixSeconds::try_from(exp_ms.div_euclid(1_000)).unwrap_or(UnixSeconds::MAX));
    let issuer = answer.get("iss").and_then(|iss| iss.value.as_str()).unwrap_or(declared.asked.url.as_str()).into();
    let credential = Credential::Token { scope: declared.scope, issuer, claims: Arc::new(answer) };
    let principal = Principal { user, credential };
    let verified = Verified { tenant, principal, expires, forward: declared.forward, grounds, roles: Cell::new(None) };
    Ok((verified, u64::try_from(ends_ms).unwrap_or(u64::MAX)))
}

/// Whether a token that was active when a stream began would be taken for active now, as far as the clock tells.
pub(super) fn is_good(expires: Option<UnixSeconds>, against: &Against<'_>) -> Result<(), Refused> {
    match expires {
        Some(expires) if against.now.unix() >= expires => Err(Refused::Expired),
        _ => Ok(()),
    }
}
