//! An authority of ours: its key and the certificate that it gave itself, as they rest in the keyring.

use super::{Authority, LAST_SECOND, SKEW_SECONDS, Serial, hold, later, named};
use crate::entry::NoRandomness;
use bulkhead_config::seal::Fingerprint;
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_config::unit::UnixSeconds;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

/// How long an authority holds: what runs unattended should not end within anybody's memory of it.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// It is replaced when it has no more than this left.
const REPLACED_BEFORE_SECONDS: UnixSeconds = 365 * 24 * 3_600;

/// Key and certificate of an authority.
pub(crate) struct Root {
    pkcs8: Zeroizing<Vec<u8>>,
    certificate: CertificateDer<'static>,
    fingerprint: Fingerprint,
    until: UnixSeconds,
}

impl Root {
    /// A new one.
    pub(crate) fn make(domain: &TrustDomain, now: UnixSeconds) -> Result<Self, NoRandomness> {
        Self::made(domain, now).and_then(|(key, certificate)| Self::of(key.serialized_der(), &certificate)).ok_or(NoRandomness)
    }

    fn made(domain: &TrustDomain, now: UnixSeconds) -> Option<(KeyPair, CertificateDer<'static>)> {
        let key = KeyPair::generate().ok()?;
        // One authority may stand below: the one that comes after it.
        let mut params = authority(domain, 1)?;
        hold(&mut params, now.saturating_sub(SKEW_SECONDS), later(now, LIFETIME));
        let certificate = params.self_signed(&key).ok()?.into();
        Some((key, certificate))
    }

    /// What rests of one.
    pub(crate) fn of(pkcs8: &[u8], certificate: &[u8]) -> Option<Self> {
        let key = key(pkcs8)?;
        let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
        let is_whole = rest.is_empty() && parsed.public_key().raw == key.subject_public_key_info();
        is_whole.then(|| Self {
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
            fingerprint: Fingerprint::of_public_key(key.public_key_raw()),
            until: parsed.validity().not_after.timestamp().min(LAST_SECOND),
            certificate: CertificateDer::from(certificate.to_vec()),
        })
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What is secret, and what is public.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        (&self.pkcs8, &self.certificate)
    }

    /// Whether it is time for another one.
    pub(crate) fn is_ending(&self, now: UnixSeconds) -> bool {
        self.until.saturating_sub(now) <= REPLACED_BEFORE_SECONDS
    }

    /// What issues with this one, believed by whoever believes it or one of the `older`.
    pub(crate) fn authority<'a>(&self, domain: &TrustDomain, older: impl Iterator<Item = &'a Root>, now: UnixSeconds) -> Option<Authority> {
        let older: Vec<&Root> = older.filter(|root| root.until > now).collect();
        let chain = older.iter().map(|older| self.certified_by(older, domain, now)).collect::<Option<_>>()?;
        let roots = std::iter::once(self).chain(older).map(|root| root.certificate.clone()).collect();
        Some(Authority { domain: domain.clone(), issuer: self.issuer()?, chain, roots, until: self.until })
    }

    /// A certificate of an older authority for this one's name and key.
    fn certified_by(&self, older: &Root, domain: &TrustDomain, now: UnixSeconds) -> Option<CertificateDer<'static>> {
        let mut params = authority(domain, 0)?;
        params.use_authority_key_identifier_extension = true;
        hold(&mut params, now.saturating_sub(SKEW_SECONDS), self.until.min(older.until));
        Some(params.signed_by(&key(&self.pkcs8)?, &older.issuer()?).ok()?.into())
    }

    fn issuer(&self) -> Option<Issuer<'static, KeyPair>> {
        Issuer::from_ca_cert_der(&self.certificate, key(&self.pkcs8)?).ok()
    }
}

fn key(pkcs8: &[u8]) -> Option<KeyPair> {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).ok()
}

/// Of a certificate for an authority of this domain, with so many other authorities below it.
fn authority(domain: &TrustDomain, below: u8) -> Option<CertificateParams> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&Serial::drawn().ok()?.0));
    params.distinguished_name = named(&format!("Bulkhead authority of {domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(domain.uri().try_into().ok()?)];
    Some(params)
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.fingerprint)
    }
}
