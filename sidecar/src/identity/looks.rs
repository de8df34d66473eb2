//! Looks: how a request whose token names an unknown key has the issuer asked, from a worker.
//!
//! Cost: none per request but for tokens whose key is not known: a look into a table; a few questions to the control runtime for each
//! key set, then one in ten seconds, for which the request waits up to two. So a stranger who makes up keys makes us ask an issuer
//! six times a minute, whatever he sends, and holds up to 64 requests of a worker that were to wait anyway.

use crate::clock::Now;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The same key set is looked at so often because of tokens, and so many times at once.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(10);
pub(super) const LOOKS_AT_ONCE: u64 = 3;
/// How long a request waits for a look.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests of one worker that wait at the same time.
const WAITING_MAX: usize = 64;
/// Questions that may wait for the control runtime, from all workers.
const QUESTIONS_MAX: usize = 256;
/// Key sets whose last look a worker remembers; beyond, those that count no more go first.
const REMEMBERED_MAX: usize = 1_024;

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// The set is what its issuer publishes now, and served.
    Fresh,
    /// Nobody knows what it publishes now.
    Unknown,
}

/// What is told of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What came of it.
    pub(super) looked: Looked,
    /// For how long there is no other look because of a token.
    pub(super) holds: Duration,
}

/// A question to the control runtime.
#[derive(Debug)]
pub struct Ask {
    /// The key set.
    pub(super) name: Arc<str>,
    /// Told when the set that was fetched is served.
    pub(super) answer: oneshot::Sender<Told>,
}

/// What workers ask with; clones share the way.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Ask>);

/// The way from workers to whoever fetches key sets.
#[must_use]
pub fn channel() -> (Asker, mpsc::Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (Asker(sender), receiver)
}

/// One worker's way to ask.
#[derive(Debug)]
pub struct Looks {
    asker: Asker,
    waiting: Cell<usize>,
    /// With the nanosecond of the monotonic clock until which it holds.
    last: RefCell<HashMap<Arc<str>, (u64, Looked)>>,
}

/// A place among those that wait.
pub(super) struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    /// One of `most` places, if there is one left.
    pub(super) fn one_of(waiting: &'a Cell<usize>, most: usize) -> Option<Self> {
        let count = waiting.get();
        (count < most).then(|| {
            waiting.set(count + 1);
            Waiting(waiting)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Looks {
    /// Nobody asked yet.
    #[must_use]
    pub fn new(asker: Asker) -> Self {
        Self { asker, waiting: Cell::new(0), last: RefCell::default() }
    }

    /// Has a key set looked at, unless that was done a moment ago.
    pub async fn look(&self, name: &Arc<str>, now: Now) -> Looked {
        if let Some((until_ns, looked)) = self.last.borrow().get(name)
            && now.mono_ns < *until_ns
        {
            return *looked;
        }
        let Some(_waiting) = Waiting::one_of(&self.waiting, WAITING_MAX) else { return Looked::Unknown };
        let (answer, answered) = oneshot::channel();
        if self.asker.0.try_send(Ask { name: Arc::clone(name), answer }).is_err() {
            return Looked::Unknown;
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(told)) => {
                self.remember(name, now, told);
                told.looked
            }
            // It may still come: what is told then is not told to this request.
            Ok(Err(_)) | Err(_) => Looked::Unknown,
        }
    }

    fn remember(&self, name: &Arc<str>, now: Now, told: Told) {
        let mut last = self.last.borrow_mut();
        if last.len() >= REMEMBERED_MAX {
            last.retain(|_, (until_ns, _)| now.mono_ns < *until_ns);
        }
        if last.len() < REMEMBERED_MAX || last.contains_key(name) {
            let until_ns = now.mono_ns.saturating_add(u64::try_from(told.holds.as_nanos()).unwrap_or(u64::MAX));
            last.insert(Arc::clone(name), (until_ns, told.looked));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, unix_ms: 0 }
    }

    #[tokio::test]
    async fn an_issuer_is_asked_once_in_ten_seconds_whatever_comes_of_it() {
        let (asker, mut asks) = channel();
        let looks = Looks::new(asker);
        let name: Arc<str> = "https://login.example/jwks".into();
        let answering = async {
            for looked in [Looked::Fresh, Looked::Unknown] {
                let ask = asks.recv().await.unwrap();
                assert_eq!(ask.name, name);
                ask.answer.send(Told { looked, holds: LOOK_AGAIN }).unwrap();
            }
            asks
        };
        let asking = async {
            assert_eq!(looks.look(&name, at(0)).await, Looked::Fresh);
            assert_eq!(looks.look(&name, at(9)).await, Looked::Fresh, "not asked again");
            assert_eq!(looks.look(&name, at(10)).await, Looked::Unknown, "asked again");
            assert_eq!(looks.look(&name, at(12)).await, Looked::Unknown, "not asked again");
        };
        let ((), mut asks) = tokio::join!(asking, answering);
        assert!(asks.try_recv().is_err());
    }

    #[tokio::test]
    async fn no_more_requests_wait_than_there_are_places() {
        let (asker, mut asks) = channel();
        let looks = Looks::new(asker);
        let names: Vec<Arc<str>> = (0..WAITING_MAX + 10).map(|n| n.to_string().into()).collect();
        let mut waiting: Vec<_> = names.iter().map(|name| Box::pin(looks.look(name, at(0)))).collect();
        let mut turned_away = 0;
        for look in &mut waiting {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(look.as_mut().poll(cx))).await;
            turned_away += usize::from(polled.is_ready());
        }
        assert_eq!(turned_away, 10);
        let mut asked = 0;
        while asks.try_recv().is_ok() {
            asked += 1;
        }
        assert_eq!(asked, WAITING_MAX);
        drop(waiting);
        assert_eq!(looks.waiting.get(), 0, "who stops waiting gives its place back");
    }
}
