//! HTTP/2 with a client, one connection.
//!
//! Cost: per stream; the engine's own, and one task.

use super::io::Io;
use super::serve::answer;
use super::stream::Streams;
use super::{Downstream, Phase};
use crate::socket::Socket;
use crate::worker::Worker;
use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Streams one connection may have open.
const STREAMS_MAX: u32 = 200;
/// Streams a client may open and reset before we have looked at them (rapid reset, CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 20;
/// Streams we may have to reset for errors of the client before the connection ends.
const RESETS_LOCAL_MAX: usize = 256;
/// Bytes a stream, and all streams of a connection, may be ahead of us.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Serves a connection from which `first` was read already.
pub async fn run(worker: &Rc<Worker>, from: &Rc<Downstream>, socket: Socket, first: Bytes) {
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
    let io = Io::new(socket, first, Rc::clone(from));
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
