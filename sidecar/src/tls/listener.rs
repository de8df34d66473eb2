//! A listener's side: what its handshakes are made with.
//!
//! Cost: when its files or its declaration change.
//! Tickets are sealed with keys of this listener's own, which the library replaces every six hours; they hold the session, so that
//! nothing is kept for it here (RFC 8446 section 4.6.1). They live on while the demands on clients stay what they are, whatever
//! certificate is shown; other demands, or other authorities, end them: a resumed session is not asked for a certificate again.

use super::certificate;
use super::names::Names;
use super::{Made, Reading};
use bulkhead_config::diagnostic::Diagnostic;
use bulkhead_config::snapshot::{ClientCertificates, ListenerTls, TlsVersion};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use std::sync::Arc;

/// What the handshakes of a listener are made with.
#[derive(Debug)]
pub struct Server {
    pub(super) config: Arc<ServerConfig>,
    pub(super) names: Arc<Names>,
    /// What stood in the file of clients' authorities.
    client_roots: Option<Arc<[u8]>>,
}

/// Makes what a listener declares, or keeps what it has.
pub(super) fn make(
    declared: &ListenerTls,
    before: Option<&Made<ListenerTls, Server>>,
    reading: &mut Reading<'_>,
) -> Made<ListenerTls, Server> {
    let roots = roots(declared);
    let shown = declared.certificates.iter().flat_map(|certified| [&certified.certificate, &certified.key]);
    let files = reading.contents(shown.chain(roots));
    if let Some(still) = before.and_then(|known| known.still(declared, &files, reading.now)) {
        return still;
    }
    // Whoever has less strict a listener than is declared now may not keep it.
    let known = before.filter(|known| known.declared.client_certificates == declared.client_certificates);
    let known = known.filter(|known| known.declared.minimum_version == declared.minimum_version);
    let known = known.and_then(|known| known.good.as_ref());
    let good = match build(declared, roots.and_then(|roots| reading.files.get(roots)), known, reading) {
        Ok(server) => Some(Arc::new(server)),
        Err(mistakes) => {
            reading.found.refused.extend(mistakes);
            known.cloned()
        }
    };
    Made { declared: declared.clone(), files, at: reading.now, found: std::mem::take(&mut reading.found), good }
}

fn roots(declared: &ListenerTls) -> Option<&Arc<str>> {
    match &declared.client_certificates {
        ClientCertificates::NotAsked => None,
        ClientCertificates::Optional(roots) | ClientCertificates::Required(roots) => Some(roots),
    }
}

fn build(
    declared: &ListenerTls,
    client_roots: Option<&Arc<[u8]>>,
    known: Option<&Arc<Server>>,
    reading: &mut Reading<'_>,
) -> Result<Server, Vec<Diagnostic>> {
    let (mut certificates, mut mistakes) = (Vec::new(), Vec::new());
    for certified in &declared.certificates {
        match certificate::read(certified, reading) {
            Ok(certificate) => certificates.push(certificate),
            Err(mistake) => mistakes.push(*mistake),
        }
    }
    let verifier = verifier(declared, reading).map_err(|mistake| mistakes.push(*mistake));
    let (Ok(verifier), []) = (verifier, mistakes.as_slice()) else { return Err(mistakes) };
    let names = Arc::new(Names::new(certificates));
    let resolver: Arc<Names> = Arc::clone(&names);
    // Neither can fail: the provider has suites for both versions, and a source of randomness without which nothing here would run.
    let made =
        ServerConfig::builder_with_provider(Arc::clone(&reading.provider)).with_protocol_versions(versions(declared.minimum_version));
    let unusable = |error: rustls::Error| match declared.certificates.first() {
        Some(first) => vec![*super::wrong(&first.certificate, format!("no handshake can be made with it: {error}"), "restart the process")],
        None => Vec::new(),
    };
    let mut config = made.map_err(unusable)?.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.alpn_protocols = declared.alpn.iter().map(|alpn| alpn.as_str().into()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match known.filter(|known| known.client_roots.as_ref() == client_roots) {
        Some(known) => Arc::clone(&known.config.ticketer),
        None => ticketer().map_err(unusable)?,
    };
    Ok(Server { config: Arc::new(config), names, client_roots: client_roots.cloned() })
}

fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    Ticketer::new()
}

fn verifier(declared: &ListenerTls, reading: &Reading<'_>) -> Result<Arc<dyn ClientCertVerifier>, Box<Diagnostic>> {
    let Some(file) = roots(declared) else { return Ok(Arc::new(NoClientAuth)) };
    let roots = certificate::roots(file, reading)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&reading.provider));
    let builder = match declared.client_certificates {
        ClientCertificates::Required(_) => builder,
        ClientCertificates::Optional(_) | ClientCertificates::NotAsked => builder.allow_unauthenticated(),
    };
    let verifier =
        builder.build().map_err(|error| super::wrong(file, format!("nobody can be believed by it: {error}"), "put an authority in it"))?;
    Ok(verifier)
}

static ALL_VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

fn versions(minimum: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    let [newest, _] = &ALL_VERSIONS;
    match minimum {
        TlsVersion::Tls12 => &ALL_VERSIONS,
        TlsVersion::Tls13 => std::slice::from_ref(newest),
    }
}
