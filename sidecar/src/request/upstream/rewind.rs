//! Rewind: a request's body that can be sent from its beginning again.
//!
//! Cost: per request with a body where `retry` is declared; two small allocations. Pieces are held, not copied.

use crate::request::body::{self, Body};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A body and what was taken of it.
#[derive(Debug)]
pub(super) struct Kept {
    body: Body,
    /// Of all of it, where the client said so.
    length: Option<u64>,
    pieces: Vec<Piece>,
    bytes: u64,
    bytes_max: u64,
    is_whole: bool,
    /// Which of the attempts it is for; an earlier one gets nothing more.
    attempt: u32,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A body on its way in one of the attempts.
#[derive(Debug)]
pub struct Playing {
    kept: Rc<RefCell<Kept>>,
    attempt: u32,
    /// Pieces it gave.
    given: usize,
    /// Bytes it gave.
    bytes: u64,
}

impl Kept {
    /// Keeps `body` as it goes, up to so many bytes.
    pub(super) fn new(body: Body, bytes_max: u64) -> Rc<RefCell<Self>> {
        let length = body.length();
        let is_whole = length.is_none_or(|length| length <= bytes_max);
        Rc::new(RefCell::new(Self { body, length, pieces: Vec::new(), bytes: 0, bytes_max, is_whole, attempt: 0 }))
    }

    /// The body as it goes out now.
    pub(super) fn play(kept: &Rc<RefCell<Self>>) -> Playing {
        Playing { kept: Rc::clone(kept), attempt: kept.borrow().attempt, given: 0, bytes: 0 }
    }

    /// The body from its beginning, unless too much of it is gone.
    pub(super) fn rewind(kept: &Rc<RefCell<Self>>) -> Option<Playing> {
        {
            let mut kept = kept.borrow_mut();
            if !kept.is_whole {
                return None;
            }
            kept.attempt += 1;
        }
        Some(Self::play(kept))
    }

    /// It will not be sent again: what goes on is not held any more.
    pub(super) fn forget(&mut self) {
        self.is_whole = false;
    }

    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Broken>>> {
        let frame = self.body.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            self.is_whole &= self.bytes <= self.bytes_max;
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

impl Playing {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Broken>>> {
        let mut kept = self.kept.borrow_mut();
        if kept.attempt != self.attempt {
            // Its connection failed; who asks is about to notice.
            return Poll::Pending;
        }
        let frame = match kept.pieces.get(self.given) {
            Some(piece) => Poll::Ready(Some(Ok(piece.frame()))),
            None => kept.poll_fresh(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.given += 1;
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        kept.pieces.len() <= self.given && kept.body.is_end_stream()
    }

    /// How much more comes.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let left = self.kept.borrow().length.map(|length| length.saturating_sub(self.bytes));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
