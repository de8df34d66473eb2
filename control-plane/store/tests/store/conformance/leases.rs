//! Leases: keys that go away when nobody says that they shall stay.

use super::{World, eventually, next, refused, told};
use bulkhead_store::{Keys, LeaseId, Op, Txn};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(5);

pub(crate) async fn keys_go_away_with_their_lease_in_one_revision(world: World) {
    let lease = world.store.grant(TTL).await.unwrap();
    assert_eq!(lease.ttl, TTL);
    world.put("stays", "1").await;
    let put = Txn::new().then(Op::put_leased("l/a", "1", lease.id)).then(Op::put_leased("l/b", "2", lease.id));
    let from = world.store.txn(put).await.unwrap().revision;
    assert_eq!(world.get("l/a").await.unwrap().lease, Some(lease.id));
    let mut watch = world.watch("", from.next()).await;
    (world.pass)(TTL + Duration::from_secs(1));
    assert_eq!(told(&next(&mut watch).await), format!("{}: -l/a, -l/b", from.next()));
    assert_eq!(world.texts(Keys::all()).await, ["stays=1"]);
    refused(world.store.keep_alive(lease.id).await, "NoLease");
    refused(world.store.txn(Txn::new().then(Op::put_leased("l/a", "1", lease.id))).await, "NoLease");
}

pub(crate) async fn a_lease_that_is_kept_alive_stays(world: World) {
    let (kept, left) = (world.store.grant(TTL).await.unwrap(), world.store.grant(TTL).await.unwrap());
    assert_ne!(kept.id, left.id);
    let txn = Txn::new().then(Op::put_leased("kept", "1", kept.id)).then(Op::put_leased("left", "1", left.id));
    world.store.txn(txn).await.unwrap();
    for _ in 0..3 {
        (world.pass)(TTL / 2);
        assert_eq!(world.store.keep_alive(kept.id).await.unwrap(), kept);
    }
    eventually("the other lease ends", async || world.get("left").await.is_none().then_some(())).await;
    assert_eq!(world.texts(Keys::all()).await, ["kept=1"]);
}

pub(crate) async fn a_revoked_lease_ends_at_once(world: World) {
    let lease = world.store.grant(TTL).await.unwrap();
    let put = world.store.txn(Txn::new().then(Op::put_leased("a", "1", lease.id))).await.unwrap();
    assert_eq!(world.store.revoke(lease.id).await.unwrap(), put.revision.next());
    assert_eq!(world.get("a").await, None);
    refused(world.store.revoke(lease.id).await, "NoLease");
    refused(world.store.keep_alive(lease.id).await, "NoLease");
    // One without keys ends without a revision: it changed nothing.
    let empty = world.store.grant(TTL).await.unwrap();
    assert_ne!(empty.id, lease.id, "a name is not given twice");
    assert_eq!(world.store.revoke(empty.id).await.unwrap(), put.revision.next());
}

pub(crate) async fn a_key_put_anew_leaves_its_lease(world: World) {
    let (one, other) = (world.store.grant(TTL).await.unwrap(), world.store.grant(TTL).await.unwrap());
    for key in ["for good", "moved", "deleted", "again"] {
        world.store.txn(Txn::new().then(Op::put_leased(key, "1", one.id))).await.unwrap();
    }
    world.put("for good", "2").await;
    world.store.txn(Txn::new().then(Op::put_leased("moved", "2", other.id))).await.unwrap();
    world.delete("deleted").await;
    world.put("deleted", "2").await;
    world.store.revoke(one.id).await.unwrap();
    assert_eq!(world.texts(Keys::all()).await, ["deleted=2", "for good=2", "moved=2"]);
    world.store.revoke(other.id).await.unwrap();
    assert_eq!(world.texts(Keys::all()).await, ["deleted=2", "for good=2"]);
}

pub(crate) async fn a_lease_that_never_was_is_refused(world: World) {
    let before = world.put("a", "1").await;
    let never = LeaseId::new(0x7fff_ffff_ffff).unwrap();
    let txn = Txn::new().then(Op::put("b", "1")).then(Op::put_leased("c", "1", never));
    refused(world.store.txn(txn).await, "NoLease");
    assert_eq!(world.texts(Keys::all()).await, ["a=1"], "nothing of it is done");
    assert_eq!(world.store.revision().await.unwrap(), before);
}
