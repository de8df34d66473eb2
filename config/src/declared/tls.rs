//! TLS of a Service: what its listeners show their clients, and how its upstreams are known.

use super::reader::{Complaint, Item, Map, Outcome, spanned, wrong};
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::Host;
use serde_json::json;
use std::fmt;

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    /// At least one; who names no host gets the first.
    pub certificates: Vec<CertifiedKey>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// What may be spoken over it.
    pub alpn: Vec<Alpn>,
    /// The oldest version that is spoken.
    pub minimum_version: TlsVersion,
}

/// TLS of an upstream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpstreamTls {
    /// Who may vouch for its endpoints; absent: whoever this system trusts.
    pub roots: Option<Spanned<String>>,
    /// The name its certificate must have, where it is not the endpoint's host.
    pub server_name: Option<Host>,
    /// What it is shown when it asks who we are.
    pub client_certificate: Option<CertifiedKey>,
}

/// A certificate with its chain, and its private key: files beside the document that names them.
#[derive(Debug, Clone, PartialEq)]
pub struct CertifiedKey {
    /// PEM: the certificate first, then who signed it.
    pub certificate: Spanned<String>,
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: Spanned<String>,
}

/// Whether clients show a certificate, and whose is believed.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientCertificates {
    /// It is not asked for.
    NotAsked,
    /// Whoever has none may come in too.
    Optional {
        /// File of the authorities that are believed.
        roots: Spanned<String>,
    },
    /// Without one there is no connection.
    Required {
        /// File of the authorities that are believed.
        roots: Spanned<String>,
    },
}

/// A protocol over TLS (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http1,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Alpn {
    /// Where `alpn` is absent.
    pub const ALL: [Alpn; 2] = [Alpn::H2, Alpn::Http1];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Alpn::H2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much documents say of clients' certificates.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    No,
    Optional,
    Required,
}

const ASKED: [(&str, Asked); 3] = [("none", Asked::No), ("optional", Asked::Optional), ("required", Asked::Required)];
const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

impl ListenerTls {
    /// Files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Spanned<String>> {
        let roots = match &self.client_certificates {
            ClientCertificates::NotAsked => None,
            ClientCertificates::Optional { roots } | ClientCertificates::Required { roots } => Some(roots),
        };
        self.certificates.iter().flat_map(CertifiedKey::files).chain(roots)
    }

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let certificates = map.some("certificates", CertifiedKey::read);
        let client_certificates = ClientCertificates::read(&mut map);
        let alpn = map.optional("alpn", |item| value::some_set(item, "protocol", alpn));
        let minimum_version = map.optional("minimum_version", version);
        map.finish();
        Ok(Self {
            certificates: certificates?,
            client_certificates: client_certificates?,
            alpn: alpn?.map_or_else(|| Alpn::ALL.to_vec(), value::bare),
            minimum_version: minimum_version?.unwrap_or_default(),
        })
    }
}

impl ClientCertificates {
    fn read(map: &mut Map<'_>) -> Outcome<Self> {
        let asked = map.optional("client_certificates", |item| value::word(item, &ASKED));
        let roots = match &asked {
            Ok(Some(Asked::Optional | Asked::Required)) => map.required("client_roots", spanned(file)).map(Some),
            Ok(None | Some(Asked::No)) => map.optional("client_roots", |item| Err(item.refuse(unused_roots()))),
            Err(_) => map.optional("client_roots", spanned(file)),
        };
        match (asked?, roots?) {
            (Some(Asked::Optional), Some(roots)) => Ok(Self::Optional { roots }),
            (Some(Asked::Required), Some(roots)) => Ok(Self::Required { roots }),
            _ => Ok(Self::NotAsked),
        }
    }
}

fn unused_roots() -> Complaint {
    let complaint = wrong("`client_roots` says whom to believe, and no client is asked for a certificate");
    complaint.hint("add `client_certificates: required`, or `optional`")
}

impl CertifiedKey {
    fn files(&self) -> [&Spanned<String>; 2] {
        [&self.certificate, &self.key]
    }

    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let certificate = map.required("certificate", spanned(file));
        let key = map.required("key", spanned(file));
        map.finish();
        Ok(Self { certificate: certificate?, key: key? })
    }
}

impl UpstreamTls {
    /// Files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.roots.iter().chain(self.client_certificate.iter().flat_map(CertifiedKey::files))
    }

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let roots = map.optional("roots", spanned(file));
        let server_name = map.optional("server_name", value::host);
        let client_certificate = map.optional("client_certificate", CertifiedKey::read);
        map.finish();
        Ok(Self { roots: roots?, server_name: server_name?, client_certificate: client_certificate? })
    }
}

/// `{ file: name.pem }`, beside the document.
pub(super) fn file(item: &Item<'_>) -> Outcome<String> {
    if let crate::text::Value::Str(text) = item.value() {
        let complaint = wrong(format!("{} is no reference to a file", item.label())).expected("`{ file: name.pem }`");
        return Err(item.refuse(match text.contains("-----BEGIN") {
            true => complaint.hint("write it to a file beside this document and name that: `{ file: name.pem }`"),
            false => complaint.hint(format!("write `{{ file: {} }}`", text.trim())),
        }));
    }
    let mut map = item.map()?;
    let file = map.required("file", |item| {
        let name = value::line(1_024)(item)?;
        match name.ends_with('/') {
            true => Err(item.refuse(wrong("`file` names a folder").expected("a file in PEM"))),
            false => Ok(name),
        }
    });
    map.finish();
    file
}

fn alpn(item: &Item<'_>) -> Outcome<Alpn> {
    value::word(item, &Alpn::ALL.map(|alpn| (alpn.as_str(), alpn)))
}

fn version(item: &Item<'_>) -> Outcome<TlsVersion> {
    match item.value() {
        crate::text::Value::Str(text) if matches!(&**text, "1.0" | "1.1") => {
            let complaint = wrong(format!("TLS {text} is broken (RFC 8996) and not spoken")).expected("`\"1.2\"` or `\"1.3\"`");
            Err(item.refuse(complaint.hint("write `\"1.2\"`")))
        }
        _ => value::word(item, &VERSIONS),
    }
}

impl ListenerTls {
    pub(super) fn schema() -> Schema {
        let asked = "Whether clients show a certificate; left out: none.";
        let fields = vec![
            required("certificates", schema::some(schema::list("Who names no host gets the first.", CertifiedKey::schema()))),
            optional("client_certificates", schema::word(asked, &ASKED.map(|(word, _)| word))),
            optional("client_roots", file_schema("Authorities whose certificates of clients are believed, in PEM.")),
            optional("alpn", schema::some(schema::set_of("Left out: both.", json!({ "enum": Alpn::ALL.map(Alpn::as_str) })))),
            optional("minimum_version", schema::word("Left out: \"1.2\".", &VERSIONS.map(|(word, _)| word))),
        ];
        let asks =
            json!({ "required": ["client_certificates"], "properties": { "client_certificates": { "enum": ["optional", "required"] } } });
        let tls = schema::object("HTTPS instead of HTTP.", fields);
        let tls = schema::with(tls, "if", asks);
        let tls = schema::with(tls, "then", json!({ "required": ["client_roots"] }));
        schema::with(tls, "else", schema::without(&["client_roots"]))
    }
}

impl CertifiedKey {
    fn schema() -> Schema {
        let fields = vec![
            required("certificate", file_schema("The certificate, then who signed it, in PEM.")),
            required("key", file_schema("Its private key, in PEM.")),
        ];
        schema::object("A certificate and its key.", fields)
    }
}

impl UpstreamTls {
    pub(super) fn schema() -> Schema {
        let name = "The name its certificate must have; left out: the endpoint's host.";
        let fields = vec![
            optional("roots", file_schema("Authorities that may vouch for its endpoints, in PEM; left out: whoever this system trusts.")),
            optional("server_name", schema::host(name)),
            optional("client_certificate", CertifiedKey::schema()),
        ];
        schema::object("How `https://` endpoints are known.", fields)
    }
}

pub(super) fn file_schema(description: &str) -> Schema {
    let file = schema::line("Its name, beside the document that names it.", 1_024);
    let file = schema::with(file, "not", json!({ "pattern": "/$" }));
    schema::object(description, vec![required("file", file)])
}
