//! Upstream: one request to an endpoint that answers it, and the head of its answer back.
//!
//! Cost: per request on a kept connection; its two system calls, and no allocation but for what the request itself holds.
//! A request is sent again in two cases only: it never left (the endpoint cannot be reached, or the kept connection had ended
//! before), to up to two other endpoints, or it has no body, may be repeated (RFC 9110 section 9.2.2), and a kept connection
//! broke without a byte in return, which is how a server that closes an idle connection looks from here.
//! More is for the upstream's declaration to say (`retry.rs`). Absent on purpose: retries after an answer began; the upstream has
//! acted.

mod send;
mod agreed;
mod retry;
mod budget;
mod tape;
pub(crate) mod rewind;
pub mod tally;
mod balance;
mod breaker;
pub mod adaptive;
mod gradient;
mod target;
mod endpoint;
pub mod fleet;
pub mod attend;
mod roster;
mod outlier;
mod health;
mod question;
pub mod resolve;
mod connect;
mod exchange;
mod gone;
mod http1;
mod replay;
mod http2;

pub use http2::Stream;
pub use send::forward;
pub use target::{Target, Targets};

use super::grpc;
use super::leak::Held;
use crate::fields::{Fields, Name, begins_with_type};
use crate::problem::Code;
use crate::socket::Socket;
use bulkhead_config::snapshot::{Protocol, Upstream};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Where an upstream failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its name has no address.
    Resolve,
    /// Its name was not resolved in time.
    ResolveTimeout,
    /// It refuses connections.
    Refused,
    /// No connection, for another reason.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// Its certificate is not accepted.
    Certificate,
    /// No TLS session with it.
    Tls,
    /// It does not take the request.
    SendTimeout,
    /// It closed the connection instead of answering.
    Closed,
    /// It refused the stream of HTTP/2 unseen.
    RefusedStream,
    /// It reset the stream of HTTP/2 instead of answering.
    Reset,
    /// It goes away, and took the request no more (GOAWAY of HTTP/2).
    GoAway,
    /// Its answer's head broke off.
    HeadClosed,
    /// What it said is no answer.
    Protocol,
    /// No answer in time.
    ResponseTimeout,
    /// Its answer broke off.
    BodyClosed,
    /// It reset the stream of HTTP/2 in the midst of its answer.
    BodyReset,
    /// Its answer stood still.
    BodyTimeout,
    /// The time that the client gave for all of it (gRPC) is over.
    Deadline,
    /// Every endpoint is answering as many requests as it may.
    Overloaded,
    /// Every endpoint is answering as many requests as it does without getting slower.
    AdaptiveLimit,
    /// It takes no WebSocket on a stream of HTTP/2.
    NoWebSocket,
}

impl Step {
    /// Every label, for metrics.
    pub const LABELS: &'static [&'static str] = &[
        "resolve",
        "resolve_timeout",
        "refused",
        "connect",
        "connect_timeout",
        "tls_certificate",
        "tls_protocol",
        "send_timeout",
        "closed",
        "refused_stream",
        "reset",
        "go_away",
        "head_closed",
        "protocol",
        "response_timeout",
        "body_closed",
        "body_reset",
        "body_timeout",
        "deadline",
        "overloaded",
        "adaptive_limit",
        "no_websocket",
    ];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        Self::LABELS.get(self as usize).copied().unwrap_or("other")
    }

    /// Whether what it was sent over ended before anything of an answer came.
    #[must_use]
    pub fn is_unanswered(self) -> bool {
        matches!(self, Step::Closed | Step::RefusedStream | Step::Reset | Step::GoAway)
    }

    /// The problem a client is told, with the error of RFC 9209.
    #[must_use]
    pub fn problem(self) -> (Code, &'static str) {
        match self {
            Step::Resolve => (Code::UpstreamUnreachable, "dns_error"),
            Step::ResolveTimeout => (Code::UpstreamTimeout, "dns_timeout"),
            Step::Refused => (Code::UpstreamUnreachable, "connection_refused"),
            Step::Connect => (Code::UpstreamUnreachable, "destination_unavailable"),
            Step::ConnectTimeout => (Code::UpstreamTimeout, "connection_timeout"),
            Step::Certificate => (Code::UpstreamUnreachable, "tls_certificate_error"),
            Step::Tls => (Code::UpstreamUnreachable, "tls_protocol_error"),
            Step::SendTimeout => (Code::UpstreamTimeout, "connection_write_timeout"),
            Step::ResponseTimeout => (Code::UpstreamTimeout, "http_response_timeout"),
            Step::Closed | Step::Reset | Step::GoAway => (Code::UpstreamProtocol, "connection_terminated"),
            Step::RefusedStream => (Code::UpstreamOverloaded, "connection_terminated"),
            Step::HeadClosed => (Code::UpstreamProtocol, "http_response_incomplete"),
            Step::Protocol => (Code::UpstreamProtocol, "http_protocol_error"),
            Step::BodyClosed | Step::BodyReset => (Code::UpstreamProtocol, "http_response_incomplete"),
            Step::BodyTimeout => (Code::UpstreamTimeout, "connection_read_timeout"),
            Step::NoWebSocket => (Code::UpstreamProtocol, "http_upgrade_failed"),
            Step::Overloaded | Step::AdaptiveLimit => (Code::UpstreamOverloaded, "connection_limit_reached"),
            Step::Deadline => (Code::DeadlineExceeded, "http_response_timeout"),
        }
    }

    /// What a client is told of it; the cause is for the log.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Step::Resolve => "The name of the service behind this proxy has no address.",
            Step::ResolveTimeout => "The name of the service behind this proxy was not resolved in time.",
            Step::Refused => "The service behind this proxy refuses connections.",
            Step::Connect => "There is no connection to the service behind this proxy.",
            Step::ConnectTimeout => "The service behind this proxy did not take a connection in time.",
            Step::Certificate => "The service behind this proxy shows a certificate that is not accepted.",
            Step::Tls => "There is no TLS session with the service behind this proxy.",
            Step::SendTimeout => "The service behind this proxy stopped reading the request.",
            Step::Closed => "The service behind this proxy closed the connection without an answer.",
            Step::RefusedStream => "The service behind this proxy refused the request without looking at it, more than once.",
            Step::Reset => "The service behind this proxy gave the request up without an answer (RST_STREAM).",
            Step::GoAway => "The service behind this proxy is going away and took the request no more (GOAWAY).",
            Step::HeadClosed => "The head of the answer of the service behind this proxy broke off.",
            Step::Protocol => "The answer of the service behind this proxy cannot be understood.",
            Step::ResponseTimeout => "The service behind this proxy did not begin to answer in time.",
            Step::BodyClosed => "The answer of the service behind this proxy broke off.",
            Step::BodyReset => "The service behind this proxy gave up in the midst of its answer (RST_STREAM).",
            Step::BodyTimeout => "The answer of the service behind this proxy stood still for too long.",
            Step::NoWebSocket => {
                "The service behind this proxy takes no WebSockets over HTTP/2: its settings do not enable extended CONNECT (RFC 8441). \
                 With `protocol: auto` or `http1` it is asked over HTTP/1.1."
            }
            Step::Overloaded => "The service behind this proxy is answering as many requests at once as it may.",
            Step::AdaptiveLimit => {
                "The service behind this proxy is answering as many requests at once as it does without getting slower (adaptive limit)."
            }
            Step::Deadline => "The service behind this proxy did not finish within the `grpc-timeout` of the call.",
        }
    }
}

/// A failure of an upstream.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Where.
    pub step: Step,
    cause: Option<String>,
}

impl Failed {
    fn at(step: Step) -> Self {
        Self { step, cause: None }
    }

    fn because(step: Step, cause: impl fmt::Display) -> Self {
        Self { step, cause: Some(cause.to_string()) }
    }

    /// Why, for the log.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.label())?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Failed {}

/// What came back.
#[derive(Debug)]
pub struct Arrived {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields, as the upstream sent them.
    pub headers: Fields,
    /// What comes after.
    pub rest: Rest,
    /// The endpoint that answered, as `host:port`.
    pub endpoint: Rc<str>,
}

/// What comes after the head of an answer.
#[derive(Debug)]
pub enum Rest {
    /// A body.
    Body(Download),
    /// Another protocol. Boxed, as all that is rare here: an answer is moved from hand to hand.
    Tunnel(Box<Opened>),
}

/// What an upstream changed to another protocol.
#[derive(Debug)]
pub struct Opened {
    /// The socket.
    pub socket: Socket,
    /// What was read of it already.
    pub early: Bytes,
    /// Its place, where it is a stream among others.
    pub place: Option<Box<Stream>>,
}

/// An answer's body on its way.
#[derive(Debug)]
pub enum Download {
    /// Over HTTP/1.1.
    Http1(http1::Download),
    /// Over HTTP/2.
    Http2(Box<http2::Download>),
    /// Partly here already.
    Held(Box<Held>),
}

impl Download {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        match self {
            Download::Http1(download) => download.poll_frame(cx),
            Download::Http2(download) => download.poll_frame(cx),
            Download::Held(held) => held.poll_frame(cx),
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        match self {
            Download::Http1(download) => download.is_end_stream(),
            Download::Http2(download) => download.is_end_stream(),
            Download::Held(held) => held.is_end_stream(),
        }
    }

    /// How much comes.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Download::Http1(download) => download.size_hint(),
            Download::Http2(download) => download.size_hint(),
            Download::Held(held) => held.size_hint(),
        }
    }

    /// Moves the rest of the request's body on while its answer cannot go out.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match self {
            Download::Http1(download) => download.poll_upload(cx),
            Download::Http2(_) => {}
            Download::Held(held) => held.poll_upload(cx),
        }
    }
}

/// Longest silence within an answer with these fields. Events are silent by nature, and so is gRPC.
fn idle_timeout(upstream: &Upstream, headers: &Fields) -> Duration {
    if headers.get(Name::ContentType).is_some_and(|value| begins_with_type(value, EVENTS)) || grpc::is_grpc(headers) {
        upstream.stream_idle_timeout
    } else {
        upstream.idle_timeout
    }
}

/// How the media type of Server-Sent Events begins.
const EVENTS: &[u8] = b"text/event-stream";

/// The protocol a request goes out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/1.1 in the clear; over TLS what the endpoint picks in the handshake.
    Auto,
}

impl Wire {
    /// What an upstream takes for a request with these header fields.
    #[must_use]
    pub fn of(upstream: &Upstream, headers: &Fields) -> Wire {
        match upstream.protocol {
            Protocol::Http2 => Wire::Http2,
            Protocol::Http1 => Wire::Http1,
            Protocol::Auto if grpc::is_grpc(headers) => Wire::Http2,
            Protocol::Auto => Wire::Auto,
        }
    }
}
