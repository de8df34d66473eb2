//! `concurrent: 64`: so many requests at once.
//!
//! Cost: per request; one compare-and-swap when it comes and one atomic subtraction when its last byte left; no lock.

use super::cell::{Cell, Empty, Level};
use crate::clock::Now;
use bulkhead_config::declared::Counted;
use bulkhead_config::unit::Limit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Requests at once; with 0 nothing passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places(pub u32);

impl Places {
    /// The numbers of a limit, if it counts this way.
    pub(super) fn declared(counted: &Counted) -> Option<Self> {
        match *counted {
            Counted::Concurrent { concurrent: Limit::AtMost(places) } => Some(Self(places.get())),
            Counted::Concurrent { concurrent: Limit::Closed } => Some(Self(0)),
            Counted::Concurrent { concurrent: Limit::Unlimited } | Counted::Rate { .. } | Counted::Sliding { .. } => None,
        }
    }
}

/// The cell of a number of places.
#[derive(Debug)]
pub struct InFlight(AtomicU32);

/// When to ask again: nobody knows when a request ends, and a second is the least that `Retry-After` can say.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Cell for InFlight {
    type Allowance = Places;
    type Receipt = ();

    fn unused(_: &Places) -> Self {
        Self(AtomicU32::new(0))
    }

    fn drained(_: Now, _: &Places) -> Option<Self> {
        None
    }

    fn take(&self, _: Now, places: &Places) -> Result<(), Empty> {
        let mut taken = self.0.load(Ordering::Relaxed);
        loop {
            if taken >= places.0 {
                return Err(Empty { wait: ASK_AGAIN });
            }
            match self.0.compare_exchange_weak(taken, taken + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(found) => taken = found,
            }
        }
    }

    fn give_back(&self, (): (), _: &Places) {
        // Each receipt is given back once, so this meets no zero.
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    fn peek(&self, _: Now, places: &Places) -> Level {
        let remaining = places.0.saturating_sub(self.0.load(Ordering::Relaxed));
        Level { remaining, reset: Duration::ZERO }
    }

    fn is_unused(&self, _: Now, _: &Places) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 0, unix_ms: 0 };

    #[test]
    fn a_place_is_free_again_once_it_is_given_back() {
        let cell = InFlight::unused(&Places(2));
        cell.take(NOW, &Places(2)).unwrap();
        cell.take(NOW, &Places(2)).unwrap();
        assert_eq!(cell.take(NOW, &Places(2)), Err(Empty { wait: Duration::from_secs(1) }));
        cell.give_back((), &Places(2));
        assert_eq!(cell.peek(NOW, &Places(2)).remaining, 1);
        cell.take(NOW, &Places(2)).unwrap();
    }

    #[test]
    fn fewer_places_send_nobody_away_and_let_nobody_in() {
        let cell = InFlight::unused(&Places(3));
        for _ in 0..3 {
            cell.take(NOW, &Places(3)).unwrap();
        }
        assert!(cell.take(NOW, &Places(1)).is_err());
        for _ in 0..2 {
            cell.give_back((), &Places(1));
        }
        assert!(cell.take(NOW, &Places(1)).is_err());
        cell.give_back((), &Places(1));
        assert!(cell.take(NOW, &Places(1)).is_ok());
    }

    #[test]
    fn threads_together_never_hold_more_places_than_there_are() {
        let (cell, places) = (InFlight::unused(&Places(5)), Places(5));
        let held = AtomicU32::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..20_000 {
                        if cell.take(NOW, &places).is_ok() {
                            assert!(held.fetch_add(1, Ordering::SeqCst) < 5);
                            held.fetch_sub(1, Ordering::SeqCst);
                            cell.give_back((), &places);
                        }
                    }
                });
            }
        });
        assert_eq!(cell.peek(NOW, &places).remaining, 5);
    }
}
