//! Serve: runs an HTTP engine on a connection and gives each request to `request::serve`.
//!
//! Cost: per request on a kept connection; the engine's own. One task per connection, and with HTTP/2 one per stream.
//! A panic while a request is served ends that request with a 500; one in the engine ends the connection. Both are counted.

use super::accept::Accepted;
use super::protocol::{self, Protocol};
use super::stream::Outlet;
use super::{Downstream, extended, handshake, http1, http2, proxy_header};
use crate::problem::{Code, Form, Problem};
use crate::request;
use crate::request::body::{Body, Reply};
use crate::request::respond::Response;
use crate::tls::Door;
use crate::worker::Worker;
use bulkhead_config::snapshot::{Alpn, Scheme};
use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use tokio::net::TcpStream;

/// Takes a connection on.
pub fn begin(worker: &Rc<Worker>, accepted: Accepted<TcpStream>) {
    let Accepted { stream, peer, entrance, presence } = accepted;
    let policy = worker.policy();
    let head_timeout = policy.snapshot.platform().bounds().head_timeout;
    let door = policy.tls.door(&entrance);
    let scheme = if matches!(door, Door::Plain) { Scheme::Http } else { Scheme::Https };
    let from = Rc::new(Downstream::new(entrance, (peer, scheme), presence, worker.deadline(), head_timeout));
    worker.enter(&from);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if caught(pin!(run(&worker, &from, door, stream))).await.is_err() {
            worker.panicked(&from.peer().to_string());
        }
        drop(from);
        worker.leave();
    });
}

async fn run(worker: &Rc<Worker>, from: &Rc<Downstream>, door: Door, stream: TcpStream) {
    let Ok(()) = proxy_header::take(worker, from, &stream).await else { return };
    // Boxed: it is large, and gone before the first request.
    let Some(mut socket) = Box::pin(handshake::run(worker, from, door, stream)).await else { return };
    if socket.alpn() == Some(Alpn::H2.as_str().as_bytes()) {
        return http2::run(worker, from, socket, Bytes::new()).await;
    }
    // Over TLS, HTTP/2 must be agreed on (RFC 9113 section 3.2); where nothing was, the first bytes tell as they do in the clear.
    let is_agreed = socket.alpn().is_some();
    match from.in_time(protocol::detect(&mut socket, worker.buffers())).await {
        Some(Ok((Protocol::Http2, first))) if !is_agreed => http2::run(worker, from, socket, first.freeze()).await,
        Some(Ok((_, first))) => http1::run(worker, from, socket, first).await,
        Some(Err(_)) | None => {}
    }
}

/// Serves one request of an engine; its panic is answered.
pub(super) async fn answer(
    worker: Rc<Worker>,
    from: Rc<Downstream>,
    outlet: Option<Rc<Outlet>>,
    mut request: Request<Incoming>,
) -> Result<http::Response<Reply>, Infallible> {
    let socket = extended::asked(&mut request, &worker);
    let (head, incoming) = request.into_parts();
    let body = if incoming.is_end_stream() { Body::Nothing } else { Body::Http2(incoming) };
    let served = async { request::serve(&worker, &from, request::begin(&worker, &from, head.into(), body)).await };
    let served = caught(pin!(served)).await;
    let answer = served.unwrap_or_else(|Panicked| {
        worker.panicked(&from.peer().to_string());
        Response::unrecorded(Problem::of(Code::InternalError).answer(Form::Json))
    });
    let answer = match socket {
        Some(asked) => extended::answer(asked, answer, &worker, &from),
        None => answer,
    };
    let answer = answer.into_http();
    Ok(match outlet {
        Some(outlet) => answer.map(|reply| reply.through(outlet)),
        None => answer,
    })
}

/// A future panicked.
pub(super) struct Panicked;

/// Polls a future, catching a panic of it. By reference: a future handed over by value has its place twice.
pub(super) async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a function's future takes; the type is enough, so none is made.
    fn future<'a, F: Future>(_: impl Fn(&'a Rc<Worker>, &'a Rc<Downstream>, Door, TcpStream) -> F) -> usize {
        size_of::<F>()
    }

    /// It is held by every idle connection. Most of it is the place of the request being served, which would otherwise be allocated
    /// with each; what only a handshake or a tunnel needs is boxed.
    #[test]
    fn a_connection_takes_at_most_4000_bytes() {
        let size = future(run);
        assert!(size <= 4_000, "{size} bytes: what is held while a connection is idle has grown");
    }
}
