//! HTTP/2 to the upstream (prior knowledge): one connection per endpoint and worker, shared by all its requests.
//!
//! Cost: per request; the engine's own. The connection is driven by a task of its own on the same worker.

use super::exchange::{Broken, Waits};
use super::target::InUse;
use super::{Failed, Step};
use crate::connection::io::{Io, Unwatched};
use crate::deadline::Deadline;
use crate::request::body::Upload;
use crate::socket::Socket;
use crate::worker::OnThisThread;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes of the header fields of an answer.
const ANSWER_HEAD_BYTES_MAX: u32 = 64 << 10;
/// Bytes one stream may be ahead of its reader.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes all streams together may be ahead.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What requests are sent with; clones share the connection.
pub(super) type Sender = http2::SendRequest<Upload>;

/// Begins HTTP/2 over a fresh socket. The connection ends when its last sender does.
///
/// # Errors
/// When the upstream does not speak it.
pub(super) async fn begin(socket: Socket) -> Result<Sender, Failed> {
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(ANSWER_HEAD_BYTES_MAX);
    let io = Io::new(socket, Bytes::new(), Unwatched);
    let (sender, connection) = builder.handshake(io).await.map_err(|error| Failed::because(Step::Protocol, error))?;
    // Its requests learn of its end by themselves.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

/// Sends `request` and waits for the head of its answer.
///
/// # Errors
/// Why there is none, with the request where it came back whole.
pub(super) async fn exchange(
    mut sender: Sender,
    request: Box<Request<Upload>>,
    waits: &Waits<'_>,
) -> Result<Response<Incoming>, (Broken, Option<Box<Request<Upload>>>)> {
    let mut answer = pin!(sender.try_send_request(*request));
    match waits.until(|cx| answer.as_mut().poll(cx)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(mut error)) => {
            let request = error.take_message().map(Box::new);
            let error = error.into_error();
            let why = chain(&error);
            let broken = match request {
                Some(_) => Broken::Unsent(why),
                None if error.is_parse() || error.is_user() => Broken::Failed(why),
                None => Broken::Silent(why),
            };
            Err((broken, request))
        }
        Err(stage) => Err((Broken::Late(stage), None)),
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

/// The rest of an answer.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    _endpoint: InUse,
    deadline: Deadline,
    idle_timeout: Duration,
    is_waiting: bool,
}

impl Download {
    /// What comes after the head.
    pub fn new(incoming: Incoming, endpoint: InUse, deadline: Deadline, idle_timeout: Duration) -> Self {
        Self { incoming, _endpoint: endpoint, deadline, idle_timeout, is_waiting: false }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.is_waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Failed::because(Step::BodyClosed, error))))
            }
            Poll::Pending => {
                if !self.is_waiting {
                    self.is_waiting = true;
                    self.deadline.arm(self.idle_timeout);
                }
                self.deadline.poll(cx).map(|_| Some(Err(Failed::at(Step::BodyTimeout))))
            }
        }
    }

    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
