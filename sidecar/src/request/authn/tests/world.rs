//! Two tenants, a platform issuer that signs with every algorithm, and an issuer of one tenant's own.

use super::super::{Against, Keys, Memo, Presented, Refused, Strangers, Verified, verify};
use crate::clock::Now;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::declared::read_file;
use bulkhead_config::protocol::{Offer, Put};
use bulkhead_config::snapshot::Snapshot;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

pub(super) const PLATFORM_ISSUER: &str = "https://issuer.test";
pub(super) const ACME_ISSUER: &str = "https://acme.test";
pub(super) const NOW_S: u64 = 1_800_000_000;

pub(super) const PLATFORM: &str = "
kind: Plan
name: free
default: true
api_quota_per_hour: 1000
storage_quota_gb: 1
---
kind: Service
name: demo
shared_hosts: [api.test]
listeners: [{ name: http, address: '127.0.0.1:0' }]
upstreams: [{ name: app, endpoints: ['http://127.0.0.1:9'] }]
routes: [{ name: all, path: '/**' }]
---
kind: Role
name: reader
delegable: true
allow: ['GET /**']
---
kind: RoleBinding
name: readers
role: reader
subjects: [{ claim: { roles: reader } }]
---
kind: Identity
name: platform
jwt:
  - issuer: https://issuer.test
    audiences: [demo, other]
    algorithms: [EdDSA, ES256, RS256, PS256]
    jwks: { file: platform.jwks }
    tenant_claim: tenant
    leeway: 60s
    forward: true
api_key_header: x-api-key
";

/// Documents of `acme` and `globex`; `acme` has an issuer of its own and API keys.
pub(super) fn tenants() -> String {
    let mut text = "
kind: Tenant
tenant_id: acme
name: Acme
email: a@acme.test
hosts: [acme.test]
---
kind: Tenant
tenant_id: globex
name: Globex
email: a@globex.test
hosts: [globex.test]
---
kind: Identity
tenant: acme
name: own
jwt:
  - { issuer: https://acme.test, audiences: [demo], algorithms: [EdDSA], jwks: { file: acme.jwks } }
api_keys:
"
    .to_owned();
    for (id, expires) in [("ci", None), ("old", Some("2020-01-01T00:00:00Z")), ("short", Some("2027-01-15T09:00:00Z"))] {
        let hash: String = digest(&SHA256, api_key("acme", id).as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        let expires = expires.map(|when| format!(", expires: {when}")).unwrap_or_default();
        writeln!(text, "  - {{ id: {id}, sha256: {hash}{expires} }}").unwrap();
    }
    text
}

/// The text of a key: its secret is 32 times the same byte.
pub(super) fn api_key(tenant: &str, id: &str) -> String {
    format!("bk1.{tenant}.{id}.{}", BASE64_URL_SAFE_NO_PAD.encode([7; 32]))
}

/// Keys of every kind, made once.
pub(super) struct Signer {
    pub(super) ed25519: Ed25519KeyPair,
    pub(super) p256: EcdsaKeyPair,
    pub(super) rsa: RsaKeyPair,
}

pub(super) static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer {
    ed25519: Ed25519KeyPair::generate().unwrap(),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
});
/// Another issuer's.
pub(super) static OTHER_SIGNER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// The signature of an algorithm by name.
    pub(super) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let by_rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, message, &mut signature).unwrap();
            signature
        };
        match alg {
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "RS256" => by_rsa(&RSA_PKCS1_SHA256),
            "PS256" => by_rsa(&RSA_PSS_SHA256),
            _ => self.ed25519.sign(message).as_ref().to_vec(),
        }
    }

    /// The public keys, one of each type.
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": [ed25519_jwk("ed", &self.ed25519), self.p256_jwk(), self.rsa_jwk()] })
    }

    pub(super) fn p256_jwk(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": encode(&point[1..33]), "y": encode(&point[33..]) })
    }

    pub(super) fn rsa_jwk(&self) -> Value {
        let (n, e) = rsa_numbers(self.rsa.public_key().as_ref());
        json!({ "kty": "RSA", "kid": "rsa", "n": encode(n), "e": encode(e) })
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn value(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            0x81 => (usize::from(der[2]), 3),
            _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
        };
        der[start..].split_at(length)
    }
    let (numbers, _) = value(der);
    let (n, rest) = value(numbers);
    let (e, _) = value(rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

pub(super) fn ed25519_jwk(id: &str, key: &Ed25519KeyPair) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": encode(key.public_key()) })
}

/// The private half, as nobody may publish it.
pub(super) fn private_jwk(id: &str, key: &Ed25519KeyPair) -> Value {
    let mut jwk = ed25519_jwk(id, key);
    jwk["d"] = encode(key.seed().unwrap().as_be_bytes().unwrap().as_ref()).into();
    jwk
}

/// A token in the making: right in everything until it is changed.
pub(super) struct Token {
    pub(super) header: Value,
    pub(super) claims: Value,
}

impl Token {
    pub(super) fn of(tenant: &str, user: &str) -> Self {
        Self {
            header: json!({ "alg": "EdDSA", "kid": "ed", "typ": "JWT" }),
            claims: json!({
                "iss": PLATFORM_ISSUER, "aud": "demo", "sub": user, "tenant": tenant, "roles": ["reader"],
                "iat": NOW_S, "exp": NOW_S + 600,
            }),
        }
    }

    pub(super) fn signed(&self) -> String {
        sign(&self.header.to_string(), &self.claims.to_string())
    }
}

/// A token of these very texts, signed by the algorithm that the header names, EdDSA if by none of ours.
pub(super) fn sign(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let alg = ["ES256", "RS256", "PS256"].into_iter().find(|alg| header.contains(alg)).unwrap_or("EdDSA");
    format!("{signed}.{}", encode(SIGNER.sign(alg, signed.as_bytes())))
}

/// A policy, and one worker that verifies by it.
pub(super) struct World {
    catalogue: Catalogue,
    pub(super) snapshot: Arc<Snapshot>,
    files: HashMap<Arc<str>, Arc<[u8]>>,
    pub(super) keys: Keys,
    pub(super) memo: Memo,
    pub(super) strangers: Strangers,
    pub(super) source: IpAddr,
    pub(super) now: Now,
}

impl World {
    pub(super) fn start() -> Self {
        let catalogue = Catalogue::new();
        let mut world = Self {
            snapshot: Arc::clone(catalogue.snapshot()),
            catalogue,
            files: HashMap::new(),
            keys: Keys::default(),
            memo: Memo::new(),
            strangers: Strangers::new(),
            source: [192, 0, 2, 1].into(),
            now: Now { mono_ns: 0, unix_ms: NOW_S * 1_000 },
        };
        world.apply(&format!("{PLATFORM}---{}", tenants()));
        world.publish("platform.jwks", &SIGNER.jwks());
        world.publish("acme.jwks", &json!({ "keys": [ed25519_jwk("own", &OTHER_SIGNER)] }));
        world
    }

    /// Adds or changes documents.
    pub(super) fn apply(&mut self, documents: &str) {
        let file = read_file("policy.yaml", documents);
        assert!(file.diagnostics.is_empty(), "{}", file.diagnostics);
        let put = file.documents.into_iter().map(|document| Put { document, text: "".into() }).collect();
        let outcome = self.catalogue.apply(&Offer { put, ..Offer::default() });
        assert_eq!(outcome.quarantined, []);
        self.snapshot = outcome.snapshot;
    }

    /// Puts a key set in place of the one of that name.
    pub(super) fn publish(&mut self, file: &str, jwks: &Value) {
        self.files.insert(file.into(), jwks.to_string().into_bytes().into());
        let (keys, findings) = Keys::load(&self.files, Some(&self.keys));
        assert_eq!(findings, []);
        self.keys = keys;
    }

    /// Takes a key set away.
    pub(super) fn withdraw(&mut self, file: &str) {
        self.files.remove(file);
        self.keys = Keys::load(&self.files, Some(&self.keys)).0;
    }

    pub(super) fn later(&mut self, ms: u64) {
        self.now = Now { mono_ns: self.now.mono_ns + ms * 1_000_000, unix_ms: self.now.unix_ms + ms };
    }

    /// What a credential proves on the host of a tenant, or on a shared one.
    pub(super) fn present(&mut self, named: Option<&str>, presented: Presented<'_>) -> Result<Rc<Verified>, Refused> {
        let against = Against {
            snapshot: &self.snapshot,
            keys: &self.keys,
            named: named.map(|tenant| &**self.snapshot.tenant(tenant).unwrap()),
            source: self.source,
            now: self.now,
        };
        verify(&mut self.memo, &self.strangers, &against, presented)
    }

    /// Whether what was proved to a tenant would be proved again.
    pub(super) fn stands(&self, verified: &Verified) -> Result<(), Refused> {
        let named = self.snapshot.tenant(verified.tenant().as_str()).map(|slice| &**slice);
        verified.stands(&Against { snapshot: &self.snapshot, keys: &self.keys, named, source: self.source, now: self.now })
    }

    pub(super) fn token(&mut self, named: &str, token: &str) -> Result<Rc<Verified>, Refused> {
        self.present(Some(named), Presented::Bearer(token.as_bytes()))
    }

    pub(super) fn api_key(&mut self, named: &str, text: &str) -> Result<Rc<Verified>, Refused> {
        self.present(Some(named), Presented::ApiKey(text.as_bytes()))
    }
}
