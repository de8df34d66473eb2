//! Departures: what is written goes out when every task that is ready has had its turn.
//!
//! Cost: per request twice; a handle in a list. Writes then follow each other closely, and a peer that was woken by the first finds
//! the others when it is done with it; woken for each, it costs an interrupt of its processor each time.
//! The task that wrote goes on meanwhile and is woken only if the system does not take all of it: half of the polls of a request
//! were for writing what the poll before had left.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Weak;
use std::task::{Poll, Waker};

/// Who has something to write.
pub trait Departs {
    /// Writes what the system takes. If that is not all, its owner is woken.
    fn depart(&self);
}

/// Who waits for the end of this turn of one worker.
#[derive(Default)]
pub struct Departures {
    waiting: RefCell<Vec<Weak<dyn Departs>>>,
    waker: RefCell<Option<Waker>>,
}

impl std::fmt::Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Departures").field("waiting", &self.waiting.borrow().len()).finish_non_exhaustive()
    }
}

impl Departures {
    /// `who` writes when all that are ready now have had their turn, if it is still there.
    pub fn add(&self, who: Weak<dyn Departs>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty()
            && let Some(waker) = &*self.waker.borrow()
        {
            // To the end of the queue.
            waker.wake_by_ref();
        }
        waiting.push(who);
    }

    /// Lets them go, turn by turn; never ends. It runs as a task of its own.
    pub async fn run(&self) {
        let mut going: Vec<Weak<dyn Departs>> = Vec::new();
        let run = poll_fn(|cx| {
            if self.waker.borrow().is_none() {
                self.waker.replace(Some(cx.waker().clone()));
            }
            std::mem::swap(&mut going, &mut *self.waiting.borrow_mut());
            going.drain(..).filter_map(|who| who.upgrade()).for_each(|who| who.depart());
            Poll::Pending
        });
        // Its own writes are many tasks': counted as one task's, they would stop at the 128th.
        tokio::task::coop::unconstrained(run).await
    }
}
