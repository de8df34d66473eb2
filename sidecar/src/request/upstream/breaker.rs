//! Breaker: how many requests an endpoint is answering at once, over all workers, and how many wait while all of them are full.
//!
//! Cost: none where `limits` are not declared; else per request two additions that workers share.

use bulkhead_config::snapshot::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// The places at one endpoint.
#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicU32,
    line: Arc<Line>,
}

/// Requests that wait for a place at any endpoint of their upstream.
#[derive(Debug)]
pub(super) struct Line {
    limits: Limits,
    waiting: AtomicU32,
    freed: Notify,
}

/// A request in the line.
#[derive(Debug)]
pub(super) struct InLine<'a>(&'a Line);

impl Places {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        Self { taken: AtomicU32::new(0), line: Arc::clone(line) }
    }

    /// Whether there is none left.
    pub(super) fn are_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst) >= self.line.limits.in_flight
    }

    /// Takes one. Whoever comes too late is one too many for a moment, so that another may be refused, and never admitted, wrongly.
    pub(super) fn take(&self) -> bool {
        let is_left = self.taken.fetch_add(1, Ordering::SeqCst) < self.line.limits.in_flight;
        if !is_left {
            self.taken.fetch_sub(1, Ordering::SeqCst);
        }
        is_left
    }

    /// Gives one back. Who waits has said so before it looked for one, and is told after this one was given back: one of the two
    /// sees the other.
    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        if self.line.waiting.load(Ordering::SeqCst) > 0 {
            self.line.freed.notify_one();
        }
    }
}

impl Line {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { limits: limits.clone(), waiting: AtomicU32::new(0), freed: Notify::new() })
    }

    /// Stands in the line, unless it is as long as it may be.
    pub(super) fn enter(&self) -> Option<InLine<'_>> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) < self.limits.pending {
            return Some(InLine(self));
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        None
    }
}

impl InLine<'_> {
    /// Waits until a place was given back. Somebody else may have taken it.
    pub(super) async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // It may have been told of a place and not have come to take it.
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn places_and_the_line_for_them_are_as_many_as_declared() {
        let line = Line::new(&Limits { in_flight: 2, pending: 1 });
        let (places, others) = (Places::new(&line), Places::new(&line));
        assert_eq!([places.take(), places.take(), places.take()], [true, true, false]);
        assert!(places.are_taken() && !others.are_taken(), "each endpoint has its own");
        places.give_back();
        assert!(!places.are_taken() && places.take());
        let waiting = line.enter();
        assert!(waiting.is_some() && line.enter().is_none());
        drop(waiting);
        assert!(line.enter().is_some());
    }

    #[test]
    fn two_threads_never_have_more_places_than_there_are() {
        let places = Arc::new(Places::new(&Line::new(&Limits { in_flight: 3, pending: 0 })));
        let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let threads = [(); 4].map(|()| {
            let (places, now, most) = (Arc::clone(&places), Arc::clone(&now), Arc::clone(&most));
            std::thread::spawn(move || {
                for _ in 0..10_000 {
                    if places.take() {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        now.fetch_sub(1, Ordering::SeqCst);
                        places.give_back();
                    }
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)) && !places.are_taken());
    }
}
