//! An issuer of one's own: makes a token for each tenant, as `bulkhead token` does, without a process for each.

use super::options::Options;
use crate::sidecar::unusable;
use crate::versus::step::Error;
use bulkhead_issuer::{AUDIENCE, Claims, ISSUER, Key, replace};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tokens hold this much longer than the run.
const SPARE: Duration = Duration::from_secs(3_600);
/// Runs of a search, at the most.
const RUNS_MAX: u32 = 40;

/// A key, and what its tokens say.
pub(super) struct Issuer {
    key: Key,
    /// `{tenant}` in them is the tenant's name.
    claims: Claims,
}

impl Issuer {
    pub(super) fn of(options: &Options, file: &Path) -> Result<Self, Error> {
        let pem = std::fs::read(file).map_err(unusable(file.display()))?;
        let none = || Error::Unusable { what: file.display().to_string(), why: "it is no Ed25519 private key in PEM (PKCS #8)".to_owned() };
        let key = Key::from_pem(&String::from_utf8_lossy(&pem)).ok_or_else(none)?;
        let runs = if options.find_max { RUNS_MAX } else { 1 };
        let valid = SPARE + (options.warm_up + options.duration) * runs;
        Ok(Self { key, claims: claims(&options.role, options.claims.as_ref(), SystemTime::now(), valid) })
    }

    /// A token of this tenant.
    pub(super) fn token(&self, tenant: &str) -> String {
        self.key.sign(&self.claims_of(tenant))
    }

    fn claims_of(&self, tenant: &str) -> Claims {
        self.claims.iter().map(|(name, value)| (name.clone(), filled(value, tenant))).collect()
    }
}

fn claims(roles: &[String], more: Option<&Claims>, now: SystemTime, valid: Duration) -> Claims {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (at, until) = (now.as_secs(), (now + valid).as_secs());
    let said = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "load", "iat": at, "exp": until, "tenant": "{tenant}", "roles": roles });
    let mut claims = said.as_object().cloned().unwrap_or_default();
    if let Some(more) = more {
        replace(&mut claims, more);
    }
    claims
}

fn filled(value: &Value, tenant: &str) -> Value {
    match value {
        Value::String(text) => text.replace("{tenant}", tenant).into(),
        Value::Array(values) => values.iter().map(|value| filled(value, tenant)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), filled(value, tenant))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_is_of_its_tenant() {
        let more = json!({ "sub": "user of {tenant}", "aud": null, "groups": ["{tenant}/a"] });
        let claims = claims(&["reader".to_owned()], more.as_object(), UNIX_EPOCH + Duration::from_secs(1_000), Duration::from_secs(60));
        let issuer = Issuer { key: Key::generate().unwrap().0, claims };
        let expected = json!({
            "iss": ISSUER, "sub": "user of acme", "iat": 1_000, "exp": 1_060, "tenant": "acme", "roles": ["reader"], "groups": ["acme/a"],
        });
        assert_eq!(Value::from(issuer.claims_of("acme")), expected);
    }
}
