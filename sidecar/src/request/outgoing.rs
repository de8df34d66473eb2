//! Outgoing: the request as the upstream gets it, and the answer as the client gets it, without what belongs to one hop.
//!
//! Cost: per request; only fields that are there are removed. Values of ours are prepared where they can be.
//! INVARIANT (only what is proven): `x-bulkhead-tenant`, `-user` and `-roles` go up for a request whose tenant was proved, and
//! under these names nothing else ever does.

use super::authn::{self, Verified};
use super::body::Upload;
use super::forwarded;
use super::head::{Found, Head, Target, connection_options, is_read_as_ours};
use super::trace::{self, Came, Trace};
use super::upstream::Wire;
use crate::connection::Downstream;
use crate::telemetry::decisions::DecisionId;
use crate::worker::Bound;
use bulkhead_config::snapshot::{Platform, Route};
use http::header::{self, HeaderName};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use std::rc::Rc;

const TENANT: HeaderName = HeaderName::from_static("x-bulkhead-tenant");
const USER: HeaderName = HeaderName::from_static("x-bulkhead-user");
const ROLES: HeaderName = HeaderName::from_static("x-bulkhead-roles");
const DECISION: HeaderName = HeaderName::from_static("x-bulkhead-decision-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Fields that are added at most, so that their table grows once.
const FIELDS_ADDED: usize = 10;

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
    /// Its decision.
    pub decision: DecisionId,
    /// Its trace, and whether it came in.
    pub trace: (Trace, Came),
    /// How it goes out.
    pub wire: Wire,
}

/// The request for the upstream.
#[must_use]
pub fn request(head: Head, upload: Upload, sending: &Sending<'_>) -> Box<Request<Upload>> {
    let upgrade = head.upgrade().cloned().filter(|_| sending.wire == Wire::Http1);
    let Head { method, target, host, version, mut headers, found } = head;
    headers.reserve(FIELDS_ADDED);
    end_hop(&mut headers, found);
    if found.any(Found::OURS) {
        remove_all(&mut headers, is_read_as_ours);
    }
    withhold_credentials(&mut headers, found, sending);
    forwarded::rewrite(&mut headers, found, host.value(), sending.from, sending.platform.trusted_hops());
    tell_proven(&mut headers, sending);
    tell_trace(&mut headers, sending);
    let path = match target {
        Target::Path(path) => path,
        // Answered by us; an upstream that gets it nevertheless is asked about its root.
        Target::Service => PathAndQuery::from_static("/"),
    };
    let mut request = Box::new(Request::new(upload));
    *request.method_mut() = method;
    match sending.wire {
        Wire::Http1 => {
            if version == Version::HTTP_2 && found.any(Found::COOKIE) {
                join_cookies(&mut headers);
            }
            headers.insert(header::HOST, host.value().clone());
            if let Some(protocol) = upgrade {
                headers.insert(header::CONNECTION, UPGRADE);
                headers.insert(header::UPGRADE, protocol);
            }
            *request.uri_mut() = Uri::from(path);
        }
        Wire::Http2 => {
            headers.remove(header::HOST);
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = absolute(host.value(), path);
        }
    }
    *request.headers_mut() = headers;
    request
}

/// Removes what concerns the hop that ends here (RFC 9110 section 7.6.1).
fn end_hop(headers: &mut HeaderMap, found: Found) {
    if found.any(Found::CONNECTION) {
        remove_named_by_connection(headers);
    }
    if found.any(Found::TE) {
        // Only `trailers` says something about the upstream's answer, and gRPC asks for it.
        let trailers = headers.get_all(header::TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, TRAILERS);
        }
    }
    if found.any(Found::UPGRADE) {
        headers.remove(header::UPGRADE);
    }
    if found.any(Found::HOP) {
        for name in [KEEP_ALIVE, PROXY_CONNECTION] {
            headers.remove(name);
        }
        // The engine has answered `Expect` when the first byte of the body is asked for: after the decision.
        for name in [header::TRANSFER_ENCODING, header::PROXY_AUTHORIZATION, header::PROXY_AUTHENTICATE, header::EXPECT] {
            headers.remove(name);
        }
    }
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_options(headers).filter_map(|option| option.parse().ok()).collect();
    headers.remove(header::CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

/// Removes every field of such a name.
pub(super) fn remove_all(headers: &mut HeaderMap, is_such: impl Fn(&str) -> bool) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_such(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// A credential proves who asks to us; the upstream gets it only where the operator said so, an API key never.
fn withhold_credentials(headers: &mut HeaderMap, found: Found, sending: &Sending<'_>) {
    let forward = sending.route.forward_authorization || sending.proven.is_some_and(|(_, proof)| proof.forward());
    // Where nothing is verified, an API key may stand in the wrong field.
    let withhold = || !forward || headers.get_all(header::AUTHORIZATION).iter().any(authn::holds_api_key);
    if found.any(Found::AUTHORIZATION) && withhold() {
        headers.remove(header::AUTHORIZATION);
    }
    match sending.platform.api_key_header() {
        Some(name) => {
            headers.remove(name);
        }
        // Nobody said where keys come, so they may come anywhere, and their caller is told only what the route decides.
        None => withhold_api_keys(headers),
    }
}

/// Removes every field that holds an API key.
fn withhold_api_keys(headers: &mut HeaderMap) {
    while let Some((name, _)) = headers.iter().find(|(_, value)| authn::is_api_key(value)) {
        let name = name.clone();
        headers.remove(name);
    }
}

fn tell_proven(headers: &mut HeaderMap, sending: &Sending<'_>) {
    if let Ok(decision) = HeaderValue::from_bytes(&sending.decision.text()) {
        headers.insert(DECISION, decision);
    }
    if let Some((tenant, proof)) = sending.proven {
        headers.insert(TENANT, tenant.id.clone());
        headers.insert(USER, safe(&proof.principal().user));
        headers.insert(ROLES, tenant.role_text(proof.roles(tenant.slice.policy())));
    }
}

fn tell_trace(headers: &mut HeaderMap, sending: &Sending<'_>) {
    let (trace, came) = &sending.trace;
    headers.insert(trace::TRACEPARENT, trace.value());
    if *came == Came::Begun {
        headers.remove(trace::TRACESTATE);
    }
}

/// A text as a header value: what is not visible ASCII, and `%` itself, percent-encoded (RFC 3986 section 2.1).
fn safe(text: &str) -> HeaderValue {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%';
    if text.bytes().all(is_plain) {
        return HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    }
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""))
}

/// HTTP/2 may split cookies over fields; HTTP/1.1 servers expect one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(header::COOKIE).iter();
    let (Some(_), Some(_)) = (fields.next(), fields.next()) else { return };
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The form HTTP/2 takes its `:scheme` and `:authority` from.
fn absolute(host: &HeaderValue, path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
    parts.path_and_query = Some(path);
    // A host that was read before is an authority.
    Uri::from_parts(parts).unwrap_or_default()
}

/// Removes from an answer what concerns the hop to the upstream.
pub fn end_answer_hop(headers: &mut HeaderMap) {
    let mut found = Found::default();
    for name in headers.keys() {
        found = found.with_answer_field(name);
    }
    if found.any(Found::CONNECTION) {
        remove_named_by_connection(headers);
    }
    if found.any(Found::UPGRADE) {
        headers.remove(header::UPGRADE);
    }
    if found.any(Found::HOP) {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING, header::PROXY_AUTHENTICATE] {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

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
        let mut headers = HeaderMap::new();
        let key = format!("bk1.acme_corp.ci.{}", "A".repeat(43));
        for (name, value) in [("x-api-key", key.as_str()), ("x-note", "bk1 is a prefix"), ("accept", "*/*")] {
            headers.insert(name, value.parse().unwrap());
        }
        withhold_api_keys(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-note"]);
    }

    #[test]
    fn what_concerns_one_hop_ends_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, x-mine"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eA=="),
            ("accept", "*/*"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        end_hop(&mut headers, Found::all());
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept", "te"]);
    }

    #[test]
    fn cookies_are_joined_into_one_field() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1".parse().unwrap());
        headers.append("cookie", "b=2".parse().unwrap());
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
