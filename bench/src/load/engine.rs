//! The load itself: one thread that sends each request when it is due and takes up answers as they come.
//!
//! Cost: per request; a write, two reads, a share of one wait for events; no allocation once buffers have their size.
//! Latency counts from when a request was due, so that a server that stalls is charged for all who would have come meanwhile
//! (no coordinated omission). Sleeps end early and the rest is polled: what wakes a thread late by a timer is not the server's.
//! Absent on purpose: a runtime, whose timers have a grain of a millisecond.

use super::answer::Answer;
use super::connection::{After, Connection, Ended, Lost, Transport};
use super::pace::Pace;
use super::plan::{Plan, Request};
use super::samples::Samples;
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
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
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

/// A request that is due and has no connection yet.
struct Due {
    at: Instant,
    /// When this program saw that it was.
    seen: Instant,
    request: Rc<Request>,
    /// The server has refused it once.
    again: bool,
}

struct Busy {
    due: Due,
    sent: Instant,
}

/// A place for a connection that has one.
struct Place {
    connection: Connection,
    /// What each of its slots waits for.
    slots: Vec<Option<Busy>>,
    /// Requests it was given.
    given: u64,
    /// It takes more.
    serves: bool,
    /// The tenant that asked last.
    last: usize,
    /// Tells events of a connection from those of the one before it in this place.
    generation: u32,
}

impl Place {
    fn is_idle(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}

/// A slot of the connection in a place.
type Room = (usize, usize);

/// One run.
pub(crate) struct Engine<'a> {
    plan: &'a Plan,
    shape: Shape,
    epoll: OwnedFd,
    places: Vec<Option<Place>>,
    /// Slots of connections that wait for nothing.
    idle: Vec<Room>,
    /// Places without a connection.
    free: Vec<usize>,
    /// Kept for its memory.
    ended: Ended,
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
pub(crate) fn run(plan: &Plan, shape: Shape, samples: Option<Samples>, progress: &mut dyn FnMut(&Tally, Instant)) -> Result<Tally, Error> {
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|cause| unusable("epoll")(cause.into()))?;
    let started = Instant::now();
    let tally = Tally::new(plan, started + shape.warm_up, samples);
    let slots = plan.peer.protocol.slots();
    let closed = if matches!(shape.pace, Pace::Think(_)) { shape.connections * slots } else { 0 };
    let mut engine = Engine {
        plan,
        shape,
        epoll,
        places: (0..shape.connections).map(|_| None).collect(),
        idle: Vec::with_capacity(shape.connections * slots),
        free: (0..shape.connections).rev().collect(),
        ended: Ended::new(),
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
            Pace::Ramp(ramp) => Some(self.started + ramp.due(self.asked, self.shape.warm_up)),
            Pace::Think(_) => self.again.peek().map(|next| next.0),
        }
    }

    /// Takes the one request that is due now; the next comes after a look at the events, so that a burst does not starve answers.
    fn take_due(&mut self) {
        let Some(at) = self.next_due() else { return };
        self.again.pop();
        self.asked += 1;
        self.open += 1;
        let (tenant, kind) = (self.chance.share(), self.chance.share());
        if let Some(request) = self.plan.request_at(tenant, kind) {
            self.send(Due { at, seen: Instant::now(), request: Rc::clone(request), again: false });
        }
    }

    fn send(&mut self, due: Due) {
        match self.room() {
            Ok(Some(room)) => self.ask(room, due),
            Ok(None) => self.waiting.push_back(due),
            Err(lost) => self.ended(&due, Err(lost)),
        }
    }

    /// A slot for the next request. A closed loop has as many connections as it was told; an open loop makes one when it lacks one.
    fn room(&mut self) -> Result<Option<Room>, Lost> {
        let connects = matches!(self.shape.pace, Pace::Think(_)) || self.idle.is_empty();
        match self.free.pop_if(|_| connects) {
            None => Ok(self.idle.pop()),
            Some(place) => match self.connect(place) {
                Ok(()) => {
                    self.idle.extend((1..self.plan.peer.protocol.slots()).rev().map(|slot| (place, slot)));
                    Ok(Some((place, 0)))
                }
                Err(_) => {
                    self.free.push(place);
                    Err(Lost::Connect)
                }
            },
        }
    }

    fn connect(&mut self, index: usize) -> io::Result<()> {
        let transport = Transport::open(&self.plan.peer)?;
        self.generation = self.generation.wrapping_add(1);
        let data = EventData::new_u64(u64::from(self.generation) << 32 | index as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &transport, data, flags)?;
        let protocol = self.plan.peer.protocol;
        let slots = std::iter::repeat_with(|| None).take(protocol.slots()).collect();
        let connection = Connection::over(transport, protocol);
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(Place { connection, slots, given: 0, serves: true, last: 0, generation: self.generation });
        }
        Ok(())
    }

    fn ask(&mut self, (index, slot): Room, due: Due) {
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        place.connection.ask(slot, Rc::clone(&due.request));
        place.last = due.request.tenant;
        place.given += 1;
        if let Some(slot) = place.slots.get_mut(slot) {
            *slot = Some(Busy { due, sent: Instant::now() });
        }
        if place.given >= self.shape.per_connection {
            self.retire(index);
        }
        self.advance(index, false);
    }

    fn happened(&mut self, event: Event) {
        let data = event.data.u64();
        let (index, generation) = ((data & u64::from(u32::MAX)) as usize, (data >> 32) as u32);
        let same = self.places.get(index).and_then(Option::as_ref).is_some_and(|place| place.generation == generation);
        if same {
            self.advance(index, { event.flags }.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR));
        }
    }

    fn advance(&mut self, index: usize, ends: bool) {
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        let mut ended = std::mem::take(&mut self.ended);
        let after = place.connection.advance(ends, &mut ended);
        for (slot, outcome) in ended.drain(..) {
            self.answered((index, slot), outcome);
        }
        self.ended = ended;
        match after {
            After::Stays => {}
            After::Retires => self.retire(index),
            After::Over => self.close(index),
            After::Unasked => {
                // A leak in the making, whose it is.
                let last = self.places.get(index).and_then(Option::as_ref).map_or(0, |place| place.last);
                self.tally.lost(last, Lost::Unasked, Instant::now());
                self.close(index);
            }
        }
        self.close_if_done(index);
    }

    fn answered(&mut self, (index, slot): Room, outcome: Result<Answer, Lost>) {
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        let Some(Busy { due, sent }) = place.slots.get_mut(slot).and_then(Option::take) else { return };
        if place.serves {
            self.idle.push((index, slot));
        }
        match outcome {
            // Not begun with: any client would ask again.
            Err(Lost::Refused) if !due.again => self.waiting.push_front(Due { again: true, ..due }),
            outcome => self.ended(&due, outcome.map(|answer| (answer, sent))),
        }
    }

    fn ended(&mut self, due: &Due, outcome: Result<(Answer, Instant), Lost>) {
        let (now, request) = (Instant::now(), &*due.request);
        self.open = self.open.saturating_sub(1);
        if let Pace::Think(think) = self.shape.pace {
            self.again.push(Reverse(now + if outcome.is_err() { think.max(AFTER_LOSS) } else { think }));
        }
        // By when it was due: the warm-up's last answers do not count, late as they may come. What leaks in it leaks.
        if due.at < self.tally.began {
            if let Ok((answer, _)) = outcome {
                self.tally.warmed(request, answer, now);
            }
            return;
        }
        match outcome {
            Ok((answer, sent)) => {
                // In a closed loop nobody waits for a request that is not sent yet: that delay is this program's own.
                let from = if matches!(self.shape.pace, Pace::Think(_)) { sent } else { due.at };
                self.tally.answered(request, Times { due: due.at, seen: due.seen, sent, from }, answer, now);
            }
            Err(lost) => self.tally.lost(request.tenant, lost, now),
        }
    }

    /// Gives it no more requests.
    fn retire(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        if std::mem::replace(&mut place.serves, false) {
            self.idle.retain(|(idle, _)| *idle != index);
        }
    }

    fn close_if_done(&mut self, index: usize) {
        let done = self.places.get(index).and_then(Option::as_ref).is_some_and(|place| !place.serves && place.is_idle());
        if done {
            self.close(index);
        }
    }

    /// Closing takes it out of epoll as well.
    fn close(&mut self, index: usize) {
        self.retire(index);
        if self.places.get_mut(index).and_then(Option::take).is_some() {
            self.free.push(index);
        }
    }

    fn expire(&mut self, now: Instant) {
        let timeout = self.shape.timeout;
        while let Some(due) = self.waiting.pop_front_if(|due| now >= due.at + timeout) {
            self.ended(&due, Err(Lost::Timeout));
        }
        for index in 0..self.places.len() {
            let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { continue };
            let late = |slot: &mut Option<Busy>| slot.take_if(|busy| now >= busy.sent + timeout);
            let late: Vec<_> = place.slots.iter_mut().enumerate().filter_map(|(slot, busy)| Some((slot, late(busy)?))).collect();
            late.iter().for_each(|(slot, _)| place.connection.forget(*slot));
            for (_, Busy { due, .. }) in &late {
                self.ended(due, Err(Lost::Timeout));
            }
            if !late.is_empty() {
                // What it still has may come; nobody is sent to where one has waited in vain.
                self.retire(index);
                self.advance(index, false);
            }
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
