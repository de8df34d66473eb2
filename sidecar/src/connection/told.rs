//! Told: a line in the log for what strangers can bring about as often as they like: one a second, and how many there were besides.
//!
//! Cost: per refused connection; two numbers of the worker.

use crate::deadline::TURN;
use std::cell::Cell;
use std::time::Duration;

/// Between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// When something was last written to the log, and how often it was not since.
#[derive(Debug, Default)]
pub struct Told {
    next: Cell<u64>,
    untold: Cell<u64>,
}

impl Told {
    /// It happened once more, in this turn of the wheel. If it is time for a line, how often it happened since the last one.
    pub fn is_due(&self, turn: u64) -> Option<u64> {
        if turn < self.next.get() {
            self.untold.set(self.untold.get() + 1);
            return None;
        }
        self.next.set(turn + u64::try_from(PAUSE.as_millis() / TURN.as_millis()).unwrap_or(u64::MAX / 2));
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_says_how_many_had_none() {
        let told = Told::default();
        let turns = [0, 0, 1, 19, 20, 41, 41].map(|turn| told.is_due(turn));
        assert_eq!(turns, [Some(0), None, None, None, Some(3), Some(0), None]);
    }
}
