//! The key: made, written and read as PEM, published as a key set, signing.

use crate::Claims;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// An Ed25519 key with its id.
#[derive(Debug)]
pub struct Key {
    pair: Ed25519KeyPair,
    kid: String,
}

impl Key {
    /// A new key and its text in PEM; none where the system gives no random bytes.
    pub fn generate() -> Option<(Self, String)> {
        let pair = Ed25519KeyPair::generate().ok()?;
        // Version 1, which leaves the public key out: older OpenSSL reads no other.
        let der = pair.to_pkcs8v1().ok()?;
        let pem = to_pem(der.as_ref());
        Some((Self::of(pair), pem))
    }

    /// The key of this text, if it is an Ed25519 private key in PEM (PKCS #8).
    pub fn from_pem(pem: &str) -> Option<Self> {
        from_pem(pem).and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok()).map(Self::of)
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let kid = thumbprint(pair.public_key().as_ref());
        Self { pair, kid }
    }

    /// Its id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its key set (RFC 7517), as documents name it.
    pub fn jwks(&self) -> String {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x }] });
        format!("{set:#}\n")
    }

    /// A signed token of these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid });
        let encode = |part: &dyn ToString| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&Value::from(claims.clone())));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// RFC 7638: the digest of the key's required members, in lexicographic order and without white space.
fn thumbprint(public: &[u8]) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(public);
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

/// One line of base64 is enough for the 48 bytes of an Ed25519 key (RFC 7468 breaks at 64 characters).
fn to_pem(der: &[u8]) -> String {
    format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", BASE64_STANDARD.encode(der))
}

fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(PEM_BEGIN)?;
    let (body, _) = rest.split_once(PEM_END)?;
    let packed: String = body.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(packed).ok()
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
    fn a_key_read_again_is_the_same() {
        let (made, pem) = Key::generate().unwrap();
        let read = Key::from_pem(&format!("a note before it\n{pem}")).unwrap();
        assert_eq!((made.kid(), made.jwks()), (read.kid(), read.jwks()));
    }

    #[test]
    fn what_is_no_key_is_none() {
        for damaged in ["", PEM_BEGIN, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(Key::from_pem(damaged).is_none(), "{damaged}");
        }
    }

    #[test]
    fn a_token_says_its_claims_and_the_published_key_verifies_it() {
        let (key, _) = Key::generate().unwrap();
        let token = key.sign(json!({ "sub": "alice" }).as_object().unwrap());
        let set: Value = serde_json::from_str(&key.jwks()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (head, claims) = signed.split_once('.').unwrap();
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, decoded(set["keys"][0]["x"].as_str().unwrap()));
        public.verify(signed.as_bytes(), &decoded(signature)).unwrap();
        assert_eq!(decoded(claims), br#"{"sub":"alice"}"#);
        let head: Value = serde_json::from_slice(&decoded(head)).unwrap();
        assert_eq!((&head["kid"], &head["alg"]), (&set["keys"][0]["kid"], &json!("EdDSA")));
    }
}
