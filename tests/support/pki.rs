//! A certificate authority of a test's own, and clients and servers that know it.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An authority.
pub struct Pki {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Certified {
    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) {
        for (ending, text) in [("pem", &self.certificate), ("key", &self.key)] {
            // Beside it, then renamed, as certificate managers do.
            let (to, aside) = (folder.join(format!("{name}.{ending}")), folder.join(format!(".{name}.{ending}.new")));
            std::fs::write(&aside, text).expect("a file");
            std::fs::rename(&aside, &to).expect("a rename");
        }
    }

    /// The certificate in DER.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key")
    }
}

impl Pki {
    /// A new authority.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named("an authority");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these host names and addresses.
    pub fn certify(&self, names: &[&str]) -> Certified {
        self.sign(params(names))
    }

    /// One that expired in 2021.
    pub fn certify_expired(&self, names: &[&str]) -> Certified {
        let mut params = params(names);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(params)
    }

    /// One with this URI as its only name.
    pub fn certify_uri(&self, uri: &str) -> Certified {
        let mut params = params(&[]);
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate")).expect("an authority");
        roots
    }

    /// A client that believes it.
    pub fn client(&self) -> TlsClient {
        TlsClient { roots: self.roots(), shown: None, versions: vec![&TLS13, &TLS12], alpn: Vec::new() }
    }

    /// A server that shows this certificate and asks for one of this authority.
    pub fn server_asking(&self, certified: &Certified) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), Arc::clone(&provider)).build().expect("an authority");
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]).expect("both versions");
        builder.with_client_cert_verifier(verifier).with_single_cert(vec![certified.der()], certified.private()).expect("a key that fits")
    }

    /// A server that shows this certificate.
    pub fn server(certified: &Certified) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).expect("both versions");
        builder.with_no_client_auth().with_single_cert(vec![certified.der()], certified.private()).expect("a key that fits")
    }
}

/// A server that answers every request over TLS, and says over which protocol and to whom.
pub struct TlsOrigin {
    /// Where it listens.
    pub address: SocketAddr,
}

impl TlsOrigin {
    /// Shows this certificate, asks nobody for one.
    pub fn start(certified: &Certified) -> Self {
        Self::with(Pki::server(certified), b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret", Farewell::Said)
    }

    /// Answers each request with these bytes; after the first it ends the connection if they name no length.
    pub fn with(config: ServerConfig, answer: &'static [u8], farewell: Farewell) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = Arc::new(config);
        // Ends with the test process: nothing is left to stop.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                std::thread::spawn(move || serve(config, stream, answer, farewell));
            }
        });
        Self { address }
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// With `close_notify`.
    Said,
    /// As if it had been cut.
    Left,
}

fn serve(config: Arc<ServerConfig>, tcp: TcpStream, answer: &[u8], farewell: Farewell) -> io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, tcp);
    let mut seen = Vec::new();
    loop {
        let mut chunk = [0; 4 << 10];
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&chunk[..length]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            stream.write_all(answer)?;
            if !answer.windows(14).any(|window| window == b"content-length") {
                if farewell == Farewell::Said {
                    stream.conn.send_close_notify();
                    stream.flush()?;
                }
                return Ok(());
            }
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
    // Not the authority's: whose subject and issuer are one is taken for signed by itself.
    params.distinguished_name = named("somebody");
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Makes TLS connections; those of one client share their sessions.
#[derive(Debug, Clone)]
pub struct TlsClient {
    roots: RootCertStore,
    shown: Option<Certified>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
}

/// A TLS connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl TlsClient {
    /// Shows a certificate when asked for one.
    #[must_use]
    pub fn showing(mut self, certified: &Certified) -> Self {
        self.shown = Some(certified.clone());
        self
    }

    /// Speaks TLS 1.2 only.
    #[must_use]
    pub fn only_1_2(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    /// Offers these protocols.
    #[must_use]
    pub fn offering(mut self, alpn: &[&str]) -> Self {
        self.alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// What connections are made with; made once, so that they share their sessions.
    pub fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&self.versions).expect("known versions").with_root_certificates(self.roots.clone());
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_auth_cert(vec![shown.der()], shown.private()).expect("a key that fits"),
        };
        config.alpn_protocols = self.alpn.clone();
        Arc::new(config)
    }

    /// One connection, its handshake done.
    ///
    /// # Errors
    /// What broke.
    pub fn connect(&self, to: SocketAddr, name: &str) -> io::Result<TlsStream> {
        connect(&self.config(), to, name)
    }
}

/// One connection, its handshake done.
///
/// # Errors
/// What broke.
pub fn connect(config: &Arc<ClientConfig>, to: SocketAddr, name: &str) -> io::Result<TlsStream> {
    let mut tcp = TcpStream::connect(to)?;
    tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a client");
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(session, tcp))
}
