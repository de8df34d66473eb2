//! Reading: what stands, and what stood.

use super::{World, refused, texts};
use bulkhead_store::{Key, Keys, Op, Range, Revision, Txn};

pub(crate) async fn keys_are_found_by_name_prefix_and_bounds(world: World) {
    for key in ["a", "a/1", "a/2", "a0", "b", "\u{7f}"] {
        world.put(key, "v").await;
    }
    let highest = Key::from(bytes::Bytes::from_static(&[0xff, 0xff]));
    world.store.txn(Txn::new().then(Op::put(highest.clone(), "v"))).await.unwrap();
    let between = |from: &str, to: &str| Keys::Between(Key::from(from), Key::from(to));
    let rows = [
        (Keys::One(Key::from("a")), vec!["a"]),
        (Keys::One(Key::from("c")), vec![]),
        (Keys::prefix("a"), vec!["a", "a/1", "a/2", "a0"]),
        (Keys::prefix("a/"), vec!["a/1", "a/2"]),
        (between("a/1", "a0"), vec!["a/1", "a/2"]),
        (between("b", "a"), vec![]),
        (between("b", "b"), vec![]),
        (Keys::Prefix(highest), vec!["\\xff\\xff"]),
        (Keys::all(), vec!["a", "a/1", "a/2", "a0", "b", "\\x7f", "\\xff\\xff"]),
    ];
    for (keys, expected) in rows {
        let page = world.store.range(Range::of(keys.clone())).await.unwrap();
        let found: Vec<_> = page.entries.iter().map(|entry| entry.key.to_string()).collect();
        assert_eq!(found, expected, "{keys:?}");
        assert!(!page.more);
        assert!(page.entries.iter().all(|entry| keys.contain(&entry.key)));
    }
}

pub(crate) async fn pages_agree_while_others_write(world: World) {
    for number in 0..25 {
        world.put(&format!("k/{number:02}"), "before").await;
    }
    let first = Range::of(Keys::prefix("k/")).limit(10);
    let mut page = world.store.range(first.clone()).await.unwrap();
    let revision = page.revision;
    let mut found = texts(&page.entries);
    assert!(page.more);
    // Changed, deleted and new keys, behind and before the place where the reader is.
    for number in [3, 12, 24] {
        world.put(&format!("k/{number:02}"), "after").await;
    }
    for key in ["k/04", "k/15", "k/20"] {
        world.delete(key).await;
    }
    world.put("k/055", "after").await;
    world.put("k/155", "after").await;
    let mut range = first;
    while let Some(following) = range.clone().following(&page) {
        page = world.store.range(following.clone()).await.unwrap();
        assert_eq!(page.revision, revision);
        assert!(page.entries.len() <= 10);
        found.extend(texts(&page.entries));
        range = following;
    }
    let expected: Vec<_> = (0..25).map(|number| format!("k/{number:02}=before")).collect();
    assert_eq!(found, expected);
}

pub(crate) async fn what_stood_at_each_revision_can_be_read_again(world: World) {
    let mut stood = vec![(world.store.revision().await.unwrap(), Vec::new())];
    // A fixed walk over few keys, so that each is made, changed, deleted and made again.
    for step in 0..60_u32 {
        let key = format!("k{}", step.wrapping_mul(7) % 5);
        let gone = step % 3 == 2;
        let revision = if gone { world.delete(&key).await } else { world.put(&key, &step.to_string()).await };
        stood.push((revision, world.texts(Keys::all()).await));
    }
    for (revision, expected) in stood {
        let page = world.store.range(Range { at: Some(revision), ..Range::of(Keys::all()) }).await.unwrap();
        assert_eq!((page.revision, texts(&page.entries)), (revision, expected));
    }
}

pub(crate) async fn a_revision_that_is_not_there_is_told_apart(world: World) {
    let first = world.put("a", "1").await;
    let newest = world.put("a", "2").await;
    let at = |revision: Revision| world.store.range(Range { at: Some(revision), ..Range::of(Keys::all()) });
    refused(at(newest.next()).await, "Future");
    refused(world.store.compact(newest.next()).await, "Future");
    world.store.compact(newest).await.unwrap();
    refused(at(first).await, "Compacted");
    assert_eq!(texts(&at(newest).await.unwrap().entries), ["a=2"]);
}
