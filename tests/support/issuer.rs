//! An issuer of tokens: real keys of every algorithm, their JWKS, and tokens good and bad.

use aws_lc_rs::encoding::EcPublicKeyUncompressedBin;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

/// What a token is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
    Ps256,
}

/// Keys of one issuer.
pub struct Issuer {
    iss: String,
    /// Ends the ids of its keys.
    generation: String,
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    /// Fresh keys for the issuer of that name.
    pub fn new(iss: &str) -> Self {
        Self::of_generation(iss, "")
    }

    /// The same issuer with other keys, of other ids.
    pub fn rotated(&self) -> Self {
        Self::of_generation(&self.iss, &format!("{}-next", self.generation))
    }

    fn of_generation(iss: &str, generation: &str) -> Self {
        Self {
            iss: iss.to_owned(),
            generation: generation.to_owned(),
            ed: Ed25519KeyPair::generate().expect("a key"),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
        }
    }

    /// The demo's issuer.
    pub fn demo() -> Self {
        Self::new("https://issuer.bulkhead.localhost")
    }

    /// Its public keys.
    pub fn jwks(&self) -> String {
        Self::jwks_of(&[self])
    }

    /// The public keys of several, in one set.
    pub fn jwks_of(issuers: &[&Issuer]) -> String {
        json!({ "keys": issuers.iter().flat_map(|issuer| issuer.keys()).collect::<Vec<_>>() }).to_string()
    }

    fn keys(&self) -> [Value; 3] {
        let point: EcPublicKeyUncompressedBin<'_> = aws_lc_rs::encoding::AsBigEndian::as_be_bytes(self.ec.public_key()).expect("a point");
        let (x, y) = point.as_ref()[1..].split_at(32);
        let rsa = self.rsa.public_key();
        let big = |bytes: &[u8]| BASE64URL.encode(bytes);
        [
            json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid("ed"),
                   "x": BASE64URL.encode(self.ed.public_key())}),
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid("ec"), "x": big(x), "y": big(y)}),
            json!({"kty": "RSA", "use": "sig", "kid": self.kid("rsa"), "n": big(rsa.modulus().big_endian_without_leading_zero()),
                   "e": big(rsa.exponent().big_endian_without_leading_zero())}),
        ]
    }

    fn kid(&self, name: &str) -> String {
        format!("{name}{}", self.generation)
    }

    /// Claims of a good token: five minutes of life, audience `demo`.
    pub fn claims(&self, tenant: &str, roles: &[&str]) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({"iss": self.iss, "aud": "demo", "sub": "user-1", "tenant": tenant, "roles": roles, "iat": now, "exp": now + 300})
    }

    /// A good EdDSA token.
    pub fn token(&self, tenant: &str, roles: &[&str]) -> String {
        self.sign(Algorithm::EdDsa, &self.claims(tenant, roles))
    }

    /// A token with these claims.
    pub fn sign(&self, algorithm: Algorithm, claims: &Value) -> String {
        let (alg, kid) = match algorithm {
            Algorithm::EdDsa => ("EdDSA", "ed"),
            Algorithm::Es256 => ("ES256", "ec"),
            Algorithm::Rs256 => ("RS256", "rsa"),
            Algorithm::Ps256 => ("PS256", "rsa"),
        };
        self.sign_with(algorithm, &json!({"alg": alg, "typ": "JWT", "kid": self.kid(kid)}).to_string(), &claims.to_string())
    }

    /// A token with this header and these claims, byte for byte.
    pub fn sign_with(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let random = SystemRandom::new();
        let signature = match algorithm {
            Algorithm::EdDsa => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
            Algorithm::Es256 => self.ec.sign(&random, message.as_bytes()).expect("a signature").as_ref().to_vec(),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if algorithm == Algorithm::Rs256 { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
                self.rsa.sign(padding, &random, message.as_bytes(), &mut signature).expect("a signature");
                signature
            }
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }
}
