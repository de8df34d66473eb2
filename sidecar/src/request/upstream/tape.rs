//! Tape: what went of a request's body, held so that it can go from its beginning again.
//!
//! Cost: per piece of a body that is held; its handle in a list. Bytes are held, not copied, and only as many as may be.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use std::task::Poll;

/// What was taken of a body.
#[derive(Debug)]
pub(super) struct Tape {
    pieces: Vec<Piece>,
    bytes: u64,
    bytes_max: u64,
    /// Everything that was taken is here.
    is_whole: bool,
    /// Which of the attempts may take more; an earlier one gets nothing.
    attempt: u32,
}

/// How far one attempt has come.
#[derive(Debug)]
pub(super) struct Play {
    attempt: u32,
    /// Pieces it was given.
    given: usize,
    /// Bytes it was given.
    bytes: u64,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Tape {
    /// Holds up to so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { pieces: Vec::new(), bytes: 0, bytes_max, is_whole: true, attempt: 0 }
    }

    /// From the beginning, for the attempt that there is.
    pub(super) fn play(&self) -> Play {
        Play { attempt: self.attempt, given: 0, bytes: 0 }
    }

    /// From the beginning, for a new attempt, unless too much is gone. Those before it get nothing more.
    pub(super) fn rewind(&mut self) -> Option<Play> {
        self.is_whole.then(|| {
            self.attempt += 1;
            self.play()
        })
    }

    /// Nothing is sent again: what goes on is not held any more.
    pub(super) fn forget(&mut self) {
        self.is_whole = false;
    }

    /// Whether everything that was taken is held.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether nothing was taken yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.bytes == 0 && self.pieces.is_empty()
    }

    /// The next piece of an attempt: what is held, then what `fresh` brings.
    pub(super) fn poll<E>(
        &mut self,
        play: &mut Play,
        fresh: impl FnOnce() -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        if play.attempt != self.attempt {
            // It failed; who asks is about to notice.
            return Poll::Pending;
        }
        let frame = match self.pieces.get(play.given) {
            Some(piece) => Poll::Ready(Some(Ok(piece.frame()))),
            None => self.taken(fresh()),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            play.given += 1;
            play.bytes += bytes_of(frame);
        }
        frame
    }

    /// Whether an attempt was given all that is held.
    pub(super) fn is_at_end(&self, play: &Play) -> bool {
        self.pieces.len() <= play.given
    }

    /// Notes what nobody was given before.
    fn taken<E>(&mut self, frame: Poll<Option<Result<Frame<Bytes>, E>>>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.bytes += bytes_of(frame);
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

impl Play {
    /// Bytes that were given.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether another attempt came before.
    pub(super) fn is_again(&self) -> bool {
        self.attempt > 0
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

fn bytes_of(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    type Given = Poll<Option<Result<Frame<Bytes>, ()>>>;

    fn data(text: &'static str) -> Given {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }

    fn text(given: Given) -> Option<String> {
        let Poll::Ready(Some(Ok(frame))) = given else { return None };
        Some(String::from_utf8(frame.into_data().ok()?.to_vec()).unwrap())
    }

    #[test]
    fn a_new_attempt_gets_all_from_the_beginning_and_the_one_before_nothing_more() {
        let mut tape = Tape::new(10);
        let mut first = tape.play();
        assert!(tape.is_untouched());
        assert_eq!(text(tape.poll(&mut first, || data("one"))).as_deref(), Some("one"));
        let mut second = tape.rewind().unwrap();
        assert!(tape.poll(&mut first, || data("two")).is_pending());
        assert!(!tape.is_at_end(&second) && second.is_again());
        assert_eq!(text(tape.poll(&mut second, || data("two"))).as_deref(), Some("one"));
        assert_eq!(text(tape.poll(&mut second, || data("two"))).as_deref(), Some("two"));
        assert_eq!((second.bytes(), tape.is_at_end(&second)), (6, true));
    }

    #[test]
    fn what_is_all_here_goes_to_two_at_once() {
        let mut tape = Tape::new(10);
        let (mut one, mut other) = (tape.play(), tape.play());
        for piece in ["one", "two"] {
            assert_eq!(text(tape.poll(&mut one, || data(piece))).as_deref(), Some(piece));
        }
        assert!(tape.is_whole() && tape.is_at_end(&one) && !tape.is_at_end(&other));
        for piece in ["one", "two"] {
            assert_eq!(text(tape.poll(&mut other, || data("three"))).as_deref(), Some(piece));
        }
        assert!(tape.is_at_end(&other));
    }

    #[test]
    fn what_is_more_than_may_be_held_goes_once() {
        let mut tape = Tape::new(4);
        let mut only = tape.play();
        for piece in ["one", "two", "three"] {
            assert_eq!(text(tape.poll(&mut only, || data(piece))).as_deref(), Some(piece));
        }
        assert!(tape.rewind().is_none() && tape.pieces.is_empty() && !tape.is_untouched());
    }

    #[test]
    fn what_is_forgotten_is_not_sent_again() {
        let mut tape = Tape::new(4);
        tape.forget();
        assert!(tape.rewind().is_none());
    }
}
