//! Replay: a request over HTTP/2 that can be sent again, because its server said that it did nothing with it.
//!
//! Cost: per request over HTTP/2; a copy of its head, and with a body one small allocation. Pieces of the body are not copied, only
//! held until the answer begins.
//! A server refuses streams beyond its limit (REFUSED_STREAM) and, going away, those it has not looked at (GOAWAY); both are as if
//! they had never been sent (RFC 9113 section 8.7), whatever their method. The engine gives back neither, so they are kept here.

use crate::request::body::{Abort, Upload};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body as _, Frame, SizeHint};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bytes of a body that are held to be sent again. A server that refuses a stream does so before it has opened the stream's
/// window, which is this large unless it says otherwise (RFC 9113 section 6.9.2).
const HELD_BYTES_MAX: usize = 64 << 10;

/// What is kept of a request until its answer begins.
pub(super) struct Kept {
    head: Request<()>,
    body: Option<Rc<RefCell<Held>>>,
}

/// The body as the engine has it.
#[derive(Debug)]
pub(super) struct Lent {
    held: Option<Rc<RefCell<Held>>>,
    /// Which of the attempts it is for; an earlier one gets nothing more.
    attempt: u32,
    /// Pieces it gave.
    given: usize,
}

/// A body and what was taken of it.
#[derive(Debug)]
struct Held {
    upload: Upload,
    attempt: u32,
    pieces: Vec<Piece>,
    bytes: usize,
    is_whole: bool,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body does not come to its end. The engine resets the stream by the reason that it finds here; why stands in the body's
/// progress.
#[derive(Debug, thiserror::Error)]
#[error("the request is given up")]
pub(super) struct Cancelled(#[source] h2::Error);

/// A request as it is given to the engine, and what is kept of it.
pub(super) fn lend(request: Request<Upload>) -> (Request<Lent>, Kept) {
    let (parts, upload) = request.into_parts();
    let body = match upload {
        Upload::Nothing => None,
        upload => Some(Rc::new(RefCell::new(Held { upload, attempt: 0, pieces: Vec::new(), bytes: 0, is_whole: true }))),
    };
    let kept = Kept { head: Request::from_parts(parts.clone(), ()), body };
    let lent = Lent { held: kept.body.clone(), attempt: 0, given: 0 };
    (Request::from_parts(parts, lent), kept)
}

impl Kept {
    /// The request once more, unless too much of its body is gone.
    pub(super) fn again(&self) -> Option<Request<Lent>> {
        let mut attempt = 0;
        if let Some(held) = &self.body {
            let mut held = held.borrow_mut();
            if !held.is_whole {
                return None;
            }
            held.attempt += 1;
            attempt = held.attempt;
        }
        let (parts, ()) = self.head.clone().into_parts();
        Some(Request::from_parts(parts, Lent { held: self.body.clone(), attempt, given: 0 }))
    }

    /// The body as it came, for an attempt over HTTP/1.1, unless something of it is gone.
    pub(super) fn reclaim(&self) -> Option<Upload> {
        let Some(held) = &self.body else { return Some(Upload::Nothing) };
        let mut held = held.borrow_mut();
        if held.bytes > 0 || !held.pieces.is_empty() {
            return None;
        }
        // Whoever still has the body gets nothing more of it.
        held.attempt += 1;
        Some(std::mem::replace(&mut held.upload, Upload::Nothing))
    }
}

impl Drop for Kept {
    /// The answer has begun, or there is none: nothing is sent again.
    fn drop(&mut self) {
        if let Some(held) = &self.body {
            held.borrow_mut().is_whole = false;
        }
    }
}

impl Held {
    /// The next piece that nobody was given before.
    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let frame = Pin::new(&mut self.upload).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.bytes += frame.data_ref().map_or(0, Bytes::len);
            self.is_whole &= self.bytes <= HELD_BYTES_MAX;
            if self.is_whole {
                self.pieces.extend(Piece::of(frame));
            } else {
                self.pieces = Vec::new();
            }
        }
        frame
    }
}

impl Piece {
    fn of(frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref().map(|data| Piece::Data(data.clone()));
        data.or_else(|| frame.trailers_ref().map(|trailers| Piece::Trailers(trailers.clone())))
    }

    fn frame(&self) -> Frame<Bytes> {
        match self {
            Piece::Data(data) => Frame::data(data.clone()),
            Piece::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Cancelled;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cancelled>>> {
        let this = self.get_mut();
        let Some(held) = &this.held else { return Poll::Ready(None) };
        let mut held = held.borrow_mut();
        if held.attempt != this.attempt {
            // Its stream was refused and is gone; who asks is about to notice.
            return Poll::Pending;
        }
        if let Some(piece) = held.pieces.get(this.given) {
            this.given += 1;
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        let frame = held.poll_fresh(cx);
        this.given = held.pieces.len();
        frame.map(|frame| frame.map(|frame| frame.map_err(|_| Cancelled(h2::Reason::CANCEL.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.as_ref().is_none_or(|held| {
            let held = held.borrow();
            held.pieces.len() <= self.given && held.upload.is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            None => SizeHint::with_exact(0),
            // What its client said of its length stands in its head; what is left of it is no length.
            Some(_) if self.attempt > 0 => SizeHint::default(),
            Some(held) => held.borrow().upload.size_hint(),
        }
    }
}
