//! Answers: JSON, texts and problems, with the fields that every answer carries.

use crate::problem::Problem;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// What a request's own id stands in.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        let mut body = serde_json::to_string_pretty(value).unwrap_or_default();
        body.push('\n');
        Self::text(status, "application/json", body)
    }

    pub(crate) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// 304: who asks has it.
    pub(crate) fn not_modified() -> Self {
        Self::text(StatusCode::NOT_MODIFIED, "", Bytes::new())
    }

    /// With a field, unless it cannot stand in one: what we put there are names, numbers and digests.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn into_response(self, request_id: &str, is_head: bool) -> Response<Full<Bytes>> {
        let length = self.body.len();
        let body = if is_head { Bytes::new() } else { self.body };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !self.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        if is_head {
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.extend(self.headers);
        response
    }
}

/// A refusal.
pub(crate) fn problem(refused: &Problem, request_id: &str) -> Answer {
    let body = Answer::json(refused.status, &refused.to_json(request_id));
    Answer { content_type: "application/problem+json", headers: refused.headers.clone(), ..body }
}

/// A text of a request as a message may repeat it: short, without what a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    format!("`{out}`")
}
