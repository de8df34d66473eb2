//! Tunnel: bytes both ways after a change of protocols (WebSocket and the like), until both sides have said all.
//!
//! Cost: per piece; a read and a write, through one buffer of the worker. A silent tunnel holds no buffer; one whose peer does
//! not take what it is sent holds that one piece and reads no more, so that the sender meets the same resistance.
//! The end of one side is passed on to the other, and the other direction goes on. Silence is no fault of a tunnel; a peer that
//! vanished is noticed by TCP keep-alive.
//! When what the request rested on is gone, the tunnel ends: a WebSocket with a frame that says so, where one fits between two
//! frames of the peer, anything else without a word. A drain says goodbye to WebSockets and leaves the rest to its deadline.

pub(crate) mod frames;

use crate::connection::Downstream;
use crate::deadline::Deadline;
use crate::request::record::Record;
use crate::request::upstream;
use crate::socket::Socket;
use bytes::{Buf as _, Bytes, BytesMut};
use frames::Frames;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

/// Silence after which the system asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// A tunnel of which one side has said all, or takes nothing of what it is sent, may stand still for so long.
const STANDSTILL: Duration = Duration::from_secs(300);
/// For the last words of a tunnel that is ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Statuses of RFC 6455 section 7.4.1: the endpoint goes away; a policy forbids it.
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// The upstream's half of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Socket,
    /// Its place where the upstream's half is a stream among others.
    place: Option<Box<upstream::Stream>>,
    /// What it said already.
    early: Bytes,
    speaks: Speaks,
    /// The request that opened it; holds its place among those in flight.
    record: Box<Record>,
}

/// What goes through a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Frames, between which a word of ours fits.
    WebSocket,
    /// Bytes that mean nothing to us.
    Other,
}

impl Speaks {
    /// By the `Upgrade` of the answer.
    #[must_use]
    pub fn of(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(protocol) if protocol.eq_ignore_ascii_case(b"websocket") => Speaks::WebSocket,
            _ => Speaks::Other,
        }
    }
}

impl Tunnel {
    /// The way to an upstream that said `early` already.
    #[must_use]
    pub fn new((upstream, place): (Socket, Option<Box<upstream::Stream>>), early: Bytes, speaks: Speaks, record: Box<Record>) -> Self {
        Self { upstream, place, early, speaks, record }
    }
}

/// Moves bytes until both sides have ended. `early` is what the client said already.
pub async fn run(client: Socket, early: Bytes, tunnel: Tunnel) {
    let Tunnel { upstream, place: _place, early: answer, speaks, mut record } = tunnel;
    for socket in [&client, &upstream] {
        // Without it a vanished peer is noticed later.
        if let Some(tcp) = socket.tcp() {
            let _ = socket2::SockRef::from(tcp).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEP_ALIVE));
        }
    }
    record.lasts();
    let (from, deadline) = (Rc::clone(record.from()), record.worker().deadline());
    let (up, down) = (Flow::new(early, speaks), Flow::new(answer, speaks));
    let mut relay = Relay { from: &from, deadline, record: &mut record, client, upstream, up, down, end: End::None, moved: 0 };
    poll_fn(|cx| relay.poll(cx)).await;
    let (up, down) = (relay.up.moved, relay.down.moved);
    record.tunnelled(up, down);
}

/// Why a tunnel ends although neither side has ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    /// The process does; the client may answer.
    Drain,
    /// Its request would be refused now.
    Revoked,
}

/// Both ways of a tunnel.
struct Relay<'a> {
    from: &'a Rc<Downstream>,
    /// Its own: a connection may have several tunnels, and streams that are none.
    deadline: Deadline,
    record: &'a mut Box<Record>,
    client: Socket,
    upstream: Socket,
    up: Flow,
    down: Flow,
    end: End,
    /// Bytes that had moved when it was last looked whether it stands still.
    moved: u64,
}

impl Relay<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_to_be_cut(cx) {
            return Poll::Ready(());
        }
        match self.poll_flows(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.poll_late(cx),
        }
    }

    /// Heeds who ends it. Whether that is at once, for want of words.
    fn is_to_be_cut(&mut self, cx: &mut Context<'_>) -> bool {
        if self.end != End::Revoked && self.record.poll_ended(cx).is_ready() {
            self.end = End::Revoked;
            self.deadline.arm(LAST_WORDS);
            let reason = self.record.why_ended().unwrap_or_default();
            let mask = self.record.worker().random().span().to_be_bytes();
            let [a, b, c, d, ..] = mask;
            self.down.part(frames::close(POLICY, reason, None), Stage::Last);
            self.up.part(frames::close(POLICY, reason, Some([a, b, c, d])), Stage::Last);
            // What the client sends on is nobody's to read, also where it is in the middle of a frame.
            self.up.stop();
        } else if self.end == End::None && self.from.poll_closing(cx).is_ready() {
            self.end = End::Drain;
            self.down.part(frames::close(GOING_AWAY, "the service goes away", None), Stage::Muted);
        }
        self.end == End::Revoked && self.down.frames.is_none()
    }

    fn poll_flows(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = self.record.worker().scratch();
        // An upstream that reads no more may still have something to say; a client that cannot be reached ends everything.
        let up = match self.up.poll(&mut self.client, &mut self.upstream, &mut buffer, cx) {
            Poll::Ready(Err(Broken::Source)) => return Poll::Ready(()),
            Poll::Ready(Ok(()) | Err(Broken::Target)) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        };
        let down = self.down.poll(&mut self.upstream, &mut self.client, &mut buffer, cx);
        match (up, down) {
            (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            // Closing a socket with unread bytes resets it, and a reset would overtake the last words.
            (Poll::Ready(()), Poll::Ready(Ok(()))) if self.end == End::Revoked => discard(&mut self.client, &mut buffer, cx),
            (Poll::Ready(()), Poll::Ready(Ok(()))) => Poll::Ready(()),
            // A client that closed has nothing more to say, and may wait for us to go first (RFC 6455 section 7.1.1).
            (Poll::Pending, Poll::Ready(Ok(()))) if self.up.has_closed() => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Only who owes something can be late.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moved = self.up.moved + self.down.moved;
        let is_owed = self.up.is_owed() || self.down.is_owed();
        match self.end {
            End::Revoked => {}
            _ if !is_owed => {
                self.deadline.disarm();
                self.moved = u64::MAX;
            }
            _ if moved != self.moved => {
                self.deadline.arm(STANDSTILL);
                self.moved = moved;
            }
            _ => {}
        }
        self.deadline.poll(cx).map(|_| ())
    }
}

/// Which side broke.
enum Broken {
    Source,
    Target,
}

/// Where one direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Moving,
    /// What comes is thrown away: the target was told that nothing more follows.
    Muted,
    /// Nothing more is read; what waits goes out, and then the end.
    Last,
    Over,
}

/// One direction of a tunnel.
struct Flow {
    /// What was read and the target has not yet taken.
    waiting: Bytes,
    moved: u64,
    stage: Stage,
    frames: Option<Frames>,
    /// Last words, and what comes after them, until they fit.
    parting: Option<(Bytes, Stage)>,
}

impl Flow {
    fn new(first: Bytes, speaks: Speaks) -> Self {
        let mut frames = match speaks {
            Speaks::WebSocket => Some(Frames::default()),
            Speaks::Other => None,
        };
        if let Some(frames) = &mut frames {
            frames.pass(&first);
        }
        Self { waiting: first, moved: 0, stage: Stage::Moving, frames, parting: None }
    }

    /// Says `words` between two frames, as soon as there is such a place; `then` follows.
    fn part(&mut self, words: Bytes, then: Stage) {
        if self.frames.is_some() && self.stage != Stage::Over {
            self.parting = Some((words, then));
            self.part_if_it_fits();
        }
    }

    fn part_if_it_fits(&mut self) {
        let Some(frames) = self.frames.as_ref().filter(|frames| frames.is_between()) else { return };
        let Some((words, then)) = self.parting.take() else { return };
        if self.stage == Stage::Moving && !frames.has_closed() {
            let mut all = BytesMut::from(&*self.waiting);
            all.extend_from_slice(&words);
            self.waiting = all.freeze();
        }
        self.stage = then;
    }

    /// Reads no more.
    fn stop(&mut self) {
        self.parting = None;
        if self.stage != Stage::Over {
            self.stage = Stage::Last;
        }
    }

    /// Whether its last frame has gone by.
    fn has_closed(&self) -> bool {
        self.waiting.is_empty() && self.frames.as_ref().is_some_and(|frames| frames.has_closed() && frames.is_between())
    }

    /// Whether it stands still by the fault of a peer, or only to be polite to one.
    fn is_owed(&self) -> bool {
        !self.waiting.is_empty() || self.stage != Stage::Moving
    }

    /// Moves what comes; `Ready` once the end was passed on.
    fn poll(&mut self, source: &mut Socket, target: &mut Socket, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let ended = ready!(self.poll_until_end(source, target, buffer, cx));
        self.stage = Stage::Over;
        self.waiting = Bytes::new();
        Poll::Ready(ended)
    }

    fn poll_until_end(
        &mut self,
        source: &mut Socket,
        target: &mut Socket,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while self.stage != Stage::Over {
            while !self.waiting.is_empty() {
                let length = ready!(write(target, &self.waiting, cx))?;
                self.waiting.advance(length);
                self.moved += length as u64;
            }
            // Not an empty view of it: that would hold its buffer.
            self.waiting = Bytes::new();
            if self.stage == Stage::Last {
                return Pin::new(target).poll_shutdown(cx).map_err(|_| Broken::Target);
            }
            ready!(Pin::new(&mut *target).poll_flush(cx)).map_err(|_| Broken::Target)?;
            ready!(source.poll_readable(cx)).map_err(|_| Broken::Source)?;
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *source).poll_read(cx, &mut read)).map_err(|_| Broken::Source)?;
            match (read.filled(), self.stage) {
                ([], _) => self.stage = Stage::Last,
                (_, Stage::Muted) => {}
                (read, _) => self.take(read, target, cx)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the target what it takes now, and keeps the rest.
    fn take(&mut self, read: &[u8], target: &mut Socket, cx: &mut Context<'_>) -> Result<(), Broken> {
        if let Some(frames) = &mut self.frames {
            frames.pass(read);
        }
        let length = match write(target, read, cx) {
            Poll::Ready(length) => length?,
            Poll::Pending => 0,
        };
        self.moved += length as u64;
        self.waiting = Bytes::copy_from_slice(read.get(length..).unwrap_or_default());
        self.part_if_it_fits();
        Ok(())
    }
}

/// A socket that takes nothing of something will take nothing ever.
fn write(target: &mut Socket, bytes: &[u8], cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
    match ready!(Pin::new(target).poll_write(cx, bytes)) {
        Ok(0) | Err(_) => Poll::Ready(Err(Broken::Target)),
        Ok(length) => Poll::Ready(Ok(length)),
    }
}

/// Reads to the end without looking.
fn discard(socket: &mut Socket, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let mut read = ReadBuf::new(buffer);
        let went: io::Result<()> = ready!(Pin::new(&mut *socket).poll_read(cx, &mut read));
        if went.is_err() || read.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}
