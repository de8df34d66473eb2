//! URLs that the sidecar itself asks: for keys of issuers, and about tokens.
//!
//! Only `https`, or `http` to this very machine: what comes from there decides who is believed, and whoever can change it on its
//! way could be anybody.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of a URL at most.
const BYTES_MAX: usize = 2_048;

/// A URL that is asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebUrl {
    text: Arc<str>,
    is_tls: bool,
    /// In lower case; an address of IPv6 without brackets.
    host: Arc<str>,
    port: u16,
    target: Arc<str>,
}

/// A text that is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAWebUrl {
    /// More bytes than a URL may have.
    #[error("it is longer than {BYTES_MAX} bytes")]
    Length,
    /// Another scheme, or none.
    #[error("it does not begin with `https://`")]
    Scheme,
    /// In the clear over a network.
    #[error("over `http://` anybody on the way could change what it says")]
    Plain,
    /// A name and password before the host.
    #[error("it has a name or password in it, which logs would show")]
    UserInfo,
    /// A part that is never sent.
    #[error("it has a fragment (`#…`), which is never sent")]
    Fragment,
    /// No URL at all.
    #[error("it is not of the form `https://host/path`")]
    Form,
}

impl WebUrl {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Its host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port, written or not.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they stand in a request line.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What `Host` says of it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let usual = if self.is_tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for WebUrl {
    type Err = NotAWebUrl;

    fn from_str(text: &str) -> Result<Self, NotAWebUrl> {
        if text.len() > BYTES_MAX {
            return Err(NotAWebUrl::Length);
        }
        if text.contains('#') {
            return Err(NotAWebUrl::Fragment);
        }
        let uri: http::Uri = text.parse().map_err(|_| NotAWebUrl::Form)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(NotAWebUrl::Scheme),
        };
        let authority = uri.authority().ok_or(NotAWebUrl::Form)?;
        if authority.as_str().contains('@') {
            return Err(NotAWebUrl::UserInfo);
        }
        // The parser takes `host:` and `host:99999` as a host without a port.
        if authority.port_u16().is_none() && authority.as_str() != authority.host() {
            return Err(NotAWebUrl::Form);
        }
        let written = authority.host().to_ascii_lowercase();
        let host = written.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&written);
        if host.is_empty() || authority.port_u16() == Some(0) {
            return Err(NotAWebUrl::Form);
        }
        if !is_tls && !is_this_machine(host) {
            return Err(NotAWebUrl::Plain);
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self { text: text.into(), is_tls, host: host.into(), port, target: target.into() })
    }
}

/// `localhost` (RFC 6761 section 6.3) or a loopback address: what goes there leaves this machine by no wire.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What [`WebUrl`] takes, as a pattern for schemas; a few hosts that are none pass it.
pub(crate) const PATTERN: &str = r"^(https://[^\s/?#@]+|http://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?)([/?][^\s#]*)?$";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_as_it_will_be_asked() {
        for (text, host, port, authority, target) in [
            ("https://login.example.com/jwks", "login.example.com", 443, "login.example.com", "/jwks"),
            ("https://Login.example.com:8443/a?b=c", "login.example.com", 8443, "login.example.com:8443", "/a?b=c"),
            ("https://login.example.com", "login.example.com", 443, "login.example.com", "/"),
            ("https://[2001:db8::1]/k", "2001:db8::1", 443, "[2001:db8::1]", "/k"),
            ("http://127.0.0.1:9/k", "127.0.0.1", 9, "127.0.0.1:9", "/k"),
            ("http://[::1]/k", "::1", 80, "[::1]", "/k"),
            ("http://localhost/k", "localhost", 80, "localhost", "/k"),
        ] {
            let url: WebUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), &*url.authority(), url.target()), (host, port, authority, target), "{text}");
            assert_eq!(url.is_tls(), text.starts_with("https"), "{text}");
        }
    }

    #[test]
    fn what_could_be_changed_on_its_way_or_read_in_two_ways_is_refused() {
        for (text, why) in [
            ("http://login.example.com/jwks", NotAWebUrl::Plain),
            ("http://127.0.0.1.example.com/", NotAWebUrl::Plain),
            ("http://10.0.0.1/", NotAWebUrl::Plain),
            ("ftp://login.example.com/", NotAWebUrl::Scheme),
            ("login.example.com/jwks", NotAWebUrl::Form),
            ("/jwks", NotAWebUrl::Scheme),
            ("", NotAWebUrl::Form),
            ("https://", NotAWebUrl::Form),
            ("https://user:secret@login.example.com/", NotAWebUrl::UserInfo),
            ("https://login.example.com/a#b", NotAWebUrl::Fragment),
            ("https://login.example.com/a b", NotAWebUrl::Form),
            ("https://login.example.com:99999/", NotAWebUrl::Form),
            ("https://login.example.com:0/", NotAWebUrl::Form),
            ("https://login.example.com:/", NotAWebUrl::Form),
        ] {
            assert_eq!(text.parse::<WebUrl>().unwrap_err(), why, "{text}");
        }
        assert_eq!(format!("https://a/{}", "x".repeat(2_048)).parse::<WebUrl>().unwrap_err(), NotAWebUrl::Length);
    }
}
