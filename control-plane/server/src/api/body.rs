//! Bodies: documents as JSON or YAML, and what they must be for the path they were sent to.

use super::answer::shown;
use super::{Api, Asked};
use crate::document::Owner;
use crate::problem::Problem;
use bulkhead_config::declared::{Document, DocumentId, Kind, read_document, read_file};
use bulkhead_config::diagnostic::{Diagnostic, Diagnostics};
use bulkhead_config::protocol::Put;
use bulkhead_config::text::utf8;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::Value;
use std::sync::Arc;

/// What a body's media type says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Yaml,
}

impl Form {
    /// The name under which mistakes in the body are told, and by which the reader knows the form.
    fn name(self) -> &'static str {
        match self {
            Form::Json => "body.json",
            Form::Yaml => "body.yaml",
        }
    }
}

fn form(head: &Parts) -> Result<Form, Problem> {
    let written = match head.headers.get(CONTENT_TYPE).map(|value| value.to_str()) {
        None => return Ok(Form::Json),
        Some(written) => written.unwrap_or_default(),
    };
    let media = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "application/json" => Ok(Form::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(Form::Yaml),
        // What curl sends unasked with --data; nobody means it.
        "application/x-www-form-urlencoded" => Ok(Form::Yaml),
        _ => {
            let problem =
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", format!("the body is {}", shown(written)));
            Err(problem.fix("send application/json or application/yaml"))
        }
    }
}

impl Api {
    /// Every document of a body.
    pub(super) async fn documents(&self, asked: &Asked) -> Result<Vec<Put>, Problem> {
        let (puts, mistakes) = self.read_body(asked).await?;
        if !mistakes.is_empty() {
            return Err(Problem::mistakes(mistakes.iter()));
        }
        Ok(puts)
    }

    /// Documents without mistakes, and every mistake of the others. Megabytes take their time, so not on a thread that serves, and few at
    /// the same time.
    pub(super) async fn read_body(&self, asked: &Asked) -> Result<(Vec<Put>, Diagnostics), Problem> {
        let (form, body) = (form(&asked.head)?, asked.body.clone());
        let defect = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "a defect of Bulkhead stopped the body from being read");
        // It is never closed.
        let _place = self.reading.acquire().await.map_err(|_| defect())?;
        tokio::task::spawn_blocking(move || read(form, &body)).await.map_err(|_| defect())?
    }

    /// The one document of a body, which must be the one that the path names.
    pub(super) async fn document(&self, asked: &Asked, meant: &Meant) -> Result<Put, Problem> {
        let mut puts = self.documents(asked).await?;
        let found = puts.len();
        match puts.pop() {
            Some(put) if found == 1 => {
                meant.check(&put.document)?;
                Ok(put)
            }
            _ => {
                let problem =
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_document", format!("the body holds {found} documents"));
                Err(problem.fix("send one; `POST /v1/apply` takes many"))
            }
        }
    }
}

fn read(form: Form, body: &Bytes) -> Result<(Vec<Put>, Diagnostics), Problem> {
    let text = match utf8(body) {
        Ok(text) => text,
        Err(mistake) => return Err(Problem::mistakes([&mistake.in_file(&form.name().into(), None)])),
    };
    let file = read_file(form.name(), text);
    let texts: Vec<Arc<str>> = file.texts(text).map(|(_, text)| text.into()).collect();
    let mut mistakes = file.diagnostics;
    let puts: Vec<Put> = file.documents.into_iter().zip(texts).map(|(document, text)| Put { document, text }).collect();
    for put in &puts {
        mistakes.append(files_named(&put.document));
        // What is stored is read as YAML from then on, which takes most JSON and not all.
        if let Err(again) = read_document(form.name().replace("json", "yaml").as_str(), &put.text) {
            mistakes.append(again);
        }
    }
    mistakes.sort();
    Ok((puts, mistakes))
}

/// What a path says of the document that is sent to it.
pub(super) enum Meant {
    /// All of its identity.
    This(DocumentId),
    /// Its kind and whose it is.
    OneOf(Kind, Option<bulkhead_config::name::TenantId>),
}

impl Meant {
    fn check(&self, document: &Document) -> Result<(), Problem> {
        let (kind, tenant) = match self {
            Meant::This(id) => (id.kind, &id.tenant),
            Meant::OneOf(kind, tenant) => (*kind, tenant),
        };
        let id = &document.id;
        let name = if id.kind == Kind::Tenant { "/tenant_id" } else { "/name" };
        let other = match self {
            _ if id.kind != kind => Some(("/kind", format!("a {}", id.kind), format!("a {kind}"))),
            _ if id.tenant != *tenant => {
                let whose = |tenant: &Option<bulkhead_config::name::TenantId>| {
                    tenant.as_ref().map_or_else(|| "the platform's".to_owned(), |tenant| format!("{tenant}'s"))
                };
                Some(("/tenant", whose(&id.tenant), whose(tenant)))
            }
            Meant::This(meant) if meant.name != id.name => Some((name, id.name.to_string(), meant.name.to_string())),
            _ => None,
        };
        let Some((pointer, found, expected)) = other else { return Ok(()) };
        Err(Problem::mistakes([&Diagnostic {
            file: Arc::clone(&document.origin.file),
            span: document.origin.span,
            document: Some(id.to_string().into()),
            pointer: pointer.into(),
            message: format!("the document is {found}, and the path is for {expected}"),
            expected: Some(expected),
            found: Some(found),
            hint: Some("send it to its own path, or with `POST /v1/apply`, which takes documents of every kind".to_owned()),
        }]))
    }
}

/// A document that came over the network cannot speak of files of this machine.
pub(super) fn files_named(document: &Document) -> Diagnostics {
    let mut mistakes = Diagnostics::new();
    for named in bulkhead_config::compile::files_of(document) {
        mistakes.push(Diagnostic {
            file: Arc::clone(&document.origin.file),
            span: document.origin.span,
            document: Some(document.id.to_string().into()),
            pointer: "".into(),
            message: "a document that is sent to the API cannot refer to a file".to_owned(),
            expected: Some("a URL, or the content itself".to_owned()),
            found: Some(format!("file {}", named.file)),
            hint: Some("give the issuer's keys as `url`, or keep the document in the watched folder, where its files are read".to_owned()),
        });
    }
    mistakes
}

/// A body that is one JSON object, for what is no document.
pub(super) fn object(body: &Bytes, known: &[&str]) -> Result<serde_json::Map<String, Value>, Problem> {
    let node = bulkhead_config::text::json::read(body, bulkhead_config::text::Budget::TOKEN)
        .map_err(|mistake| Problem::mistakes([&mistake.in_file(&"body.json".into(), None)]))?;
    let bad = |detail: String| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail).fix(format!("send a JSON object with {}", known.join(", ")))
    };
    let text = std::str::from_utf8(body).unwrap_or_default();
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return Err(bad("the body is no JSON object".to_owned())) };
    drop(node);
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(bad(format!("there is no field {}", shown(unknown)))),
        None => Ok(object),
    }
}

/// Who owns what comes through the API.
pub(super) fn owner() -> Owner {
    Owner::Api
}
