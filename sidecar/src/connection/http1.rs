//! HTTP/1.1 with a client, one connection.
//!
//! Cost: per request; the engine's own.

use super::io::Io;
use super::serve::answer;
use super::{Downstream, Phase, tunnel};
use crate::problem::{Code, Problem};
use crate::socket::Socket;
use crate::worker::Worker;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes that may wait in an engine's buffers, at least; a larger head needs more.
const BUFFER_BYTES: usize = 64 << 10;
/// After our last word, what the client still sends is read so long and so much: closing a socket with unread bytes resets it,
/// and a reset overtakes the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 10;

/// How an engine ended.
enum End {
    /// It is done, with or without an error of its own.
    Done,
    /// Nothing came, or nothing went, for too long.
    Late,
    /// The source has too many unfinished heads.
    TooMany,
}

/// Serves a connection from which `first` was read already.
pub async fn run(worker: &Rc<Worker>, from: &Rc<Downstream>, socket: Socket, first: Bytes) {
    let bounds = *worker.policy().snapshot.platform().bounds();
    let head_bytes = usize::try_from(bounds.header_bytes_max).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    builder.max_header_size(head_bytes).max_buf_size(head_bytes.max(BUFFER_BYTES)).writev(false);
    // The engine's own limit is 100 and costs nothing; any other costs it an allocation per head.
    if bounds.headers_max != 100 {
        builder.max_headers(usize::try_from(bounds.headers_max).unwrap_or(usize::MAX));
    }
    let io = Io::new(socket, first, Rc::clone(from));
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
    let (socket, _) = parts.io.into_parts();
    match &end {
        End::Late if from.phase() == Phase::Head && !from.is_closing() => from.refused.set(Some(Code::HeadTimeout)),
        End::TooMany => from.refused.set(Some(Code::Overloaded)),
        End::Late | End::Done => {}
    }
    if let Some(code) = from.refused.get() {
        worker.cells().refused(code.kind().slug);
    }
    match (end, from.tunnel.take()) {
        (End::Done, Some(tunnel)) => tunnel::run(socket, parts.read_buf, tunnel).await,
        (End::Done, None) => close(from, socket).await,
        (End::Late | End::TooMany, _) => {
            if let Some(code) = from.refused.get() {
                say(from, socket, &Problem::of(code)).await;
            }
        }
    }
}

/// Sends a last answer on a connection whose engine has none.
async fn say(from: &Downstream, mut socket: Socket, problem: &Problem) {
    if let Ok(Ok(())) = from.deadline.limit(LINGER, socket.write_all(&problem.raw())).await {
        linger(from, socket).await;
    }
}

/// Closes a socket so that the answer arrives.
async fn close(from: &Downstream, socket: Socket) {
    if from.left_unread.get() && !from.saw_end.get() {
        linger(from, socket).await;
    }
}

async fn linger(from: &Downstream, mut socket: Socket) {
    let drained = async {
        socket.shutdown().await?;
        let mut thrown_away = [0; 1_024];
        let mut total = 0;
        while total < LINGER_BYTES {
            match socket.read(&mut thrown_away).await? {
                0 => break,
                length => total += length,
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever comes of it, the socket is closed afterwards.
    let _ = from.deadline.limit(LINGER, drained).await;
}
