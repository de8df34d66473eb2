//! A disk that fails at any step of a commit.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::{Embedded, Options};
use crate::{Error, Key, Keys, Op, Range, Store as _, Txn};
use std::sync::atomic::Ordering;

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
