//! Wire: the bytes of one client's HTTP/1.1 connection, shared by who serves it and the body of the request being served.
//!
//! Cost: per request; nothing of its own. Both run on one worker, so a cell is all that keeps them apart.
//! An engine that sends the body on over HTTP/2 may hold it for longer than its request is served, so the body holds nothing of the
//! connection: it is told when that ends, or a client's socket would stay open for as long as an upstream's stream.

use super::limits::AHEAD_MAX;
use super::{CONTINUE, Downstream};
use crate::http1::chunks::{Chunks, Piece};
use crate::http1::lane::Lane;
use crate::http1::request::Framing;
use crate::request::body::Broken;
use crate::socket::Socket;
use crate::worker::{Departs, Departures};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

/// One connection.
#[derive(Debug)]
pub struct Wire {
    inner: RefCell<Inner>,
    from: Rc<Downstream>,
}

/// What a request's body has yet to bring.
#[derive(Debug)]
enum Coming {
    Nothing,
    Length(u64),
    Chunked(Chunks),
    /// It is none, or its client left.
    Broken,
}

#[derive(Debug)]
struct Inner {
    lane: Lane,
    coming: Coming,
    /// Which request is served; a body left over from an earlier one reads nothing.
    number: u64,
    /// The client sends its body once it is told to.
    expects_continue: bool,
    /// The client said that it sends nothing more.
    has_ended: bool,
    /// Who waits for more of a body.
    reader: Option<Waker>,
}

/// What became known of a client while its request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It sends nothing more, and may still listen.
    Ended,
    /// It is gone.
    Left,
}

impl Wire {
    /// A connection from which `input` was read already.
    #[must_use]
    pub fn new(socket: Socket, input: BytesMut, from: Rc<Downstream>) -> Rc<Self> {
        let (lane, coming) = (Lane::new(socket, input), Coming::Nothing);
        let inner = Inner { lane, coming, number: 0, expects_continue: false, has_ended: false, reader: None };
        Rc::new(Self { inner: RefCell::new(inner), from })
    }

    /// Acts on its bytes.
    pub fn with<T>(&self, act: impl FnOnce(&mut Lane) -> T) -> T {
        act(&mut self.inner.borrow_mut().lane)
    }

    /// What waits to be written goes out with the departures.
    pub fn leave(self: &Rc<Self>, cx: &Context<'_>, departures: &Departures) {
        if self.with(|lane| lane.leave(cx.waker())) {
            let this = Rc::downgrade(self);
            departures.add(this);
        }
    }

    /// The socket and what was read of it. Who still waits for more of a body finds that its client left.
    #[must_use]
    pub fn into_parts(self) -> (Socket, BytesMut) {
        let Inner { lane, reader, .. } = self.inner.into_inner();
        reader.into_iter().for_each(Waker::wake);
        (lane.socket, lane.input)
    }

    /// A request's head was taken; this is its body, if it has one.
    pub fn begin(self: &Rc<Self>, framing: Framing, expects_continue: bool) -> Option<Incoming> {
        let mut inner = self.inner.borrow_mut();
        inner.expects_continue = expects_continue;
        inner.number += 1;
        inner.coming = match framing {
            Framing::Nothing => return None,
            Framing::Length(length) => Coming::Length(length),
            Framing::Chunked => Coming::Chunked(Chunks::default()),
        };
        Some(Incoming { wire: Rc::downgrade(self), number: inner.number })
    }

    /// Whether the request's body was read to its end.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.inner.borrow().coming, Coming::Nothing)
    }

    /// Bytes of the request's body that are surely on their way, where their number is known.
    #[must_use]
    pub fn owed(&self) -> Option<u64> {
        let inner = self.inner.borrow();
        match inner.coming {
            Coming::Nothing => Some(0),
            Coming::Length(left) if !inner.expects_continue => Some(left),
            _ => None,
        }
    }

    /// The answer begins: a client that waited to be told to send its body has been told otherwise, and in the midst of an answer
    /// it would take the words for a part of it.
    pub fn answer(&self) {
        self.inner.borrow_mut().expects_continue = false;
    }

    /// Whether the client said that it sends nothing more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.inner.borrow().has_ended
    }

    /// The client sends nothing more.
    pub fn end(&self) {
        self.inner.borrow_mut().has_ended = true;
        self.from.ended();
    }

    /// Listens to the client while its request, whose body is read, is served. What it sends ahead is kept, within a bound.
    pub fn poll_client(&self, cx: &mut Context<'_>) -> Poll<Heard> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            if inner.has_ended || inner.lane.input.len() >= AHEAD_MAX || !matches!(inner.coming, Coming::Nothing) {
                return Poll::Pending;
            }
            // Its answer may take its time, and what its body needed is not needed for what it may still say.
            inner.lane.shrink();
            if ready!(inner.lane.socket.poll_readable(cx)).is_err() {
                return Poll::Ready(Heard::Left);
            }
            match ready!(inner.lane.poll_read(cx)) {
                Ok(0) => {
                    inner.has_ended = true;
                    self.from.ended();
                    return Poll::Ready(Heard::Ended);
                }
                Ok(_) => {}
                Err(_) => return Poll::Ready(Heard::Left),
            }
        }
    }

    /// Reads the rest of a body and throws it away; `Ready` at its end, or when there is none to find.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<()> {
        let number = self.inner.borrow().number;
        while let Some(Ok(_)) = ready!(self.poll_frame(number, cx)) {}
        Poll::Ready(())
    }

    fn poll_frame(&self, number: u64, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let inner = &mut *self.inner.borrow_mut();
        if number != inner.number {
            return Poll::Ready(Some(Err(Broken::Left)));
        }
        loop {
            match inner.take() {
                Ok(Taken::Piece(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Taken::End) => return Poll::Ready(None),
                Ok(Taken::Nothing) => {}
                Err(broken) => {
                    inner.coming = Coming::Broken;
                    return Poll::Ready(Some(Err(broken)));
                }
            }
            let Poll::Ready(read) = inner.poll_more(cx) else {
                match &mut inner.reader {
                    Some(known) => known.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            };
            if !matches!(read, Ok(1..)) {
                inner.coming = Coming::Broken;
                inner.has_ended = true;
                self.from.ended();
                return Poll::Ready(Some(Err(Broken::Left)));
            }
        }
    }
}

impl Departs for Wire {
    fn depart(&self) {
        self.with(Lane::depart);
    }
}

impl Inner {
    /// The next piece of what has been read.
    fn take(&mut self) -> Result<Taken, Broken> {
        match &mut self.coming {
            Coming::Nothing => Ok(Taken::End),
            Coming::Broken => Err(Broken::Left),
            Coming::Chunked(chunks) => Ok(match chunks.next(&mut self.lane.input).map_err(|_| Broken::Malformed)? {
                Piece::Incomplete => Taken::Nothing,
                Piece::Data(data) => Taken::Piece(Frame::data(data)),
                Piece::End(trailers) => {
                    self.coming = Coming::Nothing;
                    trailers.map_or(Taken::End, |trailers| Taken::Piece(Frame::trailers(trailers)))
                }
            }),
            Coming::Length(_) if self.lane.input.is_empty() => Ok(Taken::Nothing),
            Coming::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(self.lane.input.len());
                *left -= length as u64;
                let data = self.lane.input.split_to(length).freeze();
                if *left == 0 {
                    self.coming = Coming::Nothing;
                }
                Ok(Taken::Piece(Frame::data(data)))
            }
        }
    }

    /// Reads more of a body; whoever waits to be told so is told to send it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.expects_continue) && self.lane.input.is_empty() {
            self.lane.output.extend_from_slice(CONTINUE);
        }
        // What cannot go now goes in front of the answer.
        if !self.lane.is_flushed()
            && let Poll::Ready(Err(error)) = self.lane.poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        self.lane.poll_read(cx)
    }
}

/// What was taken out of what has been read.
enum Taken {
    Piece(Frame<Bytes>),
    /// More must be read.
    Nothing,
    End,
}

/// The body of the request being served.
#[derive(Debug)]
pub struct Incoming {
    wire: Weak<Wire>,
    number: u64,
}

impl Incoming {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.wire.upgrade().map_or(Poll::Ready(Some(Err(Broken::Left))), |wire| wire.poll_frame(self.number, cx))
    }

    /// Whether nothing more comes. A body whose connection is gone is not whole.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.wire.upgrade().is_some_and(|wire| wire.is_read())
    }

    /// How much comes, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.wire.upgrade()?.inner.borrow().coming {
            Coming::Nothing => Some(0),
            Coming::Length(left) => Some(left),
            Coming::Chunked(_) | Coming::Broken => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::connection::Entrance;
    use crate::connection::accept::Presence;
    use crate::deadline::Wheel;
    use bulkhead_config::snapshot::Scheme;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::{LocalSet, spawn_local, yield_now};

    async fn pair() -> (Rc<Wire>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let entrance = Entrance { service: "demo".parse().unwrap(), listener: "http".parse().unwrap() };
        let deadline = Wheel::new().take();
        let from = Downstream::new(entrance.into(), (peer, Scheme::Http), Presence::of_nobody(), deadline, Duration::from_secs(10));
        (Wire::new(socket.into(), BytesMut::new(), Rc::new(from)), client)
    }

    #[tokio::test]
    async fn a_body_ends_with_its_connection_whoever_still_waits_for_it() {
        let served = async {
            let (wire, _client) = pair().await;
            let mut body = wire.begin(Framing::Length(5), false).unwrap();
            let reader =
                spawn_local(async move { (poll_fn(|cx| body.poll_frame(cx)).await.unwrap().is_err(), body.is_over(), body.left()) });
            yield_now().await;
            let _socket = Rc::into_inner(wire).unwrap().into_parts();
            assert_eq!(reader.await.unwrap(), (true, false, None), "it is not whole");
        };
        tokio::time::timeout(Duration::from_secs(10), LocalSet::new().run_until(served)).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_has_its_answer_is_not_told_to_go_on() {
        for (is_answered, said) in [(false, CONTINUE), (true, b"")] {
            let (wire, mut client) = pair().await;
            let mut body = wire.begin(Framing::Length(5), true).unwrap();
            assert_eq!(wire.owed(), None);
            if is_answered {
                wire.answer();
            }
            let is_pending = poll_fn(|cx| Poll::Ready(body.poll_frame(cx).is_pending())).await;
            assert!(is_pending, "nothing was sent");
            drop((Rc::into_inner(wire), body));
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, said);
        }
    }
}
