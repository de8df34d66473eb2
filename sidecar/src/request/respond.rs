//! Respond: the answer as it leaves: the upstream's without what concerns its hop, or our own with why and how to fix it.
//!
//! Cost: per request; one pass over the names of the answer's fields. Fields of limits only where a client can pace itself by
//! them.

use super::body::{Content, Reply};
use super::record::Record;
use super::refusal::{RATE_LIMIT, RATE_LIMIT_POLICY};
use super::upstream::{Arrived, Rest};
use super::{Refusal, grpc, outgoing};
use crate::connection::Downstream;
use crate::connection::tunnel::{Speaks, Tunnel};
use crate::problem::Form;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

/// Methods that `OPTIONS *` names: all that a route may allow.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// What a request ended in, if it was not refused.
#[derive(Debug)]
pub enum Answer {
    /// The upstream's.
    Arrived(Box<Arrived>),
    /// What the service as a whole can do.
    Options,
}

/// The answer, with the record as its last part.
#[must_use]
pub fn finish(outcome: Result<Answer, Refusal>, from: &Downstream, form: Form, record: Box<Record>) -> Response<Reply> {
    match outcome {
        Ok(Answer::Arrived(arrived)) => of_upstream(*arrived, from, record),
        Ok(Answer::Options) => options(record),
        Err(refusal) => refused(&refusal, form, record),
    }
}

fn of_upstream(arrived: Arrived, from: &Downstream, mut record: Box<Record>) -> Response<Reply> {
    let Arrived { status, mut headers, rest, endpoint } = arrived;
    record.served(status, &endpoint);
    let protocol = if status == StatusCode::SWITCHING_PROTOCOLS { headers.get(header::UPGRADE).cloned() } else { None };
    outgoing::end_answer_hop(&mut headers);
    if let Some(fields) = record.receipts().and_then(super::quota::Receipts::fields) {
        headers.insert(RATE_LIMIT, fields.rate_limit);
        headers.insert(RATE_LIMIT_POLICY, fields.rate_limit_policy);
    }
    let reply = match rest {
        Rest::Body(download) => Reply::new(Content::Streamed(download), record).of_grpc(grpc::is_grpc(&headers)),
        Rest::Tunnel(upstream, early) => {
            from.open_tunnel(Tunnel::new(upstream, early, Speaks::of(protocol.as_ref()), record));
            headers.insert(header::CONNECTION, UPGRADE);
            headers.extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
            Reply::unrecorded(Content::Own(Bytes::new()))
        }
    };
    response(status, headers, reply)
}

fn options(mut record: Box<Record>) -> Response<Reply> {
    record.answered(StatusCode::NO_CONTENT);
    let headers = HeaderMap::from_iter([(header::ALLOW, ALLOW)]);
    response(StatusCode::NO_CONTENT, headers, Reply::new(Content::Own(Bytes::new()), record))
}

fn refused(refusal: &Refusal, form: Form, mut record: Box<Record>) -> Response<Reply> {
    record.refused(refusal);
    let (mut head, text) = refusal.problem(&record).answer(form).into_parts();
    // HEAD is told how long the text is that GET would be given (RFC 9110 section 9.3.2).
    let text = if record.method() == Method::HEAD {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        Bytes::new()
    } else {
        text
    };
    response(head.status, head.headers, Reply::new(Content::Own(text), record))
}

fn response(status: StatusCode, headers: HeaderMap, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
