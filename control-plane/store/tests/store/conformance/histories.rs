//! Concurrent histories, judged: whatever callers of several threads were answered, one register per key could have said it.

use super::World;
use crate::checker::{Action, Effects, History, Operation, Value, Violation, effects, number};
use crate::random::Random;
use bulkhead_store::{
    Batch, Compare, Entry, Error, Key, Keys, Lease, LeaseId, Op, Outcome, Page, Pending, Range, Revision, Store, Txn, Watch,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CALLERS: u64 = 6;
const WATCHERS: usize = 2;
const KEYS: u64 = 4;
/// Of each caller. A key gets its share of all of them, which must stay within what the checker judges.
const CALLS: u64 = 30;

pub(crate) async fn what_callers_of_many_threads_are_answered_is_linearisable(world: World) {
    let mut random = Random::new();
    assert_eq!(judged(&world.store, &mut random).await, Ok(()));
}

pub(crate) async fn a_store_that_lies_is_found_out(world: World) {
    let mut random = Random::new();
    for lie in [Lie::StaleRead, Lie::LostWrite, Lie::SkippedEvent, Lie::HalfAnEvent] {
        let liar: Arc<dyn Store> = Arc::new(Liar { inner: Arc::clone(&world.store), lie });
        let judged = judged(&liar, &mut random).await;
        let found = match lie {
            // A lost write is missed by whoever reads it, or by the watchers, whichever is judged first.
            Lie::StaleRead | Lie::LostWrite => matches!(judged, Err(Violation::NotLinearisable { .. })),
            Lie::SkippedEvent => matches!(judged, Err(Violation::Unheard { .. })),
            Lie::HalfAnEvent => matches!(judged, Err(Violation::HeardOtherwise { .. })),
        };
        assert!(found, "{lie:?}: {judged:?}");
    }
    // The same store without the lie.
    assert_eq!(judged(&world.store, &mut random).await, Ok(()));
}

/// The thread of the test goes on meanwhile: the store's own connections may live on it.
async fn judged(store: &Arc<dyn Store>, random: &mut Random) -> Result<(), Violation> {
    let (store, seed) = (Arc::clone(store), random.below(u64::MAX));
    tokio::task::spawn_blocking(move || run(&store, &mut Random::from_seed(seed)).check()).await.unwrap()
}

/// Callers of threads of their own, and watchers beside them.
fn run(store: &Arc<dyn Store>, random: &mut Random) -> History {
    let prefix = format!("/{}/", random.below(u64::MAX));
    let clock = AtomicU64::new(1);
    let seeds: Vec<u64> = (0..CALLERS).map(|_| random.below(u64::MAX)).collect();
    let from = block_on(store.revision()).unwrap().next();
    // The last revision of a run is one that nobody else makes: with it a watcher has heard all.
    let last = format!("{prefix}last");
    let mut history = History::default();
    std::thread::scope(|threads| {
        let callers: Vec<_> = (1..)
            .zip(seeds)
            .map(|(name, seed)| {
                let mut caller = Caller { store, prefix: &prefix, clock: &clock, name, written: 0, history: History::default() };
                threads.spawn(move || {
                    block_on(caller.calls(Random::from_seed(seed)));
                    caller.history
                })
            })
            .collect();
        let watchers: Vec<_> = (0..WATCHERS).map(|_| threads.spawn(|| block_on(watch(store, &prefix, from, &last)))).collect();
        for caller in callers {
            history.join(caller.join().unwrap());
        }
        // Alone: whatever is answered here has one right answer.
        let mut caller = Caller { store, prefix: &prefix, clock: &clock, name: 0, written: 0, history: History::default() };
        block_on(caller.one_after_another());
        history.join(caller.history);
        block_on(store.txn(Txn::new().then(Op::put(last.clone(), "0")))).unwrap();
        history.watched.extend(watchers.into_iter().map(|watcher| watcher.join().unwrap()));
    });
    history
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

async fn watch(store: &Arc<dyn Store>, prefix: &str, from: Revision, last: &str) -> Vec<(Revision, Effects)> {
    let mut watch = store.watch(Keys::prefix(prefix), from).await.unwrap();
    let mut heard = Vec::new();
    loop {
        let batch = super::next(&mut watch).await;
        if batch.events.iter().any(|event| *event.key() == Key::from(last)) {
            return heard;
        }
        heard.push((batch.revision, effects(&batch)));
    }
}

impl History {
    fn join(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.committed.extend(other.committed);
    }
}

/// Who calls, and takes down what it was answered.
struct Caller<'a> {
    store: &'a Arc<dyn Store>,
    prefix: &'a str,
    clock: &'a AtomicU64,
    name: u64,
    written: u64,
    history: History,
}

impl Caller<'_> {
    async fn calls(&mut self, mut random: Random) {
        for _ in 0..CALLS {
            let key = self.key(random.below(KEYS));
            match random.below(5) {
                0 => self.read(&key).await,
                1 => self.swap(&key).await,
                2 => self.delete(&key).await,
                3 => self.write_both(&key, &self.key(random.below(KEYS))).await,
                _ => self.write(&key).await,
            }
        }
    }

    async fn one_after_another(&mut self) {
        for number in 0..KEYS {
            let key = self.key(number);
            self.write(&key).await;
            self.read(&key).await;
        }
    }

    fn key(&self, number: u64) -> Key {
        Key::from(format!("{}{number}", self.prefix))
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> u64 {
        self.written += 1;
        self.name * 1_000_000 + self.written
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel)
    }

    fn note(&mut self, key: &Key, action: Action, called: u64) {
        let operation = Operation { key: key.clone(), action, called, answered: Some(self.tick()) };
        self.history.operations.push(operation);
    }

    fn made(&mut self, outcome: &Outcome, effects: impl Into<Effects>) {
        self.history.committed.insert(outcome.revision, effects.into());
    }

    async fn read(&mut self, key: &Key) {
        let called = self.tick();
        let entry = self.store.get(key.clone()).await.unwrap();
        self.note(key, Action::Read(value_of(entry.as_ref())), called);
    }

    async fn write(&mut self, key: &Key) {
        let (value, called) = (self.value(), self.tick());
        let outcome = self.store.txn(Txn::new().then(Op::put(key.clone(), value.to_string()))).await.unwrap();
        self.note(key, Action::Write(Some(value)), called);
        self.made(&outcome, [(key.clone(), Some(value))]);
    }

    async fn write_both(&mut self, one: &Key, other: &Key) {
        if one == other {
            return self.write(one).await;
        }
        let (value, called) = (self.value(), self.tick());
        let put = |key: &Key| Op::put(key.clone(), value.to_string());
        let outcome = self.store.txn(Txn::new().then(put(one)).then(put(other))).await.unwrap();
        let answered = self.tick();
        for key in [one, other] {
            let action = Action::Write(Some(value));
            self.history.operations.push(Operation { key: key.clone(), action, called, answered: Some(answered) });
        }
        self.made(&outcome, [(one.clone(), Some(value)), (other.clone(), Some(value))]);
    }

    async fn delete(&mut self, key: &Key) {
        let called = self.tick();
        let outcome = self.store.txn(Txn::new().then(Op::delete(key.clone()))).await.unwrap();
        self.note(key, Action::Write(None), called);
        if outcome.answers == [bulkhead_store::Answer::Deleted(1)] {
            self.made(&outcome, [(key.clone(), None)]);
        }
    }

    /// Reads, then writes if it is still so.
    async fn swap(&mut self, key: &Key) {
        let called = self.tick();
        let entry = self.store.get(key.clone()).await.unwrap();
        let expected = value_of(entry.as_ref());
        self.note(key, Action::Read(expected), called);
        let (value, called) = (self.value(), self.tick());
        let guard = match &entry {
            Some(entry) => Compare::value(key.clone(), entry.value.clone()),
            None => Compare::absent(key.clone()),
        };
        let outcome = self.store.txn(Txn::new().when(guard).then(Op::put(key.clone(), value.to_string()))).await.unwrap();
        self.note(key, Action::Swap(expected, Some(value), outcome.succeeded), called);
        if outcome.succeeded {
            self.made(&outcome, [(key.clone(), Some(value))]);
        }
    }
}

fn value_of(entry: Option<&Entry>) -> Value {
    entry.and_then(|entry| number(&entry.value))
}

#[derive(Debug, Clone, Copy)]
enum Lie {
    StaleRead,
    LostWrite,
    SkippedEvent,
    HalfAnEvent,
}

/// A store that lies in one way.
struct Liar {
    inner: Arc<dyn Store>,
    lie: Lie,
}

impl Store for Liar {
    fn revision(&self) -> Pending<'_, Revision> {
        self.inner.revision()
    }
    fn range(&self, range: Range) -> Pending<'_, Page> {
        Box::pin(async move {
            let page = self.inner.range(range.clone()).await?;
            // As it stood before its last change: it is there, and it is old.
            match page.entries.first().filter(|_| matches!(self.lie, Lie::StaleRead)) {
                Some(entry) => {
                    let before = Revision::new(entry.mod_revision.get() - 1);
                    self.inner.range(Range { at: Some(before), ..range }).await
                }
                None => Ok(page),
            }
        })
    }
    fn txn(&self, txn: Txn) -> Pending<'_, Outcome> {
        let lost = |op: &Op| matches!(op, Op::Put { key, .. } if key.as_bytes().ends_with(b"/0"));
        if matches!(self.lie, Lie::LostWrite) && txn.compares.is_empty() && txn.then.iter().all(lost) {
            return Box::pin(async { self.inner.txn(Txn::new()).await });
        }
        self.inner.txn(txn)
    }
    fn watch(&self, keys: Keys, from: Revision) -> Pending<'_, Box<dyn Watch>> {
        Box::pin(async move {
            let inner = self.inner.watch(keys, from).await?;
            Ok(Box::new(LyingWatch { inner, lie: self.lie, heard: 0 }) as Box<dyn Watch>)
        })
    }
    fn compact(&self, revision: Revision) -> Pending<'_, ()> {
        self.inner.compact(revision)
    }
    fn grant(&self, ttl: Duration) -> Pending<'_, Lease> {
        self.inner.grant(ttl)
    }
    fn keep_alive(&self, lease: LeaseId) -> Pending<'_, Lease> {
        self.inner.keep_alive(lease)
    }
    fn revoke(&self, lease: LeaseId) -> Pending<'_, Revision> {
        self.inner.revoke(lease)
    }
}

struct LyingWatch {
    inner: Box<dyn Watch>,
    lie: Lie,
    heard: u64,
}

impl Watch for LyingWatch {
    fn next(&mut self) -> Pending<'_, Batch> {
        Box::pin(async move {
            let mut batch = self.inner.next().await?;
            self.heard += 1;
            match self.lie {
                Lie::SkippedEvent if self.heard == 5 => return self.inner.next().await,
                Lie::HalfAnEvent if batch.events.len() == 2 => drop(batch.events.pop()),
                Lie::StaleRead | Lie::LostWrite | Lie::SkippedEvent | Lie::HalfAnEvent => {}
            }
            Ok::<_, Error>(batch)
        })
    }
}
