//! Framed: the socket under an HTTP/2 engine. What comes is counted, what goes is gathered.
//!
//! Cost: per read; one system call, and nine bytes of each frame looked at. Per write; a copy of what is small, and a share of a
//! system call: the engine writes every answer apart (1.0 writes for each), while streams that are ready in the same turn of the
//! worker can go in one. The buffer is taken when there is something to write and given back when it went.
//! The engine is told that what it wrote is out as soon as it lies here; whoever drives the engine calls [`Framed::poll_gathered`]
//! after each turn of it, so nothing stays. More than the buffer holds goes to the socket at once, and if that is full the engine
//! waits: back-pressure is what it was.
//! The only `unsafe` of this crate: the engine hands over memory that nobody has written yet, and clearing it before every read
//! would cost more than the read of a small request.

use super::flood::{Fault, Guard};
use crate::deadline::Wheel;
use crate::socket::Socket;
use bytes::{Buf as _, Bytes, BytesMut};
use std::cell::{RefCell, RefMut};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
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
    /// What was written may still be with TLS, which has a buffer of its own: its last bytes too are the client's to take.
    is_unflushed: bool,
    is_broken: bool,
    guard: Option<(Guard, Rc<Wheel>)>,
    fault: Option<Fault>,
    heard: Heard,
}

/// Whether the peer has said anything.
#[derive(Debug)]
enum Heard {
    NotYet(Option<Waker>),
    Something,
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
            is_unflushed: false,
            is_broken: false,
            guard,
            fault: None,
            heard: Heard::NotYet(None),
        })))
    }

    /// Sends what was gathered; to be called after each turn of the engine. If `others_run`, tasks that are ready now run before,
    /// and the engine has another turn to take what they have to say.
    pub fn poll_gathered(&self, others_run: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.gathered.is_empty() && !state.is_unflushed {
            return Poll::Ready(());
        }
        if others_run && !state.gathered.is_empty() && !std::mem::replace(&mut state.had_turn, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if ready!(state.poll_send(cx)).is_err() {
            // The engine is told with its next write; what the peer said before can still be read.
            state.is_broken = true;
            state.is_unflushed = false;
            state.gathered = BytesMut::new();
        }
        Poll::Ready(())
    }

    /// Whether the peer takes nothing at present.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let state = self.state();
        state.is_blocked || state.is_unflushed
    }

    /// Waits until the peer has said something, which begins with its settings.
    pub fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state().heard {
            Heard::Something => Poll::Ready(()),
            Heard::NotYet(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
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

/// Runs the task of an engine that nobody else has a word with, and sends what it gathered after each turn.
pub async fn drive(task: impl Future, framed: Framed) {
    let mut task = pin!(task);
    poll_fn(|cx| {
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // A peer that takes nothing is found out by the deadlines of those who wait for it.
        let _ = framed.poll_gathered(true, cx);
        Poll::Pending
    })
    .await;
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
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.is_unflushed = flushed.is_pending();
        flushed
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
                self.is_unflushed = true;
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
        if let Heard::NotYet(waker) = &mut self.heard {
            // Woken when the engine has read them.
            waker.take().into_iter().for_each(Waker::wake);
            self.heard = Heard::Something;
        }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use hyper::rt::{Read as _, Write as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0.into())
    }

    fn write(framed: &mut Framed, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(framed).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    fn gathered(framed: &Framed, others_run: bool) -> Poll<()> {
        framed.poll_gathered(others_run, &mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn what_is_small_goes_in_one_once_the_others_had_their_turn() {
        let (mut client, socket) = pair().await;
        let mut framed = Framed::trusted(socket);
        for _ in 0..3 {
            assert!(matches!(write(&mut framed, &[b'a'; 100]), Poll::Ready(Ok(100))));
        }
        assert!(gathered(&framed, true).is_pending());
        assert_eq!(client.try_read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(write(&mut framed, &[b'b'; 100]), Poll::Ready(Ok(100))));
        assert!(gathered(&framed, true).is_ready());
        let mut read = vec![0; 400];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [[b'a'; 300].as_slice(), [b'b'; 100].as_slice()].concat());
        assert_eq!(framed.state().gathered.capacity(), 0, "the buffer is given back");
    }

    #[tokio::test]
    async fn with_nobody_to_wait_for_it_goes_at_once() {
        let (mut client, socket) = pair().await;
        let mut framed = Framed::trusted(socket);
        assert!(matches!(write(&mut framed, b"alone"), Poll::Ready(Ok(5))));
        assert!(gathered(&framed, false).is_ready());
        let mut read = [0; 5];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"alone");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_stops_the_engine_and_no_byte_is_lost_or_changed() {
        let (mut client, socket) = pair().await;
        let mut framed = Framed::trusted(socket);
        let (mut sent, mut byte) = (Vec::new(), 0_u8);
        loop {
            byte = byte.wrapping_add(1);
            let piece = vec![byte; 1 + usize::from(byte) * 300];
            match write(&mut framed, &piece) {
                Poll::Ready(written) => sent.extend_from_slice(piece.get(..written.unwrap()).unwrap()),
                Poll::Pending => break,
            }
        }
        assert!(framed.is_blocked() && framed.state().gathered.len() <= GATHERED_MAX);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        poll_fn(|cx| Pin::new(&mut framed).poll_shutdown(cx)).await.unwrap();
        drop(framed);
        assert!(reader.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn a_client_that_sends_too_much_is_told_so_between_frames() {
        let (mut client, socket) = pair().await;
        let mut framed = Framed::guarded(socket, Bytes::new(), Guard::default(), Wheel::new());
        let headers = [0, 0, 0, 1, 4, 0, 0, 0, 1];
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&headers).await.unwrap();
        let read = poll_fn(|cx| {
            let mut memory = [std::mem::MaybeUninit::uninit(); 64];
            let mut buffer = hyper::rt::ReadBuf::uninit(&mut memory);
            Pin::new(&mut framed).poll_read(cx, buffer.unfilled())
        });
        assert_eq!(read.await.unwrap_err().to_string(), "no_settings");
        assert_eq!(framed.fault(), Some(Fault::NoSettings));
        let mut goaway = Vec::new();
        client.read_to_end(&mut goaway).await.unwrap();
        assert_eq!(goaway, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
