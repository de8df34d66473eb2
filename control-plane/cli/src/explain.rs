//! `bulkhead explain`: why a request gets through or not, told by the very function that decides.
//!
//! A running bulkhead answers through its admin socket, with the policy it serves; `--documents` answers offline from files.
//! Both answers are the same JSON, which is shown to people in one way.

use crate::admin::Admin;
use crate::args::Global;
use crate::context;
use crate::documents;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::output::{Format, Out};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::compile::Catalogue;
use bulkhead_config::explain::{Question, explain};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::path::PathBuf;

mod show;

/// Explain a decision: the rule that decides, or what comes nearest
///
/// Describe a request, or give the decision id that a refusal names:
///   bulkhead explain GET /v1/items --tenant acme_corp --role reader
///   bulkhead explain http://acme.localhost:8080/v1/items --api-key ci
///   bulkhead explain d-…
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    override_usage = "bulkhead explain [OPTIONS] [METHOD] <PATH|URL>\n       bulkhead explain [OPTIONS] <DECISION-ID>"
)]
pub(crate) struct Args {
    /// Method (else GET) and path or URL; or a decision id
    #[arg(required = true, num_args = 1..=2, value_name = "REQUEST")]
    request: Vec<String>,
    /// Tenant that is named, and that the credential proves
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Host that is named
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Service it comes to, where several have such a route
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Role that the principal is taken to hold; may stand several times
    #[arg(long = "role", value_name = "NAME", value_delimiter = ',')]
    roles: Vec<String>,
    /// Subject of its token
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// Claims of its token, a JSON object
    #[arg(long, value_name = "JSON", value_parser = bulkhead_issuer::object)]
    claims: Option<Map<String, Value>>,
    /// Its token; the claims count, the signature is not checked here
    #[arg(long, value_name = "TOKEN", value_parser = claims_of, conflicts_with = "claims")]
    token: Option<Map<String, Value>>,
    /// Id of its API key
    #[arg(long, value_name = "ID", conflicts_with_all = ["claims", "token", "sub"])]
    api_key: Option<String>,
    /// Header field it has; may stand several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Address it comes from
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// When it comes: an RFC 3339 time, else now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Answer from these documents instead of asking a running bulkhead
    #[arg(long, value_name = "FILE|DIR")]
    documents: Option<PathBuf>,
    /// End with code 1 when it is refused
    #[arg(long)]
    check: bool,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("only the bulkhead that decided knows the decision `{0}`")]
    OfflineDecision(String),
    #[error("{0}")]
    Question(String),
    #[error("`{0}` is neither a path, nor an http URL, nor a decision id")]
    Target(String),
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
    fn fix(&self) -> Option<String> {
        match self {
            Error::OfflineDecision(_) => Some("leave --documents out".into()),
            Error::Question(_) => None,
            Error::Target(_) => Some("write for example `GET /v1/items`".into()),
        }
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let explanation = match asked(&args.request)? {
        Asked::Decision(id) if args.documents.is_some() => return Err(Error::OfflineDecision(id.to_owned()).into()),
        Asked::Decision(id) => Admin::of(&context::find(global)?).get(&format!("/explain?decision={id}"))?,
        Asked::Request { method, path, host } => answer(args, global, &question(args, method, path, host), out)?,
    };
    match out.format() {
        Format::Json => out.json(&explanation)?,
        Format::Human => out.raw(&show::explanation(&explanation))?,
    }
    Ok(match explanation.get("verdict").and_then(Value::as_str) {
        Some("unclear") => Exit::BadData,
        Some("refused") if args.check => Exit::Findings,
        _ => Exit::Done,
    })
}

/// What is to be explained.
enum Asked<'a> {
    Decision(&'a str),
    Request { method: &'a str, path: &'a str, host: Option<&'a str> },
}

fn asked(words: &[String]) -> Result<Asked<'_>, Error> {
    let (method, target) = match words {
        [id] if id.starts_with("d-") => return Ok(Asked::Decision(id)),
        [target] => ("GET", target),
        [method, target] => (method.as_str(), target),
        _ => return Err(Error::Target(words.join(" "))),
    };
    let (host, path) = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => match rest.find('/').and_then(|slash| rest.split_at_checked(slash)) {
            Some((host, path)) => (Some(host), path),
            None => (Some(rest), "/"),
        },
        None if target.starts_with('/') || target == "*" => (None, target.as_str()),
        None => return Err(Error::Target(target.clone())),
    };
    Ok(Asked::Request { method, path, host })
}

fn header(written: &str) -> Result<(String, String), String> {
    let parts = written.split_once(':').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) = parts.ok_or_else(|| "a header field is `NAME: VALUE`".to_owned())?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// The question as the admin socket reads it.
fn question(args: &Args, method: &str, path: &str, host: Option<&str>) -> Value {
    let mut question = json!({ "method": method, "path": path });
    let mut add = |name: &str, value: Option<Value>| {
        if let (Some(value), Some(fields)) = (value, question.as_object_mut()) {
            fields.insert(name.to_owned(), value);
        }
    };
    add("host", args.host.as_deref().or(host).map(Value::from));
    add("tenant", args.tenant.as_deref().map(Value::from));
    add("service", args.service.as_deref().map(Value::from));
    add("user", args.sub.as_deref().map(Value::from));
    add("api_key", args.api_key.as_deref().map(Value::from));
    add("claims", args.claims.as_ref().or(args.token.as_ref()).map(|claims| claims.clone().into()));
    let headers = args.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    add("headers", Some(Value::Object(headers)).filter(|_| !args.headers.is_empty()));
    add("source", args.source.map(|source| source.to_string().into()));
    add("at", args.at.map(|at| at.to_string().into()));
    add("roles", Some(args.roles.as_slice().into()).filter(|_| !args.roles.is_empty()));
    question
}

fn answer(args: &Args, global: &Global, question: &Value, out: &mut Out) -> Result<Value, Failure> {
    if let Some(claims) = &args.token {
        warn_of_time(claims, args.at.unwrap_or_else(Timestamp::now), out);
    }
    let Some(path) = &args.documents else { return Ok(Admin::of(&context::find(global)?).post("/explain", question)?) };
    let declared = documents::declared(path)?;
    let outcome = Catalogue::new().apply(&declared.offer());
    if !declared.mistakes().is_empty() || !outcome.quarantined.is_empty() {
        out.warn(format_args!("there are mistakes in {0}, and what they are in is left out: `bulkhead validate {0}`", path.display()));
    }
    let question = Question::from_json(question.to_string().as_bytes(), Timestamp::now().as_second()).map_err(Error::Question)?;
    Ok(explain(&outcome.snapshot, &question).to_json())
}

/// A described token is taken as verified, so that its time is told apart.
fn warn_of_time(claims: &Map<String, Value>, at: Timestamp, out: &mut Out) {
    let time = |name| claims.get(name).and_then(Value::as_i64).and_then(|seconds| Timestamp::from_second(seconds).ok());
    if let Some(expired) = time("exp").filter(|exp| *exp <= at) {
        out.warn(format_args!("the token has expired at {expired}: a request with it gets 401, whatever is explained here"));
    }
    if let Some(begins) = time("nbf").filter(|nbf| *nbf > at) {
        out.warn(format_args!("the token holds from {begins} on only: until then a request with it gets 401"));
    }
}

/// The claims of a token (RFC 7519), its signature unseen.
fn claims_of(token: &str) -> Result<Map<String, Value>, String> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("it is no signed token: three parts with dots between".into());
    };
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| "its claims are not base64url")?;
    bulkhead_issuer::object(&String::from_utf8_lossy(&decoded)).map_err(|why| format!("its claims cannot be read: {why}"))
}
