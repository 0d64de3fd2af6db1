//! Workers as operators see them, and the request to drain one.

use longhaul::engine::Heartbeat;
use longhaul::proto::longhaul::v1::queues_client::QueuesClient;
use tonic::Status;

use crate::queues::get;
use crate::support::stream::{self, Hello};
use crate::support::{rest, *};

scenarios! {
    over every face;
    workers_are_listed_with_what_they_hold,
    a_worker_without_a_stream_is_seen_as_far_as_its_calls_tell,
    pages_of_workers_go_by_queue_and_name,
    a_drained_worker_finishes_and_gets_nothing_more_until_it_is_resumed;
    over grpc;
    workers_of_other_servers_are_listed_with_what_they_hold,
    a_drain_reaches_a_worker_of_another_server,
    a_process_that_takes_the_name_of_a_drained_one_gets_work,
    what_cannot_be_is_refused_by_name,
    a_lease_that_ends_on_another_server_is_not_shown_any_more,
}

fn process(id: i64) -> pb::WorkerProcess {
    pb::WorkerProcess {
        host: "host-1".to_owned(),
        process_id: id,
        start_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        sdk_language: "rust".to_owned(),
        sdk_version: "0.1.0".to_owned(),
    }
}

fn hello(queue: &str, worker: &str, id: i64) -> Hello {
    Hello { worker: worker.to_owned(), process: Some(process(id)), ..stream::hello(queue) }
}

fn queues(fixture: &Fixture) -> QueuesClient<rest::Line> {
    QueuesClient::new(fixture.line.clone())
}

async fn page(
    fixture: &Fixture,
    request: pb::ListWorkersRequest,
) -> Result<pb::ListWorkersResponse, Status> {
    let page = within("workers", queues(fixture).list_workers(request)).await;
    page.map(tonic::Response::into_inner)
}

async fn workers(fixture: &Fixture, queue: &str) -> Vec<pb::Worker> {
    let request = pb::ListWorkersRequest { queue: queue.to_owned(), ..Default::default() };
    page(fixture, request).await.granted().workers
}

async fn drain(fixture: &Fixture, queue: &str, worker: &str) -> Result<Vec<pb::Worker>, Status> {
    let request = pb::DrainWorkerRequest { queue: queue.to_owned(), worker: worker.to_owned() };
    let drained = within("a drain", queues(fixture).drain_worker(request)).await;
    drained.map(|drained| drained.into_inner().workers)
}

async fn resume(fixture: &Fixture, queue: &str, worker: &str) -> Result<Vec<pb::Worker>, Status> {
    let request = pb::ResumeWorkerRequest { queue: queue.to_owned(), worker: worker.to_owned() };
    let resumed = within("the end of a drain", queues(fixture).resume_worker(request)).await;
    resumed.map(|resumed| resumed.into_inner().workers)
}

/// Both servers tell of their workers, and know what the other told.
async fn beat(servers: [&Fixture; 2]) {
    for server in servers.into_iter().chain(servers) {
        Heartbeat.run_once(server.server.engine()).await.expect("a beat");
    }
}

async fn workers_are_listed_with_what_they_hold(fixture: &Fixture) {
    assert!(workers(fixture, "").await.is_empty());
    let mut stream = WorkerStream::serving(fixture, hello("q", "w", 7), 3).await;
    let (first, second) = (fixture.started("q").await, fixture.started("q").await);
    let leases = stream.leases(2).await;
    stream.settle(stream::complete(&leases[0])).await;
    let heard = fixture.at(Duration::ZERO);
    fixture.let_pass(Duration::from_secs(2));
    let listed = workers(fixture, "queues/q").await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    let worker = &listed[0];
    assert_eq!((&*worker.queue, &*worker.worker, worker.slots), ("queues/q", "w", 3));
    assert_eq!(worker.process, Some(process(7)));
    assert!(worker.stream && !worker.drained && !worker.server.is_empty());
    assert_eq!(worker.held_count, 1);
    let held = &worker.held_operations[0];
    let left = if leases[0].operation == first { second } else { first };
    assert_eq!((&held.operation, held.attempt), (&left, 1));
    assert_at(worker.heard_time, heard);
    let queue = get(fixture, "q").await.granted();
    assert_eq!((queue.workers, queue.unserved), (1, false));
    assert_at(queue.last_lease_request_time, fixture.at(Duration::ZERO));
    // Nobody serves this one.
    fixture.started("typo").await;
    let queue = get(fixture, "typo").await.granted();
    assert_eq!((queue.workers, queue.unserved, queue.last_lease_request_time), (0, true, None));
    stream.half_close().await;
    assert!(workers(fixture, "q").await.is_empty());
    assert!(get(fixture, "q").await.granted().unserved);
}

async fn a_worker_without_a_stream_is_seen_as_far_as_its_calls_tell(fixture: &Fixture) {
    fixture.started("q").await;
    let request = pb::LeaseOperationsRequest {
        worker: "cron".to_owned(),
        process: Some(process(8)),
        ..leasing("q")
    };
    let lease = fixture.leases(request.clone()).await.granted().remove(0);
    let worker = workers(fixture, "q").await.remove(0);
    assert_eq!((&*worker.worker, worker.stream, worker.slots), ("cron", false, 0));
    assert_eq!(worker.process, Some(process(8)));
    assert_eq!(worker.held_count, 1);
    assert_eq!(worker.held_operations[0].operation, lease.operation);
    fixture.let_pass(Duration::from_secs(20));
    fixture.renew(vec![renewal(&lease)]).await.granted();
    let heard = fixture.at(Duration::ZERO);
    fixture.let_pass(Duration::from_secs(3));
    let worker = workers(fixture, "q").await.remove(0);
    assert_at(worker.heard_time, heard);
    fixture.complete(completion(&lease)).await.granted();
    let worker = workers(fixture, "q").await.remove(0);
    assert_eq!((worker.held_count, worker.held_operations.len()), (0, 0));
    assert_eq!(get(fixture, "q").await.granted().workers, 1);
    // One that calls no more is forgotten.
    fixture.let_pass(Duration::from_secs(61));
    assert!(workers(fixture, "q").await.is_empty());
    assert_eq!(get(fixture, "q").await.granted().workers, 0);
    // One whose lease is lost holds nothing.
    fixture.started("q").await;
    fixture.leases(request).await.granted();
    fixture.pass(Duration::from_secs(31)).await;
    assert_eq!(workers(fixture, "q").await[0].held_count, 0);
}

async fn pages_of_workers_go_by_queue_and_name(fixture: &Fixture) {
    let mut streams = Vec::new();
    for (queue, worker) in [("b", "x"), ("a", "y"), ("a", "x"), ("a", "x")] {
        streams.push(WorkerStream::serving(fixture, hello(queue, worker, 7), 1).await);
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListWorkersRequest { page_size: 1, page_token, ..Default::default() };
        let page = page(fixture, request).await.granted();
        assert_eq!(page.workers.len(), 1);
        names.extend(page.workers.into_iter().map(|worker| worker.queue + "/" + &worker.worker));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["queues/a/x", "queues/a/x", "queues/a/y", "queues/b/x"]);
    assert_eq!(workers(fixture, "queues/-").await.len(), 4);
    assert_eq!(workers(fixture, "b").await.len(), 1);
}

async fn a_drained_worker_finishes_and_gets_nothing_more_until_it_is_resumed(fixture: &Fixture) {
    let mut stream = WorkerStream::serving(fixture, hello("q", "w", 7), 3).await;
    fixture.started("q").await;
    let held = stream.leases(1).await.remove(0);
    let drained = drain(fixture, "q", "w").await.granted();
    assert_eq!((drained.len(), drained[0].drained), (1, true));
    while stream.hear().await.drain_duration.is_none() {}
    let waiting = fixture.started("q").await;
    assert_eq!(fixture.state(&waiting).await, State::Pending, "no eager start");
    assert!(workers(fixture, "q").await[0].drained);
    stream.settle(stream::complete(&held)).await;
    assert_eq!(fixture.state(&held.operation).await, State::Succeeded);
    // It comes back, and is told no more.
    stream.half_close().await;
    let mut stream = WorkerStream::serving(fixture, hello("q", "w", 7), 3).await;
    assert!(workers(fixture, "q").await[0].drained);
    stream.settle(stream::complete_nothing()).await;
    assert_eq!(fixture.state(&waiting).await, State::Pending);
    // Another worker is not drained.
    assert_eq!(fixture.lease("q").await.operation, waiting);
    let resumed = resume(fixture, "q", "w").await.granted();
    assert_eq!((resumed[0].worker.as_str(), resumed[0].drained), ("w", false));
    let next = fixture.started("q").await;
    assert_eq!(stream.leases(1).await[0].operation, next);

    // A worker without a stream waits in vain.
    let request = pb::LeaseOperationsRequest {
        worker: "cron".to_owned(),
        wait_duration: seconds(43),
        ..leasing("unary")
    };
    let one = fixture.leasing(request.clone());
    fixture.clock.asked_for(Duration::from_secs(43), 1).await;
    drain(fixture, "unary", "cron").await.granted();
    let waiting = fixture.started("unary").await;
    fixture.let_pass(Duration::from_secs(43));
    assert!(one.end().await.granted().is_empty());
    let two = fixture.leasing(request.clone());
    fixture.clock.asked_for(Duration::from_secs(43), 2).await;
    assert!(workers(fixture, "unary").await[0].drained);
    resume(fixture, "unary", "cron").await.granted();
    assert_eq!(two.end().await.granted()[0].operation, waiting);
}

async fn workers_of_other_servers_are_listed_with_what_they_hold(fixture: &Fixture) {
    let other = fixture.beside().await;
    beat([fixture, &other]).await;
    // Before the stream: the other server would leave what it is told of to the first one for a moment, and time stands.
    let name = other.started("q").await;
    let mut stream = WorkerStream::serving(&other, hello("q", "w", 7), 3).await;
    stream.leases(1).await;
    assert!(workers(fixture, "q").await.is_empty(), "not told yet");
    beat([fixture, &other]).await;
    let worker = workers(fixture, "q").await.remove(0);
    assert_eq!((&*worker.worker, worker.slots, worker.held_count), ("w", 3, 1));
    assert_eq!(worker.held_operations[0].operation, name);
    assert_eq!(worker.process, Some(process(7)));
    assert_eq!(get(fixture, "q").await.granted().workers, 1);
    // What a server told that is gone counts for some seconds.
    fixture.let_pass(Duration::from_secs(7));
    assert!(workers(fixture, "q").await.is_empty());
    assert_eq!(get(fixture, "q").await.granted().workers, 0);
}

async fn a_drain_reaches_a_worker_of_another_server(fixture: &Fixture) {
    let other = fixture.beside().await;
    beat([fixture, &other]).await;
    let mut stream = WorkerStream::serving(&other, hello("q", "w", 7), 3).await;
    drain(fixture, "q", "w").await.refused(Code::NotFound, "WORKER_NOT_FOUND");
    beat([fixture, &other]).await;
    drain(fixture, "q", "w").await.granted();
    // The stream is told by a hint.
    while stream.hear().await.drain_duration.is_none() {}
    let name = other.started("q").await;
    assert_eq!(other.state(&name).await, State::Pending);
    resume(fixture, "q", "w").await.granted();
    assert_eq!(stream.leases(1).await[0].operation, name);
}

async fn a_process_that_takes_the_name_of_a_drained_one_gets_work(fixture: &Fixture) {
    let old = WorkerStream::serving(fixture, hello("q", "w", 7), 1).await;
    drain(fixture, "q", "w").await.granted();
    old.half_close().await;
    let mut new = WorkerStream::serving(fixture, hello("q", "w", 9), 1).await;
    let name = fixture.started("q").await;
    assert_eq!(new.leases(1).await[0].operation, name);
    // One that does not say which process it is goes by its name.
    let nameless = Hello { process: None, ..hello("p", "w", 7) };
    let old = WorkerStream::serving(fixture, nameless.clone(), 1).await;
    drain(fixture, "p", "w").await.granted();
    old.half_close().await;
    let mut new = WorkerStream::serving(fixture, nameless, 1).await;
    let name = fixture.started("p").await;
    new.settle(stream::complete_nothing()).await;
    assert_eq!(fixture.state(&name).await, State::Pending);
}

async fn what_cannot_be_is_refused_by_name(fixture: &Fixture) {
    drain(fixture, "", "w").await.refused_field("INVALID_ARGUMENT", "queue");
    drain(fixture, "q", "").await.refused_field("INVALID_ARGUMENT", "worker");
    drain(fixture, "a/b", "w").await.refused_field("INVALID_NAME", "queue");
    resume(fixture, "q", &"x".repeat(200)).await.refused_field("INVALID_ARGUMENT", "worker");
    let metadata = drain(fixture, "q", "w").await.refused(Code::NotFound, "WORKER_NOT_FOUND");
    assert_eq!((&*metadata["queue"], &*metadata["worker"]), ("queues/q", "w"));
    assert!(resume(fixture, "q", "w").await.granted().is_empty());
    let long = pb::WorkerProcess { host: "x".repeat(129), ..process(7) };
    for (process, field) in [(process(-1), "process_id"), (long, "host")] {
        let request = pb::LeaseOperationsRequest { process: Some(process.clone()), ..leasing("q") };
        let refused = fixture.leases(request).await;
        refused.refused_field("INVALID_ARGUMENT", &format!("process.{field}"));
        let mut stream = WorkerStream::open(fixture).await;
        let hello = Hello { process: Some(process), ..stream::hello("q") };
        stream.say(stream::Request { hello: Some(hello), ..Default::default() }).await;
        let refused = stream.message().await;
        refused.refused_field("INVALID_ARGUMENT", &format!("hello.process.{field}"));
    }
}

async fn a_lease_that_ends_on_another_server_is_not_shown_any_more(fixture: &Fixture) {
    let other = fixture.beside().await;
    let mut leases = Vec::new();
    for _ in 0..2 {
        fixture.started("q").await;
        let request = pb::LeaseOperationsRequest { worker: "cron".to_owned(), ..leasing("q") };
        leases.extend(fixture.leases(request).await.granted());
    }
    assert_eq!(workers(fixture, "q").await[0].held_count, 2);
    other.complete(completion(&leases[0])).await.granted();
    // The hint says so.
    let one = async { while workers(fixture, "q").await[0].held_count != 1 {} };
    within("the end of a lease", one).await;
    // A renewal by another server is no end.
    fixture.let_pass(Duration::from_secs(20));
    other.renew(vec![renewal(&leases[1])]).await.granted();
    fixture.let_pass(Duration::from_secs(20));
    assert_eq!(workers(fixture, "q").await[0].held_count, 1);
}
