//! `bulkhead api-key`: makes the keys that machines present.
//!
//! A key is shown once and stored nowhere: documents hold its SHA-256, which is enough because 256 random bits cannot be guessed.
//! `--write` adds a file of its own rather than editing one of the user's: comments and layout stay as they are, and deleting
//! the file takes the key back.

use crate::admin::Admin;
use crate::answer;
use crate::args::Global;
use crate::context::{self, Place};
use crate::documents::{self, Declared};
use crate::exit::Exit;
use crate::fault::{Failure, Fault};
use crate::files::{self, Readers};
use crate::output::{Format, HINT, Out, paint};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bulkhead_config::declared::{Body, Kind};
use bulkhead_config::diagnostic::nearest;
use bulkhead_config::name::{KeyId, RoleName, TenantId};
use bulkhead_config::unit;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// An edit is live within a second; a machine under load may take a few.
const LIVE_WITHIN: Duration = Duration::from_secs(5);
/// Pause between looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Make keys for machines
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    New(New),
    List(List),
}

/// List the API keys that a running bulkhead serves, with their end and their last use
#[derive(Debug, clap::Args)]
struct List {
    /// Tenant whose keys they are
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
}

/// Make an API key: print it once, with the document that makes it valid
///
/// With --write the document goes to the watched folder and the key alone is printed.
#[derive(Debug, clap::Args)]
struct New {
    /// Tenant that the key proves
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// Id of the key, unique within the tenant
    #[arg(long, value_name = "NAME")]
    id: KeyId,
    /// Refused from then on: a date, an RFC 3339 time, or a duration from now like 90d
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    expires: Option<Timestamp>,
    /// Role that the key holds; without one it may do nothing until a RoleBinding names it
    #[arg(long, value_name = "NAME")]
    role: Option<RoleName>,
    /// Writes the document to the watched folder, as a file of its own
    #[arg(long)]
    write: bool,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the documents in {} know no tenant `{tenant}`", documents.display())]
    UnknownTenant { tenant: TenantId, documents: PathBuf, near: Option<String> },
    #[error("tenant `{tenant}` has no role `{role}`")]
    UnknownRole { tenant: TenantId, role: RoleName, near: Option<String> },
    #[error("tenant `{tenant}` already has a key `{id}` ({place})")]
    Taken { tenant: TenantId, id: KeyId, place: String },
    #[error("{} is one file, and a key is written as a file of its own", .0.display())]
    NoFolder(PathBuf),
    #[error("cannot write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the system gives no random bytes for a key")]
    NoRandom,
}

impl Fault for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::UnknownTenant { .. } | Error::UnknownRole { .. } | Error::Taken { .. } => Exit::Configuration,
            Error::NoFolder(_) => Exit::BadData,
            Error::Unwritable { source, .. } => Exit::of(source),
            Error::NoRandom => Exit::Io,
        }
    }

    fn fix(&self) -> Option<String> {
        let meant = |near: &Option<String>| near.as_ref().map(|near| format!("did you mean `{near}`?"));
        match self {
            Error::UnknownTenant { near, .. } | Error::UnknownRole { near, .. } => meant(near),
            Error::Taken { .. } => Some("choose another --id, or take the old key out of its document first".into()),
            Error::NoFolder(_) => Some("leave --write out and add the printed document to that file".into()),
            Error::Unwritable { .. } => Some("leave --write out and add the printed document yourself".into()),
            Error::NoRandom => None,
        }
    }
}

pub(crate) fn run(args: &Args, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let new = match &args.action {
        Action::New(new) => new,
        Action::List(asked) => return list(asked, global, out),
    };
    let place = context::find(global)?;
    let key = Key::new(&new.tenant, &new.id)?;
    let document = document(new, &key);
    if !new.write {
        return show(&key, &document, out);
    }
    let declared = documents::declared(&place.documents)?;
    check(new, &place, &declared)?;
    if !is_heard(&declared) {
        out.warn("no request can show this key yet: add an Identity without `tenant:` that says `api_key_header: x-api-key`");
    }
    let live = Live::before(&place);
    let path = write(new, &place, &document)?;
    told(&key, &path, live.wait(), out)
}

fn list(asked: &List, global: &Global, out: &mut Out) -> Result<Exit, Failure> {
    let told = Admin::of(&context::find(global)?).get(&format!("/api-keys?tenant={}", asked.tenant))?;
    match out.format() {
        Format::Json => out.json(&told)?,
        Format::Human => {
            let known_for = answer::number(&told, "uses_are_known_for_seconds").unwrap_or_default();
            for key in answer::list(&told, "api_keys") {
                out.say(listed(key, known_for))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// `ci         expires 2027-06-30T00:00:00Z; used 5 s ago`.
fn listed(key: &serde_json::Value, known_for: u64) -> String {
    let is = |member| key.get(member).and_then(serde_json::Value::as_bool).unwrap_or_default();
    let id = answer::text(key, "id").unwrap_or_default();
    let state = match (is("is_revoked"), is("is_expired"), answer::text(key, "expires")) {
        (true, _, _) => "revoked".to_owned(),
        (false, true, Some(at)) => format!("expired {at}"),
        (false, _, Some(at)) => format!("expires {at}"),
        (false, _, None) => "never expires".to_owned(),
    };
    let used = match answer::number(key, "seconds_since_use") {
        Some(seconds) => format!("used {} ago", answer::span(seconds)),
        None => format!("not used in the {} since it started", answer::span(known_for)),
    };
    format!("{id:<20} {state}; {used}")
}

/// A key and what may be kept of it.
struct Key {
    text: String,
    sha256: String,
}

impl Key {
    fn new(tenant: &TenantId, id: &KeyId) -> Result<Self, Error> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::NoRandom)?;
        let text = format!("bk1.{tenant}.{id}.{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
        let hash = digest(&SHA256, text.as_bytes());
        let sha256 = hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Ok(Self { text, sha256 })
    }
}

/// The documents that make a key valid. Every text is quoted: a name like `1e3`, or a hash of digits, would else be a number.
fn document(new: &New, key: &Key) -> String {
    let (tenant, id, sha256) = (&new.tenant, &new.id, &key.sha256);
    let mut text = format!("kind: Identity\ntenant: \"{tenant}\"\nname: \"{id}\"\napi_keys:\n  - id: \"{id}\"\n    sha256: \"{sha256}\"\n");
    // Writing to a String cannot fail.
    if let Some(expires) = new.expires {
        let _ = writeln!(text, "    expires: \"{expires}\"");
    }
    if let Some(role) = &new.role {
        let _ = write!(
            text,
            "---\nkind: RoleBinding\ntenant: \"{tenant}\"\nname: \"{id}\"\nrole: \"{role}\"\nsubjects:\n  - api_key: \"{id}\"\n"
        );
    }
    text
}

/// What would make the written document useless or harmful is told before anything is written.
fn check(new: &New, place: &Place, declared: &Declared) -> Result<(), Error> {
    let tenants: Vec<&str> = declared.tenants().collect();
    if !tenants.contains(&new.tenant.as_str()) {
        let near = nearest(new.tenant.as_str(), tenants).map(str::to_owned);
        return Err(Error::UnknownTenant { tenant: new.tenant.clone(), documents: place.documents.clone(), near });
    }
    check_role(new, declared)?;
    taken(new, declared).map_or(Ok(()), |place| Err(Error::Taken { tenant: new.tenant.clone(), id: new.id.clone(), place }))
}

/// Whether the documents say in which header keys come.
fn is_heard(declared: &Declared) -> bool {
    declared.documents().any(|document| matches!(&document.body, Body::Identity(identity) if identity.api_key_header.is_some()))
}

fn check_role(new: &New, declared: &Declared) -> Result<(), Error> {
    let Some(role) = &new.role else { return Ok(()) };
    let in_scope = |tenant: &Option<TenantId>| tenant.as_ref().is_none_or(|tenant| *tenant == new.tenant);
    let roles: Vec<&str> = declared
        .documents()
        .filter(|document| document.id.kind == Kind::Role && in_scope(&document.id.tenant))
        .map(|document| document.id.name.as_str())
        .collect();
    if roles.contains(&role.as_str()) {
        return Ok(());
    }
    let near = nearest(role.as_str(), roles).map(str::to_owned);
    Err(Error::UnknownRole { tenant: new.tenant.clone(), role: role.clone(), near })
}

/// Where a key of this id, or a document of the name that this one will have, stands already.
fn taken(new: &New, declared: &Declared) -> Option<String> {
    let of_tenant = declared.documents().filter(|document| document.id.tenant.as_ref() == Some(&new.tenant));
    for document in of_tenant {
        let file = &document.origin.file;
        match &document.body {
            Body::Identity(identity) => {
                if let Some(key) = identity.api_keys.iter().find(|key| *key.id == new.id) {
                    return Some(format!("{file}:{}", key.id.span.line));
                }
            }
            Body::RoleBinding(_) if new.role.is_some() => {}
            _ => continue,
        }
        if document.id.name.as_str() == new.id.as_str() {
            return Some(format!("{file}:{}", document.origin.span.line));
        }
    }
    None
}

fn write(new: &New, place: &Place, document: &str) -> Result<PathBuf, Error> {
    if place.documents.is_file() {
        return Err(Error::NoFolder(place.documents.clone()));
    }
    let folder = place.documents.join("api_keys");
    // No name holds a dot, so two keys never share a file.
    let path = folder.join(format!("{}.{}.yaml", new.tenant, new.id));
    let text = format!("# Made by `bulkhead api-key new`. Deleting this file takes the key back.\n{document}");
    let written = files::make_private_dir(&folder).and_then(|()| files::replace(&path, text.as_bytes(), Readers::Anyone));
    written.map(|()| path.clone()).map_err(|source| Error::Unwritable { path, source })
}

fn show(key: &Key, document: &str, out: &mut Out) -> Result<Exit, Failure> {
    match out.format() {
        Format::Json => out.json(&json!({ "key": key.text, "sha256": key.sha256, "document": document, "file": null }))?,
        Format::Human => {
            out.say(&key.text)?;
            out.remark(format_args!(
                "\n{}: the key is shown this once. Add this document, which holds its hash only:\n",
                paint(HINT, "note")
            ));
            out.say(document.trim_end())?;
        }
    }
    Ok(Exit::Done)
}

fn told(key: &Key, path: &std::path::Path, live: Option<bool>, out: &mut Out) -> Result<Exit, Failure> {
    match out.format() {
        Format::Json => out.json(&json!({ "key": key.text, "sha256": key.sha256, "file": path, "live": live }))?,
        Format::Human => out.say(&key.text)?,
    }
    let note = match live {
        Some(true) => "it is live",
        Some(false) => "it is not live yet: `bulkhead status` tells why",
        None => "no bulkhead is running here to serve it",
    };
    out.remark(format_args!("{}: the key is shown this once; its hash is in {}; {note}", paint(HINT, "note"), path.display()));
    Ok(Exit::Done)
}

/// Watches a running bulkhead for the revision that the written document makes.
struct Live {
    admin: Admin,
    before: Option<serde_json::Value>,
}

impl Live {
    fn before(place: &Place) -> Self {
        let admin = Admin::of(place);
        let before = epoch(&admin);
        Self { admin, before }
    }

    /// Whether a later revision came; `None` where nothing runs.
    fn wait(&self) -> Option<bool> {
        let before = self.before.as_ref()?;
        let since = Instant::now();
        while since.elapsed() < LIVE_WITHIN {
            match epoch(&self.admin) {
                Some(now) if now == *before => sleep(LOOK_EVERY),
                Some(_) => return Some(true),
                None => return None,
            }
        }
        Some(false)
    }
}

fn epoch(admin: &Admin) -> Option<serde_json::Value> {
    admin.get("/status").ok()?.pointer("/policy/epoch").cloned()
}

/// Reads a date (its first moment in UTC), an RFC 3339 time, or a duration from now; never one that has passed.
fn moment(text: &str) -> Result<Timestamp, String> {
    // In whole seconds: nobody wants to read more in a document.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let date = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
    let later = || now.checked_add(unit::duration(text).ok()?).ok();
    let moment = text.parse().ok().or_else(date).or_else(later);
    match moment {
        Some(moment) if moment > now => Ok(moment),
        Some(moment) => Err(format!("{moment} has passed")),
        None => Err("write a date like 2027-06-30, a time like 2027-06-30T12:00:00Z, or a duration like 90d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::listed;
    use serde_json::json;

    #[test]
    fn a_key_is_listed_with_its_end_and_its_last_use() {
        let key = |expires: Option<&str>, is_expired: bool, is_revoked: bool, used: Option<u64>| json!({ "id": "ci", "expires": expires, "is_expired": is_expired, "is_revoked": is_revoked, "seconds_since_use": used });
        let day = Some("2027-06-30T00:00:00Z");
        for (key, told) in [
            (key(day, false, false, Some(5)), "expires 2027-06-30T00:00:00Z; used 5 s ago"),
            (key(day, true, false, None), "expired 2027-06-30T00:00:00Z; not used in the 2 min since it started"),
            (key(None, false, true, Some(120)), "revoked; used 2 min ago"),
            (key(None, false, false, None), "never expires; not used in the 2 min since it started"),
        ] {
            assert_eq!(listed(&key, 150), format!("{:<20} {told}", "ci"));
        }
    }
}
