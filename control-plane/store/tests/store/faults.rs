//! What the file of the embedded store meets: other processes, damage, a full disk, other versions.

use crate::conformance::{refused, texts};
use crate::random::Random;
use bulkhead_store::{Embedded, Key, Keys, ManualClock, Op, OpenError, Options, Range, Store, Txn};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn open(path: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(path, Options::default())
}

/// A store with a hundred keys that was closed cleanly, and its path.
async fn filled(folder: &Path) -> PathBuf {
    let path = folder.join("store.redb");
    let store = open(&path).unwrap();
    for number in 0..100 {
        put(&store, &format!("k/{number:03}"), &number.to_string().repeat(50)).await.unwrap();
    }
    path
}

async fn put(store: &Embedded, key: &str, value: &str) -> Result<(), bulkhead_store::Error> {
    store.txn(Txn::new().then(Op::put(key, value.to_owned()))).await.map(drop)
}

async fn all(store: &Embedded) -> Vec<String> {
    texts(&store.range(Range::of(Keys::all())).await.unwrap().entries)
}

#[track_caller]
fn damaged(opened: Result<Embedded, OpenError>, expected: &str) {
    let error = opened.expect_err("it must not open");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(expected) && text.contains("bulkhead restore"), "{text}");
}

#[tokio::test]
async fn a_store_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let clock = Arc::new(ManualClock::default());
    let store = open(&path).unwrap();
    let (before, revision) = (all(&store).await, store.revision().await.unwrap());
    assert_eq!((before.len(), revision.get()), (100, 100));
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    store.txn(Txn::new().then(Op::put_leased("leased", "v", lease.id))).await.unwrap();
    drop(store);

    // The lease has its whole time again: nobody could keep it alive meanwhile. And its name is not given twice.
    clock.pass(Duration::from_secs(3_600));
    let store = Embedded::open(&path, Options { clock: Arc::clone(&clock) as _ }).unwrap();
    assert_eq!(store.revision().await.unwrap(), revision.next());
    assert_eq!(store.keep_alive(lease.id).await.unwrap(), lease);
    assert_ne!(store.grant(Duration::from_secs(10)).await.unwrap().id, lease.id);
    store.revoke(lease.id).await.unwrap();
    assert_eq!(all(&store).await, before);
    let mut watch = store.watch(Keys::all(), revision).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, revision);
}

#[tokio::test]
async fn only_one_process_has_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let store = open(&path).unwrap();
    let error = open(&path).expect_err("it is in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("another process"), "{error}");
    put(&store, "k", "v").await.unwrap();
    drop(store);
    assert_eq!(all(&open(&path).unwrap()).await.len(), 101);
}

#[tokio::test]
async fn only_its_owner_reads_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&folder.path().join("store.redb.lock"))), (0o600, 0o600));
    // A copy that lost its mode gets it back.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn an_empty_cut_or_missing_file_is_no_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    damaged(open(&path), "it is gone");
    for length in [0, 1, 100, 4_096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        damaged(open(&path), "store.redb");
    }
    std::fs::write(&path, "something else entirely, longer than any head of a file".repeat(200)).unwrap();
    damaged(open(&path), "store.redb");
    // Who means it says so.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(folder.path().join("store.redb.lock")).unwrap();
    assert_eq!(all(&open(&path).unwrap()).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_older_file_in_its_place_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let older = std::fs::read(&path).unwrap();
    let store = open(&path).unwrap();
    put(&store, "k/new", "v").await.unwrap();
    drop(store);
    std::fs::write(&path, &older).unwrap();
    damaged(open(&path), "it ends at revision 100, and 101 was stored");
    // Another store's file as well.
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(filled(other.path()).await, &path).unwrap();
    damaged(open(&path), "it is store");
}

/// Whatever bit is wrong: the store opens with all that it held, or says that it is damaged.
#[tokio::test]
async fn a_flipped_bit_loses_nothing_silently() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path()).await;
    let whole = std::fs::read(&path).unwrap();
    let lock = std::fs::read(folder.path().join("store.redb.lock")).unwrap();
    let expected = all(&open(&path).unwrap()).await;
    let (mut told, mut unharmed) = (0, 0);
    for _ in 0..100 {
        let mut bytes = whole.clone();
        let place = usize::try_from(random.below(whole.len() as u64)).unwrap();
        bytes[place] ^= 1 << random.below(8);
        // A file of its own each time: where redb's own assertions met the damage, the last one is still open, and locked.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(folder.path().join("store.redb.lock"), &lock).unwrap();
        match open(&path) {
            Ok(store) => {
                assert_eq!(all(&store).await, expected, "a bit of byte {place}");
                unharmed += 1;
            }
            Err(OpenError::Damaged { .. }) => told += 1,
            Err(other) => panic!("a bit of byte {place}: {other:?}"),
        }
    }
    assert!(told > 3, "{told} told, {unharmed} unharmed");
}

const FULL: &str = "BULKHEAD_TEST_FULL_DISK";

/// On a file system of four megabytes, in a namespace of its own.
#[test]
fn a_full_disk_refuses_what_grows_and_takes_it_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=4m none \"$1\" && exec \"$2\" --exact faults::the_process_on_a_full_disk --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", mount, "sh"]).arg(folder.path()).arg(std::env::current_exe().unwrap());
    let output = command.env(FULL, folder.path()).output().expect("`apt-get install util-linux` has `unshare`");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("met a full disk"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

/// Does nothing unless it is asked to be that process.
#[tokio::test]
async fn the_process_on_a_full_disk() {
    let Some(folder) = std::env::var_os(FULL).map(PathBuf::from) else { return };
    let path = folder.join("store.redb");
    let store = open(&path).unwrap();
    let value = "v".repeat(20_000);
    let mut stored = 0;
    let error = loop {
        match put(&store, &format!("k/{stored:04}"), &value).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(stored > 10, "{stored}: {error:?}");
    assert!(error.to_string().contains("free space"), "{error}");
    // It reads, refuses what grows again and again, and knows what it has; what frees space goes through.
    for _ in 0..3 {
        refused(put(&store, "more", &value).await, "NotStored");
        assert_eq!(all(&store).await.len(), stored);
    }
    let before = store.revision().await.unwrap();
    assert_eq!(usize::try_from(before.get()).unwrap(), stored, "what was refused is no revision");
    store.compact(before).await.unwrap();
    store.txn(Txn::new().then(Op::delete("k/0000"))).await.unwrap();

    // Somebody frees space beside it.
    let filler = folder.join("filler");
    while std::fs::OpenOptions::new().create(true).append(true).open(&filler).and_then(|file| rest_of(&file)).is_ok() {}
    let full = async || {
        let mut number = 0;
        while put(&store, &format!("more/{number}"), &value).await.is_ok() {
            number += 1;
        }
        number
    };
    full().await;
    refused(put(&store, "still", &value).await, "NotStored");
    std::fs::remove_file(&filler).unwrap();
    let there = all(&store).await;
    drop(store);
    let store = open(&path).unwrap();
    assert_eq!(all(&store).await, there, "nothing answered is lost");
    put(&store, "at last", "v").await.unwrap();
    assert!(store.get(Key::from("at last")).await.unwrap().is_some());
    println!("met a full disk");
}

/// Takes some of what is left on the disk.
fn rest_of(mut file: &std::fs::File) -> std::io::Result<()> {
    std::io::Write::write_all(&mut file, &[0; 4_096])
}
