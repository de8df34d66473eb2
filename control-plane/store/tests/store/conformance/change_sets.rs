//! Change sets: of any size, one change.

use super::{PATIENCE, World, eventually, refused, texts};
use bulkhead_store::change_set::{Change, ChangeSets, Changes, Committed, Head};
use bulkhead_store::{
    Error, Key, Keys, Lease, LeaseId, MAX_OPERATIONS, MAX_TXN_BYTES, Op, Outcome, Page, Pending, Range, Revision, Store, Txn, Watch,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const HEAD: &str = "/head";

async fn open(store: &Arc<dyn Store>) -> ChangeSets {
    ChangeSets::open(Arc::clone(store), Key::from(HEAD)).await.unwrap()
}

/// Puts of that many documents, all of this value.
fn puts(count: usize, value: &str) -> Vec<Op> {
    (0..count).map(|number| Op::put(format!("/doc/{number:05}"), value.to_owned())).collect()
}

#[track_caller]
fn done(committed: Committed) -> (Revision, Head) {
    match committed {
        Committed::Done { revision, head } => (revision, head),
        Committed::Conflict { head } => panic!("it was overtaken by {head:?}"),
    }
}

async fn next(changes: &mut Changes) -> Change {
    tokio::time::timeout(PATIENCE, changes.next()).await.expect("no change is told").unwrap()
}

/// What a change did, key by key; nothing for what it deleted.
fn effects(change: &Change) -> BTreeMap<Key, Option<bytes::Bytes>> {
    let effect = |op: &Op| match op {
        Op::Put { key, value, .. } => (key.clone(), Some(value.clone())),
        Op::Delete { keys: Keys::One(key) } => (key.clone(), None),
        other => panic!("{other:?} in a change"),
    };
    let effects: BTreeMap<_, _> = change.ops.iter().map(effect).collect();
    assert_eq!(effects.len(), change.ops.len(), "a key stands once");
    effects
}

async fn collected(world: &World, sets: &ChangeSets) {
    eventually("the stages are collected", async || {
        sets.collect().await.unwrap();
        (stages(world).await == 0).then_some(())
    })
    .await;
}

async fn stages(world: &World) -> usize {
    world.texts(Keys::prefix("/stage/")).await.len()
}

pub(crate) async fn five_thousand_documents_are_one_change(world: World) {
    let sets = open(&world.store).await;
    let mut changes = sets.watch(Revision::ZERO).await.unwrap();
    let value = "v".repeat(1_000);
    let (revision, head) = done(sets.commit(Revision::ZERO, "first".into(), puts(5_000, &value)).await.unwrap());
    assert_eq!((head.number, head.value.as_ref()), (1, b"first".as_slice()));

    let change = next(&mut changes).await;
    assert_eq!((change.revision, change.number, change.value.as_ref()), (revision, 1, b"first".as_slice()));
    assert_eq!(effects(&change).len(), 5_000);
    assert_eq!(sets.range(Range::of(Keys::prefix("/doc/"))).await.unwrap().entries.len(), 5_000);
    assert_eq!(stages(&world).await, 0);

    // And away again, with one that stays and one that is new; told as the next change, with nothing between.
    let mut ops: Vec<_> = (1..5_000).map(|number| Op::delete(format!("/doc/{number:05}"))).collect();
    ops.push(Op::put("/doc/new", "n"));
    let (revision, head) = done(sets.commit(head.revision, "second".into(), ops).await.unwrap());
    let change = next(&mut changes).await;
    assert_eq!((change.revision, change.number, head.number), (revision, 2, 2));
    assert_eq!(effects(&change).len(), 5_000);
    assert_eq!(world.texts(Keys::prefix("/doc/")).await, [format!("/doc/00000={value}"), "/doc/new=n".to_owned()]);
    assert_eq!(sets.head().await.unwrap(), head);
}

pub(crate) async fn a_small_set_is_one_revision(world: World) {
    let sets = open(&world.store).await;
    assert_eq!(sets.head().await.unwrap(), Head::default());
    let mut changes = sets.watch(Revision::ZERO).await.unwrap();
    let (first, head) = done(sets.commit(Revision::ZERO, "a".into(), puts(2, "1")).await.unwrap());
    assert_eq!(head.revision, first);
    assert!(world.get("/doc/00001").await.unwrap().mod_revision == first);
    // What is written past the change sets is none of theirs.
    world.put("/elsewhere", "1").await;
    let ops = vec![Op::delete("/doc/00000"), Op::put("/doc/00001", "2"), Op::delete("/doc/absent")];
    let (second, _) = done(sets.commit(head.revision, "b".into(), ops).await.unwrap());
    // Without operations it is a change as well: its value is.
    let head = sets.head().await.unwrap();
    let (third, _) = done(sets.commit(head.revision, "c".into(), Vec::new()).await.unwrap());
    for (revision, number, value, count) in [(first, 1, "a", 2), (second, 2, "b", 2), (third, 3, "c", 0)] {
        let change = next(&mut changes).await;
        assert_eq!((change.revision, change.number, change.value.as_ref()), (revision, number, value.as_bytes()));
        assert_eq!(effects(&change).len(), count);
    }
    // A later watcher hears the same from any place.
    let mut later = sets.watch(second).await.unwrap();
    assert_eq!((next(&mut later).await.number, next(&mut later).await.number), (2, 3));
}

pub(crate) async fn an_overtaken_set_changes_nothing(world: World) {
    let (one, other) = (open(&world.store).await, open(&world.store).await);
    let (_, head) = done(one.commit(Revision::ZERO, "first".into(), puts(1, "first")).await.unwrap());
    for count in [1, 300] {
        let late = other.commit(Revision::ZERO, "late".into(), puts(count, "late")).await.unwrap();
        assert_eq!(late, Committed::Conflict { head: head.clone() });
        assert_eq!(stages(&world).await, 0);
    }
    assert_eq!(world.texts(Keys::prefix("/doc/")).await, ["/doc/00000=first"]);

    // Side by side, whatever their sizes: of those who expect the same head one wins, and its value is everywhere.
    let mut head = head;
    for (left, right) in [(1, 300), (300, 300), (300, 1)] {
        let left = one.commit(head.revision, "left".into(), puts(left, "left"));
        let right = other.commit(head.revision, "right".into(), puts(right, "right"));
        let (left, right) = tokio::join!(left, right);
        let winners = [(left.unwrap(), "left"), (right.unwrap(), "right")]
            .into_iter()
            .filter_map(|(committed, name)| if let Committed::Done { head, .. } = committed { Some((head, name)) } else { None })
            .collect::<Vec<_>>();
        assert_eq!(winners.len(), 1, "{winners:?}");
        head = one.head().await.unwrap();
        assert_eq!((head.number, head.value.as_ref()), (winners[0].0.number, winners[0].1.as_bytes()));
        assert_eq!(one.get(Key::from("/doc/00000")).await.unwrap().unwrap().value, winners[0].1);
    }
    assert_eq!(stages(&world).await, 0);
}

pub(crate) async fn what_no_set_can_hold_is_refused_before_it_is_staged(world: World) {
    let sets = open(&world.store).await;
    let lease = world.store.grant(Duration::from_secs(60)).await.unwrap().id;
    let rows = [
        (Op::put("/doc/00000", "twice"), "DuplicateKey"),
        (Op::delete("/doc/00299"), "DuplicateKey"),
        (Op::put(HEAD, "past us"), "DuplicateKey"),
        (Op::put("", "v"), "EmptyKey"),
        (Op::get("/doc/00000"), "Unsuited"),
        (Op::Delete { keys: Keys::prefix("/doc/") }, "Unsuited"),
        (Op::put_leased("/leased", "v", lease), "Unsuited"),
        (Op::put("/large", vec![b'x'; MAX_TXN_BYTES]), "TooLarge"),
    ];
    for (op, expected) in rows {
        let ops = [puts(300, "v"), vec![op]].concat();
        refused(sets.commit(Revision::ZERO, "v".into(), ops).await, expected);
    }
    assert_eq!(world.texts(Keys::all()).await, Vec::<String>::new());
}

pub(crate) async fn the_largest_operation_alone_is_a_set(world: World) {
    let sets = open(&world.store).await;
    // Larger and larger, until the transaction that rolls it forward would be too large: up to there every size must go.
    let large = |bytes: usize| Op::put("/large", vec![b'x'; bytes]);
    let fits = |bytes: usize| {
        let guard = bulkhead_store::Compare::absent(HEAD);
        Txn::new().when(guard).then(large(bytes)).bytes() <= MAX_TXN_BYTES
    };
    let most = (0..MAX_TXN_BYTES).rev().find(|bytes| fits(*bytes)).unwrap();
    let mut expected = Revision::ZERO;
    for bytes in [most - 200, most - 64, most - 1, most] {
        let (_, head) = done(sets.commit(expected, "v".into(), vec![large(bytes), Op::put("/small", "v")]).await.unwrap());
        assert_eq!(sets.get(Key::from("/large")).await.unwrap().unwrap().value.len(), bytes);
        expected = head.revision;
    }
    refused(sets.commit(expected, "v".into(), vec![large(most + 1)]).await, "TooLarge");
}

pub(crate) async fn readers_see_whole_sets_only(world: World) {
    let sets = open(&world.store).await;
    let (_, mut head) = done(sets.commit(Revision::ZERO, "0".into(), puts(400, "0")).await.unwrap());
    let writing = tokio::spawn({
        // Of another process, as it were: it shares no lock with the reader.
        let sets = open(&world.store).await;
        async move {
            for round in 1..10 {
                let value = round.to_string();
                head = done(sets.commit(head.revision, value.clone().into(), puts(400, &value)).await.unwrap()).1;
            }
        }
    });
    let mut seen = BTreeSet::new();
    while !writing.is_finished() {
        let page = sets.range(Range::of(Keys::prefix("/doc/"))).await.unwrap();
        let values: BTreeSet<_> = page.entries.iter().map(|entry| entry.value.clone()).collect();
        assert_eq!((page.entries.len(), values.len()), (400, 1), "{values:?}");
        assert!(seen.last().is_none_or(|newest| values.last().unwrap() >= newest), "it went back");
        seen.extend(values);
    }
    // The reader helps where it meets half a set, and its writer may then find its work done: never lost, never done twice.
    writing.await.unwrap();
    assert_eq!(sets.head().await.unwrap().number, 10);
    assert_eq!(stages(&world).await, 0);
}

/// A store that stops to write after so many transactions, as if its user were killed there.
struct Cut {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
}

impl Cut {
    fn after(inner: &Arc<dyn Store>, left: usize) -> Arc<dyn Store> {
        Arc::new(Self { inner: Arc::clone(inner), left: AtomicUsize::new(left) })
    }

    fn spend(&self) -> Result<(), Error> {
        let spent = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| Error::NotStored { what: "cut off".into(), cause: None })
    }
}

impl Store for Cut {
    fn revision(&self) -> Pending<'_, Revision> {
        self.inner.revision()
    }
    fn range(&self, range: Range) -> Pending<'_, Page> {
        self.inner.range(range)
    }
    fn txn(&self, txn: Txn) -> Pending<'_, Outcome> {
        match self.spend() {
            Ok(()) => self.inner.txn(txn),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
    fn watch(&self, keys: Keys, from: Revision) -> Pending<'_, Box<dyn Watch>> {
        self.inner.watch(keys, from)
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
        match self.spend() {
            Ok(()) => self.inner.revoke(lease),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

pub(crate) async fn a_set_cut_off_anywhere_is_there_whole_or_not_at_all(world: World) {
    let count = MAX_OPERATIONS * 2 + 1;
    let sets = open(&world.store).await;
    let mut changes = sets.watch(Revision::ZERO).await.unwrap();
    let (_, mut head) = done(sets.commit(Revision::ZERO, "begin".into(), puts(count, "begin")).await.unwrap());
    next(&mut changes).await;
    let (mut kept, mut lost) = (0, 0);
    for left in 0.. {
        let value = format!("cut after {left}");
        let cut = Cut::after(&world.store, left);
        let cut_off = ChangeSets::open(cut, Key::from(HEAD)).await.unwrap();
        let answered = cut_off.commit(head.revision, value.clone().into(), puts(count, &value)).await;
        drop(cut_off);

        let sets = open(&world.store).await;
        let now = sets.head().await.unwrap();
        let page = sets.range(Range::of(Keys::prefix("/doc/"))).await.unwrap();
        let values: BTreeSet<_> = page.entries.iter().map(|entry| entry.value.clone()).collect();
        assert_eq!(values, BTreeSet::from([now.value.clone()]), "whole, and what the head says");
        assert_eq!(page.entries.len(), count);
        let there = now.value == value;
        assert_eq!(now.number, head.number + u64::from(there));
        assert_eq!(there, answered.is_ok(), "{answered:?}");
        if there {
            kept += 1;
            let change = next(&mut changes).await;
            assert_eq!((change.number, change.value.as_ref()), (now.number, value.as_bytes()), "told once");
            assert!(effects(&change).values().all(|effect| effect.as_deref() == Some(value.as_bytes())));
        } else {
            lost += 1;
        }
        head = now;
        // What was left behind must not spend what the next one has.
        (world.pass)(Duration::from_secs(61));
        collected(&world, &sets).await;
        // Three parts, each staged, rolled forward and deleted; marker, flip, clearing and the end of the lease.
        if left >= 3 * 3 + 4 {
            break;
        }
    }
    assert!(kept > 4 && lost > 4, "both ends of the flip were cut: {kept} kept, {lost} lost");
}

pub(crate) async fn an_abandoned_stage_is_collected_when_its_lease_has_ended(world: World) {
    let sets = open(&world.store).await;
    let (_, head) = done(sets.commit(Revision::ZERO, "v".into(), puts(1, "v")).await.unwrap());
    // Cut off after the marker and two of three parts.
    let cut_off = ChangeSets::open(Cut::after(&world.store, 3), Key::from(HEAD)).await.unwrap();
    assert!(cut_off.commit(head.revision, "w".into(), puts(300, "w")).await.is_err());
    assert_eq!(stages(&world).await, 3);
    // Somebody may still be writing it: only time tells.
    sets.collect().await.unwrap();
    assert_eq!(stages(&world).await, 3);
    (world.pass)(Duration::from_secs(61));
    collected(&world, &sets).await;
    assert_eq!(texts(&sets.range(Range::of(Keys::prefix("/doc/"))).await.unwrap().entries), ["/doc/00000=v"]);
}

pub(crate) async fn a_page_of_the_past_shows_no_half_of_a_set(world: World) {
    let sets = open(&world.store).await;
    let (first, head) = done(sets.commit(Revision::ZERO, "1".into(), puts(300, "1")).await.unwrap());
    let (second, head) = done(sets.commit(head.revision, "2".into(), puts(300, "2")).await.unwrap());
    let mut looked = 0;
    for number in first.get()..=head.revision.get() {
        let at = Some(Revision::new(number));
        let page = sets.range(Range { at, ..Range::of(Keys::prefix("/doc/")) }).await.unwrap();
        let values: BTreeSet<_> = page.entries.iter().map(|entry| entry.value.clone()).collect();
        assert!(values.len() <= 1 && [0, 300].contains(&page.entries.len()), "at {number}: {values:?}");
        looked += usize::from(Revision::new(number) >= second && page.revision < second);
    }
    assert!(looked > 0, "no revision was within the second set");
}

pub(crate) async fn a_head_that_somebody_else_wrote_is_told(world: World) {
    let sets = open(&world.store).await;
    let mut changes = sets.watch(Revision::ZERO).await.unwrap();
    world.put(HEAD, "not ours").await;
    refused(sets.head().await, "Malformed");
    refused(sets.commit(Revision::ZERO, "v".into(), puts(1, "v")).await, "Malformed");
    refused(sets.range(Range::of(Keys::all())).await, "Malformed");
    refused(changes.next().await, "Malformed");
    refused(ChangeSets::open(Arc::clone(&world.store), Key::from(HEAD)).await.map(drop), "Malformed");
    assert_eq!(world.texts(Keys::all()).await, ["/head=not ours"]);
}
