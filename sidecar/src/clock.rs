//! The clock: one reading per request, handed to every stage that asks what time it is.
//!
//! Cost: per request; one clock call in the vDSO (about 20 ns), no system call.
//! The wall clock is the monotonic one plus an offset that the worker's tick corrects, so a step of the system's time arrives
//! within a tick and never in the middle of a request.

use bulkhead_config::unit::UnixSeconds;
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// One reading: both clocks at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Nanoseconds since this process began to count; never goes back.
    pub mono_ns: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
}

impl Now {
    /// The wall clock in whole seconds, as documents and tokens count.
    #[must_use]
    pub fn unix(self) -> UnixSeconds {
        i64::try_from(self.unix_ms / 1_000).unwrap_or(i64::MAX)
    }

    /// A moment so much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Now {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Now { mono_ns: self.mono_ns.saturating_add(nanos), unix_ms: self.unix_ms.saturating_add(nanos / 1_000_000) }
    }

    /// Time since an earlier reading; zero if that one is later.
    #[must_use]
    pub fn since(self, earlier: Now) -> Duration {
        Duration::from_nanos(self.mono_ns.saturating_sub(earlier.mono_ns))
    }
}

/// Where monotonic time begins for every thread of this process: readings of two workers compare.
#[derive(Debug, Clone, Copy)]
pub struct Origin(Instant);

impl Origin {
    /// Begins to count.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since then.
    #[must_use]
    pub fn nanos(self) -> u64 {
        // 584 years.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The clock of one thread.
#[derive(Debug)]
pub struct Clock {
    origin: Origin,
    /// Milliseconds of the wall clock at the origin.
    offset_ms: Cell<u64>,
}

impl Clock {
    /// A clock that counts from `origin`.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        let clock = Self { origin, offset_ms: Cell::new(0) };
        clock.correct();
        clock
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono_ns = self.mono_ns();
        Now { mono_ns, unix_ms: self.offset_ms.get() + mono_ns / 1_000_000 }
    }

    /// Takes over steps of the system's wall clock; once per tick.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn correct(&self) {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX / 2);
        self.offset_ms.set(wall_ms.saturating_sub(self.mono_ns() / 1_000_000));
    }

    fn mono_ns(&self) -> u64 {
        self.origin.nanos()
    }
}
