//! Kind `Service`: where requests come in, which paths exist, where they go.

use super::read::Head;
use super::reader::{Complaint, Item, Map, Outcome, named, spanned, wrong};
use super::schema::{self, Schema, optional, required};
use super::tls::{ListenerTls, UpstreamTls};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::{Feature, Host, ListenerName, RouteName, ServiceName, UpstreamName};
use crate::path::Pattern;
use serde_json::json;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// One service in front of which the sidecar stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Hosts that name no tenant: there, proof alone binds.
    pub shared_hosts: Vec<Spanned<Host>>,
    /// Addresses it is served on.
    pub listeners: Vec<Listener>,
    /// Where requests go.
    pub upstreams: Vec<Upstream>,
    /// Which paths exist.
    pub routes: Vec<Route>,
}

/// An address requests come in on.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: Spanned<ListenerName>,
    /// HTTP/1.1 and HTTP/2, told apart. Port 0: the system chooses.
    pub address: Spanned<SocketAddr>,
    /// Absent: off.
    pub proxy_protocol: Option<Spanned<ProxyProtocol>>,
    /// HTTPS instead of HTTP.
    pub tls: Option<ListenerTls>,
}

/// Whether connections begin with a PROXY header, in which a balancer names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// Every one does, and comes from a trusted hop.
    Required,
    /// Those of trusted hops may.
    Optional,
}

/// A group of endpoints that answer alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub name: Spanned<UpstreamName>,
    /// `http://host:port` or `https://host:port`, at least one.
    pub endpoints: Vec<Spanned<Endpoint>>,
    /// How those with `https` are known.
    pub tls: UpstreamTls,
    /// Which protocol goes out.
    pub protocol: Protocol,
    /// To an established connection.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the head of the response.
    pub response_timeout: Duration,
    /// Longest silence within a response's body.
    pub idle_timeout: Duration,
    /// Longest silence of what is silent by nature: `text/event-stream` and gRPC.
    pub stream_idle_timeout: Duration,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub scheme: Scheme,
    /// Host name or address literal.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Protocol towards an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// gRPC goes out as HTTP/2 with prior knowledge, the rest as HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Whether a route asks for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// A proven principal with a permission.
    #[default]
    Authenticated,
    /// Anybody who names a tenant.
    Public,
}

/// One path of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name.
    pub name: Spanned<RouteName>,
    /// Its path pattern.
    pub path: Spanned<Pattern>,
    /// Whether it asks for a credential.
    pub access: Access,
    /// Absent: the only one.
    pub upstream: Option<Spanned<UpstreamName>>,
    /// A feature the tenant must have.
    pub requires_feature: Option<Spanned<Feature>>,
    /// Passes `Authorization` on to the upstream.
    pub forward_authorization: bool,
}

impl Upstream {
    /// Where `connect_timeout` is absent.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
    /// Where `response_timeout` is absent.
    pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
    /// Where `idle_timeout` is absent.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
    /// Where `stream_idle_timeout` is absent.
    pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
}

impl Scheme {
    const ALL: [Scheme; 2] = [Scheme::Http, Scheme::Https];

    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Endpoint {
    /// `127.0.0.1:4789`, `[::1]:4789`.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// `http://127.0.0.1:4789`, `https://[::1]:4789`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.prefix(), self.authority())
    }
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    /// Neither `http://` nor `https://`.
    #[error("it begins neither with `http://` nor with `https://`")]
    Scheme,
    /// No port, or none from 1 to 65535.
    #[error("it has no port from 1 to 65535")]
    Port,
    /// Neither a host name nor an address.
    #[error("`{0}` is neither a host name nor an address")]
    Host(String),
    /// A path, a query, a fragment or a user.
    #[error("it has more than scheme, host and port")]
    More,
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    /// Reads `http://host:port` or `https://host:port`, and nothing more: paths come from the request, and a user would be a secret in a document.
    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let known = Scheme::ALL.into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme.prefix())?)));
        let (scheme, authority) = known.ok_or(NotAnEndpoint::Scheme)?;
        if authority.contains(['/', '?', '#', '@']) {
            return Err(NotAnEndpoint::More);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(NotAnEndpoint::Port)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|&port: &u16| port > 0 && digits).ok_or(NotAnEndpoint::Port)?;
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match literal {
            Some(address) => address.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
            None => host
                .parse::<Ipv4Addr>()
                .map(|address| address.to_string())
                .or_else(|_| host.parse::<Host>().map(|host| host.to_string()))
                .ok(),
        };
        Ok(Self { scheme, host: host.ok_or_else(|| NotAnEndpoint::Host(authority.to_owned()))?, port })
    }
}

impl Service {
    /// Files with certificates and keys that it names, as they are written.
    pub fn files(&self) -> impl Iterator<Item = &Spanned<String>> {
        let listeners = self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(ListenerTls::files);
        listeners.chain(self.upstreams.iter().flat_map(|upstream| upstream.tls.files()))
    }

    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let shared_hosts = map.optional("shared_hosts", |item| value::set(item, "host", value::host));
        let listeners = map.some("listeners", named("listener", "name", Listener::read));
        let upstreams = map.some("upstreams", named("upstream", "name", Upstream::read));
        let routes = map.some("routes", named("route", "name", Route::read));
        Ok(Self {
            name: head.name()?,
            shared_hosts: shared_hosts?.unwrap_or_default(),
            listeners: listeners?,
            upstreams: upstreams?,
            routes: routes?,
        })
    }
}

impl Listener {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let name = map.required("name", spanned(value::name));
        let address = map.required("address", spanned(address));
        let words = [("off", ProxyProtocol::Off), ("required", ProxyProtocol::Required), ("optional", ProxyProtocol::Optional)];
        let proxy_protocol = map.optional("proxy_protocol", spanned(|item| value::word(item, &words)));
        let tls = map.optional("tls", ListenerTls::read);
        map.finish();
        Ok(Self { name: name?, address: address?, proxy_protocol: proxy_protocol?, tls: tls? })
    }
}

/// An address with its port.
fn address(item: &Item<'_>) -> Outcome<SocketAddr> {
    let complaint =
        || wrong(format!("{} is no address with a port", item.label())).expected("an address such as `127.0.0.1:8080` or `[::]:8080`");
    if let crate::text::Value::Int(port @ 0..=65_535) = item.value() {
        return Err(item.refuse(complaint().hint(format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` for all addresses"))));
    }
    let text = value::string(item)?;
    text.parse().map_err(|_| {
        let hint = match text.rsplit_once(':') {
            Some(("", port)) => format!("write `0.0.0.0:{port}` for all addresses"),
            Some(("localhost", port)) => format!("write `127.0.0.1:{port}`"),
            Some((host, _)) if host.parse::<Host>().is_ok() => "write the address itself: names are not looked up".to_owned(),
            None if text.parse::<IpAddr>().is_ok() => "add the port".to_owned(),
            _ => return item.refuse(complaint()),
        };
        item.refuse(complaint().hint(hint))
    })
}

impl Upstream {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let name = map.required("name", spanned(value::name));
        let endpoints = map.required("endpoints", |item| value::some_set(item, "endpoint", endpoint));
        let protocols = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
        let protocol = map.optional("protocol", |item| value::word(item, &protocols));
        let connect_timeout = map.optional("connect_timeout", value::some_duration);
        let response_timeout = map.optional("response_timeout", value::some_duration);
        let idle_timeout = map.optional("idle_timeout", value::some_duration);
        let stream_idle_timeout = map.optional("stream_idle_timeout", value::some_duration);
        let is_plain = endpoints.as_ref().is_ok_and(|all| all.iter().all(|endpoint| endpoint.value.scheme == Scheme::Http));
        let tls = map.optional("tls", |item| if is_plain { Err(item.refuse(unused_tls())) } else { UpstreamTls::read(item) });
        map.finish();
        Ok(Self {
            name: name?,
            endpoints: endpoints?,
            tls: tls?.unwrap_or_default(),
            protocol: protocol?.unwrap_or_default(),
            connect_timeout: connect_timeout?.unwrap_or(Self::CONNECT_TIMEOUT),
            response_timeout: response_timeout?.unwrap_or(Self::RESPONSE_TIMEOUT),
            idle_timeout: idle_timeout?.unwrap_or(Self::IDLE_TIMEOUT),
            stream_idle_timeout: stream_idle_timeout?.unwrap_or(Self::STREAM_IDLE_TIMEOUT),
        })
    }
}

fn unused_tls() -> Complaint {
    let complaint = wrong("`tls` says how `https://` endpoints are known, and this upstream has none");
    complaint.hint("write `https://` where an endpoint speaks TLS, or remove `tls`")
}

fn endpoint(item: &Item<'_>) -> Outcome<Endpoint> {
    let text = value::string(item)?;
    text.parse().map_err(|why: NotAnEndpoint| {
        let complaint = wrong(format!("{} is no endpoint: {why}", item.label())).expected("`http://host:port` or `https://host:port`");
        let scheme = if text.starts_with(Scheme::Https.prefix()) { Scheme::Https } else { Scheme::Http };
        let (prefix, port) = (scheme.prefix(), scheme.default_port());
        let bare = text.trim_start_matches(prefix).split(['/', '?', '#']).next().unwrap_or_default();
        let meant = [format!("{prefix}{bare}"), format!("{prefix}{bare}:{port}")];
        let meant = meant.iter().find(|meant| meant.parse::<Endpoint>().is_ok());
        item.refuse(match meant {
            Some(meant) => complaint.hint(format!("write `{meant}`")),
            None => complaint,
        })
    })
}

impl Route {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let name = map.required("name", spanned(value::name));
        let path = map.required("path", spanned(value::pattern));
        let accesses = [("authenticated", Access::Authenticated), ("public", Access::Public)];
        let access = map.optional("access", |item| value::word(item, &accesses));
        let upstream = map.optional("upstream", spanned(value::name));
        let requires_feature = map.optional("requires_feature", spanned(value::name));
        let forward_authorization = map.optional("forward_authorization", value::truth);
        map.finish();
        Ok(Self {
            name: name?,
            path: path?,
            access: access?.unwrap_or_default(),
            upstream: upstream?,
            requires_feature: requires_feature?,
            forward_authorization: forward_authorization?.unwrap_or_default(),
        })
    }
}

impl Service {
    pub(super) fn schema() -> schema::Parts {
        let hosts = "Host names that name no tenant: there, proof alone binds a request to one.";
        let fields = vec![
            optional("shared_hosts", schema::set_of(hosts, schema::host("A DNS name."))),
            required("listeners", schema::some(schema::list("Addresses it is served on.", Listener::schema()))),
            required("upstreams", schema::some(schema::list("Where requests go.", Upstream::schema()))),
            required("routes", schema::some(schema::list("Which paths exist; the most specific wins.", Route::schema()))),
        ];
        ("Listeners, upstreams and routes of one service.", fields, Vec::new())
    }
}

impl Listener {
    fn schema() -> Schema {
        let pattern = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";
        let address = schema::text("Address and port; port 0: the system chooses.", pattern, &["127.0.0.1:8080", "[::]:8080"]);
        let proxy = "Whether connections begin with a PROXY header (version 1 or 2), in which a trusted hop names the client.";
        let fields = vec![
            required("name", schema::name("Its name.")),
            required("address", address),
            optional("proxy_protocol", schema::word(proxy, &["off", "required", "optional"])),
            optional("tls", ListenerTls::schema()),
        ];
        schema::object("An address requests come in on; HTTP/1.1 and HTTP/2 are told apart.", fields)
    }
}

impl Upstream {
    fn schema() -> Schema {
        let endpoint = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
        let endpoint = schema::text("Host or address, and port.", endpoint, &["http://127.0.0.1:4789", "https://api.internal:443"]);
        let fields = vec![
            required("name", schema::name("Its name.")),
            required("endpoints", schema::some(schema::set_of("Endpoints that answer alike.", endpoint))),
            optional("tls", UpstreamTls::schema()),
            optional("protocol", schema::word("`auto`: gRPC goes out as HTTP/2, the rest as HTTP/1.1.", &["auto", "http1", "http2"])),
            optional("connect_timeout", schema::some_duration("To an established connection; left out: 1s.")),
            optional("response_timeout", schema::some_duration("From the request's last byte to the response's head; left out: 15s.")),
            optional("idle_timeout", schema::some_duration("Longest silence within a response's body; left out: 60s.")),
            optional("stream_idle_timeout", schema::some_duration("The same for `text/event-stream` and gRPC; left out: 1h.")),
        ];
        let upstream = schema::object("A group of endpoints that answer alike.", fields);
        let encrypted = json!({ "properties": { "endpoints": { "contains": { "pattern": "^https://" } } } });
        schema::with(schema::with(upstream, "if", json!({ "required": ["tls"] })), "then", encrypted)
    }
}

impl Route {
    fn schema() -> Schema {
        let path = "Its path: literal segments, `{name}` for one segment, a final `**` for any number of them.";
        let fields = vec![
            required("name", schema::name("Its name.")),
            required("path", schema::path(path)),
            optional("access", schema::word("`public`: no credential is asked.", &["authenticated", "public"])),
            optional("upstream", schema::name("Where it goes; left out: the only upstream.")),
            optional("requires_feature", schema::name("A feature that the tenant must have.")),
            optional("forward_authorization", schema::truth("Whether `Authorization` is passed on to the upstream.")),
        ];
        schema::object("One path of the service.", fields)
    }
}
