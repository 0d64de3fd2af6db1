//! Unreadable records: each affects only itself, for every kind of damage.

use longhaul::operation::Record;
use longhaul::record::server::{SERVERS, Served, ServerId, ServerRecord};
use longhaul::record::{Change, Kind, read, write_set};
use longhaul::store::{Check, Index, Key, Mark, Partition, Put, Scan, Store, WriteSet};

use crate::logging::Log;
use crate::support::*;

scenarios! {
    a_record_that_cannot_be_read_costs_only_itself,
    a_record_that_cannot_be_read_is_left_alone_until_somebody_deletes_it,
    a_record_of_a_newer_version_is_left_alone_and_named_as_one,
    a_payload_that_is_gone_costs_only_its_operation,
    the_damaged_record_of_another_server_is_gone_past,
}

/// A replacement for a record, given its value and a valid record of another name.
fn damages(stored: &[u8], other: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    [
        ("garbage", b"\xff\xfe?".to_vec()),
        ("nothing", Vec::new()),
        ("half of it", stored[..stored.len() / 2].to_vec()),
        ("the record of another name", other.to_vec()),
    ]
}

fn key(fixture: &Fixture, name: &str) -> Key {
    fixture.store.keyspace().key(name)
}

fn partition(fixture: &Fixture, name: &str) -> Partition {
    fixture.store.keyspace().partition(key(fixture, name))
}

async fn value(fixture: &Fixture, name: &str) -> Option<Vec<u8>> {
    let found = fixture.store.get(&[key(fixture, name)]).await.expect("the store answers");
    found.into_iter().next().flatten().map(|record| record.value.to_vec())
}

async fn put(fixture: &Fixture, name: &str, value: Vec<u8>) {
    let key = key(fixture, name);
    let found = fixture.store.get(&[key]).await.expect("the store answers");
    let revision = found[0].as_ref().expect("a record").revision;
    let mut set = WriteSet::new(partition(fixture, name), Check::At(key, revision));
    set.puts.push(Put { key, visible: Mark::New, fencing: Mark::Keep(0), value: value.into() });
    fixture.store.commit(vec![set]).await.remove(0).expect("damage");
}

async fn entries(fixture: &Fixture, index: &'static str) -> usize {
    let scan = Scan::first(Index::new(index), 1_000);
    fixture.store.scan(scan).await.expect("the store answers").len()
}

/// Three operations of one queue; the second is damaged.
async fn three(fixture: &Fixture, queue: &str) -> [String; 3] {
    let options = pb::OperationOptions { queue_timeout: seconds(100), ..Default::default() };
    let mut names = Vec::new();
    for _ in 0..3 {
        let request = pb::StartOperationRequest {
            parent: "projects/p".to_owned(),
            ..start_with(queue, options.clone())
        };
        names.push(fixture.start(request).await.granted().name);
        fixture.let_pass(Duration::from_millis(1));
    }
    names.try_into().expect("three")
}

async fn listed(fixture: &Fixture, parent: &str) -> Vec<String> {
    let page = fixture.list(parent, 100, "").await.granted();
    page.operations.into_iter().map(|operation| operation.name).collect()
}

async fn a_record_that_cannot_be_read_costs_only_itself(fixture: &Fixture) {
    let other = fixture.started("other").await;
    let other = value(fixture, &other).await.expect("a record");
    for kind in 0..4 {
        let [first, damaged, last] = three(fixture, "q").await;
        let stored = value(fixture, &damaged).await.expect("a record");
        let (what, bytes) = damages(&stored, &other).into_iter().nth(kind).expect("a kind");
        put(fixture, &damaged, bytes).await;

        assert_eq!(listed(fixture, "projects/p").await, [last.clone(), first.clone()], "{what}");
        assert_eq!(listed(fixture, "projects/-").await, [last.clone(), first.clone()], "{what}");
        for refused in [
            fixture.get(&damaged).await.map(drop),
            fixture.cancel(&damaged).await.map(drop),
            fixture.pause(&damaged).await.map(drop),
        ] {
            refused.refused(Code::Internal, "INTERNAL");
        }
        for name in [&first, &last] {
            let lease = fixture.lease("q").await;
            assert_eq!(&lease.operation, name, "{what}");
            fixture.complete(completion(&lease)).await.granted();
        }
        fixture.expect_no_lease("q").await;

        fixture.delete(&damaged).await.granted();
        fixture.get(&damaged).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
        fixture.delete(&damaged).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
        // Its entries go once somebody meets them.
        listed(fixture, "projects/p").await;
        fixture.expect_no_lease("q").await;
        fixture.pass(Duration::from_secs(101)).await;
        assert_eq!(entries(fixture, "ready/q").await, 0, "{what}");
        assert_eq!(entries(fixture, "due/queue").await, 0, "{what}");
        for name in [first, last] {
            fixture.delete(&name).await.granted();
        }
        assert!(listed(fixture, "projects/p").await.is_empty());
    }
    let answer = http::ask(fixture.address, "GET", "/metrics").await;
    assert!(answer.body.contains("longhaul_unreadable_records 0"), "{}", answer.body);
}

async fn a_record_that_cannot_be_read_is_left_alone_until_somebody_deletes_it(fixture: &Fixture) {
    let other = fixture.started("other").await;
    let other = value(fixture, &other).await.expect("a record");
    let mut left = Vec::new();
    for kind in 0..4 {
        let [first, damaged, last] = three(fixture, "q").await;
        let stored = value(fixture, &damaged).await.expect("a record");
        let (_, bytes) = damages(&stored, &other).into_iter().nth(kind).expect("a kind");
        put(fixture, &damaged, bytes.clone()).await;
        left.push((first, damaged, last, bytes));
    }
    let due = entries(fixture, "due/queue").await;
    fixture.pass(Duration::from_secs(101)).await;
    fixture.pass(Duration::from_secs(1)).await;
    listed(fixture, "projects/p").await;
    fixture.expect_no_lease("q").await;
    for (first, damaged, last, bytes) in &left {
        for name in [first, last] {
            assert_eq!(fixture.state(name).await, State::Failed, "what is due behind it is done");
        }
        assert_eq!(value(fixture, damaged).await.as_ref(), Some(bytes));
    }
    assert_eq!(entries(fixture, "due/queue").await, due - 8);
    let answer = http::ask(fixture.address, "GET", "/metrics").await;
    assert!(answer.body.contains("longhaul_unreadable_records 4"), "{}", answer.body);
}

async fn a_record_of_a_newer_version_is_left_alone_and_named_as_one(fixture: &Fixture) {
    let [first, newer, last] = three(fixture, "q").await;
    let log = Log::default();
    let guard = log.listen();
    put(fixture, &newer, OF_AN_UNKNOWN_KIND.to_vec()).await;
    assert_eq!(listed(fixture, "projects/p").await, [last, first]);
    for refused in [
        fixture.get(&newer).await.map(drop),
        fixture.cancel(&newer).await.map(drop),
        fixture.delete(&newer).await,
    ] {
        let said = refused.clone().expect_err("not to be touched").message().to_owned();
        assert!(said.contains("written by a newer longhaul"), "{said}");
        assert!(!said.contains("delet"), "{said}");
        refused.refused(Code::Internal, "INTERNAL");
    }
    fixture.pass(Duration::from_secs(101)).await;
    assert_eq!(value(fixture, &newer).await.as_deref(), Some(OF_AN_UNKNOWN_KIND));
    drop(guard);
    let errors = log.text();
    let errors: Vec<&str> = errors.lines().filter(|line| line.contains("ERROR ")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("written by a newer longhaul"), "{errors:?}");
    assert!(!errors[0].contains("delet"), "{errors:?}");
}

async fn a_payload_that_is_gone_costs_only_its_operation(fixture: &Fixture) {
    let [first, damaged, last] = three(fixture, "q").await;
    for name in [&first, &damaged, &last] {
        let lease = fixture.lease("q").await;
        assert_eq!(&lease.operation, name);
        let large = Some(any("acme.Large", &[7; 10_000]));
        fixture
            .complete(pb::CompleteOperationRequest { response: large, ..completion(&lease) })
            .await
            .granted();
    }
    let key = key(fixture, &damaged);
    let record = fixture.store.get(&[key]).await.expect("there").remove(0).expect("a record");
    let mut set = WriteSet::new(partition(fixture, &damaged), Check::At(key, record.revision));
    set.body_deletes = read::<Record>(&record).expect("a record").record.bodies(key);
    assert!(!set.body_deletes.is_empty());
    fixture.store.commit(vec![set]).await.remove(0).expect("damage");

    assert_eq!(listed(fixture, "projects/p").await, [last.clone(), first.clone()]);
    fixture.get(&damaged).await.refused(Code::Internal, "INTERNAL");
    fixture.delete(&damaged).await.granted();
    assert_eq!(listed(fixture, "projects/p").await, [last, first]);
}

async fn the_damaged_record_of_another_server_is_gone_past(fixture: &Fixture) {
    let ranks = longhaul::engine::Heartbeat;
    ranks.run_once(fixture.server.engine()).await.expect("a sign of life");
    let scan = Scan::first(Index::new(SERVERS), 10);
    let servers = fixture.store.scan(scan.clone()).await.expect("servers");
    assert_eq!(servers.len(), 1);
    let id = ServerId([9; 8]);
    let change = Change::of(Some(ServerRecord::this(id, Served::default())));
    let mut beat = write_set(fixture.store.keyspace(), id.key(), None, &change);
    beat.puts[0].value = b"\xff\xfe?".as_slice().into();
    fixture.store.commit(vec![beat]).await.remove(0).expect("damage");
    ranks.run_once(fixture.server.engine()).await.expect("a sign of life");
    fixture.let_pass(Duration::from_secs(7));
    ranks.run_once(fixture.server.engine()).await.expect("a sign of life");
    assert_eq!(fixture.store.scan(scan).await.expect("servers").len(), 1, "it counts as gone");
}

/// Field 99 holds an empty message: a kind of a newer longhaul.
const OF_AN_UNKNOWN_KIND: &[u8] = &[0x9a, 0x06, 0x00];
