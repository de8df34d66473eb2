//! Budget: how many retries the requests of one worker may bring on an upstream.
//!
//! Cost: per request where `retry` is declared; one addition.
//! Of the requests of the last ten seconds a share, and a few more, so that an upstream with little traffic can be asked again at
//! all. A dead upstream thus gets that share more than it would, not a multiple.

use crate::deadline::TURN;
use std::cell::Cell;

/// Seconds that are looked back at.
const SECONDS: usize = 10;
/// Retries in that time that need no requests.
const FLOOR: u64 = 10;

/// Retries and the requests that pay for them.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u8,
    seconds: [Cell<Second>; SECONDS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    requests: u64,
    retries: u64,
}

impl Budget {
    pub(super) fn new(percent: u8) -> Self {
        Self { percent, seconds: Default::default() }
    }

    /// A request pays in.
    pub(super) fn request(&self, turn: u64) {
        self.change(turn, |second| second.requests += 1);
    }

    /// Takes one retry out, if there is one.
    pub(super) fn withdraw(&self, turn: u64) -> bool {
        let now = second_of(turn);
        let lately = self.seconds.iter().map(Cell::get).filter(|second| second.number + SECONDS as u64 > now);
        let (requests, retries) = lately.fold((0, 0), |(requests, retries), second| (requests + second.requests, retries + second.retries));
        let may = retries < FLOOR + requests * u64::from(self.percent) / 100;
        if may {
            self.change(turn, |second| second.retries += 1);
        }
        may
    }

    fn change(&self, turn: u64, change: impl FnOnce(&mut Second)) {
        let number = second_of(turn);
        let Some(cell) = usize::try_from(number).ok().and_then(|number| self.seconds.get(number % SECONDS)) else { return };
        let mut second = if cell.get().number == number { cell.get() } else { Second { number, ..Second::default() } };
        change(&mut second);
        cell.set(second);
    }
}

/// Seconds that the worker's wheel has made, from one on: zero is what no request was seen in.
fn second_of(turn: u64) -> u64 {
    turn * u64::from(TURN.subsec_millis()) / 1_000 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_SECOND: u64 = 20;

    #[test]
    fn retries_are_a_share_of_requests_and_a_few() {
        let budget = Budget::new(20);
        let granted = |turn| (0..1_000).filter(|_| budget.withdraw(turn)).count();
        assert_eq!(granted(0), 10, "the floor");
        (0..500).for_each(|_| budget.request(0));
        assert_eq!(granted(1), 100, "a fifth of 500");
        assert_eq!(granted(9 * PER_SECOND), 0, "still remembered");
        assert_eq!(granted(11 * PER_SECOND), 10, "forgotten");
    }

    #[test]
    fn requests_pay_for_ten_seconds() {
        let budget = Budget::new(50);
        (0..100).for_each(|second| (0..10).for_each(|_| budget.request(second * PER_SECOND)));
        assert_eq!((0..1_000).filter(|_| budget.withdraw(99 * PER_SECOND)).count(), 10 + 50);
    }
}
