//! A process that is killed while it commits: what it was answered is there afterwards, and nothing half.
//!
//! The process is this test binary, asked by a variable of its environment to be the one that writes.

use crate::random::Random;
use bulkhead_store::change_set::{ChangeSets, Committed};
use bulkhead_store::{Compare, Embedded, Key, Keys, Op, Options, Range, Revision, Store, Txn};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const STORE: &str = "BULKHEAD_TEST_STORE_TO_WRITE";
const ROUNDS: u64 = 60;
const WRITERS: usize = 4;
/// Documents of a set: more than a transaction takes.
const SET: usize = 150;

#[test]
fn a_killed_process_loses_nothing_that_it_was_answered() {
    let mut random = Random::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut answered: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = 0;
    for round in 0..ROUNDS {
        let mut child = begin(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = random.below(60);
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the writer has ended by itself").unwrap();
            seen += u64::from(note(&mut answered, &line));
            all += 1;
        }
        // Anywhere within a commit, which takes about as long.
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            note(&mut answered, &line);
        }
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(check(&path, &mut answered, round));
    }
    assert!(all > ROUNDS && answered.values().all(|number| *number > 0), "every writer was answered: {answered:?}");
}

fn begin(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::the_process_that_is_killed", "--nocapture", "--test-threads=1"]);
    command.env(STORE, path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// Takes down an answer, `answered WRITER NUMBER.`; the rest is the test harness's, which leaves its own line open before the first.
fn note(answered: &mut BTreeMap<String, u64>, line: &str) -> bool {
    let Some((writer, number)) = line.split_once("answered ").and_then(|(_, rest)| rest.split_once(' ')) else { return false };
    // Cut by the kill, it says nothing.
    let Some(number) = number.strip_suffix('.') else { return false };
    answered.insert(writer.to_owned(), number.parse().unwrap());
    true
}

/// What is there has one step more than was answered at most; the next process goes on from it.
async fn check(path: &Path, answered: &mut BTreeMap<String, u64>, round: u64) {
    let store: Arc<dyn Store> = Arc::new(Embedded::open(path, Options::default()).unwrap());
    let value = async |key: String| -> u64 {
        let entry = store.get(Key::from(key)).await.unwrap();
        entry.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
    };
    for writer in 0..WRITERS {
        let there = value(format!("one/{writer}")).await;
        let last = answered.get(&writer.to_string()).copied().unwrap_or(0);
        assert!(there == last || there == last + 1, "round {round}, writer {writer}: answered {last}, there is {there}");
        assert_eq!(there, value(format!("other/{writer}")).await, "round {round}: half a transaction");
        answered.insert(writer.to_string(), there);
    }
    let sets = ChangeSets::open(Arc::clone(&store), Key::from("/head")).await.unwrap();
    let (number, last) = (sets.head().await.unwrap().number, answered.get("sets").copied().unwrap_or(0));
    assert!(number == last || number == last + 1, "round {round}: answered set {last}, there is {number}");
    answered.insert("sets".to_owned(), number);
    let page = sets.range(Range::of(Keys::prefix("/doc/"))).await.unwrap();
    assert_eq!(page.entries.len(), if number == 0 { 0 } else { SET });
    assert!(page.entries.iter().all(|entry| entry.value == number.to_string()), "round {round}: half a change set");
    told_without_a_gap(&*store, round).await;
}

/// Every revision there is has been told, each once.
async fn told_without_a_gap(store: &dyn Store, round: u64) {
    let newest = store.revision().await.unwrap();
    let mut expected = Revision::ZERO.next();
    let mut watch = store.watch(Keys::all(), expected).await.unwrap();
    while expected <= newest {
        let batch = watch.next().await.unwrap();
        assert_eq!(batch.revision, expected, "round {round}: a gap in the history");
        expected = expected.next();
    }
}

/// Does nothing unless it is asked to be that process.
#[test]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(path, Options::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for writer in 0..WRITERS {
            let store = Arc::clone(&store);
            tokio::spawn(async move { write(&*store, writer).await });
        }
        write_sets(store).await;
    });
}

fn answered(writer: &str, number: u64) {
    // At once and whole: whoever kills this process must know what it was answered.
    std::io::stdout().write_all(format!("answered {writer} {number}.\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

async fn write(store: &dyn Store, writer: usize) {
    let (one, other) = (Key::from(format!("one/{writer}")), Key::from(format!("other/{writer}")));
    let mut last = store.get(one.clone()).await.unwrap();
    loop {
        let (number, since) = match &last {
            Some(entry) => (std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap(), entry.mod_revision),
            None => (0, Revision::ZERO),
        };
        let value = (number + 1).to_string();
        let txn = Txn::new().when(Compare::unchanged(one.clone(), since)).then(Op::put(one.clone(), value.clone()));
        assert!(store.txn(txn.then(Op::put(other.clone(), value))).await.unwrap().succeeded);
        answered(&writer.to_string(), number + 1);
        last = store.get(one.clone()).await.unwrap();
    }
}

async fn write_sets(store: Arc<dyn Store>) {
    let sets = ChangeSets::open(store, Key::from("/head")).await.unwrap();
    let mut head = sets.head().await.unwrap();
    loop {
        let value = (head.number + 1).to_string();
        let ops = (0..SET).map(|document| Op::put(format!("/doc/{document:03}"), value.clone())).collect();
        match sets.commit(head.revision, value.into(), ops).await.unwrap() {
            Committed::Done { head: now, .. } => head = now,
            Committed::Conflict { head } => panic!("nobody else writes: {head:?}"),
        }
        answered("sets", head.number);
    }
}
