//! Send: one request to an endpoint that answers it, or to another one if nothing was lost.
//!
//! Cost: per request on a kept connection; its two system calls, and the engine's allocations. What is rare (connecting, HTTP/2,
//! a second attempt) is boxed, so that the future of every request stays small.

use super::http1::{self, Broken, Link, Waits, Whose};
use super::target::{InUse, Target};
use super::{Arrived, Download, Failed, Rest, Step, Wire, connect, http2};
use crate::deadline::Deadline;
use crate::request::Refusal;
use crate::request::body::{Progress, Stage, Upload};
use crate::worker::Worker;
use bulkhead_config::snapshot::{Bounds, Upstream};
use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::net::TcpStream;

/// One request on its way.
pub struct Sending<'a> {
    worker: &'a Worker,
    target: Rc<Target>,
    wire: Wire,
    /// The client may pause for so long within its body.
    client_pause: Duration,
    upload: Option<Rc<Progress>>,
    asks_for_upgrade: bool,
    /// Absent while it is with an engine.
    request: Option<Request<Upload>>,
}

/// Why an attempt brought no answer.
enum Missed {
    /// Nothing was lost: the request is here again, and may go elsewhere.
    Again(Failed, InUse),
    Over(Refusal),
}

/// Which connections an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Kept,
    Fresh,
}

impl<'a> Sending<'a> {
    /// A request for an upstream.
    #[must_use]
    pub fn new(worker: &'a Worker, upstream: &Arc<Upstream>, wire: Wire, bounds: &Bounds, request: Request<Upload>) -> Self {
        Self {
            worker,
            target: worker.target(upstream),
            wire,
            client_pause: bounds.body_idle_timeout,
            upload: request.body().progress(),
            asks_for_upgrade: request.headers().contains_key(UPGRADE),
            request: Some(request),
        }
    }

    /// Sends it and waits for the head of its answer.
    ///
    /// # Errors
    /// What failed, of the upstream or of the client.
    pub async fn answered(&mut self) -> Result<Arrived, Refusal> {
        let endpoint = self.target.choose(None).ok_or(Refusal::Upstream(Failed::at(Step::Resolve)))?;
        match self.attempt(endpoint, Use::Kept).await {
            Ok(arrived) => Ok(arrived),
            Err(Missed::Over(refusal)) => Err(refusal),
            Err(Missed::Again(failed, endpoint)) => Box::pin(self.again(failed, endpoint)).await,
        }
    }

    /// To another endpoint where there is one, and over a fresh connection: what else was kept may be as stale as the first.
    async fn again(&mut self, failed: Failed, endpoint: InUse) -> Result<Arrived, Refusal> {
        let next = self.target.choose(Some(&endpoint)).filter(|next| failed.may_pass_at(next, &endpoint));
        let Some(next) = next else { return Err(Refusal::Upstream(failed)) };
        drop(endpoint);
        self.attempt(next, Use::Fresh).await.map_err(|missed| match missed {
            Missed::Again(failed, _) => Refusal::Upstream(failed),
            Missed::Over(refusal) => refusal,
        })
    }

    async fn attempt(&mut self, endpoint: InUse, which: Use) -> Result<Arrived, Missed> {
        match self.wire {
            Wire::Http1 => self.over_http1(endpoint, which).await,
            Wire::Http2 => Box::pin(self.over_http2(endpoint)).await,
        }
    }

    async fn over_http1(&mut self, endpoint: InUse, which: Use) -> Result<Arrived, Missed> {
        let deadline = self.worker.deadline();
        let kept = if which == Use::Kept { endpoint.take_idle() } else { None };
        let mut link = match kept {
            Some(link) => link,
            None => match Box::pin(self.begin_http1(&endpoint, &deadline)).await {
                Ok(link) => link,
                Err(failed) => return Err(Missed::Again(failed, endpoint)),
            },
        };
        let request = self.take()?;
        let spare = if endpoint.may_be_stale(&link) { spare(&request) } else { None };
        let answered = {
            let answer = pin!(link.sender.try_send_request(request));
            let has_upload = self.upload.is_some();
            let drive = |cx: &mut Context<'_>| if has_upload { link.poll_with_body(cx) } else { link.poll(cx) };
            self.waits(&deadline).until(answer, drive, Whose::Drive).await
        };
        match answered {
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Box::pin(self.switched(response, link, endpoint, &deadline)).await
            }
            Ok(Ok(response)) => {
                let (head, incoming) = response.into_parts();
                let authority = Rc::clone(&endpoint.authority);
                let download =
                    http1::Download::new(incoming, link, self.upload.is_some(), endpoint, deadline, self.target.upstream.idle_timeout);
                Ok(Arrived { head, rest: Rest::Body(Download::Http1(download)), endpoint: authority })
            }
            Ok(Err(mut error)) => {
                let request = error.take_message();
                Err(self.broken(Broken::of(error.into_error(), request), spare, endpoint))
            }
            Err(stage) => Err(self.broken(Broken::Late(stage), None, endpoint)),
        }
    }

    async fn over_http2(&mut self, endpoint: InUse) -> Result<Arrived, Missed> {
        let deadline = self.worker.deadline();
        let sender = endpoint.shared(async || http2::begin(self.connect(&endpoint, &deadline).await?).await).await;
        let mut sender = match sender {
            Ok(sender) => sender,
            Err(failed) => return Err(Missed::Again(failed, endpoint)),
        };
        let answer = pin!(sender.try_send_request(self.take()?));
        match self.waits(&deadline).until(answer, |_| {}, Whose::Answer).await {
            Ok(Ok(response)) => {
                let (head, incoming) = response.into_parts();
                let authority = Rc::clone(&endpoint.authority);
                let download = http2::Download::new(incoming, endpoint, deadline, self.target.upstream.idle_timeout);
                Ok(Arrived { head, rest: Rest::Body(Download::Http2(download)), endpoint: authority })
            }
            Ok(Err(mut error)) => {
                let request = error.take_message();
                Err(self.broken(Broken::of(error.into_error(), request), None, endpoint))
            }
            Err(stage) => Err(self.broken(Broken::Late(stage), None, endpoint)),
        }
    }

    async fn begin_http1(&self, endpoint: &InUse, deadline: &Deadline) -> Result<Box<Link>, Failed> {
        Link::begin(self.connect(endpoint, deadline).await?).await
    }

    async fn connect(&self, endpoint: &InUse, deadline: &Deadline) -> Result<TcpStream, Failed> {
        let connected = connect::connect(self.worker, &self.target.upstream, &endpoint.endpoint, deadline).await;
        if connected.is_err() {
            endpoint.avoid();
        }
        connected
    }

    /// The request, for an engine. An attempt that gives it back has put it here again.
    fn take(&mut self) -> Result<Request<Upload>, Missed> {
        self.request.take().ok_or_else(|| Missed::Over(Refusal::Upstream(Failed::at(Step::Closed))))
    }

    fn waits<'d>(&self, deadline: &'d Deadline) -> Waits<'d> {
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
    async fn switched(
        &self,
        response: Response<Incoming>,
        link: Box<Link>,
        endpoint: InUse,
        deadline: &Deadline,
    ) -> Result<Arrived, Missed> {
        let over = |failed| Missed::Over(Refusal::Upstream(failed));
        if !self.asks_for_upgrade {
            return Err(over(Failed::because(Step::Protocol, "101 that nobody asked for")));
        }
        let (head, _) = response.into_parts();
        let (stream, early) = http1::take_over(link, deadline, self.target.upstream.response_timeout).await.map_err(over)?;
        Ok(Arrived { head, rest: Rest::Tunnel(stream, early), endpoint: Rc::clone(&endpoint.authority) })
    }

    /// What a broken exchange means: the client's fault, the upstream's, or nobody's and the request may go elsewhere.
    fn broken(&mut self, broken: Broken, spare: Option<Box<Request<Upload>>>, endpoint: InUse) -> Missed {
        let failed = |step| Missed::Over(Refusal::Upstream(Failed::at(step)));
        match (self.upload.as_ref().map(|upload| upload.stage()), broken) {
            (Some(Stage::TooLarge), _) => Missed::Over(Refusal::BodyTooLarge),
            (Some(Stage::BrokenOff), _) => Missed::Over(Refusal::ClientLeft),
            (_, Broken::Late(Stage::OwedByClient)) => Missed::Over(Refusal::BodyTimeout),
            (_, Broken::Late(Stage::OwedByUpstream)) => failed(Step::SendTimeout),
            (_, Broken::Late(_)) => failed(Step::ResponseTimeout),
            (_, Broken::Unsent(request, error)) => {
                self.request = Some(*request);
                Missed::Again(Failed::because(Step::Closed, chain(&error)), endpoint)
            }
            (_, Broken::Silent(error)) => {
                let failed = Failed::because(Step::Closed, chain(&error));
                let Some(spare) = spare else { return Missed::Over(Refusal::Upstream(failed)) };
                self.request = Some(*spare);
                Missed::Again(failed, endpoint)
            }
            (_, Broken::Failed(error)) => Missed::Over(Refusal::Upstream(Failed::because(Step::Protocol, chain(&error)))),
        }
    }
}

/// A copy of a request that may be sent twice: without a body, and of a method that means the same twice.
fn spare(request: &Request<Upload>) -> Option<Box<Request<Upload>>> {
    if !matches!(request.body(), Upload::Nothing) || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(Upload::Nothing);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    *copy.version_mut() = request.version();
    Some(Box::new(copy))
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
