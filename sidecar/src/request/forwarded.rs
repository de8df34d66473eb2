//! Forwarded: who the client is, and what the upstream is told of it (RFC 7239, and `X-Forwarded-…`).
//!
//! Cost: per request; nothing but a comparison unless the operator declared trusted hops.
//! What an untrusted client sent under these names is dropped, not extended: an upstream that reads the first entry would
//! otherwise take a client's word for its address.

use super::head::Found;
use crate::connection::Downstream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use std::net::IpAddr;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// The client's address: the peer's, unless the peer is a trusted hop; then the last address its fields name that is none.
///
/// `Forwarded` is preferred; `X-Forwarded-For` counts where it is absent. What cannot be read ends the search: everything to its
/// left was written by somebody nobody vouches for.
#[must_use]
pub fn source(peer: IpAddr, trusted: &[IpNet], found: Found, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|range| range.contains(&ip));
    if trusted.is_empty() || !found.any(Found::FORWARDED) || !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let entries = if headers.contains_key(header::FORWARDED) { list(headers, header::FORWARDED) } else { list(headers, FOR) };
    for entry in entries.into_iter().rev() {
        let Some(ip) = node(entry) else { break };
        client = ip;
        if !is_trusted(ip) {
            break;
        }
    }
    client
}

/// All entries of a list field, first to last.
fn list(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

/// The address in an entry of either field: `for="[2001:db8::1]:4711";proto=http`, `192.0.2.1`, `192.0.2.1:4711`.
fn node(entry: &str) -> Option<IpAddr> {
    let by_name = entry.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let text = by_name.unwrap_or(entry).trim_matches('"');
    if let Some((literal, _)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return literal.parse().ok();
    }
    let whole = text.parse().ok();
    whole.or_else(|| text.split_once(':').and_then(|(ip, _)| ip.parse().ok())).map(|ip: IpAddr| ip.to_canonical())
}

/// Tells the upstream where the request came from.
pub fn rewrite(headers: &mut HeaderMap, found: Found, host: &HeaderValue, from: &Downstream, trusted: &[IpNet]) {
    let is_trusted = trusted.iter().any(|range| range.contains(&from.peer.ip()));
    if found.any(Found::FORWARDED) && is_trusted {
        headers.append(FOR, from.forwarded_for.clone());
        headers.append(header::FORWARDED, from.forwarded.clone());
        // The first hop knows what the client used; a hop that did not say leaves it to us.
        headers.entry(PROTO).or_insert(HTTP);
        headers.entry(HOST).or_insert_with(|| host.clone());
        return;
    }
    if found.any(Found::FORWARDED) {
        strip(headers);
    }
    headers.insert(FOR, from.forwarded_for.clone());
    headers.insert(header::FORWARDED, from.forwarded.clone());
    headers.insert(PROTO, HTTP);
    headers.insert(HOST, host.clone());
}

/// Removes every field of this kind, known by name or not.
fn strip(headers: &mut HeaderMap) {
    for name in [header::FORWARDED, FOR, PROTO, HOST, PORT, REAL_IP] {
        headers.remove(name);
    }
    super::outgoing::remove_prefixed(headers, "x-forwarded-");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        source(peer.parse().unwrap(), &trusted, Found::FORWARDED, &headers).to_string()
    }

    #[test]
    fn only_a_trusted_hop_can_say_who_the_client_is() {
        assert_eq!(client("192.0.2.9", &[("x-forwarded-for", "198.51.100.1")]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_no_trusted_hop_is_the_client() {
        for (fields, expected) in [
            (&[("x-forwarded-for", "203.0.113.66, 198.51.100.1, 10.0.0.7")][..], "198.51.100.1"),
            (&[("x-forwarded-for", "203.0.113.66"), ("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
            (&[("x-forwarded-for", "198.51.100.1:4711")], "198.51.100.1"),
            (&[("x-forwarded-for", "198.51.100.1, unknown, 10.0.0.7")], "10.0.0.7"),
            (&[("x-forwarded-for", "10.0.0.9, 10.0.0.8")], "10.0.0.9"),
            (&[("forwarded", "for=203.0.113.66, For=\"[2001:db9::1]:80\";proto=https")], "2001:db9::1"),
            (&[("forwarded", "for=198.51.100.2"), ("x-forwarded-for", "203.0.113.66")], "198.51.100.2"),
            (&[("forwarded", "for=_hidden")], "10.0.0.1"),
            (&[("x-forwarded-for", "::ffff:198.51.100.1")], "198.51.100.1"),
        ] {
            assert_eq!(client("10.0.0.1", fields), expected, "{fields:?}");
        }
    }
}
