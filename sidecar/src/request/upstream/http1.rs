//! HTTP/1.1 to the upstream: one request on one connection, driven inside the request's own task.
//!
//! Cost: per request on a kept connection; two system calls, the bytes written and read in buffers of the connection. No task is
//! spawned and none is woken but by the socket.
//! Nobody watches a connection that is not in use: whether it still stands is asked when it is taken.
//! A request stays whole until its answer's head is there, so that sending it again needs no copy.

use super::endpoint::InUse;
use super::exchange::{Broken, Waits};
use super::{Failed, Step};
use crate::connection::Downstream;
use crate::deadline::Deadline;
use crate::fields::Fields;
use crate::http1::answer::{Framing, Head, Reader};
use crate::http1::chunks::{Chunks, Piece};
use crate::http1::lane::{COPIED_MAX, Lane};
use crate::http1::{Malformed, write};
use crate::request::body::{Abort, Upload};
use crate::request::outgoing::Outgoing;
use crate::request::respond;
use crate::socket::Socket;
use crate::worker::Departures;
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite as _;

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Link {
    /// Shared with the departures, for as long as it takes to leave.
    lane: Rc<RefCell<Lane>>,
    heads: Reader,
    /// Whom the request in flight is of.
    client: Option<Rc<Downstream>>,
    /// The upstream was told that its client says nothing more.
    has_ended: bool,
    /// It served a request before.
    pub is_used: bool,
    /// Turn of the wheel it was put aside at.
    pub idle_since: u64,
    /// Where the answer stands that it brings.
    answering: Option<Answering>,
}

/// Why an exchange broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The socket.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// The end of the connection, where there should have been more.
    #[error("the connection ended")]
    Ended,
    /// Bytes that are no answer.
    #[error("the answer {0}")]
    Malformed(#[from] Malformed),
    /// The request's body.
    #[error("{0}")]
    Upload(#[from] Abort),
}

impl Link {
    /// A connection over a fresh socket.
    #[must_use]
    pub fn new(socket: Socket) -> Box<Self> {
        Box::new(Self {
            lane: Rc::new(RefCell::new(Lane::new(socket, BytesMut::new()))),
            heads: Reader::default(),
            client: None,
            has_ended: false,
            is_used: false,
            idle_since: 0,
            answering: None,
        })
    }

    /// Whether it stands and says nothing: what an upstream says unasked is the end of the connection, or somebody else's answer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let lane = self.lane.borrow();
        lane.input.is_empty() && lane.socket.is_quiet()
    }

    /// Whether both sides have said and taken what there was.
    fn is_settled(&self) -> bool {
        let lane = &mut *self.lane.borrow_mut();
        let is_settled = lane.input.is_empty() && lane.is_flushed();
        if is_settled {
            lane.shrink();
        }
        is_settled
    }

    /// Passes it on when the client says that it sends nothing more (RFC 9112 section 9.6), behind the request's last byte: an
    /// upstream that works for somebody who is gone learns of it.
    fn pass_end(&mut self, cx: &mut Context<'_>) {
        let mut lane = self.lane.borrow_mut();
        if !self.has_ended && lane.is_flushed() && self.client.as_ref().is_some_and(|client| client.has_ended()) {
            self.has_ended = true;
            // Who cannot be told will see the connection's end.
            let _ = Pin::new(&mut lane.socket).poll_shutdown(cx);
        }
    }
}

/// The body of a request on its way out.
#[derive(Debug)]
struct Outflow {
    upload: Upload,
    framing: write::Framing,
    is_over: bool,
}

impl Outflow {
    fn new(upload: Upload) -> Self {
        let framing = match (&upload, upload.size_hint().exact()) {
            (Upload::Nothing, _) => write::Framing::Nothing,
            (Upload::Streamed(..), Some(length)) => write::Framing::Length(length),
            (Upload::Streamed(..), None) => write::Framing::Chunked,
        };
        Self { is_over: framing == write::Framing::Nothing, upload, framing }
    }

    /// Writes the body as far as the client has sent it and the upstream takes it; `Ready` once all of it went.
    fn poll(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.framing == write::Framing::Length(0) && !self.is_over {
            // Its head is all of it to the upstream, so it does not go before the client has said that nothing follows.
            self.fill(lane, cx)?;
            if !self.is_over {
                return Poll::Pending;
            }
        }
        loop {
            match lane.poll_flush(cx)? {
                Poll::Ready(()) if self.is_over => return Poll::Ready(Ok(())),
                Poll::Ready(()) => {}
                Poll::Pending => {
                    self.upload.wait_for_upstream();
                    return Poll::Pending;
                }
            }
            self.fill(lane, cx)?;
            if lane.is_flushed() && !self.is_over {
                return Poll::Pending;
            }
        }
    }

    /// Fills the lane with what the client has sent: a body in tiny pieces goes out in as few writes as a body in large ones.
    fn fill(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Result<(), Fault> {
        while !self.is_over && lane.has_room() {
            let Poll::Ready(frame) = Pin::new(&mut self.upload).poll_frame(cx) else { return Ok(()) };
            match frame.transpose()? {
                None => self.end(lane, None),
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.put(lane, data),
                    Err(frame) => self.end(lane, frame.into_trailers().ok().as_ref()),
                },
            }
            // The last piece and the end of the body go out together.
            if self.upload.is_end_stream() && !self.is_over {
                self.end(lane, None);
            }
        }
        Ok(())
    }

    fn put(&self, lane: &mut Lane, data: Bytes) {
        match self.framing {
            write::Framing::Chunked => lane.put_chunk(data),
            _ => lane.put(data),
        }
    }

    fn end(&mut self, lane: &mut Lane, trailers: Option<&HeaderMap>) {
        self.is_over = true;
        if self.framing == write::Framing::Chunked {
            lane.put_last_chunk(trailers);
        }
    }
}

/// A request being sent, whose answer has not begun.
struct Exchange<'a> {
    link: &'a mut Link,
    request: &'a mut Outgoing,
    outflow: Outflow,
    /// With whom it may leave.
    departures: &'a Departures,
    /// Somebody looked whether something came back.
    has_asked: bool,
    /// Something came back.
    has_heard: bool,
}

/// An answer that has begun, and the rest of the request's body.
pub(super) struct Begun {
    pub(super) head: Head,
    rest: Option<Outflow>,
}

impl Begun {
    /// Status and fields, and what comes after them. A connection that has nothing left to say is put aside at once.
    pub(super) fn receive(
        self,
        mut link: Box<Link>,
        endpoint: InUse,
        deadline: Deadline,
        idle_timeout: Duration,
    ) -> (StatusCode, Fields, Download) {
        let Head { status, headers, framing, keeps } = self.head;
        let (chunks, rest) = (Chunks::default(), self.rest);
        link.answering = Some(Answering { framing, chunks, keeps, rest, endpoint, deadline, idle_timeout, is_waiting: false });
        let mut download = Download { link: Some(link), is_whole: false };
        download.settle();
        (status, headers, download)
    }
}

/// Sends `request` and waits for the head of its answer. The request's fields are still there afterwards unless one came.
///
/// # Errors
/// Why there is none.
pub(super) async fn exchange(
    link: &mut Link,
    request: &mut Outgoing,
    from: &Rc<Downstream>,
    waits: &Waits<'_>,
    departures: &Departures,
) -> Result<Begun, Broken> {
    let outflow = Outflow::new(std::mem::replace(&mut request.upload, Upload::Nothing));
    write::head(&mut link.lane.borrow_mut().output, &request.head(), outflow.framing);
    link.client = Some(Rc::clone(from));
    let mut exchange = Exchange { link, request, outflow, departures, has_asked: false, has_heard: false };
    match waits.until(|cx| exchange.poll(cx)).await {
        Ok(Ok(head)) => {
            let rest = if exchange.outflow.is_over { None } else { Some(exchange.outflow) };
            Ok(Begun { head, rest })
        }
        Ok(Err(fault)) => Err(exchange.broken(&fault)),
        Err(stage) => Err(Broken::Late(stage)),
    }
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Fault>> {
        // An upstream may answer before it has read everything, and then read no more: its answer counts, not the failed write.
        let written = if self.is_leaving(cx) { Ok(()) } else { self.write(cx) };
        let written = match written {
            Err(fault) if !matches!(fault, Fault::Socket(_)) => return Poll::Ready(Err(fault)),
            written => written,
        };
        match (self.poll_head(cx), written) {
            (Poll::Ready(Ok(head)), _) => Poll::Ready(Ok(head)),
            (_, Err(fault)) => Poll::Ready(Err(fault)),
            (read, Ok(())) => read,
        }
    }

    /// Whether the request leaves by itself: it is whole, and its client may have more to say.
    fn is_leaving(&self, cx: &Context<'_>) -> bool {
        let mut lane = self.link.lane.borrow_mut();
        if lane.is_leaving() {
            return true;
        }
        let may_leave = self.outflow.is_over && !lane.is_flushed() && lane.may_leave();
        if !may_leave || self.link.client.as_ref().is_some_and(|client| client.has_ended()) {
            return false;
        }
        if lane.leave(cx.waker()) {
            let lane = Rc::downgrade(&self.link.lane);
            self.departures.add(lane);
        }
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let written = self.outflow.poll(&mut self.link.lane.borrow_mut(), cx);
        if let Poll::Ready(Ok(())) = written {
            self.link.pass_end(cx);
        }
        if let Poll::Ready(written) = written { written } else { Ok(()) }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Fault>> {
        let lane = &mut *self.link.lane.borrow_mut();
        if !std::mem::replace(&mut self.has_asked, true) {
            // Nobody answers at once, and asking costs less than trying.
            ready!(lane.socket.poll_readable(cx))?;
        }
        loop {
            if ready!(lane.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Fault::Ended));
            }
            self.has_heard = true;
            let Outgoing { method, fields, .. } = &mut *self.request;
            let head = self.link.heads.head(&mut lane.input, method, fields);
            for (status, fields) in self.link.heads.informed() {
                if let Some(client) = &self.link.client {
                    respond::inform(client, status, fields);
                }
            }
            if let Some(head) = head? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    fn broken(&mut self, fault: &Fault) -> Broken {
        let why = fault.to_string();
        match fault {
            Fault::Upload(_) | Fault::Malformed(_) => Broken::Failed(why),
            Fault::Socket(_) | Fault::Ended if self.has_heard => Broken::Incomplete(why),
            // Not a byte went: whatever the method, it was not seen.
            Fault::Socket(_) | Fault::Ended if self.link.lane.borrow().is_unsent() && self.has_whole_body() => {
                self.request.upload = std::mem::replace(&mut self.outflow.upload, Upload::Nothing);
                Broken::Unsent(why)
            }
            Fault::Socket(_) | Fault::Ended => Broken::Silent(why),
        }
    }

    fn has_whole_body(&self) -> bool {
        match &self.outflow.upload {
            Upload::Nothing => true,
            Upload::Streamed(_, progress) => progress.bytes() == 0,
        }
    }
}

impl Link {
    /// After an answer of 101: the socket, and what was read beyond the head.
    #[must_use]
    pub fn into_socket(self) -> Option<(Socket, Bytes)> {
        // The departures hold it only weakly.
        let lane = Rc::into_inner(self.lane)?.into_inner();
        Some((lane.socket, lane.input.freeze()))
    }
}

/// The rest of an answer. What is known of it stands beside the connection it comes by.
#[derive(Debug)]
pub struct Download {
    /// None once nothing more comes.
    link: Option<Box<Link>>,
    /// All of it came.
    is_whole: bool,
}

/// Where an answer stands.
#[derive(Debug)]
struct Answering {
    framing: Framing,
    chunks: Chunks,
    keeps: bool,
    /// The rest of the request's body.
    rest: Option<Outflow>,
    endpoint: InUse,
    deadline: Deadline,
    idle_timeout: Duration,
    is_waiting: bool,
}

impl Download {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        self.poll_upload(cx);
        loop {
            let Some((lane, answer)) = self.parts() else { return Poll::Ready(None) };
            let taken = answer.take(&mut lane.borrow_mut());
            match taken {
                Ok(Taken::Piece(frame)) => return self.given(Some(Ok(frame))),
                Ok(Taken::End) => return self.given(None),
                Ok(Taken::Nothing) => {}
                Err(malformed) => return self.failed(&Fault::Malformed(malformed)),
            }
            let read = lane.borrow_mut().poll_read(cx);
            match read {
                Poll::Pending => return answer.wait(cx),
                Poll::Ready(Ok(0)) if answer.framing == Framing::UntilEnd => {
                    answer.framing = Framing::Nothing;
                    return self.given(None);
                }
                Poll::Ready(Ok(0)) => return self.failed(&Fault::Ended),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.failed(&Fault::Socket(error)),
            }
        }
    }

    /// What it is read from, and how far.
    fn parts(&mut self) -> Option<(&RefCell<Lane>, &mut Answering)> {
        let Link { lane, answering, .. } = &mut **self.link.as_mut()?;
        Some((lane, answering.as_mut()?))
    }

    /// The request's body goes on while its answer does. An upstream that reads no more of it has said what it has to say.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        let Some((lane, answer)) = self.parts() else { return };
        if let Some(rest) = &mut answer.rest
            && let Poll::Ready(ended) = rest.poll(&mut lane.borrow_mut(), cx)
        {
            answer.keeps &= ended.is_ok();
            answer.rest = None;
        }
        let is_sent = answer.rest.is_none();
        if is_sent && let Some(link) = &mut self.link {
            link.pass_end(cx);
        }
    }

    /// Copies the whole of what is left, if that is there, has a length and is not long: how many bytes. Most answers come with
    /// their heads, and nobody need own their bytes for a moment.
    pub fn copy_whole(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        let (lane, answer) = self.parts()?;
        let (Framing::Length(left), None) = (answer.framing, &answer.rest) else { return None };
        let length = usize::try_from(left).ok().filter(|length| *length <= COPIED_MAX)?;
        let lane = &mut *lane.borrow_mut();
        out.extend_from_slice(lane.input.get(..length)?);
        lane.input.advance(length);
        answer.framing = Framing::Nothing;
        Some(length)
    }

    /// What was to be read is read, and nothing is waited for.
    pub fn settle(&mut self) {
        if self.parts().is_some_and(|(_, answer)| answer.framing == Framing::Nothing) {
            self.finish();
        }
    }

    fn given(&mut self, frame: Option<Result<Frame<Bytes>, Failed>>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if let Some((_, answer)) = self.parts() {
            answer.is_waiting = false;
        }
        self.settle();
        Poll::Ready(frame)
    }

    fn failed(&mut self, fault: &Fault) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        self.link = None;
        Poll::Ready(Some(Err(Failed::because(Step::BodyClosed, fault))))
    }

    /// Keeps the connection for the next request, if both sides have said all they have to say.
    fn finish(&mut self) {
        self.is_whole = true;
        let Some(mut link) = self.link.take() else { return };
        let Some(answer) = link.answering.take() else { return };
        answer.deadline.disarm();
        if answer.keeps && answer.rest.is_none() && !link.has_ended && link.is_settled() {
            link.client = None;
            answer.endpoint.put_aside(link);
        }
    }

    pub fn is_end_stream(&self) -> bool {
        self.is_whole
    }

    pub fn size_hint(&self) -> SizeHint {
        match self.link.as_ref().and_then(|link| link.answering.as_ref()).map(|answer| answer.framing) {
            None | Some(Framing::Nothing) => SizeHint::with_exact(0),
            Some(Framing::Length(left)) => SizeHint::with_exact(left),
            Some(Framing::Chunked | Framing::UntilEnd) => SizeHint::default(),
        }
    }
}

impl Answering {
    /// The next piece of what has been read.
    fn take(&mut self, lane: &mut Lane) -> Result<Taken, Malformed> {
        match &mut self.framing {
            Framing::Nothing => Ok(Taken::End),
            Framing::Chunked => Ok(match self.chunks.next(&mut lane.input)? {
                Piece::Incomplete => Taken::Nothing,
                Piece::Data(data) => Taken::Piece(Frame::data(data)),
                Piece::End(trailers) => {
                    self.framing = Framing::Nothing;
                    trailers.map_or(Taken::End, |trailers| Taken::Piece(Frame::trailers(trailers)))
                }
            }),
            _ if lane.input.is_empty() => Ok(Taken::Nothing),
            Framing::UntilEnd => Ok(Taken::Piece(Frame::data(lane.input.split().freeze()))),
            Framing::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(lane.input.len());
                *left -= length as u64;
                let data = lane.input.split_to(length).freeze();
                if *left == 0 {
                    self.framing = Framing::Nothing;
                }
                Ok(Taken::Piece(Frame::data(data)))
            }
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        if !self.is_waiting {
            self.is_waiting = true;
            self.deadline.arm(self.idle_timeout);
        }
        self.deadline.poll(cx).map(|_| Some(Err(Failed::at(Step::BodyTimeout))))
    }
}

/// What was taken out of what has been read.
enum Taken {
    Piece(Frame<Bytes>),
    /// More must be read.
    Nothing,
    End,
}
