//! The authority: certifies who belongs to a trust domain, for a day at a time.
//!
//! A certificate names one SPIFFE id (X.509-SVID): `sidecar/NAME`, `operator/NAME` or `control-plane`. Nothing of a request goes into it
//! but the public key, whose holder signed the request; the name is what a join token, or an operator, was given.
//!
//! An authority of ours rests in the keyring. When its key was rotated, the older ones certify the newest: who was told of an old one
//! only goes on believing what the new one issues.

pub(crate) mod root;
mod brought;
mod request;
mod peer;
mod revoked;
#[cfg(test)]
mod tests;

pub use brought::NotAnAuthority;
pub use peer::{NotAPeer, Peer, PeerVerifier, Role};
pub use request::{NotARequest, Request};
pub use revoked::{NotRevocations, Revocations};

use crate::entry::{NoRandomness, random};
use bulkhead_config::name::{OperatorName, SidecarName};
use bulkhead_config::spiffe::{NotASpiffeId, SpiffeId, TrustDomain};
use bulkhead_config::unit::UnixSeconds;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rcgen::{SerialNumber, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use std::fmt;
use std::time::Duration;

/// How long a certificate holds when nobody says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// A certificate begins so much before it was issued, as clocks differ.
const SKEW_SECONDS: UnixSeconds = 5 * 60;
/// The end of time, as certificates write it (RFC 5280 section 4.1.2.5).
const LAST_SECOND: UnixSeconds = 253_402_300_799;

/// Issues certificates of one trust domain.
pub struct Authority {
    domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    /// What stands between a certificate and whatever its reader trusts.
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    /// Nothing it issues holds longer than it does.
    until: UnixSeconds,
}

/// A certificate, issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Whom it names.
    pub id: SpiffeId,
    /// What it is revoked by.
    pub serial: Serial,
    /// Until when it holds.
    pub until: UnixSeconds,
    /// The certificate, then what stands above it.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Number of a certificate: 126 random bits, with which no two are alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; Serial::BYTES]);

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum CannotIssue {
    /// The id does not fit.
    #[error("this name makes no SPIFFE id in trust domain `{domain}`; use a shorter name")]
    Name {
        /// The domain.
        domain: TrustDomain,
        /// Why.
        #[source]
        cause: NotASpiffeId,
    },
    /// A server that nobody can ask for.
    #[error("a server's certificate needs at least one host name or address")]
    NoServerName,
    /// The authority has ended.
    #[error("the authority of `{0}` has expired; bring a new one, or rotate `authority/{0}`")]
    Expired(TrustDomain),
    /// The library failed.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The library could not write it.
    #[error("the certificate could not be written")]
    Library(#[from] rcgen::Error),
}

impl Authority {
    /// For a sidecar, as a client of the control plane.
    ///
    /// # Errors
    /// When its name is too long for the domain, or the authority has expired.
    pub fn sidecar(&self, name: &SidecarName, request: &Request, now: UnixSeconds, lifetime: Duration) -> Result<Issued, CannotIssue> {
        let params = params(name.as_str(), ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(&format!("{}/{name}", Role::SIDECAR), params, request, now, lifetime)
    }

    /// For an operator, as a client of the API.
    ///
    /// # Errors
    /// As [`Authority::sidecar`].
    pub fn operator(&self, name: &OperatorName, request: &Request, now: UnixSeconds, lifetime: Duration) -> Result<Issued, CannotIssue> {
        let params = params(name.as_str(), ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(&format!("{}/{name}", Role::OPERATOR), params, request, now, lifetime)
    }

    /// For the control plane's own listeners, under the host names and addresses at which it is asked for.
    ///
    /// # Errors
    /// When there are none, or the authority has expired.
    pub fn server(&self, names: &[ServerName<'_>], request: &Request, now: UnixSeconds, lifetime: Duration) -> Result<Issued, CannotIssue> {
        if names.is_empty() {
            return Err(CannotIssue::NoServerName);
        }
        let mut params = params(Role::CONTROL_PLANE, ExtendedKeyUsagePurpose::ServerAuth);
        for name in names {
            params.subject_alt_names.push(match name {
                ServerName::IpAddress(address) => SanType::IpAddress((*address).into()),
                name => SanType::DnsName(name.to_str().as_ref().try_into()?),
            });
        }
        self.issue(Role::CONTROL_PLANE, params, request, now, lifetime)
    }

    /// What peers trust: this authority, and those whose certificates still count.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whose certificates these are.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    fn issue(
        &self,
        path: &str,
        mut params: CertificateParams,
        request: &Request,
        now: UnixSeconds,
        lifetime: Duration,
    ) -> Result<Issued, CannotIssue> {
        let id = self.domain.id(path).map_err(|cause| CannotIssue::Name { domain: self.domain.clone(), cause })?;
        let until = later(now, lifetime).min(self.until);
        if until <= now {
            return Err(CannotIssue::Expired(self.domain.clone()));
        }
        let serial = Serial::drawn()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.subject_alt_names.push(SanType::URI(id.as_str().try_into()?));
        hold(&mut params, now - SKEW_SECONDS, until);
        let certificate = params.signed_by(request.key(), &self.issuer)?;
        let chain = std::iter::once(certificate.into()).chain(self.chain.iter().cloned()).collect();
        Ok(Issued { id, serial, until, chain })
    }
}

impl Issued {
    /// The chain as files hold it.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(&self.chain)
    }
}

/// Certificates as files hold them.
#[must_use]
pub fn pem(certificates: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        // Lines of 64 characters, as RFC 7468 has them.
        for (at, character) in encoded.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}

impl Serial {
    const BYTES: usize = 16;

    fn drawn() -> Result<Self, NoRandomness> {
        let [first, rest @ ..] = *random::<{ Self::BYTES }>()?;
        // Neither negative nor shortened: the first bit is 0 and the second 1.
        let mut serial = [first & 0x3f | 0x40; Self::BYTES];
        if let Some(end) = serial.last_chunk_mut() {
            *end = rest;
        }
        Ok(Self(serial))
    }
}

/// Of a certificate for one who is not an authority.
fn params(common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// From when until when it holds, both included.
fn hold(params: &mut CertificateParams, from: UnixSeconds, until: UnixSeconds) {
    let seconds = |at: UnixSeconds| Duration::from_secs(at.clamp(0, LAST_SECOND).unsigned_abs());
    params.not_before = date_time_ymd(1970, 1, 1) + seconds(from);
    params.not_after = date_time_ymd(1970, 1, 1) + seconds(until);
}

fn later(now: UnixSeconds, by: Duration) -> UnixSeconds {
    now.saturating_add(UnixSeconds::try_from(by.as_secs()).unwrap_or(UnixSeconds::MAX)).min(LAST_SECOND)
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.domain)
    }
}
