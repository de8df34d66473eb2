//! HTTP/1.1 with a client: requests of one connection, each read, served and answered before the next.
//!
//! Cost: per request; one read and one write where head and body fit into them. No task is spawned, no buffer is held in between.
//! A client that says it sends nothing more may still listen (RFC 9112 section 9.6): its answer goes out, and the upstream is told
//! as the client told us. One that is gone ends its request.

use super::limits::{LINGER, LINGER_BYTES, REQUESTS_MAX, REST_MAX};
use super::wire::{Heard, Wire};
use super::{Downstream, Phase, tunnel};
use crate::fields::{Fields, Name};
use crate::http1::lane::Lane;
use crate::http1::request::{Bounds, Head, Reader, Unreadable};
use crate::http1::write::{self, Framing};
use crate::problem::{Code, Form, Problem};
use crate::request::body::{Body, Reply};
use crate::request::respond::Response;
use crate::request::{self, Begun};
use crate::socket::Socket;
use crate::worker::{Departures, Worker};
use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body as _;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Serves a connection from which `input` was read already.
pub async fn run(worker: &Rc<Worker>, from: &Rc<Downstream>, socket: Socket, input: BytesMut) {
    let wire = Wire::new(socket, input, Rc::clone(from));
    let bounds = *worker.policy().snapshot.platform().bounds();
    let whole = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let bounds = Bounds { bytes: whole(bounds.header_bytes_max), fields: whole(u64::from(bounds.headers_max)) };
    let mut client = Client { worker, from, wire: &wire, bounds, reader: Reader::default(), fields: Fields::default(), is_silent: false };
    let end = client.serve().await;
    // Behind an answer that was cut nothing may be said: it would be read as the rest of it.
    let end = if client.flush().await || matches!(end, End::CutOff) { end } else { End::Gone };
    let has_ended = wire.has_ended();
    // Nobody else holds it for longer than a poll.
    let Some(wire) = Rc::into_inner(wire) else { return };
    let (mut socket, input) = wire.into_parts();
    match end {
        End::Gone => {}
        End::Unread if !has_ended => linger(from, socket).await,
        End::Done | End::Unread => finish(from, &mut socket).await,
        End::CutOff => reset(&socket),
        End::Tunnel => {
            if let Some(tunnel) = from.tunnel.take() {
                tunnel::run(socket, input.freeze(), tunnel).await;
            }
        }
        End::Refused(problem) => {
            worker.cells().refused(problem.code().kind().slug);
            say(from, socket, &problem).await;
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// The client left, or took nothing for too long.
    Gone,
    /// With the last answer.
    Done,
    /// With an answer, and the client may still be sending.
    Unread,
    /// In an answer whose end only the end of the connection tells: it must not look whole.
    CutOff,
    /// As HTTP; other bytes follow.
    Tunnel,
    /// With a head that is none.
    Refused(Box<Problem>),
}

/// A connection being served.
struct Client<'a> {
    worker: &'a Rc<Worker>,
    from: &'a Rc<Downstream>,
    wire: &'a Rc<Wire>,
    bounds: Bounds,
    reader: Reader,
    /// Used for the fields of each message in turn.
    fields: Fields,
    /// It was answered, and nobody has looked for more.
    is_silent: bool,
}

/// What an answer must know of its request.
#[derive(Clone, Copy)]
struct Asked {
    is_head: bool,
    version: Version,
    keeps: bool,
    /// What follows it is the next request, if anything does.
    is_all: bool,
}

impl Client<'_> {
    async fn serve(&mut self) -> End {
        for number in 1.. {
            let (asked, begun) = match poll_fn(|cx| self.poll_request(cx, number)).await {
                Ok(request) => request,
                Err(end) => return end,
            };
            let answer = match begun {
                Some(begun) => self.answer(begun).await,
                None => Some(self.panicked()),
            };
            let Some(answer) = answer else { return End::Gone };
            match self.send(answer, asked).await {
                Ok(true) if self.wire.is_read() || self.has_read_rest().await => {}
                Ok(_) if asked.is_all && self.has_nothing_left() => return End::Done,
                Ok(_) => return End::Unread,
                Err(end) => return end,
            }
        }
        End::Done
    }

    /// Waits for a head and begins its request; nothing is begun where that panics. In one step: a head is large, and a future that
    /// brought it would have it moved from hand to hand.
    fn poll_request(&mut self, cx: &mut Context<'_>, number: u32) -> Poll<Result<(Asked, Option<Begun>), End>> {
        let Head { received, framing, keeps, expects_continue } = match ready!(self.poll_head(cx)) {
            Ok(head) => head,
            Err(end) => return Poll::Ready(Err(end)),
        };
        let asked = Asked {
            is_head: received.method == Method::HEAD,
            version: received.version,
            keeps: keeps && number < REQUESTS_MAX,
            // Nobody knows what follows a head whose framing is refused, or one that asks for a tunnel.
            is_all: received.fault.is_none() && received.method != Method::CONNECT,
        };
        self.from.may_be_informed(received.version == Version::HTTP_11);
        let body = self.wire.begin(framing, expects_continue).map_or(Body::Nothing, Body::Http1);
        let begun = catch_unwind(AssertUnwindSafe(|| request::begin(self.worker, self.from, received, body)));
        Poll::Ready(Ok((asked, begun.ok())))
    }

    /// Waits for a head. No buffer is held until there is something to put into it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, End>> {
        loop {
            match self.take_head() {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(unreadable) => return Poll::Ready(Err(End::Refused(Box::new(problem(unreadable))))),
            }
            if self.wire.with(|lane| lane.is_stuck()) {
                match self.wire.with(|lane| lane.poll_flush(cx)) {
                    Poll::Ready(Ok(())) => self.from.went(true),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                    Poll::Pending => {
                        self.from.went(false);
                        return self.from.poll_late(cx).map(|_| Err(End::Gone));
                    }
                }
            }
            if self.from.account().is_err() {
                return Poll::Ready(Err(End::Refused(Box::new(Problem::of(Code::Overloaded)))));
            }
            if self.wire.has_ended() {
                return Poll::Ready(Err(End::Gone));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => self.from.came(),
                Poll::Ready(Ok(0)) => self.wire.end(),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => return self.from.poll_late(cx).map(|_| Err(self.late())),
            }
        }
    }

    fn take_head(&mut self) -> Result<Option<Head>, Unreadable> {
        let Self { wire, reader, fields, bounds, .. } = self;
        wire.with(|lane| {
            if lane.input.is_empty() {
                return Ok(None);
            }
            // It may be there already, sent ahead.
            self.from.came();
            reader.head(&mut lane.input, fields, *bounds)
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let is_silent = std::mem::replace(&mut self.is_silent, false);
        let rest = |lane: &mut Lane| {
            if lane.input.is_empty() && lane.input.capacity() > 0 {
                self.worker.buffers().give_back(std::mem::take(&mut lane.input));
                lane.shrink();
            }
        };
        self.wire.with(|lane| {
            // Behind an answer most clients are silent for a while, and asking costs less than trying; who is woken need not ask.
            if is_silent && lane.socket.poll_readable(cx)?.is_pending() {
                rest(lane);
                return Poll::Pending;
            }
            if lane.input.capacity() == 0 {
                lane.input = self.worker.buffers().take();
            }
            let read = lane.poll_read(cx);
            if read.is_pending() {
                rest(lane);
            }
            read
        })
    }

    /// Nothing came for too long.
    fn late(&self) -> End {
        if self.from.phase() == Phase::Head && !self.from.is_closing() && !self.wire.with(|lane| lane.input.is_empty()) {
            End::Refused(Box::new(Problem::of(Code::HeadTimeout)))
        } else {
            End::Done
        }
    }

    /// The answer to a request; none if its client left before.
    async fn answer(&self, begun: Begun) -> Option<Response> {
        let mut serving = pin!(request::serve(self.worker, self.from, begun));
        poll_fn(|cx| {
            loop {
                match catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(cx))) {
                    Ok(Poll::Ready(answer)) => {
                        self.wire.with(|lane| self.from.tell(&mut lane.output));
                        return Poll::Ready(Some(answer));
                    }
                    Ok(Poll::Pending) if self.wire.with(|lane| self.from.tell(&mut lane.output)) => {
                        self.wire.leave(cx, self.worker.departures());
                    }
                    Ok(Poll::Pending) => {}
                    Err(_) => return Poll::Ready(Some(self.panicked())),
                }
                // Most answers are there before anybody could lose patience.
                if !self.from.listens.get() {
                    return Poll::Pending;
                }
                // Whoever does not take what it was told on the way may be gone.
                if self.wire.with(|lane| lane.is_stuck() && matches!(lane.poll_flush(cx), Poll::Ready(Err(_)))) {
                    return Poll::Ready(None);
                }
                match self.wire.poll_client(cx) {
                    // Once more: what waits for the upstream tells it.
                    Poll::Ready(Heard::Ended) => {}
                    Poll::Ready(Heard::Left) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn panicked(&self) -> Response {
        self.worker.panicked(&self.from.peer().to_string());
        Response::unrecorded(Problem::of(Code::InternalError).answer(Form::Json))
    }

    /// Sends an answer. Whether the connection goes on behind it.
    async fn send(&mut self, answer: Response, asked: Asked) -> Result<bool, End> {
        let Response { status, passed, own, mut reply } = answer;
        let framing = framing(status, asked, &reply);
        let is_told_by_end = framing == Some(Framing::Chunked) && asked.version == Version::HTTP_10;
        let keeps = asked.keeps && !is_told_by_end && !self.from.is_closing() && self.wire.owed().is_some_and(|owed| owed <= REST_MAX);
        self.wire.answer();
        self.wire.with(|lane| {
            let out = &mut lane.output;
            write::answer(out, status, &passed, own.as_ref(), if is_told_by_end { Some(Framing::Nothing) } else { framing });
            if status != StatusCode::SWITCHING_PROTOCOLS {
                if passed.get(Name::Date).is_none() {
                    self.worker.write_date(out);
                }
                match (keeps, asked.version) {
                    (false, _) => write::field(out, b"connection", b"close"),
                    (true, Version::HTTP_10) => write::field(out, b"connection", b"keep-alive"),
                    (true, _) => {}
                }
            }
            out.extend_from_slice(b"\r\n");
        });
        if let Some(own) = own {
            self.worker.buffers().give_back_lines(own);
        }
        let is_chunked = framing == Some(Framing::Chunked) && !is_told_by_end;
        // What has no length is read piece by piece.
        let is_copied = matches!(framing, Some(Framing::Length(_))) && self.wire.with(|lane| reply.copy_whole(&mut lane.output));
        self.is_silent = true;
        self.fields = passed;
        // Kept for its memory only: what it was a list of would be held for as long as the client is silent.
        self.fields.clear();
        let mut sending = Sending {
            wire: self.wire,
            from: self.from,
            reply,
            is_chunked,
            is_over: is_copied || matches!(framing, None | Some(Framing::Nothing)),
            // The last one is seen out.
            departures: (keeps && status != StatusCode::SWITCHING_PROTOCOLS).then(|| self.worker.departures()),
        };
        match poll_fn(|cx| sending.poll(cx)).await {
            Ok(()) if status == StatusCode::SWITCHING_PROTOCOLS => Err(End::Tunnel),
            Ok(()) => Ok(keeps),
            Err(Broke::Upstream) if is_told_by_end => Err(End::CutOff),
            Err(Broke::Upstream | Broke::Client) => Err(End::Gone),
        }
    }

    /// Reads what is left of the request's body, so that the next request is found behind it. Whether it was.
    async fn has_read_rest(&self) -> bool {
        let read = self.from.deadline.limit(LINGER, poll_fn(|cx| self.wire.poll_rest(cx))).await;
        self.from.enter(self.from.phase());
        read.is_ok_and(|()| self.wire.is_read())
    }

    /// What was written and has not gone yet goes before the connection does anything else; a client that reads slowly has as long
    /// for it as for any answer. Whether it went.
    async fn flush(&self) -> bool {
        if self.wire.with(|lane| lane.is_flushed() || lane.is_blocked()) {
            return true;
        }
        poll_fn(|cx| match self.wire.with(|lane| lane.poll_flush(cx)) {
            Poll::Ready(flushed) => {
                self.from.went(true);
                Poll::Ready(flushed.is_ok())
            }
            Poll::Pending => {
                self.from.went(false);
                self.from.poll_late(cx).map(|_| false)
            }
        })
        .await
    }

    fn has_nothing_left(&self) -> bool {
        self.wire.is_read() && self.wire.with(|lane| lane.input.is_empty())
    }
}

/// Why an answer did not go out whole.
enum Broke {
    Upstream,
    Client,
}

/// How the end of an answer's body is told; nothing is written of it where the fields speak of a body that is not sent.
fn framing(status: StatusCode, asked: Asked, reply: &Reply) -> Option<Framing> {
    match status {
        StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS => Some(Framing::Nothing),
        StatusCode::NOT_MODIFIED => None,
        _ if asked.is_head => None,
        _ => Some(match reply.size_hint().exact() {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        }),
    }
}

/// An answer on its way out.
struct Sending<'a> {
    wire: &'a Rc<Wire>,
    from: &'a Rc<Downstream>,
    reply: Reply,
    is_chunked: bool,
    /// All of it is in the lane.
    is_over: bool,
    /// With whom it may leave.
    departures: Option<&'a Departures>,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        loop {
            let waits_for_more = match self.take(cx) {
                Ok(waits) => waits,
                Err(broke) => return Poll::Ready(Err(broke)),
            };
            if let Some(departures) = self.departures.filter(|_| self.is_over && self.wire.with(|lane| lane.may_leave())) {
                self.wire.leave(cx, departures);
                return Poll::Ready(Ok(()));
            }
            match self.wire.with(|lane| lane.poll_flush(cx)) {
                Poll::Ready(Ok(())) => self.from.went(true),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broke::Client)),
                Poll::Pending => {
                    self.from.went(!self.wire.with(|lane| lane.is_blocked()));
                    self.reply.poll_upload(cx);
                    return self.from.poll_late(cx).map(|_| Err(Broke::Client));
                }
            }
            if self.is_over {
                return Poll::Ready(Ok(()));
            }
            if waits_for_more {
                match self.wire.poll_client(cx) {
                    // Once more: what waits for the upstream tells it.
                    Poll::Ready(Heard::Ended) => {}
                    Poll::Ready(Heard::Left) => return Poll::Ready(Err(Broke::Client)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
    }

    /// Fills the lane with what is there of the answer. Whether there is no more for now.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<bool, Broke> {
        while !self.is_over && self.wire.with(|lane| lane.has_room()) {
            let frame = match Pin::new(&mut self.reply).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(frame) => frame,
            };
            match frame.transpose().map_err(|_| Broke::Upstream)? {
                None => self.end(None),
                Some(frame) => match frame.into_data() {
                    Ok(data) if self.is_chunked => self.wire.with(|lane| lane.put_chunk(data)),
                    Ok(data) => self.wire.with(|lane| lane.put(data)),
                    Err(frame) => self.end(frame.into_trailers().ok().as_ref()),
                },
            }
            // The last piece and the end of the body go out together.
            if !self.is_over && self.reply.is_end_stream() {
                self.end(None);
            }
        }
        Ok(false)
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.is_over = true;
        if self.is_chunked {
            self.wire.with(|lane| lane.put_last_chunk(trailers));
        }
    }
}

/// The problem of a head that is none.
fn problem(unreadable: Unreadable) -> Problem {
    let (code, fix) = match unreadable {
        Unreadable::TargetTooLong => return Problem::of(Code::TargetTooLong),
        Unreadable::TooLarge => return Problem::of(Code::HeadTooLarge),
        Unreadable::Version => return Problem::of(Code::VersionNotSupported),
        Unreadable::Tls => (Code::AmbiguousRequest, "Use `http://`, or the port that speaks TLS."),
        Unreadable::RequestLine | Unreadable::Target | Unreadable::EmptyLines => {
            (Code::AmbiguousRequest, "Begin with `METHOD /path HTTP/1.1`, one space between the three (RFC 9112 section 3).")
        }
        Unreadable::LineEnd(_) | Unreadable::BareCr(_) => {
            (Code::AmbiguousRequest, "End every line with CRLF, and send neither CR nor LF anywhere else (RFC 9112 section 2.2).")
        }
        Unreadable::Folded(_) | Unreadable::BlankBeforeColon(_) | Unreadable::Name(_) | Unreadable::Value(_) => (
            Code::AmbiguousRequest,
            "Write each field as `name: value` on one line, without a blank before the colon (RFC 9112 section 5).",
        ),
    };
    Problem::of(code).detail(format!("The request cannot be read in one way only: {unreadable}.")).place("the request's head").fix(fix)
}

/// Sends a last answer to a head that is none.
pub(super) async fn say(from: &Downstream, mut socket: Socket, problem: &Problem) {
    if let Ok(Ok(())) = from.deadline.limit(LINGER, socket.write_all(&problem.raw())).await {
        linger(from, socket).await;
    }
}

/// Says that nothing more comes, where the protocol below has words for it.
async fn finish(from: &Downstream, socket: &mut Socket) {
    // Whatever comes of it, the socket is closed afterwards.
    let _ = from.deadline.limit(LINGER, socket.shutdown()).await;
}

/// Closes a socket so that the answer arrives.
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

/// Ends a connection so that nobody takes it for the regular end of an answer.
fn reset(socket: &Socket) {
    // Without it the client sees a short answer; nothing more can be done.
    let _ = socket.tcp().map(|tcp| socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)));
}
