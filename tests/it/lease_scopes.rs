//! Workers with a role below a parent: they get the operations of that parent and no others, however they ask.

use longhaul::proto::longhaul::v1::queues_client::QueuesClient;
use longhaul::record::tokens::Role;

use crate::support::identity::{by_tokens, grant, with};
use crate::support::stream::{hello, slots};
use crate::support::*;

scenarios! {
    a_worker_gets_the_operations_of_its_parent_and_no_others,
    a_stream_gets_the_operations_of_its_parent_and_no_others,
    a_start_is_leased_at_once_by_a_worker_of_its_parent_alone,
    what_others_have_ready_hides_nothing_and_is_left_alone,
    a_server_beside_keeps_to_the_scope_of_its_workers,
    who_may_not_lease_below_a_parent_cannot_start_and_lease_there,
    a_list_of_workers_names_operations_of_the_caller_s_parents_alone,
}

const OWN: &str = "projects/own";
const OTHER: &str = "projects/other";

fn below(parent: &str) -> pb::StartOperationRequest {
    pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") }
}

/// A token of a worker below that parent.
async fn worker(fixture: &Fixture, id: &str, parent: &str) -> String {
    fixture.token(id, vec![grant(Role::Worker, parent, &["q"])]).await
}

/// The operations that a worker with this token gets in one call.
async fn leased(server: &Fixture, token: &str, most: i32) -> Vec<String> {
    let request = pb::LeaseOperationsRequest { max_operations: most, ..leasing("q") };
    let mut workers = server.workers();
    let leased = within("leases", workers.lease_operations(with(token, request))).await.granted();
    leased.into_inner().leases.into_iter().map(|lease| lease.operation).collect()
}

async fn a_worker_gets_the_operations_of_its_parent_and_no_others(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = worker(fixture, "own", OWN).await;
    let other = fixture.start(below(OTHER)).await.granted().name;
    assert!(leased(&guarded, &token, 10).await.is_empty());
    let own = fixture.start(below(OWN)).await.granted().name;
    let deeper = fixture.start(below("projects/own/locations/l")).await.granted().name;
    let similar = fixture.start(below("projects/own2")).await.granted().name;
    let mut got = leased(&guarded, &token, 10).await;
    got.sort();
    let mut expected = vec![own, deeper];
    expected.sort();
    assert_eq!(got, expected);
    assert!(leased(&guarded, &token, 10).await.is_empty());
    // A worker of the whole server gets the rest.
    let all = worker(fixture, "all", "").await;
    let mut rest = leased(&guarded, &all, 10).await;
    rest.sort();
    let mut expected = vec![other, similar];
    expected.sort();
    assert_eq!(rest, expected);
    guarded.stop().await;
}

async fn a_stream_gets_the_operations_of_its_parent_and_no_others(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = worker(fixture, "own", OWN).await;
    let other = fixture.start(below(OTHER)).await.granted().name;
    let first = fixture.start(below(OWN)).await.granted().name;
    let mut stream = WorkerStream::open_as(&token, &guarded).await;
    stream.greet(hello("q"), 8).await;
    assert_eq!(stream.leases(1).await[0].operation, first);
    // It waits now: another of its own comes, and not the one before it.
    fixture.start(below(OTHER)).await.granted();
    let second = fixture.start(below(OWN)).await.granted().name;
    assert_eq!(stream.leases(1).await[0].operation, second);
    assert_eq!(fixture.state(&other).await, State::Pending);
    stream.half_close().await;
    guarded.stop().await;
}

async fn a_start_is_leased_at_once_by_a_worker_of_its_parent_alone(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let (own, other) = (worker(fixture, "own", OWN).await, worker(fixture, "other", OTHER).await);
    let starter = fixture.token("starter", vec![grant(Role::Caller, "", &["q"])]).await;
    let mut streams = Vec::new();
    for token in [&own, &other] {
        let mut stream = WorkerStream::open_as(token, &guarded).await;
        stream.greet(hello("q"), 1).await;
        streams.push(stream);
    }
    // Both wait, so each start commits with the lease of one of them.
    for (parent, stream) in [(OTHER, 1), (OWN, 0)] {
        let started = guarded.producers().start_operation(with(&starter, below(parent))).await;
        let name = started.granted().into_inner().name;
        assert_eq!(streams[stream].leases(1).await[0].operation, name);
    }
    // There is no room for another one of either.
    let started = guarded.producers().start_operation(with(&starter, below(OWN))).await;
    let waits = started.granted().into_inner().name;
    streams[1].say(slots(2)).await;
    let started = guarded.producers().start_operation(with(&starter, below(OTHER))).await;
    let name = started.granted().into_inner().name;
    assert_eq!(streams[1].leases(1).await[0].operation, name);
    assert_eq!(fixture.state(&waits).await, State::Pending);
    for stream in streams {
        stream.half_close().await;
    }
    guarded.stop().await;
}

async fn what_others_have_ready_hides_nothing_and_is_left_alone(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = worker(fixture, "own", OWN).await;
    for tenant in 0..OTHERS {
        for _ in 0..2 {
            fixture.start(below(&format!("projects/tenant-{tenant}"))).await.granted();
        }
    }
    let own = fixture.start(below(OWN)).await.granted().name;
    assert_eq!(leased(&guarded, &token, 1).await, [own]);
    assert!(leased(&guarded, &token, 100).await.is_empty());
    let queue = fixture.stats("-").await.granted().queue_counts.remove(0);
    assert_eq!((queue.pending_operations, queue.running_operations), (2 * OTHERS, 1));
    guarded.stop().await;
}

async fn a_server_beside_keeps_to_the_scope_of_its_workers(fixture: &Fixture) {
    let servers = [fixture.asking_for(by_tokens()).await, fixture.asking_for(by_tokens()).await];
    let (own, other) = (worker(fixture, "own", OWN).await, worker(fixture, "other", OTHER).await);
    let mut streams = Vec::new();
    for (server, token) in servers.iter().zip([&own, &other]) {
        let mut stream = WorkerStream::open_as(token, server).await;
        stream.greet(hello("q"), 8).await;
        streams.push(stream);
    }
    for _ in 0..3 {
        for (parent, stream) in [(OWN, 0), (OTHER, 1)] {
            let name = fixture.start(below(parent)).await.granted().name;
            assert_eq!(streams[stream].leases(1).await[0].operation, name);
        }
    }
    for stream in streams {
        stream.half_close().await;
    }
    for server in servers {
        server.stop().await;
    }
}

async fn who_may_not_lease_below_a_parent_cannot_start_and_lease_there(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let grants = vec![grant(Role::Caller, OTHER, &["q"]), grant(Role::Worker, OWN, &["q"])];
    let token = fixture.token("both", grants).await;
    let request = pb::StartLeasedOperationRequest {
        start: Some(below(OTHER)),
        worker: "w".to_owned(),
        ..Default::default()
    };
    let denied = guarded.workers().start_leased_operation(with(&token, request)).await;
    denied.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    guarded.stop().await;
}

async fn a_list_of_workers_names_operations_of_the_caller_s_parents_alone(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let all = worker(fixture, "all", "").await;
    let own = fixture.start(below(OWN)).await.granted().name;
    fixture.start(below(OTHER)).await.granted();
    assert_eq!(leased(&guarded, &all, 2).await.len(), 2);
    let token = worker(fixture, "own", OWN).await;
    for (token, seen) in [(&all, 2), (&token, 1)] {
        let request = pb::ListWorkersRequest { queue: "q".to_owned(), ..Default::default() };
        let mut queues = QueuesClient::new(guarded.line.clone());
        let page = queues.list_workers(with(token, request)).await.granted().into_inner();
        let held = page.workers.iter().flat_map(|worker| &worker.held_operations);
        let held: Vec<&str> = held.map(|held| held.operation.as_str()).collect();
        assert_eq!(held.len(), seen, "{held:?}");
        assert!(held.contains(&own.as_str()));
    }
    guarded.stop().await;
}

/// Tenants with work in the same queue.
const OTHERS: i64 = 30;
