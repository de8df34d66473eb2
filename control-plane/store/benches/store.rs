//! The embedded store with 100,000 keys: what one change costs, what a change set of 5,000 documents costs, how long it takes to open.
//!
//! Bounds of the issue it was built for: 20 ms a change at 100,000 keys, 5 s a set of 5,000. Most of a lone change is one sync of the disk,
//! which is why `burst` stands beside it: what waits shares a sync.

#![expect(clippy::expect_used, reason = "a bench ends at the first surprise")]

use bulkhead_store::change_set::{ChangeSets, Committed};
use bulkhead_store::{Embedded, Key, Keys, Op, Options, Range, Store, Txn};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const KEYS: usize = 100_000;
const SET: usize = 5_000;
const BURST: usize = 128;
/// About what the documents of a small tenant take.
const VALUE_BYTES: usize = 500;

fn key(number: usize) -> Key {
    Key::from(format!("/tenant/{number:06}"))
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(Embedded::open(path, Options::default()).expect("the store opens"))
}

fn put(number: usize, round: u64) -> Op {
    let mut value = vec![b'v'; VALUE_BYTES];
    value.splice(..8, round.to_le_bytes());
    Op::put(key(number), value)
}

async fn fill(store: &dyn Store) {
    for first in (0..KEYS).step_by(100) {
        let txn = (first..first + 100).fold(Txn::new(), |txn, number| txn.then(put(number, 0)));
        store.txn(txn).await.expect("the store is filled");
    }
    let newest = store.revision().await.expect("the store answers");
    store.compact(newest).await.expect("the store is compacted");
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let store = open(&path);
    runtime.block_on(fill(&*store));
    let mut round = 0;
    changes(criterion, &runtime, &store, &mut round);
    reads(criterion, &runtime, &store);
    set(criterion, &runtime, &store);
    drop(store);
    let mut group = criterion.benchmark_group("store, 100,000 keys");
    group.sample_size(10);
    group.bench_function("open, and close", |bencher| bencher.iter(|| drop(black_box(open(&path)))));
    group.finish();
}

fn changes(criterion: &mut Criterion, runtime: &Runtime, store: &Arc<dyn Store>, round: &mut u64) {
    let mut group = criterion.benchmark_group("store, 100,000 keys");
    group.bench_function("one change", |bencher| {
        bencher.iter(|| {
            *round += 1;
            let number = usize::try_from(*round).expect("64 bits").wrapping_mul(7_919) % KEYS;
            runtime.block_on(store.txn(Txn::new().then(put(number, *round)))).expect("it is stored")
        });
    });
    group.throughput(Throughput::Elements(BURST as u64)).sample_size(20);
    group.bench_function("burst of 128 changes", |bencher| {
        bencher.iter(|| {
            *round += 1;
            runtime.block_on(async {
                let mut burst = JoinSet::new();
                for number in 0..BURST {
                    let (store, txn) = (Arc::clone(store), Txn::new().then(put(number * 700, *round)));
                    burst.spawn(async move { store.txn(txn).await.expect("it is stored") });
                }
                burst.join_all().await
            })
        });
    });
    group.finish();
}

fn reads(criterion: &mut Criterion, runtime: &Runtime, store: &Arc<dyn Store>) {
    let mut group = criterion.benchmark_group("store, 100,000 keys");
    group.bench_function("get", |bencher| bencher.iter(|| runtime.block_on(store.get(key(4_711))).expect("it reads")));
    group.sample_size(20);
    group.bench_function("page of 1,000", |bencher| {
        let range = Range::of(Keys::prefix("/tenant/05")).limit(1_000);
        bencher.iter(|| runtime.block_on(store.range(range.clone())).expect("it reads"));
    });
    group.finish();
}

fn set(criterion: &mut Criterion, runtime: &Runtime, store: &Arc<dyn Store>) {
    let sets = runtime.block_on(ChangeSets::open(Arc::clone(store), Key::from("/head"))).expect("the sets open");
    let mut head = runtime.block_on(sets.head()).expect("it reads");
    let mut group = criterion.benchmark_group("store, 100,000 keys");
    group.sample_size(10).throughput(Throughput::Elements(SET as u64));
    group.bench_function("change set of 5,000 documents", |bencher| {
        bencher.iter_batched(
            || (0..SET).map(|number| put(number * 20, 1)).collect::<Vec<_>>(),
            |ops| match runtime.block_on(sets.commit(head.revision, "bench".into(), ops)).expect("it is stored") {
                Committed::Done { head: now, .. } => head = now,
                Committed::Conflict { head } => unreachable!("nobody else writes: {head:?}"),
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(store, benches);
criterion_main!(store);
