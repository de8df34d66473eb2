//! Where requests go, and what is spoken there.

use crate::load::options::Options;
use crate::load::tls::Tls;
use crate::versus::step::Error;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// An address to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(super) scheme: Scheme,
    /// Host and port, as written.
    pub(super) authority: String,
    pub(super) path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2 { streams: usize },
}

impl Protocol {
    /// Requests that a connection takes at once.
    pub(crate) fn slots(self) -> usize {
        match self {
            Self::Http1 => 1,
            Self::Http2 { streams } => streams,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 { .. } => "HTTP/2",
        }
    }

    fn of(options: &Options) -> Result<Self, Error> {
        match options.http2 || options.grpc {
            true => Ok(Self::Http2 { streams: options.streams as usize }),
            false if options.streams > 1 => Err(Error::Usage("--streams is for --http2: HTTP/1.1 has one request at a time".to_owned())),
            false => Ok(Self::Http1),
        }
    }
}

/// The other side of every connection.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Tls>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (Scheme::Http, rest),
            (_, Some(rest)) => (Scheme::Https, rest),
            _ => return Err("it begins with neither http:// nor https://".to_owned()),
        };
        let (authority, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
        if authority.is_empty() || authority.contains(['@', ' ', '?', '#']) {
            return Err("it names no host: http://HOST[:PORT][/PATH]".to_owned());
        }
        Ok(Self { scheme, authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl Target {
    /// The target at `address`, for servers of our own.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { scheme: Scheme::Http, authority: address.to_string(), path: "/".to_owned() }
    }

    pub(super) fn peer(&self, options: &Options) -> Result<Peer, Error> {
        let protocol = Protocol::of(options)?;
        let tls = match self.scheme {
            Scheme::Https => Some(Tls::of(options, self.host(), protocol)?),
            // What was meant to be checked would go unchecked.
            Scheme::Http if options.ca.is_some() || options.insecure || options.server_name.is_some() => {
                return Err(Error::Usage("--ca, --insecure and --server-name are for https:// addresses".to_owned()));
            }
            Scheme::Http => None,
        };
        Ok(Peer { address: self.resolve()?, protocol, tls })
    }

    fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => &self.authority,
        }
    }

    fn resolve(&self) -> Result<SocketAddr, Error> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { self.authority.clone() } else { format!("{}:{}", self.authority, self.scheme.port()) };
        let unusable = |why: String| Error::Unusable { what: format!("host `{}`", self.authority), why };
        let mut found = authority.to_socket_addrs().map_err(|cause| unusable(cause.to_string()))?;
        found.next().ok_or_else(|| unusable("it has no address".to_owned()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_server_is_refused() {
        for bad in ["ftp://a", "http://", "http:///a", "a:80", "https://a@b/", "http://a?b"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_for_the_host_without_its_port() {
        for (url, host) in [("https://a.test:1/x", "a.test"), ("https://a.test", "a.test"), ("https://[::1]:1/", "[::1]")] {
            assert_eq!(url.parse::<Target>().unwrap().host(), host, "{url}");
        }
    }
}
