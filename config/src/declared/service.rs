//! Kind `Service`: where requests come in, which paths exist, where they go.

use super::Enforce;
use super::answered::Answered;
use super::header_rules::{HeaderRules, Side};
use super::read::Head;
use super::reader::{Item, Map, Outcome, named, spanned, wrong};
use super::response_tenant::ResponseTenant;
use super::rewrite::Rewrite;
use super::schema::{self, Schema, optional, required};
use super::tls::ListenerTls;
use super::upstream::Upstream;
use super::value;
use crate::diagnostic::Spanned;
use crate::name::{Feature, Host, ListenerName, RouteName, ServiceName, UpstreamName};
use crate::path::Pattern;
use std::net::{IpAddr, SocketAddr};

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
    /// Whether its requests are refused.
    pub enforce: Enforce,
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
    /// Bytes of one message of a gRPC call, either way; absent: any number.
    pub grpc_message_bytes_max: Option<u64>,
    /// Where its answers name their tenant.
    pub response_tenant: Option<ResponseTenant>,
    /// What is done to header fields on the way up.
    pub request_headers: Option<HeaderRules>,
    /// And on the way down.
    pub response_headers: Option<HeaderRules>,
    /// Whether its requests are refused.
    pub enforce: Enforce,
    /// What is other at the upstream than the client asked for.
    pub rewrite: Option<Rewrite>,
    /// How it is answered here.
    pub answered: Option<Spanned<Answered>>,
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
        let enforce = Enforce::read(map);
        Ok(Self {
            name: head.name()?,
            shared_hosts: shared_hosts?.unwrap_or_default(),
            listeners: listeners?,
            upstreams: upstreams?,
            routes: routes?,
            enforce: enforce?,
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
        let grpc_message_bytes_max = map.optional("grpc_message_bytes_max", value::size);
        let response_tenant = map.optional("response_tenant", ResponseTenant::read);
        let request_headers = map.optional("request_headers", |item| HeaderRules::read(item, Side::Request));
        let response_headers = map.optional("response_headers", |item| HeaderRules::read(item, Side::Response));
        let enforce = Enforce::read(&mut map);
        let pattern = path.as_ref().ok().map(|path| &path.value);
        let rewrite = map.optional("rewrite", |item| Rewrite::read(item, pattern));
        let answered = Answered::read(&mut map, pattern);
        let at = map.peek("redirect").or(map.peek("respond")).unwrap_or_else(|| map.item().clone());
        map.finish();
        Ok(Self {
            name: name?,
            path: path?,
            access: access?.unwrap_or_default(),
            upstream: upstream?,
            requires_feature: requires_feature?,
            forward_authorization: forward_authorization?.unwrap_or_default(),
            grpc_message_bytes_max: grpc_message_bytes_max?,
            response_tenant: response_tenant?,
            request_headers: request_headers?,
            response_headers: response_headers?,
            enforce: enforce?,
            rewrite: rewrite?,
            answered: answered?.map(|answered| at.spanned(answered)),
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
            optional("enforce", Enforce::schema()),
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
            optional("grpc_message_bytes_max", schema::size("One message of a gRPC call, either way, as it is sent; left out: any size.")),
            optional("response_tenant", ResponseTenant::schema()),
            optional("request_headers", HeaderRules::schema("What is done to header fields on the way to the upstream.")),
            optional("response_headers", HeaderRules::schema("What is done to header fields of the upstream's answers.")),
            optional("enforce", Enforce::schema()),
            optional("rewrite", Rewrite::schema()),
        ];
        let fields = fields.into_iter().chain(Answered::fields()).collect();
        schema::with(schema::object("One path of the service.", fields), "allOf", Answered::rules())
    }
}
