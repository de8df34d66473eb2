//! One document: read, created, replaced, removed, its versions and what differs between them. The same for every kind.

use super::answer::{Answer, shown};
use super::body::{self, Meant};
use super::query::{Query, wrong};
use super::route::{kind, path_of};
use super::{Api, Asked};
use crate::archive::ArchiveError;
use crate::change::{Change, Denied, Done, Edit, Expects, Idempotency, Refused};
use crate::document::{Version, id_of, tag, to_json};
use crate::event::Became;
use crate::operation::Operation;
use crate::operator::{moment, sha256};
use crate::problem::Problem;
use bulkhead_config::declared::{DocumentId, Kind};
use bulkhead_config::diagnostic::Diagnostic;
use bulkhead_config::name::{DocumentName, TenantId};
use bulkhead_config::protocol::{Part, Put};
use bulkhead_config::snapshot::Epoch;
use http::StatusCode;
use http::header::{ACCEPT, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LOCATION, WARNING};
use serde_json::{Value, json};
use std::sync::Arc;

/// The name a request may have, so that it can be sent again (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes of such a name.
const IDEMPOTENCY_KEY_MAX: usize = 255;
/// That an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl Api {
    pub(super) fn list(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["limit", "after"])?;
        let kind = kind(&asked.endpoint)?;
        let tenant = asked.routed.whose(&asked.endpoint)?;
        asked.may_know_of(kind, tenant.as_ref())?;
        if let Some(tenant) = &tenant {
            self.exists(tenant)?;
        }
        // Whoever is held to one tenant sees of the tenants its own, and no page tells of others.
        if let (Kind::Tenant, Some(own)) = (kind, &asked.operator.tenant) {
            let id = DocumentId { kind, tenant: None, name: DocumentName::from(own) };
            let items: Vec<Value> = self.changer.shelf().get(&id).iter().map(|version| self.item(version)).collect();
            return Ok(Answer::json(StatusCode::OK, &json!({ "items": items, "next": null })));
        }
        let after = query.get("after").map(|after| {
            let name = after.parse().map_err(|_| wrong(format!("`after` is {}", shown(after))).fix("take `next` of the page before"));
            name.map(|name| DocumentId { kind, tenant: tenant.clone(), name })
        });
        let page = self.changer.shelf().page(kind, tenant.as_ref(), after.transpose()?.as_ref(), query.limit()?);
        let items: Vec<Value> = page.versions.iter().map(|version| self.item(version)).collect();
        let next = page.next.map(|next| next.name.to_string());
        Ok(Answer::json(StatusCode::OK, &json!({ "items": items, "next": next })))
    }

    pub(super) fn read(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let id = asked.known()?;
        let version = self.changer.shelf().get(&id).ok_or_else(|| Problem::not_found(&id))?;
        let tag = self.tag(&version);
        if asked.head.headers.get(IF_NONE_MATCH).is_some_and(|known| is_among(known, &tag)) {
            return Ok(Answer::not_modified().header(ETAG, &tag));
        }
        Ok(shown_document(asked, &version).header(ETAG, &tag))
    }

    pub(super) async fn put(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["dry_run"])?;
        let is_new = asked.endpoint.operation == Operation::Create;
        let meant = match is_new {
            true => Meant::OneOf(kind(&asked.endpoint)?, asked.routed.whose(&asked.endpoint)?),
            false => Meant::This(asked.known()?),
        };
        if let Meant::OneOf(kind, tenant) = &meant {
            asked.may_know_of(*kind, tenant.as_ref())?;
        }
        let put = self.document(asked, &meant).await?;
        let id = put.document.id.clone();
        let expects = if is_new { Expects::Absent } else { expects(asked)? };
        let edit = Edit { id: id.clone(), to: Some(put), owner: body::owner(), expects };
        let done = self.submit(asked, vec![edit], query.flag("dry_run")?).await?;
        let created = done.documents.first().is_some_and(|document| document.became == Became::Created);
        let status = if created && !done.dry_run { StatusCode::CREATED } else { StatusCode::OK };
        let answer = self.done(status, &done).header(LOCATION, &path_of(&id));
        // Of the version that was made, not of one that came since.
        Ok(match done.documents.first() {
            Some(made) if !done.dry_run => answer.header(ETAG, &tag(done.epoch.incarnation, made.revision)),
            _ => answer,
        })
    }

    pub(super) async fn delete(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["dry_run"])?;
        let id = asked.known()?;
        let expects = match expects(asked)? {
            Expects::Anything => Expects::Present,
            other => other,
        };
        let edit = Edit { id, to: None, owner: body::owner(), expects };
        let done = self.submit(asked, vec![edit], query.flag("dry_run")?).await?;
        Ok(self.done(StatusCode::OK, &done))
    }

    /// How a document stands: accepted here, programmed on n of m sidecars, held by whom and why.
    pub(super) fn state(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let id = asked.known()?;
        let version = self.changer.shelf().get(&id).ok_or_else(|| Problem::not_found(&id))?;
        let epoch = self.changer.shelf().epoch();
        let standing = self.fleet.standing(&Part::of(&id), Epoch { revision: version.revision, ..epoch });
        let state = match (&standing.quarantined[..], standing.programmed == standing.connected) {
            ([], true) => "programmed",
            ([], false) => "accepted",
            _ => "quarantined",
        };
        // The platform's mistakes name services, issuers and hosts of others.
        let is_theirs = asked.operator.tenant.is_none() || Part::of(&id) != Part::Platform;
        let quarantined = standing.quarantined.iter().map(|(sidecar, errors)| {
            let errors = errors.iter().filter(|_| is_theirs).map(Diagnostic::to_json);
            json!({ "sidecar": &**sidecar, "errors": errors.collect::<Vec<_>>() })
        });
        let body = json!({
            "state": state,
            "revision": version.revision,
            "connected": standing.connected,
            "programmed": standing.programmed,
            "waiting": standing.waiting.iter().map(|name| &**name).collect::<Vec<_>>(),
            "quarantined": quarantined.collect::<Vec<_>>(),
        });
        Ok(Answer::json(StatusCode::OK, &body))
    }

    pub(super) async fn history(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["limit", "before"])?;
        let id = asked.known()?;
        let limit = query.limit()?;
        let mut versions = self.archive.history(&id, query.number("before")?, limit + 1).await.map_err(stored)?;
        if versions.is_empty() && query.get("before").is_none() {
            return Err(Problem::not_found(&id));
        }
        let next = if versions.len() > limit { versions.get(limit.saturating_sub(1)).map(|version| version.revision) } else { None };
        versions.truncate(limit);
        let items: Vec<Value> = versions.iter().map(|version| self.about(version)).collect();
        Ok(Answer::json(StatusCode::OK, &json!({ "items": items, "next": next })))
    }

    pub(super) async fn version(&self, asked: &Asked) -> Result<Answer, Problem> {
        Query::of(&asked.head, &[])?;
        let version = self.kept(&asked.known()?, asked.routed.revision()?).await?;
        match version.text {
            Some(_) => Ok(shown_document(asked, &version).header(ETAG, &self.tag(&version))),
            None => Err(Problem::not_found(format!("{} at revision {}: it was removed then", version.id, version.revision))),
        }
    }

    pub(super) async fn difference(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["from", "to"])?;
        let id = asked.known()?;
        let from = query
            .number("from")?
            .ok_or_else(|| wrong("`from` is missing".to_owned()).fix("name the older revision; the history lists them"))?;
        let from = self.kept(&id, from).await?;
        let to = match query.number("to")? {
            Some(to) => self.kept(&id, to).await?,
            None => self.changer.shelf().get(&id).map(|version| (*version).clone()).ok_or_else(|| Problem::not_found(&id))?,
        };
        let value = |version: &Version| version.text.as_deref().map_or(Value::Null, to_json);
        let mut changes = Vec::new();
        differences("", &value(&from), &value(&to), &mut changes);
        Ok(Answer::json(StatusCode::OK, &json!({ "from": from.revision, "to": to.revision, "changes": changes })))
    }

    pub(super) async fn rollback(&self, asked: &Asked) -> Result<Answer, Problem> {
        let query = Query::of(&asked.head, &["dry_run"])?;
        let id = asked.known()?;
        let wanted = body::object(&asked.body, &["revision"])?;
        let revision = wanted.get("revision").and_then(Value::as_u64).ok_or_else(|| {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", "`revision` is missing, or no whole number");
            problem.fix("name the revision to go back to; the history lists them")
        })?;
        let version = self.kept(&id, revision).await?;
        let to = match &version.text {
            None => None,
            Some(text) => {
                let document = version.document().map_err(|mistakes| Problem::mistakes(mistakes.iter()))?;
                // It may have stood in the watched folder then, where files could be named.
                let named = body::files_named(&document);
                if !named.is_empty() {
                    return Err(Problem::mistakes(named.iter()));
                }
                Some(Put { document, text: Arc::clone(text) })
            }
        };
        let edit = Edit { id, to, owner: body::owner(), expects: expects(asked)? };
        let done = self.submit(asked, vec![edit], query.flag("dry_run")?).await?;
        Ok(self.done(StatusCode::OK, &done))
    }

    /// A version that the history has.
    async fn kept(&self, id: &DocumentId, revision: u64) -> Result<Version, Problem> {
        let version = self.archive.version(id, revision).await.map_err(stored)?;
        version.ok_or_else(|| {
            Problem::not_found(format!("version of {id} at revision {revision}")).fix("its history lists the revisions there are")
        })
    }

    /// Has a change done.
    pub(super) async fn submit(&self, asked: &Asked, edits: Vec<Edit>, dry_run: bool) -> Result<Done, Problem> {
        let change = Change {
            by: asked.operator.clone(),
            from: asked.from.clone(),
            action: asked.endpoint.id.as_str().into(),
            edits,
            dry_run,
            idempotency: idempotency(asked)?,
        };
        self.changer.submit(change).await.map_err(refused)
    }

    /// What was done.
    pub(super) fn done(&self, status: StatusCode, done: &Done) -> Answer {
        let documents: Vec<Value> = done.documents.iter().map(|one| outcome(&one.id, one.became, one.revision)).collect();
        let warnings: Vec<Value> = done.warnings.iter().map(Diagnostic::to_json).collect();
        let body = json!({
            "revision": done.epoch.revision,
            "incarnation": done.epoch.incarnation,
            "dry_run": done.dry_run,
            "documents": documents,
            "warnings": warnings,
        });
        let answer = Answer::json(status, &body);
        let answer = if done.warnings.is_empty() { answer } else { answer.header(WARNING, "199 bulkhead \"see `warnings`\"") };
        if done.replayed { answer.header(REPLAYED, "true") } else { answer }
    }

    /// That a tenant is there; whoever may not know of it was refused before.
    pub(super) fn exists(&self, tenant: &TenantId) -> Result<(), Problem> {
        let id = id_of(&format!("Tenant//{tenant}"));
        let is_there = id.is_some_and(|id| self.changer.shelf().get(&id).is_some());
        if is_there { Ok(()) } else { Err(Problem::not_found(format!("tenant {tenant}"))) }
    }

    fn tag(&self, version: &Version) -> String {
        version.etag(self.changer.shelf().epoch().incarnation)
    }

    /// A document in a list.
    fn item(&self, version: &Version) -> Value {
        let mut about = self.about(version);
        if let Some(about) = about.as_object_mut() {
            about.insert("document".to_owned(), version.text.as_deref().map_or(Value::Null, to_json));
        }
        about
    }

    /// What is known of a version beside what it says.
    fn about(&self, version: &Version) -> Value {
        let file = match &version.owner {
            crate::document::Owner::Files(file) => Some(&**file),
            crate::document::Owner::Api => None,
        };
        json!({
            "kind": version.id.kind.as_str(),
            "tenant": version.id.tenant.as_ref().map(TenantId::as_str),
            "name": version.id.name.as_str(),
            "revision": version.revision,
            "created": version.created,
            "removed": version.text.is_none(),
            "owner": if file.is_some() { "files" } else { "api" },
            "file": file,
            "changed_by": &*version.by,
            "changed_at": moment(version.at),
            "etag": self.tag(version),
        })
    }
}

impl Asked {
    /// The document that the path names, if it is any of the operator's business.
    pub(super) fn known(&self) -> Result<DocumentId, Problem> {
        let id = self.routed.document(&self.endpoint)?;
        let tenant = match id.kind {
            Kind::Tenant => Some(TenantId::from(&id.name)),
            _ => id.tenant.clone(),
        };
        self.may_know_of(id.kind, tenant.as_ref())?;
        Ok(id)
    }

    /// Whether documents of a tenant are any of its business. What is the platform's may be read by whoever may read.
    pub(super) fn may_know_of(&self, kind: Kind, tenant: Option<&TenantId>) -> Result<(), Problem> {
        match tenant {
            Some(tenant) if !self.operator.may_know_of(Some(tenant)) => Err(Problem::not_found(format!("tenant {tenant}"))),
            // A service's upstreams and a platform's identities are no tenant's business.
            None if self.operator.tenant.is_some() && !is_open_to_tenants(kind) => {
                let detail =
                    format!("{} is held to a tenant, and {kind} documents of the platform are not its to read", self.operator.name);
                Err(Problem::new(StatusCode::FORBIDDEN, "not_permitted", detail)
                    .fix("`GET /v1/tenants/{tenant}/config` shows what the tenant has in effect"))
            }
            _ => Ok(()),
        }
    }
}

/// What of the platform's a tenant's operators may read: what they write against.
fn is_open_to_tenants(kind: Kind) -> bool {
    matches!(kind, Kind::Tenant | Kind::Role)
}

/// A document itself, in the form that is asked for.
fn shown_document(asked: &Asked, version: &Version) -> Answer {
    let text = version.text.as_deref().unwrap_or_default();
    let accept = asked.head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let wants_yaml = accept.split(',').any(|range| range.split(';').next().is_some_and(|media| media.trim().ends_with("/yaml")));
    if wants_yaml {
        Answer::text(StatusCode::OK, "application/yaml", text.to_owned())
    } else {
        Answer::json(StatusCode::OK, &to_json(text))
    }
}

fn outcome(id: &DocumentId, became: Became, revision: u64) -> Value {
    json!({
        "kind": id.kind.as_str(),
        "tenant": id.tenant.as_ref().map(TenantId::as_str),
        "name": id.name.as_str(),
        "became": became.as_str(),
        "revision": revision,
    })
}

/// What must be true of the document, by the conditions of the request (RFC 9110 section 13.1).
fn expects(asked: &Asked) -> Result<Expects, Problem> {
    let headers = &asked.head.headers;
    for name in [IF_MATCH, IF_NONE_MATCH] {
        once(asked, &name)?;
    }
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().trim().to_owned();
    let bad = |name: &str, written: &str| wrong(format!("{name} is {}", shown(written)));
    match (headers.get(IF_MATCH).map(text), headers.get(IF_NONE_MATCH).map(text)) {
        (None, None) => Ok(Expects::Anything),
        (Some(tag), None) if tag == "*" => Ok(Expects::Present),
        (Some(tag), None) if tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"') && !tag.contains(',') => {
            Ok(Expects::Tag(tag.into()))
        }
        (Some(tag), None) => Err(bad("If-Match", &tag).fix("send the ETag of the document as it was read, quotes included")),
        (None, Some(tag)) if tag == "*" => Ok(Expects::Absent),
        (None, Some(tag)) => Err(bad("If-None-Match", &tag).fix("a write takes `*`: only if there is none yet")),
        (Some(_), Some(_)) => Err(wrong("both If-Match and If-None-Match were sent".to_owned()).fix("send one of them")),
    }
}

/// That a field does not stand twice: which one is meant nobody can say.
fn once(asked: &Asked, name: &HeaderName) -> Result<(), Problem> {
    match asked.head.headers.get_all(name).iter().nth(1) {
        None => Ok(()),
        Some(_) => Err(wrong(format!("the field {name} stands twice")).fix("send it once")),
    }
}

/// Whether a list of tags holds one; weak tags are never those of ours.
fn is_among(list: &HeaderValue, tag: &str) -> bool {
    list.to_str().is_ok_and(|list| list.split(',').map(str::trim).any(|known| known == "*" || known == tag))
}

fn idempotency(asked: &Asked) -> Result<Option<Idempotency>, Problem> {
    once(asked, &HeaderName::from_static(IDEMPOTENCY_KEY))?;
    let Some(written) = asked.head.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let good = |text: &&str| !text.is_empty() && text.len() <= IDEMPOTENCY_KEY_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    let key = written.to_str().ok().filter(good).ok_or_else(|| {
        let detail =
            format!("the Idempotency-Key is empty, longer than {IDEMPOTENCY_KEY_MAX} characters, or holds others than visible ASCII");
        wrong(detail).fix("send a UUID, for example")
    })?;
    let mut request = format!("{} {}\n", asked.head.method, asked.head.uri).into_bytes();
    for condition in [IF_MATCH, IF_NONE_MATCH] {
        request.extend_from_slice(asked.head.headers.get(condition).map_or(b"".as_slice(), HeaderValue::as_bytes));
        request.push(b'\n');
    }
    request.extend_from_slice(&asked.body);
    Ok(Some(Idempotency { key: key.into(), request: sha256(&request) }))
}

/// Why a change was refused, as its client reads it.
pub(super) fn refused(refused: Refused) -> Problem {
    let conflict = |code, detail| Problem::new(StatusCode::CONFLICT, code, detail);
    match refused {
        Refused::Denied(denied) => denied_problem(&denied),
        Refused::Exists(id) => {
            conflict("already_exists", format!("there is {id} already")).fix(format!("replace it with PUT {}", path_of(&id)))
        }
        Refused::NotFound(id) => Problem::not_found(&id),
        Refused::OtherVersion(id, there) => {
            let detail = match &there {
                Some(_) => format!("{id} was changed since it was read"),
                None => format!("{id} is not there any more"),
            };
            let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "version_changed", detail).fix("read it again, and decide anew");
            match there.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
                Some(tag) => problem.header(ETAG, tag),
                None => problem,
            }
        }
        Refused::OwnedByFile(id, file) => conflict("owned_by_file", format!("{id} stands in the watched file {file}"))
            .fix("edit that file, or take the document out of it first"),
        Refused::TooMany(count) => {
            let detail = format!("the change has {count} documents, more than the {} allowed", crate::change::EDITS_MAX);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_documents", detail).fix("send it in several")
        }
        Refused::Mistakes(mistakes) => Problem::mistakes(mistakes.iter()),
        Refused::OtherRequest => {
            let detail = "another request was sent with this Idempotency-Key";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail).fix("send a new key with each new request")
        }
        Refused::Store(why) => stored(why),
        Refused::Defect => {
            let detail = "a defect of Bulkhead stopped the change; nothing of it was stored";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", detail).fix("please report it, with the log")
        }
    }
}

fn denied_problem(denied: &Denied) -> Problem {
    let forbidden = || Problem::new(StatusCode::FORBIDDEN, "not_permitted", denied.to_string());
    match denied {
        Denied::Unknown(id) => Problem::not_found(id),
        Denied::ReadOnly => forbidden().fix("ask a platform-admin, or an admin of the tenant"),
        Denied::Platforms(_) | Denied::WrittenByPlatform(_) => forbidden().fix("ask a platform-admin"),
        Denied::Escalation(..) => forbidden().fix("ask a platform-admin to mark the role `delegable: true`, or to write this document"),
    }
}

/// Why the store gave no answer.
pub(super) fn stored(why: ArchiveError) -> Problem {
    match why {
        ArchiveError::Conflict => Problem::new(StatusCode::CONFLICT, "concurrent_change", why.to_string()).fix("send it again"),
        ArchiveError::Unreadable { .. } => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "store_unreadable", why.to_string()),
        ArchiveError::Store(why) => Problem::unavailable(why.to_string()).fix("send it again; with an Idempotency-Key it is done once"),
    }
}

/// What differs between two values, at which pointers (RFC 6901).
fn differences(pointer: &str, from: &Value, to: &Value, into: &mut Vec<Value>) {
    let below = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    match (from, to) {
        _ if from == to => {}
        (Value::Object(from), Value::Object(to)) => {
            let keys = from.keys().chain(to.keys().filter(|key| !from.contains_key(*key)));
            for key in keys {
                match (from.get(key), to.get(key)) {
                    (Some(from), Some(to)) => differences(&below(key), from, to, into),
                    (Some(from), None) => into.push(json!({ "pointer": below(key), "became": "removed", "from": from })),
                    (None, to) => into.push(json!({ "pointer": below(key), "became": "created", "to": to })),
                }
            }
        }
        (Value::Array(from), Value::Array(to)) if from.len() == to.len() => {
            for (index, (from, to)) in from.iter().zip(to).enumerate() {
                differences(&below(&index.to_string()), from, to, into);
            }
        }
        _ => into.push(json!({ "pointer": pointer, "became": "changed", "from": from, "to": to })),
    }
}
