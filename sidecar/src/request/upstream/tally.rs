//! Tally: what is counted of one upstream, by all workers and by the task that keeps its endpoints.
//!
//! Cost: none, but for what is rare: one addition that workers share.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident = $family:literal, $label:expr;)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counted {
            $($(#[$doc])* $name,)*
        }

        impl Counted {
            /// Every one, with its family of metrics and the label it has there besides those of its upstream.
            pub const ALL: &'static [(Counted, &'static str, Option<(&'static str, &'static str)>)] =
                &[$((Counted::$name, $family, $label),)*];
        }
    };
}

counted! {
    /// Sent again because there was no connection.
    RetriedConnect = "bulkhead_upstream_retries_total", Some(("reason", "connect_failure"));
    /// Sent again because the connection broke before anything came back.
    RetriedReset = "bulkhead_upstream_retries_total", Some(("reason", "reset"));
    /// Sent again because of the answer's status.
    RetriedStatus = "bulkhead_upstream_retries_total", Some(("reason", "status"));
    /// Sent to another as well, because the first was silent.
    Hedged = "bulkhead_upstream_retries_total", Some(("reason", "hedge"));
    /// Not sent again: the budget was used up.
    RetryWithheld = "bulkhead_upstream_retries_withheld_total", None;
    /// Refused: every endpoint had reached its adaptive limit.
    Shed = "bulkhead_upstream_adaptive_refusals_total", None;
    /// An endpoint was ejected.
    Ejected = "bulkhead_upstream_ejections_total", None;
    /// An endpoint that was asked is well.
    Well = "bulkhead_upstream_health_checks_total", Some(("result", "well"));
    /// An endpoint that was asked is not well.
    Unwell = "bulkhead_upstream_health_checks_total", Some(("result", "failed"));
    /// A name was resolved.
    Resolved = "bulkhead_upstream_resolutions_total", Some(("result", "resolved"));
    /// A name could not be resolved.
    Unresolved = "bulkhead_upstream_resolutions_total", Some(("result", "failed"));
}

/// How often each happened, in the order of [`Counted::ALL`].
pub type Counts = [u64; Counted::ALL.len()];

/// The counters of one upstream.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Counted::ALL.len()]);

impl Tally {
    /// It happened once more.
    pub fn count(&self, what: Counted) {
        if let Some(counter) = self.0.get(what as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each happened, in the order of [`Counted::ALL`].
    #[must_use]
    pub fn read(&self) -> Counts {
        self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}
