//! The promises of [`Store`](crate::store::Store), one function each, shown on every backend.
//!
//! A backend names a factory, an async function or closure that returns a [`Harness`] around an empty store, and writes
//! `suite!(factory);` as the last line of its tests.

pub(crate) mod checks;
pub(crate) mod concurrency;
pub(crate) mod counters;
pub(crate) mod feed;
mod harness;
pub(crate) mod indexes;
pub(crate) mod lifetime;
pub(crate) mod records;
pub(crate) mod revisions;
pub(crate) mod sets;
pub(crate) mod volume;

pub(crate) use self::harness::{Harness, count, counted};

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
            counters::many_sets_of_one_call_add_up,
            counters::families_keep_their_counters_apart_and_list_their_names,
            feed::hints_come_in_order_with_consecutive_sequences,
            feed::sets_without_hint_and_refused_sets_say_nothing,
            feed::every_feed_gets_every_hint_from_its_start_on,
            feed::what_a_hint_is_about_can_be_read,
            feed::positions_are_those_of_the_last_hints,
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
            records::keys_come_in_ascending_order_from_where_the_last_call_ended,
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
