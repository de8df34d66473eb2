//! Deadlines of one worker: a wheel that turns every 50 ms. Coarse on purpose: what waits for a network counts in seconds.
//!
//! Cost: per request; a deadline is taken from a list, moved by writing one number and given back. Nothing is inserted into or
//! removed from the wheel unless a deadline moves ahead of the place where it is queued; a late one is found when its old
//! place comes by, and queued again. So a connection that answers a thousand requests a second is touched once a second.
//! A deadline never fires early; it fires at most two turns late.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// One turn of the wheel.
pub const TURN: Duration = Duration::from_millis(50);

/// Places of the wheel: 51 s. What is due later is queued again when its place comes by.
const PLACES: u64 = 1_024;
/// Deadlines kept for the next taker.
const SPARE_MAX: usize = 1_024;
/// Due or queued at no turn.
const NEVER: u64 = u64::MAX;

/// The deadlines of one worker.
#[derive(Debug)]
pub struct Wheel {
    turn: Cell<u64>,
    places: RefCell<Vec<Vec<Rc<Entry>>>>,
    spare: RefCell<Vec<Rc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    due: Cell<u64>,
    /// The turn it is found at; an entry found at another turn is a leftover of an earlier place.
    queued: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// One deadline, disarmed until [`Deadline::arm`]. Dropping it gives it back.
#[derive(Debug)]
pub struct Deadline {
    entry: Rc<Entry>,
    wheel: Rc<Wheel>,
}

/// The time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time was up")]
pub struct Elapsed;

impl Wheel {
    /// A wheel that stands.
    #[must_use]
    pub fn new() -> Rc<Self> {
        let places = (0..PLACES).map(|_| Vec::new()).collect();
        Rc::new(Self { turn: Cell::new(0), places: RefCell::new(places), spare: RefCell::default() })
    }

    /// The turn now under way: a clock that costs nothing to read.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Whole turns since that one, as time.
    #[must_use]
    pub fn since(&self, turn: u64) -> Duration {
        TURN.saturating_mul(u32::try_from(self.turn().saturating_sub(turn)).unwrap_or(u32::MAX))
    }

    /// Takes a deadline.
    #[must_use]
    pub fn take(self: &Rc<Self>) -> Deadline {
        let fresh = || Rc::new(Entry { due: Cell::new(NEVER), queued: Cell::new(NEVER), waker: RefCell::default() });
        let entry = self.spare.borrow_mut().pop().unwrap_or_else(fresh);
        Deadline { entry, wheel: Rc::clone(self) }
    }

    /// Turns the wheel to where it belongs `since_start` after its start, and wakes whoever is due.
    pub fn turn_to(&self, since_start: Duration) {
        let target = turns(since_start);
        // After a long stall every place comes by once at most.
        let first = (self.turn.get() + 1).max(target.saturating_sub(PLACES - 1));
        for turn in first..=target {
            self.turn.set(turn);
            self.visit(turn);
        }
    }

    fn visit(&self, turn: u64) {
        let Some(met) = self.place(turn, std::mem::take) else { return };
        for entry in met {
            if entry.queued.get() > turn {
                continue;
            }
            entry.queued.set(NEVER);
            if entry.due.get() > turn {
                self.queue(entry);
            } else if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    fn queue(&self, entry: Rc<Entry>) {
        let due = entry.due.get();
        if due == NEVER {
            return;
        }
        let turn = due.clamp(self.turn.get() + 1, self.turn.get() + PLACES - 1);
        entry.queued.set(turn);
        self.place(turn, |place| place.push(entry));
    }

    fn place<T>(&self, turn: u64, act: impl FnOnce(&mut Vec<Rc<Entry>>) -> T) -> Option<T> {
        let place = usize::try_from(turn % PLACES).ok()?;
        self.places.borrow_mut().get_mut(place).map(act)
    }
}

impl Deadline {
    /// Due `after` from now; an earlier setting is forgotten.
    pub fn arm(&self, after: Duration) {
        // The turn now under way has begun already: one more, so that it is never early.
        self.entry.due.set(self.wheel.turn.get() + turns(after + TURN) + 1);
        if self.entry.queued.get() > self.entry.due.get() {
            self.wheel.queue(Rc::clone(&self.entry));
        }
    }

    /// Whole turns that its wheel has made: a clock that costs nothing to read.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.wheel.turn()
    }

    /// Its wheel.
    #[must_use]
    pub fn wheel(&self) -> &Rc<Wheel> {
        &self.wheel
    }

    /// Never due.
    pub fn disarm(&self) {
        self.entry.due.set(NEVER);
    }

    /// Wakes the task that waits, whatever the time.
    pub fn wake(&self) {
        if let Some(waker) = self.entry.waker.take() {
            waker.wake();
        }
    }

    /// Whether the time is up; if not, the task is woken then. Also if it is: whoever moves the deadline and waits on counts on
    /// being woken again.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let mut waker = self.entry.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if self.entry.due.get() <= self.wheel.turn.get() { Poll::Ready(Elapsed) } else { Poll::Pending }
    }

    /// Waits for `future`, but no longer than `after`.
    ///
    /// # Errors
    /// The time was up first.
    pub async fn limit<F: Future>(&self, after: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.arm(after);
        let outcome = self.race(pin!(future)).await;
        self.disarm();
        outcome
    }

    /// Waits for `future`, but no longer than it is armed for. By reference: what one future hands to another it holds twice.
    ///
    /// # Errors
    /// The time was up first.
    pub async fn race<F: Future>(&self, mut future: Pin<&mut F>) -> Result<F::Output, Elapsed> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.disarm();
        self.entry.waker.take();
        let mut spare = self.wheel.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(Rc::clone(&self.entry));
        }
    }
}

/// Whole turns in a time.
fn turns(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TURN.as_millis()).unwrap_or(NEVER / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Bell(AtomicUsize);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_turns_late() {
        for after in [0, 1, 49, 50, 51, 10_000, 51_150, 51_200, 200_000] {
            for start in [0, 20, 49, 1_000, 60_000] {
                let wheel = Wheel::new();
                wheel.turn_to(ms(start));
                let (deadline, bell) = (wheel.take(), Arc::new(Bell(AtomicUsize::new(0))));
                deadline.arm(ms(after));
                let waker = Waker::from(Arc::clone(&bell));
                let mut cx = Context::from_waker(&waker);
                assert!(deadline.poll(&mut cx).is_pending());
                let mut now = start;
                while bell.0.load(Ordering::Relaxed) == 0 {
                    now += 10;
                    wheel.turn_to(ms(now));
                }
                assert!(deadline.poll(&mut cx).is_ready());
                assert!(now >= start + after, "{after} ms from {start}: fired at {now}");
                assert!(now <= start + after + 150, "{after} ms from {start}: fired at {now}");
            }
        }
    }

    #[test]
    fn only_the_last_setting_counts() {
        let wheel = Wheel::new();
        let deadline = wheel.take();
        let mut cx = Context::from_waker(Waker::noop());
        deadline.arm(ms(1_000));
        deadline.arm(ms(100));
        deadline.arm(ms(5_000));
        wheel.turn_to(ms(4_900));
        assert!(deadline.poll(&mut cx).is_pending());
        deadline.disarm();
        wheel.turn_to(ms(60_000));
        assert!(deadline.poll(&mut cx).is_pending());
    }

    #[test]
    fn a_deadline_that_was_met_and_is_moved_wakes_again() {
        let wheel = Wheel::new();
        let (deadline, bell) = (wheel.take(), Arc::new(Bell(AtomicUsize::new(0))));
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        deadline.arm(ms(100));
        assert!(deadline.poll(&mut cx).is_pending());
        wheel.turn_to(ms(1_000));
        assert!(deadline.poll(&mut cx).is_ready());
        deadline.arm(ms(500));
        wheel.turn_to(ms(2_000));
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn moving_a_deadline_again_and_again_keeps_the_wheel_small() {
        let wheel = Wheel::new();
        for round in 0..2_000 {
            let deadline = wheel.take();
            deadline.arm(ms(15_000));
            deadline.arm(ms(60_000));
            deadline.arm(ms(1_000));
            drop(deadline);
            wheel.turn_to(ms(round * 10));
        }
        let queued: usize = wheel.places.borrow().iter().map(Vec::len).sum();
        assert!(queued < 64, "{queued} entries for one deadline");
        assert_eq!(wheel.spare.borrow().len(), 1);
    }

    #[test]
    fn a_long_stall_wakes_everybody_who_was_due_in_it() {
        let wheel = Wheel::new();
        let deadlines: Vec<_> = (0..100)
            .map(|n| {
                let deadline = wheel.take();
                deadline.arm(ms(n * 1_000));
                deadline
            })
            .collect();
        wheel.turn_to(ms(1_000_000));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(deadlines.iter().all(|deadline| deadline.poll(&mut cx).is_ready()));
    }
}
