//! The journal against damage.

use super::journal::{Journal, Record};
use super::ledger::{Entry, Phase, Trial};
use super::texts::{Text, Texts};
use super::{AGAIN, LastGood, PROBATION};
use crate::clock::Now;
use bulkhead_config::declared::{DocumentId, Kind};
use bulkhead_config::protocol::Part;
use proptest::prelude::*;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use tempfile::TempDir;

fn texts(name: &str, text: &str) -> Texts {
    let id = DocumentId { kind: Kind::Role, tenant: Some("acme".parse().unwrap()), name: name.parse().unwrap() };
    Texts::new(vec![Text { id, file: "roles.yaml".into(), line: 7, text: text.into() }])
}

fn records() -> Vec<Record> {
    let phases = [
        Phase::Probation,
        Phase::Suspect,
        Phase::Withheld { together: None },
        Phase::Withheld { together: NonZeroUsize::new(4) },
        Phase::Retried { together: NonZeroUsize::MIN },
        Phase::Condemned,
    ];
    let trial = |phase| Some(Trial::recorded(texts("r", "new \"quoted\"\n"), phase));
    let mut records: Vec<Record> = phases
        .into_iter()
        .zip(1..)
        .map(|(phase, revision)| Record {
            part: Part::Tenant("acme".parse().unwrap()),
            at_ms: 1_790_000_000_000 + revision,
            revision,
            entry: Some(Entry { good: (revision % 2 == 0).then(|| texts("r", "old")), trial: trial(phase) }),
        })
        .collect();
    let platform = Entry { good: Some(texts("p", "naïve ☃")), trial: None };
    records.push(Record { part: Part::Platform, at_ms: 1, revision: 9, entry: Some(platform) });
    records.push(Record { part: Part::Platform, at_ms: 2, revision: 10, entry: None });
    records
}

fn written() -> (TempDir, PathBuf, Vec<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let records = records();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(records[..3].iter().cloned()).unwrap();
    journal.append(records[3..].iter().cloned()).unwrap();
    let path = dir.path().join("journal");
    (dir, path, records)
}

#[test]
fn what_is_written_is_read_again() {
    let (dir, _, records) = written();
    let (mut journal, recovered) = Journal::open(dir.path()).unwrap();
    assert_eq!((recovered.records, recovered.damage), (records.clone(), Vec::<String>::new()));
    journal.rewrite(records[5..].iter().cloned()).unwrap();
    journal.append(records[..1].iter().cloned()).unwrap();
    let (_, recovered) = Journal::open(dir.path()).unwrap();
    assert_eq!(recovered.records, [&records[5..], &records[..1]].concat());
}

#[test]
fn a_damaged_line_is_named_and_costs_itself_alone() {
    let (dir, path, records) = written();
    let whole = fs::read(&path).unwrap();
    let mut line = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (_, recovered) = Journal::open(dir.path()).unwrap();
        // A line feed that is none any more glues two lines together.
        let hit = if whole[at] == b'\n' { line..line + 2 } else { line..line + 1 };
        let spared: Vec<Record> = records.iter().enumerate().filter(|(line, _)| !hit.contains(line)).map(|(_, r)| r.clone()).collect();
        assert_eq!(recovered.records, spared, "byte {at}");
        assert!(recovered.damage.iter().any(|damage| damage.starts_with(&format!("line {} ", line + 1))), "byte {at}: {recovered:?}");
        line += usize::from(whole[at] == b'\n');
    }
}

#[test]
fn a_journal_cut_short_keeps_its_whole_lines_and_says_what_is_missing() {
    let (dir, path, records) = written();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (_, recovered) = Journal::open(dir.path()).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(recovered.records, records[..lines], "{length} bytes");
        let is_between_lines = length == 0 || whole[length - 1] == b'\n';
        assert_eq!(recovered.damage.is_empty(), is_between_lines, "{length} bytes: {recovered:?}");
    }
}

#[test]
fn a_damaged_journal_is_set_aside_and_the_next_one_is_whole() {
    let (dir, path, records) = written();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let (mut journal, recovered) = Journal::open(dir.path()).unwrap();
    assert!(journal.append(records[..1].iter().cloned()).is_err(), "nothing is written behind damage");
    journal.rewrite(recovered.records.iter().cloned()).unwrap();
    let (_, again) = Journal::open(dir.path()).unwrap();
    assert_eq!((again.records, again.damage.len()), (recovered.records, 0));
    assert_eq!(fs::read(dir.path().join("journal.damaged")).unwrap(), bytes);
}

#[test]
fn what_a_change_replaced_stays_for_ten_minutes() {
    let (dir, _, _) = written();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let big = Entry { good: Some(texts("r", &"x".repeat(1 << 20))), trial: None };
    let record = |at_ms| Record { part: Part::Platform, at_ms, revision: 1, entry: Some(big.clone()) };
    journal.append([record(0), record(1_000)]).unwrap();
    assert!(!journal.is_overgrown(601_000));
    assert!(journal.is_overgrown(601_001));
    journal.rewrite([record(1_000)]).unwrap();
    assert!(!journal.is_overgrown(601_001));
    for _ in 0..16 {
        journal.append([record(2_000)]).unwrap();
    }
    assert!(journal.is_overgrown(2_000), "not without end, even if changes never pause");
}

#[test]
fn a_file_of_nothing_but_damage_is_not_read_to_its_end() {
    let (dir, path, _) = written();
    fs::write(&path, "\n".repeat(10_000)).unwrap();
    let (_, recovered) = Journal::open(dir.path()).unwrap();
    assert_eq!((recovered.records.len(), recovered.damage.len()), (0, 101));
}

#[test]
fn what_a_full_disk_did_not_take_is_tried_again_until_it_is_kept() {
    let (dir, now) = (tempfile::tempdir().unwrap(), Now { mono_ns: 0, unix_ms: 1_790_000_000_000 });
    let (mut last_good, _) = LastGood::open(dir.path(), PROBATION, now);
    last_good.ledger.trust(Part::Platform, texts("r", "new"));
    // Refuses the new journal as a full disk would.
    fs::create_dir(dir.path().join("policy/journal.new")).unwrap();
    last_good.trouble = Some("no space".to_owned());
    last_good.record(&[], 0, now);
    assert!(last_good.trouble().is_some());
    assert_eq!(last_good.wait(now), Some(AGAIN));
    fs::remove_dir(dir.path().join("policy/journal.new")).unwrap();
    last_good.record(&[], 0, now);
    assert_eq!((last_good.trouble(), last_good.wait(now)), (None, None));
    let (_, recovered) = Journal::open(&dir.path().join("policy")).unwrap();
    assert_eq!(recovered.records.len(), 1);
}

#[test]
fn a_folder_that_is_let_go_looks_ended_in_order_and_is_had_back_whoever_died_in_it() {
    let (dir, now) = (tempfile::tempdir().unwrap(), Now { mono_ns: 0, unix_ms: 1_790_000_000_000 });
    let running = dir.path().join("policy/running");
    let (mut last_good, _) = LastGood::open(dir.path(), PROBATION, now);
    last_good.ledger.activate(&Part::Platform, &texts("r", "new"), now);
    last_good.record(&[Part::Platform], 1, now);
    last_good.let_go(now);
    assert!(!running.exists() && last_good.trouble().is_none());

    let (other, findings) = LastGood::open(dir.path(), PROBATION, now);
    assert!(!findings.is_unclean);
    // The trial goes on, and begins anew: how long it was served is not for the disk.
    let trial = other.ledger.entry(&Part::Platform).and_then(|entry| entry.trial.clone());
    assert_eq!(trial, Some(Trial::recorded(texts("r", "new"), Phase::Probation)));
    // As the death of its process would, it leaves the mark behind, and half a line.
    std::mem::forget(other);
    fs::write(dir.path().join("policy/journal"), "half a li").unwrap();

    last_good.take_back(now);
    assert!(running.exists() && last_good.trouble().is_none());
    drop(last_good);
    let (_, findings) = LastGood::open(dir.path(), PROBATION, now);
    assert_eq!(findings, super::Findings::default());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), &bytes).unwrap();
        let (_, recovered) = Journal::open(dir.path()).unwrap();
        prop_assert!(recovered.records.is_empty());
        prop_assert_eq!(recovered.damage.is_empty(), bytes.is_empty());
    }
}
