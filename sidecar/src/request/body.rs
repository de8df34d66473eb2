//! Bodies: a request's on its way to the upstream, bounded and watched; a reply's on its way to the client.
//!
//! Cost: per request without a body; nothing. Per chunk; a few numbers, no copy. One small allocation for a request with a body.
//! Back-pressure is the connection's: a side that takes nothing is a side that is not asked for more, so at most a chunk waits here.

use super::grpc::{self, Messages, TooLarge};
use super::head;
use super::record::Record;
use super::upstream::rewind::Playing;
use super::upstream::{Download, Failed};
use crate::connection::stream::Outlet;
use crate::connection::wire;
use crate::problem::Code;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A request's body as it comes in.
#[derive(Debug)]
pub enum Body {
    /// None.
    Nothing,
    /// Over HTTP/1.1.
    Http1(wire::Incoming),
    /// Over HTTP/2.
    Http2(hyper::body::Incoming),
    /// Either, held so that it can be sent again.
    Kept(Playing),
}

/// Why a body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Its client left.
    #[error("the client broke off")]
    Left,
    /// It is none.
    #[error("the body's chunks cannot be read")]
    Malformed,
}

impl Body {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Body::Nothing => true,
            Body::Http1(_) => false,
            Body::Http2(_) | Body::Kept(_) => self.is_end_stream(),
        }
    }

    /// Its length, where the client said so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Nothing => SizeHint::with_exact(0),
            Body::Http1(incoming) => incoming.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Body::Http2(incoming) => incoming.size_hint(),
            Body::Kept(playing) => playing.size_hint(),
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        match self {
            Body::Nothing => true,
            Body::Http1(incoming) => incoming.is_over(),
            Body::Http2(incoming) => incoming.is_end_stream(),
            Body::Kept(playing) => playing.is_end_stream(),
        }
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Body::Nothing => Poll::Ready(None),
            Body::Http1(incoming) => incoming.poll_frame(cx),
            Body::Http2(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|error| broken(&error)),
            Body::Kept(playing) => playing.poll_frame(cx),
        }
    }
}

/// Whether a body ended because its client left or because it is none: the engine's error has the cause as a kind of I/O error.
fn broken(error: &hyper::Error) -> Broken {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Broken::Malformed,
        _ => Broken::Left,
    }
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The upstream was handed what there is, and the client owes more.
    OwedByClient,
    /// The upstream has not yet taken what there is.
    OwedByUpstream,
    /// All of it is with the upstream's engine.
    Complete,
    /// It is larger than it may be.
    TooLarge,
    /// A message in it is.
    MessageTooLarge,
    /// The client broke off.
    BrokenOff,
    /// What the client sent is no body.
    Malformed,
}

/// What the exchange with the upstream watches of an upload.
#[derive(Debug)]
pub struct Progress {
    bytes: Cell<u64>,
    bytes_max: u64,
    has_length: bool,
    stage: Cell<Stage>,
    /// Of a call whose route bounds its messages.
    messages: Option<Box<Cell<Messages>>>,
}

impl Progress {
    /// Of a body of which nothing has come.
    #[cfg(test)]
    pub fn owed_by_client(has_length: bool) -> Self {
        Self { bytes: Cell::new(0), bytes_max: u64::MAX, has_length, stage: Cell::new(Stage::OwedByClient), messages: None }
    }

    /// So much of it came.
    #[cfg(test)]
    pub fn came(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// It is sent from its beginning again.
    pub(super) fn rewind(&self) {
        self.bytes.set(0);
        self.stage.set(Stage::OwedByUpstream);
    }

    /// Of the same body, sent to another as well. It is within its bounds: all of it has passed.
    pub(super) fn beside(&self) -> Rc<Progress> {
        let (bytes, stage) = (Cell::new(0), Cell::new(Stage::OwedByUpstream));
        Rc::new(Self { bytes, bytes_max: self.bytes_max, has_length: self.has_length, stage, messages: None })
    }

    /// Bytes that came.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether the client said how many there are.
    #[must_use]
    pub fn has_length(&self) -> bool {
        self.has_length
    }

    /// A piece of it goes on.
    ///
    /// # Errors
    /// It is as much, or holds a message as large, as may not be.
    fn pass(&self, piece: &[u8]) -> Result<(), Abort> {
        self.bytes.set(self.bytes.get() + piece.len() as u64);
        if self.bytes.get() > self.bytes_max {
            return Err(Abort::TooLarge);
        }
        let Some(messages) = &self.messages else { return Ok(()) };
        let mut now = messages.get();
        let passed = now.pass(piece);
        messages.set(now);
        passed.map_err(|_| Abort::MessageTooLarge)
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }
}

/// A request's body on its way to the upstream.
#[derive(Debug)]
pub enum Upload {
    /// None.
    Nothing,
    /// A stream.
    Streamed(Body, Rc<Progress>),
}

/// Why an upload ends before its end. The upstream sees its connection reset; the client gets the answer that says why.
#[derive(Debug, thiserror::Error)]
pub enum Abort {
    /// Larger than it may be.
    #[error("the body is larger than the service accepts")]
    TooLarge,
    /// It has a message larger than it may be.
    #[error("a message in the body is larger than the service passes on")]
    MessageTooLarge,
    /// It cannot be read to its end.
    #[error("{0}")]
    BrokenOff(#[from] Broken),
}

impl Upload {
    /// `body`, of which at most `bytes_max` bytes go on, and of a call no message larger than the last says.
    #[must_use]
    pub fn new(body: Body, bytes_max: u64, message_bytes_max: Option<u64>) -> Self {
        if body.is_empty() {
            return Upload::Nothing;
        }
        let has_length = body.length().is_some();
        let messages = message_bytes_max.map(|bytes_max| Box::new(Cell::new(Messages::new(bytes_max))));
        let progress = Progress { bytes: Cell::new(0), bytes_max, has_length, stage: Cell::new(Stage::OwedByUpstream), messages };
        Upload::Streamed(body, Rc::new(progress))
    }

    /// What came of it waits for the upstream, so its client is not late.
    pub fn wait_for_upstream(&self) {
        if let Upload::Streamed(_, progress) = self
            && progress.stage() == Stage::OwedByClient
        {
            progress.stage.set(Stage::OwedByUpstream);
        }
    }

    /// What can be watched of it.
    #[must_use]
    pub fn progress(&self) -> Option<Rc<Progress>> {
        match self {
            Upload::Nothing => None,
            Upload::Streamed(_, progress) => Some(Rc::clone(progress)),
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let Upload::Streamed(body, progress) = self.get_mut() else { return Poll::Ready(None) };
        let frame = body.poll_frame(cx);
        let (stage, frame) = match frame {
            Poll::Pending => (Stage::OwedByClient, Poll::Pending),
            Poll::Ready(None) => (Stage::Complete, Poll::Ready(None)),
            Poll::Ready(Some(Err(Broken::Left))) => (Stage::BrokenOff, Poll::Ready(Some(Err(Broken::Left.into())))),
            Poll::Ready(Some(Err(Broken::Malformed))) => (Stage::Malformed, Poll::Ready(Some(Err(Broken::Malformed.into())))),
            Poll::Ready(Some(Ok(frame))) => {
                let passed = progress.pass(frame.data_ref().map_or(&[], |data| data));
                let frame = without_unfit_trailers(frame);
                match passed {
                    Err(abort @ Abort::MessageTooLarge) => (Stage::MessageTooLarge, Poll::Ready(Some(Err(abort)))),
                    Err(abort) => (Stage::TooLarge, Poll::Ready(Some(Err(abort)))),
                    Ok(()) if body.is_end_stream() => (Stage::Complete, Poll::Ready(Some(Ok(frame)))),
                    Ok(()) => (Stage::OwedByUpstream, Poll::Ready(Some(Ok(frame)))),
                }
            }
        };
        progress.stage.set(stage);
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Nothing => true,
            Upload::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Nothing => SizeHint::with_exact(0),
            Upload::Streamed(body, _) => body.size_hint(),
        }
    }
}

/// A piece of a body; trailers without what may be said in a head only, or not at all.
fn without_unfit_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    if frame.is_trailers() {
        return frame.into_trailers().map_or_else(|data| data, |trailers| Frame::trailers(fit_to_trail(trailers)));
    }
    frame
}

fn fit_to_trail(mut trailers: HeaderMap) -> HeaderMap {
    let unfit: Vec<HeaderName> = trailers.keys().filter(|name| !head::may_trail(name.as_str())).cloned().collect();
    for name in unfit {
        trailers.remove(name);
    }
    trailers
}

/// The body of an answer. What was taken for the request is given back, and its record written, when it is dropped.
#[derive(Debug)]
pub struct Reply {
    content: Content,
    /// Of a call: it ends with a status of its own.
    call: Option<Box<Call>>,
    /// Where it leaves, if somebody watches that.
    outlet: Option<Rc<Outlet>>,
    /// Last: it is dropped when everything else is.
    record: Option<Box<Record>>,
}

/// What is known of a gRPC call.
#[derive(Debug)]
struct Call {
    /// Where its messages stand, if its route bounds them.
    messages: Option<Messages>,
}

/// What an answer consists of.
#[derive(Debug)]
pub enum Content {
    /// Bytes of our own.
    Own(Bytes),
    /// What the upstream sends.
    Streamed(Download),
    /// Nothing more but that a message was too large.
    TooLarge,
}

/// What a download gave.
type Taken = Poll<Option<Result<Frame<Bytes>, Failed>>>;

impl Content {
    /// Moves the rest of the request's body on while its answer cannot go out: who sends all before reading anything is not
    /// waited for by both sides.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Content::Streamed(download) = self {
            download.poll_upload(cx);
        }
    }
}

impl Reply {
    /// The body of the answer to the request of this record.
    #[must_use]
    pub fn new(content: Content, record: Box<Record>) -> Self {
        Self { content, call: None, outlet: None, record: Some(record) }
    }

    /// A body whose request is recorded elsewhere.
    #[must_use]
    pub fn unrecorded(content: Content) -> Self {
        Self { content, call: None, outlet: None, record: None }
    }

    /// The same body, of a gRPC answer.
    #[must_use]
    pub fn of_grpc(self) -> Self {
        let bytes_max = self.record.as_ref().and_then(|record| record.message_bytes_max());
        Self { call: Some(Box::new(Call { messages: bytes_max.map(Messages::new) })), ..self }
    }

    /// The same body, which tells where it leaves what waits for whom.
    #[must_use]
    pub fn through(self, outlet: Rc<Outlet>) -> Self {
        outlet.give();
        Self { outlet: Some(outlet), ..self }
    }
}

impl Reply {
    /// Copies the whole of it to the end of `out`, if all of it is there and it is not long. Whether it did.
    pub fn copy_whole(&mut self, out: &mut Vec<u8>) -> bool {
        let Content::Streamed(Download::Http1(download)) = &mut self.content else { return false };
        let Some(length) = download.copy_whole(out) else { return false };
        download.settle();
        if let Some(record) = &mut self.record {
            record.sent(Ok(length));
        }
        true
    }

    /// See [`Content::poll_upload`].
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        self.content.poll_upload(cx);
    }
}

/// The answer ends before its end; why is on its record.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

impl Reply {
    /// Whether this was not all of it.
    fn goes_on_after<E>(&self, frame: &Poll<Option<Result<Frame<Bytes>, E>>>) -> bool {
        match frame {
            Poll::Pending => true,
            Poll::Ready(Some(Ok(_))) => !self.is_end_stream(),
            Poll::Ready(None | Some(Err(_))) => false,
        }
    }

    fn lasts(&mut self, cx: &mut Context<'_>) {
        if let (Some(record), Content::Streamed(_)) = (&mut self.record, &self.content) {
            record.answer_lasts(self.outlet.as_deref());
            // What ends it wakes whoever sends it; what has ended it already does so at once.
            if record.poll_ended(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Whether the request would be refused by now.
    fn is_ended(&self, cx: &mut Context<'_>) -> bool {
        matches!(&self.content, Content::Streamed(_)) && self.record.as_ref().is_some_and(|record| record.poll_ended(cx).is_ready())
    }

    /// Ends in the midst: gRPC has words for it, HTTP/2 a frame, and HTTP/1.1 the end of the connection.
    fn break_off(&mut self) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &self.outlet {
            Some(_) if self.call.is_some() => {
                let why = self.record.as_ref().and_then(|record| record.why_ended()).unwrap_or_default();
                self.content = Content::Own(Bytes::new());
                Poll::Ready(Some(Ok(Frame::trailers(grpc::trailers(Code::NotPermitted, why)))))
            }
            // Whoever runs the stream resets it.
            Some(_) => Poll::Pending,
            None => Poll::Ready(Some(Err(BrokenOff))),
        }
    }
}

impl Reply {
    /// The piece, as far as no message is too large, in it or in the request; nothing where that is not at all. What of it lies
    /// before such a message goes out, and the call ends behind that.
    fn bound_messages(&mut self, frame: Taken) -> Option<Taken> {
        let Some(messages) = self.call.as_mut().and_then(|call| call.messages.as_mut()) else { return Some(frame) };
        let Poll::Ready(Some(Ok(piece))) = frame else {
            // A request that was cut off looks from here as if the service had ended.
            let is_refused = self.record.as_ref().is_some_and(|record| record.has_sent_too_large_a_message());
            return if is_refused { None } else { Some(frame) };
        };
        let mut data = match piece.into_data() {
            Ok(data) => data,
            Err(trailers) => return Some(Poll::Ready(Some(Ok(trailers)))),
        };
        match messages.pass(&data) {
            Ok(()) => {}
            Err(TooLarge { at: 0 }) => return None,
            Err(TooLarge { at }) => {
                data.truncate(at);
                self.content = Content::TooLarge;
            }
        }
        Some(Poll::Ready(Some(Ok(Frame::data(data)))))
    }

    /// Ends a call for a message that is too large; the service sees its stream reset.
    fn end_too_large(&mut self) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(call) = &mut self.call {
            call.messages = None;
        }
        self.content = Content::Own(Bytes::new());
        if let Some(record) = &mut self.record {
            record.cut(Code::MessageTooLarge);
        }
        let told = "a message of the call is larger than the service passes on (`grpc_message_bytes_max`)";
        let outcome = || Frame::trailers(grpc::trailers(Code::MessageTooLarge, told));
        Poll::Ready(Some(self.outlet.as_ref().map(|_| outcome()).ok_or(BrokenOff)))
    }

    /// What is sent in place of a piece that does not come: a gRPC call ends with its outcome, any other answer looks cut off.
    fn instead(&mut self, failed: &Failed) -> Result<Frame<Bytes>, BrokenOff> {
        if self.call.is_none() || self.outlet.is_none() {
            return Err(BrokenOff);
        }
        self.content = Content::Own(Bytes::new());
        Ok(Frame::trailers(grpc::trailers(failed.step.problem().0, failed.step.told())))
    }
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.is_ended(cx) {
            return this.break_off();
        }
        let frame = match &mut this.content {
            Content::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Streamed(download) => download.poll_frame(cx),
            Content::TooLarge => return this.end_too_large(),
        };
        let Some(frame) = this.bound_messages(frame) else { return this.end_too_large() };
        if let Some(record) = &mut this.record
            && let Poll::Ready(Some(frame)) = &frame
        {
            record.sent(frame.as_ref().map(|frame| frame.data_ref().map_or(0, Bytes::len)));
        }
        let frame = frame.map(|frame| frame.map(|frame| frame.map(without_unfit_trailers)));
        if this.goes_on_after(&frame) {
            this.lasts(cx);
        }
        if let Some(outlet) = &this.outlet {
            if frame.is_ready() { outlet.give() } else { outlet.want_more() }
        }
        frame.map(|frame| frame.map(|frame| frame.or_else(|failed| this.instead(&failed))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Streamed(download) => download.is_end_stream(),
            Content::TooLarge => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Streamed(download) => download.size_hint(),
            Content::TooLarge => SizeHint::default(),
        }
    }
}
