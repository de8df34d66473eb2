//! Head: what came in, brought into the one form that is matched, decided on and forwarded.
//!
//! Cost: per request; one pass over the names of the header fields; no allocation when path and host are in normal form.
//! What two servers could read in two ways is refused here, before anybody asks who it is for (RFC 9112 section 11.2): the
//! other server is the upstream, and what it reads is what the decision must have been about.

use super::host::{Host, NotAHost};
use crate::fields::{Fields, Name};
use bulkhead_config::condition::Asked;
use bulkhead_config::path;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Version, request};
use std::borrow::Cow;

/// The head of a request as an engine read it.
#[derive(Debug)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// The authority its target names, if it does.
    pub authority: Option<Bytes>,
    /// Path and query of its target, or `*`; absent where only the server is named.
    pub path: Option<PathAndQuery>,
    /// The version it came in.
    pub version: Version,
    /// All header fields.
    pub headers: Fields,
    /// Why nobody can say where it ends.
    pub fault: Option<Ambiguous>,
}

impl From<request::Parts> for Received {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, .. } = parts;
        let uri = uri.into_parts();
        let authority = uri.authority.map(|authority| Bytes::copy_from_slice(authority.as_str().as_bytes()));
        Self { method, authority, path: uri.path_and_query, version, headers: Fields::from(&headers), fault: None }
    }
}

/// The head of a request, in normal form.
#[derive(Debug)]
pub struct Head {
    /// Its method.
    pub method: Method,
    /// What it asks for.
    pub target: Target,
    /// The host it names.
    pub host: Host,
    /// The version it came in.
    pub version: Version,
    /// All header fields, as they came.
    pub headers: Fields,
    /// Which of the fields that concern this hop are among them.
    pub found: Found,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A path in normal form with its query as it came.
    Path(PathAndQuery),
    /// `*`: the service as a whole.
    Service,
}

/// Fields that end here or are rewritten, as bits; so that what is not there need not be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found(u16);

impl Found {
    /// `Connection`.
    pub const CONNECTION: Found = Found(1);
    /// `Upgrade`.
    pub const UPGRADE: Found = Found(1 << 1);
    /// `TE`.
    pub const TE: Found = Found(1 << 2);
    /// `Keep-Alive`, `Proxy-Connection`, `Proxy-Authorization`, `Proxy-Authenticate`, `Transfer-Encoding`, `Expect`.
    pub const HOP: Found = Found(1 << 3);
    /// `Forwarded`, `X-Forwarded-…`, `X-Real-IP`.
    pub const FORWARDED: Found = Found(1 << 4);
    /// `X-Bulkhead-…`.
    pub const OURS: Found = Found(1 << 5);
    /// `Authorization`.
    pub const AUTHORIZATION: Found = Found(1 << 6);
    /// `Cookie`.
    pub const COOKIE: Found = Found(1 << 7);
    /// `Traceparent`.
    pub const TRACE: Found = Found(1 << 8);

    /// Whether any of `these` is there.
    #[must_use]
    pub fn any(self, these: Found) -> bool {
        self.0 & these.0 != 0
    }

    fn add(&mut self, these: Found) {
        self.0 |= these.0;
    }

    #[cfg(test)]
    pub(super) fn all() -> Found {
        Found(u16::MAX)
    }
}

/// Why a request can be read in two ways.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// Its path.
    #[error("the path {0}")]
    Path(#[from] path::Ambiguous),
    /// Its query.
    #[error("the query has a byte that may stand there only percent-encoded")]
    Query,
    /// `*` with another method than OPTIONS.
    #[error("`*` as target belongs to OPTIONS alone")]
    Asterisk,
    /// CONNECT.
    #[error("CONNECT asks for a tunnel, and no route leads to one")]
    Connect,
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// Several hosts.
    #[error("it has more than one Host field")]
    ManyHosts,
    /// A host that is none.
    #[error("the host {0}")]
    Host(#[from] NotAHost),
    /// Host and target differ.
    #[error("the Host field and the request's target name two hosts")]
    HostsDiffer,
    /// Several lengths.
    #[error("it has more than one Content-Length field")]
    ManyLengths,
    /// A length that is none.
    #[error("its Content-Length is not a number of digits alone")]
    Length,
    /// Length and encoding.
    #[error("it has both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// An encoding that is not `chunked` alone.
    #[error("Transfer-Encoding is not `chunked` alone")]
    Encoding,
    /// An encoding in a version that has none.
    #[error("it has a Transfer-Encoding in HTTP/1.0, which knows none")]
    OldEncoding,
    /// Chunks that are none.
    #[error("the body's chunks cannot be read")]
    Body,
    /// `Connection` names a field that must reach the upstream.
    #[error("Connection names `{0}`, which must not get lost on the way")]
    ConnectionNames(String),
    /// A field that would undo the decision at the upstream.
    #[error("`{0}` tells the upstream another method or path than the request itself, and the decision is about the request")]
    Override(String),
    /// A field that some upstreams read as one that says where the body ends.
    #[error("`{0}` is a length or an encoding to upstreams that take `_` for `-`, and none to others")]
    Misspelt(String),
    /// A trusted hop wrote one of two fields, the client the other, and nobody can say which.
    #[error("`Forwarded` and `X-Forwarded-For` name two clients")]
    ClientsDiffer,
}

impl Ambiguous {
    /// The part of the request that is meant.
    #[must_use]
    pub fn place(&self) -> Cow<'static, str> {
        match self {
            Ambiguous::Path(_) => "the path of the request's target".into(),
            Ambiguous::Query => "the query of the request's target".into(),
            Ambiguous::Asterisk | Ambiguous::Connect => "the request line".into(),
            Ambiguous::NoHost | Ambiguous::ManyHosts | Ambiguous::Host(_) | Ambiguous::HostsDiffer => "header Host".into(),
            Ambiguous::ManyLengths | Ambiguous::Length | Ambiguous::LengthAndEncoding => "header Content-Length".into(),
            Ambiguous::Encoding | Ambiguous::OldEncoding => "header Transfer-Encoding".into(),
            Ambiguous::Body => "the request's body".into(),
            Ambiguous::ConnectionNames(_) => "header Connection".into(),
            Ambiguous::Override(name) | Ambiguous::Misspelt(name) => format!("header {name}").into(),
            Ambiguous::ClientsDiffer => "headers Forwarded and X-Forwarded-For".into(),
        }
    }
}

impl Ambiguous {
    /// Whether it is not certain where the request ends, although its engine found an end.
    #[must_use]
    pub fn is_of_framing(&self) -> bool {
        matches!(self, Ambiguous::Misspelt(_))
    }

    /// How to send it so that it can be read in one way only.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Ambiguous::Path(path::Ambiguous::NotAbsolute) => "Begin the path with `/`.",
            Ambiguous::Path(path::Ambiguous::EncodedSeparator(_)) => "Send the segment without `/`, `\\` and NUL in it, encoded or not.",
            Ambiguous::Path(path::Ambiguous::Escape) => "Send a percent sign itself as `%25`.",
            Ambiguous::Path(path::Ambiguous::DotSegment | path::Ambiguous::EmptySegment) => {
                "Send the path it stands for, without `.`, `..` and empty segments."
            }
            Ambiguous::Path(path::Ambiguous::Backslash) => "Separate segments by `/`.",
            Ambiguous::Path(path::Ambiguous::Fragment) => "Leave out what begins with `#`; it is for the client alone.",
            Ambiguous::Path(path::Ambiguous::RawByte(_)) | Ambiguous::Query => "Percent-encode every byte that is not visible ASCII.",
            Ambiguous::Asterisk => "Send a path that begins with `/`.",
            Ambiguous::Connect => "Send the request itself; for WebSocket use GET with `Connection: upgrade`.",
            Ambiguous::NoHost | Ambiguous::ManyHosts | Ambiguous::Host(_) | Ambiguous::HostsDiffer => {
                "Send one Host field with a host name and, if need be, a port; the same as in the target, where that names one."
            }
            Ambiguous::ManyLengths | Ambiguous::Length | Ambiguous::LengthAndEncoding => {
                "Send one Content-Length, or `Transfer-Encoding: chunked` without any (RFC 9112 section 6)."
            }
            Ambiguous::Encoding => "Send one `Transfer-Encoding: chunked`; what is compressed says so in Content-Encoding.",
            Ambiguous::OldEncoding => "Send Content-Length, or the request in HTTP/1.1.",
            Ambiguous::Body => "Send each chunk as its size in hexadecimal, CRLF, its bytes, CRLF (RFC 9112 section 7.1).",
            Ambiguous::ConnectionNames(_) => "Name in Connection only fields that are meant for the next server.",
            Ambiguous::Override(_) => "Send the method and the path that are meant in the request itself.",
            Ambiguous::Misspelt(_) => "Leave it out, or spell it with `-`.",
            Ambiguous::ClientsDiffer => "Send neither; a proxy that writes one of them removes the other.",
        }
    }
}

impl Head {
    /// Brings what an engine read into its one form, and takes it out of there.
    ///
    /// # Errors
    /// What makes it ambiguous; its path stays.
    pub fn normal(received: &mut Received) -> Result<Head, Ambiguous> {
        if let Some(fault) = received.fault.take() {
            return Err(fault);
        }
        if received.method == Method::CONNECT {
            return Err(Ambiguous::Connect);
        }
        let found = survey(&received.headers)?;
        let host = host(received.authority.take(), received.version, &received.headers)?;
        let other = other_target(&received.method, received.path.as_ref())?;
        let target = other.unwrap_or_else(|| received.path.take().map_or(Target::Service, Target::Path));
        let (method, headers) = (std::mem::take(&mut received.method), std::mem::take(&mut received.headers));
        Ok(Head { method, target, host, version: received.version, headers, found })
    }

    /// The path, or `*`.
    #[must_use]
    pub fn path(&self) -> &str {
        match &self.target {
            Target::Path(path) => path.path(),
            Target::Service => "*",
        }
    }

    /// What conditions of rules may read of it; `size` is its body's, where that is known.
    #[must_use]
    pub fn asked(&self, size: Option<u64>) -> Asked<'_> {
        let query = match &self.target {
            Target::Path(path) => path.query(),
            Target::Service => None,
        };
        Asked { host: self.host.as_bytes(), query, size, fields: &self.headers }
    }

    /// The protocol it asks to change to, unless that is HTTP/2: which is spoken to those who begin with it (RFC 9113).
    #[must_use]
    pub fn upgrade(&self) -> Option<Bytes> {
        if !self.found.any(Found::UPGRADE) || !self.found.any(Found::CONNECTION) || self.version != Version::HTTP_11 {
            return None;
        }
        let asks = connection_options(&self.headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
        let is_http2 = |protocol: &[u8]| protocol.trim_ascii().eq_ignore_ascii_case(b"h2c");
        self.headers.share(Name::Upgrade).filter(|value| asks && !value.split(|byte| *byte == b',').any(is_http2))
    }
}

/// One pass over the names: what is there of what concerns this hop, and what must not be there.
fn survey(headers: &Fields) -> Result<Found, Ambiguous> {
    let mut found = Found::default();
    let (mut lengths, mut encoded) = (0, false);
    for field in headers.iter() {
        match field.known {
            Name::Connection => found.add(Found::CONNECTION),
            Name::Upgrade => found.add(Found::UPGRADE),
            Name::Te => found.add(Found::TE),
            Name::TransferEncoding => {
                // Any other coding ends at this hop: the upstream would get coded bytes and nothing that says so.
                let is_chunked_alone = !encoded && field.value.eq_ignore_ascii_case(b"chunked");
                encoded = is_chunked_alone.then_some(true).ok_or(Ambiguous::Encoding)?;
                found.add(Found::HOP);
            }
            Name::KeepAlive | Name::ProxyConnection | Name::ProxyAuthorization | Name::ProxyAuthenticate | Name::Expect => {
                found.add(Found::HOP);
            }
            Name::ContentLength => lengths += 1,
            Name::Forwarded | Name::ForwardedFor | Name::ForwardedProto | Name::ForwardedHost => found.add(Found::FORWARDED),
            Name::Authorization => found.add(Found::AUTHORIZATION),
            Name::Cookie => found.add(Found::COOKIE),
            Name::Traceparent | Name::Tracestate => found.add(Found::TRACE),
            Name::Other if MISSPELT.contains(&field.name) => return Err(Ambiguous::Misspelt(field.name_str().to_owned())),
            Name::Other if field.name.first() == Some(&b'x') => found.add(extension(field.name)?),
            _ => {}
        }
    }
    match (lengths, encoded) {
        (2.., _) => Err(Ambiguous::ManyLengths),
        (1, true) => Err(Ambiguous::LengthAndEncoding),
        _ if found.any(Found::CONNECTION) => {
            let lost = connection_options(headers).find(|option| is_needed_by_the_upstream(option));
            lost.map_or(Ok(found), |option| Err(Ambiguous::ConnectionNames(option.chars().take(64).collect())))
        }
        _ => Ok(found),
    }
}

/// What is there of fields that no standard names but every upstream obeys.
fn extension(name: &[u8]) -> Result<Found, Ambiguous> {
    match &*spelling(name) {
        spelled if OVERRIDES.contains(&spelled) => Err(Ambiguous::Override(String::from_utf8_lossy(name).into_owned())),
        spelled if concerns_forwarding(spelled) => Ok(Found::FORWARDED),
        spelled if spelled.starts_with(OURS) => Ok(Found::OURS),
        _ => Ok(Found::default()),
    }
}

/// Fields by which some upstreams take another method or path than the request's.
const OVERRIDES: [&[u8]; 5] = [b"x-original-url", b"x-rewrite-url", b"x-http-method", b"x-http-method-override", b"x-method-override"];

/// Names of lengths and encodings as upstreams write them that know fields from their environment.
const MISSPELT: [&[u8]; 2] = [b"content_length", b"transfer_encoding"];

/// How fields begin by which we tell the upstream what is proven.
const OURS: &[u8] = b"x-bulkhead-";

/// A name as upstreams read it that know header fields from their environment (CGI and its heirs: WSGI, Rack, PHP): to them `_`
/// is `-`. Compared as written, `X_Bulkhead-Tenant` would pass us and be believed there.
fn spelling(name: &[u8]) -> Cow<'_, [u8]> {
    let spell = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    if name.contains(&b'_') { name.iter().map(spell).collect::<Vec<_>>().into() } else { name.into() }
}

fn concerns_forwarding(spelled: &[u8]) -> bool {
    matches!(spelled, b"forwarded" | b"x-real-ip") || spelled.starts_with(b"x-forwarded-")
}

/// Whether an upstream would read a field of this name as ours.
pub(super) fn is_read_as_ours(name: &[u8]) -> bool {
    spelling(name).starts_with(OURS)
}

/// Whether an upstream would read a field of this name as telling who the client is.
pub(super) fn is_read_as_forwarding(name: &[u8]) -> bool {
    concerns_forwarding(&spelling(name))
}

/// Whether a trailer field may go on, up or down. Some readers merge trailers into the head, so what must not be said there must
/// not be said here either (RFC 9110 section 6.5.1).
pub(super) fn may_trail(name: &str) -> bool {
    let spelled = spelling(name.as_bytes());
    let in_the_head_only = matches!(
        &*spelled,
        b"authentication-info"
            | b"authorization"
            | b"cache-control"
            | b"connection"
            | b"content-encoding"
            | b"content-length"
            | b"content-range"
            | b"content-type"
            | b"cookie"
            | b"expect"
            | b"host"
            | b"keep-alive"
            | b"max-forwards"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"set-cookie"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"www-authenticate"
    );
    !(OVERRIDES.contains(&&*spelled) || in_the_head_only || spelled.starts_with(OURS) || concerns_forwarding(&spelled))
}

/// The options of `Connection`: names of fields that end at this hop.
pub(crate) fn connection_options(headers: &Fields) -> impl Iterator<Item = &str> {
    headers.texts(Name::Connection).flat_map(|value| value.split(',')).map(str::trim).filter(|option| !option.is_empty())
}

/// Fields that a client could make us drop by naming them in `Connection`, so that the upstream would see another request than
/// the one that was decided on.
fn is_needed_by_the_upstream(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    let named = ["host", "content-length", "content-type", "content-encoding", "authorization", "cookie", "forwarded", "traceparent"];
    named.contains(&option.as_str()) || ["x-bulkhead-", "x-forwarded-", "content-"].iter().any(|prefix| option.starts_with(prefix))
}

/// The host that the target or the Host field names; where both do, they must agree (RFC 9112 section 3.2).
fn host(authority: Option<Bytes>, version: Version, headers: &Fields) -> Result<Host, Ambiguous> {
    if headers.get_all(Name::Host).nth(1).is_some() {
        return Err(Ambiguous::ManyHosts);
    }
    let field = headers.share(Name::Host);
    match (authority, field) {
        (None, None) => Err(Ambiguous::NoHost),
        // Also where the target names one (RFC 9112 section 3.2): what comes behind may know Host alone.
        (Some(_), None) if version == Version::HTTP_11 => Err(Ambiguous::NoHost),
        (None, Some(field)) => Ok(Host::read(field)?),
        (Some(authority), field) => {
            let host = Host::read(authority)?;
            match field {
                Some(field) if !Host::read(field.clone())?.same_place(&host) => Err(Ambiguous::HostsDiffer),
                _ => Ok(host),
            }
        }
    }
}

/// What is asked for, where that is not the path as it is written.
fn other_target(method: &Method, written: Option<&PathAndQuery>) -> Result<Option<Target>, Ambiguous> {
    let Some(written) = written else {
        // Absolute form without a path (RFC 9112 section 3.2.4): OPTIONS means the server, every other method `/`.
        let root = PathAndQuery::from_static("/");
        return Ok(Some(if method == Method::OPTIONS { Target::Service } else { Target::Path(root) }));
    };
    if written.as_str() == "*" {
        return if method == Method::OPTIONS { Ok(Some(Target::Service)) } else { Err(Ambiguous::Asterisk) };
    }
    // `?a` alone has the path `/` to who asks for it, and goes up without one.
    if !written.as_str().starts_with('/') {
        return Err(path::Ambiguous::NotAbsolute.into());
    }
    let query = written.query();
    if query.is_some_and(|query| !query.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#')) {
        return Err(Ambiguous::Query);
    }
    match path::normalise(written.path())? {
        Cow::Borrowed(_) => Ok(None),
        Cow::Owned(path) => {
            let normal = match query {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            PathAndQuery::try_from(normal).map(|path| Some(Target::Path(path))).map_err(|_| Ambiguous::Query)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn normal(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Head, Ambiguous> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::normal(&mut request.body(()).unwrap().into_parts().0.into())
    }

    #[test]
    fn what_is_matched_is_what_is_forwarded() {
        for (uri, path, query) in [
            ("/v1/items", "/v1/items", None),
            ("/v1/%7Eana?x=%2F", "/v1/~ana", Some("x=%2F")),
            ("/caf%c3%a9", "/caf%C3%A9", None),
            ("http://acme.localhost/a?b", "/a", Some("b")),
            ("http://acme.localhost", "/", None),
        ] {
            let head = normal("GET", uri, &[("host", "acme.localhost")]).unwrap();
            let Target::Path(target) = &head.target else { unreachable!("{uri} has a path") };
            assert_eq!((head.path(), target.query()), (path, query), "{uri}");
        }
    }

    #[test]
    fn the_service_as_a_whole_is_a_target_of_options_alone() {
        assert_eq!(normal("OPTIONS", "*", &[("host", "a")]).unwrap().target, Target::Service);
        assert_eq!(normal("GET", "*", &[("host", "a")]).unwrap_err(), Ambiguous::Asterisk);
        assert_eq!(normal("CONNECT", "a:80", &[("host", "a")]).unwrap_err(), Ambiguous::Connect);
    }

    #[test]
    fn two_hosts_are_refused_unless_they_are_one() {
        let host = |uri, headers: &[(&str, &str)]| normal("GET", uri, headers).map(|head| head.host.as_str().to_owned());
        assert_eq!(host("/", &[]), Err(Ambiguous::NoHost));
        assert_eq!(host("/", &[("host", "a"), ("host", "a")]), Err(Ambiguous::ManyHosts));
        assert_eq!(host("http://a/", &[]), Err(Ambiguous::NoHost));
        assert_eq!(host("http://a/", &[("host", "b")]), Err(Ambiguous::HostsDiffer));
        assert_eq!(host("http://a:80/", &[("host", "a:81")]), Err(Ambiguous::HostsDiffer));
        assert_eq!(host("http://A:80/", &[("host", "a.:80")]).as_deref(), Ok("a"));
    }

    #[test]
    fn a_field_that_would_undo_the_decision_is_refused() {
        let refused = |headers: &[(&str, &str)]| normal("GET", "/", headers).unwrap_err();
        assert!(matches!(refused(&[("host", "a"), ("x-http-method-override", "DELETE")]), Ambiguous::Override(_)));
        assert!(matches!(refused(&[("host", "a"), ("x_http_method-override", "DELETE")]), Ambiguous::Override(_)));
        assert!(matches!(refused(&[("host", "a"), ("connection", "close, Authorization")]), Ambiguous::ConnectionNames(_)));
        assert!(matches!(refused(&[("host", "a"), ("connection", "x-bulkhead-tenant")]), Ambiguous::ConnectionNames(_)));
        assert_eq!(refused(&[("host", "a"), ("content-length", "1"), ("content-length", "1")]), Ambiguous::ManyLengths);
        for codings in [&["gzip, chunked"][..], &["chunked", "chunked"], &["chunked, chunked"], &["gzip"], &[""]] {
            let fields: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).chain([("host", "a")]).collect();
            assert_eq!(refused(&fields), Ambiguous::Encoding, "{codings:?}");
        }
        assert!(normal("POST", "/", &[("host", "a"), ("transfer-encoding", "Chunked")]).is_ok());
        assert_eq!(refused(&[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")]), Ambiguous::LengthAndEncoding);
        assert!(normal("GET", "/", &[("host", "a"), ("connection", "close, x-mine")]).is_ok());
    }

    #[test]
    fn names_are_known_in_every_spelling_that_upstreams_read_alike() {
        for (name, found) in [
            ("x-bulkhead-tenant", Found::OURS),
            ("x_bulkhead_tenant", Found::OURS),
            ("x-bulkhead_roles", Found::OURS),
            ("x_forwarded_for", Found::FORWARDED),
            ("x_real-ip", Found::FORWARDED),
            ("x-mine", Found::default()),
        ] {
            assert_eq!(normal("GET", "/", &[("host", "a"), (name, "1")]).unwrap().found, found, "{name}");
            assert_eq!(may_trail(name), found == Found::default(), "{name}");
        }
        assert!(may_trail("grpc-status") && !may_trail("authorization") && !may_trail("x_method_override"));
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        for uri in ["/a/../b", "/a//b", "/a%2fb", "/a/%2e%2e/b", "/a?\u{e9}", "/\u{e9}", "/a\\b"] {
            let request = http::Uri::try_from(uri.as_bytes());
            // What no engine can even represent never gets here.
            if let Ok(uri) = request {
                assert!(other_target(&Method::GET, uri.path_and_query()).is_err(), "{uri}");
            }
        }
    }

    #[test]
    fn a_query_without_a_path_is_refused() {
        let written = PathAndQuery::from_static("?a");
        assert_eq!(other_target(&Method::GET, Some(&written)), Err(Ambiguous::Path(path::Ambiguous::NotAbsolute)));
    }

    #[test]
    fn an_upgrade_counts_when_connection_names_it_and_it_is_not_http2() {
        let upgrade = |headers: &[(&str, &str)]| normal("GET", "/", headers).unwrap().upgrade();
        assert_eq!(upgrade(&[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]).unwrap(), "websocket");
        assert_eq!(upgrade(&[("host", "a"), ("upgrade", "websocket")]), None);
        assert_eq!(upgrade(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket, H2C")]), None);
        assert_eq!(upgrade(&[("host", "a"), ("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]), None);
    }
}
