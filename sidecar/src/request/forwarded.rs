//! Forwarded: who the client is, and what the upstream is told of it (RFC 7239, and `X-Forwarded-…`).
//!
//! Cost: per request; nothing but a comparison unless the operator declared trusted hops.
//! What an untrusted client sent under these names is dropped, not extended: an upstream that reads the first entry would
//! otherwise take a client's word for its address.

use super::head::{Ambiguous, Found, is_read_as_forwarding};
use crate::connection::Downstream;
use crate::fields::{Fields, Name};
use crate::http1::write;
use bulkhead_config::snapshot::Scheme;
use ipnet::IpNet;
use std::net::IpAddr;

/// The client's address: the peer's, unless the peer is a trusted hop; then the last address its fields name that is none.
///
/// Most proxies write one of `Forwarded` and `X-Forwarded-For` and pass on the other as the client sent it. So neither is
/// preferred: what leads farther than trusted hops counts, and where both do, they must agree.
///
/// # Errors
/// They name two clients.
pub fn source(peer: IpAddr, trusted: &[IpNet], found: Found, headers: &Fields) -> Result<IpAddr, Ambiguous> {
    if trusted.is_empty() || !found.any(Found::FORWARDED) || !is_in(trusted, peer) {
        return Ok(peer);
    }
    match (follow(peer, trusted, headers, Name::Forwarded), follow(peer, trusted, headers, Name::ForwardedFor)) {
        (Way::Ends(one), Way::Ends(other)) if one != other => Err(Ambiguous::ClientsDiffer),
        (Way::Ends(client), _) | (_, Way::Ends(client)) => Ok(client),
        (Way::LeadsOn(hop), Way::LeadsOn(other)) => Ok(if hop == peer { other } else { hop }),
    }
}

/// How the client asks: as it speaks to us, or as it speaks to a trusted hop that says so.
#[must_use]
pub fn scheme(from: &Downstream, trusted: &[IpNet], found: Found, headers: &Fields) -> Scheme {
    if trusted.is_empty() || !found.any(Found::FORWARDED) || !is_in(trusted, from.peer().ip()) {
        return from.scheme;
    }
    told_scheme(headers).unwrap_or(from.scheme)
}

/// The first entry is of the hop that the client speaks to.
fn told_scheme(headers: &Fields) -> Option<Scheme> {
    let first = list(headers, Name::ForwardedProto).first().copied();
    let told = first.or_else(|| {
        let mut pairs = list(headers, Name::Forwarded).first()?.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("proto")).map(|(_, value)| value.trim().trim_matches('"'))
    })?;
    [("http", Scheme::Http), ("https", Scheme::Https)].into_iter().find(|(name, _)| told.eq_ignore_ascii_case(name)).map(|(_, known)| known)
}

fn is_in(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&ip))
}

/// How far the entries of one field lead, from the last one back.
enum Way {
    /// To an address that is no trusted hop, or to the hop before an entry that cannot be read: everything to its left was written
    /// by somebody nobody vouches for.
    Ends(IpAddr),
    /// Through trusted hops only.
    LeadsOn(IpAddr),
}

fn follow(peer: IpAddr, trusted: &[IpNet], headers: &Fields, name: Name) -> Way {
    let mut hop = peer;
    for entry in list(headers, name).into_iter().rev() {
        match node(entry) {
            Some(ip) if is_in(trusted, ip) => hop = ip,
            Some(client) => return Way::Ends(client),
            None => return Way::Ends(hop),
        }
    }
    Way::LeadsOn(hop)
}

/// All entries of a list field, first to last.
fn list(headers: &Fields, name: Name) -> Vec<&str> {
    headers.texts(name).flat_map(|value| value.split(',')).map(str::trim).collect()
}

/// The address in an entry of either field: `for="[2001:db8::1]:4711";proto=http`, `192.0.2.1`, `192.0.2.1:4711`.
fn node(entry: &str) -> Option<IpAddr> {
    let by_name = entry.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let text = by_name.unwrap_or(entry).trim_matches('"');
    let ip: Option<IpAddr> = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((literal, _)) => literal.parse().ok(),
        None => text.parse().ok().or_else(|| text.split_once(':').and_then(|(ip, _)| ip.parse().ok())),
    };
    ip.map(|ip| ip.to_canonical())
}

/// Tells the upstream where the request came from: drops what nobody vouches for, and writes what we know.
pub fn tell(headers: &mut Fields, out: &mut Vec<u8>, found: Found, host: &[u8], from: &Downstream, trusted: &[IpNet]) {
    let is_of_hop = found.any(Found::FORWARDED) && is_in(trusted, from.peer().ip());
    if is_of_hop {
        // No hop spells them so: these come from whoever wants to be read in its place.
        headers.drop_if(|field| field.name.contains(&b'_') && is_read_as_forwarding(field.name));
    } else if found.any(Found::FORWARDED) {
        headers.drop_if(|field| is_read_as_forwarding(field.name));
    }
    let forwarding = from.forwarding();
    out.extend_from_slice(&forwarding.client);
    // The first hop knows what the client used; a hop that did not say leaves it to us.
    if !is_of_hop || headers.get(Name::ForwardedProto).is_none() {
        out.extend_from_slice(&forwarding.proto);
    }
    if !is_of_hop || headers.get(Name::ForwardedHost).is_none() {
        write::field(out, b"x-forwarded-host", host);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn find(peer: &str, fields: &[(&'static str, &str)]) -> Result<IpAddr, Ambiguous> {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut headers = http::HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        source(peer.parse().unwrap(), &trusted, Found::FORWARDED, &Fields::from(&headers))
    }

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        find(peer, fields).unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_hop_can_say_who_the_client_is() {
        assert_eq!(client("192.0.2.9", &[("x-forwarded-for", "198.51.100.1")]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_hop_says_how_its_client_asks() {
        for (fields, told) in [
            (&[("x-forwarded-proto", "https")][..], Some(Scheme::Https)),
            (&[("x-forwarded-proto", "HTTPS, http")], Some(Scheme::Https)),
            (&[("x-forwarded-proto", "http")], Some(Scheme::Http)),
            (&[("forwarded", "for=192.0.2.1; Proto=\"https\", for=10.0.0.1;proto=http")], Some(Scheme::Https)),
            (&[("x-forwarded-proto", "wss")], None),
            (&[("x-forwarded-for", "192.0.2.1")], None),
        ] {
            let headers = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(told_scheme(&Fields::from(&headers)), told, "{fields:?}");
        }
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
            (&[("forwarded", "for=198.51.100.2"), ("x-forwarded-for", "198.51.100.2, 10.0.0.7")], "198.51.100.2"),
            (&[("forwarded", "for=_hidden")], "10.0.0.1"),
            (&[("x-forwarded-for", "::ffff:198.51.100.1")], "198.51.100.1"),
            (&[("forwarded", "for=\"[::ffff:198.51.100.1]:80\"")], "198.51.100.1"),
        ] {
            assert_eq!(client("10.0.0.1", fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_field_that_a_hop_passed_on_as_the_client_sent_it_names_nobody() {
        let both = |forwarded, x_forwarded_for| [("forwarded", forwarded), ("x-forwarded-for", x_forwarded_for)];
        for fields in
            [both("for=203.0.113.66", "198.51.100.1"), both("for=198.51.100.1", "203.0.113.66"), both("for=_hidden", "203.0.113.66")]
        {
            assert_eq!(find("10.0.0.1", &fields), Err(Ambiguous::ClientsDiffer), "{fields:?}");
        }
        // A hop that knew the hop before it only leads less far than one that knew the client.
        assert_eq!(client("10.0.0.1", &both("for=10.0.0.7", "198.51.100.1, 10.0.0.7")), "198.51.100.1");
        assert_eq!(client("192.0.2.9", &both("for=203.0.113.66", "198.51.100.1")), "192.0.2.9");
    }
}
