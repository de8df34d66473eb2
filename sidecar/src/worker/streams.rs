//! Streams: what lasts on this worker, and its end once it would be refused.
//!
//! Cost: per request that is over with the first piece of its answer: nothing. What lasts (a tunnel, an answer in more than one
//! piece, a request that waits for longer than a tick) takes one allocation, and a few hundred nanoseconds each time it is
//! looked at: at the tick after a change of policy, and once a second for what ends by the clock (`exp`, rules with a window).
//! An entry is a request's own facts, by tenant, principal and credential, so that the same decision can be asked again; whoever
//! serves the request is woken when the answer is no.

use super::{Current, Worker};
use crate::clock::Now;
use crate::request::standing::{Lapsed, Standing};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Ticks in which each stream is looked at once, whatever the policy does.
const TICKS_PER_ROUND: usize = 10;

/// All streams of one worker.
#[derive(Debug, Default)]
pub struct Streams {
    open: RefCell<Vec<Rc<Stream>>>,
    /// The policy by which all of them were looked at.
    seen: RefCell<Option<Rc<Current>>>,
    /// Where the round goes on.
    next: Cell<usize>,
}

/// Something that lasts.
#[derive(Debug)]
pub struct Stream {
    standing: Standing,
    place: Cell<usize>,
    is_ended: Cell<bool>,
    lapsed: RefCell<Option<Box<Lapsed>>>,
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    /// Enters what rests on `standing`. It stays until [`Streams::leave`].
    #[must_use]
    pub(crate) fn enter(&self, standing: Standing) -> Rc<Stream> {
        let mut open = self.open.borrow_mut();
        let place = Cell::new(open.len());
        let (is_ended, lapsed, waker) = (Cell::new(false), RefCell::default(), RefCell::default());
        let stream = Rc::new(Stream { standing, place, is_ended, lapsed, waker });
        open.push(Rc::clone(&stream));
        stream
    }

    /// It is over.
    pub(crate) fn leave(&self, stream: &Stream) {
        let mut open = self.open.borrow_mut();
        let place = stream.place.get();
        if place < open.len() {
            open.swap_remove(place);
        }
        if let Some(moved) = open.get(place) {
            moved.place.set(place);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Looks at all of them when the policy has changed, else at the next few.
    pub(super) fn review(&self, worker: &Worker) {
        let policy = worker.policy();
        let open = self.open.borrow();
        let has_changed = self.seen.borrow().as_ref().is_none_or(|seen| !Rc::ptr_eq(seen, &policy));
        if has_changed {
            self.seen.replace(Some(Rc::clone(&policy)));
        }
        let share = if has_changed { open.len() } else { open.len().div_ceil(TICKS_PER_ROUND) };
        let (now, first) = (worker.now(), self.next.get());
        for stream in open.iter().cycle().skip(first).take(share) {
            stream.review(worker, &policy, now);
        }
        self.next.set((first + share) % open.len().max(1));
    }
}

impl Stream {
    /// Asks again whether it may go on, unless the answer was no before.
    pub(crate) fn review(&self, worker: &Worker, policy: &Current, now: Now) {
        if self.is_ended.get() {
            return;
        }
        if let Err(lapsed) = self.standing.holds(worker, policy, now) {
            self.lapsed.replace(Some(lapsed));
            self.is_ended.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether it may not go on.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended.get()
    }

    /// `Ready` once it may not go on.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ended.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Why it may not go on; once.
    pub(crate) fn take_lapsed(&self) -> Option<Box<Lapsed>> {
        self.lapsed.take()
    }

    /// Code of why it may not go on.
    #[must_use]
    pub fn why_ended(&self) -> Option<&'static str> {
        self.lapsed.borrow().as_ref().map(|lapsed| lapsed.refusal.code().kind().slug)
    }
}
