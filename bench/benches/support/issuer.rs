//! An issuer of tokens with a key of its own, as a key set names it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_sidecar::request::authn::Keys;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// The file that documents name for the issuer's keys.
pub(crate) const KEYS_FILE: &str = "issuer.jwks.json";

/// Signs tokens of issuer `bench` with Ed25519.
pub(crate) struct Issuer(Ed25519KeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    /// Its key set, loaded.
    pub(crate) fn keys(&self) -> Keys {
        let public = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"k1","x":"{public}"}}]}}"#);
        let files = HashMap::from([(Arc::from(KEYS_FILE), Arc::from(jwks.as_bytes()))]);
        let (keys, findings) = Keys::load(&files, None);
        assert!(findings.is_empty(), "{findings:?}");
        keys
    }

    /// A token of tenant `acme_corp` with the claims that issuers usually put into one.
    pub(crate) fn token(&self, user: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"JWT","kid":"k1"}"#);
        let claims = json!({
            "iss": "bench", "aud": ["demo"], "sub": user, "tenant": "acme_corp", "roles": ["reader", "editor"],
            "iat": 1_700_000_000, "exp": 4_102_444_800_u64, "jti": "0f8fad5b-d9cb-469f-a165-70867728950e",
            "scope": "items:read items:write", "email": format!("{user}@acme.example"), "name": "Somebody of ACME",
        });
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
