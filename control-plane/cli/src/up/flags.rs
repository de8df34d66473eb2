//! What the flags of `up` take, and what is said of anything else.

use bulkhead_config::settings::Environment;
use bulkhead_config::snapshot::{Endpoint, Scheme};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::net::SocketAddr;

/// The environments by name, for help and completion too.
pub(crate) fn environment() -> impl TypedValueParser<Value = Environment> {
    PossibleValuesParser::new(Environment::ALL.map(Environment::as_str)).try_map(|name| name.parse::<Environment>())
}

/// Reads an address with its port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.trim_start_matches("localhost").trim_start_matches(':').parse::<u16>();
        format!("write an IP address and a port, for example 127.0.0.1:{}", port.unwrap_or(8080))
    })
}

/// Reads `http://host:port` or `https://host:port`; without a port it is the scheme's.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let expected = "write http://HOST:PORT or https://HOST:PORT, without a path";
    let uri: hyper::Uri = text.parse().map_err(|_| format!("it is no URL; {expected}"))?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http") => (Scheme::Http, 80),
        Some("https") => (Scheme::Https, 443),
        _ => return Err(expected.into()),
    };
    match (uri.authority(), uri.path_and_query().map_or("/", |path| path.as_str())) {
        (Some(authority), "/" | "") if !authority.as_str().contains('@') => {
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            Ok(Endpoint { scheme, host: host.to_owned(), port: authority.port_u16().unwrap_or(port) })
        }
        _ => Err(expected.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{address, endpoint};

    #[test]
    fn what_is_no_address_is_told_what_was_probably_meant() {
        for (text, meant) in [("8081", "127.0.0.1:8081"), (":8081", "127.0.0.1:8081"), ("localhost:8081", "127.0.0.1:8081"), ("x", "8080")]
        {
            assert!(address(text).is_err_and(|told| told.ends_with(meant)), "{text}");
        }
        assert!(address("[::1]:0").is_ok());
    }

    #[test]
    fn an_upstream_is_an_http_origin_and_nothing_more() {
        for (text, read) in [
            ("http://127.0.0.1:3000", Some(("127.0.0.1", 3000))),
            ("http://app.internal:3000/", Some(("app.internal", 3000))),
            ("http://localhost", Some(("localhost", 80))),
            ("http://[::1]:3000", Some(("::1", 3000))),
            ("https://app", Some(("app", 443))),
            ("ftp://app:21", None),
            ("http://app:3000/base", None),
            ("http://app:3000/?q=1", None),
            ("http://user@app:3000", None),
            ("app:3000", None),
            ("127.0.0.1:3000", None),
            ("", None),
        ] {
            let found = endpoint(text).ok();
            assert_eq!(found.as_ref().map(|found| (found.host.as_str(), found.port)), read, "{text}");
        }
    }
}
