//! Framed: the socket under an HTTP/2 engine. What comes is counted, what goes is gathered.
//!
//! Cost: per read; one system call, and nine bytes of each frame looked at. Per write; a copy of what is small, and a share of a
//! system call: the engine writes every answer apart (1.0 writes for each), while streams that are ready in the same turn of the
//! worker can go in one. The buffer is taken when there is something to write and given back when it went.
//! The engine is told that what it wrote is out as soon as it lies here; whoever drives the engine calls [`Framed::poll_gathered`]
//! after each turn of it, so nothing stays. More than the buffer holds goes to the socket at once, and if that is full the engine
//! waits: back-pressure is what it was.
//! The only `unsafe` besides `io`: the engine hands over memory that nobody has written yet, and clearing it before every read
//! would cost more than the read of a small request.

use super::flood::{Fault, Guard};
use crate::deadline::Wheel;
use crate::socket::Socket;
use bytes::{Buf as _, Bytes, BytesMut};
use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

/// Bytes gathered before they go. A full DATA frame does not fit, so that large bodies are not copied.
const GATHERED_MAX: usize = 16 << 10;
/// What the buffer is taken with: a few small answers.
const GATHERED_FIRST: usize = 4 << 10;
/// GOAWAY (RFC 9113 section 6.8): a payload of eight bytes on stream 0.
const GOAWAY_HEAD: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];

/// A socket under an HTTP/2 engine; clones are the same socket, one for the engine and one for whoever drives it.
#[derive(Debug, Clone)]
pub struct Framed(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    socket: Socket,
    /// Bytes read before the engine was chosen.
    first: Bytes,
    gathered: BytesMut,
    /// The streams that were ready had their turn since something was gathered.
    had_turn: bool,
    /// What the engine wrote so far ends with a frame.
    is_between_frames: bool,
    /// The system takes nothing at present.
    is_blocked: bool,
    is_broken: bool,
    guard: Option<(Guard, Rc<Wheel>)>,
    fault: Option<Fault>,
}

impl Framed {
    /// A client's socket, from which `first` was read already, watched by `guard`.
    #[must_use]
    pub fn guarded(socket: Socket, first: Bytes, guard: Guard, wheel: Rc<Wheel>) -> Self {
        Self::new(socket, first, Some((guard, wheel)))
    }

    /// An upstream's socket: whom the operator chose is not counted.
    #[must_use]
    pub fn trusted(socket: Socket) -> Self {
        Self::new(socket, Bytes::new(), None)
    }

    fn new(socket: Socket, first: Bytes, guard: Option<(Guard, Rc<Wheel>)>) -> Self {
        let gathered = BytesMut::new();
        Self(Rc::new(RefCell::new(State {
            socket,
            first,
            gathered,
            had_turn: false,
            is_between_frames: true,
            is_blocked: false,
            is_broken: false,
            guard,
            fault: None,
        })))
    }

    /// Sends what was gathered; to be called after each turn of the engine. If `others_run`, tasks that are ready now run before,
    /// and the engine has another turn to take what they have to say.
    pub fn poll_gathered(&self, others_run: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.gathered.is_empty() {
            return Poll::Ready(());
        }
        if others_run && !std::mem::replace(&mut state.had_turn, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if ready!(state.poll_send(cx)).is_err() {
            // The engine is told with its next write; what the peer said before can still be read.
            state.is_broken = true;
            state.gathered = BytesMut::new();
        }
        Poll::Ready(())
    }

    /// Whether the peer takes nothing at present.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.state().is_blocked
    }

    /// What the guard thinks of the client.
    pub fn guard<T>(&self, ask: impl FnOnce(&Guard) -> T) -> Option<T> {
        self.state().guard.as_ref().map(|(guard, _)| ask(guard))
    }

    /// Why the connection is ended by us, if it is.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.state().fault
    }

    /// Ends the connection: its last word is GOAWAY, unless the engine stopped in the midst of a frame.
    pub fn end(&self, fault: Fault, cx: &mut Context<'_>) {
        self.state().end(fault, cx);
    }

    fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }
}

impl State {
    /// Hands all that was gathered to the system.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let sent = Pin::new(&mut self.socket).poll_write(cx, &self.gathered);
            let sent = ready!(self.noticed(sent))?;
            self.gathered.advance(sent);
        }
        self.gathered = BytesMut::new();
        self.had_turn = false;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Hands what was gathered to the system, and behind it as much of `more` as it takes.
    fn poll_send_with(&mut self, more: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let pieces = [IoSlice::new(&self.gathered), IoSlice::new(more)];
            let sent = Pin::new(&mut self.socket).poll_write_vectored(cx, &pieces);
            let sent = ready!(self.noticed(sent))?;
            let of_gathered = sent.min(self.gathered.len());
            self.gathered.advance(of_gathered);
            if sent > of_gathered {
                self.gathered = BytesMut::new();
                self.had_turn = false;
                return Poll::Ready(Ok(sent - of_gathered));
            }
        }
    }

    /// What a write came to, noted.
    fn noticed(&mut self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_blocked = sent.is_pending();
        match sent {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(bytes)) => {
                if let Some((guard, _)) = &mut self.guard {
                    guard.went(bytes);
                }
                Poll::Ready(Ok(bytes))
            }
            other => other,
        }
    }

    /// Bytes came in: the engine gets them, unless they are one too many.
    fn check(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let Some((guard, wheel)) = &mut self.guard else { return Ok(()) };
        match guard.came(bytes, wheel.turn()) {
            Ok(()) => Ok(()),
            Err(fault) => {
                self.end(fault, cx);
                Err(io::Error::other(fault.label()))
            }
        }
    }

    fn end(&mut self, fault: Fault, cx: &mut Context<'_>) {
        self.fault = Some(fault);
        if self.is_between_frames {
            let last_stream = self.guard.as_ref().map_or(0, |(guard, _)| guard.last_stream());
            self.gathered.extend_from_slice(&GOAWAY_HEAD);
            self.gathered.extend_from_slice(&last_stream.to_be_bytes());
            self.gathered.extend_from_slice(&fault.error_code().to_be_bytes());
        }
        // Once: nobody waits for who does not take it.
        if self.poll_send(cx).is_ready() {
            let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
        }
    }
}

impl hyper::rt::Read for Framed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: hyper::rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        let state = &mut *state;
        if !state.first.is_empty() {
            let length = state.first.len().min(buf.remaining());
            let first = state.first.split_to(length);
            state.check(&first, cx)?;
            buf.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        #[expect(unsafe_code, reason = "tokio and hyper name uninitialised memory by two types")]
        {
            // SAFETY: the slice goes into a `ReadBuf`, which only writes to it, so nothing initialised becomes uninitialised.
            let mut target = ReadBuf::uninit(unsafe { buf.as_mut() });
            ready!(Pin::new(&mut state.socket).poll_read(cx, &mut target))?;
            state.check(target.filled(), cx)?;
            let read = target.filled().len();
            // SAFETY: `filled` of a `ReadBuf` is initialised, and it began at the cursor.
            unsafe { buf.advance(read) };
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Framed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.is_between_frames = false;
        if state.gathered.len() + buf.len() > GATHERED_MAX {
            return state.poll_send_with(buf, cx);
        }
        if state.gathered.is_empty() {
            state.gathered.reserve(buf.len().max(GATHERED_FIRST));
        }
        state.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// The engine calls it when the frames it has begun are written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().is_between_frames = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.socket).poll_shutdown(cx)
    }
}
