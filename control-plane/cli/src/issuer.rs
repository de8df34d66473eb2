//! The demo's token issuer: an Ed25519 key of this data directory, made at the first start in dev and of no use elsewhere.
//!
//! Tokens are JWTs (RFC 7519) signed with EdDSA (RFC 8037); the key's id is its thumbprint (RFC 7638), so that a token
//! signed with another directory's key is refused for its `kid` and not for a signature that looks broken.

use crate::exit::Exit;
use crate::fault::Fault;
use crate::files::{self, Readers};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `iss` of its tokens, as the demo's documents name it.
pub(crate) const ISSUER: &str = "https://issuer.bulkhead.localhost";
/// `aud` of its tokens.
pub(crate) const AUDIENCE: &str = "demo";

/// The issuer of one data directory.
pub(crate) struct Issuer {
    key: Ed25519KeyPair,
    kid: String,
}

/// Why there is no issuer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} holds no issuer key: no bulkhead was started there with `--env dev`", .0.display())]
    Absent(PathBuf),
    #[error("cannot read the issuer's key {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the issuer's key {} is no Ed25519 private key in PEM", .0.display())]
    Damaged(PathBuf),
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the system gives no random bytes for a key")]
    NoRandom,
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Absent(_) => Exit::Unavailable,
            Error::Unreadable { source, .. } | Error::Unwritable { source, .. } => Exit::of(source),
            Error::Damaged(_) => Exit::BadData,
            Error::NoRandom => Exit::Io,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Error::Absent(_) => Some("start one with `bulkhead up`, or name another directory with --data-dir".into()),
            Error::Damaged(path) => Some(format!(
                "delete it together with documents/issuer.jwks.json; the next `bulkhead up` makes both anew ({})",
                path.display()
            )),
            Error::Unwritable { .. } => Some("choose a directory you may write to with --data-dir".into()),
            Error::Unreadable { .. } | Error::NoRandom => None,
        }
    }
}

impl Issuer {
    /// Where a data directory keeps the key.
    pub(crate) fn key_path(data_dir: &Path) -> PathBuf {
        data_dir.join("issuer.key.pem")
    }

    /// The issuer of a data directory.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = Self::key_path(data_dir);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(Error::Absent(data_dir.to_owned())),
            Err(cause) if cause.kind() == io::ErrorKind::InvalidData => return Err(Error::Damaged(path)),
            Err(source) => return Err(Error::Unreadable { path, source }),
        };
        let key = from_pem(&pem).and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok());
        key.map(Self::of).ok_or(Error::Damaged(path))
    }

    /// The issuer of a data directory, made if there is none yet.
    pub(crate) fn open_or_make(data_dir: &Path) -> Result<Self, Error> {
        match Self::open(data_dir) {
            Err(Error::Absent(_)) => Self::make(data_dir),
            found => found,
        }
    }

    fn make(data_dir: &Path) -> Result<Self, Error> {
        let key = Ed25519KeyPair::generate().map_err(|_| Error::NoRandom)?;
        // Version 1, which leaves the public key out: older OpenSSL reads no other.
        let der = key.to_pkcs8v1().map_err(|_| Error::NoRandom)?;
        let path = Self::key_path(data_dir);
        files::replace(&path, to_pem(der.as_ref()).as_bytes(), Readers::Owner).map_err(|source| Error::Unwritable { path, source })?;
        Ok(Self::of(key))
    }

    fn of(key: Ed25519KeyPair) -> Self {
        let kid = thumbprint(key.public_key().as_ref());
        Self { key, kid }
    }

    /// Id of its key.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Its key set (RFC 7517), as documents name it.
    pub(crate) fn jwks(&self) -> String {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.key.public_key());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x }] });
        format!("{set:#}\n")
    }

    /// A signed token of these claims.
    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid });
        let encode = |part: &dyn ToString| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&Value::from(claims.clone())));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// RFC 7638: the digest of the key's required members, in lexicographic order and without white space.
fn thumbprint(public: &[u8]) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(public);
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.3 gives the thumbprint of this key.
    #[test]
    fn the_key_id_is_the_thumbprint_of_the_rfc() {
        let public = BASE64_URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_once_made_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Issuer::open(dir.path()), Err(Error::Absent(_))));
        let made = Issuer::open_or_make(dir.path()).unwrap();
        let found = Issuer::open_or_make(dir.path()).unwrap();
        assert_eq!(made.kid(), found.kid());
        assert_eq!(made.jwks(), found.jwks());
    }

    #[test]
    fn a_damaged_key_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = Issuer::key_path(dir.path());
        for damaged in
            [&b""[..], b"-----BEGIN PRIVATE KEY-----", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
        {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(Issuer::open_or_make(dir.path()), Err(Error::Damaged(_))));
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }
}
