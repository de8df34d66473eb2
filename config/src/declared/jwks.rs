//! Where an issuer's keys come from: a file beside the document, or a URL that is asked again and again.

use super::read::Scope;
use super::reader::{Complaint, Item, Map, Outcome, spanned, wrong};
use super::schema::{self, Schema, optional, required};
use super::tls;
use super::value;
use crate::diagnostic::Spanned;
use crate::web_url::{self, NotAWebUrl, WebUrl};
use serde_json::json;
use std::time::Duration;

/// Where an issuer's keys (RFC 7517) come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Jwks {
    /// A file, beside the document that names it.
    File(String),
    /// A URL.
    Url {
        /// Which.
        url: WebUrl,
        /// The longest time between two looks.
        refresh: Duration,
        /// Who may vouch for its host; absent: whoever this system trusts.
        roots: Option<Spanned<String>>,
    },
}

impl Jwks {
    /// Where `refresh` is absent.
    pub const REFRESH: Duration = Duration::from_secs(10 * 60);
    /// More often is a flood of the issuer's server.
    pub const REFRESH_MIN: Duration = Duration::from_secs(1);
    /// A key that leaked must not be believed for longer than this because nobody looked.
    pub const REFRESH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// The PEM file it names.
    pub(crate) fn roots(&self) -> Option<&Spanned<String>> {
        match self {
            Jwks::File(_) => None,
            Jwks::Url { roots, .. } => roots.as_ref(),
        }
    }

    pub(super) fn read(item: &Item<'_>, scope: Scope) -> Outcome<Self> {
        let mut map = item.map()?;
        if !map.has("url") {
            let file = map.required("file", |item| file(item, scope));
            map.finish();
            return Ok(Jwks::File(file?));
        }
        let complaint = wrong("`file` and `url` are two places for one key set");
        map.forbidden("file", complaint.hint("keep the one that the issuer writes to"));
        let read = Self::read_url(&mut map);
        map.finish();
        read
    }

    fn read_url(map: &mut Map<'_>) -> Outcome<Self> {
        let url = map.required("url", web_url);
        let refresh = map.optional("refresh", refresh);
        let roots = map.optional("roots", spanned(tls::file));
        Ok(Jwks::Url { url: url?, refresh: refresh?.unwrap_or(Self::REFRESH), roots: roots? })
    }
}

/// A file beside the document. Whoever writes for one tenant reaches no further than the folder that the documents stand in.
fn file(item: &Item<'_>, scope: Scope) -> Outcome<String> {
    let name = value::line(1_024)(item)?;
    match leaving(&name, scope) {
        Some(complaint) => Err(item.refuse(complaint)),
        None => Ok(name),
    }
}

/// What is wrong with a file's name.
pub(super) fn leaving(name: &str, scope: Scope) -> Option<Complaint> {
    if name.ends_with('/') {
        return Some(wrong("`file` names a folder").expected("a file"));
    }
    let leaves = name.starts_with('/') || name.split('/').any(|step| step == "..");
    (scope == Scope::Tenant && leaves).then(|| {
        let complaint = wrong("`file` leads out of the folder of a tenant's document").expected("a file beside it, or below");
        complaint.hint("put the file beside this document and name it without `/` in front or `..`")
    })
}

/// A URL that is asked from here.
pub(super) fn web_url(item: &Item<'_>) -> Outcome<WebUrl> {
    let text = value::string(item)?;
    text.parse().map_err(|why: NotAWebUrl| {
        let complaint = wrong(format!("{} is no URL to ask: {why}", item.label())).expected("`https://…`, or `http://` to this machine");
        let tls = text.strip_prefix("http://").map(|rest| format!("https://{rest}"));
        item.refuse(match tls {
            Some(tls) if why == NotAWebUrl::Plain => complaint.hint(format!("write `{tls}`")),
            _ => complaint,
        })
    })
}

fn refresh(item: &Item<'_>) -> Outcome<Duration> {
    let written = value::duration(item)?;
    match (Jwks::REFRESH_MIN..=Jwks::REFRESH_MAX).contains(&written) {
        true => Ok(written),
        false => Err(item.refuse(wrong(format!("{} is out of range", item.label())).expected("1s to 24h"))),
    }
}

const REFRESH_PATTERN: &str = "^0*[1-9][0-9]*(ms|s|m|h|d)$";

impl Jwks {
    pub(super) fn schema() -> Schema {
        let file = schema::line("A file with a JSON Web Key Set (RFC 7517), beside the document that names it.", 1_024);
        let file = schema::with(file, "not", json!({ "pattern": "/$" }));
        let from_url = vec![
            required("url", url_schema("Where its key set is asked for; its `Cache-Control` is obeyed.")),
            optional("refresh", schema::text("The longest time between two looks, 1s to 24h; left out: 10m.", REFRESH_PATTERN, &["10m"])),
            optional("roots", tls::file_schema("Authorities that may vouch for its host, in PEM; left out: whoever this system trusts.")),
        ];
        let either = [schema::object("A file.", vec![required("file", file)]), schema::object("A URL.", from_url)];
        json!({ "description": "Its keys.", "oneOf": either })
    }

    /// What a tenant's document may not say.
    pub(super) fn schema_of_tenant() -> Schema {
        json!({ "properties": { "file": { "not": { "pattern": r"^/|(^|/)\.\.(/|$)" } } } })
    }
}

pub(super) fn url_schema(description: &str) -> Schema {
    let url = schema::text(description, web_url::PATTERN, &["https://login.example.com/.well-known/jwks.json"]);
    schema::with(url, "maxLength", json!(2_048))
}
