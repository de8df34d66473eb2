//! Gradient: how many requests at once an endpoint answers without getting slower, found from how long its answers take. Pure: no
//! clock.
//!
//! Cost: per answer where `adaptive_concurrency` is declared; one number noted, and the median of 64 ten times a second at most.
//! The median of what was answered lately is held against the best, which is measured while few requests are on their way: at first,
//! and again from time to time, because a standing queue looks like a slow endpoint. Then
//! `limit = limit * (1 + tolerance) * best / median + sqrt(limit)`: it grows while answers are fast, and settles where they take a
//! little longer than the tolerance allows. Of a limit that is hardly used nobody knows whether more would do: it does not grow.
//! Gradient and square root are known from Netflix's concurrency-limits and Envoy's adaptive concurrency filter; other than there the
//! best is measured under a part of the limit, so that few are refused for it.

use bulkhead_config::snapshot::AdaptiveConcurrency;
use std::time::Duration;

/// Answers after which a window may end.
const ANSWERS_MIN: usize = 20;
/// Answers that a window remembers: the last ones.
const ANSWERS_MAX: usize = 64;
/// How long a window lasts at least.
const WINDOW_NS: u64 = 100_000_000;
/// The limit while the best is measured is one of so many parts. A limit settles at about `1 + tolerance` of what an endpoint answers
/// without a queue, and the tolerance is at most 1: a third of it leaves no queue.
const PROBED_PART: u32 = 3;
/// A faster window moves the best by one of so many parts of what it is faster by: by chance one of many windows is a lot faster.
const EASED: u32 = 8;

/// The limit of one endpoint for one worker.
#[derive(Debug)]
pub(super) struct Gradient {
    declared: AdaptiveConcurrency,
    limit: u32,
    /// Requests on their way, of which no answer has begun.
    in_flight: u32,
    phase: Phase,
    /// Microseconds in which it answers when it has little to do. Zero before the first measure.
    best: u32,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The limit follows what answers take.
    Following,
    /// Few are let in, until there are few.
    Draining { began: u64 },
    /// The best is measured, with requests sent since then.
    Measuring { since: u64 },
}

/// What was answered lately.
#[derive(Debug)]
struct Window {
    began: u64,
    /// Microseconds of each answer.
    took: [u32; ANSWERS_MAX],
    count: usize,
    /// Requests that were on their way at once.
    peak: u32,
}

impl Gradient {
    /// It begins at the least: what an endpoint answers at once is found out from below.
    pub(super) fn new(declared: &AdaptiveConcurrency) -> Self {
        Self {
            limit: declared.min,
            declared: declared.clone(),
            in_flight: 0,
            phase: Phase::Measuring { since: 0 },
            best: 0,
            window: Window::new(),
        }
    }

    /// Requests that may be on their way at once, now.
    pub(super) fn limit(&self) -> u32 {
        match self.phase {
            Phase::Following => self.limit,
            Phase::Draining { .. } | Phase::Measuring { .. } => (self.limit / PROBED_PART).max(self.declared.min),
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.limit()
    }

    /// One more is on its way.
    pub(super) fn begin(&mut self) {
        self.in_flight += 1;
        self.window.peak = self.window.peak.max(self.in_flight);
    }

    /// One fewer is.
    pub(super) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// An answer began now, after so long.
    pub(super) fn answered(&mut self, took: Duration, now: u64) {
        match self.phase {
            Phase::Following => {}
            Phase::Draining { began } => {
                if self.in_flight <= self.limit() {
                    // As long again: other workers have as much to drain, and begin a moment later.
                    self.phase = Phase::Measuring { since: now + now.saturating_sub(began) };
                }
                return;
            }
            Phase::Measuring { since } => {
                if now.saturating_sub(nanos(took)) < since {
                    return;
                }
            }
        }
        self.window.note(micros(took), now);
        if self.window.is_over(now) {
            self.judge();
        }
    }

    /// Nobody waits for an answer any more, after so long. If that is longer than answers should take, it would have taken even
    /// longer; else it says nothing.
    pub(super) fn unanswered(&mut self, took: Duration, now: u64) {
        if self.best > 0 && u64::from(micros(took)) > self.tolerated() {
            self.answered(took, now);
        }
    }

    /// Measures the best anew.
    pub(super) fn probe(&mut self, now: u64) {
        if self.phase == Phase::Following {
            self.phase = Phase::Draining { began: now };
            self.window = Window::new();
        }
    }

    /// Microseconds that an answer may take.
    fn tolerated(&self) -> u64 {
        u64::from(self.best) * (100 + u64::from(self.declared.tolerance_percent)) / 100
    }

    /// What a window says.
    fn judge(&mut self) {
        let window = std::mem::replace(&mut self.window, Window::new());
        self.window.peak = self.in_flight;
        let median = window.median();
        if self.phase != Phase::Following {
            (self.best, self.phase) = (median, Phase::Following);
            return;
        }
        self.best -= self.best.saturating_sub(median) / EASED;
        let kept = u64::from(self.limit) * self.tolerated() / u64::from(median);
        let next = kept.max(u64::from(self.limit / 2)) + u64::from(self.limit.isqrt());
        let next = u32::try_from(next).unwrap_or(u32::MAX).clamp(self.declared.min, self.declared.max);
        // Fast answers to few say nothing of many; slow ones to few do.
        let is_used = u64::from(window.peak) * 2 >= u64::from(self.limit);
        self.limit = if is_used { next } else { next.min(self.limit) };
    }
}

impl Window {
    fn new() -> Self {
        Self { began: 0, took: [0; ANSWERS_MAX], count: 0, peak: 0 }
    }

    fn note(&mut self, took: u32, now: u64) {
        if self.count == 0 {
            self.began = now;
        }
        if let Some(place) = self.took.get_mut(self.count % ANSWERS_MAX) {
            *place = took;
        }
        self.count += 1;
    }

    fn is_over(&self, now: u64) -> bool {
        self.count >= ANSWERS_MIN && now.saturating_sub(self.began) >= WINDOW_NS
    }

    /// Half of the answers took longer. At least a microsecond.
    fn median(&self) -> u32 {
        let mut took = self.took;
        let Some(noted) = took.get_mut(..self.count.min(ANSWERS_MAX)).filter(|noted| !noted.is_empty()) else { return 1 };
        let middle = noted.len() / 2;
        *noted.select_nth_unstable(middle).1
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// At least one: what is divided by it must not be zero.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
