//! What no tenant owns: services with their routes and upstreams, issuers, bounds before a tenant is known.
//!
//! Cost: per request; one walk down the route trie, nothing allocated.

use crate::declared::security::RequestBounds;
use crate::name::{Feature, Host, ListenerName, RouteName, ServiceName, UpstreamName};
use crate::path::{Pattern, Trie};
use crate::snapshot::{Cors, Revoked, Scope, Shadow};
use crate::web_url::WebUrl;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use crate::declared::answered::{Answered, Came, Redirect, Respond};
pub use crate::declared::header_rules::{FieldNames, FieldValue, HeaderLine, HeaderRules, Piece, Variable};
pub use crate::declared::identity::Algorithm;
pub use crate::declared::resilience::{AdaptiveConcurrency, HealthCheck, Limits, Outlier, Question, Reason, Retry};
pub use crate::declared::response_tenant::{JsonPointer, ResponseTenant, SaidIn, Step, Unseen};
pub use crate::declared::rewrite::{NewPath, Rewrite};
pub use crate::declared::security_headers::SecurityHeaders;
pub use crate::declared::service::{Access, ProxyProtocol};
pub use crate::declared::tls::{Alpn, TlsVersion};
pub use crate::declared::upstream::{Endpoint, Protocol, Scheme};

/// What no tenant owns.
#[derive(Debug, PartialEq)]
pub struct Platform {
    /// By name.
    pub(crate) services: Vec<Arc<Service>>,
    /// By `iss`.
    pub(crate) issuers: Vec<Arc<Issuer>>,
    pub(crate) api_key_header: Option<http::HeaderName>,
    pub(crate) revoked: Option<Arc<Revoked>>,
    pub(crate) introspection: Option<Arc<Introspection>>,
    pub(crate) bounds: Bounds,
    /// What of the bounds is no default.
    pub(crate) written: RequestBounds,
    /// Where a tenant's own policies are not tighter.
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) trusted_hops: Vec<IpNet>,
    /// Where a tenant has none of its own, and where none is named.
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) security_headers: Option<Arc<SecurityHeaders>>,
    /// What is in shadow for all tenants.
    pub(crate) shadow: Shadow,
    /// Every route of every service, by [`RouteIndex`].
    pub(crate) routes: Vec<Arc<Route>>,
}

/// Place of a route among all routes of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(pub(crate) u32);

/// One service: where requests come in, which paths exist, where they go.
#[derive(Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Addresses it is served on.
    pub listeners: Vec<Listener>,
    /// Where requests go; a route holds one of them.
    pub upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: Trie<Arc<Route>>,
    /// Sorted.
    pub(crate) shared_hosts: Vec<Host>,
}

/// An address requests come in on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Its address; port 0: the system chooses.
    pub address: SocketAddr,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// HTTPS instead of HTTP.
    pub tls: Option<ListenerTls>,
}

/// TLS of a listener, its files named only: as [`Issuer::keys`].
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// TLS of an upstream, its files named only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UpstreamTls {
    /// Who may vouch for its endpoints; absent: whoever this system trusts.
    pub roots: Option<Arc<str>>,
    /// The name its certificate must have, where it is not the endpoint's host.
    pub server_name: Option<Host>,
    /// What it is shown when it asks who we are.
    pub client_certificate: Option<CertifiedKey>,
}

/// A certificate with its chain, and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertifiedKey {
    /// Name of the file with the certificate and its chain.
    pub certificate: Arc<str>,
    /// Name of the file with the key.
    pub key: Arc<str>,
}

/// Whether clients show a certificate; with the name of the file of authorities that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It is not asked for.
    NotAsked,
    /// Whoever has none may come in too.
    Optional(Arc<str>),
    /// Without one there is no connection.
    Required(Arc<str>),
}

/// A group of endpoints that answer alike. Two snapshots share it while its declaration does not change, so live state
/// (connections, health) can be keyed by its identity: service, name and what it declares.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its name.
    pub name: UpstreamName,
    /// Its endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// How those with `https` are known.
    pub tls: UpstreamTls,
    /// Which protocol goes out.
    pub protocol: Protocol,
    /// How often names of endpoints are resolved.
    pub refresh: Duration,
    /// When a request is sent again; absent: where nothing was lost.
    pub retry: Option<Retry>,
    /// When an endpoint that fails is left alone for a while; absent: never.
    pub outlier: Option<Outlier>,
    /// How endpoints are asked whether they are well; absent: they are not.
    pub health_check: Option<HealthCheck>,
    /// How much an endpoint is asked for at once; absent: whatever comes.
    pub limits: Option<Limits>,
    /// How much, as it gets slower or faster; absent: the same.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// To an established connection.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's head.
    pub response_timeout: Duration,
    /// Longest silence within a response's body.
    pub idle_timeout: Duration,
    /// Longest silence of an event stream, and of gRPC.
    pub stream_idle_timeout: Duration,
}

/// One path of a service.
#[derive(Debug, PartialEq)]
pub struct Route {
    /// Its place among all routes.
    pub index: RouteIndex,
    /// Its name.
    pub name: RouteName,
    /// Its pattern.
    pub pattern: Pattern,
    /// Whether it asks for a credential.
    pub access: Access,
    /// Where it goes; of a route that is always answered here, any of its service.
    pub upstream: Arc<Upstream>,
    /// A feature the tenant must have.
    pub requires_feature: Option<Feature>,
    /// Passes `Authorization` on to the upstream.
    pub forward_authorization: bool,
    /// Bytes of one message of a gRPC call, either way; absent: any number.
    pub grpc_message_bytes_max: Option<u64>,
    /// Where its answers name their tenant.
    pub response_tenant: Option<ResponseTenant>,
    /// What is done to header fields on the way up.
    pub request_headers: Option<HeaderRules>,
    /// And on the way down.
    pub response_headers: Option<HeaderRules>,
    /// Whether it, or its service, is in shadow.
    pub in_shadow: bool,
    /// What is other at the upstream than the client asked for.
    pub rewrite: Option<Rewrite>,
    /// How it is answered here.
    pub answered: Option<Answered>,
}

/// An issuer of tokens, its keys named only. Two snapshots share it while its declaration does not change.
#[derive(Debug, PartialEq)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Claim that names the tenant; always for a platform issuer, never for a tenant's.
    pub tenant_claim: Option<String>,
    /// Accepted difference of clocks.
    pub leeway: Duration,
    /// Passes `Authorization` on to the upstream.
    pub forward: bool,
    /// Whose issuer it is.
    pub scope: Scope,
}

/// Where the keys of an issuer come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file of the policy: path of the document's folder and the written name joined.
    File(Arc<str>),
    /// A URL.
    Url(Arc<KeyUrl>),
}

/// A URL that gives a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUrl {
    /// Its name among the key sets of the policy. What is believed of the URL belongs to it: who names another authority for the
    /// same URL must not change what others get from there.
    pub name: Arc<str>,
    /// What is asked.
    pub url: WebUrl,
    /// File of the authorities that may vouch for its host; absent: whoever this system trusts.
    pub roots: Option<Arc<str>>,
    /// The longest time between two looks.
    pub refresh: Duration,
}

impl KeySource {
    /// Name of the key set.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            KeySource::File(name) => name,
            KeySource::Url(url) => &url.name,
        }
    }
}

/// Who is asked about tokens that are no JSON Web Tokens. Two snapshots share it while its declaration does not change.
#[derive(Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Who is asked, as whom, and whom is believed to be it: all that a question depends on.
    pub asked: Arc<IntrospectionUrl>,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// Member that names the tenant; always for the platform's, never for a tenant's.
    pub tenant_claim: Option<String>,
    /// How long a token that is active is taken for active without asking again.
    pub remember: Duration,
    /// Passes `Authorization` on to the upstream.
    pub forward: bool,
    /// Whose it is.
    pub scope: Scope,
}

/// What a question about a token depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntrospectionUrl {
    /// All of it in words, by which it is found.
    pub name: Arc<str>,
    /// What is asked.
    pub url: WebUrl,
    /// As whom.
    pub client_id: String,
    /// File with what proves that.
    pub client_secret: Arc<str>,
    /// File of the authorities that may vouch for its host; absent: whoever this system trusts.
    pub roots: Option<Arc<str>>,
}

/// Bounds on a request, every one of them set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of request line and header section.
    pub header_bytes_max: u64,
    /// Number of header fields.
    pub headers_max: u32,
    /// Bytes of a body.
    pub body_bytes_max: u64,
    /// Time to the end of the head.
    pub head_timeout: Duration,
    /// Longest silence within a request's body.
    pub body_idle_timeout: Duration,
}

impl Bounds {
    /// Where no SecurityPolicy says otherwise.
    pub const DEFAULT: Bounds = Bounds {
        header_bytes_max: 32 << 10,
        headers_max: 100,
        body_bytes_max: 10 << 20,
        head_timeout: Duration::from_secs(10),
        body_idle_timeout: Duration::from_secs(30),
    };
}

impl Platform {
    /// Its services, by name.
    #[must_use]
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// Issuers that prove any tenant by their `tenant_claim`.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// Who is asked about tokens that may be of any tenant.
    #[must_use]
    pub fn introspection(&self) -> Option<&Arc<Introspection>> {
        self.introspection.as_ref()
    }

    /// What is revoked of what the platform's issuers proved.
    #[must_use]
    pub fn revoked(&self) -> Option<&Revoked> {
        self.revoked.as_deref()
    }

    /// Header that carries API keys.
    #[must_use]
    pub fn api_key_header(&self) -> Option<&http::HeaderName> {
        self.api_key_header.as_ref()
    }

    /// Bounds that hold before a tenant is known.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Cross-origin rules for requests that name no tenant.
    #[must_use]
    pub fn cors(&self) -> Option<&Arc<Cors>> {
        self.cors.as_ref()
    }

    /// What every answer tells browsers to be careful about.
    #[must_use]
    pub fn security_headers(&self) -> Option<&Arc<SecurityHeaders>> {
        self.security_headers.as_ref()
    }

    /// Peers whose forwarding headers are believed.
    #[must_use]
    pub fn trusted_hops(&self) -> &[IpNet] {
        &self.trusted_hops
    }

    /// Whether what this peer says of the client is believed.
    #[must_use]
    pub fn is_trusted_hop(&self, peer: IpAddr) -> bool {
        self.trusted_hops.iter().any(|hops| hops.contains(&peer))
    }

    /// A listener by its names; none when a change of policy took it away.
    #[must_use]
    pub fn listener(&self, service: &ServiceName, listener: &ListenerName) -> Option<&Listener> {
        let service = self.services.iter().find(|known| known.name == *service)?;
        service.listeners.iter().find(|known| known.name == *listener)
    }
}

impl Service {
    /// The most specific route of a path in normal form: literal before `{x}` before a final `**`.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes.find(path)
    }

    /// Every route.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Whether this host names nobody, so that proof alone binds.
    #[must_use]
    pub fn is_shared_host(&self, host: impl AsRef<[u8]>) -> bool {
        self.shared_hosts.iter().any(|shared| shared.as_str().as_bytes() == host.as_ref())
    }
}

impl RouteIndex {
    /// As a place in a table.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }
}
