//! Replay: a request over HTTP/2 that can be sent again, because its server said that it did nothing with it.
//!
//! Cost: per request over HTTP/2; a copy of its head, and with a body one small allocation. Pieces of the body are not copied, only
//! held until the answer begins.
//! A server refuses streams beyond its limit (REFUSED_STREAM) and, going away, those it has not looked at (GOAWAY); both are as if
//! they had never been sent (RFC 9113 section 8.7), whatever their method. The engine gives back neither, so they are kept here.

use super::tape::{Play, Tape};
use crate::request::body::Upload;
use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bytes of a body that are held to be sent again. A server that refuses a stream does so before it has opened the stream's
/// window, which is this large unless it says otherwise (RFC 9113 section 6.9.2).
const HELD_BYTES_MAX: u64 = 64 << 10;

/// What is kept of a request until its answer begins.
pub(super) struct Kept {
    head: Request<()>,
    body: Option<Rc<RefCell<Held>>>,
}

/// The body as the engine has it.
#[derive(Debug)]
pub(super) struct Lent {
    held: Option<(Rc<RefCell<Held>>, Play)>,
}

/// A body and what was taken of it.
#[derive(Debug)]
struct Held {
    upload: Upload,
    tape: Tape,
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
        upload => Some(Rc::new(RefCell::new(Held { upload, tape: Tape::new(HELD_BYTES_MAX) }))),
    };
    let held = body.as_ref().map(|held| (Rc::clone(held), held.borrow().tape.play()));
    (Request::from_parts(parts.clone(), Lent { held }), Kept { head: Request::from_parts(parts, ()), body })
}

impl Kept {
    /// The request once more, unless too much of its body is gone.
    pub(super) fn again(&self) -> Option<Request<Lent>> {
        let held = match &self.body {
            None => None,
            Some(held) => Some((Rc::clone(held), held.borrow_mut().tape.rewind()?)),
        };
        let (parts, ()) = self.head.clone().into_parts();
        Some(Request::from_parts(parts, Lent { held }))
    }

    /// The body as it came, for an attempt over HTTP/1.1, unless something of it is gone.
    pub(super) fn reclaim(&self) -> Option<Upload> {
        let Some(held) = &self.body else { return Some(Upload::Nothing) };
        let mut held = held.borrow_mut();
        if !held.tape.is_untouched() {
            return None;
        }
        // Whoever still has the body gets nothing more of it.
        let _ = held.tape.rewind()?;
        Some(std::mem::replace(&mut held.upload, Upload::Nothing))
    }
}

impl Drop for Kept {
    /// The answer has begun, or there is none: nothing is sent again.
    fn drop(&mut self) {
        if let Some(held) = &self.body {
            held.borrow_mut().tape.forget();
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Cancelled;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cancelled>>> {
        let Some((held, play)) = &mut self.get_mut().held else { return Poll::Ready(None) };
        let Held { upload, tape } = &mut *held.borrow_mut();
        let frame = tape.poll(play, || Pin::new(upload).poll_frame(cx));
        frame.map(|frame| frame.map(|frame| frame.map_err(|_| Cancelled(h2::Reason::CANCEL.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.as_ref().is_none_or(|(held, play)| {
            let held = held.borrow();
            held.tape.is_at_end(play) && held.upload.is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            None => SizeHint::with_exact(0),
            // What its client said of its length stands in its head; what is left of it is no length.
            Some((_, play)) if play.is_again() => SizeHint::default(),
            Some((held, _)) => held.borrow().upload.size_hint(),
        }
    }
}
