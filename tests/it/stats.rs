//! Counts of operations, compared with a count of all records one by one.

use std::collections::{BTreeMap, BTreeSet};

use longhaul::clock::Timestamp;
use longhaul::operation::counters::{OF_PARENTS, OF_QUEUES, queue_count};
use longhaul::operation::entries::{ready_index, ready_place};
use longhaul::record::{AnyRecord, Derived};
use longhaul::store::faulty::Fault;
use longhaul::store::{Counter, Index, Scan, Store};
use pb::concurrency::Policy;
use pb::operation_stats::QueueCount;
use prost::bytes::Bytes;

use crate::queues;
use crate::support::*;

scenarios! {
    over every face;
    every_state_is_counted_by_parent_and_by_queue,
    expired_operations_do_not_count_even_before_they_are_removed,
    stored_bytes_follow_what_operations_hold,
    a_pattern_that_covers_too_many_parents_is_refused;
    over grpc;
    counts_stay_right_over_random_calls_and_faults_and_crashes,
}

async fn every_state_is_counted_by_parent_and_by_queue(fixture: &Fixture) {
    let below = |parent: &str, queue: &str| pb::StartOperationRequest {
        parent: parent.to_owned(),
        ..start(queue)
    };
    for parent in ["", "projects/p", "projects/p", "projects/p/locations/l", "projects/q"] {
        fixture.start(below(parent, "waiting")).await.granted();
    }
    fixture.running(below("projects/p", "held")).await;
    let cancelling = fixture.running(below("projects/p", "held")).await;
    fixture.cancel(&cancelling.operation).await.granted();
    let suspended = fixture.running(below("projects/p", "held")).await;
    fixture.suspend(suspension(&suspended)).await.granted();
    for outcome in [State::Succeeded, State::Succeeded, State::Failed] {
        let lease = fixture.running(below("projects/p", "held")).await;
        if outcome == State::Failed {
            fixture.fail(failure(&lease, Code::Internal)).await.granted();
        } else {
            fixture.complete(completion(&lease)).await.granted();
        }
    }
    let cancelled = fixture.start(below("projects/p", "idle")).await.granted().name;
    fixture.cancel(&cancelled).await.granted();
    let gone = fixture.start(below("projects/p", "idle")).await.granted().name;
    fixture.cancel(&gone).await.granted();
    fixture.delete(&gone).await.granted();
    // Callers do not see it any more, but its worker holds it.
    let hidden = fixture.running(below("projects/p", "held")).await;
    fixture.delete(&hidden.operation).await.granted();

    let stats = fixture.stats("projects/p").await.granted();
    assert_eq!(states(&stats), [2, 1, 1, 1, 2, 1, 1]);
    assert_eq!(stats.queue_counts, []);
    assert_at(stats.read_time, fixture.at(Duration::ZERO));
    for (parent, pending) in [
        ("", 1),
        ("operations", 1),
        ("projects/p/locations/l", 1),
        ("projects/-", 3),
        ("projects/-/locations/-", 1),
        ("projects/none", 0),
        ("-", 5),
    ] {
        let stats = fixture.stats(parent).await.granted();
        assert_eq!(states(&stats)[0], pending, "{parent}");
    }
    let queue = |queue: &str, pending_operations, running_operations| QueueCount {
        queue: format!("queues/{queue}"),
        pending_operations,
        running_operations,
    };
    let every = fixture.stats("-").await.granted();
    assert_eq!(every.queue_counts, [queue("held", 0, 3), queue("waiting", 5, 0)]);
    fixture.stats("projects").await.refused_field("INVALID_NAME", "parent");
}

async fn expired_operations_do_not_count_even_before_they_are_removed(fixture: &Fixture) {
    let expiration = pb::operation_options::Expiration::Ttl(seconds(7_200).expect("a ttl"));
    let options = pb::OperationOptions { expiration: Some(expiration), ..Default::default() };
    for _ in 0..3 {
        let lease = fixture.running(start_with("q", options.clone())).await;
        fixture.complete(completion(&lease)).await.granted();
    }
    let failed = fixture.running(start_with("q", options.clone())).await;
    fixture.fail(failure(&failed, Code::Internal)).await.granted();
    let kept = fixture.running(start("q")).await;
    fixture.complete(completion(&kept)).await.granted();
    let counted = async || states(&fixture.stats("").await.granted());
    fixture.let_pass(Duration::from_secs(7_190));
    assert_eq!(counted().await, [0, 0, 0, 0, 4, 1, 0]);
    fixture.let_pass(Duration::from_secs(20));
    assert_eq!(counted().await, [0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(states(&fixture.stats("projects/p").await.granted()), [0; 7]);
    fixture.pass(Duration::ZERO).await;
    assert_eq!(counted().await, [0, 0, 0, 0, 1, 0, 0]);
}

async fn stored_bytes_follow_what_operations_hold(fixture: &Fixture) {
    let kib = async |parent: &str| fixture.stats(parent).await.granted().stored_bytes >> 10;
    let below = |parent: &str, bytes| {
        let request = Some(large("acme.Resize", bytes));
        pb::StartOperationRequest {
            parent: parent.to_owned(),
            metadata_type: "acme.Progress".to_owned(),
            request,
            ..start("q")
        }
    };
    assert_eq!(kib("-").await, 0);
    fixture.start(start("other")).await.granted();
    assert_eq!(kib("").await, 1);
    let lease = fixture.running(below("projects/p", 10 << 10)).await;
    assert_eq!((kib("projects/p").await, kib("-").await), (11, 12));
    let metadata = Some(large("acme.Progress", 4 << 10));
    fixture.report(pb::ReportProgressRequest { metadata, ..report(&lease) }).await.granted();
    assert_eq!(kib("projects/p").await, 15);
    let response = Some(large("acme.Resized", 20 << 10));
    let completed = pb::CompleteOperationRequest { response, ..completion(&lease) };
    fixture.complete(completed).await.granted();
    assert_eq!(kib("projects/p").await, 35);
    let doomed = fixture.running(below("projects/p", 2 << 10)).await;
    assert_eq!(kib("projects/-").await, 38);
    fixture.fail(failure(&doomed, Code::InvalidArgument)).await.granted();
    fixture.delete(&doomed.operation).await.granted();
    assert_eq!(kib("projects/-").await, 35);
    // It has expired, and was not removed yet.
    fixture.let_pass(Duration::from_hours(24 * 31));
    assert_eq!(kib("projects/p").await, 0);
    fixture.pass(Duration::ZERO).await;
    assert_eq!((kib("projects/p").await, kib("-").await), (0, 1));
}

async fn a_pattern_that_covers_too_many_parents_is_refused(fixture: &Fixture) {
    let requests = |first: usize| pb::BatchStartOperationsRequest {
        requests: (first..first + 100)
            .map(|number| pb::StartOperationRequest {
                parent: format!("projects/p{number:04}"),
                ..start("q")
            })
            .collect(),
        ..pb::BatchStartOperationsRequest::default()
    };
    for first in (0..1_000).step_by(100) {
        fixture.producers().batch_start_operations(requests(first)).await.granted();
    }
    assert_eq!(states(&fixture.stats("projects/-").await.granted())[0], 1_000);
    fixture.producers().batch_start_operations(requests(1_000)).await.granted();
    fixture.stats("projects/-").await.refused_field("LIMIT_EXCEEDED", "parent");
    assert_eq!(states(&fixture.stats("projects/p0007").await.granted())[0], 1);
}

async fn counts_stay_right_over_random_calls_and_faults_and_crashes(fixture: &Fixture) {
    let mut dice = Dice(7);
    let (mut names, mut leases) = (Vec::new(), Vec::new());
    // Also of the lines at gates.
    let mut indexes = BTreeSet::new();
    let mut second = fixture.beside().await;
    for step in 0..160 {
        let faults = [Fault::None, Fault::AppliedUnknown, Fault::LostUnknown, Fault::Conflict];
        fixture.store.inject((0..dice.below(3)).map(|_| faults[dice.below(4)]).collect::<Vec<_>>());
        let server = if dice.below(2) == 0 { fixture } else { &second };
        one_call(server, &mut dice, &mut names, &mut leases).await;
        if step % 50 == 49 {
            // It ends without a drain, whatever it was doing; the store stays open for the other.
            second = fixture.beside().await;
        }
        if step % 20 == 19 {
            fixture.store.inject([]);
            fixture.pass(Duration::from_millis(dice.below(40_000) as u64)).await;
            look_at_everything(fixture, &mut indexes).await;
        }
    }
    fixture.pass(Duration::from_hours(24 * 31)).await;
    look_at_everything(fixture, &mut indexes).await;
}

async fn look_at_everything(fixture: &Fixture, indexes: &mut BTreeSet<String>) {
    compare(fixture).await;
    let derived = derived(fixture).await;
    every_counter_is_the_sum_over_all_records(fixture, &derived).await;
    every_entry_follows_from_a_record(fixture, &derived, indexes).await;
    queues_show_what_is_counted_and_what_is_oldest(fixture, &derived).await;
}

/// Whether it succeeds does not matter: only what it leaves.
async fn one_call(
    fixture: &Fixture,
    dice: &mut Dice,
    names: &mut Vec<String>,
    leases: &mut Vec<pb::Lease>,
) {
    let queue = QUEUES[dice.below(QUEUES.len())];
    let name = names.get(dice.below(names.len().max(1))).cloned().unwrap_or_default();
    let lease = leases.get(dice.below(leases.len().max(1))).cloned().unwrap_or_default();
    match dice.below(14) {
        0..4 => {
            let parent = PARENTS[dice.below(PARENTS.len())].to_owned();
            let policy = [Policy::Queue, Policy::Reject, Policy::Preempt][dice.below(3)];
            let concurrency =
                pb::Concurrency { key: "k".to_owned(), limit: 2, policy: policy.into() };
            let concurrency = (dice.below(2) == 0).then_some(concurrency);
            let options = pb::OperationOptions { concurrency, ..Default::default() };
            let request = [0, 900, 5_000][dice.below(3)];
            let request = Some(large("acme.Resize", request));
            let request =
                pb::StartOperationRequest { parent, request, ..start_with(queue, options) };
            let started = fixture.start(request).await;
            names.extend(started.map(|operation| operation.name));
        }
        4..7 => leases.extend(fixture.leases(leasing(queue)).await.unwrap_or_default()),
        7 => drop(fixture.complete(completion(&lease)).await),
        8 => drop(fixture.fail(failure(&lease, Code::Internal)).await),
        9 => drop(fixture.fail(failure(&lease, Code::Unavailable)).await),
        10 => drop(fixture.suspend(suspension(&lease)).await),
        11 => drop(fixture.cancel(&name).await),
        12 => drop(fixture.delete(&name).await),
        _ => drop(fixture.resume(&name, None).await),
    }
}

/// Compares the counts with those of all records. Deleted operations that workers hold are in no list, but in the counts of
/// their queue: each of these is therefore at least what the list shows.
async fn compare(fixture: &Fixture) {
    for parent in PARENTS.into_iter().chain(["-", "projects/-"]) {
        let stats = fixture.stats(parent).await.granted();
        let (mut wanted, mut pending, mut running) = ([0; 7], BTreeMap::new(), BTreeMap::new());
        for record in all(fixture, parent).await {
            wanted[record.state() as usize - 1] += 1;
            match record.state() {
                State::Pending => *pending.entry(record.queue).or_insert(0) += 1,
                State::Running | State::Cancelling => {
                    *running.entry(record.queue).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        assert_eq!(states(&stats), wanted, "{parent}");
        let listed = wanted.iter().sum::<i64>();
        assert!(stats.stored_bytes >= listed << 10, "{parent}: {stats:?}");
        for count in &stats.queue_counts {
            let listed = |of: &BTreeMap<String, i64>| of.get(&count.queue).copied().unwrap_or(0);
            assert!(count.pending_operations >= listed(&pending), "{count:?}");
            assert!(count.running_operations >= listed(&running), "{count:?}");
        }
    }
}

/// What follows from each stored record, deleted operations that workers hold included.
async fn derived(fixture: &Fixture) -> Vec<Derived> {
    let keyspace = fixture.store.keyspace();
    let mut derived = Vec::new();
    for partition in keyspace.all() {
        let keys = fixture.store.keys(partition, None, 10_000).await.expect("keys");
        let records = fixture.store.get(&keys).await.expect("records");
        for (key, record) in keys.into_iter().zip(records) {
            let Some(record) = record else { continue };
            let record = AnyRecord::read_at(keyspace, key, &record).expect("a sound record");
            derived.push(record.derived(key));
        }
    }
    derived
}

/// A full count of what is stored.
async fn every_counter_is_the_sum_over_all_records(fixture: &Fixture, derived: &[Derived]) {
    let mut sums: BTreeMap<(&str, Bytes), i64> = BTreeMap::new();
    for counter in derived.iter().flat_map(|derived| &derived.counters) {
        *sums.entry((counter.family, counter.name.clone())).or_default() += counter.change;
    }
    sums.retain(|_, sum| *sum != 0);
    let mut counted = BTreeMap::new();
    for family in [OF_PARENTS, OF_QUEUES] {
        let names = fixture.store.counter_names(family, 10_000).await.expect("names");
        let counters = fixture.store.counters(family, &names).await.expect("counters");
        let counters = names.into_iter().zip(counters).filter(|(_, counter)| *counter != 0);
        counted.extend(counters.map(|(name, counter)| ((family, name), counter)));
    }
    assert_eq!(counted, sums);
}

/// Each index, the lines at gates included, has the entries of the records and no others. `indexes` were seen before.
async fn every_entry_follows_from_a_record(
    fixture: &Fixture,
    derived: &[Derived],
    indexes: &mut BTreeSet<String>,
) {
    let mut wanted: BTreeMap<String, BTreeSet<Bytes>> = BTreeMap::new();
    for entry in derived.iter().flat_map(|derived| &derived.entries) {
        let index = wanted.entry(entry.index.as_str().to_owned()).or_default();
        assert!(index.insert(entry.member.clone()), "{entry:?} is of two records");
    }
    indexes.extend(wanted.keys().cloned());
    for index in &*indexes {
        let scan = Scan::first(Index::new(index.clone()), 10_000);
        let found = fixture.store.scan(scan).await.expect("entries");
        let found: BTreeSet<Bytes> = found.into_iter().map(|entry| entry.member).collect();
        assert_eq!(found, wanted.remove(index).unwrap_or_default(), "{index}");
    }
}

/// What an operator sees of each queue.
async fn queues_show_what_is_counted_and_what_is_oldest(fixture: &Fixture, derived: &[Derived]) {
    for queue in QUEUES {
        let shown = queues::get(fixture, queue).await.granted();
        let of_queue =
            |counter: &&Counter| counter.family == OF_QUEUES && counter.name == queue.as_bytes();
        let counters = derived.iter().flat_map(|derived| &derived.counters).filter(of_queue);
        let count = queue_count(counters.map(|counter| counter.change).sum());
        let found = (shown.pending_operations as u64, shown.running_operations as u64);
        assert_eq!(found, (count.pending, count.running), "{queue}");
        let ready = ready_index(queue);
        let entries = derived.iter().flat_map(|derived| &derived.entries);
        let ready = entries.filter(|entry| entry.index.as_str() == ready);
        // Without a priority, the rank is the time.
        let oldest =
            ready.filter_map(|entry| ready_place(&entry.member)).map(|(_, rank)| rank).min();
        let oldest = oldest.map(|micros| Timestamp::from_micros(micros as u64).into());
        assert_eq!(shown.oldest_pending_time, oldest, "{queue}");
    }
}

async fn all(fixture: &Fixture, parent: &str) -> Vec<pb::OperationRecord> {
    let mut all = Vec::new();
    let mut request = pb::ListOperationRecordsRequest {
        parent: parent.to_owned(),
        page_size: 1_000,
        ..pb::ListOperationRecordsRequest::default()
    };
    loop {
        let page = fixture.callers().list_operation_records(request.clone()).await.granted();
        let page = page.into_inner();
        all.extend(page.operation_records);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

/// The counts, by the number of the state.
fn states(stats: &pb::OperationStats) -> [i64; 7] {
    let mut states = [-1; 7];
    for count in &stats.counts {
        states[count.state as usize - 1] = count.operations;
    }
    states
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

const PARENTS: [&str; 3] = ["", "projects/p", "projects/q"];
const QUEUES: [&str; 2] = ["a", "b"];
