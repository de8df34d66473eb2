//! Certificates and keys out of files in PEM, looked at before they are used.
//!
//! Cost: when a file changes.

use super::validity::Validity;
use super::{Reading, wrong};
use bulkhead_config::diagnostic::Diagnostic;
use bulkhead_config::snapshot::CertifiedKey;
use bulkhead_config::unit::UnixSeconds;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, InconsistentKeys, RootCertStore, sign};
use std::sync::Arc;
use webpki::EndEntityCert;

/// A certificate that ends within so many seconds is named: 14 days.
const ENDS_SOON: UnixSeconds = 14 * 24 * 60 * 60;

/// A certificate that can be shown.
pub(super) struct Certificate {
    pub(super) certified: Arc<sign::CertifiedKey>,
    /// Host names it is for; a wildcard begins with `*.`.
    pub(super) names: Vec<String>,
}

/// Reads a certificate, its chain and its key.
///
/// # Errors
/// Which file is wrong.
pub(super) fn read(declared: &CertifiedKey, reading: &mut Reading<'_>) -> Result<Certificate, Box<Diagnostic>> {
    let chain = chain(&declared.certificate, reading)?;
    let key = key(&declared.key, reading)?;
    let names = names(&declared.certificate, chain.first())?;
    remark(&declared.certificate, &chain, reading);
    let certified = sign::CertifiedKey::from_der(chain, key, &reading.provider).map_err(|error| unfit(declared, &error))?;
    Ok(Certificate { certified: Arc::new(certified), names })
}

/// Reads authorities.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn roots(file: &Arc<str>, reading: &Reading<'_>) -> Result<RootCertStore, Box<Diagnostic>> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in chain(file, reading)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            wrong(file, format!("certificate {} in it is no authority: {error}", at + 1), "keep certificates of authorities in it only")
        })?;
    }
    Ok(roots)
}

/// All certificates of a file.
fn chain(file: &Arc<str>, reading: &Reading<'_>) -> Result<Vec<CertificateDer<'static>>, Box<Diagnostic>> {
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(reading.file(file)?).collect();
    match read {
        Ok(chain) if chain.is_empty() => {
            Err(wrong(file, "there is no certificate in it", "write certificates in PEM: `-----BEGIN CERTIFICATE-----` …"))
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(wrong(file, format!("it is no PEM: {error}"), "write it anew as whoever issued it gave it")),
    }
}

fn key(file: &Arc<str>, reading: &Reading<'_>) -> Result<PrivateKeyDer<'static>, Box<Diagnostic>> {
    let text = reading.file(file)?;
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if has(text, b"ENCRYPTED PRIVATE KEY") || has(text, b"Proc-Type: 4,ENCRYPTED") => wrong(
            file,
            "the private key in it is encrypted, and there is nobody to ask for its passphrase",
            "write it without one (`openssl pkey -in KEY -out NEW`), readable for this process only",
        ),
        pem::Error::NoItemsFound => wrong(file, "there is no private key in it", "write the key in PEM: `-----BEGIN PRIVATE KEY-----` …"),
        // The library's words are about the frame, never of what is in it.
        error => wrong(file, format!("it is no PEM: {error}"), "write the key anew"),
    })
}

fn has(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

fn names(file: &Arc<str>, leaf: Option<&CertificateDer<'_>>) -> Result<Vec<String>, Box<Diagnostic>> {
    let unreadable = |why: &dyn std::fmt::Display| {
        wrong(file, format!("the first certificate in it cannot be understood: {why}"), "write it anew as whoever issued it gave it")
    };
    let leaf = leaf.ok_or_else(|| unreadable(&"it is missing"))?;
    let certificate = EndEntityCert::try_from(leaf).map_err(|error| unreadable(&error))?;
    Ok(certificate.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

/// Why a certificate and a key cannot be used together.
fn unfit(declared: &CertifiedKey, error: &Error) -> Box<Diagnostic> {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
            &declared.key,
            format!("the private key in it is not that of the certificate in `{}`", declared.certificate),
            "name the key that the certificate was asked for with; the certificate stands first in its file",
        ),
        error => wrong(
            &declared.key,
            format!("the private key in it cannot be used: {error}"),
            "use an ECDSA (P-256, P-384), Ed25519 or RSA key",
        ),
    }
}

/// Names what clients may stumble over, though it can be shown.
fn remark(file: &Arc<str>, chain: &[CertificateDer<'_>], reading: &mut Reading<'_>) {
    let mut remarks = Vec::new();
    for (at, certificate) in chain.iter().enumerate() {
        remarks.extend(Validity::of(certificate).and_then(|validity| ends(file, at + 1, validity, reading.now)));
    }
    let parsed: Vec<_> = chain.iter().filter_map(|certificate| EndEntityCert::try_from(certificate).ok()).collect();
    if parsed.windows(2).any(|pair| matches!(pair, [one, next] if one.issuer() != next.subject())) {
        remarks.push(wrong(
            file,
            "the certificates in it are not in order: one is not signed by the next",
            "write the certificate first, then the one that signed it, and so on; leave the root out",
        ));
    }
    remarks.into_iter().for_each(|remark| reading.found.warnings.push(*remark));
}

/// What to say of a certificate's time.
fn ends(file: &Arc<str>, place: usize, validity: Validity, now: UnixSeconds) -> Option<Box<Diagnostic>> {
    let day =
        |seconds| jiff::Timestamp::from_second(seconds).map_or_else(|_| "a day beyond the calendar".to_owned(), |day| day.to_string());
    let (what, hint) = match validity {
        Validity { from, .. } if from > now => (format!("holds only from {}", day(from)), "check the clock of this machine"),
        Validity { until, .. } if until < now => {
            (format!("expired at {}", day(until)), "write a new one to the file; it is taken over at once")
        }
        Validity { until, .. } if until < now + ENDS_SOON => {
            (format!("expires at {}", day(until)), "write a new one to the file in time; it is taken over at once")
        }
        _ => return None,
    };
    Some(wrong(file, format!("certificate {place} in it {what}"), hint))
}
