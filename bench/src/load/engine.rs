//! The load itself: one thread that sends each request when it is due and takes up answers as they come.
//!
//! Cost: per request; a write, two reads, a share of one wait for events; no allocation once buffers have their size.
//! Latency counts from when a request was due, so that a server that stalls is charged for all who would have come meanwhile
//! (no coordinated omission). Sleeps end early and the rest is polled: what wakes a thread late by a timer is not the server's.
//! Absent on purpose: a runtime, whose timers have a grain of a millisecond.

use super::connection::{Connection, Idle, Lost};
use super::plan::Plan;
use super::tally::{Tally, Times};
use crate::sidecar::unusable;
use crate::versus::step::Error;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Sleep no nearer to the next due time than this.
const POLLED: Duration = Duration::from_micros(100);
/// Longest sleep: between two, timeouts are looked for and progress is told.
const NAP: Duration = Duration::from_millis(10);
/// Rest of a closed loop's place after a loss, or a dead server would be asked as fast as this machine can.
const AFTER_LOSS: Duration = Duration::from_millis(10);
/// Events taken at once.
const EVENTS: usize = 256;

/// How fast, how long, over what.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) requests_max: u64,
    pub(crate) per_connection: u64,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
}

/// When the next request is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Open loop: so many a second, whatever the answers do.
    Rate(f64),
    /// Closed loop: each connection asks again so long after its answer.
    Think(Duration),
}

/// A request that is due and has no connection yet.
#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    tenant: usize,
}

struct Busy {
    due: Due,
    sent: Instant,
}

struct Place {
    connection: Connection,
    busy: Option<Busy>,
    /// The tenant that asked last.
    last: usize,
    /// Tells events of a connection from those of the one before it in this place.
    generation: u32,
}

/// One run.
pub(crate) struct Engine<'a> {
    plan: &'a Plan,
    shape: Shape,
    epoll: OwnedFd,
    places: Vec<Option<Place>>,
    idle: Vec<usize>,
    free: Vec<usize>,
    waiting: VecDeque<Due>,
    /// Due times of a closed loop, earliest first.
    again: BinaryHeap<Reverse<Instant>>,
    started: Instant,
    asked: u64,
    open: usize,
    chance: Chance,
    generation: u32,
    tally: Tally,
}

/// Runs the load to its end and tells what came of it. `progress` sees the tally now and then.
pub(crate) fn run(plan: &Plan, shape: Shape, progress: &mut dyn FnMut(&Tally, Instant)) -> Result<Tally, Error> {
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|cause| unusable("epoll")(cause.into()))?;
    let started = Instant::now();
    let tally = Tally::new(plan, started + shape.warm_up);
    let closed = if matches!(shape.pace, Pace::Think(_)) { shape.connections } else { 0 };
    let mut engine = Engine {
        plan,
        shape,
        epoll,
        places: (0..shape.connections).map(|_| None).collect(),
        idle: Vec::with_capacity(shape.connections),
        free: (0..shape.connections).rev().collect(),
        waiting: VecDeque::new(),
        again: std::iter::repeat_n(Reverse(started), closed).collect(),
        started,
        asked: 0,
        open: 0,
        chance: Chance(shape.seed),
        generation: 0,
        tally,
    };
    engine.run(progress)?;
    Ok(engine.tally)
}

impl Engine<'_> {
    fn run(&mut self, progress: &mut dyn FnMut(&Tally, Instant)) -> Result<(), Error> {
        let end = self.started + self.shape.warm_up + self.shape.duration;
        let mut events = Vec::with_capacity(EVENTS);
        let mut looked = self.started;
        loop {
            let now = Instant::now();
            if now >= looked + NAP {
                looked = now;
                self.expire(now);
                self.tally.second(now.min(end));
                progress(&self.tally, now);
            }
            let next = self.next_due().filter(|due| *due < end);
            if next.is_none() && self.open == 0 && (now >= end || self.asked >= self.shape.requests_max) {
                return Ok(());
            }
            if next.is_some_and(|due| due <= now) {
                self.take_due();
            }
            let next = self.next_due().filter(|due| *due < end);
            self.wait(next, &mut events)?;
            for event in events.drain(..) {
                self.happened(event);
            }
            while let Some(due) = self.waiting.pop_front_if(|_| !self.idle.is_empty() || !self.free.is_empty()) {
                self.send(due);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if self.asked >= self.shape.requests_max {
            return None;
        }
        match self.shape.pace {
            // From the start, not from the one before: errors do not add up.
            Pace::Rate(rate) => Some(self.started + Duration::from_secs_f64(self.asked as f64 / rate)),
            Pace::Think(_) => self.again.peek().map(|next| next.0),
        }
    }

    /// Takes the one request that is due now; the next comes after a look at the events, so that a burst does not starve answers.
    fn take_due(&mut self) {
        let Some(at) = self.next_due() else { return };
        self.again.pop();
        self.asked += 1;
        self.open += 1;
        let tenant = self.plan.tenant_at(self.chance.share());
        self.send(Due { at, tenant });
    }

    fn send(&mut self, due: Due) {
        let index = match (self.idle.pop(), self.free.pop()) {
            (Some(idle), free) => {
                self.free.extend(free);
                idle
            }
            (None, Some(free)) => match self.connect(free) {
                Ok(()) => free,
                Err(()) => {
                    self.free.push(free);
                    self.ended(due.tenant, due.at, Err(Lost::Connect));
                    return;
                }
            },
            (None, None) => {
                self.waiting.push_back(due);
                return;
            }
        };
        if let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) {
            place.connection.begin();
            place.busy = Some(Busy { due, sent: Instant::now() });
            place.last = due.tenant;
        }
        self.advance(index, false);
    }

    fn connect(&mut self, index: usize) -> Result<(), ()> {
        let connection = Connection::open(self.plan.address).map_err(drop)?;
        self.generation = self.generation.wrapping_add(1);
        let data = EventData::new_u64(u64::from(self.generation) << 32 | index as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &connection.stream, data, flags).map_err(drop)?;
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(Place { connection, busy: None, last: 0, generation: self.generation });
        }
        Ok(())
    }

    fn happened(&mut self, event: Event) {
        let data = event.data.u64();
        let (index, generation) = ((data & u64::from(u32::MAX)) as usize, (data >> 32) as u32);
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        if place.generation != generation {
            return;
        }
        let ends = { event.flags }.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if place.busy.is_some() {
            self.advance(index, ends);
            return;
        }
        let says = place.connection.idle_says();
        if says == Idle::Unasked {
            // Whoever asks next would take it for an answer: a leak in the making, whose it is.
            self.tally.lost(place.last, Lost::Unasked, Instant::now());
        }
        if ends || says != Idle::Nothing {
            self.idle.retain(|idle| *idle != index);
            self.close(index);
        }
    }

    fn advance(&mut self, index: usize, ends: bool) {
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        let Some(busy) = &place.busy else { return };
        let Some(tenant) = self.plan.tenants.get(busy.due.tenant) else { return };
        let outcome = match place.connection.advance(&tenant.request, self.plan.to_head, self.plan.names.as_ref()) {
            Ok(None) => return,
            Ok(Some(answer)) => Ok(answer),
            Err(lost) => Err(lost),
        };
        let keep = outcome.as_ref().is_ok_and(|answer| answer.stays) && !ends && place.connection.given < self.shape.per_connection;
        let Some(Busy { due, sent }) = place.busy.take() else { return };
        self.ended(due.tenant, due.at, outcome.map(|answer| (answer, sent)));
        if keep { self.idle.push(index) } else { self.close(index) }
    }

    fn ended(&mut self, tenant: usize, due: Instant, outcome: Result<(super::answer::Answer, Instant), Lost>) {
        let now = Instant::now();
        self.open = self.open.saturating_sub(1);
        if let Pace::Think(think) = self.shape.pace {
            self.again.push(Reverse(now + if outcome.is_err() { think.max(AFTER_LOSS) } else { think }));
        }
        // By when it was due: the warm-up's last answers do not count, late as they may come. What leaks in it leaks.
        if due < self.tally.began {
            if let Ok((answer, _)) = outcome {
                self.tally.warmed(self.plan, tenant, answer, now);
            }
            return;
        }
        match outcome {
            Ok((answer, sent)) => self.tally.answered(self.plan, tenant, Times { due, sent }, answer, now),
            Err(lost) => self.tally.lost(tenant, lost, now),
        }
    }

    /// Closing takes it out of epoll as well.
    fn close(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            *place = None;
            self.free.push(index);
        }
    }

    fn expire(&mut self, now: Instant) {
        let timeout = self.shape.timeout;
        while let Some(due) = self.waiting.pop_front_if(|due| now >= due.at + timeout) {
            self.ended(due.tenant, due.at, Err(Lost::Timeout));
        }
        for index in 0..self.places.len() {
            let busy = self.places.get(index).and_then(Option::as_ref).and_then(|place| place.busy.as_ref());
            let Some(due) = busy.filter(|busy| now >= busy.sent + timeout).map(|busy| busy.due) else { continue };
            self.ended(due.tenant, due.at, Err(Lost::Timeout));
            self.close(index);
        }
    }

    /// Sleeps in `ppoll`, whose timeout has nanoseconds where that of `epoll_wait` has a millisecond's grain.
    fn wait(&self, next: Option<Instant>, events: &mut Vec<Event>) -> Result<(), Error> {
        let left = next.map_or(NAP, |next| next.saturating_duration_since(Instant::now()).min(NAP));
        let nap = left.saturating_sub(POLLED);
        if !nap.is_zero() {
            let nap = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() };
            interrupted_or(poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&nap)))?;
        }
        interrupted_or(epoll::wait(&self.epoll, spare_capacity(events), Some(&Timespec { tv_sec: 0, tv_nsec: 0 })))
    }
}

/// A signal ends a wait early, which the loop takes for what it is: time to look again.
fn interrupted_or(waited: Result<usize, Errno>) -> Result<(), Error> {
    match waited {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(cause) => Err(unusable("epoll")(cause.into())),
    }
}

/// Numbers that look like chance, the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    /// A number in `0..1`.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
