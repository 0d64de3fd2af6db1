//! Queues as operators see and change them.

use longhaul::clock::Clock;
use longhaul::proto::longhaul::v1::queues_client::QueuesClient;
use longhaul::store::faulty::Fault;
use pb::queue::State as QueueState;
use tonic::Status;

use crate::support::rest;
use crate::support::stream::{self, Request as StreamRequest};
use crate::support::*;

scenarios! {
    over every face;
    a_queue_is_listed_while_it_has_work_or_settings,
    pages_of_queues_go_by_name,
    settings_are_changed_as_the_mask_says_and_guarded_by_the_etag,
    settings_that_cannot_be_are_refused_by_name_and_change_nothing,
    a_paused_queue_gives_nothing_and_what_runs_goes_on;
    over grpc;
    a_pause_holds_on_every_server_and_its_end_wakes_the_workers,
    a_change_of_unknown_outcome_is_made_once,
    leases_of_a_limited_queue_are_spread_evenly,
    a_priority_counts_for_as_long_as_the_queue_says,
}

impl Fixture {
    fn queues(&self) -> QueuesClient<rest::Line> {
        QueuesClient::new(self.line.clone())
    }
}

async fn answer<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    within("an answer about queues", call).await.map(tonic::Response::into_inner)
}

pub(crate) async fn get(fixture: &Fixture, name: &str) -> Result<pb::Queue, Status> {
    answer(fixture.queues().get_queue(pb::GetQueueRequest { name: name.to_owned() })).await
}

pub(crate) async fn pause(fixture: &Fixture, name: &str) -> Result<pb::Queue, Status> {
    let request = pb::PauseQueueRequest { name: name.to_owned(), ..Default::default() };
    answer(fixture.queues().pause_queue(request)).await
}

pub(crate) async fn resume(fixture: &Fixture, name: &str) -> Result<pb::Queue, Status> {
    let request = pb::ResumeQueueRequest { name: name.to_owned(), ..Default::default() };
    answer(fixture.queues().resume_queue(request)).await
}

pub(crate) async fn update(
    fixture: &Fixture,
    queue: pb::Queue,
    mask: &[&str],
) -> Result<pb::Queue, Status> {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!mask.is_empty()).then_some(prost_types::FieldMask { paths });
    let request = pb::UpdateQueueRequest { queue: Some(queue), update_mask };
    answer(fixture.queues().update_queue(request)).await
}

async fn page(
    fixture: &Fixture,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListQueuesResponse, Status> {
    let page_token = page_token.to_owned();
    answer(fixture.queues().list_queues(pb::ListQueuesRequest { page_size, page_token })).await
}

async fn listed(fixture: &Fixture) -> Vec<String> {
    let page = page(fixture, 0, "").await.granted();
    assert_eq!(page.next_page_token, "");
    page.queues.into_iter().map(|queue| queue.name).collect()
}

/// A queue of that name with nothing else set.
pub(crate) fn queue(name: &str) -> pb::Queue {
    pb::Queue { name: name.to_owned(), ..Default::default() }
}

async fn a_queue_is_listed_while_it_has_work_or_settings(fixture: &Fixture) {
    assert!(listed(fixture).await.is_empty());
    let empty = get(fixture, "queues/none").await.granted();
    assert_eq!((empty.state(), &*empty.name), (QueueState::Active, "queues/none"));
    assert_eq!((empty.pending_operations, empty.oldest_pending_time), (0, None));
    assert_eq!(empty.aging_interval, seconds(60));

    let before = fixture.at(Duration::ZERO);
    fixture.started("b").await;
    fixture.let_pass(Duration::from_secs(7));
    fixture.started("b").await;
    let running = fixture.running(start("a")).await;
    pause(fixture, "c").await.granted();
    assert_eq!(listed(fixture).await, ["queues/a", "queues/b", "queues/c"]);
    let b = get(fixture, "b").await.granted();
    assert_eq!((b.pending_operations, b.running_operations), (2, 0));
    assert_at(b.oldest_pending_time, before);
    let a = get(fixture, "queues/a").await.granted();
    assert_eq!((a.pending_operations, a.running_operations), (0, 1));
    assert_eq!(a.oldest_pending_time, None);

    fixture.complete(completion(&running)).await.granted();
    resume(fixture, "c").await.granted();
    assert_eq!(listed(fixture).await, ["queues/a", "queues/b"], "a worker was there a moment ago");
    fixture.let_pass(Duration::from_mins(2));
    assert_eq!(listed(fixture).await, ["queues/b"]);
}

async fn pages_of_queues_go_by_name(fixture: &Fixture) {
    for queue in ["d", "b", "a.1", "c", "a"] {
        fixture.started(queue).await;
    }
    pause(fixture, "b.2").await.granted();
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(fixture, 2, &token).await.granted();
        assert_eq!(page.queues.len(), 2);
        names.extend(page.queues.into_iter().map(|queue| queue.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "a.1", "b", "b.2", "c", "d"].map(|id| format!("queues/{id}")));
    page(fixture, -1, "").await.refused_field("INVALID_ARGUMENT", "page_size");
    page(fixture, 2, "x").await.refused_field("INVALID_PAGE_TOKEN", "page_token");
}

async fn settings_are_changed_as_the_mask_says_and_guarded_by_the_etag(fixture: &Fixture) {
    let first = get(fixture, "q").await.granted();
    let wanted = pb::Queue {
        max_leases_per_second: 2.5,
        aging_interval: seconds(10),
        etag: first.etag.clone(),
        ..queue("q")
    };
    let one = update(fixture, wanted.clone(), &["max_leases_per_second"]).await.granted();
    assert!((one.max_leases_per_second - 2.5).abs() < f64::EPSILON);
    assert_eq!(one.aging_interval, seconds(60));
    assert_ne!(one.etag, first.etag);
    let refused = update(fixture, wanted.clone(), &["aging_interval"]).await;
    let metadata = refused.refused(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!((&metadata["etag"], &*metadata["name"]), (&one.etag, "queues/q"));
    // Without a mask, what is set is changed.
    let wanted = pb::Queue { max_leases_per_second: 0.0, etag: one.etag, ..wanted };
    let two = update(fixture, wanted, &[]).await.granted();
    assert!((two.max_leases_per_second - 2.5).abs() < f64::EPSILON);
    assert_eq!(two.aging_interval, seconds(10));
    // A change that changes nothing is none.
    let same = update(fixture, two.clone(), &["*"]).await.granted();
    assert_eq!(same, two);
    for etag in ["\"1\"", &first.etag] {
        let request = pb::PauseQueueRequest { name: "queues/q".to_owned(), etag: etag.to_owned() };
        let refused = answer(fixture.queues().pause_queue(request)).await;
        refused.refused(Code::Aborted, "ETAG_MISMATCH");
    }
    let back = update(fixture, queue("q"), &["*"]).await.granted();
    assert_eq!(back, first, "as at first");
    assert!(listed(fixture).await.is_empty());
}

async fn settings_that_cannot_be_are_refused_by_name_and_change_nothing(fixture: &Fixture) {
    let q = || queue("queues/q");
    let refusals = [
        (queue(""), &["*"][..], "INVALID_ARGUMENT", "queue.name"),
        (queue("a/b"), &["*"], "INVALID_NAME", "queue.name"),
        (q(), &[], "INVALID_ARGUMENT", "update_mask"),
        (q(), &["state"], "INVALID_ARGUMENT", "update_mask"),
        (q(), &["max_running", "no_such_field"], "INVALID_ARGUMENT", "update_mask"),
        (q(), &["*", "max_running"], "INVALID_ARGUMENT", "update_mask"),
        (
            pb::Queue { max_running: -1, ..q() },
            &["max_running"],
            "INVALID_ARGUMENT",
            "queue.max_running",
        ),
        (
            pb::Queue { max_leases_per_second: -0.5, ..q() },
            &[],
            "INVALID_ARGUMENT",
            "queue.max_leases_per_second",
        ),
        (
            pb::Queue { max_leases_per_second: 1e9, ..q() },
            &["*"],
            "INVALID_ARGUMENT",
            "queue.max_leases_per_second",
        ),
        (
            pb::Queue { max_leases_per_second: f64::NAN, ..q() },
            &["*"],
            "INVALID_ARGUMENT",
            "queue.max_leases_per_second",
        ),
        (
            pb::Queue {
                aging_interval: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                ..q()
            },
            &["aging_interval"],
            "INVALID_ARGUMENT",
            "queue.aging_interval",
        ),
    ];
    for (queue, mask, reason, field) in refusals {
        // Over HTTP the path has the name.
        let is_nameless = queue.name.is_empty() || queue.name == "a/b";
        if is_nameless && matches!(fixture.line, rest::Line::Http(_)) {
            continue;
        }
        update(fixture, queue, mask).await.refused_field(reason, field);
    }
    let nothing = pb::UpdateQueueRequest::default();
    if matches!(fixture.line, rest::Line::Grpc(_)) {
        answer(fixture.queues().update_queue(nothing))
            .await
            .refused_field("INVALID_ARGUMENT", "queue");
        get(fixture, "").await.refused_field("INVALID_ARGUMENT", "name");
        pause(fixture, "queues/a b").await.refused_field("INVALID_NAME", "name");
    }
    assert!(listed(fixture).await.is_empty());
}

async fn a_paused_queue_gives_nothing_and_what_runs_goes_on(fixture: &Fixture) {
    let running = fixture.running(start("q")).await;
    let paused = pause(fixture, "queues/q").await.granted();
    assert_eq!((paused.state(), paused.running_operations), (QueueState::Paused, 1));
    assert_eq!(pause(fixture, "q").await.granted(), paused, "again");
    let waiting = fixture.started("q").await;
    fixture.expect_no_lease("q").await;
    fixture.report(report(&running)).await.granted();
    fixture.complete(completion(&running)).await.granted();
    assert_eq!(fixture.state(&running.operation).await, State::Succeeded);
    // Another queue does not care.
    fixture.running(start("other")).await;
    assert_eq!(resume(fixture, "q").await.granted().state(), QueueState::Active);
    assert_eq!(fixture.lease("q").await.operation, waiting);
}

async fn a_pause_holds_on_every_server_and_its_end_wakes_the_workers(fixture: &Fixture) {
    let other = fixture.beside().await;
    // One worker waits on each server, on a stream and without.
    let mut on_stream = WorkerStream::serving(&other, stream::hello("q"), 2).await;
    pause(fixture, "q").await.granted();
    assert_eq!(get(&other, "q").await.granted().state(), QueueState::Paused);
    let wait_duration = seconds(41);
    let unary = fixture.leasing(pb::LeaseOperationsRequest { wait_duration, ..leasing("q") });
    fixture.clock.asked_for(Duration::from_secs(41), 1).await;
    let mut names = Vec::new();
    for server in [fixture, &other, fixture] {
        let name = server.started("q").await;
        assert_eq!(server.state(&name).await, State::Pending, "no eager start");
        names.push(name);
    }
    other.expect_no_lease("q").await;
    let reply = on_stream.settle(stream::complete_nothing()).await;
    assert_eq!(reply.len(), 1, "and no lease");

    resume(fixture, "q").await.granted();
    let mut leased: Vec<String> =
        unary.end().await.granted().into_iter().map(|lease| lease.operation).collect();
    leased.extend(on_stream.leases(2).await.into_iter().map(|lease| lease.operation));
    leased.sort_unstable();
    names.sort_unstable();
    assert_eq!(leased, names);
    on_stream.say(StreamRequest::default()).await;
}

async fn a_change_of_unknown_outcome_is_made_once(fixture: &Fixture) {
    for fault in [Fault::AppliedUnknown, Fault::LostUnknown] {
        let etag = get(fixture, "q").await.granted().etag;
        fixture.store.inject([fault]);
        let request = pb::PauseQueueRequest { name: "q".to_owned(), etag };
        let paused = answer(fixture.queues().pause_queue(request)).await.granted();
        assert_eq!(paused.state(), QueueState::Paused, "{fault:?}");
        fixture.store.inject([fault]);
        let request = pb::ResumeQueueRequest { name: "q".to_owned(), etag: paused.etag };
        let resumed = answer(fixture.queues().resume_queue(request)).await.granted();
        assert_eq!(resumed.state(), QueueState::Active, "{fault:?}");
    }
}

async fn a_priority_counts_for_as_long_as_the_queue_says(fixture: &Fixture) {
    let wanted = pb::Queue { aging_interval: seconds(5), ..queue("q") };
    update(fixture, wanted, &[]).await.granted();
    let start = async |priority: i32| {
        let options = pb::OperationOptions { priority, ..Default::default() };
        fixture.start(start_with("q", options)).await.granted().name
    };
    let old = start(0).await;
    fixture.let_pass(Duration::from_secs(13));
    let (two_steps, three_steps) = (start(2).await, start(3).await);
    for name in [three_steps, old, two_steps] {
        assert_eq!(fixture.lease("q").await.operation, name);
    }
}

async fn leases_of_a_limited_queue_are_spread_evenly(fixture: &Fixture) {
    let limited = pb::Queue { max_leases_per_second: 2.0, ..queue("q") };
    update(fixture, limited, &[]).await.granted();
    let mut stream = WorkerStream::serving(fixture, stream::hello("q"), 100).await;
    let mut started = Vec::new();
    for _ in 0..8 {
        started.push(fixture.started("q").await);
    }
    // The first goes at once, each other half a second after the one before.
    let begin = fixture.clock.elapsed();
    let leases = fixture.passing("the leases", stream.leases(8)).await;
    let took = fixture.clock.elapsed().saturating_sub(begin);
    assert!(took >= Duration::from_millis(3_490), "{took:?}");
    let mut leased: Vec<String> = leases.into_iter().map(|lease| lease.operation).collect();
    leased.sort_unstable();
    started.sort_unstable();
    assert_eq!(leased, started);
    // Without a limit, the rest goes at once.
    for _ in 0..8 {
        fixture.started("q").await;
    }
    update(fixture, queue("q"), &["*"]).await.granted();
    stream.leases(8).await;
}
