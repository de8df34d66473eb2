//! Rewind: a request's body that can be sent from its beginning again.
//!
//! Cost: per request with a body where `retry` is declared; two small allocations. Pieces are held, not copied.

use super::tape::{Play, Tape};
use crate::request::body::{self, Body};
use bytes::Bytes;
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
    tape: Tape,
}

/// A body on its way in one of the attempts.
#[derive(Debug)]
pub struct Playing {
    kept: Rc<RefCell<Kept>>,
    play: Play,
}

impl Kept {
    /// Keeps `body` as it goes, up to so many bytes.
    pub(super) fn new(body: Body, bytes_max: u64) -> Rc<RefCell<Self>> {
        let (length, mut tape) = (body.length(), Tape::new(bytes_max));
        if length.is_some_and(|length| length > bytes_max) {
            tape.forget();
        }
        Rc::new(RefCell::new(Self { body, length, tape }))
    }

    /// The body as it goes out now.
    pub(super) fn play(kept: &Rc<RefCell<Self>>) -> Playing {
        Playing { kept: Rc::clone(kept), play: kept.borrow().tape.play() }
    }

    /// The body from its beginning, unless too much of it is gone.
    pub(super) fn rewind(kept: &Rc<RefCell<Self>>) -> Option<Playing> {
        let play = kept.borrow_mut().tape.rewind()?;
        Some(Playing { kept: Rc::clone(kept), play })
    }

    /// Whether its client has sent all of it, and all of it is held: then it may go out twice at once.
    pub(super) fn is_all_here(&self) -> bool {
        self.tape.is_whole() && self.body.is_end_stream()
    }

    /// It will not be sent again: what goes on is not held any more.
    pub(super) fn forget(&mut self) {
        self.tape.forget();
    }
}

impl Playing {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Broken>>> {
        let Kept { body, tape, .. } = &mut *self.kept.borrow_mut();
        tape.poll(&mut self.play, || body.poll_frame(cx))
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        kept.tape.is_at_end(&self.play) && kept.body.is_end_stream()
    }

    /// How much more comes.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let left = self.kept.borrow().length.map(|length| length.saturating_sub(self.play.bytes()));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
