//! A disk that fails at any step of a commit.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::{Embedded, Options};
use crate::{Compare, Error, Key, Keys, ManualClock, Op, Range, Store as _, Txn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// More steps than any of these commits has.
const STEPS_MAX: u64 = 200;

fn put(value: u64) -> Txn {
    // Of several pages, so that a commit has several writes.
    let filling = vec![b'.'; 10_000];
    Txn::new().then(Op::put("value", value.to_string())).then(Op::put("filling", filling)).then(Op::put("same", value.to_string()))
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_changes_nothing_or_says_that_it_might_have() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path().join("store.redb"), Options::default()).unwrap();
    let (mut refused, mut stood) = (0, 0);
    let mut last = 0;
    for step in 1..=STEPS_MAX {
        let before = store.txn(put(last)).await.unwrap().revision;
        store.shared.disk.refuse.store(step, Ordering::Release);
        let answer = store.txn(put(step)).await;
        let met = store.shared.disk.refuse.swap(0, Ordering::AcqRel) == 0;
        let page = store.range(Range::of(Keys::all())).await.unwrap();
        let value = |key: &str| page.entries.iter().find(|entry| entry.key == Key::from(key)).unwrap().value.clone();
        assert_eq!(value("value"), value("same"), "a transaction is whole, at step {step}");
        let (old, new) = (last.to_string(), step.to_string());
        match &answer {
            Ok(outcome) => {
                assert_eq!((value("value").as_ref(), page.revision), (new.as_bytes(), outcome.revision));
                stood += 1;
            }
            Err(Error::NotStored { .. }) => {
                assert_eq!((value("value").as_ref(), page.revision), (old.as_bytes(), before), "at step {step}");
                refused += 1;
            }
            Err(Error::Uncertain { .. }) => assert_eq!(page.revision, if value("value") == old { before } else { before.next() }),
            Err(other) => assert!(matches!(other, Error::NotStored { .. }), "{other:?}"),
        }
        last = std::str::from_utf8(&value("value")).unwrap().parse().unwrap();
        if !met {
            assert!(answer.is_ok(), "nothing failed");
            break;
        }
    }
    assert!(refused > 2 && stood > 0, "{refused} refused, {stood} stood");
    // And all of it is there for the next process.
    drop(store);
    let store = Embedded::open(folder.path().join("store.redb"), Options::default()).unwrap();
    let value = store.get(Key::from("value")).await.unwrap().unwrap().value;
    assert_eq!(value, last.to_string());
}

#[tokio::test]
async fn a_disk_that_comes_back_is_read_again_without_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path().join("store.redb"), Options::default()).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap().id;
    let revision = store.txn(put(1)).await.unwrap().revision;
    store.shared.disk.dead.store(true, Ordering::Release);
    assert!(matches!(store.txn(put(2)).await, Err(Error::NotStored { .. } | Error::Uncertain { .. })));
    assert!(matches!(store.get(Key::from("value")).await, Err(Error::Unavailable { .. })));
    assert!(matches!(store.txn(put(3)).await, Err(Error::NotStored { .. })));

    store.shared.disk.dead.store(false, Ordering::Release);
    let until = Instant::now() + Duration::from_secs(60);
    let value = loop {
        match store.get(Key::from("value")).await {
            Ok(entry) => break entry.unwrap().value,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // What was uncertain is one or the other, and what was refused is not there.
    assert!(value == "1" || value == "2", "{value:?}");
    let newest = store.revision().await.unwrap();
    assert_eq!(newest, if value == "1" { revision } else { revision.next() });
    store.keep_alive(lease).await.unwrap();
    assert_eq!(store.txn(put(4)).await.unwrap().revision, newest.next());
}

#[tokio::test]
async fn what_only_reads_and_compares_asks_nothing_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path().join("store.redb"), Options::default()).unwrap();
    store.txn(put(1)).await.unwrap();
    store.shared.disk.dead.store(true, Ordering::Release);
    let lost = store.txn(Txn::new().when(Compare::absent("value")).then(Op::put("value", "2")).otherwise(Op::get("value"))).await.unwrap();
    assert!(!lost.succeeded);
    let nothing = store.txn(Txn::new().then(Op::delete("absent"))).await.unwrap();
    assert_eq!(nothing.revision, lost.revision);
    store.shared.disk.dead.store(false, Ordering::Release);
    store.txn(put(2)).await.unwrap();
}

/// A lease whose grant or end was uncertain is what the file says it is.
#[tokio::test]
async fn leases_of_a_failed_commit_end_and_go_on_as_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = Embedded::open(folder.path().join("store.redb"), Options { clock: Arc::clone(&clock) as _ }).unwrap();
    let ttl = Duration::from_secs(10);
    for step in 1..=STEPS_MAX {
        let ending = store.grant(ttl).await.unwrap().id;
        store.txn(Txn::new().then(Op::put_leased("ending", "v", ending))).await.unwrap();
        store.shared.disk.refuse.store(step, Ordering::Release);
        let revoked = store.revoke(ending).await;
        let met = store.shared.disk.refuse.swap(0, Ordering::AcqRel) == 0;
        let there = store.get(Key::from("ending")).await.unwrap().is_some();
        assert_eq!(store.keep_alive(ending).await.is_ok(), there, "at step {step}: {revoked:?}");
        store.shared.disk.refuse.store(step, Ordering::Release);
        let granted = store.grant(ttl).await;
        store.shared.disk.refuse.store(0, Ordering::Release);
        clock.pass(ttl + ttl);
        let until = Instant::now() + Duration::from_secs(60);
        while store.get(Key::from("ending")).await.unwrap().is_some() || leases(&store) > 0 {
            assert!(Instant::now() < until, "at step {step}, {} leases last for ever: {granted:?}", leases(&store));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !met {
            return;
        }
    }
}

/// How many leases the file has.
fn leases(store: &Embedded) -> usize {
    let records = store.snapshot().unwrap().records().unwrap();
    records.filter(|record| matches!(record, Ok(crate::Record::Lease(_)))).count()
}
