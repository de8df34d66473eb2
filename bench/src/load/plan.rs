//! What is sent, for whom and how often: the options, read once into requests that only have to be written.

mod request;
mod target;

use super::answer::Names;
use super::issuer::Issuer;
use super::mix::Mix;
use super::options::Options;
use crate::versus::step::Error;
use bytes::Bytes;
use request::Asker;
pub(crate) use request::{Header, Kind, Message, Request};
use std::collections::{HashMap, HashSet};
use std::fmt;
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
    weight: f64,
    /// Weights of this tenant and all before it, as a share of all: a number in `0..1` below it falls to this tenant.
    up_to: f64,
}

/// A tenant as written: `NAME[@HOST][=WEIGHT]`.
#[derive(Clone, PartialEq)]
pub(crate) struct Share {
    pub(super) name: String,
    pub(super) host: Option<String>,
    pub(super) token: Option<String>,
    pub(super) weight: f64,
}

// Without its token.
impl fmt::Debug for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{:?}={}", self.name, self.host, self.weight)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (who, weight) = match text.split_once('=') {
            Some((who, written)) => (who, weight(written)?),
            None => (text, 1.0),
        };
        let (name, host) = who.split_once('@').map_or((who, None), |(name, host)| (name, Some(host.to_owned())));
        match name {
            "" => Err("it has no name: NAME[@HOST][=WEIGHT]".to_owned()),
            name => Ok(Self { name: name.to_owned(), host, token: None, weight }),
        }
    }
}

pub(super) fn weight(text: &str) -> Result<f64, String> {
    let weight = text.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
    weight.ok_or_else(|| format!("`{text}` is no weight: a number above zero, like 2.5"))
}

impl Plan {
    pub(crate) fn of(options: &Options, target: &Target) -> Result<Self, Error> {
        let peer = target.peer(options)?;
        let mix = match &options.mix {
            Some(file) => Mix::read(file)?,
            None => written(options, target),
        };
        let names = options.answer_tenant.as_ref().or(mix.answer_tenant.as_ref());
        refuse_blind(&mix, names, peer.protocol)?;
        let tokens = Tokens::of(options)?;
        let anonymous = [Share { name: "-".to_owned(), host: None, token: None, weight: 1.0 }];
        let shares = if mix.tenants.is_empty() { anonymous.as_slice() } else { mix.tenants.as_slice() };
        let tenants = tenants(shares, mix.zipf)?;
        let mut requests = Vec::with_capacity(shares.len() * mix.requests.len());
        for (tenant, share) in shares.iter().enumerate() {
            let token = tokens.of_tenant(share)?;
            let asker = Asker { tenant, name: &share.name, host: share.host.as_deref(), token: token.as_deref(), headers: &options.header };
            for kind in &mix.requests {
                requests.push(Rc::new(kind.request(target, peer.protocol, &asker, names)?));
            }
        }
        let kinds_up_to = shares_up_to(&mix.requests.iter().map(|kind| kind.weight).collect::<Vec<_>>());
        Ok(Self { peer, tenants, kinds_up_to, requests })
    }

    /// Places of so many tenants that ask most, those that ask alike in the order of the mix.
    pub(crate) fn heaviest(&self, count: usize) -> Vec<usize> {
        let mut weights: Vec<_> = self.tenants.iter().map(|tenant| tenant.weight).enumerate().collect();
        weights.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        weights.into_iter().take(count).map(|(place, _)| place).collect()
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
    let weights: Vec<_> = shares.iter().enumerate().map(|(rank, share)| share.weight / ((rank + 1) as f64).powf(zipf)).collect();
    let tenants = shares.iter().zip(&weights).zip(shares_up_to(&weights));
    Ok(tenants.map(|((share, weight), up_to)| Tenant { name: share.name.clone(), weight: *weight, up_to }).collect())
}

/// Of each weight, the share of all that it and those before it have.
fn shares_up_to(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights
        .iter()
        .scan(0.0, |below, weight| {
            *below += weight / sum;
            Some(*below)
        })
        .collect()
}

/// The mix that the options describe: one kind of request.
fn written(options: &Options, target: &Target) -> Mix {
    let body = match (&options.message, &options.body) {
        (Some(message), _) => message.framed(),
        (None, Some(text)) => text.clone().into(),
        (None, None) => Bytes::from(vec![b'x'; options.body_size.unwrap_or(0)]),
    };
    let kind = Kind {
        weight: 1.0,
        method: if options.grpc { "POST".to_owned() } else { options.method.clone() },
        path: options.path.as_ref().unwrap_or(&target.path).clone(),
        headers: Vec::new(),
        body,
        grpc: options.grpc,
        expected: options.expect.as_slice().into(),
    };
    Mix { tenants: options.tenants.clone(), zipf: options.zipf, answer_tenant: None, requests: vec![kind] }
}

/// A check that can find nothing is worse than none.
fn refuse_blind(mix: &Mix, names: Option<&Names>, protocol: Protocol) -> Result<(), Error> {
    let calls = mix.requests.iter().any(|kind| kind.grpc);
    let why = match names {
        _ if calls && protocol == Protocol::Http1 => "gRPC is spoken over HTTP/2: add --http2",
        Some(_) if mix.tenants.is_empty() => "--answer-tenant needs --tenants: without them no answer can be another's",
        Some(names) if calls && names.reads_body() => "a gRPC message is no JSON: give --answer-tenant the name of a header or of metadata",
        _ => return Ok(()),
    };
    Err(Error::Usage(why.to_owned()))
}

/// Where tenants have their tokens from.
enum Tokens {
    None,
    File(HashMap<String, String>),
    Made(Box<Issuer>),
}

impl Tokens {
    fn of(options: &Options) -> Result<Self, Error> {
        match (&options.token_file, &options.issuer_key) {
            (Some(file), _) => tokens(file).map(Self::File),
            (None, Some(key)) => Issuer::of(options, key).map(|issuer| Self::Made(Box::new(issuer))),
            (None, None) => Ok(Self::None),
        }
    }

    /// A token that stands in the mix goes before others.
    fn of_tenant(&self, share: &Share) -> Result<Option<String>, Error> {
        match self {
            _ if share.token.is_some() => Ok(share.token.clone()),
            Self::None => Ok(None),
            Self::Made(issuer) => Ok(Some(issuer.token(&share.name))),
            Self::File(tokens) => {
                let none = || Error::Usage(format!("the token file has no line for tenant `{}`", share.name));
                tokens.get(&share.name).cloned().map(Some).ok_or_else(none)
            }
        }
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
pub(super) mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// The plan of a command line.
    pub(in crate::load) fn plan(line: &[&str]) -> Result<Plan, Error> {
        let line = ["load", "http://127.0.0.1:9/base"].iter().chain(line);
        let options = Line::try_parse_from(line).unwrap().options;
        Plan::of(&options, options.url.as_ref().unwrap())
    }

    #[test]
    fn the_heaviest_tenants_are_those_that_ask_most() {
        let of = |line: &[&str], count| plan(line).unwrap().heaviest(count);
        assert_eq!(of(&["--tenants", "a=1,b=3,c=2,d=3"], 3), [1, 3, 2]);
        assert_eq!(of(&["--tenants", "a,b=3,c", "--zipf", "2"], 9), [0, 1, 2]);
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
