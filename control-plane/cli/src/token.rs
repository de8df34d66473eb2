//! `bulkhead token`: a token of the demo's issuer, for trying things out.
//!
//! Claims can be set and taken away at will, so that broken tokens are as easy to make as good ones.

use crate::args::Global;
use crate::context;
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::issuer::Issuer;
use crate::output::{Format, Out};
use bulkhead_config::name::TenantId;
use bulkhead_config::settings::Environment;
use bulkhead_config::unit;
use bulkhead_issuer::Claims;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Print a token signed by the demo's issuer; dev only
///
/// It prints the token and nothing else:
///   curl -H "Authorization: Bearer $(bulkhead token --tenant acme_corp --role reader)" …
///
/// It is accepted where an Identity names that issuer, as in the demo's documents.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Tenant it is for; without it the claim is left out
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Role to claim; may stand several times
    #[arg(long = "role", value_name = "NAME", value_delimiter = ',')]
    roles: Vec<String>,
    /// Subject: the user
    #[arg(long, value_name = "NAME", default_value = "demo-user")]
    sub: String,
    /// How long it holds, from now
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = unit::duration)]
    ttl: Duration,
    /// Claims to add or override, a JSON object; `null` takes a claim away
    #[arg(long, value_name = "JSON", value_parser = bulkhead_issuer::object)]
    claims: Option<Claims>,
    /// Environment
    #[arg(long, env = "BULKHEAD_ENV", default_value = "dev", hide = true)]
    env: Environment,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[error("tokens are made in dev only, and this is {0}")]
struct NotDev(Environment);

impl Fault for NotDev {
    fn exit(&self) -> Exit {
        Exit::Configuration
    }
    fn fix(&self) -> Option<String> {
        Some("ask the issuer that the documents name (kind Identity) for a token".into())
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    if args.env != Environment::Dev {
        return Err(NotDev(args.env).into());
    }
    let issuer = Issuer::open(&context::find(global)?.data_dir)?;
    let claims = claims(args, SystemTime::now());
    let token = issuer.sign(&claims);
    match out.format() {
        Format::Human => out.say(token)?,
        Format::Json => out.json(&json!({ "token": token, "kid": issuer.kid(), "claims": claims }))?,
    }
    Ok(Exit::Done)
}

fn claims(args: &Args, now: SystemTime) -> Claims {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut claims = Claims::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("iss", bulkhead_issuer::ISSUER.into());
    claim("aud", bulkhead_issuer::AUDIENCE.into());
    claim("sub", args.sub.as_str().into());
    claim("iat", now.into());
    claim("exp", (now + args.ttl.as_secs()).into());
    if let Some(tenant) = &args.tenant {
        claim("tenant", tenant.as_str().into());
    }
    if !args.roles.is_empty() {
        claim("roles", args.roles.as_slice().into());
    }
    if let Some(by) = &args.claims {
        bulkhead_issuer::replace(&mut claims, by);
    }
    claims
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn made(line: &[&str]) -> Value {
        let args = Line::try_parse_from(["token", "--env", "dev"].iter().chain(line)).unwrap().args;
        claims(&args, UNIX_EPOCH + Duration::from_secs(1_000)).into()
    }

    #[test]
    fn a_token_says_whose_it_is_what_it_may_and_until_when() {
        let claims = made(&["--tenant", "acme_corp", "--role", "reader", "--role", "editor", "--ttl", "5m", "--sub", "alice"]);
        let expected = json!({
            "iss": "https://issuer.bulkhead.localhost", "aud": "demo", "sub": "alice", "tenant": "acme_corp",
            "roles": ["reader", "editor"], "iat": 1_000, "exp": 1_300,
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn claims_override_and_null_takes_away() {
        let claims = made(&["--tenant", "globex", "--claims", r#"{"exp":1,"aud":["other"],"tenant":null,"mfa":true}"#]);
        assert_eq!((&claims["exp"], &claims["aud"], &claims["mfa"]), (&json!(1), &json!(["other"]), &json!(true)));
        assert!(claims.get("tenant").is_none());
    }
}
