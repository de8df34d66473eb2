//! What is sent, for whom and how often: the options, read once into requests that only have to be written.

use super::Options;
use super::answer::Names;
use crate::versus::step::Error;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::str::FromStr;

/// Everything about the load but its pace.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) expected: Vec<u16>,
    pub(crate) names: Option<Names>,
    /// Answers to HEAD have no body.
    pub(crate) to_head: bool,
}

/// One tenant of the mix.
pub(crate) struct Tenant {
    pub(crate) name: String,
    /// Its request, whole.
    pub(crate) request: Vec<u8>,
    /// Weights of this tenant and all before it, as a share of all: a number in `0..1` below it falls to this tenant.
    pub(crate) up_to: f64,
}

/// A tenant as written: `NAME[@HOST][=WEIGHT]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Share {
    name: String,
    host: Option<String>,
    weight: f64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (who, weight) = match text.split_once('=') {
            Some((who, weight)) => (who, weight.parse().map_err(|_| format!("`{weight}` is no weight: a number above zero, like 2.5"))?),
            None => (text, 1.0),
        };
        let (name, host) = who.split_once('@').map_or((who, None), |(name, host)| (name, Some(host.to_owned())));
        match weight {
            _ if name.is_empty() => Err("it has no name: NAME[@HOST][=WEIGHT]".to_owned()),
            weight if !(f64::is_finite(weight) && weight > 0.0) => Err("its weight is not a number above zero".to_owned()),
            weight => Ok(Self { name: name.to_owned(), host, weight }),
        }
    }
}

/// An `http` address to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    authority: String,
    path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("it does not begin with http://, the one scheme that is spoken")?;
        let (authority, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err("it names no host: http://HOST[:PORT][/PATH]".to_owned());
        }
        Ok(Self { authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl Target {
    /// The target at `address`, for servers of our own.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { authority: address.to_string(), path: "/".to_owned() }
    }

    fn resolve(&self) -> Result<SocketAddr, Error> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { self.authority.clone() } else { format!("{}:80", self.authority) };
        let unusable = |why: String| Error::Unusable { what: format!("host `{}`", self.authority), why };
        let mut found = authority.to_socket_addrs().map_err(|cause| unusable(cause.to_string()))?;
        found.next().ok_or_else(|| unusable("it has no address".to_owned()))
    }
}

impl Plan {
    pub(crate) fn of(options: &Options, target: &Target) -> Result<Self, Error> {
        let tokens = options.token_file.as_deref().map(tokens).transpose()?.unwrap_or_default();
        let body = options.body.clone().unwrap_or_else(|| "x".repeat(options.body_size.unwrap_or(0)));
        let anonymous = [Share { name: "-".to_owned(), host: None, weight: 1.0 }];
        let shares = if options.tenants.is_empty() { anonymous.as_slice() } else { options.tenants.as_slice() };
        let weight = |rank: usize, share: &Share| share.weight / ((rank + 1) as f64).powf(options.zipf);
        let sum: f64 = shares.iter().enumerate().map(|(rank, share)| weight(rank, share)).sum();
        let mut below = 0.0;
        let mut tenants = Vec::with_capacity(shares.len());
        for (rank, share) in shares.iter().enumerate() {
            below += weight(rank, share) / sum;
            let token = tokens.get(&share.name).map(String::as_str);
            if token.is_none() && !tokens.is_empty() {
                return Err(Error::Usage(format!("the token file has no line for tenant `{}`", share.name)));
            }
            tenants.push(Tenant { name: share.name.clone(), request: request(options, target, share, token, &body), up_to: below });
        }
        let to_head = options.method.eq_ignore_ascii_case("HEAD");
        Ok(Self { address: target.resolve()?, tenants, expected: options.expect.clone(), names: options.answer_tenant.clone(), to_head })
    }

    /// The tenant a number in `0..1` falls to.
    pub(crate) fn tenant_at(&self, number: f64) -> usize {
        self.tenants.partition_point(|tenant| tenant.up_to <= number).min(self.tenants.len().saturating_sub(1))
    }

    /// Without a list, every 2xx is as expected.
    pub(crate) fn expects(&self, status: u16) -> bool {
        if self.expected.is_empty() { (200..300).contains(&status) } else { self.expected.contains(&status) }
    }
}

fn request(options: &Options, target: &Target, share: &Share, token: Option<&str>, body: &str) -> Vec<u8> {
    let filled = |text: &str| text.replace("{tenant}", &share.name);
    let path = filled(options.path.as_deref().unwrap_or(&target.path));
    let mut text = format!("{} {path} HTTP/1.1\r\n", options.method);
    // Writing to a String does not fail.
    let mut line = |name: &str, value: &str| _ = write!(text, "{name}: {value}\r\n");
    line("host", share.host.as_deref().unwrap_or(&target.authority));
    for Header { name, value } in &options.header {
        line(name, &filled(value));
    }
    if let Some(token) = token {
        line("authorization", &format!("Bearer {token}"));
    }
    if !body.is_empty() {
        line("content-length", &body.len().to_string());
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Lines `TENANT TOKEN`; a file, so that no token stands in a list of processes.
fn tokens(file: &Path) -> Result<HashMap<String, String>, Error> {
    let unusable = |why: String| Error::Unusable { what: file.display().to_string(), why };
    let text = std::fs::read_to_string(file).map_err(|cause| unusable(cause.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [tenant, token] => Ok(((*tenant).to_owned(), (*token).to_owned())),
            _ => Err(unusable(format!("line {} is not `TENANT TOKEN`", number + 1))),
        })
        .collect()
}

/// A header to add, `NAME: VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    name: String,
    value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("it is not `NAME: VALUE`")?;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            || value.contains(['\r', '\n'])
        {
            return Err("its name has other bytes than letters, digits, - and _, or its value has a line break".to_owned());
        }
        // The framing is ours: a second length would make requests of our own into others.
        match name.to_ascii_lowercase().as_str() {
            "host" => Err("the host of a tenant is written with it: NAME@HOST".to_owned()),
            "content-length" | "transfer-encoding" => Err("bodies are given with --body or --body-size, and framed by that".to_owned()),
            _ => Ok(Self { name: name.to_owned(), value: value.trim().to_owned() }),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn plan(line: &[&str]) -> Result<Plan, Error> {
        let line = ["load", "http://127.0.0.1:9/base"].iter().chain(line);
        let options = Line::try_parse_from(line).unwrap().options;
        Plan::of(&options, options.url.as_ref().unwrap())
    }

    #[test]
    fn a_request_is_of_its_tenant() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# dev\nacme t1\nglobex t2\n").unwrap();
        let path = file.path().to_str().unwrap();
        let line =
            ["--tenants", "acme@acme.test=3,globex", "--header", "X-For: {tenant}", "--path", "/{tenant}/items", "--token-file", path];
        let plan = plan(&line).unwrap();
        let texts: Vec<_> = plan.tenants.iter().map(|tenant| String::from_utf8(tenant.request.clone()).unwrap()).collect();
        assert_eq!(texts[0], "GET /acme/items HTTP/1.1\r\nhost: acme.test\r\nX-For: acme\r\nauthorization: Bearer t1\r\n\r\n");
        assert_eq!(texts[1], "GET /globex/items HTTP/1.1\r\nhost: 127.0.0.1:9\r\nX-For: globex\r\nauthorization: Bearer t2\r\n\r\n");
    }

    #[test]
    fn weights_and_skew_are_shares_of_the_whole() {
        let plan = plan(&["--tenants", "a=2,b,c", "--zipf", "1"]).unwrap();
        // 2, 1/2, 1/3 of 17/6.
        for (number, tenant) in [(0.0, 0), (0.705, 0), (0.706, 1), (0.882, 1), (0.883, 2), (0.999_999, 2)] {
            assert_eq!(plan.tenant_at(number), tenant, "{number}");
        }
    }

    #[test]
    fn a_tenant_without_its_token_is_wrong_usage() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "acme t1\n").unwrap();
        let refused = plan(&["--tenants", "acme,globex", "--token-file", file.path().to_str().unwrap()]).err().unwrap();
        assert!(matches!(&refused, Error::Usage(text) if text.contains("globex") && !text.contains("t1")), "{refused}");
    }

    #[test]
    fn what_would_not_be_one_request_is_refused() {
        for bad in ["Host: a", "content-length: 1", "Transfer-Encoding: chunked", "a b: c", "a: b\r\nc: d", "none"] {
            assert!(bad.parse::<Header>().is_err(), "{bad}");
        }
        for bad in ["", "@a", "a=0", "a=-1", "a=x", "a=NaN"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        for bad in ["https://a", "http://", "http:///a", "a:80"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
