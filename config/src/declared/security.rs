//! Kind `SecurityPolicy`: limits on requests, CORS, staleness.

use super::Enforce;
use super::cors::Cors;
use super::read::Head;
use super::reader::{Item, Map, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::security_headers::SecurityHeaders;
use super::value;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Bounds on what a request may look like. Platform-wide: for all; within a tenant: only tighter.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityPolicy {
    /// It always refuses.
    pub enforce: Enforce,
    /// Bounds on a request; absent keys keep the default.
    pub request: RequestBounds,
    /// Cross-origin rules. A tenant's stand in place of the platform's.
    pub cors: Option<Cors>,
    /// Longest time a cut-off sidecar serves this policy.
    pub max_staleness: Option<Duration>,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed; platform-wide only.
    pub trusted_hops: Vec<ipnet::IpNet>,
    /// What every answer tells browsers to be careful about; platform-wide only.
    pub security_headers: Option<SecurityHeaders>,
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

impl SecurityPolicy {
    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let enforce = Enforce::read_always(map);
        let request = map.optional("request", RequestBounds::read);
        let cors = map.optional("cors", Cors::read);
        let max_staleness = map.optional("max_staleness", value::some_duration);
        head.platform_only(map, "trusted_hops", "a tenant cannot say whom the platform believes");
        let trusted_hops = map.optional("trusted_hops", |item| value::set(item, "block", value::network));
        head.platform_only(map, "security_headers", "they are of the service, which all tenants share");
        let security_headers = map.optional("security_headers", SecurityHeaders::read);
        Ok(Self {
            enforce: enforce?,
            request: request?.unwrap_or_default(),
            cors: cors?,
            max_staleness: max_staleness?,
            trusted_hops: value::bare(trusted_hops?.unwrap_or_default()),
            security_headers: security_headers?,
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

impl SecurityPolicy {
    pub(super) fn schema() -> schema::Parts {
        let hops = "Peers whose `X-Forwarded-For` and `Forwarded` are believed; platform-wide only.";
        let fields = vec![
            optional("enforce", Enforce::schema_always()),
            optional("request", RequestBounds::schema()),
            optional("cors", Cors::schema()),
            optional("max_staleness", schema::some_duration("Longest time a sidecar that is cut off serves this policy.")),
            optional("trusted_hops", schema::set_of(hops, schema::network("A block of addresses."))),
            optional("security_headers", SecurityHeaders::schema()),
        ];
        let more = schema::by_scope(Some(schema::without(&["trusted_hops", "security_headers"])), None);
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
