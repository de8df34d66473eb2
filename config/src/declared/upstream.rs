//! Upstreams of a Service: groups of endpoints that answer alike, and how they are asked.

use super::reader::{Complaint, Item, Outcome, spanned, wrong};
use super::resilience::{AdaptiveConcurrency, HealthCheck, Limits, Outlier, Question, Retry};
use super::schema::{self, Schema, optional, required};
use super::tls::UpstreamTls;
use super::value;
use crate::diagnostic::Spanned;
use crate::name::{Host, UpstreamName};
use serde_json::json;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

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
    /// To `https` endpoints what they pick (ALPN). In the clear gRPC goes out as HTTP/2 with prior knowledge, the rest as HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Upstream {
    /// Where `refresh` is absent.
    pub const REFRESH: Duration = Duration::from_secs(5);
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

impl Upstream {
    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let name = map.required("name", spanned(value::name));
        let endpoints = map.required("endpoints", |item| value::some_set(item, "endpoint", endpoint));
        let protocols = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
        let protocol = map.optional("protocol", |item| value::word(item, &protocols));
        let refresh = map.optional("refresh", value::some_duration);
        let retry = map.optional("retry", Retry::read);
        let outlier = map.optional("outlier", Outlier::read);
        let is_http1 = protocol.as_ref().is_ok_and(|protocol| *protocol == Some(Protocol::Http1));
        let health_check = map.optional("health_check", |item| {
            let check = HealthCheck::read(item)?;
            let is_grpc = matches!(check.question, Question::Grpc(_));
            let complaint = || wrong("gRPC goes out over HTTP/2, and this upstream is asked over HTTP/1.1");
            let hint = "write `protocol: auto` or `http2`, or ask with `path`";
            if is_grpc && is_http1 { Err(item.refuse(complaint().hint(hint))) } else { Ok(check) }
        });
        let limits = map.optional("limits", Limits::read);
        let adaptive_concurrency = map.optional("adaptive_concurrency", AdaptiveConcurrency::read);
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
            refresh: refresh?.unwrap_or(Self::REFRESH),
            retry: retry?,
            outlier: outlier?,
            health_check: health_check?,
            limits: limits?,
            adaptive_concurrency: adaptive_concurrency?,
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

const AUTO: &str = "`auto`: over TLS what the endpoint picks, in the clear HTTP/1.1; gRPC always goes out as HTTP/2.";

impl Upstream {
    pub(super) fn schema() -> Schema {
        let endpoint = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
        let endpoint = schema::text("Host or address, and port.", endpoint, &["http://127.0.0.1:4789", "https://api.internal:443"]);
        let fields = vec![
            required("name", schema::name("Its name.")),
            required("endpoints", schema::some(schema::set_of("Endpoints that answer alike.", endpoint))),
            optional("tls", UpstreamTls::schema()),
            optional("protocol", schema::word(AUTO, &["auto", "http1", "http2"])),
            optional("refresh", schema::some_duration("How often names of endpoints are resolved; left out: 5s.")),
            optional("retry", Retry::schema()),
            optional("outlier", Outlier::schema()),
            optional("health_check", HealthCheck::schema()),
            optional("limits", Limits::schema()),
            optional("adaptive_concurrency", AdaptiveConcurrency::schema()),
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
