//! Routes that are answered here: redirects, and answers that the operator wrote.
//!
//! They pass tenant, credential, permission and quota as any route does. A client is sent to a host that the operator wrote or that
//! names a tenant, never to one that a client chose.

use super::header_rules::{FieldValue, HeaderLine, HeaderRules};
use super::reader::{Item, Map, Outcome, wrong};
use super::rewrite::NewPath;
use super::schema::{self, Field, Schema, optional, required};
use super::upstream::Scheme;
use super::value;
use crate::name::Host;
use crate::path::Pattern;
use crate::text::Value;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::Arc;

/// How a route answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It sends its client elsewhere.
    Redirect(Redirect),
    /// It says what the operator wrote.
    Respond(Arc<Respond>),
}

/// Where a client is sent. What is absent stays as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// How.
    pub status: StatusCode,
    /// By which scheme.
    pub scheme: Option<Scheme>,
    /// To which host.
    pub host: Option<Host>,
    /// To which port; absent beside a scheme or a host: the scheme's own.
    pub port: Option<u16>,
    /// To which path; the query stays.
    pub path: Option<NewPath>,
}

/// What the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
    /// Fields.
    pub headers: HeaderRules,
}

/// Where a request came to.
#[derive(Debug, Clone, Copy)]
pub struct Came<'a> {
    /// By which scheme, as its client sees it.
    pub scheme: Scheme,
    /// The host, which names a tenant, or nobody.
    pub host: &'a str,
    /// The port, if it was named.
    pub port: Option<u16>,
    /// Path and query.
    pub target: &'a PathAndQuery,
}

impl Scheme {
    fn own_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Redirect {
    /// Statuses that send a client elsewhere, with and without leave to change the method (RFC 9110 section 15.4).
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

    /// Whether every request is sent elsewhere. Where only scheme, host or port change, those that are there already go on.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.scheme.is_none() && self.host.is_none() && self.port.is_none()
    }

    /// Where a request is sent; nowhere, if that is where it came to.
    #[must_use]
    pub fn location(&self, came: &Came<'_>) -> Option<HeaderValue> {
        let path = self.path.as_ref().map_or_else(|| came.target.path().into(), |path| path.of(came.target.path()));
        let mut location = String::with_capacity(came.target.as_str().len() + 64);
        if !self.is_always() {
            let scheme = self.scheme.unwrap_or(came.scheme);
            let host = self.host.as_ref().map_or(came.host, Host::as_str);
            let came_to = came.port.unwrap_or(came.scheme.own_port());
            if scheme == came.scheme && host == came.host && self.port.is_none_or(|port| port == came_to) && path == came.target.path() {
                return None;
            }
            // Writing to a String cannot fail.
            let _ = write!(location, "{}://{host}", if scheme == Scheme::Http { "http" } else { "https" });
            if let Some(port) = self.port.filter(|port| *port != scheme.own_port()) {
                let _ = write!(location, ":{port}");
            }
        }
        // It begins with one slash: in normal form no path has two, which would be a host to browsers.
        location.push_str(&path);
        if let Some(query) = came.target.query() {
            location.push('?');
            location.push_str(query);
        }
        HeaderValue::try_from(location).ok()
    }

    fn read(item: &Item<'_>, route: Option<&Pattern>) -> Outcome<Self> {
        let mut map = item.map()?;
        let status = map.optional("status", |item| {
            let complaint = || wrong(format!("{} is no status of a redirect", item.label())).expected("one of 301, 302, 303, 307, 308");
            written_status(item).filter(|status| Self::STATUSES.contains(&status.as_u16())).ok_or_else(|| item.refuse(complaint()))
        });
        let scheme = map.optional("scheme", |item| value::word(item, &[("http", Scheme::Http), ("https", Scheme::Https)]));
        let host = map.optional("host", value::host);
        let port = map.optional("port", value::whole(1..=u32::from(u16::MAX)));
        let path = NewPath::read(&mut map, route);
        map.finish();
        let port = port?.and_then(|port| u16::try_from(port).ok());
        let redirect = Self { status: status?.unwrap_or(StatusCode::FOUND), scheme: scheme?, host: host?, port, path: path? };
        if redirect.is_always() && redirect.path.is_none() {
            let complaint = wrong("`redirect` leads to where the request came to");
            return Err(item.refuse(complaint.hint("add `scheme`, `host`, `port`, or one of `path` and `prefix`")));
        }
        Ok(redirect)
    }

    fn schema() -> Schema {
        let way = [
            optional("status", json!({ "enum": Self::STATUSES, "description": "How; left out: 302." })),
            optional("scheme", schema::word("By which scheme; left out: as the request came.", &["http", "https"])),
            optional("host", schema::host("To which host; left out: as the request came.")),
            optional("port", schema::whole("To which port; left out: the scheme's own.", &(1..=u32::from(u16::MAX)))),
        ];
        let fields: Vec<Field> = way.into_iter().chain(NewPath::fields()).collect();
        let object = schema::object("Sends the client elsewhere. A request that is there already goes on to the upstream.", fields);
        let names = ["scheme", "host", "port", "path", "prefix"].map(|name| json!({ "required": [name] }));
        schema::with(schema::with(object, "anyOf", json!(names)), "not", json!({ "required": ["path", "prefix"] }))
    }
}

impl Respond {
    const BODY_BYTES_MAX: usize = 64 << 10;

    fn read(item: &Item<'_>) -> Outcome<Self> {
        let mut map = item.map()?;
        let status = map.required("status", status);
        let body = map.optional("body", body);
        let headers = map.optional("headers", HeaderRules::of_answer);
        let at = map.peek("body");
        map.finish();
        let (status, body, mut headers) = (status?, body?.unwrap_or_default(), headers?.unwrap_or_default());
        if let Some(item) = at.filter(|_| matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) && !body.is_empty()) {
            return Err(item
                .refuse(wrong(format!("an answer of status {} has no body", status.as_u16())).hint("leave it out, or write status 200")));
        }
        if !body.is_empty() && headers.write.iter().all(|line| line.name != header::CONTENT_TYPE) {
            let text = FieldValue::Fixed(HeaderValue::from_static("text/plain; charset=utf-8"));
            headers.write.push(HeaderLine { name: header::CONTENT_TYPE, value: text });
        }
        Ok(Self { status, body, headers })
    }

    fn schema() -> Schema {
        let status = json!({ "type": "integer", "description": "Its status: 200 to 299, or 400 to 599.", "oneOf": [
            { "minimum": 200, "maximum": 299 }, { "minimum": 400, "maximum": 599 },
        ] });
        let body = json!({ "type": "string", "description": "Its body, up to 64KiB.", "maxLength": Self::BODY_BYTES_MAX });
        let headers = "Its fields; left out: `content-type: text/plain; charset=utf-8`.";
        let fields = vec![required("status", status), optional("body", body), optional("headers", HeaderRules::schema_of_answer(headers))];
        let object = schema::object("An answer that the operator wrote; the request does not reach the upstream.", fields);
        let silent = json!({ "properties": { "status": { "enum": [204, 205] } } });
        schema::with(schema::with(object, "if", silent), "then", json!({ "properties": { "body": { "maxLength": 0 } } }))
    }
}

fn written_status(item: &Item<'_>) -> Option<StatusCode> {
    match item.value() {
        Value::Int(written) => StatusCode::from_u16(u16::try_from(*written).ok()?).ok(),
        _ => None,
    }
}

fn status(item: &Item<'_>) -> Outcome<StatusCode> {
    let complaint = || wrong(format!("{} is no status of an answer", item.label())).expected("200 to 299, or 400 to 599");
    match written_status(item).filter(|status| (200..600).contains(&status.as_u16())) {
        Some(status) if status.is_redirection() => Err(item.refuse(complaint().hint("write `redirect` to send clients elsewhere"))),
        Some(status) => Ok(status),
        None => Err(item.refuse(complaint())),
    }
}

fn body(item: &Item<'_>) -> Outcome<Bytes> {
    let text = value::string(item)?;
    if text.len() > Respond::BODY_BYTES_MAX {
        let complaint = wrong(format!("{} is longer than 64KiB", item.label()));
        return Err(item.refuse(complaint.hint("have a service answer with what is so large")));
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

impl Answered {
    /// What a route says that only a request which goes on has a use for.
    const FOR_THE_UPSTREAM: [&'static str; 7] = [
        "upstream",
        "rewrite",
        "forward_authorization",
        "grpc_message_bytes_max",
        "response_tenant",
        "request_headers",
        "response_headers",
    ];

    /// Whether no request of the route goes on to an upstream.
    #[must_use]
    pub fn is_always(&self) -> bool {
        match self {
            Answered::Redirect(redirect) => redirect.is_always(),
            Answered::Respond(_) => true,
        }
    }

    /// What a request for this path is answered.
    pub(crate) fn show(&self, path: &str) -> String {
        let Answered::Redirect(to) = self else { return "answered here with what the route says".to_owned() };
        let path = to.path.as_ref().map_or(path.into(), |new| new.of(path));
        let mut moved = Vec::new();
        moved.extend(to.scheme.map(|scheme| format!("over {}", if scheme == Scheme::Http { "HTTP" } else { "HTTPS" })));
        moved.extend(to.host.as_ref().map(|host| format!("at host `{host}`")));
        moved.extend(to.port.map(|port| format!("at port {port}")));
        match moved.as_slice() {
            [] => format!("sent to `{path}`"),
            moved => format!("sent to `{path}` {}, unless it came to that", moved.join(", ")),
        }
    }

    /// `redirect` or `respond` of a route.
    pub(super) fn read(map: &mut Map<'_>, route: Option<&Pattern>) -> Outcome<Option<Self>> {
        let redirect = map.optional("redirect", |item| Redirect::read(item, route));
        let respond = map.optional("respond", Respond::read);
        let answered = match (redirect?, respond?) {
            (None, None) => return Ok(None),
            (Some(redirect), None) => Answered::Redirect(redirect),
            (None, Some(respond)) => Answered::Respond(Arc::new(respond)),
            (Some(_), Some(_)) => {
                let complaint = wrong("a route has both `redirect` and `respond`");
                return Err(map.item().refuse(complaint.hint("leave one of them out")));
            }
        };
        let name = if matches!(answered, Answered::Redirect(_)) { "redirect" } else { "respond" };
        let idle = Self::FOR_THE_UPSTREAM.iter().filter(|_| answered.is_always()).find_map(|key| Some((key, map.peek(key)?)));
        match idle {
            None => Ok(Some(answered)),
            Some((key, item)) => {
                let complaint = wrong(format!("`{key}` means nothing beside `{name}`: no request of the route reaches an upstream"));
                Err(item.refuse(complaint.hint("leave one of the two out")))
            }
        }
    }

    pub(super) fn fields() -> [Field; 2] {
        [optional("redirect", Redirect::schema()), optional("respond", Respond::schema())]
    }

    /// Rules between the fields of a route.
    pub(super) fn rules() -> Schema {
        let forbidden = Self::FOR_THE_UPSTREAM.map(|key| json!({ "required": [key] }));
        let moved = ["scheme", "host", "port"].map(|key| json!({ "required": [key] }));
        let always = json!({ "anyOf": [
            { "required": ["respond"] },
            { "required": ["redirect"], "properties": { "redirect": { "not": { "anyOf": moved } } } },
        ] });
        json!([
            { "not": { "required": ["redirect", "respond"] } },
            { "if": always, "then": { "not": { "anyOf": forbidden } } },
        ])
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_sent_where_it_is_said_and_nowhere_if_it_is_there() {
        let none = Redirect { status: StatusCode::FOUND, scheme: None, host: None, port: None, path: None };
        let https = Redirect { scheme: Some(Scheme::Https), ..none.clone() };
        let host = Redirect { host: Some("www.b.test".parse().unwrap()), ..none.clone() };
        let port = Redirect { port: Some(8443), ..https.clone() };
        let whole = Redirect { path: Some(NewPath::Whole(PathAndQuery::from_static("/new"))), ..none.clone() };
        let both = Redirect { path: whole.path.clone(), ..host.clone() };
        for (redirect, scheme, came_to, port_came, target, location) in [
            (&https, Scheme::Http, "a.test", None, "/x?y", Some("https://a.test/x?y")),
            (&https, Scheme::Http, "a.test", Some(8080), "/x", Some("https://a.test/x")),
            (&https, Scheme::Https, "a.test", Some(8443), "/x", None),
            (&host, Scheme::Http, "a.test", Some(8080), "/x", Some("http://www.b.test/x")),
            (&host, Scheme::Https, "a.test", None, "/x", Some("https://www.b.test/x")),
            (&host, Scheme::Https, "www.b.test", Some(8080), "/x", None),
            (&port, Scheme::Http, "a.test", None, "/", Some("https://a.test:8443/")),
            (&port, Scheme::Https, "a.test", Some(8443), "/", None),
            (&port, Scheme::Https, "a.test", None, "/", Some("https://a.test:8443/")),
            (&whole, Scheme::Http, "a.test", None, "/x?//evil.test", Some("/new?//evil.test")),
            (&both, Scheme::Http, "www.b.test", None, "/x", Some("http://www.b.test/new")),
            (&both, Scheme::Http, "www.b.test", None, "/new?q", None),
        ] {
            let came = Came { scheme, host: came_to, port: port_came, target: &target.parse().unwrap() };
            let told = redirect.location(&came);
            assert_eq!(told.as_ref().map(|value| value.to_str().unwrap()), location, "{redirect:?} {came:?}");
        }
    }
}
