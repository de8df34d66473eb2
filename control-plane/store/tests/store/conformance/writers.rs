//! Many writers at once.

use super::{World, next};
use bulkhead_store::{Compare, Key, Keys, Op, Range, Store, Txn};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::task::JoinSet;

const WRITERS: usize = 16;
const ROUNDS: usize = 25;

pub(crate) async fn each_of_many_writers_gets_a_revision_of_its_own(world: World) {
    let before = world.store.revision().await.unwrap();
    let mut watch = world.watch("", before.next()).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&world.store);
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for round in 0..ROUNDS {
                let put = Txn::new().then(Op::put(format!("{writer}/{round}"), "v"));
                revisions.push(store.txn(put).await.unwrap().revision);
            }
            assert!(revisions.is_sorted(), "what was answered first came first");
            revisions
        });
    }
    let revisions: BTreeSet<_> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(revisions.len(), WRITERS * ROUNDS);
    for revision in &revisions {
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, batch.events.len()), (*revision, 1));
    }
    assert_eq!(world.texts(Keys::all()).await.len(), WRITERS * ROUNDS);
}

/// Reads, raises and compares until it was first.
async fn raise(store: &dyn Store, key: &Key) {
    loop {
        let entry = store.get(key.clone()).await.unwrap();
        let (count, since) = match &entry {
            Some(entry) => (std::str::from_utf8(&entry.value).unwrap().parse::<usize>().unwrap(), entry.mod_revision),
            None => (0, bulkhead_store::Revision::ZERO),
        };
        let txn = Txn::new().when(Compare::unchanged(key.clone(), since)).then(Op::put(key.clone(), (count + 1).to_string()));
        if store.txn(txn).await.unwrap().succeeded {
            return;
        }
    }
}

pub(crate) async fn a_counter_raised_by_many_loses_no_step(world: World) {
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&world.store);
        writers.spawn(async move {
            for _ in 0..10 {
                raise(&*store, &Key::from("counter")).await;
            }
        });
    }
    writers.join_all().await;
    assert_eq!(world.texts(Keys::all()).await, ["counter=80"]);
    assert_eq!(world.get("counter").await.unwrap().version, 80);
}

pub(crate) async fn readers_see_whole_transactions_only(world: World) {
    let writer = tokio::spawn({
        let store = Arc::clone(&world.store);
        async move {
            for round in 0..100 {
                let txn = (0..5).fold(Txn::new(), |txn, key| txn.then(Op::put(format!("k/{key}"), round.to_string())));
                store.txn(txn).await.unwrap();
            }
        }
    });
    let mut looks = 0;
    while !writer.is_finished() {
        let page = world.store.range(Range::of(Keys::prefix("k/"))).await.unwrap();
        let values: BTreeSet<_> = page.entries.iter().map(|entry| &entry.value).collect();
        let revisions: BTreeSet<_> = page.entries.iter().map(|entry| entry.mod_revision).collect();
        assert!(values.len() <= 1 && revisions.len() <= 1, "{page:?}");
        assert!(revisions.last().is_none_or(|newest| *newest <= page.revision));
        looks += 1;
    }
    writer.await.unwrap();
    assert!(looks > 0);
}
