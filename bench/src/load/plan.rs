//! What is sent, for whom and how often: the options, read once into requests that only have to be written.

mod request;
mod target;

use super::answer::Names;
use super::options::Options;
use crate::versus::step::Error;
use bytes::Bytes;
use request::Asker;
pub(crate) use request::{Header, Kind, Message, Request};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;
pub(crate) use target::{Peer, Protocol, Target};

/// Everything about the load but its pace.
pub(crate) struct Plan {
    pub(crate) peer: Peer,
    pub(crate) tenants: Vec<Tenant>,
    /// Weights of each kind and all before it, as a share of all.
    kinds_up_to: Vec<f64>,
    /// Of each tenant, one of each kind.
    requests: Vec<Rc<Request>>,
}

/// One tenant of the mix.
pub(crate) struct Tenant {
    pub(crate) name: String,
    /// Weights of this tenant and all before it, as a share of all: a number in `0..1` below it falls to this tenant.
    up_to: f64,
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

impl Plan {
    pub(crate) fn of(options: &Options, target: &Target) -> Result<Self, Error> {
        if options.answer_tenant.is_some() && options.tenants.is_empty() {
            return Err(Error::Usage("--answer-tenant needs --tenants: without them no answer can be another's".to_owned()));
        }
        if options.grpc && options.answer_tenant.as_ref().is_some_and(Names::reads_body) {
            return Err(Error::Usage("a gRPC message is no JSON: give --answer-tenant the name of a header or of metadata".to_owned()));
        }
        let peer = target.peer(options)?;
        let tokens = options.token_file.as_deref().map(tokens).transpose()?.unwrap_or_default();
        let anonymous = [Share { name: "-".to_owned(), host: None, weight: 1.0 }];
        let shares = if options.tenants.is_empty() { anonymous.as_slice() } else { options.tenants.as_slice() };
        let tenants = tenants(shares, options.zipf)?;
        let kinds = [kind(options, target)];
        let mut requests = Vec::with_capacity(shares.len() * kinds.len());
        for (tenant, share) in shares.iter().enumerate() {
            let token = tokens.get(&share.name).map(String::as_str);
            if token.is_none() && !tokens.is_empty() {
                return Err(Error::Usage(format!("the token file has no line for tenant `{}`", share.name)));
            }
            let asker = Asker { tenant, name: &share.name, host: share.host.as_deref(), token };
            for kind in &kinds {
                requests.push(Rc::new(kind.request(target, peer.protocol, &asker, options.answer_tenant.as_ref())?));
            }
        }
        let kinds_up_to = shares_up_to(kinds.iter().map(|kind| kind.weight));
        Ok(Self { peer, tenants, kinds_up_to, requests })
    }

    /// The request that two numbers in `0..1` fall to: the one tells the tenant, the other what it asks.
    pub(crate) fn request_at(&self, tenant: f64, kind: f64) -> Option<&Rc<Request>> {
        let tenant = self.tenants.partition_point(|of| of.up_to <= tenant).min(self.tenants.len().saturating_sub(1));
        let kinds = self.kinds_up_to.len();
        let kind = self.kinds_up_to.partition_point(|up_to| *up_to <= kind).min(kinds.saturating_sub(1));
        self.requests.get(tenant * kinds + kind)
    }
}

/// The mix. The n-th weight is divided by n to the power of the skew.
fn tenants(shares: &[Share], zipf: f64) -> Result<Vec<Tenant>, Error> {
    let mut seen = HashSet::new();
    if let Some(twice) = shares.iter().find(|share| !seen.insert(&share.name)) {
        return Err(Error::Usage(format!("tenant `{}` stands twice in the mix: add up its weights", twice.name)));
    }
    let weights = shares.iter().enumerate().map(|(rank, share)| share.weight / ((rank + 1) as f64).powf(zipf));
    Ok(shares.iter().zip(shares_up_to(weights)).map(|(share, up_to)| Tenant { name: share.name.clone(), up_to }).collect())
}

/// Of each weight, the share of all that it and those before it have.
fn shares_up_to(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights
        .iter()
        .scan(0.0, |below, weight| {
            *below += weight / sum;
            Some(*below)
        })
        .collect()
}

/// The one kind of request that the options describe.
fn kind(options: &Options, target: &Target) -> Kind {
    let body = match (&options.message, &options.body) {
        (Some(message), _) => message.framed(),
        (None, Some(text)) => text.clone().into(),
        (None, None) => Bytes::from(vec![b'x'; options.body_size.unwrap_or(0)]),
    };
    Kind {
        weight: 1.0,
        method: if options.grpc { "POST".to_owned() } else { options.method.clone() },
        path: options.path.as_ref().unwrap_or(&target.path).clone(),
        headers: options.header.clone(),
        body,
        grpc: options.grpc,
        expected: options.expect.as_slice().into(),
    }
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
        let texts: Vec<_> = plan.requests.iter().map(|request| String::from_utf8(request.head.clone()).unwrap()).collect();
        assert_eq!(texts[0], "GET /acme/items HTTP/1.1\r\nhost: acme.test\r\nX-For: acme\r\nauthorization: Bearer t1\r\n\r\n");
        assert_eq!(texts[1], "GET /globex/items HTTP/1.1\r\nhost: 127.0.0.1:9\r\nX-For: globex\r\nauthorization: Bearer t2\r\n\r\n");
    }

    #[test]
    fn weights_and_skew_are_shares_of_the_whole() {
        let plan = plan(&["--tenants", "a=2,b,c", "--zipf", "1"]).unwrap();
        // 2, 1/2, 1/3 of 17/6.
        for (number, tenant) in [(0.0, 0), (0.705, 0), (0.706, 1), (0.882, 1), (0.883, 2), (0.999_999, 2)] {
            assert_eq!(plan.request_at(number, 0.5).unwrap().tenant, tenant, "{number}");
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
    fn what_says_nothing_of_a_tenant_is_wrong_usage() {
        for (line, word) in [
            (&["--answer-tenant", "x-tenant"][..], "--tenants"),
            (&["--tenants", "a,b,a"], "twice"),
            (&["--tenants", "a", "--streams", "2"], "--http2"),
            (&["--insecure"], "https"),
            (&["--http2", "--header", "Connection: close"], "HTTP/2 has no header"),
            (&["--tenants", "a", "--grpc", "--message", "hex:", "--answer-tenant", "/a"], "JSON"),
        ] {
            let refused = plan(line).err().unwrap();
            assert!(matches!(&refused, Error::Usage(text) if text.contains(word)), "{line:?}: {refused}");
        }
    }

    #[test]
    fn a_request_of_http2_has_what_the_same_of_http1_has() {
        let line = ["--http2", "--tenants", "acme@acme.test", "--header", "X-For: {tenant}", "--body", "of {tenant}", "--method", "POST"];
        let plan = plan(&line).unwrap();
        let request = &plan.requests[0];
        assert_eq!((request.parts.method().as_str(), request.parts.uri().to_string().as_str()), ("POST", "http://acme.test/base"));
        assert_eq!(
            (&request.parts.headers()["x-for"], &request.parts.headers()["content-length"]),
            (&"acme".parse().unwrap(), &"7".parse().unwrap())
        );
        assert_eq!((&request.body[..], request.head.len()), (&b"of acme"[..], 0));
    }

    #[test]
    fn a_share_has_a_name_and_a_weight_above_zero() {
        for bad in ["", "@a", "a=0", "a=-1", "a=x", "a=NaN"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
