//! Serve: runs an HTTP engine on a connection and gives each request to `request::serve`.
//!
//! Cost: per request on a kept connection; the engine's own. One task per connection, and with HTTP/2 one per stream.
//! A panic while a request is served ends that request with a 500; one in the engine ends the connection. Both are counted.

use super::accept::Accepted;
use super::io::Io;
use super::protocol::{self, Protocol};
use super::stream::{Outlet, Streams};
use super::{Downstream, Phase, tunnel};
use crate::problem::{Code, Form, Problem};
use crate::request;
use crate::request::body::{Body, Content, Reply};
use crate::worker::Worker;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes that may wait in an engine's buffers, at least; a larger head needs more.
const BUFFER_BYTES: usize = 64 << 10;
/// Streams one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 200;
/// Streams a client may open and reset before we have looked at them (rapid reset, CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 20;
/// Streams we may have to reset for errors of the client before the connection ends.
const RESETS_LOCAL_MAX: usize = 256;
/// Bytes a stream, and all streams of a connection, may be ahead of us.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// After our last word, what the client still sends is read so long and so much: closing a socket with unread bytes resets it,
/// and a reset overtakes the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 10;

/// Takes a connection on.
pub fn begin(worker: &Rc<Worker>, accepted: Accepted<TcpStream>) {
    let Accepted { stream, peer, entrance, presence } = accepted;
    let head_timeout = worker.policy().snapshot.platform().bounds().head_timeout;
    let from = Rc::new(Downstream::new(entrance, peer, presence, worker.deadline(), head_timeout));
    worker.enter(&from);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if caught(pin!(run(&worker, &from, stream))).await.is_err() {
            worker.panicked(&from.peer.to_string());
        }
        drop(from);
        worker.leave();
    });
}

async fn run(worker: &Rc<Worker>, from: &Rc<Downstream>, stream: TcpStream) {
    let detected = {
        let mut detected = pin!(protocol::detect(&stream));
        poll_fn(|cx| match detected.as_mut().poll(cx) {
            Poll::Ready(detected) => Poll::Ready(detected.ok()),
            Poll::Pending => from.poll_late(cx).map(|_| None),
        })
        .await
    };
    match detected {
        Some((Protocol::Http1, first)) => run_http1(worker, from, stream, first).await,
        Some((Protocol::Http2, first)) => run_http2(worker, from, stream, first).await,
        None => {}
    }
}

/// How an engine ended.
enum End {
    /// It is done, with or without an error of its own.
    Done,
    /// Nothing came, or nothing went, for too long.
    Late,
    /// The source has too many unfinished heads.
    TooMany,
}

async fn run_http1(worker: &Rc<Worker>, from: &Rc<Downstream>, stream: TcpStream, first: Bytes) {
    let bounds = *worker.policy().snapshot.platform().bounds();
    let head_bytes = usize::try_from(bounds.header_bytes_max).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    builder.max_header_size(head_bytes).max_buf_size(head_bytes.max(BUFFER_BYTES)).writev(false);
    // The engine's own limit is 100 and costs nothing; any other costs it an allocation per head.
    if bounds.headers_max != 100 {
        builder.max_headers(usize::try_from(bounds.headers_max).unwrap_or(usize::MAX));
    }
    let io = Io::new(stream, first, Rc::clone(from));
    let mut engine = builder.serve_connection(io, service_fn(|request| answer(Rc::clone(worker), Rc::clone(from), None, request)));
    let mut is_told = false;
    let end = poll_fn(|cx| {
        // While a request is served, this adds `Connection: close` to its answer. An idle engine would close at once, and
        // with it a request that is on its way; its grace is the deadline.
        if from.is_closing() && !is_told && from.phase() == Phase::Serving {
            is_told = true;
            Pin::new(&mut engine).graceful_shutdown();
        }
        if Pin::new(&mut engine).poll(cx).is_ready() {
            return Poll::Ready(End::Done);
        }
        if from.account().is_err() {
            return Poll::Ready(End::TooMany);
        }
        from.poll_late(cx).map(|_| End::Late)
    })
    .await;
    let parts = engine.into_parts();
    let (stream, _) = parts.io.into_parts();
    match &end {
        End::Late if from.phase() == Phase::Head && !from.is_closing() => from.refused.set(Some(Code::HeadTimeout)),
        End::TooMany => from.refused.set(Some(Code::Overloaded)),
        End::Late | End::Done => {}
    }
    if let Some(code) = from.refused.get() {
        worker.cells().refused(code.kind().slug);
    }
    match (end, from.tunnel.take()) {
        (End::Done, Some(tunnel)) => tunnel::run(stream, parts.read_buf, tunnel).await,
        (End::Done, None) => close(from, stream).await,
        (End::Late | End::TooMany, _) => {
            if let Some(code) = from.refused.get() {
                say(from, stream, &Problem::of(code)).await;
            }
        }
    }
}

async fn run_http2(worker: &Rc<Worker>, from: &Rc<Downstream>, stream: TcpStream, first: Bytes) {
    from.is_http2.set(true);
    let bounds = *worker.policy().snapshot.platform().bounds();
    let streams = Streams::new(Rc::clone(worker.wheel()));
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_LOCAL_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let io = Io::new(stream, first, Rc::clone(from));
    let mut engine =
        pin!(builder.serve_connection(io, service_fn(|request| answer(Rc::clone(worker), Rc::clone(from), Some(streams.open()), request))));
    let mut is_told = false;
    poll_fn(|cx| {
        if from.is_closing() && !is_told {
            is_told = true;
            engine.as_mut().graceful_shutdown();
        }
        if engine.as_mut().poll(cx).is_ready() || from.account().is_err() {
            return Poll::Ready(());
        }
        match from.poll_late(cx) {
            // Told to go; streams that run may end, silence may not last.
            Poll::Ready(_) if !is_told && from.phase() == Phase::Idle => {
                from.close_soon();
                Poll::Pending
            }
            late => late.map(|_| ()),
        }
    })
    .await;
}

/// Sends a last answer on a connection whose engine has none.
async fn say(from: &Downstream, mut stream: TcpStream, problem: &Problem) {
    if let Ok(Ok(())) = from.deadline.limit(LINGER, stream.write_all(&problem.raw())).await {
        linger(from, stream).await;
    }
}

/// Closes a socket so that the answer arrives.
async fn close(from: &Downstream, stream: TcpStream) {
    if from.left_unread.get() && !from.saw_end.get() {
        linger(from, stream).await;
    }
}

async fn linger(from: &Downstream, mut stream: TcpStream) {
    let drained = async {
        stream.shutdown().await?;
        let mut thrown_away = [0; 1_024];
        let mut total = 0;
        while total < LINGER_BYTES {
            match stream.read(&mut thrown_away).await? {
                0 => break,
                length => total += length,
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever comes of it, the socket is closed afterwards.
    let _ = from.deadline.limit(LINGER, drained).await;
}

/// Serves one request of an engine; its panic is answered.
async fn answer(
    worker: Rc<Worker>,
    from: Rc<Downstream>,
    outlet: Option<Rc<Outlet>>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let (head, incoming) = request.into_parts();
    let body = Body::new(incoming, Rc::clone(&from));
    let served = caught(pin!(request::serve(&worker, &from, head, body))).await;
    let answer = served.unwrap_or_else(|Panicked| {
        worker.panicked(&from.peer.to_string());
        Problem::of(Code::InternalError).answer(Form::Json).map(|text| Reply::unrecorded(Content::Own(text)))
    });
    Ok(match outlet {
        Some(outlet) => answer.map(|reply| reply.through(outlet)),
        None => answer,
    })
}

/// A future panicked.
struct Panicked;

/// Polls a future, catching a panic of it. By reference: a future handed over by value has its place twice.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}
