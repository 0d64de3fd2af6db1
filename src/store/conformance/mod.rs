//! The promises of [`Store`], one function each, shown on every backend.
//!
//! A backend names a factory, an async function or closure that returns a [`Harness`] around an empty store, and writes
//! `suite!(factory);` as the last line of its tests.

pub(crate) mod checks;
pub(crate) mod concurrency;
pub(crate) mod counters;
pub(crate) mod feed;
pub(crate) mod indexes;
pub(crate) mod lifetime;
pub(crate) mod records;
pub(crate) mod revisions;
pub(crate) mod sets;
pub(crate) mod volume;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::clock::ManualClock;
use crate::store::{
    Check, CommitError, Committed, Index, IndexEntry, Key, Mark, Partition, Put, Record, Scan,
    Store, WriteSet,
};

/// Opens the same data again, after it was closed.
pub(crate) type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

/// An empty store to try, and the clock that it runs on.
pub(crate) struct Harness {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    reopen: Option<Reopen>,
}

impl Harness {
    /// `reopen` also keeps the directory or server of the data alive; `None` for a store without persistence.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        reopen: Option<Reopen>,
    ) -> Self {
        Self { store, clock, reopen }
    }

    /// Closes the store and opens it again; returns false and does nothing if the store is not persistent.
    pub(crate) async fn reopen(&mut self) -> bool {
        let Some(reopen) = &self.reopen else { return false };
        self.store.close().await;
        self.store = reopen().await;
        true
    }
}

/// One test for each promise.
macro_rules! suite {
    ($factory:expr) => {
        $crate::store::conformance::suite!(@ $factory,
            checks::a_refused_set_changes_nothing,
            checks::a_check_at_wants_that_very_revision,
            checks::a_check_for_absence_wants_no_record,
            checks::a_check_of_time_waits_for_the_stores_clock,
            checks::a_conflict_is_not_called_early,
            checks::all_checks_come_before_the_first_write,
            concurrency::compare_and_set_from_many_tasks_loses_nothing,
            concurrency::of_many_creators_one_wins,
            concurrency::what_was_acknowledged_is_read_by_everybody,
            concurrency::what_was_added_is_found_whatever_is_scanned_meanwhile,
            counters::a_counter_adds_up_over_partitions,
            counters::a_counter_that_nobody_added_to_is_zero,
            counters::several_changes_of_one_set_all_count,
            feed::hints_come_in_order_with_consecutive_sequences,
            feed::sets_without_hint_and_refused_sets_say_nothing,
            feed::every_feed_gets_every_hint_from_its_start_on,
            feed::what_a_hint_is_about_can_be_read,
            indexes::members_come_in_the_order_of_their_bytes,
            indexes::bounds_are_kept,
            indexes::a_limit_takes_from_the_near_end,
            indexes::a_prefix_is_nothing_but_a_range,
            indexes::partitions_are_merged_or_read_alone,
            indexes::adding_twice_and_removing_what_is_absent_are_fine,
            indexes::indexes_do_not_reach_into_each_other,
            indexes::an_entry_added_below_a_scan_is_found_by_the_next,
            lifetime::a_closed_store_answers_nothing,
            lifetime::an_open_store_answers_since_it_was_opened,
            lifetime::everything_is_there_after_a_reopen,
            lifetime::revisions_and_sequences_go_on_after_a_reopen,
            records::a_record_reads_back_as_it_was_put,
            records::stamps_are_made_new_or_kept,
            records::a_deleted_record_is_gone_and_can_be_made_again,
            records::keys_are_answered_in_their_order_over_partitions,
            records::bodies_come_and_go_with_their_own_keys,
            records::no_keys_no_answers,
            revisions::revisions_rise_while_the_clock_stands,
            revisions::a_revision_is_not_before_the_stores_clock,
            revisions::the_stores_clock_never_goes_back,
            sets::sets_of_one_call_see_the_former,
            sets::a_failing_set_leaves_the_others_of_its_call_alone,
            sets::removals_come_before_puts_and_additions,
            sets::a_set_is_applied_whole,
            volume::a_large_body_and_a_large_value_read_back,
            volume::a_thousand_sets_in_one_call_all_apply,
        );
    };
    (@ $factory:expr, $($topic:ident::$promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let harness: $crate::store::conformance::Harness = ($factory)().await;
                $crate::store::conformance::$topic::$promise(harness).await;
            }
        )*
    };
}
pub(crate) use suite;

/// The `number`th of some keys of that partition.
fn key(store: &dyn Store, partition: Partition, number: usize) -> Key {
    let keyspace = store.keyspace();
    (0..)
        .map(|name: u64| keyspace.key(&name.to_string()))
        .filter(|key| keyspace.partition(*key) == partition)
        .nth(number)
        .expect("endless names")
}

/// A set that creates a record.
fn create(store: &dyn Store, key: Key, value: impl Into<Bytes>) -> WriteSet {
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::Absent(key));
    set.puts.push(put(key, value));
    set
}

/// A set that replaces a record of that revision.
fn replace(store: &dyn Store, key: Key, revision: u64, value: impl Into<Bytes>) -> WriteSet {
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::At(key, revision));
    set.puts.push(put(key, value));
    set
}

fn put(key: Key, value: impl Into<Bytes>) -> Put {
    Put { key, visible: Mark::New, fencing: Mark::Keep(0), value: value.into() }
}

/// A set that is never refused and changes nothing yet.
fn unconditional(partition: Partition) -> WriteSet {
    WriteSet::new(partition, Check::TimeAtLeast(crate::clock::Timestamp::EPOCH))
}

fn entry(index: &'static str, member: impl Into<Bytes>) -> IndexEntry {
    IndexEntry { index: Index::new(index), member: member.into() }
}

async fn commit(store: &dyn Store, set: WriteSet) -> Result<Committed, CommitError> {
    let mut outcomes = store.commit(vec![set]).await;
    assert_eq!(outcomes.len(), 1, "one outcome for each set");
    outcomes.remove(0)
}

/// Commits a set that must succeed, and returns its revision.
async fn commit_ok(store: &dyn Store, set: WriteSet) -> u64 {
    commit(store, set).await.expect("nothing stands against it").revision
}

async fn get(store: &dyn Store, key: Key) -> Option<Record> {
    let mut records = store.get(&[key]).await.expect("the store answers");
    assert_eq!(records.len(), 1, "one answer for each key");
    records.remove(0)
}

async fn members(store: &dyn Store, scan: Scan) -> Vec<Bytes> {
    let entries = store.scan(scan).await.expect("the store answers");
    entries.into_iter().map(|entry| entry.member).collect()
}

/// All of an index, of any size used in these tests.
fn all(index: &'static str) -> Scan {
    Scan::first(Index::new(index), 100_000)
}

/// Names of indexes of every kind that a backend may treat in its own way.
const INDEXES: [&str; 6] =
    ["list", "failed", "ready/default", "due/lease", "due/retention", "due/tombstone"];
