//! Whom the load trusts over TLS, and what it says it speaks.

use super::options::Options;
use super::plan::Protocol;
use crate::sidecar::unusable;
use crate::versus::step::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// TLS to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    /// Whom the certificate has to be for.
    pub(crate) name: ServerName<'static>,
}

impl Tls {
    /// TLS to `host`, as the options want it.
    pub(crate) fn of(options: &Options, host: &str, protocol: Protocol) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = versions.map_err(|cause| Error::Usage(format!("no TLS: {cause}")))?;
        let mut config = match options.insecure {
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth(),
            false => builder.with_root_certificates(roots(options.ca.as_deref())?).with_no_client_auth(),
        };
        config.alpn_protocols = vec![if matches!(protocol, Protocol::Http2 { .. }) { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = options.server_name.as_deref().unwrap_or_else(|| host.trim_matches(['[', ']'])).to_owned();
        let told = name.clone();
        let name = ServerName::try_from(name).map_err(|_| Error::Usage(format!("`{told}` is no name a certificate can be for")))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let pem = std::fs::read(file).map_err(unusable(file.display()))?;
    let damaged = |why: String| Error::Unusable { what: file.display().to_string(), why };
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|cause| damaged(format!("it is not PEM: {cause}")))?;
        roots.add(certificate).map_err(|cause| damaged(format!("a certificate in it cannot be an authority: {cause}")))?;
    }
    if roots.is_empty() { Err(damaged("it holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Believes every certificate, and checks only that the server has its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
