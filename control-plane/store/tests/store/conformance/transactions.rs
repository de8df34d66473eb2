//! Transactions: what they do, what they refuse.

use super::{World, refused, texts};
use bulkhead_store::{Answer, Compare, Key, Keys, MAX_OPERATIONS, MAX_TXN_BYTES, Op, Relation, Revision, Test, Txn};

pub(crate) async fn a_put_makes_an_entry_and_counts_it(world: World) {
    assert_eq!(world.get("a").await, None);
    let first = world.put("a", "1").await;
    let second = world.put("a", "2").await;
    assert_eq!(second, first.next());
    let entry = world.get("a").await.unwrap();
    assert_eq!((entry.value.as_ref(), entry.create_revision, entry.mod_revision, entry.version), (b"2".as_slice(), first, second, 2));

    assert_eq!(world.delete("a").await, second.next());
    assert_eq!(world.get("a").await, None);
    let anew = world.put("a", "3").await;
    let entry = world.get("a").await.unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (anew, anew, 1));
    assert_eq!(world.store.revision().await.unwrap(), anew);
}

pub(crate) async fn a_comparison_decides_between_two_lists(world: World) {
    let claim = || Txn::new().when(Compare::absent("a")).then(Op::put("a", "mine")).otherwise(Op::get("a"));
    let won = world.store.txn(claim()).await.unwrap();
    assert!(won.succeeded);
    assert_eq!(won.answers, [Answer::Put]);
    let lost = world.store.txn(claim()).await.unwrap();
    assert!(!lost.succeeded);
    assert_eq!(lost.revision, won.revision, "it changed nothing");
    let [Answer::Found { entries, more: false }] = lost.answers.as_slice() else { panic!("{lost:?}") };
    assert_eq!(texts(entries), ["a=mine"]);

    // All comparisons must hold, not one of them.
    let both = Txn::new().when(Compare::present("a")).when(Compare::absent("a")).then(Op::delete("a")).otherwise(Op::put("b", "no"));
    assert!(!world.store.txn(both).await.unwrap().succeeded);
    assert_eq!(world.texts(Keys::all()).await, ["a=mine", "b=no"]);
}

pub(crate) async fn a_comparison_of_each_kind_means_what_it_says(world: World) {
    let made = world.put("a", "1").await;
    let changed = world.put("a", "2").await;
    let (absent, here) = ("absent", "a");
    let rows = [
        (here, Test::ModRevision(Relation::Equal, changed), true),
        (here, Test::ModRevision(Relation::Equal, made), false),
        (here, Test::ModRevision(Relation::Greater, made), true),
        (here, Test::ModRevision(Relation::Less, changed), false),
        (here, Test::CreateRevision(Relation::Equal, made), true),
        (here, Test::CreateRevision(Relation::NotEqual, made), false),
        (here, Test::CreateRevision(Relation::Less, changed), true),
        (here, Test::Version(Relation::Equal, 2), true),
        (here, Test::Version(Relation::Greater, 2), false),
        (here, Test::Value(Relation::Equal, "2".into()), true),
        (here, Test::Value(Relation::NotEqual, "2".into()), false),
        (here, Test::Value(Relation::Greater, "1".into()), true),
        (absent, Test::ModRevision(Relation::Equal, Revision::ZERO), true),
        (absent, Test::CreateRevision(Relation::NotEqual, Revision::ZERO), false),
        (absent, Test::Version(Relation::Less, 1), true),
        (absent, Test::Value(Relation::Equal, "".into()), false),
        (absent, Test::Value(Relation::NotEqual, "1".into()), false),
    ];
    for (key, test, holds) in rows {
        let txn = Txn::new().when(Compare { key: Key::from(key), test: test.clone() });
        assert_eq!(world.store.txn(txn).await.unwrap().succeeded, holds, "{key} {test:?}");
    }
}

pub(crate) async fn all_operations_of_a_transaction_are_one_revision(world: World) {
    world.put("old", "1").await;
    let txn = Txn::new().then(Op::put("a", "1")).then(Op::put("b", "1")).then(Op::delete("old"));
    let outcome = world.store.txn(txn).await.unwrap();
    assert_eq!(outcome.answers, [Answer::Put, Answer::Put, Answer::Deleted(1)]);
    for key in ["a", "b"] {
        assert_eq!(world.get(key).await.unwrap().mod_revision, outcome.revision);
    }
    assert_eq!(world.store.revision().await.unwrap(), outcome.revision);
}

pub(crate) async fn operations_see_those_before_them(world: World) {
    world.put("a/1", "1").await;
    let all = || Op::Get { keys: Keys::prefix("a/"), limit: 10 };
    let txn = Txn::new().then(all()).then(Op::put("a/2", "2")).then(all()).then(Op::delete("a/1")).then(all());
    let outcome = world.store.txn(txn).await.unwrap();
    let found = outcome.answers.iter().filter_map(|answer| match answer {
        Answer::Found { entries, .. } => Some(texts(entries)),
        Answer::Put | Answer::Deleted(_) => None,
    });
    let found: Vec<_> = found.collect();
    assert_eq!(found, [vec!["a/1=1"], vec!["a/1=1", "a/2=2"], vec!["a/2=2"]]);
}

pub(crate) async fn what_changes_nothing_is_no_revision(world: World) {
    let before = world.put("a", "1").await;
    for txn in [Txn::new(), Txn::new().then(Op::get("a")), Txn::new().then(Op::delete("absent"))] {
        assert_eq!(world.store.txn(txn).await.unwrap().revision, before);
    }
    // The same value again is a change: somebody said it.
    assert_eq!(world.put("a", "1").await, before.next());
}

pub(crate) async fn what_cannot_be_asked_is_refused_whole(world: World) {
    let before = world.put("a/1", "1").await;
    let rows = [
        (Txn::new().then(Op::put("b", "1")).then(Op::put("", "1")), "EmptyKey"),
        (Txn::new().when(Compare::absent("")).then(Op::put("b", "1")), "EmptyKey"),
        (Txn::new().then(Op::put("b", "1")).then(Op::put("b", "2")), "DuplicateKey"),
        (Txn::new().then(Op::put("a/2", "1")).then(Op::Delete { keys: Keys::prefix("a/") }), "DuplicateKey"),
        // What is not done is checked as well: a mistake must not wait for the day on which the comparison fails.
        (Txn::new().then(Op::put("b", "1")).otherwise(Op::put("c", "1")).otherwise(Op::put("c", "2")), "DuplicateKey"),
    ];
    for (txn, expected) in rows {
        refused(world.store.txn(txn).await, expected);
    }
    assert_eq!(world.texts(Keys::all()).await, ["a/1=1"]);
    assert_eq!(world.store.revision().await.unwrap(), before);
}

pub(crate) async fn the_limits_are_those_of_etcd(world: World) {
    let puts = |count: usize| (0..count).fold(Txn::new(), |txn, number| txn.then(Op::put(format!("k{number}"), "v")));
    world.store.txn(puts(MAX_OPERATIONS)).await.unwrap();
    refused(world.store.txn(puts(MAX_OPERATIONS + 1)).await, "TooManyOperations");
    let compares = (0..=MAX_OPERATIONS).fold(Txn::new(), |txn, number| txn.when(Compare::absent(format!("c{number}"))));
    refused(world.store.txn(compares).await, "TooManyOperations");

    let of_bytes = |bytes: usize| Txn::new().then(Op::put("large", vec![b'x'; bytes]));
    let around = of_bytes(0).bytes();
    world.store.txn(of_bytes(MAX_TXN_BYTES - around)).await.unwrap();
    refused(world.store.txn(of_bytes(MAX_TXN_BYTES - around + 1)).await, "TooLarge");
    assert_eq!(world.get("large").await.unwrap().value.len(), MAX_TXN_BYTES - around);
}
