//! Lists over tens of thousands of operations that have just been removed.

use std::collections::HashSet;

use longhaul::clock::Timestamp;
use longhaul::limits::{MAX_LIST_READS, MAX_LIST_SORTED};
use longhaul::proto::google::longrunning::ListOperationsRequest;
use longhaul::store::{Check, Index, IndexEntry, Key, Mark, Put, Scan, Store, WriteSet};
use prost::bytes::Bytes;

use crate::support::*;

scenarios! {
    a_list_over_tens_of_thousands_of_expired_operations_is_paged_by_bounded_calls,
    a_list_over_tens_of_thousands_of_deleted_operations_is_paged,
    a_filter_that_matches_few_of_many_is_answered_by_bounded_calls,
}

const CROWD: u64 = 20_000;
const AT_ONCE: usize = 1_000;
/// The end of each member of `list`, and the members of a due index.
const TIME_AND_KEY: usize = 24;
/// Records that a call reads at a time.
const READ_AT_ONCE: u64 = 100;

async fn a_list_over_tens_of_thousands_of_expired_operations_is_paged_by_bounded_calls(
    fixture: &Fixture,
) {
    let (kept, _) = crowded(fixture).await;
    // A record of the crowd expires with the one that it is a copy of, and no janitor has come yet.
    fixture.let_pass(Duration::from_hours(3));
    let (found, pages) = walk(fixture).await;
    assert_eq!(found, kept);
    assert!(
        pages >= CROWD / (MAX_LIST_READS as u64 + READ_AT_ONCE),
        "{pages} pages: a call did too much"
    );
}

async fn a_list_over_tens_of_thousands_of_deleted_operations_is_paged(fixture: &Fixture) {
    let (kept, removals) = crowded(fixture).await;
    for sets in removals.chunks(AT_ONCE) {
        let outcomes = fixture.store.commit(sets.to_vec()).await;
        assert!(outcomes.iter().all(Result::is_ok));
    }
    fixture.let_pass(Duration::from_hours(3));
    assert_eq!(walk(fixture).await.0, kept);
}

async fn a_filter_that_matches_few_of_many_is_answered_by_bounded_calls(fixture: &Fixture) {
    let (kept, _) = crowded(fixture).await;
    let (found, pages) = walk_by(fixture, "queue() = q").await;
    assert_eq!(found, kept);
    assert!(pages >= CROWD / (MAX_LIST_READS as u64 + READ_AT_ONCE), "{pages} pages");
    // None of them is leased, but so many entries are not sorted for each page. Failures and the unfinished need no sorting.
    let store = &*fixture.store;
    let scan = Scan::first(Index::new("list"), MAX_LIST_SORTED + 10);
    let entries = store.scan(scan).await.expect("entries");
    for some in entries.chunks(AT_ONCE) {
        let sets = some.iter().map(|entry| {
            let mut set = WriteSet::new(entry.partition, Check::TimeAtLeast(Timestamp::EPOCH));
            let end = entry.member.slice(entry.member.len() - TIME_AND_KEY..);
            let leased = IndexEntry { index: Index::new("due/lease"), member: end };
            let listed = ["failed", "unfinished"]
                .map(|index| IndexEntry { index: Index::new(index), member: entry.member.clone() });
            set.additions.push(leased);
            set.additions.extend(listed);
            set
        });
        assert!(store.commit(sets.collect()).await.iter().all(Result::is_ok));
    }
    for (filter, index) in [("state()=RUNNING", "unfinished"), ("state()=FAILED", "failed")] {
        let request = ListOperationsRequest { filter: filter.to_owned(), ..bare() };
        let page = fixture.operations().list_operations(request).await.granted();
        assert_eq!(page.metadata().get("longhaul-index").expect("a header"), index);
        assert_eq!(page.get_ref().operations, []);
        assert!(!page.get_ref().next_page_token.is_empty(), "there is more to look at");
    }
}

fn bare() -> ListOperationsRequest {
    ListOperationsRequest::default()
}

/// Reads all pages, small ones; returns their operations and their number.
async fn walk(fixture: &Fixture) -> (HashSet<String>, u64) {
    walk_by(fixture, "").await
}

async fn walk_by(fixture: &Fixture, filter: &str) -> (HashSet<String>, u64) {
    let (mut found, mut token, mut pages) = (HashSet::new(), String::new(), 0);
    loop {
        let request = ListOperationsRequest {
            filter: filter.to_owned(),
            page_size: 3,
            page_token: token,
            ..bare()
        };
        let page = fixture.operations().list_operations(request).await.granted().into_inner();
        pages += 1;
        for operation in page.operations {
            assert!(found.insert(operation.name), "listed twice");
        }
        if page.next_page_token.is_empty() {
            return (found, pages);
        }
        token = page.next_page_token;
    }
}

/// Some operations that stay, and between them many that expire after two hours; returns what removes those.
async fn crowded(fixture: &Fixture) -> (HashSet<String>, Vec<WriteSet>) {
    let mut kept = HashSet::from([fixture.started("q").await]);
    let expiration = pb::operation_options::Expiration::Ttl(seconds(7_200).expect("a ttl"));
    let options = pb::OperationOptions { expiration: Some(expiration), ..Default::default() };
    let lease = fixture.running(start_with("short", options)).await;
    fixture.complete(completion(&lease)).await.granted();
    let store = &*fixture.store;
    let key = store.keyspace().key(&lease.operation);
    let record = store.get(&[key]).await.expect("an answer").remove(0).expect("a record");
    let members = store.scan(Scan::first(Index::new("list"), 9)).await.expect("entries");
    let own = members.into_iter().find(|entry| entry.key() == Some(key)).expect("an entry");
    let head = own.member.slice(..own.member.len() - 16);

    let copies: Vec<WriteSet> =
        (0..CROWD).map(|number| copy(store, number, &head, &record.value)).collect();
    let mut removals = Vec::new();
    for sets in copies.chunks(AT_ONCE) {
        let outcomes = store.commit(sets.to_vec()).await;
        for (set, outcome) in sets.iter().zip(outcomes) {
            let committed = outcome.expect("a commit");
            let key = set.puts[0].key;
            let mut removal = WriteSet::new(set.partition, Check::At(key, committed.revision));
            removal.deletes.push(key);
            removal.removals.clone_from(&set.additions);
            removals.push(removal);
        }
    }
    fixture.let_pass(Duration::from_secs(1));
    kept.extend([fixture.started("q").await, fixture.started("q").await]);
    (kept, removals)
}

fn copy(store: &dyn Store, number: u64, head: &Bytes, value: &Bytes) -> WriteSet {
    let key: Key = store.keyspace().key(&format!("operations/copy-{number}"));
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::Absent(key));
    let value = value.clone();
    set.puts.push(Put { key, visible: Mark::New, fencing: Mark::Keep(0), value });
    let member = [&head[..], key.as_bytes()].concat().into();
    set.additions.push(IndexEntry { index: Index::new("list"), member });
    set
}
