//! An upstream's side: what its endpoints are dialled with, and the handshake.
//!
//! Cost: per connection to an upstream, not per request. Sessions are resumed; they are kept in memory, shared by the workers.

use super::certificate;
use super::{Findings, Made, Reading, Tls, wrong};
use crate::request::upstream::Wire;
use bulkhead_config::diagnostic::Diagnostic;
use bulkhead_config::snapshot::{Alpn, UpstreamTls};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, version};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What the endpoints of an upstream are dialled with.
#[derive(Debug)]
pub(super) struct Dialer {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    /// Offers both, HTTP/2 first.
    either: Arc<ClientConfig>,
}

/// Why there is no session with an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// What it would be dialled with cannot be read.
    #[error("the files of its `tls` cannot be used; `bulkhead status` says why")]
    Unready,
    /// Its certificate is not believed.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// Both have nothing in common, or it broke off.
    #[error("no TLS session with it: {0}")]
    Protocol(String),
}

/// Makes what an upstream declares, or keeps what it has.
pub(super) fn make(
    declared: &UpstreamTls,
    before: Option<&Made<UpstreamTls, Dialer>>,
    system: &mut Option<Arc<RootCertStore>>,
    reading: &mut Reading<'_>,
) -> Made<UpstreamTls, Dialer> {
    let shown = declared.client_certificate.iter().flat_map(|certified| [&certified.certificate, &certified.key]);
    let files = reading.contents(shown.chain(&declared.roots));
    if let Some(still) = before.and_then(|known| known.still(declared, &files, reading.now)) {
        return still;
    }
    let good = match build(declared, system, reading) {
        Ok(dialer) => Some(Arc::new(dialer)),
        Err(mistake) => {
            reading.found.refused.push(*mistake);
            before.and_then(|known| known.good.clone())
        }
    };
    Made { declared: declared.clone(), files, at: reading.now, found: std::mem::take(&mut reading.found), good }
}

fn build(declared: &UpstreamTls, system: &mut Option<Arc<RootCertStore>>, reading: &mut Reading<'_>) -> Result<Dialer, Box<Diagnostic>> {
    let roots = match &declared.roots {
        Some(file) => Arc::new(certificate::roots(file, reading)?),
        None => Arc::clone(system.get_or_insert_with(|| Arc::new(trusted_by_system()))),
    };
    let shown = declared.client_certificate.as_ref().map(|certified| certificate::read(certified, reading)).transpose()?;
    let about = declared.client_certificate.as_ref().map(|certified| &certified.certificate).or(declared.roots.as_ref());
    let unusable =
        |error: Error| wrong(about.unwrap_or(&"tls".into()), format!("no handshake can be made with it: {error}"), "restart the process");
    let builder = ClientConfig::builder_with_provider(Arc::clone(&reading.provider));
    let builder = builder.with_protocol_versions(&[&version::TLS13, &version::TLS12]).map_err(unusable)?.with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown.certified))),
    };
    let mut speaking = |alpn: &[Alpn]| {
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_str().into()).collect();
        Arc::new(config.clone())
    };
    let (http1, http2) = (speaking(&[Alpn::Http1]), speaking(&[Alpn::H2]));
    Ok(Dialer { http1, http2, either: speaking(&[Alpn::H2, Alpn::Http1]) })
}

/// Authorities that this system trusts. What it holds that is none is left out; without any, every handshake fails and says so.
fn trusted_by_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Shakes hands with an endpoint, whose certificate must be for `host` or for the name that is declared.
///
/// # Errors
/// Why there is no session.
pub async fn connect(
    tls: &Tls,
    declared: &UpstreamTls,
    host: &str,
    wire: Wire,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, NotConnected> {
    let dialer = tls.dialer(declared).ok_or(NotConnected::Unready)?;
    let name = declared.server_name.as_ref().map_or(host, |name| name.as_str());
    let config = match wire {
        Wire::Http1 => &dialer.http1,
        Wire::Http2 => &dialer.http2,
        Wire::Auto => &dialer.either,
    };
    let stream = shake_hands(config, name, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol();
    // Without a word about it, HTTP/1.1 it is (RFC 7301); HTTP/2 must be agreed on (RFC 9113 section 3.2).
    if wire == Wire::Http2 && agreed != Some(Alpn::H2.as_str().as_bytes()) {
        return Err(NotConnected::Protocol("it does not agree to HTTP/2 (ALPN `h2`)".to_owned()));
    }
    Ok(stream)
}

/// Shakes hands with whoever must have a certificate for `name`.
///
/// # Errors
/// Why there is no session.
pub(crate) async fn shake_hands(config: &Arc<ClientConfig>, name: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, NotConnected> {
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| NotConnected::Certificate(format!("`{name}` is no name that one can be for")))?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| failed(&error))
}

/// What this process asks others with, over HTTP/1.1: it believes the authorities in a file, or whoever this system trusts.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn asking(roots: Option<(&Arc<str>, &Arc<[u8]>)>) -> Result<Arc<ClientConfig>, Box<Diagnostic>> {
    let files = roots.into_iter().map(|(file, contents)| (Arc::clone(file), Arc::clone(contents))).collect();
    let mut reading = Reading { files: &files, provider: Arc::new(aws_lc_rs::default_provider()), now: 0, found: Findings::default() };
    let declared = UpstreamTls { roots: roots.map(|(file, _)| Arc::clone(file)), ..UpstreamTls::default() };
    build(&declared, &mut None, &mut reading).map(|dialer| dialer.http1)
}

fn failed(error: &io::Error) -> NotConnected {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            NotConnected::Certificate("no authority in `roots` (left out: those this system trusts) signed it".to_owned())
        }
        Some(Error::InvalidCertificate(why)) => NotConnected::Certificate(why.to_string()),
        Some(why) => NotConnected::Protocol(why.to_string()),
        None => NotConnected::Protocol(error.to_string()),
    }
}
