//! The gradient in front of an endpoint that is simulated: time passes as it is told.

use super::super::adaptive::Together;
use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// An endpoint that answers some requests at once and lets the others wait in turn, and the workers in front of it.
struct Endpoint {
    now: u64,
    takes: u64,
    /// When each of those that serve is free again.
    servers: Vec<u64>,
    /// When each request is answered, when it began, and of which worker it is.
    on_their_way: BinaryHeap<Reverse<(u64, u64, usize)>>,
    workers: Vec<(Gradient, u32)>,
    together: Together,
    refused: u64,
}

impl Endpoint {
    fn new(servers: usize, takes: u64, workers: usize, declared: &AdaptiveConcurrency) -> Self {
        Self {
            now: 0,
            takes,
            servers: vec![0; servers],
            on_their_way: BinaryHeap::new(),
            workers: (0..workers).map(|_| (Gradient::new(declared), 0)).collect(),
            together: Together::default(),
            refused: 0,
        }
    }

    /// Requests come one in each `every`, to each worker in turn, for so long.
    fn load(&mut self, every: u64, time: u64) {
        let end = self.now + time;
        let mut turn = 0;
        while self.now < end {
            self.now += every;
            self.answer();
            turn = (turn + 1) % self.workers.len();
            let (gradient, _) = &mut self.workers[turn];
            if gradient.is_full() {
                self.refused += 1;
                continue;
            }
            gradient.begin();
            let server = self.servers.iter_mut().min().unwrap();
            *server = self.now.max(*server) + self.takes;
            self.on_their_way.push(Reverse((*server, self.now, turn)));
        }
    }

    /// Whatever is due is answered.
    fn answer(&mut self) {
        while let Some(Reverse((due, began, worker))) = self.on_their_way.peek().copied().filter(|Reverse((due, ..))| *due <= self.now) {
            self.on_their_way.pop();
            let (gradient, probed) = &mut self.workers[worker];
            gradient.end();
            let probes = self.together.probes(due);
            if std::mem::replace(probed, probes) != probes {
                gradient.probe(due);
            }
            gradient.answered(Duration::from_nanos(due - began), due);
        }
    }

    /// Of all workers, while nothing is measured.
    fn limit(&self) -> u32 {
        self.workers.iter().map(|(gradient, _)| gradient.limit).sum()
    }
}

fn declared(min: u32, max: u32) -> AdaptiveConcurrency {
    AdaptiveConcurrency { min, max, tolerance_percent: 50 }
}

#[test]
fn it_begins_at_the_least_and_grows_while_answers_stay_fast_as_far_as_declared() {
    let mut endpoint = Endpoint::new(500, 10 * MS, 1, &declared(4, 300));
    assert_eq!(endpoint.limit(), 4);
    let mut before = 4;
    for _ in 0..10 {
        // Forty at once, if they are let in.
        endpoint.load(MS / 4, SECOND / 10);
        assert!(endpoint.limit() >= before, "{} after {before}", endpoint.limit());
        before = endpoint.limit();
    }
    assert!((40..=140).contains(&before), "{before}: no further than it is used");
    endpoint.load(MS / 50, 2 * SECOND);
    assert_eq!(endpoint.limit(), 300);
}

#[test]
fn it_settles_where_answers_take_a_little_longer_and_stays_there() {
    let mut endpoint = Endpoint::new(20, 10 * MS, 1, &declared(2, 1_000));
    for _ in 0..5 {
        // Twice as many as are answered.
        endpoint.load(MS / 4, 30 * SECOND);
        assert!((20..=50).contains(&endpoint.limit()), "{} for 20 at once", endpoint.limit());
    }
    let refused = endpoint.refused;
    endpoint.load(MS, 30 * SECOND);
    assert!(endpoint.refused - refused < 300, "half of what it can answer is refused only while the best is measured");
}

#[test]
fn it_falls_when_answers_take_twice_as_long_and_recovers() {
    let mut endpoint = Endpoint::new(100, 10 * MS, 1, &declared(2, 1_000));
    endpoint.load(MS / 20, 10 * SECOND);
    let before = endpoint.limit();
    assert!((100..=220).contains(&before), "{before}");
    endpoint.takes = 20 * MS;
    endpoint.load(MS / 20, 3 * SECOND);
    assert!(endpoint.limit() < before / 2, "{} after {before}", endpoint.limit());
    endpoint.takes = 10 * MS;
    endpoint.load(MS / 20, 5 * SECOND);
    assert!((100..=220).contains(&endpoint.limit()), "{}", endpoint.limit());
    // What lasts is what it is like now, once it was measured again.
    endpoint.takes = 20 * MS;
    endpoint.load(MS / 20, 65 * SECOND);
    assert!((100..=220).contains(&endpoint.limit()), "{}", endpoint.limit());
}

#[test]
fn a_limit_that_nobody_reaches_does_not_grow_and_still_falls() {
    let mut endpoint = Endpoint::new(100, 10 * MS, 1, &declared(2, 1_000));
    endpoint.load(MS / 20, 5 * SECOND);
    endpoint.load(5 * MS, SECOND);
    let before = endpoint.limit();
    endpoint.takes = 5 * MS;
    endpoint.load(5 * MS, 10 * SECOND);
    assert_eq!(endpoint.limit(), before);
    endpoint.takes = 80 * MS;
    // Sixteen at once.
    endpoint.load(5 * MS, 10 * SECOND);
    assert!(endpoint.limit() < 16, "{}", endpoint.limit());
}

#[test]
fn workers_that_measure_together_do_not_take_each_others_queue_for_the_best() {
    let mut endpoint = Endpoint::new(10, 20 * MS, 4, &declared(1, 1_000));
    for _ in 0..10 {
        endpoint.load(MS, 60 * SECOND);
        assert!((10..=45).contains(&endpoint.limit()), "{} for 10 at once", endpoint.limit());
    }
}

#[test]
fn who_leaves_early_says_nothing_and_who_waited_long_does() {
    let mut gradient = Gradient::new(&declared(1, 1_000));
    let mut now = 0;
    let mut each = |gradient: &mut Gradient, times: usize, end: fn(&mut Gradient, Duration, u64), took: u64| {
        for _ in 0..times {
            now += 10 * MS;
            while !gradient.is_full() {
                gradient.begin();
            }
            gradient.end();
            end(gradient, Duration::from_nanos(took), now);
        }
    };
    each(&mut gradient, 400, Gradient::answered, 10 * MS);
    let before = gradient.limit();
    assert!(before > 100, "{before}");
    each(&mut gradient, 400, Gradient::unanswered, 14 * MS);
    assert_eq!(gradient.limit(), before);
    each(&mut gradient, 400, Gradient::unanswered, 2_000 * MS);
    assert!(gradient.limit() < 10, "{}", gradient.limit());
}

#[derive(Debug, Clone)]
enum Happens {
    Comes,
    Answered(u64),
    Leaves(u64),
    Probe,
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => Just(Happens::Comes),
        8 => (0..5 * SECOND).prop_map(Happens::Answered),
        2 => any::<u64>().prop_map(Happens::Leaves),
        1 => Just(Happens::Probe),
        4 => (0..SECOND).prop_map(Happens::Passes),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_stays_within_what_is_declared(
        min in 1_u32..50,
        more in 0_u32..1_000_000,
        tolerance_percent in 1_u8..=100,
        all in prop::collection::vec(happens(), 1..600),
    ) {
        let max = min + more;
        let mut gradient = Gradient::new(&AdaptiveConcurrency { min, max, tolerance_percent });
        let mut now = 1;
        for happens in all {
            match happens {
                Happens::Comes if gradient.is_full() => {}
                Happens::Comes => gradient.begin(),
                Happens::Answered(took) => {
                    gradient.end();
                    gradient.answered(Duration::from_nanos(took), now);
                }
                Happens::Leaves(took) => {
                    gradient.end();
                    gradient.unanswered(Duration::from_nanos(took), now);
                }
                Happens::Probe => gradient.probe(now),
                Happens::Passes(time) => now += time,
            }
            prop_assert!((min..=max).contains(&gradient.limit()) && gradient.in_flight() <= max, "{gradient:?}");
        }
    }
}
