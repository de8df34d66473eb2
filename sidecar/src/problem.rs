//! Every refusal as its client reads it: problem type, status, what, where and how to fix it (RFC 9457).
//!
//! Cost: per refusal; a few allocations. Of a request that goes through only `Accept` is looked at, because its head is gone by the
//! time an upstream fails.
//! `type` is `urn:bulkhead:problem:<code>`, but for quotas the registered
//! `https://iana.org/assignments/http-problem-types#quota-exceeded`. A browser gets a short page of the same words.
//! What stands here goes to strangers: no other tenant's name, no text of a policy, no credential.

mod catalogue;
mod grpc;
mod page;

pub use catalogue::{Code, Kind};

use crate::fields::{Fields, Name};
use crate::request::grpc::is_grpc;
use crate::telemetry::decisions::DecisionId;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Our name in `Proxy-Status`.
const PROXY: &str = "bulkhead";
/// `Proxy-Status` of RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Where a caller whose answer has no body finds the decision.
const DECISION: HeaderName = HeaderName::from_static("x-bulkhead-decision-id");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// One refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Option<Cow<'static, str>>,
    place: Option<Cow<'static, str>>,
    fix: Option<Cow<'static, str>>,
    proxy_error: Option<&'static str>,
    violated: Vec<String>,
    decision: Option<DecisionId>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a client would rather read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json`.
    Json,
    /// A short page.
    Html,
    /// The outcome of a call.
    Grpc,
}

impl Form {
    /// The form that a request of this version asks for: gRPC, which is HTTP/2, gets its own; else `Accept` decides.
    #[must_use]
    pub fn of_request(version: Version, headers: &Fields) -> Form {
        if version == Version::HTTP_2 && is_grpc(headers) { Form::Grpc } else { Form::of(headers) }
    }

    /// The form that `Accept` asks for: a page only for those who name `text/html` and do not prefer JSON.
    #[must_use]
    pub fn of(headers: &Fields) -> Form {
        let mut best = (0, Form::Json);
        for range in headers.texts(Name::Accept).flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next() {
                Some("text/html" | "application/xhtml+xml") => Form::Html,
                Some("application/json" | "application/problem+json") => Form::Json,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1_000, thousandths);
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }
}

/// A quality value in thousandths (RFC 9110 section 12.4.2); what is none counts as 0.
fn thousandths(text: &str) -> u32 {
    text.parse().ok().filter(|q: &f32| (0.0..=1.0).contains(q)).map_or(0, |q| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
        let whole = (q * 1_000.0) as u32;
        whole
    })
}

/// How a gRPC call ends that broke off with this code after its answer had begun.
#[must_use]
pub fn grpc_outcome(code: Code, told: &str) -> [(HeaderName, HeaderValue); 2] {
    grpc::outcome(code, told)
}

impl Problem {
    /// A problem in the words of its kind.
    #[must_use]
    pub fn of(code: Code) -> Self {
        let violated = Vec::new();
        Self { code, detail: None, place: None, fix: None, proxy_error: None, violated, decision: None, headers: Vec::new() }
    }

    /// Says what exactly is wrong.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says where: a header, a claim, a part of the request.
    #[must_use]
    pub fn place(mut self, place: impl Into<Cow<'static, str>>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Says how to fix it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<Cow<'static, str>>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Names the step of the proxy that failed, in the words of RFC 9209.
    #[must_use]
    pub fn proxy_error(mut self, error: &'static str) -> Self {
        self.proxy_error = Some(error);
        self
    }

    /// Names the policies whose quota is used up.
    #[must_use]
    pub fn violated(mut self, policies: impl IntoIterator<Item = String>) -> Self {
        self.violated.extend(policies);
        self
    }

    /// Names the decision, so that it can be explained.
    #[must_use]
    pub fn decision(mut self, decision: DecisionId) -> Self {
        self.decision = Some(decision);
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Its kind.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The answer, with the whole body.
    #[must_use]
    pub fn answer(&self, form: Form) -> Response<Bytes> {
        let (status, content_type, text) = match form {
            Form::Json => (self.code.kind().status, JSON, self.json()),
            Form::Html => (self.code.kind().status, HTML, page::of(self)),
            Form::Grpc => (StatusCode::OK, GRPC, String::new()),
        };
        let mut answer = Response::new(Bytes::from(text));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        if form == Form::Grpc {
            headers.extend(grpc::of(self));
            headers.extend(self.decision.and_then(|decision| Some((DECISION, HeaderValue::from_bytes(&decision.text()).ok()?))));
        }
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        if let Ok(status) = HeaderValue::try_from(self.proxy_status()) {
            headers.insert(PROXY_STATUS, status);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        answer
    }

    /// The answer as bytes of HTTP/1.1, for a connection that has no engine (any more); it ends the connection.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        let (head, body) = self.answer(Form::Json).into_parts();
        let mut text = format!("HTTP/1.1 {}\r\n", head.status);
        for (name, value) in &head.headers {
            // Values made here are visible ASCII.
            let _ = write!(text, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        let _ = write!(text, "content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let mut raw = text.into_bytes();
        raw.extend_from_slice(&body);
        Bytes::from(raw)
    }

    /// The object of RFC 9457, members in the order in which they are read.
    #[must_use]
    pub fn json(&self) -> String {
        let kind = self.code.kind();
        let mut json = String::with_capacity(512);
        json.push('{');
        member(&mut json, "type", &self.type_uri());
        member(&mut json, "title", kind.title);
        let _ = write!(json, ",\"status\":{}", kind.status.as_u16());
        member(&mut json, "detail", self.what());
        member(&mut json, "code", kind.slug);
        if let Some(place) = &self.place {
            member(&mut json, "where", place);
        }
        member(&mut json, "fix", self.remedy());
        if let Some(decision) = self.decision {
            member(&mut json, "decision_id", &decision.to_string());
        }
        if !self.violated.is_empty() {
            // A list of strings cannot fail to serialise.
            let _ = write!(json, ",\"violated-policies\":{}", serde_json::to_string(&self.violated).unwrap_or_default());
        }
        json.push('}');
        json
    }

    fn what(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.code.kind().detail)
    }

    fn remedy(&self) -> &str {
        self.fix.as_deref().unwrap_or(self.code.kind().fix)
    }

    fn type_uri(&self) -> String {
        match self.code {
            Code::QuotaExceeded | Code::TooManyInFlight => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
            code => format!("urn:bulkhead:problem:{}", code.kind().slug),
        }
    }

    /// `Proxy-Status`: our name, the error, and as details only what leads to the explanation.
    fn proxy_status(&self) -> String {
        let kind = self.code.kind();
        let error = self.proxy_error.unwrap_or(kind.proxy_error);
        match self.decision {
            Some(decision) => format!("{PROXY}; error={error}; details=\"{} {decision}\"", kind.slug),
            None => format!("{PROXY}; error={error}; details=\"{}\"", kind.slug),
        }
    }
}

/// Appends `"name":"value"`, with a comma unless it is the first.
fn member(json: &mut String, name: &str, value: &str) {
    if !json.ends_with('{') {
        json.push(',');
    }
    // A string cannot fail to serialise.
    let _ = write!(json, "\"{name}\":{}", serde_json::to_string(value).unwrap_or_default());
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn form(accept: &str) -> Form {
        let headers = http::HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        Form::of(&Fields::from(&headers))
    }

    #[test]
    fn only_who_prefers_html_gets_a_page() {
        assert_eq!(Form::of(&Fields::default()), Form::Json);
        for (accept, wanted) in [
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Html),
            ("application/json, text/html", Form::Json),
            ("text/html;q=0.5, application/json;q=0.4", Form::Html),
            ("text/html;q=0", Form::Json),
            ("text/html;q=nonsense", Form::Json),
        ] {
            assert_eq!(form(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn what_a_client_sent_can_end_neither_the_json_nor_the_page() {
        let hostile = "\"}</p><script>alert(1)</script>&\u{0}\u{2028}";
        let problem = Problem::of(Code::NoRoute).detail(hostile).place(hostile).fix(hostile);
        let json: serde_json::Value = serde_json::from_str(&problem.json()).unwrap();
        assert_eq!(json.get("detail").unwrap(), hostile);
        let page = page::of(&problem);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn an_answer_says_what_where_how_and_which_decision() {
        let decision: DecisionId = "d-0123456789abcdef".parse().unwrap();
        let problem = Problem::of(Code::QuotaExceeded).place("QuotaPolicy reports").violated(["reports".to_owned()]).decision(decision);
        let answer = problem.answer(Form::Json);
        assert_eq!(answer.status(), 429);
        assert_eq!(
            answer.headers().get("proxy-status").unwrap(),
            "bulkhead; error=http_request_denied; details=\"quota_exceeded d-0123456789abcdef\""
        );
        let json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(json.get("type").unwrap(), "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(json.get("decision_id").unwrap(), "d-0123456789abcdef");
        assert_eq!(json.get("violated-policies").unwrap(), &serde_json::json!(["reports"]));
        assert!(json.get("fix").is_some() && json.get("where").is_some());
    }

    #[test]
    fn the_raw_answer_is_one_whole_response_that_ends_the_connection() {
        for code in Code::ALL {
            let raw = Problem::of(*code).raw();
            let text = std::str::from_utf8(&raw).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {}", code.kind().status.as_u16())), "{head}");
            assert!(head.contains("connection: close"), "{head}");
            assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        }
    }
}
