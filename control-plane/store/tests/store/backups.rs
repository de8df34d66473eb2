//! Backups: what a store held at one moment, in a store of a higher incarnation.

use crate::conformance::{refused, texts, told};
use crate::random::Random;
use bulkhead_store::{
    Compare, Embedded, Entry, Event, Header, Key, Keys, LeaseId, Op, OpenError, Options, Range, Record, Revision, Store, Txn,
};
use std::path::Path;
use std::time::Duration;

fn open(path: &Path) -> Embedded {
    Embedded::open(path, Options::default()).unwrap()
}

/// A store with a past, leases and a compaction, and its backup as an archive holds it.
async fn backed_up(path: &Path) -> (Embedded, Header, Vec<Vec<u8>>) {
    let store = open(path);
    let lease = store.grant(Duration::from_secs(3_600)).await.unwrap().id;
    let ended = store.grant(Duration::from_secs(3_600)).await.unwrap().id;
    store.revoke(ended).await.unwrap();
    for number in 0..20 {
        store.txn(Txn::new().then(Op::put(format!("k/{}", number % 7), number.to_string()))).await.unwrap();
    }
    store.txn(Txn::new().then(Op::put_leased("leased", "v", lease)).then(Op::delete("k/3"))).await.unwrap();
    store.compact(Revision::new(10)).await.unwrap();
    let snapshot = store.snapshot().unwrap();
    // What comes later is not of that moment, though the snapshot is read after it.
    store.txn(Txn::new().then(Op::put("k/later", "v")).then(Op::delete("k/1"))).await.unwrap();
    let records = snapshot.records().unwrap().map(|record| record.unwrap().to_bytes()).collect();
    (store, snapshot.header(), records)
}

fn records(bytes: &[Vec<u8>]) -> Vec<Result<Record, String>> {
    bytes.iter().map(|bytes| Record::from_bytes(bytes.clone().into()).ok_or_else(|| "a record does not read".to_owned())).collect()
}

#[tokio::test]
async fn a_restored_store_is_the_one_of_the_backup_in_a_higher_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (store, header, bytes) = backed_up(&path).await;
    let then = Range { at: Some(header.revision), ..Range::of(Keys::all()) };
    let expected = store.range(then).await.unwrap();
    assert_eq!(header.identity, store.identity());
    drop(store);

    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("store.redb");
    let identity = Embedded::restore(&path, header, records(&bytes), 0).unwrap();
    assert_eq!((identity.cluster, identity.incarnation), (header.identity.cluster, header.identity.incarnation + 1));
    let store = open(&path);
    assert_eq!(store.identity(), identity);
    assert_eq!(store.range(Range::of(Keys::all())).await.unwrap(), expected, "entries with their revisions and versions");

    // Its past is there as far as it was, and its future goes on behind it.
    refused(store.watch(Keys::all(), Revision::new(9)).await.map(drop), "Compacted");
    let mut watch = store.watch(Keys::all(), Revision::new(10)).await.unwrap();
    assert_eq!(told(&watch.next().await.unwrap()), "10: k/2=9");
    let old = store.range(Range { at: Some(Revision::new(10)), ..Range::of(Keys::prefix("k/3")) }).await.unwrap();
    assert_eq!(texts(&old.entries), ["k/3=3"]);
    let next = store.txn(Txn::new().when(Compare::present("leased")).then(Op::put("k/new", "v"))).await.unwrap();
    assert_eq!((next.succeeded, next.revision), (true, header.revision.next()));
    let lease = expected.entries.iter().find_map(|entry| entry.lease).unwrap();
    store.keep_alive(lease).await.unwrap();
    assert!(store.grant(Duration::from_secs(1)).await.unwrap().id.get() > header.last_lease, "no name is given twice");
    store.revoke(lease).await.unwrap();
    assert!(store.get(Key::from("leased")).await.unwrap().is_none());
}

#[tokio::test]
async fn each_restore_is_above_all_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (store, header, bytes) = backed_up(&path).await;
    let error = Embedded::restore(&path, header, records(&bytes), 0).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    drop(store);
    let error = Embedded::restore(&path, header, records(&bytes), 0).unwrap_err();
    assert!(matches!(error, OpenError::Exists { .. }), "{error:?}");

    // The same backup again and again: none of them is taken for another.
    for (above, expected) in [(0, 2), (0, 3), (10, 11), (5, 12)] {
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Embedded::restore(&path, header, records(&bytes), above).unwrap().incarnation, expected);
        let store = open(&path);
        store.txn(Txn::new().then(Op::put("k", "v"))).await.unwrap();
    }
}

#[tokio::test]
async fn entries_alone_make_a_store_without_a_past() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, header, bytes) = backed_up(&folder.path().join("store.redb")).await;
    let some =
        records(&bytes).into_iter().filter(|record| matches!(record, Ok(Record::Entry(entry)) if Keys::prefix("k/").contain(&entry.key)));
    let path = folder.path().join("other.redb");
    Embedded::restore(&path, header, some, 0).unwrap();
    let store = open(&path);
    assert_eq!(store.revision().await.unwrap(), header.revision);
    assert_eq!(store.range(Range::of(Keys::all())).await.unwrap().entries.len(), 6);
    refused(store.watch(Keys::all(), Revision::new(header.revision.get() - 1)).await.map(drop), "Compacted");
    let next = store.txn(Txn::new().then(Op::put("k/new", "v"))).await.unwrap().revision;
    let mut watch = store.watch(Keys::all(), header.revision).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, next);

    // It can be backed up as any other, and so can one in which nothing ever happened.
    let empty = open(&folder.path().join("empty.redb"));
    for (store, name) in [(store, "again.redb"), (empty, "empty again.redb")] {
        let snapshot = store.snapshot().unwrap();
        let path = folder.path().join(name);
        Embedded::restore(&path, snapshot.header(), snapshot.records().unwrap(), 0).unwrap();
        let expected = store.range(Range::of(Keys::all())).await.unwrap();
        assert_eq!(open(&path).range(Range::of(Keys::all())).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_backup_that_does_not_fit_together_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, header, bytes) = backed_up(&folder.path().join("store.redb")).await;
    let path = folder.path().join("other.redb");
    let all: Vec<Record> = records(&bytes).into_iter().map(Result::unwrap).collect();
    let without = |left_out: &dyn Fn(&Record) -> bool| {
        all.iter().filter(|record| !left_out(record)).cloned().map(Ok).collect::<Vec<Result<Record, String>>>()
    };
    let mut cut = without(&|_| false);
    cut.insert(3, Err("the archive is cut".to_owned()));
    let mut doubled = without(&|_| false);
    doubled.insert(3, doubled[2].clone());
    let old_header = Header { revision: Revision::new(15), ..header };
    let rows = [
        (header, without(&|record| matches!(record, Record::Lease(_))), "under a lease that is not in the backup"),
        (header, without(&|record| matches!(record, Record::Batch(batch) if batch.revision.get() == 12)), "revision 13 where 12"),
        (header, without(&|record| matches!(record, Record::Batch(batch) if batch.revision.get() == 10)), "revision 11 where 10"),
        (header, without(&|record| matches!(record, Record::Batch(batch) if batch.revision == header.revision)), "its history ends at"),
        (header, doubled, "out of its order"),
        (header, cut, "the archive is cut"),
        (old_header, without(&|_| false), "which was not there yet"),
        (Header { last_lease: 0, ..header }, without(&|_| false), "was never given"),
    ];
    for (header, records, expected) in rows {
        let error = Embedded::restore(&path, header, records, 0).unwrap_err();
        assert!(matches!(error, OpenError::BadBackup { .. }) && error.to_string().contains(expected), "{expected}: {error}");
        assert!(!path.exists() && !folder.path().join("other.redb.new").exists(), "{expected}: something is left");
    }
    // The folder is as good as before for a backup that does fit.
    Embedded::restore(&path, header, without(&|_| false), 0).unwrap();
}

#[test]
fn a_record_cut_anywhere_does_not_read() {
    let entry = Entry {
        key: Key::from("k"),
        value: bytes::Bytes::new(),
        create_revision: Revision::new(1),
        mod_revision: Revision::new(2),
        version: 2,
        lease: LeaseId::new(3),
    };
    let batch = bulkhead_store::Batch { revision: Revision::new(2), events: vec![Event::Delete { previous: entry.clone() }] };
    let lease = bulkhead_store::Lease { id: LeaseId::new(3).unwrap(), ttl: Duration::from_secs(5) };
    for (record, whole_from) in [(Record::Lease(lease), 0), (Record::Entry(entry), 0), (Record::Batch(batch), 9)] {
        let bytes = record.to_bytes();
        for length in 0..bytes.len() {
            // A revision of no event is cut between its number and its events.
            let read = Record::from_bytes(bytes[..length].to_vec().into());
            assert!(read.is_none() || length == whole_from, "{record:?} cut at {length}: {read:?}");
        }
        assert_eq!(Record::from_bytes(bytes.into()), Some(record));
    }
    assert_eq!(Record::from_bytes(vec![9, 0, 0].into()), None);
}

/// Archives come from outside: whatever stands in one is a record that is written again as it was read, or none.
#[tokio::test]
async fn whatever_bytes_an_archive_has_are_a_record_or_none() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let (_store, _, bytes) = backed_up(&folder.path().join("store.redb")).await;
    let mut read = 0;
    for round in 0..20_000 {
        let mut bytes = bytes[round % bytes.len()].clone();
        for _ in 0..=random.below(3) {
            let place = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[place] = u8::try_from(random.below(256)).unwrap();
        }
        if let Some(record) = Record::from_bytes(bytes.into()) {
            assert_eq!(Record::from_bytes(record.to_bytes().into()), Some(record));
            read += 1;
        }
    }
    assert!(read > 0);
}
