//! Outgoing: the request as the upstream gets it, and the answer as the client gets it, without what belongs to one hop.
//!
//! Cost: per request; what came is passed on from the buffer it came in, what does not go on is marked, what we say is written
//! once into a buffer that is used again. No allocation.
//! INVARIANT (only what is proven): `x-bulkhead-tenant`, `-user` and `-roles` go up for a request whose tenant was proved, and
//! under these names nothing else ever does.

use super::authn::{self, Verified};
use super::body::Upload;
use super::forwarded;
use super::head::{Found, Head, Target, connection_options, is_read_as_ours};
use super::header_rules::{self, Known};
use super::trace::{Came, Trace};
use super::upstream::Wire;
use super::websocket;
use crate::connection::Downstream;
use crate::fields::{Fields, Name};
use crate::http1::write::{self, field};
use crate::telemetry::decisions::DecisionId;
use crate::worker::Bound;
use bulkhead_config::snapshot::{HeaderRules, Platform, Route, SaidIn};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_KEY};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

/// What a request is sent with besides itself.
pub struct Sending<'a> {
    /// Where it came from.
    pub from: &'a Downstream,
    /// The policy's platform part.
    pub platform: &'a Platform,
    /// The route it takes.
    pub route: &'a Route,
    /// Its tenant and who was proved, if anybody was.
    pub proven: Option<(&'a Bound, &'a Rc<Verified>)>,
    /// Whether it goes on although nobody was proved where somebody must be: then nothing is told of it.
    pub is_passed_unproven: bool,
    /// Its decision.
    pub decision: DecisionId,
    /// Its client's address.
    pub source: IpAddr,
    /// Its trace, and whether it came in.
    pub trace: (Trace, Came),
    /// How it goes out.
    pub wire: Wire,
}

/// A request for an upstream. It stays whole until an answer begins, so that it can be sent again.
#[derive(Debug)]
pub struct Outgoing {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: PathAndQuery,
    /// The host it is for.
    pub host: Bytes,
    /// What came with it and goes on. The fields of the answer take their place.
    pub fields: Fields,
    /// What we say: lines of fields.
    pub added: Vec<u8>,
    /// It asks to change to another protocol; over HTTP/2 that is a WebSocket.
    pub upgrades: bool,
    /// Its body.
    pub upload: Upload,
}

impl Outgoing {
    /// Nothing yet, with room for so many bytes of what we say.
    #[must_use]
    pub fn blank(bytes: usize) -> Self {
        Self {
            method: Method::GET,
            path: PathAndQuery::from_static("/"),
            host: Bytes::new(),
            fields: Fields::default(),
            added: Vec::with_capacity(bytes),
            upgrades: false,
            upload: Upload::Nothing,
        }
    }

    /// Nothing again. What others may still hold a part of, or hold memory for, goes.
    pub fn clear(&mut self) {
        let mut added = std::mem::take(&mut self.added);
        added.clear();
        *self = Self { added, ..Self::blank(0) };
    }

    /// Its head as HTTP/1.1 is written.
    #[must_use]
    pub fn head(&self) -> write::Head<'_> {
        write::Head { method: &self.method, target: self.path.as_str(), host: &self.host, fields: &self.fields, added: &self.added }
    }

    /// As the engine of HTTP/2 takes it; the body goes with it.
    #[must_use]
    pub fn to_http2(&mut self) -> Request<Upload> {
        let mut request = Request::new(std::mem::replace(&mut self.upload, Upload::Nothing));
        *request.method_mut() = if self.upgrades { Method::CONNECT } else { self.method.clone() };
        if self.upgrades {
            // A stream is a WebSocket (RFC 8441 section 5); what HTTP/1.1 has for that stays behind.
            request.extensions_mut().insert(hyper::ext::Protocol::from_static(websocket::PROTOCOL));
        }
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = absolute(&self.host, self.path.clone());
        let headers = request.headers_mut();
        self.fields.to_map(headers);
        headers.remove(http::header::HOST);
        if self.upgrades {
            headers.remove(SEC_WEBSOCKET_KEY);
        }
        for line in self.added.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r")) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (Some(name), Some(value)) = (line.get(..colon), line.get(colon + 2..)) else { continue };
            // What was said to the next hop of HTTP/1.1 has no meaning in HTTP/2 (RFC 9113 section 8.2.2).
            if name == b"connection" {
                continue;
            }
            // Written here, of names and values that are what they are called.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        request
    }
}

/// The request for the upstream, in the place of one of nothing.
#[must_use]
pub fn request(head: Head, upload: Upload, sending: &Sending<'_>, mut request: Box<Outgoing>) -> Box<Outgoing> {
    let upgrade = head.upgrade().filter(|protocol| sending.wire != Wire::Http2 || fits_a_stream(&head, protocol, &upload));
    let Head { method, target, host, headers: mut fields, found, .. } = head;
    let out = &mut request.added;
    let wants_trailers = end_hop(&mut fields, found);
    fields.remove(Name::Host);
    if found.any(Found::OURS) {
        fields.drop_if(|field| is_read_as_ours(field.name));
    }
    withhold_credentials(&mut fields, found, sending);
    if sending.route.response_tenant.as_ref().is_some_and(|asked| matches!(asked.said_in, SaidIn::Body(_))) {
        // What is compressed, or a part, cannot be looked into; both are the client's wish only.
        fields.drop_if(|field| matches!(field.name, b"accept-encoding" | b"range" | b"if-range"));
    }
    forwarded::tell(&mut fields, out, found, host.value(), sending.from, sending.platform.trusted_hops());
    tell_proven(out, sending);
    if let Some(rules) = &sending.route.request_headers {
        apply(rules, &mut fields, out, sending);
    }
    tell_trace(&mut fields, out, found, sending);
    let path = match target {
        Target::Path(path) => path,
        // Answered by us; an upstream that gets it nevertheless is asked about its root.
        Target::Service => PathAndQuery::from_static("/"),
    };
    if sending.wire != Wire::Http2 && found.any(Found::COOKIE) {
        join_cookies(&mut fields, out);
    }
    tell_hop(out, wants_trailers, upgrade.as_deref().filter(|_| sending.wire != Wire::Http2), sending.wire);
    request.method = method;
    request.path = path;
    request.host = host.into_value();
    request.fields = fields;
    request.upgrades = upgrade.is_some();
    request.upload = upload;
    request
}

/// Of other protocols a stream of HTTP/2 takes WebSockets. Any other request to upgrade goes on as if it had not asked, as it may
/// (RFC 9110 section 7.8).
fn fits_a_stream(head: &Head, protocol: &[u8], upload: &Upload) -> bool {
    head.method == Method::GET && matches!(upload, Upload::Nothing) && websocket::is_opened_by(&head.headers, protocol)
}

/// What the route does to the fields of its requests.
fn apply(rules: &HeaderRules, fields: &mut Fields, out: &mut Vec<u8>, sending: &Sending<'_>) {
    let known = Known {
        tenant: sending.proven.map(|(tenant, _)| tenant.slice.id().as_str()),
        user: sending.proven.map(|(_, proof)| safe(&proof.principal().user)),
        route: sending.route.name.as_str(),
        decision: sending.decision.text(),
        source: sending.source,
    };
    header_rules::drop(rules, fields);
    header_rules::write(rules, &known, out);
}

/// Drops what concerns the hop that ends here (RFC 9110 section 7.6.1). Whether the client takes trailers.
fn end_hop(fields: &mut Fields, found: Found) -> bool {
    // Looked at first: Connection names TE.
    let wants_trailers = found.any(Found::TE) && wants_trailers(fields);
    if found.any(Found::CONNECTION) {
        drop_named_by_connection(fields);
    }
    if found.any(Found::TE) {
        fields.remove(Name::Te);
    }
    if found.any(Found::UPGRADE) {
        fields.remove(Name::Upgrade);
    }
    if found.any(Found::HOP) {
        // `Expect` is answered when the first byte of the body is asked for: after the decision.
        fields.remove_all(&HOP);
        fields.remove_all(&[Name::ProxyAuthorization, Name::Expect]);
    }
    wants_trailers
}

/// Of TE only `trailers` says something about the upstream's answer, and gRPC asks for it.
fn wants_trailers(fields: &Fields) -> bool {
    let mut codings = fields.get_all(Name::Te).flat_map(|te| te.split(|byte| *byte == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Tells what concerns the hop that begins here; in HTTP/1.1, Connection names it (RFC 9112 section 7.4).
fn tell_hop(out: &mut Vec<u8>, wants_trailers: bool, upgrade: Option<&[u8]>, wire: Wire) {
    if wants_trailers {
        field(out, b"te", b"trailers");
    }
    let options: &[u8] = match (upgrade.is_some(), wants_trailers && wire != Wire::Http2) {
        (false, false) => return,
        (true, false) => b"upgrade",
        (false, true) => b"te",
        (true, true) => b"upgrade, te",
    };
    field(out, b"connection", options);
    if let Some(protocol) = upgrade {
        field(out, b"upgrade", protocol);
    }
}

/// What concerns a hop in either direction.
const HOP: [Name; 4] = [Name::KeepAlive, Name::ProxyConnection, Name::TransferEncoding, Name::ProxyAuthenticate];

fn drop_named_by_connection(fields: &mut Fields) {
    let named: Vec<String> = connection_options(fields).map(str::to_ascii_lowercase).collect();
    fields.drop_if(|field| field.known == Name::Connection || named.iter().any(|name| name.as_bytes() == field.name));
}

/// A credential proves who asks to us; the upstream gets it only where the operator said so, an API key never.
fn withhold_credentials(fields: &mut Fields, found: Found, sending: &Sending<'_>) {
    let forward = sending.route.forward_authorization || sending.proven.is_some_and(|(_, proof)| proof.forward());
    // Where nothing is verified, an API key may stand in the wrong field.
    let withhold = || !forward || fields.get_all(Name::Authorization).any(authn::holds_api_key);
    if found.any(Found::AUTHORIZATION) && withhold() {
        fields.remove(Name::Authorization);
    }
    match sending.platform.api_key_header() {
        Some(name) => fields.drop_if(|field| field.name == name.as_str().as_bytes()),
        // Nobody said where keys come, so they may come anywhere, and their caller is told only what the route decides.
        None => withhold_api_keys(fields),
    }
}

/// Drops every field that holds an API key.
fn withhold_api_keys(fields: &mut Fields) {
    fields.drop_if(|field| authn::is_api_key(field.value));
}

fn tell_proven(out: &mut Vec<u8>, sending: &Sending<'_>) {
    if sending.is_passed_unproven {
        return;
    }
    field(out, b"x-bulkhead-decision-id", &sending.decision.text());
    if let Some((tenant, proof)) = sending.proven {
        field(out, b"x-bulkhead-tenant", tenant.id.as_bytes());
        field(out, b"x-bulkhead-user", safe(&proof.principal().user).as_bytes());
        field(out, b"x-bulkhead-roles", tenant.role_text(proof.roles(tenant.slice.policy())).as_bytes());
    }
}

fn tell_trace(fields: &mut Fields, out: &mut Vec<u8>, found: Found, sending: &Sending<'_>) {
    let (trace, came) = &sending.trace;
    if found.any(Found::TRACE) {
        fields.remove(Name::Traceparent);
        if *came == Came::Begun {
            fields.remove(Name::Tracestate);
        }
    }
    field(out, b"traceparent", trace.value());
}

/// A text as a header value: what is not visible ASCII, and `%` itself, percent-encoded (RFC 3986 section 2.1).
fn safe(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if text.bytes().all(is_plain) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded.into()
}

/// HTTP/2 may split cookies over fields, also where a stream is a WebSocket and stands for a GET of HTTP/1.1; HTTP/1.1 servers
/// expect one field (RFC 9113 section 8.2.3).
fn join_cookies(fields: &mut Fields, out: &mut Vec<u8>) {
    let all: Vec<&[u8]> = fields.get_all(Name::Cookie).collect();
    if all.len() > 1 {
        field(out, b"cookie", &all.join(&b"; "[..]));
        fields.remove(Name::Cookie);
    }
}

/// The form HTTP/2 takes its `:scheme` and `:authority` from.
fn absolute(host: &[u8], path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = host.try_into().ok();
    parts.path_and_query = Some(path);
    // A host that was read before is an authority.
    Uri::from_parts(parts).unwrap_or_default()
}

/// Drops from an answer what concerns the hop to the upstream.
pub fn end_answer_hop(fields: &mut Fields) {
    if fields.get(Name::Connection).is_some() {
        drop_named_by_connection(fields);
    }
    fields.remove_all(&HOP);
    fields.remove(Name::Upgrade);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(all: &[(&'static str, &str)]) -> Fields {
        let mut map = http::HeaderMap::new();
        for (name, value) in all {
            map.append(*name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("?")));
        }
        Fields::from(&map)
    }

    fn names(fields: &Fields) -> Vec<String> {
        let mut names: Vec<String> = fields.iter().map(|field| field.name_str().to_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_user_of_any_name_fits_a_header_and_reads_back() {
        for (user, sent) in [
            ("ana@example.com", "ana@example.com"),
            ("auth0|4711", "auth0|4711"),
            ("Ana Müller", "Ana%20M%C3%BCller"),
            ("50%", "50%25"),
            ("a\r\nx-bulkhead-roles: admin", "a%0D%0Ax-bulkhead-roles:%20admin"),
        ] {
            assert_eq!(safe(user), sent, "{user}");
        }
    }

    #[test]
    fn api_keys_stay_here_also_where_no_field_is_named_for_them() {
        let key = format!("bk1.acme_corp.ci.{}", "A".repeat(43));
        let mut fields = fields(&[("x-api-key", key.as_str()), ("x-note", "bk1 is a prefix"), ("accept", "*/*")]);
        withhold_api_keys(&mut fields);
        assert_eq!(names(&fields), ["accept", "x-note"]);
    }

    #[test]
    fn what_concerns_one_hop_ends_there() {
        let mut fields = fields(&[
            ("connection", "keep-alive, X-Mine, TE"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "gzip;q=0.5, Trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eA=="),
            ("accept", "*/*"),
        ]);
        assert!(end_hop(&mut fields, Found::all()));
        assert_eq!(names(&fields), ["accept"]);
    }

    #[test]
    fn what_concerns_the_next_hop_is_named_to_it() {
        let websocket = Some(&b"websocket"[..]);
        for (trailers, upgrade, wire, told) in [
            (false, None, Wire::Http1, &b""[..]),
            (true, None, Wire::Http1, b"te: trailers\r\nconnection: te\r\n"),
            (true, None, Wire::Http2, b"te: trailers\r\n"),
            (false, websocket, Wire::Http1, b"connection: upgrade\r\nupgrade: websocket\r\n"),
            (true, websocket, Wire::Http1, b"te: trailers\r\nconnection: upgrade, te\r\nupgrade: websocket\r\n"),
        ] {
            let mut out = Vec::new();
            tell_hop(&mut out, trailers, upgrade, wire);
            assert_eq!(out, told);
        }
    }

    #[test]
    fn cookies_are_joined_into_one_field() {
        let (mut fields, mut out) = (fields(&[("cookie", "a=1"), ("cookie", "b=2")]), Vec::new());
        join_cookies(&mut fields, &mut out);
        assert_eq!((fields.len(), &out[..]), (0, &b"cookie: a=1; b=2\r\n"[..]));
    }

    #[test]
    fn http2_gets_the_same_fields_as_http1_but_for_those_of_its_hop() {
        let mut outgoing = Outgoing {
            method: Method::GET,
            path: PathAndQuery::from_static("/a?b"),
            host: Bytes::from_static(b"acme.test:80"),
            fields: fields(&[("accept", "*/*")]),
            added: b"te: trailers\r\nconnection: te\r\nx-bulkhead-user: a:b\r\n".to_vec(),
            upgrades: false,
            upload: Upload::Nothing,
        };
        let request = outgoing.to_http2();
        assert_eq!(request.uri(), "http://acme.test:80/a?b");
        let mut all: Vec<_> =
            request.headers().iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or_default())).collect();
        all.sort_unstable();
        assert_eq!(all, ["accept=*/*", "te=trailers", "x-bulkhead-user=a:b"]);
    }
}
