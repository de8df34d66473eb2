//! Every refusal of the API as its client reads it: problem+json (RFC 9457) that says what, where and how to fix it.

use bulkhead_config::diagnostic::Diagnostic;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

/// One refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Its status.
    pub status: StatusCode,
    /// Stable name; the type is `urn:bulkhead:problem:<code>`.
    pub code: &'static str,
    /// What is wrong with this request.
    pub detail: String,
    /// How to fix it.
    pub fix: Option<String>,
    /// Where, for documents with mistakes.
    pub errors: Vec<Value>,
    /// Fields that go with it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A refusal.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), fix: None, errors: Vec::new(), headers: Vec::new() }
    }

    /// With what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// With a field of the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 404: it is not there, or not for this operator to know of; the same words for both.
    #[must_use]
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what}"))
            .fix("look at what there is; what an operator may not know of is not told")
    }

    /// 503: it cannot be stored now.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let again = HeaderValue::from_static("1");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail).header(http::header::RETRY_AFTER, again)
    }

    /// 422: the documents have these mistakes.
    #[must_use]
    pub fn mistakes<'a>(mistakes: impl IntoIterator<Item = &'a Diagnostic>) -> Self {
        let errors: Vec<Value> = mistakes.into_iter().map(error).collect();
        let detail = match errors.len() {
            1 => "there is a mistake in what was sent".to_owned(),
            count => format!("there are {count} mistakes in what was sent"),
        };
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_document", detail);
        Self { errors, ..problem.fix("correct what `errors` lists; nothing was changed") }
    }

    /// As JSON. `request_id` is what the audit trail and the log know the request by.
    #[must_use]
    pub fn to_json(&self, request_id: &str) -> Value {
        let mut all = Map::new();
        all.insert("type".to_owned(), format!("urn:bulkhead:problem:{}", self.code).into());
        all.insert("title".to_owned(), self.status.canonical_reason().unwrap_or("Error").into());
        all.insert("status".to_owned(), self.status.as_u16().into());
        all.insert("code".to_owned(), self.code.into());
        all.insert("detail".to_owned(), self.detail.as_str().into());
        if let Some(fix) = &self.fix {
            all.insert("fix".to_owned(), fix.as_str().into());
        }
        all.insert("request_id".to_owned(), request_id.into());
        if !self.errors.is_empty() {
            all.insert("errors".to_owned(), self.errors.clone().into());
        }
        Value::Object(all)
    }
}

/// One mistake in a document.
fn error(mistake: &Diagnostic) -> Value {
    json!({
        "pointer": &*mistake.pointer,
        "detail": mistake.message,
        "line": mistake.span.line,
        "column": mistake.span.column,
        "file": &*mistake.file,
        "document": mistake.document.as_deref(),
        "expected": mistake.expected,
        "found": mistake.found,
        "hint": mistake.hint,
    })
}
