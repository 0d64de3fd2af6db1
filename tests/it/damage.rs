//! Records that cannot be read: each costs only itself, whatever is wrong with it.

use longhaul::operation::Record;
use longhaul::record::server::{SERVERS, Server, ServerId};
use longhaul::record::{Change, Kind, read, write_set};
use longhaul::store::{Check, Index, Key, Mark, Partition, Put, Scan, Store, WriteSet};

use crate::support::*;

scenarios! {
    a_record_that_cannot_be_read_costs_only_itself,
    a_record_that_cannot_be_read_is_left_alone_until_somebody_deletes_it,
    a_payload_that_is_gone_costs_only_its_operation,
    the_damaged_record_of_another_server_is_gone_past,
}

/// What can stand where a record should be, given what stood there and a whole record of another name.
fn damages(stored: &[u8], other: &[u8]) -> [(&'static str, Vec<u8>); 5] {
    [
        ("garbage", b"\xff\xfe?".to_vec()),
        ("nothing", Vec::new()),
        ("half of it", stored[..stored.len() / 2].to_vec()),
        // Field 99 holds an empty message: a kind that only a newer longhaul knows.
        ("an unknown kind", vec![0x9a, 0x06, 0x00]),
        ("the record of another name", other.to_vec()),
    ]
}

fn key(world: &World, name: &str) -> Key {
    world.store.keyspace().key(name)
}

fn partition(world: &World, name: &str) -> Partition {
    world.store.keyspace().partition(key(world, name))
}

async fn value(world: &World, name: &str) -> Option<Vec<u8>> {
    let found = world.store.get(&[key(world, name)]).await.expect("the store answers");
    found.into_iter().next().flatten().map(|record| record.value.to_vec())
}

async fn put(world: &World, name: &str, value: Vec<u8>) {
    let key = key(world, name);
    let found = world.store.get(&[key]).await.expect("the store answers");
    let revision = found[0].as_ref().expect("a record").revision;
    let mut set = WriteSet::new(partition(world, name), Check::At(key, revision));
    set.puts.push(Put { key, visible: Mark::New, fencing: Mark::Keep(0), value: value.into() });
    world.store.commit(vec![set]).await.remove(0).expect("damage");
}

async fn entries(world: &World, index: &'static str) -> usize {
    let scan = Scan::first(Index::new(index), 1_000);
    world.store.scan(scan).await.expect("the store answers").len()
}

/// Three operations of one queue; the second is damaged.
async fn three(world: &World, queue: &str) -> [String; 3] {
    let options = pb::OperationOptions { queue_timeout: seconds(100), ..Default::default() };
    let mut names = Vec::new();
    for _ in 0..3 {
        let request = pb::StartOperationRequest {
            parent: "projects/p".to_owned(),
            ..start_with(queue, options.clone())
        };
        names.push(world.start(request).await.granted().name);
        world.let_pass(Duration::from_millis(1));
    }
    names.try_into().expect("three")
}

async fn listed(world: &World, parent: &str) -> Vec<String> {
    let page = world.list(parent, 100, "").await.granted();
    page.operations.into_iter().map(|operation| operation.name).collect()
}

async fn a_record_that_cannot_be_read_costs_only_itself(world: &World) {
    let other = world.started("other").await;
    let other = value(world, &other).await.expect("a record");
    for kind in 0..5 {
        let [first, damaged, last] = three(world, "q").await;
        let stored = value(world, &damaged).await.expect("a record");
        let (what, bytes) = damages(&stored, &other).into_iter().nth(kind).expect("a kind");
        put(world, &damaged, bytes).await;

        assert_eq!(listed(world, "projects/p").await, [last.clone(), first.clone()], "{what}");
        assert_eq!(listed(world, "projects/-").await, [last.clone(), first.clone()], "{what}");
        for refused in [
            world.get(&damaged).await.map(drop),
            world.cancel(&damaged).await.map(drop),
            world.pause(&damaged).await.map(drop),
        ] {
            refused.refused(Code::Internal, "INTERNAL");
        }
        for name in [&first, &last] {
            let lease = world.lease("q").await;
            assert_eq!(&lease.operation, name, "{what}");
            world.complete(completion(&lease)).await.granted();
        }
        world.expect_no_lease("q").await;

        world.delete(&damaged).await.granted();
        world.get(&damaged).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
        world.delete(&damaged).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
        // Its entries go once somebody meets them.
        listed(world, "projects/p").await;
        world.expect_no_lease("q").await;
        world.pass(Duration::from_secs(101)).await;
        assert_eq!(entries(world, "ready/q").await, 0, "{what}");
        assert_eq!(entries(world, "due/queue").await, 0, "{what}");
        for name in [first, last] {
            world.delete(&name).await.granted();
        }
        assert!(listed(world, "projects/p").await.is_empty());
    }
    let answer = http::ask(world.address, "GET", "/metrics").await;
    assert!(answer.body.contains("longhaul_unreadable_records 0"), "{}", answer.body);
}

async fn a_record_that_cannot_be_read_is_left_alone_until_somebody_deletes_it(world: &World) {
    let other = world.started("other").await;
    let other = value(world, &other).await.expect("a record");
    let mut left = Vec::new();
    for kind in 0..5 {
        let [first, damaged, last] = three(world, "q").await;
        let stored = value(world, &damaged).await.expect("a record");
        let (_, bytes) = damages(&stored, &other).into_iter().nth(kind).expect("a kind");
        put(world, &damaged, bytes.clone()).await;
        left.push((first, damaged, last, bytes));
    }
    let due = entries(world, "due/queue").await;
    world.pass(Duration::from_secs(101)).await;
    world.pass(Duration::from_secs(1)).await;
    listed(world, "projects/p").await;
    world.expect_no_lease("q").await;
    for (first, damaged, last, bytes) in &left {
        for name in [first, last] {
            assert_eq!(world.state(name).await, State::Failed, "what is due behind it is done");
        }
        assert_eq!(value(world, damaged).await.as_ref(), Some(bytes));
    }
    assert_eq!(entries(world, "due/queue").await, due - 10);
    let answer = http::ask(world.address, "GET", "/metrics").await;
    assert!(answer.body.contains("longhaul_unreadable_records 5"), "{}", answer.body);
}

async fn a_payload_that_is_gone_costs_only_its_operation(world: &World) {
    let [first, damaged, last] = three(world, "q").await;
    for name in [&first, &damaged, &last] {
        let lease = world.lease("q").await;
        assert_eq!(&lease.operation, name);
        let large = Some(any("acme.Large", &[7; 10_000]));
        world
            .complete(pb::CompleteOperationRequest { response: large, ..completion(&lease) })
            .await
            .granted();
    }
    let key = key(world, &damaged);
    let record = world.store.get(&[key]).await.expect("there").remove(0).expect("a record");
    let mut set = WriteSet::new(partition(world, &damaged), Check::At(key, record.revision));
    set.body_deletes = read::<Record>(&record).expect("a record").record.bodies(key);
    assert!(!set.body_deletes.is_empty());
    world.store.commit(vec![set]).await.remove(0).expect("damage");

    assert_eq!(listed(world, "projects/p").await, [last.clone(), first.clone()]);
    world.get(&damaged).await.refused(Code::Internal, "INTERNAL");
    world.delete(&damaged).await.granted();
    assert_eq!(listed(world, "projects/p").await, [last, first]);
}

async fn the_damaged_record_of_another_server_is_gone_past(world: &World) {
    let ranks = longhaul::engine::Heartbeat;
    ranks.run_once(world.server.engine()).await.expect("a sign of life");
    let scan = Scan::first(Index::new(SERVERS), 10);
    let servers = world.store.scan(scan.clone()).await.expect("servers");
    assert_eq!(servers.len(), 1);
    let id = ServerId([9; 8]);
    let change = Change::of(Some(Server::this(id)));
    let mut beat = write_set(world.store.keyspace(), id.key(), None, &change);
    beat.puts[0].value = b"\xff\xfe?".as_slice().into();
    world.store.commit(vec![beat]).await.remove(0).expect("damage");
    ranks.run_once(world.server.engine()).await.expect("a sign of life");
    world.let_pass(Duration::from_secs(7));
    ranks.run_once(world.server.engine()).await.expect("a sign of life");
    assert_eq!(world.store.scan(scan).await.expect("servers").len(), 1, "it counts as gone");
}
