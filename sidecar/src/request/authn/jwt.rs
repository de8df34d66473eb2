//! Tokens: a JSON Web Token (RFC 7519) as a compact JWS (RFC 7515), by the rules of RFC 8725.
//!
//! Cost: per token that is not remembered; two small JSON texts, and the signature (18 to 62 µs) when all else is right.
//! Nothing in a token chooses how it is verified: the algorithms are the issuer's, the key is one the issuer published under
//! them, and whatever would bring its own key, another encoding or another meaning is refused.

use super::claims::{self, Proof};
use super::jwks::{KeySet, Keys, names};
use super::memo::{Grounds, KeyUsed};
use super::refused::{Part, Refused};
use super::{Against, Outcome, Verified};
use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::snapshot::{Algorithm, Credential, Issuer, KeySource, Principal};
use bulkhead_config::text::{Budget, Fault, Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// A token, read and not yet believed.
pub(super) struct Unverified<'a> {
    algorithm: Algorithm,
    key_id: Option<Arc<str>>,
    claims: Arc<Value>,
    /// Header and claims as they were signed.
    signed: &'a str,
    signature: Vec<u8>,
}

/// A token of which everything is right but perhaps the signature.
pub(super) struct Candidate<'a> {
    token: Unverified<'a>,
    proof: Proof,
    issuer: &'a Arc<Issuer>,
    set: &'a KeySet,
    key: &'a ParsedPublicKey,
}

/// Takes a token apart.
pub(super) fn read(token: &str) -> Result<Unverified<'_>, Refused> {
    if token.len() > Budget::TOKEN.bytes {
        return Err(Refused::TooLong { bytes: token.len() });
    }
    let (Some((signed, signature)), parts) = (token.rsplit_once('.'), token.split('.').count()) else { return Err(Refused::Parts(1)) };
    let (header, claims) = match (signed.split_once('.'), parts) {
        (Some(both), 3) => both,
        (_, 5) => return Err(Refused::Encrypted),
        _ => return Err(Refused::Parts(parts)),
    };
    let (algorithm, key_id) = header_of(&object(header, Part::Header)?)?;
    let claims = Arc::new(object(claims, Part::Claims)?);
    Ok(Unverified { algorithm, key_id, claims, signed, signature: decode(signature, Part::Signature)? })
}

/// Base64url in its one canonical form: no padding, no stray bits at the end. Else one token could be written in several ways,
/// and what is refused or revoked in one form would be new in another.
fn decode(text: &str, part: Part) -> Result<Vec<u8>, Refused> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Encoding(part))
}

fn object(text: &str, part: Part) -> Result<Value, Refused> {
    let node = json::read(&decode(text, part)?, Budget::TOKEN).map_err(|mistake| match mistake.fault {
        Fault::Duplicate { .. } => Refused::SameName(part),
        Fault::Depth(_) | Fault::Nodes(_) => Refused::Excessive(part),
        _ => Refused::Json(part),
    })?;
    match node.value {
        Value::Map(_) => Ok(node.value),
        _ => Err(Refused::Json(part)),
    }
}

/// Algorithm and key id of a header; whatever would change how the token is to be read or verified is refused.
fn header_of(header: &Value) -> Result<(Algorithm, Option<Arc<str>>), Refused> {
    // By these a token would bring or locate the key that it is verified with (RFC 8725 section 3.10 and CVE-2018-0114).
    if let Some(name) = ["jwk", "jku", "x5u", "x5c"].into_iter().find(|name| header.get(name).is_some()) {
        return Err(Refused::BringsKey { name });
    }
    if header.get("crit").is_some() {
        return Err(Refused::Critical);
    }
    if header.get("b64").is_some() {
        return Err(Refused::Unencoded);
    }
    if header.get("zip").is_some() {
        return Err(Refused::Compressed);
    }
    if let Some(content) = header.get("cty") {
        match content.value.as_str() {
            Some(content) if !is_media_type(content, "jwt") => {}
            _ => return Err(Refused::Nested),
        }
    }
    if let Some(kind) = header.get("typ") {
        match kind.value.as_str() {
            Some(kind) if is_media_type(kind, "jwt") || is_media_type(kind, "at+jwt") => {}
            _ => return Err(Refused::OtherType),
        }
    }
    let key_id = match header.get("kid").map(|kid| &kid.value) {
        None => None,
        Some(Value::Str(id)) => Some(Arc::clone(id)),
        Some(_) => return Err(Refused::KeyIdForm),
    };
    Ok((algorithm_of(header)?, key_id))
}

/// RFC 7515 section 4.1.9: without a slash, `application/` is meant.
fn is_media_type(written: &str, subtype: &str) -> bool {
    let (main, sub) = written.split_once('/').unwrap_or(("application", written));
    main.eq_ignore_ascii_case("application") && sub.eq_ignore_ascii_case(subtype)
}

fn algorithm_of(header: &Value) -> Result<Algorithm, Refused> {
    let alg = header.get("alg").ok_or(Refused::AlgorithmMissing)?.value.as_str().ok_or(Refused::AlgorithmMissing)?;
    if alg.eq_ignore_ascii_case("none") {
        return Err(Refused::AlgorithmNone);
    }
    // With these the "secret" would be the issuer's public key, which everybody has (RFC 8725 section 2.1).
    if alg.starts_with("HS") {
        return Err(Refused::AlgorithmSymmetric);
    }
    let known = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256];
    known.into_iter().find(|algorithm| names(alg, *algorithm)).ok_or(Refused::AlgorithmUnknown)
}

impl<'a> Unverified<'a> {
    /// Checks everything but the signature.
    pub(super) fn candidate(self, against: &Against<'a>) -> Result<Candidate<'a>, Refused> {
        let issuer = against.issuer(claims::issuer(&self.claims)?).ok_or(Refused::IssuerUnknown)?;
        if !issuer.algorithms.contains(&self.algorithm) {
            return Err(Refused::AlgorithmNotOfIssuer);
        }
        let set = against.keys.set(issuer.keys.name()).ok_or_else(|| may_be_new(issuer, Refused::KeysUnavailable))?;
        let key = set.key(self.key_id.as_deref(), self.algorithm).map_err(|refused| may_be_new(issuer, refused))?;
        let proof = claims::check(&self.claims, issuer, against)?;
        Ok(Candidate { token: self, proof, issuer, set, key })
    }
}

/// A key that is not known may be one that its issuer began to use since it was asked.
fn may_be_new(issuer: &Issuer, refused: Refused) -> Refused {
    match (&issuer.keys, refused) {
        (KeySource::Url(url), Refused::KeysUnavailable | Refused::KeyIdUnknown | Refused::NoKey) => {
            Refused::NewKey { keys: Arc::clone(&url.name) }
        }
        (_, refused) => refused,
    }
}

/// Whether a key that verified a token while its set was of generation `since` would be used for that token now.
pub(super) fn still_verifies(key: &KeyUsed, issuer: &Issuer, since: u64, keys: &Keys) -> Result<(), Refused> {
    if !issuer.algorithms.contains(&key.algorithm) {
        return Err(Refused::AlgorithmNotOfIssuer);
    }
    let set = keys.set(issuer.keys.name()).ok_or(Refused::KeysUnavailable)?;
    let is_it = set.generation() == since || set.key(key.id.as_deref(), key.algorithm)?.as_ref() == &*key.bytes;
    if is_it { Ok(()) } else { Err(Refused::Signature) }
}

impl Candidate<'_> {
    /// The costly check.
    pub(super) fn prove(self) -> (Grounds, Outcome) {
        let Unverified { claims, signed, signature, algorithm, key_id } = self.token;
        let key = Rc::new(KeyUsed { id: key_id, algorithm, bytes: self.key.as_ref().into() });
        let grounds = Grounds::Token { issuer: Arc::clone(self.issuer), keys: self.set.generation(), key };
        if self.key.verify_sig(signed.as_bytes(), &signature).is_err() {
            return (grounds, Err(Refused::Signature));
        }
        let Proof { tenant, user, expires, ends_ms } = self.proof;
        let credential = Credential::Token { scope: self.issuer.scope, issuer: self.issuer.issuer.as_str().into(), claims };
        let principal = Principal { user, credential };
        let (expires, forward) = (Some(expires), self.issuer.forward);
        let verified = Verified { tenant, principal, expires, forward, grounds: grounds.clone(), roles: Cell::new(None) };
        (grounds, Ok((verified, Some(ends_ms))))
    }
}
