//! Worker: one thread with one runtime, and what it owns and shares with nobody.
//!
//! Cost: per request; a comparison to see whether the policy changed, and handles cloned without atomics.
//! Between threads go the policy, limit cells and bounded channels, nothing else: a shared counter costs 5 ns alone and 38
//! under two threads, a shared `Arc` 16 and 74.

mod bound;
mod buffers;
mod date;
mod departures;
mod mail;
mod random;
mod streams;
mod thread;

pub use bound::Bound;
pub use buffers::Buffers;
pub use departures::{Departs, Departures};
pub use mail::{Decided, Mail, Mailbox};
pub use random::Random;
pub use streams::{Stream, Streams};
pub use thread::{Common, WorkerError, spawn};

use crate::clock::{Clock, Now};
use crate::connection::Downstream;
use crate::connection::told::Told;
use crate::deadline::{Deadline, Wheel};
use crate::identity::{Introspector, Looks};
use crate::policy::{Live, Policy};
use crate::request::authn::{Memo, Strangers};
use crate::request::shadow::Tally;
use crate::request::upstream::Targets;
use crate::telemetry::access_log::AccessLogBuffer;
use crate::telemetry::decisions::{DecisionId, Decisions};
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Metrics, WorkerCells};
use arc_swap::Cache;
use bound::Tenants;
use bulkhead_config::snapshot::{Slice, Upstream};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Allowed decisions that are remembered in one turn of the wheel.
const REMEMBERED_PER_TURN: u32 = 32;
/// Body bytes are cheapest when read so many at once: half of it costs twice the CPU per MB.
const SCRATCH_BYTES: usize = 64 << 10;

/// What one worker owns.
pub struct Worker {
    clock: Clock,
    wheel: Rc<Wheel>,
    live: RefCell<Cache<Arc<Live>, Arc<Policy>>>,
    current: RefCell<Rc<Current>>,
    tenants: Tenants,
    memo: RefCell<Memo>,
    strangers: Arc<Strangers>,
    targets: Targets,
    looks: Looks,
    introspector: Introspector,
    access_log: RefCell<AccessLogBuffer>,
    decisions: RefCell<Decisions<Decided>>,
    /// Allowed decisions remembered in this turn of the wheel.
    remembered: Cell<(u64, u32)>,
    /// What passed that would have been refused.
    shadow: RefCell<Tally>,
    cells: Arc<WorkerCells>,
    metrics: Arc<Metrics>,
    log: Log,
    random: Random,
    buffers: Buffers,
    departures: Departures,
    date: date::Date,
    refused_headers: Told,
    refused_handshakes: Told,
    connections: RefCell<Vec<Weak<Downstream>>>,
    open: Cell<usize>,
    streams: Streams,
    /// What tunnels read into, one after the other.
    scratch: RefCell<Vec<u8>>,
    is_draining: Cell<bool>,
}

/// The policy that a request reads from start to end, shared with the other requests of this worker only.
#[derive(Debug)]
pub struct Current(Arc<Policy>);

impl std::ops::Deref for Current {
    type Target = Policy;
    fn deref(&self) -> &Policy {
        &self.0
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("open", &self.open).field("is_draining", &self.is_draining).finish_non_exhaustive()
    }
}

impl Worker {
    /// One reading of the clock; a request takes one at its start and one at its end.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The policy as it is now. A request asks once and holds on to it, so that it sees one state from start to end.
    #[must_use]
    pub fn policy(&self) -> Rc<Current> {
        let mut live = self.live.borrow_mut();
        let now = live.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(now, &current.0) {
            *current = Rc::new(Current(Arc::clone(now)));
            self.targets.keep_declared(now.snapshot.platform());
        }
        Rc::clone(&current)
    }

    /// What this worker keeps for the tenant of a slice.
    #[must_use]
    pub fn bound(&self, slice: &Arc<Slice>) -> Rc<Bound> {
        self.tenants.of(slice, self.wheel.turn())
    }

    /// Remembered credentials. Borrowed for the length of one verification, which waits for nothing.
    pub fn memo(&self) -> std::cell::RefMut<'_, Memo> {
        self.memo.borrow_mut()
    }

    /// Who failed too often.
    #[must_use]
    pub fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// The deadlines of this worker.
    #[must_use]
    pub fn wheel(&self) -> &Rc<Wheel> {
        &self.wheel
    }

    /// A deadline of this worker's wheel.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.wheel.take()
    }

    /// Endpoints and kept connections of an upstream.
    #[must_use]
    pub fn target(&self, upstream: &Arc<Upstream>) -> Rc<crate::request::upstream::Target> {
        self.targets.of(upstream, &self.wheel)
    }

    /// The way to issuers whose keys may be new.
    #[must_use]
    pub fn looks(&self) -> &Looks {
        &self.looks
    }

    /// The way to servers that know tokens.
    #[must_use]
    pub fn introspector(&self) -> &Introspector {
        &self.introspector
    }

    /// Counters of this worker.
    #[must_use]
    pub fn cells(&self) -> &WorkerCells {
        &self.cells
    }

    /// What lasts.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// A buffer for as long as nothing is waited for; made when it is first asked for.
    pub fn scratch(&self) -> std::cell::RefMut<'_, Vec<u8>> {
        let mut scratch = self.scratch.borrow_mut();
        scratch.resize(SCRATCH_BYTES, 0);
        scratch
    }

    /// The application log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where a finished request is written down.
    pub fn access_log(&self) -> std::cell::RefMut<'_, AccessLogBuffer> {
        self.access_log.borrow_mut()
    }

    /// A name for the next decision.
    #[must_use]
    pub fn name_decision(&self) -> DecisionId {
        self.decisions.borrow_mut().name()
    }

    /// Recent decisions.
    pub fn decisions(&self) -> std::cell::RefMut<'_, Decisions<Decided>> {
        self.decisions.borrow_mut()
    }

    /// What passed that would have been refused.
    pub fn shadow(&self) -> std::cell::RefMut<'_, Tally> {
        self.shadow.borrow_mut()
    }

    /// Whether one more allowed decision is remembered now: 32 in each turn of the wheel, 640 a second. More would push each
    /// other out before anybody could ask about one, and cost every request 2 %.
    #[must_use]
    pub fn has_time_to_remember(&self) -> bool {
        let turn = self.wheel.turn();
        let (at, count) = self.remembered.get();
        let count = if at == turn { count + 1 } else { 1 };
        self.remembered.set((turn, count));
        count <= REMEMBERED_PER_TURN
    }

    /// When failed TLS handshakes were told of.
    #[must_use]
    pub fn refused_handshakes(&self) -> &Told {
        &self.refused_handshakes
    }

    /// How often refused PROXY headers were told of.
    #[must_use]
    pub fn refused_headers(&self) -> &Told {
        &self.refused_headers
    }

    /// Numbers that no two requests share.
    #[must_use]
    pub fn random(&self) -> &Random {
        &self.random
    }

    /// Memory for what is read.
    #[must_use]
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// What is written and goes out at the end of this turn.
    #[must_use]
    pub fn departures(&self) -> &Departures {
        &self.departures
    }

    /// Appends the field `Date`.
    pub fn write_date(&self, out: &mut Vec<u8>) {
        self.date.write(out, self.wheel.turn(), || self.now().unix_ms);
    }

    /// A defect was caught while it served `whom`.
    pub fn panicked(&self, whom: &str) {
        self.metrics.panicked();
        self.log.error("core.sidecar", None, "a panic was caught; the connection it served was ended", &[("peer", whom.into())]);
    }

    /// Enters a connection into the list of those that a drain tells.
    pub fn enter(&self, connection: &Rc<Downstream>) {
        self.cells.connection_opened();
        self.open.set(self.open.get() + 1);
        self.connections.borrow_mut().push(Rc::downgrade(connection));
        if self.is_draining.get() {
            connection.close_soon();
        }
    }

    /// A connection is gone.
    pub fn leave(&self) {
        self.cells.connection_closed();
        let mut connections = self.connections.borrow_mut();
        self.open.set(self.open.get().saturating_sub(1));
        // Looked through when more than half of the list is gone, so that each leaving costs a constant on average.
        if connections.len() > 64 + 2 * self.open.get() {
            connections.retain(|connection| connection.strong_count() > 0);
        }
    }

    fn close_connections(&self, which: impl Fn(&Downstream) -> bool) {
        for connection in self.connections.borrow().iter().filter_map(Weak::upgrade) {
            if which(&connection) {
                connection.close_soon();
            }
        }
    }

    fn drain(&self) {
        self.is_draining.set(true);
        self.close_connections(|_| true);
    }

    /// What is due ten times a second, also when no request comes.
    fn tick(&self) {
        self.clock.correct();
        self.cells.beat(self.now().mono_ns);
        self.cells.memo(self.memo.borrow().tally());
        self.access_log.borrow_mut().hand_over();
        self.streams.review(self);
        self.cells.streams(self.streams.count());
    }

    /// What is due once a second.
    fn sweep(&self) {
        self.targets.sweep();
        self.tenants.sweep(self.wheel.turn());
    }
}

/// Spawns what an engine wants spawned onto the worker that runs it.
#[derive(Debug, Clone, Copy)]
pub struct OnThisThread;

impl<F> hyper::rt::Executor<F> for OnThisThread
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
