//! Kind `Service`: where requests come in, which paths exist, where they go.

use crate::diagnostic::Spanned;
use crate::name::{Feature, Host, ListenerName, RouteName, ServiceName, UpstreamName};
use crate::path::Pattern;
use std::net::SocketAddr;
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
    /// HTTP/1.1 and h2c, detected. Port 0: the system chooses.
    pub address: Spanned<SocketAddr>,
}

/// A group of endpoints that answer alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub name: Spanned<UpstreamName>,
    /// `http://host:port`, at least one.
    pub endpoints: Vec<Spanned<Endpoint>>,
    /// Which protocol goes out.
    pub protocol: Protocol,
    /// To an established connection.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the head of the response.
    pub response_timeout: Duration,
    /// Longest silence within a response's body.
    pub idle_timeout: Duration,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address literal.
    pub host: String,
    /// Port.
    pub port: u16,
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
