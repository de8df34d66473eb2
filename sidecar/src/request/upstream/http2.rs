//! HTTP/2 to the upstream (prior knowledge): connections that their requests share.
//!
//! Cost: per request; the engine's own, and a copy of the head. A connection is driven by a task of its own on the same worker,
//! and its writes are gathered as those towards clients are.

use super::endpoint::InUse;
use super::exchange::{Broken, Waits};
use super::gone::Gone;
use super::replay::{Kept, Lent};
use super::send::Call;
use super::{Failed, Step};
use crate::connection::Downstream;
use crate::connection::framed::{Framed, drive};
use crate::deadline::{Deadline, Wheel};
use crate::request::body::Stage;
use crate::socket::Socket;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes of the header fields of an answer.
const ANSWER_HEAD_BYTES_MAX: u32 = 64 << 10;
/// Bytes one stream may be ahead of its reader.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes all streams together may be ahead.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of a request's body that wait here for its upstream.
const SEND_BUFFER: usize = 64 << 10;

/// One connection to an endpoint.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http2::SendRequest<Lent>,
    requests: Rc<RefCell<Taking>>,
    streams: Cell<usize>,
    is_used: Cell<bool>,
    is_retired: Cell<bool>,
    wheel: Rc<Wheel>,
    /// Turn of the wheel at which its last stream ended.
    idle_since: Cell<u64>,
}

/// The engine's half that takes requests. It alone knows what the server last said of its limits.
type Requests = http2::Connection<Framed, Lent, Tasks>;

/// Whether requests are taken.
#[derive(Debug)]
enum Taking {
    Open(Requests),
    /// No more. The half that took them is dropped, so that those which it was given and did not look at come back.
    Over {
        /// What its server said that is no HTTP/2, if that was the end.
        nonsense: Option<String>,
    },
}

impl Taking {
    fn open(&self) -> Option<&Requests> {
        match self {
            Taking::Open(requests) => Some(requests),
            Taking::Over { .. } => None,
        }
    }
}

/// A place among the streams of a connection, given back when dropped.
#[derive(Debug)]
pub struct Stream {
    connection: Rc<Connection>,
    /// Somebody used the connection before.
    was_used: bool,
}

impl Connection {
    /// Begins HTTP/2 over a fresh socket. The connection ends when nobody has it any more.
    ///
    /// For as long as `within` the server may take to say how many streams it takes: those beyond would be refused, and a request is
    /// sent again once only. One that says nothing is asked nevertheless.
    ///
    /// # Errors
    /// When the upstream does not speak it.
    pub(super) async fn begin(socket: Socket, deadline: &Deadline, within: Duration) -> Result<Rc<Self>, Failed> {
        let framed = Framed::trusted(socket);
        let mut builder = http2::Builder::new(Tasks { driven: Rc::new(Cell::new(Some(framed.clone()))) });
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(ANSWER_HEAD_BYTES_MAX)
            .max_send_buf_size(SEND_BUFFER);
        let (sender, requests) = builder.handshake(framed.clone()).await.map_err(|error| Failed::because(Step::Protocol, error))?;
        let requests = Rc::new(RefCell::new(Taking::Open(requests)));
        tokio::task::spawn_local(take_requests(Rc::clone(&requests)));
        let _ = deadline.limit(within, poll_fn(|cx| framed.poll_heard(cx))).await;
        let (streams, is_used, is_retired, idle_since) = (Cell::new(0), Cell::new(false), Cell::new(false), Cell::new(0));
        let wheel = Rc::clone(deadline.wheel());
        Ok(Rc::new(Self { sender, requests, streams, is_used, is_retired, wheel, idle_since }))
    }

    /// Whether new streams may begin on it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_retired.get() && !self.sender.is_closed()
    }

    /// Streams that can begin before others end; the server says how many it takes at once.
    pub(super) fn room(&self) -> usize {
        let most = self.requests.borrow().open().map_or(0, http2::Connection::current_max_send_streams);
        most.saturating_sub(self.streams.get())
    }

    /// Streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether nothing is on it, since a turn of the wheel before `oldest`.
    pub(super) fn is_idle_since(&self, oldest: u64) -> bool {
        self.streams.get() == 0 && self.is_used.get() && self.idle_since.get() < oldest
    }

    /// A place for a request.
    pub(super) fn stream(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream { connection: Rc::clone(self), was_used: self.is_used.replace(true) }
    }
}

/// Has a connection take requests until it ends or its server goes away (GOAWAY), and lets go of it then.
fn take_requests(requests: Rc<RefCell<Taking>>) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        let mut taking = requests.borrow_mut();
        let Taking::Open(open) = &mut *taking else { return Poll::Ready(()) };
        let ended = ready!(Pin::new(open).poll(cx));
        let nonsense = ended.err().filter(|error| cause(error) == Some(Cause::Nonsense)).map(|error| chain(&error));
        let open = std::mem::replace(&mut *taking, Taking::Over { nonsense });
        // Whose requests come back may look here.
        drop(taking);
        drop(open);
        Poll::Ready(())
    })
}

impl Stream {
    /// Whether the connection had served before: it may have ended without our knowing.
    pub(super) fn was_used(&self) -> bool {
        self.was_used
    }

    /// Whether its server takes WebSockets on streams (RFC 8441 section 3). It says so with its settings, which were waited for.
    pub(super) fn takes_websockets(&self) -> bool {
        self.connection.requests.borrow().open().is_some_and(http2::Connection::is_extended_connect_protocol_enabled)
    }

    /// Why its connection took no more requests, where its server spoke something else.
    fn nonsense(&self) -> Option<String> {
        match &*self.connection.requests.borrow() {
            Taking::Over { nonsense } => nonsense.clone(),
            Taking::Open(_) => None,
        }
    }

    /// The connection, which did not serve. If the server was silent, nobody begins on it any more: it may be dead, and only those
    /// who wait on it would find out.
    pub(super) fn give_up(&self, broken: &Broken) -> Rc<Connection> {
        if matches!(broken, Broken::Late(Stage::OwedByUpstream | Stage::Complete) | Broken::Silent(_)) {
            self.connection.is_retired.set(true);
        }
        Rc::clone(&self.connection)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get().saturating_sub(1));
        self.connection.idle_since.set(self.connection.wheel.turn());
    }
}

/// Spawns an engine's tasks onto its worker. The first is the one that reads and writes.
#[derive(Clone)]
struct Tasks {
    driven: Rc<Cell<Option<Framed>>>,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        match self.driven.take() {
            Some(framed) => drop(tokio::task::spawn_local(drive(task, framed))),
            None => drop(tokio::task::spawn_local(task)),
        }
    }
}

/// Sends `request` and waits for the head of its answer, at most until the call's time is over.
///
/// # Errors
/// Why there is none, with the request where it came back whole or its server says that it did nothing with it.
pub(super) async fn exchange(
    stream: &Stream,
    request: Request<Lent>,
    from: &Downstream,
    waits: &Waits<'_>,
    call: &Call,
) -> Result<Response<Incoming>, (Broken, Option<Request<Lent>>)> {
    let mut sender = stream.connection.sender.clone();
    let mut answer = pin!(sender.try_send_request(request));
    let mut gone = Gone::new(from);
    let answered = waits.until(|cx| match call.deadline.as_ref().map(|deadline| deadline.poll(cx)) {
        Some(Poll::Ready(_)) => Poll::Ready(None),
        _ => {
            let answered = answer.as_mut().poll(cx).map(Some);
            if answered.is_pending() {
                gone.ask(waits.deadline.wheel(), cx);
            }
            answered
        }
    });
    match answered.await {
        Ok(None) => Err((Broken::Deadline, None)),
        Ok(Some(Ok(response))) => Ok(response),
        Ok(Some(Err(mut error))) => {
            let unsent = error.take_message();
            let error = error.into_error();
            match unsent {
                Some(request) => {
                    let nonsense = stream.nonsense().map(|why| Broken::GivenUp(Step::Protocol, why));
                    Err((nonsense.unwrap_or_else(|| Broken::Unsent(chain(&error))), Some(request)))
                }
                None => Err(unanswered(&error, &call.kept)),
            }
        }
        Err(stage) => Err((Broken::Late(stage), None)),
    }
}

/// Why a request that was sent has no answer, and the request where its server says that it did nothing with it (RFC 9113 section
/// 8.7), or where it may be repeated for another reason.
fn unanswered(error: &hyper::Error, kept: &Kept) -> (Broken, Option<Request<Lent>>) {
    let why = chain(error);
    match cause(error) {
        Some(Cause::Reset(h2::Reason::REFUSED_STREAM)) => (Broken::GivenUp(Step::RefusedStream, why), kept.again()),
        Some(Cause::Reset(code)) => (Broken::GivenUp(Step::Reset, told(code, &why)), None),
        // The engine gives it to those streams only that came after the last one it names.
        Some(Cause::GoAway(code)) => (Broken::GivenUp(Step::GoAway, told(code, &why)), kept.again()),
        Some(Cause::Nonsense) => (Broken::Failed(why), None),
        None if error.is_parse() || error.is_user() => (Broken::Failed(why), None),
        None => (Broken::Silent(why), kept.again()),
    }
}

/// What a server did to end a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// RST_STREAM.
    Reset(h2::Reason),
    /// GOAWAY.
    GoAway(h2::Reason),
    /// Something that is no HTTP/2, or not in its order.
    Nonsense,
}

fn cause(error: &hyper::Error) -> Option<Cause> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    let code = error.reason()?;
    match (error.is_library(), error.is_remote(), error.is_go_away()) {
        (true, ..) => Some(Cause::Nonsense),
        (_, true, true) => Some(Cause::GoAway(code)),
        (_, true, false) => Some(Cause::Reset(code)),
        _ => None,
    }
}

/// With the code by its name in RFC 9113 section 7.
fn told(code: h2::Reason, why: &str) -> String {
    format!("{code:?}: {why}")
}

/// The stream that a WebSocket was opened on by this answer.
///
/// # Errors
/// When it was not: to CONNECT, any success but 200 means nothing.
pub(super) async fn opened(answer: &mut Response<Incoming>) -> Result<Socket, Failed> {
    if answer.status() != StatusCode::OK {
        return Err(Failed::because(Step::Protocol, format!("{} to a request for a WebSocket", answer.status())));
    }
    let stream = hyper::upgrade::on(answer).await.map_err(|error| Failed::because(Step::Protocol, error))?;
    Ok(Socket::Stream(Box::new(stream)))
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

/// Why an answer does not come to its end.
fn broken_off(error: &hyper::Error) -> Failed {
    let why = chain(error);
    match cause(error) {
        Some(Cause::Reset(code)) => Failed::because(Step::BodyReset, told(code, &why)),
        _ => Failed::because(Step::BodyClosed, why),
    }
}

/// The rest of an answer.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    _stream: Stream,
    _endpoint: InUse,
    idle: Deadline,
    idle_timeout: Duration,
    is_waiting: bool,
    /// When the client's time for all of it is over.
    deadline: Option<Deadline>,
}

impl Download {
    /// What comes after the head of an answer on `stream`, which may be silent for so long.
    pub(super) fn new(
        incoming: Incoming,
        (stream, endpoint): (Stream, InUse),
        (idle, idle_timeout): (Deadline, Duration),
        deadline: Option<Deadline>,
    ) -> Self {
        Self { incoming, _stream: stream, _endpoint: endpoint, idle, idle_timeout, is_waiting: false, deadline }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.is_waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| broken_off(&error))))
            }
            Poll::Pending => self.poll_late(cx).map(|step| Some(Err(Failed::at(step)))),
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.deadline.as_ref().is_some_and(|deadline| deadline.poll(cx).is_ready()) {
            return Poll::Ready(Step::Deadline);
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.idle.arm(self.idle_timeout);
        }
        self.idle.poll(cx).map(|_| Step::BodyTimeout)
    }

    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
