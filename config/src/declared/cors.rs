//! Cross-origin rules: which pages of other origins may ask, and what they may read of the answers.

use super::reader::{Item, Outcome, wrong};
use super::schema::{self, Schema, optional, required};
use super::value;
use crate::diagnostic::Spanned;
use crate::name::Host;
use http::{HeaderName, Method};
use serde_json::json;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Cross-origin resource sharing, as the Fetch standard has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may read answers.
    pub origins: Origins,
    /// Methods they may use; none: those that need no preflight.
    pub methods: Vec<Method>,
    /// Header fields they may send.
    pub headers: Vec<HeaderName>,
    /// Header fields they may read beside those that they always may.
    pub exposed_headers: Vec<HeaderName>,
    /// How long a preflight may be remembered.
    pub max_age: Option<Duration>,
    /// Whether the browser may send what it knows of its user: cookies, certificates.
    pub credentials: bool,
    /// Whether pages of a less private network may ask.
    pub private_network: bool,
}

/// Origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one: `*`.
    Any,
    /// These, exactly; `null` is the one of pages that have none.
    Listed(Vec<String>),
}

impl Cors {
    /// Entries of one list: methods and headers are told with every preflight.
    const ENTRIES_MAX: usize = 256;
    /// Browsers remember a preflight for a day at most.
    const MAX_AGE: Duration = Duration::from_secs(86_400);

    pub(super) fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let origins = map.required("origins", origins);
        let methods = map.optional("methods", |item| few(item, "method", method));
        let headers = map.optional("headers", |item| few(item, "header", header));
        let exposed_headers = map.optional("exposed_headers", |item| few(item, "header", header));
        let max_age = map.optional("max_age", |item| match value::duration(item)? {
            age if age <= Self::MAX_AGE => Ok(age),
            _ => Err(item.refuse(wrong("`max_age` is longer than browsers remember").expected("a duration up to `1d`"))),
        });
        let credentials = map.optional("credentials", value::truth);
        let private_network = map.optional("private_network", value::truth);
        let (at, at_network) = (map.peek("credentials"), map.peek("private_network"));
        map.finish();
        let cors = Self {
            origins: origins?,
            methods: methods?.unwrap_or_default(),
            headers: headers?.unwrap_or_default(),
            exposed_headers: exposed_headers?.unwrap_or_default(),
            max_age: max_age?,
            credentials: credentials?.unwrap_or_default(),
            private_network: private_network?.unwrap_or_default(),
        };
        let too_wide = match &cors.origins {
            Origins::Any => Some("`*`"),
            Origins::Listed(list) => list.iter().any(|origin| origin == NULL).then_some("`null`"),
        };
        match (too_wide, at.filter(|_| cors.credentials), at_network.filter(|_| cors.private_network)) {
            (Some(origins), Some(item), _) => {
                let complaint = wrong(format!("{origins} as origin with `credentials`: any page could act for a signed-in user"));
                Err(item.refuse(complaint.hint("name the origins one by one, or leave `credentials` out")))
            }
            (Some(origins), _, Some(item)) => {
                let complaint = wrong(format!("{origins} as origin with `private_network`: any page could reach this network"));
                Err(item.refuse(complaint.hint("name the origins one by one, or leave `private_network` out")))
            }
            _ => Ok(cors),
        }
    }
}

/// The origin of pages that have none: of a file, of a frame in a sandbox.
const NULL: &str = "null";

fn origins(item: &Item<'_>) -> Outcome<Origins> {
    let list = value::some_set(item, "origin", origin)?;
    match list.iter().find(|origin| origin.value == "*") {
        None if list.len() > Cors::ENTRIES_MAX => Err(too_many(item)),
        None => Ok(Origins::Listed(value::bare(list))),
        Some(_) if list.len() == 1 => Ok(Origins::Any),
        Some(_) => Err(item.refuse(wrong("`*` stands beside other origins").hint("`*` means every origin: leave the others, or it, out"))),
    }
}

/// A set that is no longer than it may be.
fn few<'a, T: Display>(item: &Item<'a>, what: &str, read: impl Fn(&Item<'a>) -> Outcome<T>) -> Outcome<Vec<T>> {
    let list: Vec<Spanned<T>> = value::set(item, what, read)?;
    if list.len() > Cors::ENTRIES_MAX { Err(too_many(item)) } else { Ok(value::bare(list)) }
}

fn too_many(item: &Item<'_>) -> super::reader::Reported {
    let complaint = wrong(format!("{} has more than {} entries", item.label(), Cors::ENTRIES_MAX));
    item.refuse(complaint.hint("leave out what no page needs"))
}

fn origin(item: &Item<'_>) -> Outcome<String> {
    if matches!(item.value(), crate::text::Value::Null) {
        let complaint = wrong(format!("{} is no origin", item.label())).expected("an origin such as `https://app.example.com`");
        return Err(item.refuse(complaint.hint("write `\"null\"` in quotes for pages that have none: files, frames in a sandbox")));
    }
    let text = value::string(item)?;
    if is_origin(text) || matches!(&**text, "*" | NULL) {
        return Ok(text.to_string());
    }
    let complaint = wrong(format!("{} is no origin", item.label())).expected("an origin such as `https://app.example.com`");
    // Upper case, a path or the scheme's own port: what a browser would send instead.
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let lower = rest.split('/').next().unwrap_or_default().to_lowercase();
    let bare = own_port(scheme).and_then(|port| lower.strip_suffix(port)?.strip_suffix(':')).unwrap_or(&lower);
    let meant = format!("{scheme}://{bare}");
    Err(item.refuse(if is_origin(&meant) { complaint.hint(format!("browsers send `{meant}`")) } else { complaint }))
}

/// An origin as browsers send it (RFC 6454 section 6.2): scheme, host, and the port where it is not the scheme's own.
pub(super) fn is_origin(text: &str) -> bool {
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

fn header(item: &Item<'_>) -> Outcome<HeaderName> {
    let name = value::header_name(item)?;
    if name.as_str() == "*" {
        return Err(item.refuse(
            wrong("`*` is no header here").hint("name the headers: `*` would not mean `authorization`, nor anything with credentials"),
        ));
    }
    Ok(name)
}

fn method(item: &Item<'_>) -> Outcome<Method> {
    let text = value::string(item)?;
    super::role::method_is_good(text)
        .and_then(|()| if &**text == "*" { Err(wrong("`*` is no method here").hint("name the methods")) } else { Ok(()) })
        .and_then(|()| Method::from_bytes(text.as_bytes()).map_err(|_| wrong(format!("{} is no method", item.label()))))
        .map_err(|complaint| item.refuse(complaint))
}

impl Cors {
    pub(super) fn schema() -> Schema {
        let few = |list| schema::with(list, "maxItems", json!(Self::ENTRIES_MAX));
        let host = r"(\[[0-9a-fA-F:.]+\]|[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?)";
        let pattern = format!(r"^(null|\*|https?://{host}(:[1-9][0-9]{{0,4}})?)$");
        let what = "Scheme, host, and the port where it is not the scheme's own; `null`: pages that have none; `*`, alone: every page.";
        let origin = schema::text(what, &pattern, &["https://app.example.com"]);
        let origin = schema::with(origin, "not", json!({ "pattern": "^(http://.*:80|https://.*:443)$" }));
        let method = schema::text("A method in upper case.", "^[A-Z0-9_-]{1,32}$", &["GET"]);
        let header = schema::with(schema::header("A header."), "not", json!({ "const": "*" }));
        let exposed = "Header fields of answers that pages may read beside those that they always may.";
        let fields = vec![
            required("origins", few(schema::some(schema::set_of("Origins, exact.", origin)))),
            optional("methods", few(schema::set_of("Methods; left out: GET, HEAD and POST.", method))),
            optional("headers", few(schema::set_of("Request headers.", header.clone()))),
            optional("exposed_headers", few(schema::set_of(exposed, header))),
            optional("max_age", schema::duration("How long a preflight may be remembered, up to a day.")),
            optional("credentials", schema::truth("Whether the browser may send cookies and certificates; not with `*` or `null`.")),
            optional("private_network", schema::truth("Whether pages of a less private network may ask; not with `*` or `null`.")),
        ];
        let either = json!({ "anyOf": [{ "contains": { "const": "*" } }, { "contains": { "const": "null" } }] });
        let yes = json!({ "const": true });
        let wide = json!({ "properties": { "origins": either }, "required": ["origins"] });
        let narrow = json!({ "not": { "anyOf": [
            { "properties": { "credentials": yes }, "required": ["credentials"] },
            { "properties": { "private_network": yes }, "required": ["private_network"] },
        ] } });
        let alone = json!({ "properties": { "origins": { "if": { "contains": { "const": "*" } }, "then": { "maxItems": 1 } } } });
        let rules = json!([{ "if": wide, "then": narrow }, alone]);
        schema::with(schema::object("Cross-origin resource sharing, answered by Bulkhead.", fields), "allOf", rules)
    }
}
