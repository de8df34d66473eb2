//! Adaptive: one endpoint's limit as one worker keeps it to, and what the workers' limits of that endpoint share.
//!
//! Cost: none where `adaptive_concurrency` is not declared; else per request two looks at the clock, and no more than is read of what
//! is shared. A request counts from when its endpoint is chosen to the head of its answer, and is timed from its last byte on.

use super::fleet::Member;
use super::gradient::Gradient;
use crate::clock::Origin;
use bulkhead_config::snapshot::AdaptiveConcurrency;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The best is measured anew after so long, or up to twice as long: sidecars in front of the same endpoint must not do it together.
const PROBED_EVERY_NS: u64 = 30_000_000_000;

/// The limit of one endpoint for one worker.
#[derive(Debug)]
pub(super) struct Adaptive {
    gradient: RefCell<Gradient>,
    member: Arc<Member>,
    origin: Origin,
    /// Probes that this worker has taken part in.
    probed: Cell<u32>,
    /// What is shown of it.
    told: Cell<Told>,
}

/// Where a request stands with the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It does not count, or not any more.
    Uncounted,
    /// Its endpoint is chosen.
    Chosen,
    /// All of it went out, then.
    Whole { at: u64 },
}

/// What the workers' limits of one endpoint share.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// When the best is measured anew. All workers do it at the same time: what one of them kept sending would stand in the queue
    /// that the others measure.
    due: AtomicU64,
    /// How often that was.
    probes: AtomicU32,
    /// Sums of what the workers told.
    limit: AtomicU32,
    in_flight: AtomicU32,
}

/// What is shown of adaptive limits: of one, or of several added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Requests that may be on their way at once.
    pub limit: u32,
    /// Requests that are.
    pub in_flight: u32,
}

impl Adaptive {
    pub(super) fn new(declared: &AdaptiveConcurrency, member: &Arc<Member>, origin: Origin) -> Box<Self> {
        let adaptive = Self {
            gradient: RefCell::new(Gradient::new(declared)),
            member: Arc::clone(member),
            origin,
            probed: Cell::new(member.together.probes.load(Ordering::Relaxed)),
            told: Cell::default(),
        };
        adaptive.tell();
        Box::new(adaptive)
    }

    pub(super) fn is_full(&self) -> bool {
        self.gradient.borrow().is_full()
    }

    /// Requests of this worker that may be on their way.
    pub(super) fn limit(&self) -> u32 {
        self.gradient.borrow().limit()
    }

    /// An endpoint is chosen for a request.
    pub(super) fn begin(&self) -> Asked {
        self.gradient.borrow_mut().begin();
        Asked::Chosen
    }

    /// All of a request went out.
    pub(super) fn whole(&self) -> Asked {
        Asked::Whole { at: self.origin.nanos() }
    }

    /// Its answer began.
    pub(super) fn answered(&self, asked: Asked) {
        self.over(asked, Gradient::answered);
    }

    /// Nobody waits for its answer any more, or what came says nothing of the time that answers take.
    pub(super) fn unanswered(&self, asked: Asked) {
        self.over(asked, Gradient::unanswered);
    }

    fn over(&self, asked: Asked, note: impl FnOnce(&mut Gradient, Duration, u64)) {
        let mut gradient = self.gradient.borrow_mut();
        if asked != Asked::Uncounted {
            gradient.end();
        }
        if let Asked::Whole { at } = asked {
            let now = self.origin.nanos();
            let probes = self.member.together.probes(now);
            if self.probed.replace(probes) != probes {
                gradient.probe(now);
            }
            note(&mut gradient, Duration::from_nanos(now.saturating_sub(at)), now);
        }
    }

    /// Tells what is shown of it, once a second.
    pub(super) fn tell(&self) {
        let gradient = self.gradient.borrow();
        self.show(Told { limit: gradient.limit(), in_flight: gradient.in_flight() });
    }

    fn show(&self, now: Told) {
        let before = self.told.replace(now);
        let Together { limit, in_flight, .. } = &self.member.together;
        limit.fetch_add(now.limit.wrapping_sub(before.limit), Ordering::Relaxed);
        in_flight.fetch_add(now.in_flight.wrapping_sub(before.in_flight), Ordering::Relaxed);
    }
}

impl Drop for Adaptive {
    fn drop(&mut self) {
        self.show(Told::default());
    }
}

impl Told {
    /// Added up.
    #[must_use]
    pub fn and(self, other: Told) -> Told {
        Told { limit: self.limit.saturating_add(other.limit), in_flight: self.in_flight.saturating_add(other.in_flight) }
    }
}

impl Together {
    /// How often the best was measured anew, this time included if it is due.
    pub(super) fn probes(&self, now: u64) -> u32 {
        let due = self.due.load(Ordering::Relaxed);
        let is_mine = || self.due.compare_exchange(due, next_probe(now), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // At first it is measured by whoever begins.
        if due <= now && is_mine() && due > 0 {
            self.probes.fetch_add(1, Ordering::Relaxed);
        }
        self.probes.load(Ordering::Relaxed)
    }

    /// What the workers told, added up.
    pub(super) fn told(&self) -> Told {
        Told { limit: self.limit.load(Ordering::Relaxed), in_flight: self.in_flight.load(Ordering::Relaxed) }
    }
}

/// A moment's nanoseconds are as good as chance for this.
fn next_probe(now: u64) -> u64 {
    now + PROBED_EVERY_NS + now.wrapping_mul(0x9e37_79b9_7f4a_7c15) % PROBED_EVERY_NS
}
