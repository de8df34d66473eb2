//! Kind `SecurityPolicy`: limits on requests, CORS, staleness.

use super::Enforce;
use super::read::Head;
use super::reader::{Item, Map, Outcome, wrong};
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::name::Host;
use serde_json::json;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Bounds on what a request may look like. Platform-wide: for all; within a tenant: only tighter.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityPolicy {
    /// Whether it refuses.
    pub enforce: Enforce,
    /// Bounds on a request; absent keys keep the default.
    pub request: RequestBounds,
    /// Cross-origin rules; read and checked, answered later.
    pub cors: Option<Cors>,
    /// Longest time a cut-off sidecar serves this policy.
    pub max_staleness: Option<Duration>,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed; platform-wide only.
    pub trusted_hops: Vec<ipnet::IpNet>,
}

/// Bounds on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestBounds {
    /// Bytes of request line and header section.
    pub header_bytes_max: Option<u64>,
    /// Number of header fields.
    pub headers_max: Option<u32>,
    /// Bytes of a body.
    pub body_bytes_max: Option<u64>,
    /// Time to the end of the head.
    pub head_timeout: Option<Duration>,
    /// Longest silence within a request's body.
    pub body_idle_timeout: Option<Duration>,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cors {
    /// Origins, exact.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Request headers, lower case.
    pub headers: Vec<String>,
    /// How long a preflight may be remembered.
    pub max_age: Option<Duration>,
    /// Whether credentials may be sent.
    pub credentials: bool,
}

impl SecurityPolicy {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let enforce = Enforce::read(map);
        let request = map.optional("request", RequestBounds::read);
        let cors = map.optional("cors", Cors::read);
        let max_staleness = map.optional("max_staleness", value::some_duration);
        head.platform_only(map, "trusted_hops", "a tenant cannot say whom the platform believes");
        let trusted_hops = map.optional("trusted_hops", |item| value::set(item, "block", value::network));
        Ok(Self {
            enforce: enforce?,
            request: request?.unwrap_or_default(),
            cors: cors?,
            max_staleness: max_staleness?,
            trusted_hops: value::bare(trusted_hops?.unwrap_or_default()),
        })
    }
}

impl RequestBounds {
    /// What `header_bytes_max` can be: below, no browser gets through; above, heads are a way to fill memory.
    pub const HEADER_BYTES: RangeInclusive<u64> = 1_024..=1_048_576;
    /// What `headers_max` can be.
    pub const HEADERS: RangeInclusive<u32> = 1..=1_000;

    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let header_bytes_max = map.optional("header_bytes_max", |item| match value::size(item)? {
            bytes if Self::HEADER_BYTES.contains(&bytes) => Ok(bytes),
            _ => Err(item.refuse(wrong("`header_bytes_max` is out of range").expected("a size from 1KiB to 1MiB"))),
        });
        let headers_max = map.optional("headers_max", value::whole(Self::HEADERS));
        let body_bytes_max = map.optional("body_bytes_max", value::size);
        let head_timeout = map.optional("head_timeout", value::some_duration);
        let body_idle_timeout = map.optional("body_idle_timeout", value::some_duration);
        map.finish();
        Ok(Self {
            header_bytes_max: header_bytes_max?,
            headers_max: headers_max?,
            body_bytes_max: body_bytes_max?,
            head_timeout: head_timeout?,
            body_idle_timeout: body_idle_timeout?,
        })
    }
}

impl Cors {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let origins = map.required("origins", |item| value::some_set(item, "origin", origin));
        let methods = map.optional("methods", |item| value::set(item, "method", method));
        let headers = map.optional("headers", |item| value::set(item, "header", value::header));
        let max_age = map.optional("max_age", value::duration);
        let credentials = map.optional("credentials", value::truth);
        map.finish();
        Ok(Self {
            origins: value::bare(origins?),
            methods: value::bare(methods?.unwrap_or_default()),
            headers: value::bare(headers?.unwrap_or_default()),
            max_age: max_age?,
            credentials: credentials?.unwrap_or_default(),
        })
    }
}

fn origin(item: &Item<'_>) -> Outcome<String> {
    let text = value::string(item)?;
    if is_origin(text) {
        return Ok(text.to_string());
    }
    let complaint = wrong(format!("{} is no origin", item.label())).expected("an origin such as `https://app.example.com`");
    if &**text == "*" {
        return Err(item.refuse(complaint.hint("name the origins one by one: any page could act for a signed-in user")));
    }
    // Upper case, a path or the scheme's own port: what a browser would send instead.
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let lower = rest.split('/').next().unwrap_or_default().to_lowercase();
    let bare = own_port(scheme).and_then(|port| lower.strip_suffix(port)?.strip_suffix(':')).unwrap_or(&lower);
    let meant = format!("{scheme}://{bare}");
    Err(item.refuse(if is_origin(&meant) { complaint.hint(format!("browsers send `{meant}`")) } else { complaint }))
}

/// An origin as browsers send it (RFC 6454 section 6.2): scheme, host, and the port where it is not the scheme's own.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let Some(own) = own_port(scheme) else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || host.parse::<Host>().is_ok_and(|known| known.as_str() == host),
    };
    host_good && port.is_none_or(|port| port != own && !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok())
}

fn own_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    }
}

fn method(item: &Item<'_>) -> Outcome<String> {
    let text = value::string(item)?;
    super::role::method_is_good(text)
        .and_then(|()| if &**text == "*" { Err(wrong("`*` is no method here").hint("name the methods")) } else { Ok(()) })
        .map(|()| text.to_string())
        .map_err(|complaint| item.refuse(complaint))
}

impl SecurityPolicy {
    pub(super) fn schema() -> schema::Parts {
        let hops = "Peers whose `X-Forwarded-For` and `Forwarded` are believed; platform-wide only.";
        let fields = vec![
            optional("enforce", Enforce::schema()),
            optional("request", RequestBounds::schema()),
            optional("cors", Cors::schema()),
            optional("max_staleness", schema::some_duration("Longest time a sidecar that is cut off serves this policy.")),
            optional("trusted_hops", schema::set_of(hops, schema::network("A block of addresses."))),
        ];
        let more = schema::by_scope(Some(schema::without(&["trusted_hops"])), None);
        ("Bounds on requests, cross-origin rules, staleness. Platform-wide: for all; within a tenant: only tighter.", fields, more)
    }
}

impl RequestBounds {
    fn schema() -> Schema {
        let fields = vec![
            optional("header_bytes_max", schema::size("Request line and header section together, 1KiB to 1MiB.")),
            optional("headers_max", schema::whole("Number of header fields.", &Self::HEADERS)),
            optional("body_bytes_max", schema::size("A request's body.")),
            optional("head_timeout", schema::some_duration("To the end of the head.")),
            optional("body_idle_timeout", schema::some_duration("Longest silence within a request's body.")),
        ];
        schema::object("Bounds on a request; what is left out keeps its default.", fields)
    }
}

impl Cors {
    fn schema() -> Schema {
        let host = r"(\[[0-9a-fA-F:.]+\]|[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?)";
        let pattern = format!("^https?://{host}(:[1-9][0-9]{{0,4}})?$");
        let origin = schema::text("Scheme, host, and the port where it is not the scheme's own.", &pattern, &["https://app.example.com"]);
        let origin = schema::with(origin, "not", json!({ "pattern": "^(http://.*:80|https://.*:443)$" }));
        let method = schema::text("A method in upper case.", "^[A-Z0-9_-]{1,32}$", &["GET"]);
        let fields = vec![
            required("origins", schema::some(schema::set_of("Origins, exact.", origin))),
            optional("methods", schema::set_of("Methods.", method)),
            optional("headers", schema::set_of("Request headers.", schema::header("A header."))),
            optional("max_age", schema::duration("How long a preflight may be remembered.")),
            optional("credentials", schema::truth("Whether credentials may be sent.")),
        ];
        schema::object("Cross-origin resource sharing.", fields)
    }
}
