//! Token introspection (RFC 7662): tokens that say nothing themselves, about which their server is asked.

use super::jwks::{self, leaving};
use super::read::Scope;
use super::reader::{Item, Outcome, spanned, wrong};
use super::schema::{self, Schema, optional, required};
use super::tls;
use super::value;
use crate::diagnostic::Spanned;
use crate::web_url::WebUrl;
use serde_json::json;
use std::time::Duration;

/// Who is asked about tokens that are no JSON Web Tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Introspection {
    /// Where.
    pub url: Spanned<WebUrl>,
    /// As whom this process asks.
    pub client_id: String,
    /// The file with what proves that.
    pub client_secret: Spanned<String>,
    /// Who may vouch for its host; absent: whoever this system trusts.
    pub roots: Option<Spanned<String>>,
    /// One of them must be in `aud` of the answer.
    pub audiences: Vec<String>,
    /// Member of the answer that names the tenant: required platform-wide, forbidden within a tenant.
    pub tenant_claim: Option<String>,
    /// How long a token that is active is taken for active without asking again.
    pub remember: Duration,
    /// Passes `Authorization` on to the upstream.
    pub forward: bool,
}

impl Introspection {
    /// Where `remember` is absent.
    pub const REMEMBER: Duration = Duration::from_secs(60);
    /// Less would ask about every request.
    pub const REMEMBER_MIN: Duration = Duration::from_secs(1);
    /// A token that was taken back must not go on for longer.
    pub const REMEMBER_MAX: Duration = Duration::from_secs(10 * 60);

    pub(super) fn read(item: &Item<'_>, scope: Scope) -> Outcome<Self> {
        let mut map = item.map()?;
        let url = map.required("url", spanned(jwks::web_url));
        let client_id = map.required("client_id", value::line(255));
        let client_secret = map.required("client_secret", spanned(|item| secret(item, scope)));
        let roots = map.optional("roots", spanned(tls::file));
        let audiences = map.required("audiences", |item| value::some_set(item, "audience", value::line(512)));
        let tenant_claim = match scope {
            Scope::Platform => map.required("tenant_claim", value::line(200)).map(Some),
            Scope::Tenant => {
                let complaint = wrong("`tenant_claim` stands only in platform-wide documents");
                map.forbidden("tenant_claim", complaint.hint("remove it: a tenant's server proves that tenant and no other"));
                Ok(None)
            }
        };
        let remember = map.optional("remember", remember);
        let forward = map.optional("forward", value::truth);
        map.finish();
        Ok(Self {
            url: url?,
            client_id: client_id?,
            client_secret: client_secret?,
            roots: roots?,
            audiences: value::bare(audiences?),
            tenant_claim: tenant_claim?,
            remember: remember?.unwrap_or(Self::REMEMBER),
            forward: forward?.unwrap_or_default(),
        })
    }
}

/// `{ file: name }`: a secret never stands in a document.
fn secret(item: &Item<'_>, scope: Scope) -> Outcome<String> {
    if item.value().as_str().is_some() {
        let complaint = wrong(format!("{} stands in the document", item.label())).expected("`{ file: introspection.secret }`");
        return Err(item.refuse(complaint.hint("write it to a file that only this process may read, and change it: it was seen here")));
    }
    let mut map = item.map()?;
    let file = map.required("file", |item| {
        let name = value::line(1_024)(item)?;
        match leaving(&name, scope) {
            Some(complaint) => Err(item.refuse(complaint)),
            None => Ok(name),
        }
    });
    map.finish();
    file
}

fn remember(item: &Item<'_>) -> Outcome<Duration> {
    let written = value::duration(item)?;
    match (Introspection::REMEMBER_MIN..=Introspection::REMEMBER_MAX).contains(&written) {
        true => Ok(written),
        false => Err(item.refuse(wrong(format!("{} is out of range", item.label())).expected("1s to 10m"))),
    }
}

impl Introspection {
    pub(super) fn schema() -> Schema {
        let secret = schema::line("Its name, beside the document that names it.", 1_024);
        let secret = schema::with(secret, "not", json!({ "pattern": "/$" }));
        let audiences = schema::set_of("One of them must be in `aud` of the answer.", schema::line("An audience.", 512));
        let remember = "How long an active token is taken for active without asking again, 1s to 10m; left out: 60s.";
        let claim = "Member of the answer that names the tenant; required platform-wide, forbidden within a tenant.";
        let fields = vec![
            required("url", jwks::url_schema("Where tokens are asked about (RFC 7662).")),
            required("client_id", schema::line("As whom this process asks.", 255)),
            required("client_secret", schema::object("The file with its secret.", vec![required("file", secret)])),
            optional("roots", tls::file_schema("Authorities that may vouch for its host, in PEM; left out: whoever this system trusts.")),
            required("audiences", schema::some(audiences)),
            optional("tenant_claim", schema::line(claim, 200)),
            optional("remember", schema::text(remember, "^0*[1-9][0-9]*(ms|s|m)$", &["60s"])),
            optional("forward", schema::truth("Whether `Authorization` is passed on to the upstream.")),
        ];
        schema::object("Who is asked about tokens that are no JSON Web Tokens.", fields)
    }
}
