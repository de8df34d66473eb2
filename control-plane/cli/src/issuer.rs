//! The demo's token issuer of a data directory: its key is made at the first start in dev and of no use elsewhere.

use crate::exit::Exit;
use crate::fault::Fault;
use crate::files::{self, Readers};
use bulkhead_issuer::{Claims, Key};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The issuer of one data directory.
pub(crate) struct Issuer {
    key: Key,
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
        Key::from_pem(&pem).map(|key| Self { key }).ok_or(Error::Damaged(path))
    }

    /// The issuer of a data directory, made if there is none yet.
    pub(crate) fn open_or_make(data_dir: &Path) -> Result<Self, Error> {
        match Self::open(data_dir) {
            Err(Error::Absent(_)) => Self::make(data_dir),
            found => found,
        }
    }

    fn make(data_dir: &Path) -> Result<Self, Error> {
        let (key, pem) = Key::generate().ok_or(Error::NoRandom)?;
        let path = Self::key_path(data_dir);
        files::replace(&path, pem.as_bytes(), Readers::Owner).map_err(|source| Error::Unwritable { path, source })?;
        Ok(Self { key })
    }

    /// Id of its key.
    pub(crate) fn kid(&self) -> &str {
        self.key.kid()
    }

    /// Its key set (RFC 7517), as documents name it.
    pub(crate) fn jwks(&self) -> String {
        self.key.jwks()
    }

    /// A signed token of these claims.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        self.key.sign(claims)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

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
