//! Respond: the answer as it leaves: the upstream's without what concerns its hop, or our own with why and how to fix it.
//!
//! Cost: per request; one pass over the names of the answer's fields. Fields of limits only where a client can pace itself by
//! them.

use super::body::{Content, Reply};
use super::quota::{self, Receipts};
use super::record::Record;
use super::refusal::{RATE_LIMIT, RATE_LIMIT_POLICY};
use super::upstream::{Arrived, Opened, Rest};
use super::{Refusal, grpc, header_rules, outgoing};
use crate::connection::Downstream;
use crate::connection::tunnel::{Speaks, Tunnel};
use crate::fields::{Fields, Lines, Name};
use crate::http1::write;
use crate::problem::Form;
use bulkhead_config::snapshot::{Respond, Scheme, SecurityHeaders};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use std::rc::Rc;
use std::sync::Arc;

/// Methods that `OPTIONS *` names: all that a route may allow.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// What a request ended in, if it was not refused.
#[derive(Debug)]
pub enum Answer {
    /// The upstream's.
    Arrived(Arrived),
    /// Ours.
    Own(Own),
}

/// An answer of our own that is no refusal.
#[derive(Debug)]
pub enum Own {
    /// What the service as a whole can do.
    Options,
    /// What a page of another origin may ask.
    Preflight,
    /// Where to go instead, and how.
    Redirect(Box<(StatusCode, HeaderValue)>),
    /// What its route says.
    Respond(Arc<Respond>),
}

/// An answer as it leaves, whatever engine sends it.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Fields of the upstream's.
    pub passed: Fields,
    /// Fields of our own, if there are any.
    pub own: Option<Lines>,
    /// What follows.
    pub reply: Reply,
}

impl Response {
    /// A problem that no request could be recorded with.
    #[must_use]
    pub fn unrecorded(problem: http::Response<Bytes>) -> Self {
        let (head, text) = problem.into_parts();
        let reply = Reply::unrecorded(Content::Own(text));
        response(head.status, Lines::from(&head.headers), reply)
    }

    /// As engines take it that are not ours.
    #[must_use]
    pub fn into_http(self) -> http::Response<Reply> {
        let Self { status, passed, own, reply } = self;
        let mut response = http::Response::new(reply);
        *response.status_mut() = status;
        if let Some(own) = own {
            own.to_map(response.headers_mut());
        }
        passed.to_map(response.headers_mut());
        response
    }
}

/// The answer, with the record as its last part.
#[must_use]
pub fn finish(outcome: Result<Answer, Refusal>, from: &Downstream, form: Form, record: Box<Record>) -> Response {
    match outcome {
        Ok(Answer::Arrived(arrived)) => of_upstream(arrived, from, record),
        Ok(Answer::Own(own)) => ours(own, record),
        Err(refusal) => refused(&refusal, form, record),
    }
}

fn of_upstream(arrived: Arrived, from: &Downstream, mut record: Box<Record>) -> Response {
    let Arrived { status, headers: mut passed, rest, endpoint } = arrived;
    record.served(status, &endpoint);
    let protocol = if status == StatusCode::SWITCHING_PROTOCOLS { passed.share(Name::Upgrade) } else { None };
    outgoing::end_answer_hop(&mut passed);
    let worker = Rc::clone(record.worker());
    let mut own: Option<Lines> = None;
    let say = || worker.buffers().take_lines();
    if let Some(fields) = record.receipts().and_then(Receipts::fields) {
        // What the upstream says of limits of its own is of another limit under the same name.
        passed.drop_if(|field| [RATE_LIMIT, RATE_LIMIT_POLICY].iter().any(|name| name.as_str().as_bytes() == field.name));
        tell_limits(&fields, own.get_or_insert_with(say));
    }
    if let Some((headers, scheme)) = record.secured() {
        header_rules::drop(&headers.rules, &mut passed);
        secure(headers, *scheme, &record, own.get_or_insert_with(say));
    }
    if let Some(rules) = record.route().and_then(|route| route.response_headers.as_ref()) {
        header_rules::drop(rules, &mut passed);
        header_rules::enter(rules, &record.known(), own.get_or_insert_with(say));
    }
    if let Some(crossing) = record.crossing() {
        crossing.tell(&mut passed, own.get_or_insert_with(say));
    }
    let reply = match rest {
        Rest::Body(download) if grpc::is_grpc(&passed) => Reply::new(Content::Streamed(download), record).of_grpc(),
        Rest::Body(download) => Reply::new(Content::Streamed(download), record),
        Rest::Tunnel(opened) => {
            let Opened { socket, early, place } = *opened;
            from.open_tunnel(Tunnel::new((socket, place), early, Speaks::of(protocol.as_deref()), record));
            let own = own.get_or_insert_with(say);
            own.set(&header::CONNECTION, &UPGRADE);
            if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_maybe_shared(protocol).ok()) {
                own.add(&header::UPGRADE, &protocol);
            }
            Reply::unrecorded(Content::Own(Bytes::new()))
        }
    };
    Response { status, passed, own, reply }
}

/// Passes an informational answer on to a client that may be told of it. The upstream's 100 is for us: whether a client that
/// asked for one is to send its body is said when the body is asked for.
pub fn inform(client: &Downstream, status: StatusCode, mut fields: Fields) {
    if status != StatusCode::CONTINUE {
        outgoing::end_answer_hop(&mut fields);
        client.inform(|out| write::informational(out, status, &fields));
    }
}

/// Tells a browser what to be careful about.
fn secure(headers: &SecurityHeaders, scheme: Scheme, record: &Record, own: &mut Lines) {
    header_rules::enter(&headers.rules, &record.known(), own);
    if let Some(transport) = headers.transport.as_ref().filter(|_| scheme == Scheme::Https) {
        own.set(&header::STRICT_TRANSPORT_SECURITY, transport);
    }
}

/// Tells of limits that counted it.
fn tell_limits(fields: &quota::Fields, own: &mut Lines) {
    own.set(&RATE_LIMIT, &fields.rate_limit);
    own.set(&RATE_LIMIT_POLICY, &fields.rate_limit_policy);
}

fn ours(answer: Own, mut record: Box<Record>) -> Response {
    let mut own = record.worker().buffers().take_lines();
    if let Some((all, scheme)) = record.secured() {
        secure(all, *scheme, &record, &mut own);
    }
    if let Some(fields) = record.receipts().and_then(Receipts::fields) {
        tell_limits(&fields, &mut own);
    }
    // The answer to a preflight says it in fields of its own.
    let crosses = !matches!(answer, Own::Preflight);
    let (status, text) = match answer {
        Own::Preflight => {
            if let Some(crossing) = record.crossing() {
                crossing.answer_preflight(&mut own);
            }
            (StatusCode::NO_CONTENT, Bytes::new())
        }
        Own::Options => {
            own.set(&header::ALLOW, &ALLOW);
            (StatusCode::NO_CONTENT, Bytes::new())
        }
        Own::Redirect(to) => {
            let (status, location) = *to;
            own.set(&header::LOCATION, &location);
            (status, Bytes::new())
        }
        Own::Respond(respond) => {
            header_rules::enter(&respond.headers, &record.known(), &mut own);
            (respond.status, respond.body.clone())
        }
    };
    record.answered(status);
    if let Some(crossing) = record.crossing().filter(|_| crosses) {
        crossing.tell(&mut Fields::default(), &mut own);
    }
    whole(status, own, text, record)
}

fn refused(refusal: &Refusal, form: Form, mut record: Box<Record>) -> Response {
    record.refused(refusal);
    let (head, text) = refusal.problem(&record).answer(form).into_parts();
    let mut own = Lines::from(&head.headers);
    if let Some((headers, scheme)) = record.secured() {
        secure(headers, *scheme, &record, &mut own);
    }
    if let Some(crossing) = record.crossing() {
        crossing.tell(&mut Fields::default(), &mut own);
    }
    whole(head.status, own, text, record)
}

/// An answer whose text is there.
fn whole(status: StatusCode, mut own: Lines, text: Bytes, record: Box<Record>) -> Response {
    // HEAD is told how long the text is that GET would be given (RFC 9110 section 9.3.2).
    let text = if record.method() == Method::HEAD && status != StatusCode::NO_CONTENT {
        own.set(&header::CONTENT_LENGTH, &HeaderValue::from(text.len()));
        Bytes::new()
    } else {
        text
    };
    response(status, own, Reply::new(Content::Own(text), record))
}

fn response(status: StatusCode, own: Lines, reply: Reply) -> Response {
    Response { status, passed: Fields::default(), own: Some(own), reply }
}
