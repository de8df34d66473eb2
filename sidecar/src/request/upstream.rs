//! Upstream: one request to an endpoint that answers it, and the head of its answer back.
//!
//! Cost: per request on a kept connection; its two system calls, and the engine's allocations.
//! A request is sent again in two cases only: it never left (the endpoint cannot be reached, or the kept connection had ended
//! before), or it has no body, may be repeated (RFC 9110 section 9.2.2), and a kept connection broke without a byte in return,
//! which is how a server that closes an idle connection looks from here.
//! Absent on purpose: retries after an answer began or for fresh connections; the upstream may have acted.

mod connect;
mod http1;
mod http2;
pub mod resolve;
mod target;

pub use target::{Target, Targets};

use super::Refusal;
use super::body::{Progress, Stage, Upload};
use super::head::Ambiguous;
use crate::deadline::Deadline;
use crate::problem::Code;
use crate::worker::Worker;
use bulkhead_config::snapshot::{Bounds, Protocol, Upstream};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, response};
use http_body::{Frame, SizeHint};
use http1::{Broken, Link, Waits};
use hyper::body::Incoming;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use target::InUse;
use tokio::net::TcpStream;

/// Where an upstream failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its name has no address.
    Resolve,
    /// It refuses connections.
    Refused,
    /// No connection, for another reason.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// It does not take the request.
    SendTimeout,
    /// It closed the connection instead of answering.
    Closed,
    /// What it said is no answer.
    Protocol,
    /// No answer in time.
    ResponseTimeout,
    /// Its answer broke off.
    BodyClosed,
    /// Its answer stood still.
    BodyTimeout,
}

impl Step {
    /// Every label, for metrics.
    pub const LABELS: &'static [&'static str] = &[
        "resolve",
        "refused",
        "connect",
        "connect_timeout",
        "send_timeout",
        "closed",
        "protocol",
        "response_timeout",
        "body_closed",
        "body_timeout",
    ];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        Self::LABELS.get(self as usize).copied().unwrap_or("other")
    }

    /// The problem a client is told, with the error of RFC 9209.
    #[must_use]
    pub fn problem(self) -> (Code, &'static str) {
        match self {
            Step::Resolve => (Code::UpstreamUnreachable, "dns_error"),
            Step::Refused => (Code::UpstreamUnreachable, "connection_refused"),
            Step::Connect => (Code::UpstreamUnreachable, "destination_unavailable"),
            Step::ConnectTimeout => (Code::UpstreamTimeout, "connection_timeout"),
            Step::SendTimeout => (Code::UpstreamTimeout, "connection_write_timeout"),
            Step::ResponseTimeout => (Code::UpstreamTimeout, "http_response_timeout"),
            Step::Closed => (Code::UpstreamProtocol, "connection_terminated"),
            Step::Protocol => (Code::UpstreamProtocol, "http_protocol_error"),
            Step::BodyClosed => (Code::UpstreamProtocol, "http_response_incomplete"),
            Step::BodyTimeout => (Code::UpstreamTimeout, "connection_read_timeout"),
        }
    }

    /// What a client is told of it; the cause is for the log.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Step::Resolve => "The name of the service behind this proxy has no address.",
            Step::Refused => "The service behind this proxy refuses connections.",
            Step::Connect => "There is no connection to the service behind this proxy.",
            Step::ConnectTimeout => "The service behind this proxy did not take a connection in time.",
            Step::SendTimeout => "The service behind this proxy stopped reading the request.",
            Step::Closed => "The service behind this proxy closed the connection without an answer.",
            Step::Protocol => "The answer of the service behind this proxy cannot be understood.",
            Step::ResponseTimeout => "The service behind this proxy did not begin to answer in time.",
            Step::BodyClosed => "The answer of the service behind this proxy broke off.",
            Step::BodyTimeout => "The answer of the service behind this proxy stood still for too long.",
        }
    }
}

/// A failure of an upstream.
#[derive(Debug)]
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

    /// Whether trying at `next` can end otherwise: an endpoint that cannot be reached is not asked twice.
    fn may_pass_at(&self, next: &InUse, failed: &InUse) -> bool {
        self.step == Step::Closed || !next.is_same(failed)
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
    /// Status and header fields, as the upstream sent them.
    pub head: response::Parts,
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
    /// Another protocol: the socket, and what was read of it already.
    Tunnel(TcpStream, Bytes),
}

/// An answer's body on its way.
#[derive(Debug)]
pub enum Download {
    /// Over HTTP/1.1.
    Http1(http1::Download),
    /// Over HTTP/2.
    Http2(http2::Download),
}

impl Download {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        match self {
            Download::Http1(download) => download.poll_frame(cx),
            Download::Http2(download) => download.poll_frame(cx),
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        match self {
            Download::Http1(download) => download.is_end_stream(),
            Download::Http2(download) => download.is_end_stream(),
        }
    }

    /// How much comes.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Download::Http1(download) => download.size_hint(),
            Download::Http2(download) => download.size_hint(),
        }
    }
}

/// The protocol a request goes out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Wire {
    /// What an upstream takes for a request with these header fields.
    #[must_use]
    pub fn of(upstream: &Upstream, headers: &HeaderMap) -> Wire {
        let is_grpc = || headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        match upstream.protocol {
            Protocol::Http2 => Wire::Http2,
            Protocol::Auto if is_grpc() => Wire::Http2,
            Protocol::Auto | Protocol::Http1 => Wire::Http1,
        }
    }
}

/// Sends `request` to `upstream` and waits for the head of its answer.
///
/// # Errors
/// What failed, of the upstream or of the client.
pub async fn forward(
    worker: &Worker,
    upstream: &Arc<Upstream>,
    wire: Wire,
    bounds: &Bounds,
    request: Box<Request<Upload>>,
) -> Result<Arrived, Refusal> {
    let forward = Forward {
        worker,
        target: worker.target(upstream),
        client_pause: bounds.body_idle_timeout,
        upload: request.body().progress(),
        asks_for_upgrade: request.headers().contains_key(UPGRADE),
    };
    let endpoint = forward.target.choose(None).ok_or(Refusal::Upstream(Failed::at(Step::Resolve)))?;
    let (again, failed, endpoint) = match forward.attempt(wire, endpoint, Use::Kept, request).await {
        Attempt::Again(again, failed, endpoint) => (again, failed, endpoint),
        other => return other.last(),
    };
    // Another endpoint where there is one, and a fresh connection: what else was kept may be as stale as the first.
    let Some(next) = forward.target.choose(Some(&endpoint)).filter(|next| failed.may_pass_at(next, &endpoint)) else {
        return Err(Refusal::Upstream(failed));
    };
    // Boxed, as all that is rare: what a future may have to hold is moved with every request that does not need it.
    Box::pin(forward.attempt(wire, next, Use::Fresh, again)).await.last()
}

/// What an attempt made of the request.
enum Attempt {
    Arrived(Arrived),
    /// Nothing was lost: the request may be sent again.
    Again(Box<Request<Upload>>, Failed, InUse),
    Over(Refusal),
}

impl Attempt {
    fn last(self) -> Result<Arrived, Refusal> {
        match self {
            Attempt::Arrived(arrived) => Ok(arrived),
            Attempt::Again(_, failed, _) => Err(Refusal::Upstream(failed)),
            Attempt::Over(refusal) => Err(refusal),
        }
    }
}

/// Which connections an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Kept,
    Fresh,
}

/// One request on its way: what its attempts share.
struct Forward<'a> {
    worker: &'a Worker,
    target: Rc<Target>,
    client_pause: Duration,
    upload: Option<Rc<Progress>>,
    asks_for_upgrade: bool,
}

impl Forward<'_> {
    async fn attempt(&self, wire: Wire, endpoint: InUse, which: Use, request: Box<Request<Upload>>) -> Attempt {
        match wire {
            Wire::Http1 => self.over_http1(endpoint, which, request).await,
            Wire::Http2 => Box::pin(self.over_http2(endpoint, request)).await,
        }
    }

    async fn over_http1(&self, endpoint: InUse, which: Use, request: Box<Request<Upload>>) -> Attempt {
        let deadline = self.worker.deadline();
        let kept = if which == Use::Kept { endpoint.take_idle() } else { None };
        let mut link = match kept {
            Some(link) => link,
            None => match Box::pin(self.begin_http1(&endpoint, &deadline)).await {
                Ok(link) => link,
                Err(failed) => return Attempt::Again(request, failed, endpoint),
            },
        };
        let spare = if endpoint.may_be_stale(&link) { Spare::of(&request) } else { None };
        match http1::exchange(&mut link, request, &self.waits(&deadline)).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Box::pin(self.switched(response, link, endpoint, &deadline)).await
            }
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let authority = Rc::clone(&endpoint.authority);
                let download =
                    http1::Download::new(incoming, link, self.upload.is_some(), endpoint, deadline, self.target.upstream.idle_timeout);
                Attempt::Arrived(Arrived { head, rest: Rest::Body(Download::Http1(download)), endpoint: authority })
            }
            Err(broken) => self.broken(broken, spare, endpoint),
        }
    }

    async fn begin_http1(&self, endpoint: &InUse, deadline: &Deadline) -> Result<Box<Link>, Failed> {
        Link::begin(self.connect(endpoint, deadline).await?).await
    }

    async fn over_http2(&self, endpoint: InUse, request: Box<Request<Upload>>) -> Attempt {
        let deadline = self.worker.deadline();
        let sender = endpoint.shared(async || http2::begin(self.connect(&endpoint, &deadline).await?).await).await;
        let sender = match sender {
            Ok(sender) => sender,
            Err(failed) => return Attempt::Again(request, failed, endpoint),
        };
        match http2::exchange(sender, request, &self.waits(&deadline)).await {
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let authority = Rc::clone(&endpoint.authority);
                let download = http2::Download::new(incoming, endpoint, deadline, self.target.upstream.idle_timeout);
                Attempt::Arrived(Arrived { head, rest: Rest::Body(Download::Http2(download)), endpoint: authority })
            }
            Err(broken) => self.broken(broken, None, endpoint),
        }
    }

    async fn connect(&self, endpoint: &InUse, deadline: &Deadline) -> Result<TcpStream, Failed> {
        let connected = connect::connect(self.worker, &self.target.upstream, &endpoint.endpoint, deadline).await;
        if connected.is_err() {
            endpoint.avoid();
        }
        connected
    }

    fn waits<'a>(&self, deadline: &'a Deadline) -> Waits<'a> {
        let upstream = &self.target.upstream;
        Waits {
            deadline,
            upload: self.upload.clone(),
            client: self.client_pause,
            upstream: upstream.idle_timeout,
            response: upstream.response_timeout,
        }
    }

    /// An answer of 101: only if it was asked for, and then the socket is a tunnel.
    async fn switched(&self, response: Response<Incoming>, link: Box<Link>, endpoint: InUse, deadline: &Deadline) -> Attempt {
        if !self.asks_for_upgrade {
            return Attempt::Over(Refusal::Upstream(Failed::because(Step::Protocol, "101 that nobody asked for")));
        }
        let (head, _) = response.into_parts();
        match http1::take_over(link, deadline, self.target.upstream.response_timeout).await {
            Ok((stream, early)) => {
                Attempt::Arrived(Arrived { head, rest: Rest::Tunnel(stream, early), endpoint: Rc::clone(&endpoint.authority) })
            }
            Err(failed) => Attempt::Over(Refusal::Upstream(failed)),
        }
    }

    fn broken(&self, broken: Broken, spare: Option<Spare>, endpoint: InUse) -> Attempt {
        match (self.upload.as_ref().map(|upload| upload.stage()), broken) {
            (Some(Stage::TooLarge), _) => Attempt::Over(Refusal::BodyTooLarge),
            (Some(Stage::BrokenOff), _) => Attempt::Over(Refusal::ClientLeft),
            (Some(Stage::Malformed), _) => Attempt::Over(Refusal::Ambiguous(Ambiguous::Body)),
            (_, Broken::Late(Stage::OwedByClient)) => Attempt::Over(Refusal::BodyTimeout),
            (_, Broken::Late(Stage::OwedByUpstream)) => Attempt::Over(Refusal::Upstream(Failed::at(Step::SendTimeout))),
            (_, Broken::Late(_)) => Attempt::Over(Refusal::Upstream(Failed::at(Step::ResponseTimeout))),
            (_, Broken::Unsent(request, error)) => Attempt::Again(request, Failed::because(Step::Closed, chain(&error)), endpoint),
            (_, Broken::Silent(error)) => {
                let failed = Failed::because(Step::Closed, chain(&error));
                match spare {
                    Some(spare) => Attempt::Again(Box::new(spare.request()), failed, endpoint),
                    None => Attempt::Over(Refusal::Upstream(failed)),
                }
            }
            (_, Broken::Failed(error)) => Attempt::Over(Refusal::Upstream(Failed::because(Step::Protocol, chain(&error)))),
        }
    }
}

/// A request that may be sent twice: without a body, and of a method that means the same twice. Its fields stand in a list, which
/// costs a third of a copy of their map; the map is made again in the rare case.
struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Spare {
    fn of(request: &Request<Upload>) -> Option<Spare> {
        if !matches!(request.body(), Upload::Nothing) || !request.method().is_idempotent() {
            return None;
        }
        let fields = request.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Spare { method: request.method().clone(), uri: request.uri().clone(), version: request.version(), fields })
    }

    fn request(self) -> Request<Upload> {
        let mut request = Request::new(Upload::Nothing);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        for (name, value) in self.fields {
            request.headers_mut().append(name, value);
        }
        request
    }
}

/// An error with its causes, for the log.
fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
