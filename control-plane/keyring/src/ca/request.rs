//! Requests for certificates (PKCS#10, RFC 2986): outside bytes, of which the public key is taken and nothing else.

use crate::entry::NoRandomness;
use bulkhead_config::seal::Fingerprint;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};
use rcgen::{SignatureAlgorithm, SubjectPublicKeyInfo};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::fmt;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519, Oid};
use x509_parser::prelude::FromDer;

/// Bytes of a request at most; one of ours has 300.
const BYTES_MAX: usize = 8 << 10;

/// A public key whose holder asks for a certificate of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Request(SubjectPublicKeyInfo);

/// Why a request is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARequest {
    /// Larger than any request.
    #[error("it has {0} bytes, more than the {BYTES_MAX} that a request for a certificate may have")]
    TooLarge(usize),
    /// Something else, or more.
    #[error("it is no certificate request; send PKCS#10 in DER, with nothing behind it")]
    Malformed,
    /// A kind of key that is not issued for.
    #[error(
        "its key is of a kind that gets no certificate, or signed in another way than keys of its kind do; use ECDSA P-256 with SHA-256, \
         ECDSA P-384 with SHA-384, or Ed25519"
    )]
    Algorithm,
    /// Who sent it does not have the key.
    #[error("its signature is not by its own key, so its sender does not hold that key; sign the request with the key that it asks for")]
    Signature,
}

impl Request {
    /// Reads a request in DER, and checks that whoever made it holds the key.
    ///
    /// # Errors
    /// When it is malformed, of a key that is not issued for, or not signed by it.
    pub fn parse(der: &[u8]) -> Result<Self, NotARequest> {
        if der.len() > BYTES_MAX {
            return Err(NotARequest::TooLarge(der.len()));
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| NotARequest::Malformed)?;
        if !rest.is_empty() {
            return Err(NotARequest::Malformed);
        }
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw).map_err(|_| NotARequest::Algorithm)?;
        // Before the signature, so that no stranger's RSA key of any size is computed with.
        if signed_with(key.algorithm()).is_none_or(|oid| oid != request.signature_algorithm.algorithm) {
            return Err(NotARequest::Algorithm);
        }
        request.verify_signature().map_err(|_| NotARequest::Signature)?;
        Ok(Self(key))
    }

    /// A new key and the request for it, of who needs a certificate in this process.
    ///
    /// # Errors
    /// When the library fails.
    pub fn make() -> Result<(Self, PrivatePkcs8KeyDer<'static>), NoRandomness> {
        let key = KeyPair::generate().map_err(|_| NoRandomness)?;
        let request = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info()).map_err(|_| NoRandomness)?;
        Ok((Self(request), PrivatePkcs8KeyDer::from(key.serialize_der())))
    }

    /// What the holder of a key sends: a request in DER, which [`Request::parse`] reads.
    ///
    /// # Errors
    /// When the key is none.
    pub fn der(key: &PrivatePkcs8KeyDer<'_>) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&KeyPair::try_from(key)?)?.der().to_vec())
    }

    /// Which key asks.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_public_key(self.0.der_bytes())
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.0
    }
}

/// How a request by such a key is signed; none for keys that get no certificate.
fn signed_with(algorithm: &SignatureAlgorithm) -> Option<Oid<'static>> {
    let known = [
        (&PKCS_ECDSA_P256_SHA256, OID_SIG_ECDSA_WITH_SHA256),
        (&PKCS_ECDSA_P384_SHA384, OID_SIG_ECDSA_WITH_SHA384),
        (&PKCS_ED25519, OID_SIG_ED25519),
    ];
    known.into_iter().find(|(known, _)| *known == algorithm).map(|(_, oid)| oid)
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request(key {})", self.fingerprint())
    }
}
