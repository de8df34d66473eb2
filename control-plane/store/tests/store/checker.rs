//! Judges a history of concurrent operations: was there an order in which a single register per key would have given these answers
//! (linearisability, by Wing and Gong's search with Lowe's memo), and did every watcher hear every revision, once, whole, in order?
//!
//! Keys are judged one by one, which is sound: a history is linearisable if and only if it is for each of its objects.

use bulkhead_store::{Batch, Event, Key, Revision};
use std::collections::{BTreeMap, HashSet};

/// More operations on one key are not judged, nor more steps of the search: that is an error of the test, not a history that is right.
const OPERATIONS_MAX: usize = 128;
const STEPS_MAX: usize = 5_000_000;

/// A value of a register. Each write of a test has its own, so that a read tells which write it saw.
pub(crate) type Value = Option<u64>;

/// What was asked of one key, and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It was read.
    Read(Value),
    /// It was written.
    Write(Value),
    /// It was written if it was as expected: the value expected, the new one, and whether it was.
    Swap(Value, Value, bool),
}

/// One operation with the moments of its call and its answer, on a clock that all callers share.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) key: Key,
    pub(crate) action: Action,
    pub(crate) called: u64,
    /// None when nobody knows what became of it: it may act at any time after its call, or never.
    pub(crate) answered: Option<u64>,
}

/// What one revision was answered to have done.
pub(crate) type Effects = BTreeMap<Key, Value>;

/// All that a run saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    /// What writers were told of the revisions they made.
    pub(crate) committed: BTreeMap<Revision, Effects>,
    /// What each watcher heard, from the same revision on, until the last one of the run.
    pub(crate) watched: Vec<Vec<(Revision, Effects)>>,
}

/// Why a history cannot be that of a store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// No order of its operations gives these answers.
    NotLinearisable { key: Key },
    /// A watcher did not hear of a revision that was answered.
    Unheard { watcher: usize, revision: Revision },
    /// A watcher heard a revision again, or after a later one.
    OutOfOrder { watcher: usize, revision: Revision },
    /// A watcher heard something else of a revision than its writer, or than another watcher.
    HeardOtherwise { watcher: usize, revision: Revision },
    /// Too much to be judged.
    TooLarge { key: Key },
}

impl History {
    pub(crate) fn check(&self) -> Result<(), Violation> {
        let mut keys: BTreeMap<&Key, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        for (key, operations) in keys {
            linearisable(key, &operations)?;
        }
        self.watched_whole()
    }

    fn watched_whole(&self) -> Result<(), Violation> {
        let mut told: BTreeMap<Revision, &Effects> = self.committed.iter().map(|(revision, effects)| (*revision, effects)).collect();
        for (watcher, heard) in self.watched.iter().enumerate() {
            let mut last = None;
            for (revision, effects) in heard {
                let revision = *revision;
                if last.is_some_and(|last| last >= revision) {
                    return Err(Violation::OutOfOrder { watcher, revision });
                }
                last = Some(revision);
                // What no writer was told of, all watchers must have heard alike.
                if *told.entry(revision).or_insert(effects) != effects {
                    return Err(Violation::HeardOtherwise { watcher, revision });
                }
            }
        }
        for (watcher, heard) in self.watched.iter().enumerate() {
            let heard: HashSet<_> = heard.iter().map(|(revision, _)| *revision).collect();
            if let Some(revision) = told.keys().find(|revision| !heard.contains(revision)) {
                return Err(Violation::Unheard { watcher, revision: *revision });
            }
        }
        Ok(())
    }
}

/// Looks for an order: takes, again and again, an operation that no other one left was answered before the call of.
fn linearisable(key: &Key, operations: &[&Operation]) -> Result<(), Violation> {
    if operations.len() > OPERATIONS_MAX {
        return Err(Violation::TooLarge { key: key.clone() });
    }
    let answered = operations.iter().enumerate().filter(|(_, operation)| operation.answered.is_some());
    let must: u128 = answered.fold(0, |set, (place, _)| set | 1 << place);
    let mut seen = HashSet::new();
    let mut open: Vec<(u128, Value)> = vec![(0, None)];
    while let Some((done, value)) = open.pop() {
        if done & must == must {
            return Ok(());
        }
        // The same operations with the same value left behind go on in the same ways, whatever their order.
        if !seen.insert((done, value)) {
            continue;
        }
        if seen.len() > STEPS_MAX {
            return Err(Violation::TooLarge { key: key.clone() });
        }
        let left = || operations.iter().enumerate().filter(move |(place, _)| done & (1 << place) == 0);
        let first_answer = left().filter_map(|(_, operation)| operation.answered).min().unwrap_or(u64::MAX);
        for (place, operation) in left().filter(|(_, operation)| operation.called < first_answer) {
            if let Some(value) = apply(operation.action, value) {
                open.push((done | 1 << place, value));
            }
        }
    }
    Err(Violation::NotLinearisable { key: key.clone() })
}

/// The value after an action; none when it could not have been answered like that.
fn apply(action: Action, value: Value) -> Option<Value> {
    match action {
        Action::Read(read) => (read == value).then_some(value),
        Action::Write(written) => Some(written),
        Action::Swap(expected, written, true) => (expected == value).then_some(written),
        Action::Swap(expected, _, false) => (expected != value).then_some(value),
    }
}

/// What a batch did, in numbers.
pub(crate) fn effects(batch: &Batch) -> Effects {
    let effect = |event: &Event| match event {
        Event::Put { entry, .. } => (entry.key.clone(), number(&entry.value)),
        Event::Delete { previous } => (previous.key.clone(), None),
    };
    batch.events.iter().map(effect).collect()
}

/// The number that stands in an entry.
pub(crate) fn number(value: &[u8]) -> Value {
    Some(std::str::from_utf8(value).unwrap().parse().unwrap())
}

#[cfg(test)]
mod tests {
    use super::Action::{Read, Swap, Write};
    use super::*;

    fn operation(action: Action, called: u64, answered: u64) -> Operation {
        Operation { key: Key::from("k"), action, called, answered: Some(answered) }
    }

    fn unknown(action: Action, called: u64) -> Operation {
        Operation { answered: None, ..operation(action, called, called) }
    }

    fn right(operations: &[Operation]) -> bool {
        let judged = History { operations: operations.to_vec(), ..History::default() }.check();
        assert!(matches!(judged, Ok(()) | Err(Violation::NotLinearisable { .. })), "{judged:?}");
        judged.is_ok()
    }

    #[test]
    fn what_one_register_could_have_answered_is_right() {
        assert!(right(&[operation(Write(Some(1)), 1, 2), operation(Read(Some(1)), 3, 4), operation(Write(None), 5, 6)]));
        // While it is written, the old value may be read, and then the new one.
        assert!(right(&[operation(Write(Some(1)), 1, 10), operation(Read(None), 2, 3), operation(Read(Some(1)), 4, 5)]));
        assert!(right(&[operation(Swap(None, Some(1), true), 1, 5), operation(Swap(None, Some(2), false), 2, 6)]));
        // What nobody was answered may have acted late, or never.
        assert!(right(&[unknown(Write(Some(1)), 1), operation(Read(None), 2, 3), operation(Read(Some(1)), 4, 5)]));
        assert!(right(&[unknown(Write(Some(1)), 1), operation(Write(Some(2)), 2, 3), operation(Read(Some(2)), 4, 5)]));
    }

    #[test]
    fn a_stale_read_a_lost_write_and_a_double_claim_are_found() {
        // Read, after a write was answered, what was before it.
        assert!(!right(&[operation(Write(Some(1)), 1, 2), operation(Write(Some(2)), 3, 4), operation(Read(Some(1)), 5, 6)]));
        // Answered, and never there.
        assert!(!right(&[operation(Write(Some(1)), 1, 2), operation(Read(None), 3, 4)]));
        // The new value, then again the old one.
        assert!(!right(&[operation(Write(Some(1)), 1, 10), operation(Read(Some(1)), 2, 3), operation(Read(None), 4, 5)]));
        // Two who both found nothing there.
        assert!(!right(&[operation(Swap(None, Some(1), true), 1, 5), operation(Swap(None, Some(2), true), 2, 6)]));
        // One that was refused though it was as expected.
        assert!(!right(&[operation(Write(Some(1)), 1, 2), operation(Swap(Some(1), Some(2), false), 3, 4)]));
        // A value that nobody wrote, and one before it was asked to be written.
        assert!(!right(&[operation(Read(Some(7)), 1, 2)]));
        assert!(!right(&[operation(Read(Some(1)), 1, 2), unknown(Write(Some(1)), 3)]));
    }

    #[test]
    fn what_a_watcher_misses_doubles_or_bends_is_found() {
        let revision = Revision::new;
        let effects = |value: u64| Effects::from([(Key::from("k"), Some(value))]);
        let all = || (1..=3).map(|number| (revision(number), effects(number))).collect::<Vec<_>>();
        let judge = |watched: Vec<(Revision, Effects)>| {
            // The second revision was answered to nobody.
            let committed = all().into_iter().filter(|(number, _)| number.get() != 2).collect();
            History { operations: Vec::new(), committed, watched: vec![all(), watched] }.check()
        };
        assert_eq!(judge(all()), Ok(()));
        for skipped in 0..3 {
            let mut watched = all();
            let (revision, _) = watched.remove(skipped);
            assert_eq!(judge(watched), Err(Violation::Unheard { watcher: 1, revision }));
        }
        let mut doubled = all();
        doubled.insert(1, (revision(1), effects(1)));
        assert_eq!(judge(doubled), Err(Violation::OutOfOrder { watcher: 1, revision: revision(1) }));
        let mut swapped = all();
        swapped.swap(1, 2);
        assert_eq!(judge(swapped), Err(Violation::OutOfOrder { watcher: 1, revision: revision(2) }));
        for bent in 0..3 {
            let mut watched = all();
            watched[bent].1 = Effects::new();
            assert_eq!(judge(watched.clone()), Err(Violation::HeardOtherwise { watcher: 1, revision: watched[bent].0 }));
        }
    }

    #[test]
    fn what_is_too_much_to_judge_is_not_called_right() {
        let many: Vec<_> = (0..=OPERATIONS_MAX as u64).map(|number| operation(Write(Some(number)), number * 2, number * 2 + 1)).collect();
        let judged = History { operations: many, ..History::default() }.check();
        assert_eq!(judged, Err(Violation::TooLarge { key: Key::from("k") }));
    }
}
