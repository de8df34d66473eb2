//! What every engine must do. It knows the trait alone; an engine runs all of it with `conformance::suite!(start)`, where `start` makes
//! a world with an empty store.

pub(crate) mod transactions;
pub(crate) mod ranges;
pub(crate) mod watches;
pub(crate) mod leases;
pub(crate) mod writers;
pub(crate) mod histories;
pub(crate) mod change_sets;

use bulkhead_store::{Batch, Entry, Error, Event, Key, Keys, Op, Range, Revision, Store, Txn, Watch};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// An engine with an empty store of its own.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    /// Lets time pass for the leases: a clock of ours, or the world's.
    pub(crate) pass: Box<dyn Fn(Duration) + Send + Sync>,
    /// What goes away with it: a folder, a process.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

impl World {
    /// Puts one key and tells the revision that made.
    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        let outcome = self.store.txn(Txn::new().then(Op::put(key, value.to_owned()))).await.unwrap();
        assert!(outcome.succeeded);
        outcome.revision
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        self.store.txn(Txn::new().then(Op::delete(key))).await.unwrap().revision
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Entry> {
        self.store.get(Key::from(key)).await.unwrap()
    }

    /// What stands, as `key=value`.
    pub(crate) async fn texts(&self, keys: Keys) -> Vec<String> {
        texts(&self.store.range(Range::of(keys)).await.unwrap().entries)
    }

    pub(crate) async fn watch(&self, prefix: &str, from: Revision) -> Box<dyn Watch> {
        self.store.watch(Keys::prefix(prefix), from).await.unwrap()
    }
}

pub(crate) fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(text).collect()
}

fn text(entry: &Entry) -> String {
    format!("{}={}", entry.key, entry.value.escape_ascii())
}

/// A batch as `revision: key=value, -key`.
pub(crate) fn told(batch: &Batch) -> String {
    let events = batch.events.iter().map(|event| match event {
        Event::Put { entry, .. } => text(entry),
        Event::Delete { previous } => format!("-{}", previous.key),
    });
    format!("{}: {}", batch.revision, events.collect::<Vec<_>>().join(", "))
}

/// The next batch; a watch that stays silent fails the test.
pub(crate) async fn next(watch: &mut Box<dyn Watch>) -> Batch {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch is silent").unwrap()
}

/// Longer than any machine takes for what it is given.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(std::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, Error>, expected: &str) {
    let error = answer.expect_err("it must be refused");
    let name = format!("{error:?}");
    assert!(name.starts_with(expected), "{name} is not {expected}");
    assert!(!error.to_string().is_empty());
}

macro_rules! suite {
    ($start:expr) => {
        $crate::conformance::suite! { $start; transactions:
            a_put_makes_an_entry_and_counts_it,
            a_comparison_decides_between_two_lists,
            a_comparison_of_each_kind_means_what_it_says,
            all_operations_of_a_transaction_are_one_revision,
            operations_see_those_before_them,
            what_changes_nothing_is_no_revision,
            what_cannot_be_asked_is_refused_whole,
            the_limits_are_those_of_etcd,
        }
        $crate::conformance::suite! { $start; ranges:
            keys_are_found_by_name_prefix_and_bounds,
            pages_agree_while_others_write,
            what_stood_at_each_revision_can_be_read_again,
            a_revision_that_is_not_there_is_told_apart,
        }
        $crate::conformance::suite! { $start; watches:
            a_watch_tells_each_revision_whole_and_in_order,
            a_watch_from_the_past_misses_nothing,
            a_watch_waits_for_a_revision_to_come,
            a_watch_that_is_not_read_is_told_all_of_it_later,
            a_dropped_wait_loses_no_revision,
            compaction_forgets_the_past_and_keeps_the_present,
            a_watcher_that_compaction_overtook_is_told_so,
            what_was_older_when_a_period_began_is_forgotten_at_its_end,
        }
        $crate::conformance::suite! { $start; leases:
            keys_go_away_with_their_lease_in_one_revision,
            a_lease_that_is_kept_alive_stays,
            a_revoked_lease_ends_at_once,
            a_key_put_anew_leaves_its_lease,
            a_lease_that_never_was_is_refused,
        }
        $crate::conformance::suite! { $start; writers:
            each_of_many_writers_gets_a_revision_of_its_own,
            a_counter_raised_by_many_loses_no_step,
            readers_see_whole_transactions_only,
        }
        $crate::conformance::suite! { $start; histories:
            what_callers_of_many_threads_are_answered_is_linearisable,
            a_store_that_lies_is_found_out,
        }
        $crate::conformance::suite! { $start; change_sets:
            five_thousand_documents_are_one_change,
            a_small_set_is_one_revision,
            an_overtaken_set_changes_nothing,
            what_no_set_can_hold_is_refused_before_it_is_staged,
            the_largest_operation_alone_is_a_set,
            readers_see_whole_sets_only,
            a_set_cut_off_anywhere_is_there_whole_or_not_at_all,
            an_abandoned_stage_is_collected_when_its_lease_has_ended,
            a_page_of_the_past_shows_no_half_of_a_set,
            a_head_that_somebody_else_wrote_is_told,
        }
    };
    ($start:expr; $module:ident: $($case:ident,)+) => {
        mod $module {
            $(#[tokio::test]
            async fn $case() {
                $crate::conformance::$module::$case(($start)()).await;
            })+
        }
    };
}
pub(crate) use suite;
