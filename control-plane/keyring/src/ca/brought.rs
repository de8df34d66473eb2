//! An authority that the operator brings, as certificates and key in PEM.

use super::{Authority, LAST_SECOND};
use bulkhead_config::spiffe::TrustDomain;
use bulkhead_config::unit::UnixSeconds;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Why what was brought is no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAuthority {
    /// No certificate in it.
    #[error("there is no certificate in it; put the authority's own first, and behind it those above, each in PEM")]
    NoCertificate,
    /// One of them cannot be read.
    #[error("certificate {0} of it cannot be read")]
    Certificate(usize),
    /// One of them issues nothing.
    #[error("certificate {0} of it is not an authority's (`CA:TRUE`, and `keyCertSign` where there is a key usage); bring one that is")]
    NotIssuing(usize),
    /// One of them is not above the one before.
    #[error("certificate {0} of it did not sign the one before; order them from the authority upwards")]
    NotAbove(usize),
    /// One of them does not hold now.
    #[error("certificate {0} of it does not hold now; renew it, or correct the clock")]
    NotNow(usize),
    /// No key, or one that cannot be used.
    #[error("its key cannot be read, or is of a kind that signs nothing here; bring it in PKCS#8, without a passphrase")]
    Key,
    /// The key of another certificate.
    #[error("its key is not that of its first certificate")]
    OtherKey,
}

impl Authority {
    /// From certificates, the issuing one first and behind it those above, and its key.
    ///
    /// Whoever belongs to the domain trusts the last of them.
    ///
    /// # Errors
    /// When they are none, do not hold now, or do not fit together.
    pub fn brought(domain: TrustDomain, certificates: &[u8], key: &[u8], now: UnixSeconds) -> Result<Self, NotAnAuthority> {
        let mut chain =
            CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>().map_err(|_| NotAnAuthority::NoCertificate)?;
        let until = check(&chain, now)?;
        let key = PrivateKeyDer::from_pem_slice(key).ok().and_then(|key| KeyPair::try_from(&key).ok()).ok_or(NotAnAuthority::Key)?;
        let first = chain.first().ok_or(NotAnAuthority::NoCertificate)?;
        if parse(first, 1)?.public_key().raw != key.subject_public_key_info() {
            return Err(NotAnAuthority::OtherKey);
        }
        let issuer = Issuer::from_ca_cert_der(first, key).map_err(|_| NotAnAuthority::Certificate(1))?;
        // Who trusts it has it.
        let root = chain.pop().ok_or(NotAnAuthority::NoCertificate)?;
        Ok(Self { domain, issuer, chain, roots: vec![root], until })
    }
}

/// Until when all of them hold.
fn check(chain: &[CertificateDer<'_>], now: UnixSeconds) -> Result<UnixSeconds, NotAnAuthority> {
    let mut until = LAST_SECOND;
    let mut below: Option<X509Certificate<'_>> = None;
    for (at, der) in (1..).zip(chain) {
        let certificate = parse(der, at)?;
        let signs = certificate.key_usage().map(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
        if !certificate.is_ca() || signs != Ok(true) {
            return Err(NotAnAuthority::NotIssuing(at));
        }
        let (from, to) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        if !(from..=to).contains(&now) {
            return Err(NotAnAuthority::NotNow(at));
        }
        let is_above = |below: &X509Certificate<'_>| {
            below.issuer().as_raw() == certificate.subject().as_raw() && below.verify_signature(Some(certificate.public_key())).is_ok()
        };
        if !below.as_ref().is_none_or(is_above) {
            return Err(NotAnAuthority::NotAbove(at));
        }
        until = until.min(to);
        below = Some(certificate);
    }
    if below.is_some() { Ok(until) } else { Err(NotAnAuthority::NoCertificate) }
}

fn parse<'a>(der: &'a CertificateDer<'_>, at: usize) -> Result<X509Certificate<'a>, NotAnAuthority> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(NotAnAuthority::Certificate(at)),
    }
}
