//! Peers of the control plane: who a client's certificate says it is, refused in the handshake unless it is one of this domain.

use super::{Revocations, SKEW_SECONDS, Serial};
use bulkhead_config::name::{OperatorName, SidecarName};
use bulkhead_config::spiffe::{SpiffeId, TrustDomain};
use bulkhead_config::unit::UnixSeconds;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};

/// Whom a certificate of this domain names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub id: SpiffeId,
    /// What it is.
    pub role: Role,
    /// The number of its certificate.
    pub serial: Serial,
    /// When that was issued.
    pub issued: UnixSeconds,
    /// Until when it holds.
    pub until: UnixSeconds,
}

/// What a peer is to the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Takes snapshots and tells what it saw.
    Sidecar(SidecarName),
    /// Declares.
    Operator(OperatorName),
    /// A control plane.
    ControlPlane,
}

/// Why a certificate names no peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPeer {
    /// It cannot be read, or its number is none of ours.
    #[error("the certificate is not one that an authority of Bulkhead issued")]
    Foreign,
    /// No SPIFFE id, or several names that are URIs (X.509-SVID section 2).
    #[error("the certificate does not name exactly one SPIFFE id")]
    NoId,
    /// It belongs elsewhere.
    #[error("`{id}` is not of trust domain `{domain}`; enrol with a join token of this control plane")]
    OtherDomain {
        /// Whom it names.
        id: SpiffeId,
        /// The domain that is asked for.
        domain: TrustDomain,
    },
    /// Nobody who has business here.
    #[error("`{0}` is neither a sidecar, an operator nor a control plane")]
    NoRole(SpiffeId),
    /// It was revoked.
    #[error("the certificate of `{0}` is revoked; enrol anew with a join token")]
    Revoked(SpiffeId),
}

/// Lets in clients whose certificate an authority of the domain issued, which names a sidecar or an operator of it, and is not revoked.
#[derive(Debug)]
pub struct PeerVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    domain: TrustDomain,
    revoked: Revocations,
    is_mandatory: bool,
}

impl Peer {
    /// Whom a certificate names. That it was verified is for the caller to know; whether it was revoked, to ask.
    ///
    /// # Errors
    /// When it names nobody of this domain.
    pub fn of(der: &[u8], domain: &TrustDomain) -> Result<Self, NotAPeer> {
        let (_, certificate) = X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).ok_or(NotAPeer::Foreign)?;
        let serial = certificate.raw_serial().try_into().map(Serial).map_err(|_| NotAPeer::Foreign)?;
        let id = id(&certificate).ok_or(NotAPeer::NoId)?;
        let other = || NotAPeer::OtherDomain { id: id.clone(), domain: domain.clone() };
        let role = Role::of(id.path_in(domain).ok_or_else(other)?).ok_or_else(|| NotAPeer::NoRole(id.clone()))?;
        let issued = certificate.validity().not_before.timestamp() + SKEW_SECONDS;
        Ok(Self { id, role, serial, issued, until: certificate.validity().not_after.timestamp() })
    }
}

/// The one URI that a certificate names.
fn id(certificate: &X509Certificate<'_>) -> Option<SpiffeId> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    uris.next().filter(|_| uris.next().is_none())?.parse().ok()
}

impl Role {
    pub(super) const SIDECAR: &'static str = "sidecar";
    pub(super) const OPERATOR: &'static str = "operator";
    pub(super) const CONTROL_PLANE: &'static str = "control-plane";

    fn of(path: &str) -> Option<Self> {
        match path.split_once('/') {
            None if path == Self::CONTROL_PLANE => Some(Role::ControlPlane),
            Some((Self::SIDECAR, name)) => name.parse().ok().map(Role::Sidecar),
            Some((Self::OPERATOR, name)) => name.parse().ok().map(Role::Operator),
            _ => None,
        }
    }
}

impl PeerVerifier {
    /// With what is trusted and revoked now; another one when that changes.
    ///
    /// # Errors
    /// When nothing is trusted.
    pub fn new(
        roots: &[CertificateDer<'_>],
        domain: TrustDomain,
        revoked: Revocations,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().map(|root| root.clone().into_owned()));
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build()?;
        Ok(Self { chains, domain, revoked, is_mandatory: true })
    }

    /// The same, but who brings no certificate is let in too: whoever enrols has none yet. A bad one is refused all the same.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { is_mandatory: false, ..self }
    }

    /// The peer of a connection that this verifier let in.
    ///
    /// # Errors
    /// As [`Peer::of`]; and when it was revoked.
    pub fn peer(&self, der: &[u8]) -> Result<Peer, NotAPeer> {
        let peer = Peer::of(der, &self.domain)?;
        if self.revoked.include(&peer) { Err(NotAPeer::Revoked(peer.id)) } else { Ok(peer) }
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chains.verify_client_cert(end_entity, intermediates, now)?;
        match self.peer(end_entity) {
            Ok(_) => Ok(verified),
            Err(NotAPeer::Revoked(_)) => Err(CertificateError::Revoked.into()),
            Err(other) => Err(CertificateError::Other(rustls::OtherError(Arc::new(other))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
