//! Keys of issuers: JWK Sets (RFC 7517) read once per change, each key prepared for its algorithms.
//!
//! Cost: per change of a key set; per token that is not remembered, a look through its issuer's keys.
//! A set is refused as a whole, and its last good version stays, when trusting the rest would be a guess: no JSON, two keys of
//! one id, or a secret that lies where only public keys belong. A key that is of no use to us is left out and named: a
//! provider publishes keys for others too, and none of them must take ours away.

use super::refused::Refused;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::snapshot::Algorithm;
use bulkhead_config::text::{Budget, Node, Value, json};
use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a set may cost to read: certificates beside the keys make them long.
const BUDGET: Budget = Budget { bytes: 1 << 20, depth: 8, nodes: 20_000 };
/// More keys than any issuer has in use.
const KEYS_MAX: usize = 100;

/// The key sets of all issuers, by the name of their file.
#[derive(Debug, Default)]
pub struct Keys {
    /// Differs from every other `Keys` of this process.
    stamp: u64,
    sets: HashMap<Arc<str>, Arc<KeySet>, foldhash::fast::RandomState>,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct KeySet {
    /// Differs from every other set of this process: what was verified with one is good while it stays.
    generation: u64,
    written: Arc<[u8]>,
    keys: Vec<Key>,
    left_out: Vec<KeyFinding>,
}

#[derive(Debug)]
struct Key {
    id: Option<Arc<str>>,
    /// Prepared for each algorithm that it may be used with.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

/// What is wrong with a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFinding {
    /// The file.
    pub file: Arc<str>,
    /// Which of its keys, the first is 0; `None`: the whole set.
    pub key: Option<usize>,
    /// What.
    pub fault: KeyFault,
}

/// What is wrong with a key or a set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No JSON, or a member twice.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// No object with a list `keys`.
    #[error("it is no JWK Set: an object with a list `keys` (RFC 7517 section 5)")]
    NotASet,
    /// More than `KEYS_MAX`.
    #[error("it has {0} keys, more than the {KEYS_MAX} allowed")]
    TooMany(usize),
    /// A private or symmetric key.
    #[error("a {0} key lies in it; whoever read this file can make tokens. Replace the key at its issuer and publish public keys only")]
    Secret(&'static str),
    /// A key id twice.
    #[error("key id `{0}` stands twice; give every key an id of its own")]
    SameId(Arc<str>),
    /// No object, or `kid`, `kty`, `use`, `alg` or `key_ops` of another form than RFC 7517 gives them.
    #[error("`{0}` is not what RFC 7517 makes it")]
    Form(&'static str),
    /// A type, curve or algorithm that no token here is signed with.
    #[error("{0} is not used here; EdDSA (OKP, Ed25519), ES256 (EC, P-256), RS256 and PS256 (RSA) are")]
    NotUsed(String),
    /// A key for something else than signatures.
    #[error("it is not for verifying signatures (`use`, `key_ops`)")]
    OtherUse,
    /// A short RSA key.
    #[error("an RSA key of {0} bits; 2048 to 8192 are accepted")]
    Bits(usize),
    /// Numbers that are no key.
    #[error("its numbers are no {0} public key: each in base64url without padding, at its exact length")]
    Numbers(&'static str),
}

impl fmt::Display for KeyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write!(f, "{}: key {key} is left out: {}", self.file, self.fault),
            None => write!(f, "{}: the key set is not taken over: {}", self.file, self.fault),
        }
    }
}

/// Names what stays the same across policies.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Keys {
    /// Reads key sets. One whose text is that of `previous` is that one; one that cannot be read is its last good version, and
    /// without one its issuer's tokens get 503 `keys_unavailable`. A name that is not among `files` is gone.
    pub fn load<S: BuildHasher>(files: &HashMap<Arc<str>, Arc<[u8]>, S>, previous: Option<&Keys>) -> (Keys, Vec<KeyFinding>) {
        let mut findings = Vec::new();
        let mut sets = HashMap::default();
        for (file, written) in files {
            let before = previous.and_then(|keys| keys.sets.get(file));
            let set = match before {
                Some(set) if set.written == *written => Some(Arc::clone(set)),
                _ => match KeySet::read(file, written) {
                    Ok(set) => Some(Arc::new(set)),
                    Err(fault) => {
                        findings.push(KeyFinding { file: Arc::clone(file), key: None, fault });
                        before.map(Arc::clone)
                    }
                },
            };
            // Also of a set that is the same as before: they hold for as long as it does.
            findings.extend(set.iter().flat_map(|set| set.left_out.iter().cloned()));
            sets.extend(set.map(|set| (Arc::clone(file), set)));
        }
        // The order of a map is chance; what is reported must not be.
        findings.sort_by(|a, b| (&a.file, a.key).cmp(&(&b.file, b.key)));
        (Keys { stamp: NEXT.fetch_add(1, Ordering::Relaxed), sets }, findings)
    }

    /// Whether a set can be read; a key in it that is left out is no reason against it.
    ///
    /// # Errors
    /// What is wrong with it as a whole.
    pub(crate) fn check(written: &Arc<[u8]>) -> Result<(), KeyFault> {
        KeySet::read(&"".into(), written).map(drop)
    }

    /// The keys of an issuer, by the name that its declaration gives them.
    pub(super) fn set(&self, name: &str) -> Option<&Arc<KeySet>> {
        self.sets.get(name)
    }

    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }
}

impl KeySet {
    fn read(file: &Arc<str>, written: &Arc<[u8]>) -> Result<Self, KeyFault> {
        let set = json::read(written, BUDGET).map_err(|mistake| KeyFault::Json(mistake.to_string()))?;
        let Some(Value::List(members)) = set.value.get("keys").map(|keys| &keys.value) else { return Err(KeyFault::NotASet) };
        if members.len() > KEYS_MAX {
            return Err(KeyFault::TooMany(members.len()));
        }
        let (mut keys, mut left_out): (Vec<Key>, Vec<KeyFinding>) = (Vec::new(), Vec::new());
        for (place, member) in members.iter().enumerate() {
            refuse_secret(&member.value)?;
            match Key::read(&member.value) {
                Ok(key) => keys.push(key),
                Err(fault) => left_out.push(KeyFinding { file: Arc::clone(file), key: Some(place), fault }),
            }
        }
        refuse_same_ids(members)?;
        Ok(Self { generation: NEXT.fetch_add(1, Ordering::Relaxed), written: Arc::clone(written), keys, left_out })
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The key for a token. `id` is opaque: it is compared, never used as a path or a query (RFC 8725 section 3.10).
    pub(super) fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&ParsedPublicKey, Refused> {
        let Some(id) = id else {
            let mut fitting = self.keys.iter().filter_map(|key| key.verifier(algorithm));
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(Refused::NoKey),
                (Some(_), Some(_)) => Err(Refused::KeyIdMissing),
            };
        };
        let key = self.keys.iter().find(|key| key.id.as_deref() == Some(id)).ok_or(Refused::KeyIdUnknown)?;
        key.verifier(algorithm).ok_or(Refused::KeyUnfit)
    }
}

/// RFC 7518 section 6: `d` is the secret of EC, OKP and RSA keys, `k` the whole of a symmetric one.
fn refuse_secret(key: &Value) -> Result<(), KeyFault> {
    let type_is_oct = key.get("kty").and_then(|kty| kty.value.as_str()) == Some("oct");
    if type_is_oct || key.get("k").is_some() {
        return Err(KeyFault::Secret("symmetric"));
    }
    match ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().find(|name| key.get(name).is_some()) {
        Some(_) => Err(KeyFault::Secret("private")),
        None => Ok(()),
    }
}

fn refuse_same_ids(keys: &[Node]) -> Result<(), KeyFault> {
    let ids = keys.iter().filter_map(|key| match key.value.get("kid").map(|kid| &kid.value) {
        Some(Value::Str(id)) => Some(id),
        _ => None,
    });
    let mut seen = Vec::new();
    for id in ids {
        if seen.contains(&id) {
            return Err(KeyFault::SameId(Arc::clone(id)));
        }
        seen.push(id);
    }
    Ok(())
}

impl Key {
    fn read(member: &Value) -> Result<Self, KeyFault> {
        if !matches!(member, Value::Map(_)) {
            return Err(KeyFault::Form("keys"));
        }
        let id = match member.get("kid").map(|kid| &kid.value) {
            None => None,
            Some(Value::Str(id)) => Some(Arc::clone(id)),
            Some(_) => return Err(KeyFault::Form("kid")),
        };
        is_for_verifying(member)?;
        let kty = text(member, "kty")?.ok_or(KeyFault::Form("kty"))?;
        let alg = text(member, "alg")?;
        let verifiers = match kty {
            "OKP" => vec![(Algorithm::EdDsa, ed25519(member)?)],
            "EC" => vec![(Algorithm::Es256, p256(member)?)],
            "RSA" => rsa(member)?,
            other => return Err(KeyFault::NotUsed(format!("key type `{}`", other.escape_debug()))),
        };
        let verifiers: Vec<_> = verifiers.into_iter().filter(|(algorithm, _)| alg.is_none_or(|alg| names(alg, *algorithm))).collect();
        match (verifiers.is_empty(), alg) {
            (true, Some(alg)) => Err(KeyFault::NotUsed(format!("algorithm `{}` with key type `{kty}`", alg.escape_debug()))),
            _ => Ok(Self { id, verifiers }),
        }
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.verifiers.iter().find(|(fits, _)| *fits == algorithm).map(|(_, key)| key)
    }
}

/// Whether a name of RFC 7518, RFC 8037 or RFC 9864 means this algorithm.
pub(super) fn names(alg: &str, algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::EdDsa => matches!(alg, "EdDSA" | "Ed25519"),
        Algorithm::Es256 => alg == "ES256",
        Algorithm::Rs256 => alg == "RS256",
        Algorithm::Ps256 => alg == "PS256",
    }
}

fn is_for_verifying(member: &Value) -> Result<(), KeyFault> {
    if text(member, "use")?.is_some_and(|of| of != "sig") {
        return Err(KeyFault::OtherUse);
    }
    match member.get("key_ops").map(|operations| &operations.value) {
        None => Ok(()),
        Some(Value::List(operations)) if operations.iter().any(|item| item.value.as_str() == Some("verify")) => Ok(()),
        Some(Value::List(_)) => Err(KeyFault::OtherUse),
        Some(_) => Err(KeyFault::Form("key_ops")),
    }
}

fn text<'a>(member: &'a Value, name: &'static str) -> Result<Option<&'a str>, KeyFault> {
    match member.get(name) {
        None => Ok(None),
        Some(node) => node.value.as_str().map(Some).ok_or(KeyFault::Form(name)),
    }
}

/// A number of a key; `length` is what RFC 7518 or RFC 8037 prescribes.
fn number(member: &Value, name: &'static str, of: &'static str, length: Option<usize>) -> Result<Vec<u8>, KeyFault> {
    let written = text(member, name)?.ok_or(KeyFault::Numbers(of))?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(written).map_err(|_| KeyFault::Numbers(of))?;
    if length.is_some_and(|length| bytes.len() != length) {
        return Err(KeyFault::Numbers(of));
    }
    Ok(bytes)
}

fn curve(member: &Value, wanted: &'static str) -> Result<(), KeyFault> {
    match text(member, "crv")? {
        Some(crv) if crv == wanted => Ok(()),
        Some(other) => Err(KeyFault::NotUsed(format!("curve `{}`", other.escape_debug()))),
        None => Err(KeyFault::Form("crv")),
    }
}

fn ed25519(member: &Value) -> Result<ParsedPublicKey, KeyFault> {
    curve(member, "Ed25519")?;
    let x = number(member, "x", "Ed25519", Some(32))?;
    ParsedPublicKey::new(&ED25519, x).map_err(|_| KeyFault::Numbers("Ed25519"))
}

fn p256(member: &Value) -> Result<ParsedPublicKey, KeyFault> {
    curve(member, "P-256")?;
    let x = number(member, "x", "P-256", Some(32))?;
    let y = number(member, "y", "P-256", Some(32))?;
    // An uncompressed point (SEC 1 section 2.3.3); whether it lies on the curve is checked below.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyFault::Numbers("P-256"))
}

fn rsa(member: &Value) -> Result<Vec<(Algorithm, ParsedPublicKey)>, KeyFault> {
    let n = number(member, "n", "RSA", None)?;
    let e = number(member, "e", "RSA", None)?;
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(2_048..=8_192).contains(&bits) {
        return Err(KeyFault::Bits(bits));
    }
    // An even exponent or 1 is no RSA key; a long one only makes verification slow.
    let is_sound = e.last().is_some_and(|last| last % 2 == 1) && e != [1] && e.len() <= 4;
    if !is_sound {
        return Err(KeyFault::Numbers("RSA"));
    }
    let prepare = |parameters: &'static RsaParameters| {
        RsaPublicKeyComponents { n: &n, e: &e }.to_parsed_public_key(parameters).map_err(|_| KeyFault::Numbers("RSA"))
    };
    Ok(vec![(Algorithm::Rs256, prepare(&RSA_PKCS1_2048_8192_SHA256)?), (Algorithm::Ps256, prepare(&RSA_PSS_2048_8192_SHA256)?)])
}
