//! Identity of this sidecar towards its control plane: key, certificate, and whom it trusts, in `DIR/identity`.
//!
//! Files are of this user alone. They are read when a connection begins: a renewed certificate counts from the next one on, and no
//! connection is dropped for it.

use super::ControlPlane;
use super::kept::write_private;
use crate::tls::validity::Validity;
use ::aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_config::seal::{Fingerprint, Signature};
use bulkhead_config::wire::message::EnrolResponse;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it is kept, or how to get it.
#[derive(Debug)]
pub(super) struct Identity {
    folder: PathBuf,
    trust_bundle: Option<PathBuf>,
    pub(super) join_token: Option<String>,
}

/// What a connection is made with.
pub(super) struct Credentials {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) signers: Signers,
    /// Seconds since 1970-01-01 UTC from which on it is to be renewed.
    pub(super) renew_from: i64,
}

/// Keys that sign offers.
#[derive(Debug, Clone)]
pub(super) struct Signers(Vec<[u8; 32]>);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No certificate yet, and no token to get one with.
    #[error(
        "this sidecar has no certificate in {} and no join token; make one with `bulkhead join-token new` and pass it in BULKHEAD_JOIN_TOKEN",
        .0.display()
    )]
    NoToken(PathBuf),
    /// Nobody to trust.
    #[error("nobody says whom to trust to be the control plane; name its authority with --trust-bundle FILE")]
    NoTrust,
    /// A file.
    #[error("{}: {why}; {hint}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// TLS.
    #[error("certificate and key in the identity folder cannot be used: {0}; remove the folder and enrol again")]
    Tls(#[from] rustls::Error),
}

const AGAIN: &str = "remove the folder and enrol again with a new join token";

impl Identity {
    /// Looks whether there is one, or what is needed for one.
    pub(super) fn open(control_plane: &ControlPlane) -> Result<Self, IdentityError> {
        let folder = control_plane.data_dir.join("identity");
        let (trust_bundle, join_token) = (control_plane.trust_bundle.clone(), control_plane.join_token.clone());
        let identity = Self { folder, trust_bundle, join_token };
        if identity.is_enrolled() {
            identity.credentials()?;
        } else if identity.join_token.is_none() {
            return Err(IdentityError::NoToken(identity.folder));
        } else {
            identity.unknown()?;
        }
        Ok(identity)
    }

    /// Whether there is a certificate.
    pub(super) fn is_enrolled(&self) -> bool {
        self.folder.join("certificates.pem").exists()
    }

    /// What a connection of a known sidecar is made with.
    pub(super) fn credentials(&self) -> Result<Credentials, IdentityError> {
        let chain = certificates(&self.folder.join("certificates.pem"))?;
        let path = self.folder.join("key.pem");
        let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| file(&path, error, AGAIN))?;
        let validity = chain.first().and_then(|own| Validity::of(own));
        let validity =
            validity.ok_or_else(|| file(&self.folder.join("certificates.pem"), "its first certificate cannot be read", AGAIN))?;
        let roots = roots(&self.folder.join("roots.pem"))?;
        let tls = builder()?.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        Ok(Credentials { tls: http2(tls), signers: self.signers()?, renew_from: validity.from.midpoint(validity.until) })
    }

    /// What a connection is made with for a first certificate.
    pub(super) fn unknown(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        let bundle = self.trust_bundle.as_ref().ok_or(IdentityError::NoTrust)?;
        Ok(http2(builder()?.with_root_certificates(roots(bundle)?).with_no_client_auth()))
    }

    /// The key in PEM, if there is one: a certificate that is asked for again is for the same key.
    pub(super) fn key(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("key.pem")).ok()
    }

    /// Keeps a key, before anything is asked for it.
    pub(super) fn keep_key(&self, key: &str) -> Result<(), IdentityError> {
        self.write("key.pem", key)
    }

    /// Keeps what was issued; the certificate last, because it says that there is an identity.
    pub(super) fn keep(&self, issued: &EnrolResponse) -> Result<(), IdentityError> {
        let signers: String = issued.signers.iter().map(|signer| STANDARD.encode(signer) + "\n").collect();
        self.write("signers", &signers)?;
        self.write("roots.pem", &issued.roots)?;
        self.write("certificates.pem", &issued.certificates)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), IdentityError> {
        let written = write_private(&self.folder, name, text.as_bytes());
        written.map_err(|error| file(&self.folder.join(name), error, "make the data directory writable for this user"))
    }

    fn signers(&self) -> Result<Signers, IdentityError> {
        let path = self.folder.join("signers");
        let text = fs::read_to_string(&path).map_err(|error| file(&path, error, AGAIN))?;
        let read = |line: &str| STANDARD.decode(line).ok()?.try_into().ok();
        let signers: Option<Vec<[u8; 32]>> = text.lines().map(read).collect();
        let signers = signers.filter(|signers| !signers.is_empty());
        signers.map(Signers).ok_or_else(|| file(&path, "it holds no Ed25519 keys", AGAIN))
    }
}

impl Signers {
    /// Whether one of them signed these bytes.
    pub(super) fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_bytes(signature) else { return false };
        let key = self.0.iter().find(|key| Fingerprint::of_public_key(&key[..]) == signature.key);
        key.is_some_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(bytes, &signature.bytes).is_ok())
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(&[&TLS13])
}

fn http2(mut tls: ClientConfig) -> Arc<ClientConfig> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(tls)
}

fn roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| file(path, error, "keep certificates of authorities in it only"))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(file(path, "there is no certificate in it", AGAIN)),
        Err(error) => Err(file(path, error, AGAIN)),
    }
}

fn file(path: &Path, why: impl std::fmt::Display, hint: &'static str) -> IdentityError {
    IdentityError::File { path: path.to_owned(), why: why.to_string(), hint }
}
