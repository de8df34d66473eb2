//! Watches: every revision, whole, in order, once.

use super::{World, next, refused, told};
use bulkhead_store::{Event, Key, Keys, Op, Past, Range, Txn};
use std::future::poll_fn;
use std::task::Poll;

pub(crate) async fn a_watch_tells_each_revision_whole_and_in_order(world: World) {
    let from = world.put("w/a", "0").await;
    let mut watch = world.watch("w/", from.next()).await;
    let first = world.store.txn(Txn::new().then(Op::put("w/b", "1")).then(Op::put("x", "1")).then(Op::delete("w/a"))).await.unwrap();
    world.put("x", "2").await;
    let second = world.put("w/b", "3").await;
    assert_eq!(told(&next(&mut watch).await), format!("{}: w/b=1, -w/a", first.revision));
    let batch = next(&mut watch).await;
    assert_eq!(told(&batch), format!("{second}: w/b=3"));
    let [Event::Put { entry, previous: Some(previous) }] = batch.events.as_slice() else { panic!("{batch:?}") };
    assert_eq!((entry.version, entry.create_revision, entry.mod_revision), (2, first.revision, second));
    assert_eq!((previous.value.as_ref(), previous.mod_revision), (b"1".as_slice(), first.revision));
}

pub(crate) async fn a_watch_from_the_past_misses_nothing(world: World) {
    let mut history = Vec::new();
    for number in 0..300 {
        let key = format!("w/{}", number % 7);
        let revision = world.put(&key, &number.to_string()).await;
        history.push((revision, format!("{revision}: {key}={number}")));
    }
    for skip in [0, 1, 150, 299, 300] {
        let from = history.get(skip).map_or_else(|| history[skip - 1].0.next(), |(revision, _)| *revision);
        let mut watch = world.watch("w/", from).await;
        for (_, expected) in &history[skip..] {
            assert_eq!(told(&next(&mut watch).await), *expected);
        }
        // It goes over from what was to what is without a gap.
        let revision = world.put("w/live", "1").await;
        history.push((revision, format!("{revision}: w/live=1")));
        assert_eq!(told(&next(&mut watch).await), history.last().unwrap().1);
    }
}

pub(crate) async fn a_watch_waits_for_a_revision_to_come(world: World) {
    let now = world.put("w", "0").await;
    let mut watch = world.watch("w", now.next().next()).await;
    world.put("w", "1").await;
    let wanted = world.put("w", "2").await;
    assert_eq!(told(&next(&mut watch).await), format!("{wanted}: w=2"));
}

pub(crate) async fn a_watch_that_is_not_read_is_told_all_of_it_later(world: World) {
    let from = world.store.revision().await.unwrap().next();
    let mut watches = [world.watch("w/", from).await, world.watch("w/", from).await, world.watch("other/", from).await];
    let value = "v".repeat(1_000);
    let mut revisions = Vec::new();
    for number in 0..1_000 {
        revisions.push(world.put(&format!("w/{number:04}"), &value).await);
    }
    for watch in &mut watches[..2] {
        for (number, revision) in revisions.iter().enumerate() {
            assert_eq!(told(&next(watch).await), format!("{revision}: w/{number:04}={value}"));
        }
    }
    let other = world.put("other/1", "1").await;
    assert_eq!(told(&next(&mut watches[2]).await), format!("{other}: other/1=1"));
}

pub(crate) async fn a_dropped_wait_loses_no_revision(world: World) {
    let from = world.store.revision().await.unwrap().next();
    let mut watch = world.watch("w", from).await;
    for round in 0..50 {
        {
            // Begun, and given up: what it had read by then must come again.
            let mut waiting = watch.next();
            let polled = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
            assert!(polled.is_pending(), "nothing has happened yet");
        }
        let revision = world.put("w", &round.to_string()).await;
        {
            let mut waiting = watch.next();
            let polled = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
            if let Poll::Ready(batch) = polled {
                assert_eq!(told(&batch.unwrap()), format!("{revision}: w={round}"));
                continue;
            }
        }
        assert_eq!(told(&next(&mut watch).await), format!("{revision}: w={round}"));
    }
}

pub(crate) async fn compaction_forgets_the_past_and_keeps_the_present(world: World) {
    let first = world.put("a", "1").await;
    world.put("b", "1").await;
    let kept = world.put("a", "2").await;
    let last = world.delete("b").await;
    world.store.compact(kept).await.unwrap();
    assert_eq!(world.texts(Keys::all()).await, ["a=2"]);
    let page = world.store.range(Range { at: Some(kept), ..Range::of(Keys::all()) }).await.unwrap();
    assert_eq!(super::texts(&page.entries), ["a=2", "b=1"]);
    refused(world.store.watch(Keys::all(), first).await.map(drop), "Compacted");
    let mut watch = world.watch("", kept.next()).await;
    assert_eq!(told(&next(&mut watch).await), format!("{last}: -b"));

    // Once more, and older: nothing comes back, nothing is refused.
    world.store.compact(kept).await.unwrap();
    world.store.compact(first).await.unwrap();
    refused(world.store.watch(Keys::all(), first).await.map(drop), "Compacted");
    assert_eq!(world.store.revision().await.unwrap(), last, "a compaction is no revision");
    let entry = world.store.get(Key::from("a")).await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.version), (first, 2));
}

pub(crate) async fn a_watcher_that_compaction_overtook_is_told_so(world: World) {
    let from = world.store.revision().await.unwrap().next();
    let mut behind = world.watch("w", from).await;
    let mut abreast = world.watch("w", from).await;
    for number in 0..10 {
        world.put("w", &number.to_string()).await;
        next(&mut abreast).await;
    }
    let last = world.put("w", "last").await;
    world.store.compact(last).await.unwrap();
    refused(behind.next().await, "Compacted");
    assert_eq!(told(&next(&mut abreast).await), format!("{last}: w=last"));
}

pub(crate) async fn what_was_older_when_a_period_began_is_forgotten_at_its_end(world: World) {
    let mut past = Past::new(std::sync::Arc::clone(&world.store));
    let mut revisions = vec![world.put("w", "0").await];
    for period in 1..=3 {
        past.forget().await.unwrap();
        revisions.push(world.put("w", &period.to_string()).await);
    }
    // Three periods have begun: what was the newest at the beginning of the second is kept, and all after it.
    refused(world.store.watch(Keys::all(), revisions[0]).await.map(drop), "Compacted");
    let mut watch = world.watch("w", revisions[1]).await;
    for (period, revision) in revisions.iter().enumerate().skip(1) {
        assert_eq!(told(&next(&mut watch).await), format!("{revision}: w={period}"));
    }
}
