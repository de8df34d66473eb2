//! HTTP/2 with a client, one connection.
//!
//! Cost: per stream; the engine's own, and one task.
//! Limits against hostile clients stand here, in `flood` (frames that cost without end) and in `stream` (answers nobody takes).

use super::flood::{Fault, Guard};
use super::framed::Framed;
use super::limits::REQUESTS_MAX;
use super::serve::answer;
use super::stream::Streams;
use super::{Downstream, Phase};
use crate::deadline::Deadline;
use crate::socket::Socket;
use crate::worker::Worker;
use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Streams one connection may have open; 100 is the least that RFC 9113 section 6.5.2 recommends. What one client can have us hold
/// of answers it does not take is a multiple of it.
const STREAMS_MAX: u32 = 128;
/// Streams a client may open and reset before we have looked at them (rapid reset, CVE-2023-44487); those reset later are
/// counted by `flood`.
const RESETS_PENDING_MAX: usize = 20;
/// Streams we may have to reset for errors of the client before the connection ends (MadeYouReset, CVE-2025-8671).
const RESETS_LOCAL_MAX: usize = 256;
/// Bytes a stream, and all streams of a connection, may be ahead of us.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a stream's answer that wait here for its client.
const SEND_BUFFER: usize = 64 << 10;

/// Serves a connection from which `first` was read already.
pub async fn run(worker: &Rc<Worker>, from: &Rc<Downstream>, socket: Socket, first: Bytes) {
    from.is_http2.set(true);
    let bounds = *worker.policy().snapshot.platform().bounds();
    let streams = Streams::new(Rc::clone(worker.wheel()));
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_LOCAL_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let framed = Framed::guarded(socket, first, Guard::default(), Rc::clone(worker.wheel()));
    // Boxed where it is made: the engine moves it three times before it runs, and it is as large as what a request may need.
    let service = service_fn(|request| Box::pin(answer(Rc::clone(worker), Rc::clone(from), Some(streams.open()), request)));
    let mut engine = pin!(builder.serve_connection(framed.clone(), service));
    let owed = Owed::new(worker.deadline(), bounds.head_timeout);
    let mut is_told = false;
    poll_fn(|cx| {
        if from.is_closing() && !is_told {
            is_told = true;
            engine.as_mut().graceful_shutdown();
        }
        if engine.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Poll::Ready(fault) = owed.poll_fault(from, &framed, cx) {
            framed.end(fault, cx);
            return Poll::Ready(());
        }
        if !is_told && framed.guard(|guard| guard.last_stream()).is_some_and(|last| last / 2 >= REQUESTS_MAX) {
            from.close_soon();
        }
        // With one request there is nobody to wait for.
        let is_sent = framed.poll_gathered(from.in_flight.get() > 0, cx);
        from.went(is_sent.is_ready() || !framed.is_blocked());
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
    if let Some(fault) = framed.fault() {
        worker.cells().flooded(fault.label());
    }
}

/// What a client owes us before anything else: to accept our settings, and to end a head that it has begun.
struct Owed {
    deadline: Deadline,
    within: Duration,
    is_armed: std::cell::Cell<bool>,
}

impl Owed {
    fn new(deadline: Deadline, within: Duration) -> Self {
        deadline.arm(within);
        Self { deadline, within, is_armed: std::cell::Cell::new(true) }
    }

    /// Ready when it is owed for too long, or too many of one source owe it.
    fn poll_fault(&self, from: &Downstream, framed: &Framed, cx: &mut Context<'_>) -> Poll<Fault> {
        let (is_accepted, is_within_head) = framed.guard(|guard| (guard.is_accepted(), guard.is_within_head())).unwrap_or((true, false));
        if is_accepted && from.phase() == Phase::Head {
            // A client may connect long before it has something to ask.
            from.enter(Phase::Idle);
        }
        if from.account().is_err() {
            return Poll::Ready(Fault::TooMany);
        }
        let owes = !is_accepted || is_within_head;
        if self.is_armed.replace(owes) != owes {
            if owes { self.deadline.arm(self.within) } else { self.deadline.disarm() }
        }
        if owes { self.deadline.poll(cx).map(|_| Fault::Late) } else { Poll::Pending }
    }
}
