//! Outlier: how long an endpoint that failed again and again is left alone. Pure: no clock.
//!
//! Cost: none per request.

use crate::clock::Now;
use bulkhead_config::snapshot::Outlier;
use std::time::Duration;

/// The ejections of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    until: Option<Now>,
    /// In a row: the next one is longer by as much as the first.
    times: u32,
    /// When the last one ended.
    over: Option<Now>,
}

impl Ejections {
    /// Whether it is left alone.
    pub(super) fn is_out(&self) -> bool {
        self.until.is_some()
    }

    /// Begins one; for how long. Who stayed well for as long as the longest begins from the first again.
    pub(super) fn eject(&mut self, outlier: &Outlier, now: Now) -> Duration {
        let was_well = self.over.is_some_and(|over| now.since(over) > outlier.ejection_time_max);
        self.times = if was_well { 1 } else { self.times.saturating_add(1) };
        let time = outlier.ejection_time.saturating_mul(self.times).min(outlier.ejection_time_max);
        self.until = Some(now.after(time));
        time
    }

    /// When it ends.
    pub(super) fn until(&self) -> Option<Now> {
        self.until
    }

    /// Ends it, if it is time. Whether it did.
    pub(super) fn end(&mut self, now: Now) -> bool {
        let is_over = self.until.is_some_and(|until| until.mono_ns <= now.mono_ns);
        if is_over {
            self.until = None;
            self.over = Some(now);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, unix_ms: 0 }
    }

    #[test]
    fn ejections_grow_up_to_a_bound_and_begin_anew_after_a_good_time() {
        let seconds = Duration::from_secs;
        let outlier = Outlier { failures: 5, ejection_time: seconds(10), ejection_time_max: seconds(25), ejected_max_percent: 50 };
        let mut ejections = Ejections::default();
        let mut now = 0;
        for expected in [10, 20, 25, 25] {
            assert_eq!(ejections.eject(&outlier, at(now)), seconds(expected));
            assert!(!ejections.end(at(now + expected - 1)) && ejections.is_out());
            now += expected;
            assert!(ejections.end(at(now)) && !ejections.is_out());
        }
        assert_eq!(ejections.eject(&outlier, at(now + 20)), seconds(25), "not long enough");
        assert!(ejections.end(at(now + 60)));
        assert_eq!(ejections.eject(&outlier, at(now + 60 + 26)), seconds(10));
    }
}
