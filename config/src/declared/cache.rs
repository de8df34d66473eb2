//! Kind `CachePolicy`: read and checked from the start; it takes effect with the cache.

use super::read::{Head, Scope};
use super::reader::{Item, Map, Outcome, wrong};
use super::schema::{self, Schema, optional};
use super::value;
use super::{AppliesTo, Enforce};
use crate::name::DocumentName;
use serde_json::json;
use std::time::Duration;

/// What may be kept and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePolicy {
    /// Whether it acts.
    pub enforce: Enforce,
    /// Which requests it is about.
    pub applies_to: AppliesTo,
    /// Freshness where the response names none; absent: `core.cache.default_ttl`.
    pub ttl: Option<Duration>,
    /// Who may be answered from one stored response.
    pub share: Share,
    /// Query parameters in the key; absent: all.
    pub key_query: Option<Vec<String>>,
    /// Request headers in the key, lower case.
    pub key_headers: Vec<String>,
    /// Serves stale while it is refreshed (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// Serves stale when the upstream fails (RFC 5861).
    pub stale_if_error: Duration,
    /// Larger responses are not kept.
    pub object_bytes_max: u64,
    /// For purges.
    pub tags: Vec<String>,
}

/// Who may be answered from one stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// The principals of one tenant.
    #[default]
    Tenant,
    /// One principal.
    User,
    /// Everybody; platform-wide only.
    Public,
}

impl CachePolicy {
    /// Where `object_bytes_max` is absent.
    pub const OBJECT_BYTES_MAX: u64 = 1 << 20;

    pub(super) fn read(head: &Head<'_>, map: &mut Map<'_>) -> Outcome<Self> {
        let enforce = Enforce::read_of(head, map);
        let applies_to = AppliesTo::read(head, map);
        let ttl = map.optional("ttl", value::duration);
        let share = map.optional("share", |item| Share::read(item, head.scope));
        let key = map.optional("key", Key::read);
        let stale_while_revalidate = map.optional("stale_while_revalidate", value::duration);
        let stale_if_error = map.optional("stale_if_error", value::duration);
        let object_bytes_max = map.optional("object_bytes_max", value::size);
        let tags = map.optional("tags", |item| value::set(item, "tag", value::name::<DocumentName>));
        let Key { query, headers } = key?.unwrap_or_default();
        Ok(Self {
            enforce: enforce?,
            applies_to: applies_to?,
            ttl: ttl?,
            share: share?.unwrap_or_default(),
            key_query: query,
            key_headers: headers,
            stale_while_revalidate: stale_while_revalidate?.unwrap_or_default(),
            stale_if_error: stale_if_error?.unwrap_or_default(),
            object_bytes_max: object_bytes_max?.unwrap_or(Self::OBJECT_BYTES_MAX),
            tags: tags?.unwrap_or_default().into_iter().map(|tag| tag.value.to_string()).collect(),
        })
    }
}

impl Share {
    fn read(item: &Item<'_>, scope: Scope) -> Outcome<Self> {
        let share = value::word(item, &[("tenant", Share::Tenant), ("user", Share::User), ("public", Share::Public)])?;
        if share == Share::Public && scope == Scope::Tenant {
            let complaint = wrong("`share: public` stands only in platform-wide documents");
            return Err(item.refuse(complaint.hint("write `tenant` or `user`: what one tenant says must not reach another")));
        }
        Ok(share)
    }
}

/// What is in the key beside tenant, method and path.
#[derive(Default)]
struct Key {
    query: Option<Vec<String>>,
    headers: Vec<String>,
}

impl Key {
    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let query = map.optional("query", |item| value::set(item, "parameter", value::line(200)));
        let headers = map.optional("headers", |item| value::set(item, "header", key_header));
        map.finish();
        Ok(Self { query: query?.map(value::bare), headers: value::bare(headers?.unwrap_or_default()) })
    }
}

/// Headers that carry a credential.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// A request header that may be in a key: a credential in a key would be a secret at rest, and share nothing.
fn key_header(item: &Item<'_>) -> Outcome<String> {
    let name = value::header(item)?;
    if CREDENTIALS.contains(&name.as_str()) {
        return Err(item.refuse(wrong(format!("header `{name}` carries a credential")).hint("write `share: user` instead")));
    }
    Ok(name)
}

impl CachePolicy {
    pub(super) fn schema() -> schema::Parts {
        let share = "Who may be answered from one stored response; `public`: platform-wide only.";
        let fields = vec![
            optional("enforce", Enforce::schema()),
            optional("applies_to", AppliesTo::schema()),
            optional("ttl", schema::duration("Freshness where the response names none; left out: `core.cache.default_ttl`.")),
            optional("share", schema::word(share, &["tenant", "user", "public"])),
            optional("key", Key::schema()),
            optional("stale_while_revalidate", schema::duration("Serves stale while it is refreshed (RFC 5861).")),
            optional("stale_if_error", schema::duration("Serves stale when the upstream fails (RFC 5861).")),
            optional("object_bytes_max", schema::size("Larger responses are not kept; left out: 1MiB.")),
            optional("tags", schema::names("Names for purges.")),
        ];
        let tenant = json!({ "properties": {
            "applies_to": AppliesTo::without_scope(),
            "enforce": Enforce::schema_of_tenant(),
            "share": { "not": { "const": "public" } },
        } });
        ("What may be kept and for how long.", fields, schema::by_scope(Some(tenant), None))
    }
}

impl Key {
    fn schema() -> Schema {
        let header =
            schema::with(schema::header("A header."), "not", json!({ "pattern": format!("^({})$", schema::any_case(&CREDENTIALS)) }));
        let fields = vec![
            optional("query", schema::set_of("Query parameters; left out: all.", schema::line("A parameter.", 200))),
            optional("headers", schema::set_of("Request headers.", header)),
        ];
        schema::object("What is in the key beside tenant, method and path.", fields)
    }
}
