//! The null server: answers always the same, at once or after a time that is known, so that what is measured is the load itself.

use crate::sidecar::unusable;
use crate::versus::step::Error;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The listener's name among the connections, which are numbered from the one after it.
const LISTENER: u64 = 0;

/// Times for which answers are held back, evenly between two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

impl Held {
    /// That of the n-th answer. Multiples of the golden ratio, less their whole part, fill the range alike however many there are:
    /// the percentiles of a few hundred answers are those of all.
    fn of(self, number: u64) -> Duration {
        self.least + (self.most - self.least).mul_f64((number as f64 * 0.618_033_988_749_895).fract())
    }
}

/// Starts one on a thread of its own, on `cpu` where that can be had. Ends with this process.
pub(crate) fn start(cpu: usize, held: Option<Held>) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(unusable("a free port"))?;
    let address = listener.local_addr().map_err(unusable("a free port"))?;
    thread::spawn(move || {
        super::pin(cpu);
        // Its end is seen as lost requests by whoever loads it.
        let _ = Null::over(listener, held).and_then(Null::serve);
    });
    Ok(address)
}

struct Null {
    epoll: OwnedFd,
    listener: TcpListener,
    held: Option<Held>,
    streams: HashMap<u64, TcpStream>,
    accepted: u64,
    asked: u64,
    /// Answers that are held back, and whose they are.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Null {
    fn over(listener: TcpListener, held: Option<Held>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll, listener, held, streams: HashMap::new(), accepted: LISTENER, asked: 0, due: BinaryHeap::new() })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            let polled = self.sleep()?;
            epoll::wait(&self.epoll, spare_capacity(&mut events), polled.as_ref())?;
            for event in events.drain(..) {
                match { event.data }.u64() {
                    LISTENER => self.accept()?,
                    name => self.asked(name),
                }
            }
            self.answer_what_is_due();
        }
    }

    /// Sleeps until the next answer is due, or somebody asks, and gives the time left to wait for events: any, where none is due.
    /// In `ppoll`, as the grain of `epoll_wait` is a millisecond.
    fn sleep(&self) -> io::Result<Option<Timespec>> {
        let Some(Reverse((due, _))) = self.due.peek() else { return Ok(None) };
        let left = due.saturating_duration_since(Instant::now());
        let nap = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&nap)) {
            Ok(_) | Err(Errno::INTR) => Ok(Some(Timespec { tv_sec: 0, tv_nsec: 0 })),
            Err(cause) => Err(cause.into()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        self.accepted += 1;
        epoll::add(&self.epoll, &stream, EventData::new_u64(self.accepted), EventFlags::IN)?;
        self.streams.insert(self.accepted, stream);
        Ok(())
    }

    /// Requests come one by one, without a body: what came is one request, and its head came in one piece.
    fn asked(&mut self, name: u64) {
        let Some(mut stream) = self.streams.get(&name) else { return };
        match (stream.read(&mut [0; 4_096]), self.held) {
            (Ok(1..), Some(held)) => {
                self.asked += 1;
                self.due.push(Reverse((Instant::now() + held.of(self.asked), name)));
            }
            (Ok(1..), None) => self.answer(name),
            _ => drop(self.streams.remove(&name)),
        }
    }

    fn answer_what_is_due(&mut self) {
        while let Some(name) = self.next_due() {
            self.answer(name);
        }
    }

    fn next_due(&mut self) -> Option<u64> {
        let next = self.due.peek_mut()?;
        let is_due = next.0.0 <= Instant::now();
        is_due.then(|| PeekMut::pop(next).0.1)
    }

    fn answer(&mut self, name: u64) {
        // Whoever is gone has no answer to come.
        if self.streams.get(&name).is_some_and(|mut stream| stream.write_all(ANSWER).is_err()) {
            self.streams.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_evenly_however_many_there_are() {
        let held = Held { least: Duration::from_millis(2), most: Duration::from_millis(18) };
        for (first, count) in [(1, 500), (12_345, 500), (1, 20_000)] {
            let mut times: Vec<_> = (first..first + count).map(|number| held.of(number).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            for (rank, time) in times.iter().enumerate() {
                let even = 2.0 + 16.0 * (rank as f64 + 0.5) / count as f64;
                assert!((time - even).abs() < 0.08, "{time} ms is {rank} of {count} from {first}");
            }
        }
    }
}
