//! An issuer of one's own: makes a token for each tenant, as `bulkhead token` does, without a process for each.

use super::options::Options;
use crate::sidecar::unusable;
use crate::versus::step::Error;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `iss` and `aud`, as the demo's documents name them; `--claims` has others.
const ISSUER: &str = "https://issuer.bulkhead.localhost";
const AUDIENCE: &str = "demo";
/// Tokens hold this much longer than the run.
const SPARE: Duration = Duration::from_secs(3_600);
/// Runs of a search, at the most.
const RUNS_MAX: u32 = 40;

/// An Ed25519 key, and what its tokens say.
pub(super) struct Issuer {
    key: Ed25519KeyPair,
    head: String,
    /// `{tenant}` in them is the tenant's name.
    claims: Map<String, Value>,
}

impl Issuer {
    pub(super) fn of(options: &Options, file: &Path) -> Result<Self, Error> {
        let pem = std::fs::read(file).map_err(unusable(file.display()))?;
        let damaged =
            || Error::Unusable { what: file.display().to_string(), why: "it is no Ed25519 private key in PEM (PKCS #8)".to_owned() };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| damaged())?;
        let key = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| damaged())?;
        let runs = if options.find_max { RUNS_MAX } else { 1 };
        let valid = SPARE + (options.warm_up + options.duration) * runs;
        Ok(Self::with(key, claims(&options.role, options.claims.as_ref(), SystemTime::now(), valid)))
    }

    fn with(key: Ed25519KeyPair, claims: Map<String, Value>) -> Self {
        let head = json!({ "alg": "EdDSA", "typ": "JWT", "kid": thumbprint(key.public_key().as_ref()) });
        Self { key, head: encoded(&head), claims }
    }

    /// A token of this tenant.
    pub(super) fn token(&self, tenant: &str) -> String {
        let claims: Map<_, _> = self.claims.iter().map(|(name, value)| (name.clone(), filled(value, tenant))).collect();
        let signed = format!("{}.{}", self.head, encoded(&claims.into()));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn claims(roles: &[String], more: Option<&Map<String, Value>>, now: SystemTime, valid: Duration) -> Map<String, Value> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (at, until) = (now.as_secs(), (now + valid).as_secs());
    let said = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "load", "iat": at, "exp": until, "tenant": "{tenant}", "roles": roles });
    let mut claims = said.as_object().cloned().unwrap_or_default();
    for (name, value) in more.into_iter().flatten() {
        match value {
            Value::Null => claims.remove(name),
            value => claims.insert(name.clone(), value.clone()),
        };
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

fn encoded(part: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part.to_string())
}

/// RFC 7638: the digest of the key's required members, in lexicographic order and without white space.
fn thumbprint(public: &[u8]) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(public);
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    /// RFC 8037 appendix A.3 gives the thumbprint of this key.
    #[test]
    fn the_key_id_is_the_thumbprint_of_the_rfc() {
        let public = BASE64_URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_token_is_signed_and_of_its_tenant() {
        let key = Ed25519KeyPair::generate().unwrap();
        let public = UnparsedPublicKey::new(&ED25519, key.public_key().as_ref().to_vec());
        let more = json!({ "sub": "user of {tenant}", "aud": null, "groups": ["{tenant}/a"] });
        let claims = claims(&["reader".to_owned()], more.as_object(), UNIX_EPOCH + Duration::from_secs(1_000), Duration::from_secs(60));
        let token = Issuer::with(key, claims).token("acme");
        let parts: Vec<&str> = token.split('.').collect();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        public.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).unwrap();
        let said: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        let expected = json!({
            "iss": ISSUER, "sub": "user of acme", "iat": 1_000, "exp": 1_060, "tenant": "acme", "roles": ["reader"], "groups": ["acme/a"],
        });
        assert_eq!(said, expected);
    }
}
