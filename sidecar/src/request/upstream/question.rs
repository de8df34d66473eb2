//! Question: one health check, on a connection of its own: that connections are taken is part of being well.
//!
//! Cost: none per request.
//! An endpoint is asked over what its requests go out with. HTTP/1.1 is a line that is read, HTTP/2 is the framing crate itself: one
//! stream of one connection needs nothing of what makes an engine fast.

use super::attend::Surroundings;
use super::fleet::Member;
use super::{Wire, agreed, connect};
use crate::socket::Socket;
use bulkhead_config::snapshot::{HealthCheck, Protocol, Question, Scheme, Upstream};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Whom an endpoint finds in its log.
const ASKS: &str = "bulkhead-health-check";
/// Bytes of an answer's first line: `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;
/// Bytes of a gRPC answer: a status is two, and what a later version adds is small.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// `HealthCheckResponse.status` when it serves (grpc.health.v1).
const SERVING: u64 = 1;

/// Asks an endpoint once.
///
/// # Errors
/// Why it is not well.
pub(super) async fn ask(upstream: &Upstream, check: &HealthCheck, member: &Member, surroundings: &Surroundings) -> Result<(), String> {
    let tls = Arc::clone(&surroundings.live.load().tls);
    let wire = wire(upstream, &check.question);
    let socket = connect::open(&tls, upstream, member, wire).await.map_err(|failed| failed.to_string())?;
    let is_http2 = wire == Wire::Http2 || wire == Wire::Auto && agreed::picked(&socket) == Wire::Http2;
    match &check.question {
        Question::Get(path) if is_http2 => over_http2(socket, async |sender| get(sender, member, path).await).await,
        Question::Get(path) => over_http1(socket, member, path).await,
        Question::Grpc(service) => over_http2(socket, async |sender| call(sender, member, service).await).await,
    }
}

fn wire(upstream: &Upstream, question: &Question) -> Wire {
    match (question, upstream.protocol) {
        (Question::Grpc(_), _) | (_, Protocol::Http2) => Wire::Http2,
        (_, Protocol::Http1) => Wire::Http1,
        (_, Protocol::Auto) => Wire::Auto,
    }
}

async fn over_http1(mut socket: Socket, member: &Member, path: &str) -> Result<(), String> {
    let host = member.endpoint.authority();
    let question = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {ASKS}\r\nconnection: close\r\n\r\n");
    let asked = async {
        socket.write_all(question.as_bytes()).await?;
        socket.flush().await?;
        let mut line = [0; STATUS_BYTES];
        socket.read_exact(&mut line).await?;
        io::Result::Ok(line)
    };
    let line = asked.await.map_err(|error| error.to_string())?;
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..)).and_then(|status| StatusCode::from_bytes(status).ok());
    status.ok_or_else(|| "the answer is no HTTP/1.1".to_owned()).and_then(is_good)
}

fn is_good(status: StatusCode) -> Result<(), String> {
    if status.is_success() { Ok(()) } else { Err(format!("the status is {}", status.as_u16())) }
}

/// Has a connection of HTTP/2 driven for as long as `ask` takes.
async fn over_http2(socket: Socket, ask: impl AsyncFnOnce(SendRequest<Bytes>) -> Result<(), String>) -> Result<(), String> {
    let (sender, connection) = client::handshake(socket).await.map_err(|error| error.to_string())?;
    let (mut connection, mut asked) = (pin!(connection), pin!(ask(sender)));
    let mut is_over = false;
    poll_fn(|cx| {
        // Of one that is over the answer may still be there; if it is not, its stream says why.
        is_over = is_over || connection.as_mut().poll(cx).is_ready();
        asked.as_mut().poll(cx)
    })
    .await
}

async fn get(sender: SendRequest<Bytes>, member: &Member, path: &str) -> Result<(), String> {
    let (answer, _) = send(sender, member, (Method::GET, path), HeaderMap::new(), None).await?;
    is_good(answer.status())
}

async fn call(sender: SendRequest<Bytes>, member: &Member, service: &str) -> Result<(), String> {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(TE, HeaderValue::from_static("trailers"));
    let (head, mut body) =
        send(sender, member, (Method::POST, "/grpc.health.v1.Health/Check"), fields, Some(asking_about(service))).await?;
    is_good(head.status())?;
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| error.to_string())?;
        if message.len() + data.len() > MESSAGE_BYTES_MAX {
            return Err("the answer is longer than any health has words for".to_owned());
        }
        message.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(|error| error.to_string())?;
    // Without a message the outcome stands in the head.
    let fields = trailers.as_ref().unwrap_or_else(|| head.headers());
    match fields.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(status) => return Err(format!("the gRPC status is {}", status.escape_ascii())),
        None => return Err("the answer has no gRPC status".to_owned()),
    }
    match status_in(&message) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(format!("the health is {}", health_named(other))),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// Sends one request, with a body or none, and waits for the head of its answer.
async fn send(
    sender: SendRequest<Bytes>,
    member: &Member,
    (method, path): (Method, &str),
    fields: HeaderMap,
    body: Option<Bytes>,
) -> Result<(Response<()>, h2::RecvStream), String> {
    let scheme = match member.endpoint.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let uri = Uri::builder().scheme(scheme).authority(member.endpoint.authority()).path_and_query(path).build();
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.map_err(|error| error.to_string())?;
    *request.headers_mut() = fields;
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(ASKS));
    let asked = async {
        let mut sender = sender.ready().await?;
        let (answer, mut upload) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            upload.send_data(body, true)?;
        }
        answer.await
    };
    let answer = asked.await.map_err(|error: h2::Error| error.to_string())?;
    let (head, body) = answer.into_parts();
    Ok((Response::from_parts(head, ()), body))
}

/// `HealthCheckRequest { service }` as a message of gRPC.
fn asking_about(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, a text.
        message.push(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// `status` of the `HealthCheckResponse` in a message of gRPC; 0 where it is left out, and nothing where it is none.
fn status_in(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(PREFIX_BYTES)?;
    let (is_compressed, length) = prefix.split_first()?;
    if *is_compressed != 0 || u32::from_be_bytes(length.try_into().ok()?) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut message)?,
            // What later versions add: a number, eight bytes, a text, four bytes.
            (_, 0) => drop(take_varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// As grpc.health.v1 names it.
fn health_named(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "one that is not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_asked_about_by_its_name_and_a_server_by_none() {
        assert_eq!(&*asking_about(""), &[0, 0, 0, 0, 0]);
        assert_eq!(&*asking_about("a.B"), &[0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = "a".repeat(200);
        assert_eq!(asking_about(&long).get(5..8), Some(&[0x0a, 0xc8, 1][..]));
    }

    #[test]
    fn a_health_is_read_among_what_is_not_known_and_not_from_what_is_none() {
        for (framed, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // Behind a text and a number, and behind eight bytes and four.
            (&[0, 0, 0, 0, 7, 18, 1, b'x', 24, 5, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 16, 33, 0, 0, 0, 0, 0, 0, 0, 0, 45, 0, 0, 0, 0, 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 1, 8], None),
            (&[0, 0, 0, 0, 3, 18, 9, 9], None),
            (&[0, 0, 0, 0, 2, 11, 1], None),
            (&[0, 0], None),
            (&[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], None),
        ] {
            assert_eq!(status_in(framed), status, "{framed:?}");
        }
    }
}
