//! Send: one request to an endpoint that answers it, or to another one where nothing was lost.
//!
//! Cost: per request; what is rare (connecting, HTTP/2, a second attempt) is boxed: what a future may have to hold is moved with
//! every request that does not need it.

use super::endpoint::InUse;
use super::exchange::{Broken, Waits};
use super::http1::{self, Link};
use super::http2::{self, Connection, Stream};
use super::replay::{self, Kept, Lent};
use super::retry::Attempts;
use super::target::Target;
use super::{Arrived, Download, Failed, Opened, Rest, Step, Wire, connect, idle_timeout};
use crate::connection::Downstream;
use crate::deadline::Deadline;
use crate::fields::Fields;
use crate::request::body::{Progress, Stage, Upload};
use crate::request::head::Ambiguous;
use crate::request::outgoing::Outgoing;
use crate::request::{Refusal, grpc, websocket};
use crate::socket::Socket;
use crate::worker::Worker;
use bulkhead_config::snapshot::{Bounds, Scheme, Upstream};
use bytes::Bytes;
use http::header::{SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Sends `request` to `upstream` and waits for the head of its answer.
///
/// # Errors
/// What failed, of the upstream or of the client.
pub async fn forward(
    worker: &Worker,
    from: &Rc<Downstream>,
    upstream: &Arc<Upstream>,
    wire: Wire,
    bounds: &Bounds,
    grpc_timeout: Option<Duration>,
    request: Box<Outgoing>,
) -> Result<Arrived, Refusal> {
    let forward = Forward {
        worker,
        from,
        target: worker.target(upstream),
        client_pause: bounds.body_idle_timeout,
        upload: request.upload.progress(),
        wire,
        may_be_repeated: matches!(request.upload, Upload::Nothing) && request.method.is_idempotent(),
        asks_for_upgrade: request.upgrades,
        attempts: Attempts::default(),
        is_grpc: wire == Wire::Http2 && grpc::is_grpc(&request.fields),
    };
    let endpoint = match forward.target.choose(&[], worker.random()) {
        Some(endpoint) => endpoint,
        None => return Box::pin(forward.after_a_wait(request, grpc_timeout)).await,
    };
    if let Some((retry, budget)) = forward.target.retry() {
        return Box::pin(forward.by_retries(retry, budget, endpoint, request, grpc_timeout)).await;
    }
    match wire {
        Wire::Auto if forward.leaves_choice(&endpoint) && !endpoint.keeps_http1() => Box::pin(forward.as_agreed(endpoint, request)).await,
        // Here and not in a function of its own: what one future hands to another it holds twice.
        Wire::Auto | Wire::Http1 => {
            let kept = endpoint.take_idle();
            let (request, failed, at) = match forward.over_http1(endpoint, kept, request).await {
                Attempt::Again(request, failed, at) => (request, failed, at),
                other => return other.last(),
            };
            let next = forward.elsewhere(failed, at)?;
            // A fresh connection: what else was kept may be as stale as the first.
            Box::pin(forward.by_http1(next, None, request)).await
        }
        Wire::Http2 => Box::pin(forward.by_http2(endpoint, request, grpc_timeout)).await,
    }
}

/// Says in a request over HTTP/2 how its endpoint is spoken to (`:scheme`, RFC 9113 section 8.3.1).
fn name_scheme(uri: &mut Uri, scheme: Scheme) {
    if scheme == Scheme::Https {
        let mut parts = std::mem::take(uri).into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        // It had a scheme, so it has all that goes with one.
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// What an attempt made of the request.
pub(super) enum Attempt<R> {
    Arrived(Arrived),
    /// Nothing was lost: the request may be sent again.
    Again(R, Failed, InUse),
    Over(Refusal),
}

impl<R> Attempt<R> {
    pub(super) fn last(self) -> Result<Arrived, Refusal> {
        match self {
            Attempt::Arrived(arrived) => Ok(arrived),
            Attempt::Again(_, failed, _) => Err(Refusal::Upstream(failed)),
            Attempt::Over(refusal) => Err(refusal),
        }
    }
}

/// Which connections an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Kept,
    Fresh,
}

/// One request on its way: what its attempts share.
pub(super) struct Forward<'a> {
    pub(super) worker: &'a Worker,
    from: &'a Rc<Downstream>,
    pub(super) target: Rc<Target>,
    wire: Wire,
    client_pause: Duration,
    upload: Option<Rc<Progress>>,
    /// It has no body, and means the same twice.
    may_be_repeated: bool,
    asks_for_upgrade: bool,
    pub(super) attempts: Attempts,
    is_grpc: bool,
}

/// What the attempts of a request over HTTP/2 share.
pub(super) struct Call {
    pub(super) kept: Kept,
    /// When the time its client gave is over.
    pub(super) deadline: Option<Deadline>,
    /// What its client was left when this began, at which turn of the wheel, and what the head says of it.
    pub(super) time: Option<(Duration, u64, Option<Duration>)>,
    /// A connection that did not serve it.
    pub(super) failed: Option<Rc<Connection>>,
    /// It asks for a WebSocket, and whoever asked is answered with this.
    pub(super) accept: Option<HeaderValue>,
}

impl Forward<'_> {
    /// Sends a request that finds no endpoint yet, with what is left of its client's time.
    async fn after_a_wait(&self, request: Box<Outgoing>, grpc_timeout: Option<Duration>) -> Result<Arrived, Refusal> {
        let began = self.worker.wheel().turn();
        let endpoint = self.target.wait(self.worker).await.map_err(Refusal::Upstream)?;
        let grpc_timeout = grpc_timeout.map(|timeout| timeout.saturating_sub(self.worker.wheel().since(began)));
        match self.target.retry() {
            None => self.dispatch(endpoint, request, grpc_timeout).await,
            Some((retry, budget)) => self.by_retries(retry, budget, endpoint, request, grpc_timeout).await,
        }
    }

    /// Sends a request over what its endpoint is spoken to; to another endpoint where nothing was lost.
    pub(super) async fn dispatch(
        &self,
        endpoint: InUse,
        request: Box<Outgoing>,
        grpc_timeout: Option<Duration>,
    ) -> Result<Arrived, Refusal> {
        match self.wire {
            Wire::Auto if self.leaves_choice(&endpoint) => self.as_agreed(endpoint, request).await,
            Wire::Auto | Wire::Http1 => {
                let kept = endpoint.take_idle();
                self.by_http1(endpoint, kept, request).await
            }
            Wire::Http2 => self.by_http2(endpoint, request, grpc_timeout).await,
        }
    }

    /// Over `kept`, then over fresh connections.
    async fn by_http1(&self, mut next: InUse, mut kept: Option<Box<Link>>, mut request: Box<Outgoing>) -> Result<Arrived, Refusal> {
        loop {
            if kept.is_none() && self.leaves_choice(&next) {
                return self.again_as_agreed(request, next).await;
            }
            match self.over_http1(next, kept.take(), request).await {
                Attempt::Again(again, failed, at) => {
                    next = self.elsewhere(failed, at)?;
                    request = again;
                }
                other => return other.last(),
            }
        }
    }

    /// Where a request goes of which nothing was lost.
    pub(super) fn elsewhere(&self, failed: Failed, at: InUse) -> Result<InUse, Refusal> {
        self.attempts.elsewhere(&self.target, failed, at, self.worker.random()).map_err(Refusal::Upstream)
    }

    async fn by_http2(&self, endpoint: InUse, mut request: Box<Outgoing>, grpc_timeout: Option<Duration>) -> Result<Arrived, Refusal> {
        self.from.listen();
        let deadline = grpc_timeout.map(|timeout| {
            let deadline = self.worker.deadline();
            deadline.arm(timeout);
            deadline
        });
        let began = self.worker.wheel().turn();
        let time = grpc_timeout.map(|left| (left, began, grpc::timeout(&request.fields)));
        let accept = if request.upgrades { websocket::accept(&request.fields) } else { None };
        let (lent, kept) = replay::lend(request.to_http2());
        self.worker.buffers().give_back_request(request);
        let mut call = Call { kept, deadline, time, failed: None, accept };
        let (mut next, mut request) = (endpoint, lent);
        loop {
            match self.over_http2(next, request, &mut call).await {
                Attempt::Again(again, failed, at) => {
                    next = self.elsewhere(failed, at)?;
                    request = again;
                }
                other => return other.last(),
            }
        }
    }

    /// Whether an endpoint picks what it is spoken to. Another protocol than HTTP can be changed to from HTTP/1.1 only.
    fn leaves_choice(&self, endpoint: &InUse) -> bool {
        self.wire == Wire::Auto && endpoint.member.endpoint.scheme == Scheme::Https && !self.asks_for_upgrade
    }

    /// Over `link`, or a fresh connection.
    pub(super) async fn over_http1(&self, endpoint: InUse, link: Option<Box<Link>>, mut request: Box<Outgoing>) -> Attempt<Box<Outgoing>> {
        let deadline = self.worker.deadline();
        let mut link = match link {
            Some(link) => link,
            None => match Box::pin(self.connect(&endpoint, Wire::Http1, &deadline)).await {
                Ok(stream) => Link::new(stream),
                Err(failed) => return Attempt::Again(request, failed, endpoint),
            },
        };
        match http1::exchange(&mut link, &mut request, self.from, &self.waits(&endpoint, &deadline), self.worker.departures()).await {
            Ok(begun) if begun.head.status == StatusCode::SWITCHING_PROTOCOLS => self.switched(begun, *link, &endpoint),
            Ok(begun) => {
                self.target.answered(&endpoint, begun.head.status);
                self.worker.buffers().give_back_request(request);
                let authority = Rc::clone(&endpoint.authority);
                let idle_timeout = idle_timeout(&self.target.upstream, &begun.head.headers);
                let (status, headers, download) = begun.receive(link, endpoint, deadline, idle_timeout);
                Attempt::Arrived(Arrived { status, headers, rest: Rest::Body(Download::Http1(download)), endpoint: authority })
            }
            Err(broken) => {
                let may_be_repeated = self.may_be_repeated && link.is_used;
                self.broken(broken, Some(request), may_be_repeated, endpoint)
            }
        }
    }

    async fn over_http2(&self, endpoint: InUse, request: Request<Lent>, call: &mut Call) -> Attempt<Request<Lent>> {
        let idle = self.worker.deadline();
        let open = async || {
            let socket = self.connect(&endpoint, Wire::Http2, &idle).await?;
            Connection::begin(socket, &idle, self.target.upstream.connect_timeout).await.map(Some)
        };
        let opening = endpoint.stream(call.failed.as_ref(), open);
        let opened = match &call.deadline {
            None => Ok(opening.await),
            Some(deadline) => deadline.race(pin!(opening)).await,
        };
        let Ok(opened) = opened else { return Attempt::Over(Refusal::Upstream(Failed::at(Step::Deadline))) };
        match opened {
            Ok(Some(stream)) => self.over_stream(stream, endpoint, idle, request, call).await,
            // Nothing else was offered, so nothing else was picked.
            Ok(None) => Attempt::Over(Refusal::Upstream(Failed::at(Step::Tls))),
            Err(failed) => Attempt::Again(request, failed, endpoint),
        }
    }

    pub(super) async fn over_stream(
        &self,
        stream: Stream,
        endpoint: InUse,
        idle: Deadline,
        mut request: Request<Lent>,
        call: &mut Call,
    ) -> Attempt<Request<Lent>> {
        if call.accept.is_some() && !stream.takes_websockets() {
            return Attempt::Over(Refusal::Upstream(Failed::at(Step::NoWebSocket)));
        }
        name_scheme(request.uri_mut(), endpoint.member.endpoint.scheme);
        if let Some((given, began, told)) = call.time {
            let left = given.saturating_sub(self.worker.wheel().since(began));
            if told != Some(left) {
                grpc::tell_timeout(request.headers_mut(), left);
            }
        }
        match http2::exchange(&stream, request, self.from, &self.waits(&endpoint, &idle), call).await {
            Ok(response) if call.accept.is_some() && response.status().is_success() => {
                self.opened(response, stream, &endpoint, call.accept.take()).await
            }
            Ok(response) => {
                let authority = Rc::clone(&endpoint.authority);
                let (head, incoming) = response.into_parts();
                self.target.answered(&endpoint, head.status);
                let headers = Fields::from(&head.headers);
                let idle_timeout = idle_timeout(&self.target.upstream, &headers);
                let download = http2::Download::new(incoming, (stream, endpoint), (idle, idle_timeout), call.deadline.take());
                let rest = Rest::Body(Download::Http2(Box::new(download)));
                Attempt::Arrived(Arrived { status: head.status, headers, rest, endpoint: authority })
            }
            Err((broken, request)) => {
                if !matches!(broken, Broken::Failed(_)) {
                    call.failed = Some(stream.give_up(&broken));
                }
                self.broken(broken, request, self.may_be_repeated && stream.was_used(), endpoint)
            }
        }
    }

    pub(super) async fn connect(&self, endpoint: &InUse, wire: Wire, deadline: &Deadline) -> Result<Socket, Failed> {
        self.from.listen();
        let connected = connect::connect(self.worker, &self.target.upstream, &endpoint.member, wire, deadline).await;
        if connected.is_err() {
            endpoint.avoid();
            self.target.judge(endpoint, false);
        }
        connected
    }

    fn waits<'a>(&self, endpoint: &'a InUse, deadline: &'a Deadline) -> Waits<'a> {
        let upstream = &self.target.upstream;
        // The head of a gRPC answer may come with its first message, and that when something happens.
        let stream = if self.is_grpc { upstream.stream_idle_timeout } else { Duration::ZERO };
        Waits {
            deadline,
            endpoint: endpoint.is_timed().then_some(endpoint),
            upload: self.upload.clone(),
            client: self.client_pause.max(stream),
            upstream: upstream.idle_timeout,
            response: upstream.response_timeout.max(stream),
        }
    }

    /// An answer of 101: only if it was asked for, and then the socket is a tunnel.
    fn switched<R>(&self, begun: http1::Begun, link: Link, endpoint: &InUse) -> Attempt<R> {
        if !self.asks_for_upgrade {
            return Attempt::Over(Refusal::Upstream(Failed::because(Step::Protocol, "101 that nobody asked for")));
        }
        let Some((socket, early)) = link.into_socket() else {
            return Attempt::Over(Refusal::Upstream(Failed::because(Step::Protocol, "its connection is in use")));
        };
        let (status, headers) = (begun.head.status, begun.head.headers);
        let rest = Rest::Tunnel(Box::new(Opened { socket, early, place: None }));
        Attempt::Arrived(Arrived { status, headers, rest, endpoint: Rc::clone(&endpoint.authority) })
    }

    /// A WebSocket on a stream, answered as HTTP/1.1 has it; the stream keeps its place until the tunnel ends.
    async fn opened<R>(
        &self,
        mut response: Response<Incoming>,
        stream: Stream,
        endpoint: &InUse,
        accept: Option<HeaderValue>,
    ) -> Attempt<R> {
        let socket = match http2::opened(&mut response).await {
            Ok(socket) => socket,
            Err(failed) => return Attempt::Over(Refusal::Upstream(failed)),
        };
        let fields = response.headers_mut();
        fields.insert(UPGRADE, HeaderValue::from_static(websocket::PROTOCOL));
        if let Some(accept) = accept {
            fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        let (status, headers) = (StatusCode::SWITCHING_PROTOCOLS, Fields::from(&*fields));
        let rest = Rest::Tunnel(Box::new(Opened { socket, early: Bytes::new(), place: Some(Box::new(stream)) }));
        Attempt::Arrived(Arrived { status, headers, rest, endpoint: Rc::clone(&endpoint.authority) })
    }

    /// What a broken exchange means: the client's fault, the upstream's, or nobody's and the request may go elsewhere.
    fn broken<R>(&self, broken: Broken, request: Option<R>, may_be_repeated: bool, endpoint: InUse) -> Attempt<R> {
        let over = |failed: Failed| {
            // What the client gave too little time for says nothing of the endpoint.
            if failed.step != Step::Deadline {
                self.target.judge(&endpoint, false);
            }
            Attempt::Over(Refusal::Upstream(failed))
        };
        match (self.upload.as_ref().map(|upload| upload.stage()), broken, request) {
            (Some(Stage::TooLarge), ..) => Attempt::Over(Refusal::BodyTooLarge),
            (Some(Stage::MessageTooLarge), ..) => Attempt::Over(Refusal::MessageTooLarge),
            (Some(Stage::BrokenOff), ..) => Attempt::Over(Refusal::ClientLeft),
            (Some(Stage::Malformed), ..) => Attempt::Over(Refusal::Ambiguous(Ambiguous::Body)),
            (_, Broken::Late(Stage::OwedByClient), _) => Attempt::Over(Refusal::BodyTimeout),
            (_, Broken::Late(Stage::OwedByUpstream), _) => over(Failed::at(Step::SendTimeout)),
            (_, Broken::Late(_), _) => over(Failed::at(Step::ResponseTimeout)),
            (_, Broken::Deadline, _) => over(Failed::at(Step::Deadline)),
            (_, Broken::Unsent(why), Some(request)) => Attempt::Again(request, Failed::because(Step::Closed, why), endpoint),
            (_, Broken::GivenUp(step, why), Some(request)) => Attempt::Again(request, Failed::because(step, why), endpoint),
            (_, Broken::Silent(why), Some(request)) if may_be_repeated => {
                Attempt::Again(request, Failed::because(Step::Closed, why), endpoint)
            }
            // It was told that its client says nothing more, and took that for the client's leave: not so a kept connection, above,
            // which may have ended before it was told anything.
            (_, Broken::Unsent(_) | Broken::Silent(_), _) if self.from.has_ended() => Attempt::Over(Refusal::ClientLeft),
            (_, Broken::Unsent(why) | Broken::Silent(why), _) => over(Failed::because(Step::Closed, why)),
            (_, Broken::GivenUp(step, why), None) => over(Failed::because(step, why)),
            (_, Broken::Incomplete(why), _) => over(Failed::because(Step::HeadClosed, why)),
            (_, Broken::Failed(why), _) => over(Failed::because(Step::Protocol, why)),
        }
    }
}
