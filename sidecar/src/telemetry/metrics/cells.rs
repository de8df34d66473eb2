//! Cells: counters that one thread writes and a scrape reads.
//!
//! Cost: per request; a plain load, addition and store of a cache line that no other worker writes.

use crate::connection::flood::Fault;
use crate::tls::NotAccepted;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter. INVARIANT (one writer): only the thread whose worker owns it adds to it, so no atomic addition is needed.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }
}

/// How a worker's memo met the credentials presented to it, since the worker began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoTally {
    /// Verified before, and remembered.
    pub remembered: u64,
    /// Refused before, and remembered.
    pub refusal_remembered: u64,
    /// Verified then and there.
    pub verified: u64,
    /// Refused after its signature or hash was looked at.
    pub refused: u64,
}

impl MemoTally {
    pub(super) const LABELS: [&str; 4] = ["remembered", "refusal_remembered", "verified", "refused"];

    fn by_label(self) -> [u64; Self::LABELS.len()] {
        [self.remembered, self.refusal_remembered, self.verified, self.refused]
    }
}

/// What one worker counts besides the requests of tenants. Two workers' cells share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCells {
    opened: Cell,
    closed: Cell,
    beat: Cell,
    memo: [Cell; MemoTally::LABELS.len()],
    refusals: Labelled,
    passed: Labelled,
    upstream_failures: Labelled,
    streams: Cell,
    streams_ended: Labelled,
    proxy_headers: Labelled,
    floods: Labelled,
    handshakes: Labelled,
}

impl WorkerCells {
    pub(super) fn new(refusals: &Arc<[&'static str]>, upstream_steps: &Arc<[&'static str]>, proxy_headers: &Arc<[&'static str]>) -> Self {
        Self {
            opened: Cell::default(),
            closed: Cell::default(),
            beat: Cell::default(),
            memo: Default::default(),
            refusals: Labelled::new(refusals),
            passed: Labelled::new(refusals),
            upstream_failures: Labelled::new(upstream_steps),
            streams: Cell::default(),
            streams_ended: Labelled::new(refusals),
            proxy_headers: Labelled::new(proxy_headers),
            floods: Labelled::new(&Fault::LABELS.into()),
            handshakes: Labelled::new(&NotAccepted::LABELS.into()),
        }
    }

    /// A connection was taken on.
    pub fn connection_opened(&self) {
        self.opened.add(1);
    }

    /// It is gone.
    pub fn connection_closed(&self) {
        self.closed.add(1);
    }

    /// We answered a request ourselves, with this code.
    pub fn refused(&self, code: &str) {
        self.refusals.count(code);
    }

    /// A request went on that would have been refused with this code.
    pub fn passed_in_shadow(&self, code: &str) {
        self.passed.count(code);
    }

    /// An upstream failed at this step.
    pub fn upstream_failed(&self, step: &str) {
        self.upstream_failures.count(step);
    }

    /// We ended something that lasted, because it would be refused with this code.
    pub fn stream_ended(&self, code: &str) {
        self.streams_ended.count(code);
    }

    /// So much lasts; at each tick of the worker.
    pub fn streams(&self, count: usize) {
        self.streams.set(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A connection ended before its first byte was served, for this reason.
    pub fn proxy_header_refused(&self, reason: &str) {
        self.proxy_headers.count(reason);
    }

    /// An HTTP/2 connection was ended for this reason.
    pub fn flooded(&self, reason: &str) {
        self.floods.count(reason);
    }

    /// A TLS handshake with a client failed for this reason.
    pub fn handshake_failed(&self, reason: &str) {
        self.handshakes.count(reason);
    }

    /// What the worker's memo counted; at each of its ticks.
    pub fn memo(&self, tally: MemoTally) {
        for (cell, total) in self.memo.iter().zip(tally.by_label()) {
            cell.set(total);
        }
    }

    /// The worker runs; at each of its ticks, with its monotonic clock.
    pub fn beat(&self, mono_ns: u64) {
        self.beat.set(mono_ns.max(1));
    }

    pub(super) fn last_beat(&self) -> Option<u64> {
        Some(self.beat.read()).filter(|&mono_ns| mono_ns > 0)
    }

    pub(super) fn connections(&self) -> u64 {
        // Read in this order a connection that opens and closes meanwhile can only be seen as still open.
        let closed = self.closed.read();
        self.opened.read().saturating_sub(closed)
    }

    /// By the place of the label.
    pub(super) fn of_memo(&self, label: usize) -> u64 {
        self.memo.get(label).map_or(0, Cell::read)
    }

    pub(super) fn refusals(&self) -> &Labelled {
        &self.refusals
    }

    pub(super) fn passed_in_shadow_by_code(&self) -> &Labelled {
        &self.passed
    }

    pub(super) fn open_streams(&self) -> u64 {
        self.streams.read()
    }

    pub(super) fn streams_ended(&self) -> &Labelled {
        &self.streams_ended
    }

    pub(super) fn upstream_failures(&self) -> &Labelled {
        &self.upstream_failures
    }

    pub(super) fn proxy_headers(&self) -> &Labelled {
        &self.proxy_headers
    }

    pub(super) fn floods(&self) -> &Labelled {
        &self.floods
    }

    pub(super) fn handshakes(&self) -> &Labelled {
        &self.handshakes
    }
}

/// A cell for each of a few known labels, and a last one for what is not among them.
#[derive(Debug)]
pub(super) struct Labelled {
    labels: Arc<[&'static str]>,
    cells: Box<[Cell]>,
}

impl Labelled {
    fn new(labels: &Arc<[&'static str]>) -> Self {
        Self { labels: Arc::clone(labels), cells: (0..=labels.len()).map(|_| Cell::default()).collect() }
    }

    /// A few dozen comparisons of lengths and bytes: only refusals and failures come here.
    fn count(&self, label: &str) {
        let at = self.labels.iter().position(|known| *known == label).unwrap_or(self.labels.len());
        if let Some(cell) = self.cells.get(at) {
            cell.add(1);
        }
    }

    /// Count by place; the last is that of unknown labels.
    pub(super) fn read(&self, at: usize) -> u64 {
        self.cells.get(at).map_or(0, Cell::read)
    }
}
