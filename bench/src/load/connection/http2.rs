//! One HTTP/2 connection of the load, driven by events of its socket: `h2` has the protocol, and no runtime is needed for it.
//!
//! Cost: per request; a stream of `h2`. Of many streams only those that something came for are looked at.

use super::transport::Transport;
use super::{ANSWER_MAX, After, Ended, Lost};
use crate::load::answer::{Answer, Status, Whose};
use crate::load::plan::Request;
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::HeaderMap;
use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Windows wide enough for the load never to be what holds an answer back.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A connection with as many slots as it may have streams at once.
pub(crate) struct Http2 {
    stage: Stage,
    slots: Vec<Slot>,
    awake: Arc<Awake>,
    waker: Waker,
    end: Rc<End>,
}

/// What is known of the end of a connection and not told by the errors that streams have from it.
#[derive(Default)]
struct End {
    /// Why its socket failed: `h2` says no more than that it did.
    socket: Cell<Option<Lost>>,
    /// The server takes no more streams.
    is_near: Cell<bool>,
}

type Opened = Result<(SendRequest<Bytes>, Connection<Socket, Bytes>), h2::Error>;

enum Stage {
    /// TCP and TLS come first.
    Shaking(Socket),
    Greeting(Pin<Box<dyn Future<Output = Opened>>>),
    Open(SendRequest<Bytes>, Box<Connection<Socket, Bytes>>),
    Over,
}

struct Slot {
    exchange: Option<Exchange>,
    awake: Arc<Awake>,
    waker: Waker,
}

/// A request and how far it is.
struct Exchange {
    request: Rc<Request>,
    part: Part,
}

enum Part {
    Unsent,
    Head(ResponseFuture),
    Body(Box<Coming>),
}

/// An answer whose head is there.
struct Coming {
    status: u16,
    whose: Whose,
    grpc: Option<Status>,
    stream: RecvStream,
    /// Its bytes, where a field of them is to be read.
    content: Vec<u8>,
    bytes: usize,
}

impl Http2 {
    pub(super) fn over(transport: Transport, streams: usize) -> Self {
        let (awake, waker) = Awake::pair();
        let end = Rc::<End>::default();
        let slot = || {
            let (awake, waker) = Awake::pair();
            Slot { exchange: None, awake, waker }
        };
        let slots = std::iter::repeat_with(slot).take(streams).collect();
        Self { stage: Stage::Shaking(Socket { transport, end: Rc::clone(&end) }), slots, awake, waker, end }
    }

    pub(super) fn ask(&mut self, slot: usize, request: Rc<Request>) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.exchange = Some(Exchange { request, part: Part::Unsent });
            slot.awake.set();
        }
    }

    /// The stream is reset, and others go on.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.exchange = None;
        }
    }

    pub(super) fn advance(&mut self, ended: &mut Ended) -> After {
        self.awake.set();
        while self.awake.take() {
            let driven = self.drive();
            // Before the end is told: an answer may have come whole in front of it.
            self.hear(ended);
            match driven {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => return self.over_by(Lost::Closed, ended),
                Err(lost) => return self.over_by(lost, ended),
            }
        }
        if self.end.is_near.get() { After::Retires } else { After::Stays }
    }

    /// Moves bytes between the socket and the streams. Ready: the connection has ended.
    fn drive(&mut self) -> Result<Poll<()>, Lost> {
        loop {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Shaking(mut socket) => match socket.shake()? {
                    true => Stage::Greeting(Box::pin(builder().handshake(socket))),
                    false => {
                        self.stage = Stage::Shaking(socket);
                        return Ok(Poll::Pending);
                    }
                },
                Stage::Greeting(mut greeting) => match greeting.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                    Poll::Ready(Ok((ask, connection))) => Stage::Open(ask, Box::new(connection)),
                    Poll::Ready(Err(error)) => return Err(self.end.lost(&error)),
                    Poll::Pending => {
                        self.stage = Stage::Greeting(greeting);
                        return Ok(Poll::Pending);
                    }
                },
                Stage::Open(ask, mut connection) => {
                    let driven = Pin::new(&mut *connection).poll(&mut Context::from_waker(&self.waker));
                    self.stage = Stage::Open(ask, connection);
                    return match driven {
                        Poll::Pending => Ok(Poll::Pending),
                        Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
                        Poll::Ready(Err(error)) => Err(self.end.lost(&error)),
                    };
                }
                Stage::Over => return Ok(Poll::Ready(())),
            };
        }
    }

    /// Looks at the streams for which something came, and sends what is not sent yet.
    fn hear(&mut self, ended: &mut Ended) {
        let Stage::Open(ask, _) = &self.stage else { return };
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !slot.awake.take() {
                continue;
            }
            let Some(exchange) = &mut slot.exchange else { continue };
            match exchange.poll(ask, &mut Context::from_waker(&slot.waker), &self.end) {
                Poll::Pending => {}
                Poll::Ready(outcome) => {
                    ended.push((index, outcome));
                    slot.exchange = None;
                }
            }
            // What a stream has to say, or to give back of its window, the connection has to write.
            self.awake.set();
        }
    }

    fn over_by(&mut self, lost: Lost, ended: &mut Ended) -> After {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.exchange.take().is_some() {
                ended.push((index, Err(lost)));
            }
        }
        self.stage = Stage::Over;
        After::Over
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // No stream before the server has said how many it takes: those above would be refused, and that would be our fault.
    builder.enable_push(false).initial_max_send_streams(0);
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

impl Exchange {
    fn poll(&mut self, ask: &SendRequest<Bytes>, context: &mut Context<'_>, end: &End) -> Poll<Result<Answer, Lost>> {
        let lost = |error: h2::Error| end.lost(&error);
        loop {
            match &mut self.part {
                // A handle of its own: one alone would refuse the next request while the server's limit of streams is reached.
                Part::Unsent => self.part = Part::Head(send(&mut ask.clone(), &self.request).map_err(lost)?),
                Part::Head(head) => {
                    let answer = ready!(Pin::new(head).poll(context)).map_err(lost)?;
                    self.part = Part::Body(Box::new(Coming::of(&self.request, answer)));
                }
                Part::Body(coming) => return coming.poll(&self.request, context).map_err(|error| error.map_or(Lost::Malformed, lost)),
            }
        }
    }
}

fn send(ask: &mut SendRequest<Bytes>, request: &Request) -> Result<ResponseFuture, h2::Error> {
    let (head, mut body) = ask.send_request(request.parts.clone(), request.body.is_empty())?;
    if !request.body.is_empty() {
        body.send_data(request.body.clone(), true)?;
    }
    Ok(head)
}

impl Coming {
    fn of(request: &Request, answer: http::Response<RecvStream>) -> Self {
        let (head, stream) = answer.into_parts();
        let (whose, grpc) = (told(request, &head.headers), grpc_status(&head.headers));
        Self { status: head.status.as_u16(), whose, grpc, stream, content: Vec::new(), bytes: 0 }
    }

    /// The answer, once it is whole. An error that is none of `h2`: what came is no answer.
    fn poll(&mut self, request: &Request, context: &mut Context<'_>) -> Poll<Result<Answer, Option<h2::Error>>> {
        while let Some(chunk) = ready!(self.stream.poll_data(context)) {
            let chunk = chunk.map_err(Some)?;
            self.bytes += chunk.len();
            if self.bytes > ANSWER_MAX {
                return Poll::Ready(Err(None));
            }
            self.stream.flow_control().release_capacity(chunk.len()).map_err(Some)?;
            if request.names.as_ref().is_some_and(|names| names.reads_body()) {
                self.content.extend_from_slice(&chunk);
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context)).map_err(Some)?.unwrap_or_default();
        Poll::Ready(self.whole(request, &trailers).ok_or(None))
    }

    fn whole(&mut self, request: &Request, trailers: &HeaderMap) -> Option<Answer> {
        let in_body = request.names.as_ref().map_or(Whose::Unsaid, |names| names.in_body(&request.asked_for, &self.content));
        let whose = std::mem::replace(&mut self.whose, Whose::Unsaid).and(in_body).and(told(request, trailers));
        let status = match (request.grpc, self.status) {
            // A call without its outcome is no answer (the gRPC protocol over HTTP/2, "Responses").
            (true, 200) => self.grpc.or_else(|| grpc_status(trailers))?,
            (_, status) => Status::Http(status),
        };
        Some(Answer { status, whose })
    }
}

fn told(request: &Request, headers: &HeaderMap) -> Whose {
    let Some(names) = &request.names else { return Whose::Unsaid };
    names.in_headers(&request.asked_for, headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

fn grpc_status(headers: &HeaderMap) -> Option<Status> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok().map(Status::Grpc)
}

impl End {
    /// What an error of `h2` makes of a request.
    fn lost(&self, error: &h2::Error) -> Lost {
        self.is_near.set(self.is_near.get() || error.is_go_away());
        match error.reason() {
            // Only a server that goes away in peace says of which requests it knows; what it took and dropped fails otherwise.
            Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Lost::Refused,
            Some(Reason::REFUSED_STREAM) if error.is_remote() => Lost::Refused,
            Some(_) if error.is_remote() => Lost::Reset,
            None if error.is_io() => self.socket.get().unwrap_or(Lost::Closed),
            _ => Lost::Malformed,
        }
    }
}

/// Whether something happened since one last looked.
struct Awake(AtomicBool);

impl Awake {
    fn pair() -> (Arc<Self>, Waker) {
        let awake = Arc::new(Self(AtomicBool::new(false)));
        (Arc::clone(&awake), awake.into())
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

/// The transport as `h2` wants it. Nobody is woken: whoever has the socket's events asks again.
struct Socket {
    transport: Transport,
    end: Rc<End>,
}

impl Socket {
    fn shake(&mut self) -> Result<bool, Lost> {
        let done = self.transport.shake().map_err(|cause| self.transport.lost(&cause))?;
        // A server that took TLS and not HTTP/2 would read the preface as HTTP/1.1.
        if done && self.transport.agreed().is_some_and(|agreed| agreed != b"h2") { Err(Lost::Malformed) } else { Ok(done) }
    }

    fn polled<T>(&self, done: io::Result<T>) -> Poll<io::Result<T>> {
        match done {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(cause) => {
                self.end.socket.set(Some(self.transport.lost(&cause)));
                Poll::Ready(Err(cause))
            }
            done => Poll::Ready(done),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.transport.read(into.initialize_unfilled());
        let bytes = ready!(self.polled(read))?;
        into.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.transport.write(bytes);
        self.polled(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.transport.flush();
        self.polled(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket is closed when it is dropped.
        Poll::Ready(Ok(()))
    }
}
