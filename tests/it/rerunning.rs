//! Finished operations that are started again.

use longhaul::engine::TenantLimits;
use prost::Message;
use tonic::Request;

use crate::support::*;

scenarios! {
    over every face;
    a_finished_operation_is_started_again_as_a_new_one,
    a_rerun_may_have_another_request,
    only_what_is_done_is_started_again,
    all_that_matches_is_started_again_once,
    a_bulk_rerun_ends_after_its_number_and_another_goes_on_there,
    a_bulk_rerun_that_is_cancelled_or_paused_before_it_begins_starts_nothing,
    a_bulk_rerun_that_is_wrong_is_refused_by_its_field,
    no_request_can_name_the_queue_of_bulk_reruns;
    over grpc;
    a_bulk_rerun_at_a_limit_of_its_tenant_leaves_half_to_callers_and_goes_on_later,
    a_bulk_rerun_of_a_tenant_that_stores_all_it_may_waits_and_holds_up_no_other,
    a_bulk_rerun_goes_on_slowly_while_callers_take_all_that_their_tenant_may,
}

async fn rerun(
    fixture: &Fixture,
    request: pb::RerunOperationRequest,
) -> Result<(Operation, bool), tonic::Status> {
    let answer = within("rerun", fixture.callers().rerun_operation(Request::new(request))).await?;
    let replayed = answer.metadata().contains_key("longhaul-replayed");
    Ok((answer.into_inner(), replayed))
}

async fn a_finished_operation_is_started_again_as_a_new_one(fixture: &Fixture) {
    let payload = large("acme.Resize", 5_000);
    let first = fixture
        .running(pb::StartOperationRequest {
            parent: "projects/p".to_owned(),
            method: "resize".to_owned(),
            request: Some(payload.clone()),
            response_type: "acme.Resized".to_owned(),
            options: Some(pb::OperationOptions {
                priority: 7,
                deadline_time: Some(fixture.at(Duration::from_hours(1))),
                labels: [("team".to_owned(), "film".to_owned())].into(),
                ..Default::default()
            }),
            ..start("q")
        })
        .await;
    fixture.fail(failure(&first, Code::InvalidArgument)).await.granted();
    let name = first.operation.clone();
    let request = pb::RerunOperationRequest {
        name: name.clone(),
        request_id: "once".to_owned(),
        ..Default::default()
    };
    // Its deadline has passed, which does not keep the new one from being worked on.
    fixture.pass(Duration::from_hours(2)).await;
    let (again, replayed) = rerun(fixture, request.clone()).await.granted();
    assert!(again.name != name && !again.done && !replayed);
    let (same, replayed) = rerun(fixture, request.clone()).await.granted();
    assert!(same.name == again.name && replayed);
    let other = pb::RerunOperationRequest { request: Some(any("acme.Resize", b"x")), ..request };
    rerun(fixture, other).await.refused_field("REQUEST_ID_REUSED", "request_id");

    let record = fixture.record(&again.name).await;
    assert_eq!(
        (&*record.rerun_of, &*record.method, &*record.queue),
        (&*name, "resize", "queues/q")
    );
    let options = record.options.expect("options");
    assert_eq!((options.priority, options.labels["team"].as_str()), (7, "film"));
    assert_eq!(options.deadline_time, None);
    let lease = fixture.lease("q").await;
    assert_eq!((lease.operation.as_str(), lease.request.clone()), (&*again.name, Some(payload)));
    let wrong = pb::CompleteOperationRequest {
        response: Some(any("acme.Other", b"")),
        ..completion(&lease)
    };
    fixture.complete(wrong).await.refused(Code::InvalidArgument, "TYPE_MISMATCH");
}

async fn a_rerun_may_have_another_request(fixture: &Fixture) {
    let first = fixture.running(start("q")).await;
    fixture.complete(completion(&first)).await.granted();
    let request = Some(any("acme.Resize", b"\x08\x02"));
    let wanted = pb::RerunOperationRequest {
        name: first.operation,
        request: request.clone(),
        ..Default::default()
    };
    let (one, _) = rerun(fixture, wanted.clone()).await.granted();
    let (other, _) = rerun(fixture, wanted).await.granted();
    assert_ne!(one.name, other.name, "without a request id each is a new one");
    assert_eq!(fixture.lease("q").await.request, request);
}

async fn only_what_is_done_is_started_again(fixture: &Fixture) {
    let named =
        |name: &str| pb::RerunOperationRequest { name: name.to_owned(), ..Default::default() };
    let lease = fixture.running(start("q")).await;
    let refused = rerun(fixture, named(&lease.operation)).await;
    refused.refused(Code::FailedPrecondition, "INVALID_STATE");
    rerun(fixture, named("operations/none")).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
    fixture.complete(completion(&lease)).await.granted();
    fixture.delete(&lease.operation).await.granted();
    let refused = rerun(fixture, named(&lease.operation)).await;
    refused.refused(Code::NotFound, "OPERATION_DELETED");
    let large = pb::RerunOperationRequest {
        request: Some(large("acme.Resize", (1 << 20) + 1)),
        ..named("operations/none")
    };
    rerun(fixture, large).await.refused_field("PAYLOAD_TOO_LARGE", "request");
}

async fn rerun_all(
    fixture: &Fixture,
    request: pb::RerunOperationsRequest,
) -> Result<Operation, tonic::Status> {
    let answer = within("rerun", fixture.callers().rerun_operations(request)).await?;
    Ok(answer.into_inner())
}

fn failed(max_count: i32, page_token: &str) -> pb::RerunOperationsRequest {
    pb::RerunOperationsRequest {
        parent: "projects/-".to_owned(),
        filter: "state() = FAILED AND method() = resize".to_owned(),
        max_count,
        page_token: page_token.to_owned(),
        ..Default::default()
    }
}

/// Some that failed, below two parents, and others that do not match; the names of those that do.
async fn filled(fixture: &Fixture) -> Vec<String> {
    let mut names = Vec::new();
    for (parent, method, fails) in [
        ("projects/a", "resize", true),
        ("projects/b", "resize", true),
        ("projects/b", "resize", true),
        ("projects/b", "other", true),
        ("projects/b", "resize", false),
        ("", "resize", true),
    ] {
        let (parent, method) = (parent.to_owned(), method.to_owned());
        let request = pb::StartOperationRequest { parent, method, ..start("q") };
        let lease = fixture.running(request.clone()).await;
        if fails {
            fixture.fail(failure(&lease, Code::InvalidArgument)).await.granted();
        } else {
            fixture.complete(completion(&lease)).await.granted();
        }
        if fails && request.method == "resize" && !request.parent.is_empty() {
            names.push(lease.operation);
        }
        fixture.let_pass(Duration::from_millis(1));
    }
    fixture.started("later").await;
    names
}

/// Lets the server work on bulk reruns until none is left.
async fn work(fixture: &Fixture) {
    let engine = fixture.server.engine();
    while within("the bulk rerun", engine.work_on_rerun()).await.expect("the store answers") {}
}

/// The result of a bulk rerun that is done.
async fn result(fixture: &Fixture, name: &str) -> pb::RerunOperationsResponse {
    let done = fixture.get(name).await.granted();
    let response = response_of(&done);
    let wanted = "type.googleapis.com/longhaul.v1.RerunOperationsResponse";
    assert_eq!(response.type_url, wanted);
    pb::RerunOperationsResponse::decode(&response.value[..]).expect("the response")
}

/// Leases what waits; what each repeats.
async fn sources(fixture: &Fixture) -> Vec<String> {
    let mut names = Vec::new();
    let request = pb::LeaseOperationsRequest {
        queue: "q".to_owned(),
        worker: "w".to_owned(),
        max_operations: 100,
        ..Default::default()
    };
    let leases = within("lease", fixture.workers().lease_operations(request)).await.granted();
    for lease in leases.into_inner().leases {
        names.push(fixture.record(&lease.operation).await.rerun_of);
    }
    names.sort_unstable();
    names
}

async fn all_that_matches_is_started_again_once(fixture: &Fixture) {
    let names = filled(fixture).await;
    let request = pb::RerunOperationsRequest { request_id: "once".to_owned(), ..failed(0, "") };
    let bulk = rerun_all(fixture, request.clone()).await.granted();
    assert!(!bulk.done && bulk.name.starts_with("operations/"), "{bulk:?}");
    assert_eq!(rerun_all(fixture, request.clone()).await.granted().name, bulk.name);
    let other = pb::RerunOperationsRequest { max_count: 1, ..request };
    rerun_all(fixture, other).await.refused_field("REQUEST_ID_REUSED", "request_id");
    work(fixture).await;

    let response = result(fixture, &bulk.name).await;
    assert_eq!((response.rerun_count, response.failed_count), (3, 0));
    assert_eq!(response.next_page_token, "");
    let done = fixture.get(&bulk.name).await.granted();
    let metadata = done.metadata.expect("metadata");
    let metadata = pb::RerunOperationsMetadata::decode(&metadata.value[..]).expect("its type");
    assert_eq!((metadata.rerun_count, metadata.sample.len()), (3, 3));
    assert_eq!(sources(fixture).await, names);
    // Another one starts them again, but neither the first one nor what that one started.
    fixture.let_pass(Duration::from_millis(1));
    let every = pb::RerunOperationsRequest {
        parent: "-".to_owned(),
        filter: "done = true".to_owned(),
        ..Default::default()
    };
    let bulk = rerun_all(fixture, every).await.granted();
    work(fixture).await;
    assert_eq!(result(fixture, &bulk.name).await.rerun_count, 6);
}

async fn a_bulk_rerun_ends_after_its_number_and_another_goes_on_there(fixture: &Fixture) {
    let names = filled(fixture).await;
    let first = rerun_all(fixture, failed(2, "")).await.granted();
    work(fixture).await;
    let response = result(fixture, &first.name).await;
    assert_eq!(response.rerun_count, 2);
    let second = rerun_all(fixture, failed(2, &response.next_page_token)).await.granted();
    work(fixture).await;
    let response = result(fixture, &second.name).await;
    assert_eq!((response.rerun_count, &*response.next_page_token), (1, ""));
    assert_eq!(sources(fixture).await, names);

    let wrong = rerun_all(fixture, failed(2, "wrong")).await.granted();
    work(fixture).await;
    let done = fixture.get(&wrong.name).await.granted();
    assert_eq!(error_of(&done).code, Code::InvalidArgument as i32);
}

async fn a_bulk_rerun_that_is_cancelled_or_paused_before_it_begins_starts_nothing(
    fixture: &Fixture,
) {
    filled(fixture).await;
    let cancelled = rerun_all(fixture, failed(0, "")).await.granted();
    fixture.cancel(&cancelled.name).await.granted();
    let paused = rerun_all(fixture, failed(0, "")).await.granted();
    let pause = pb::PauseOperationRequest { name: paused.name.clone(), ..Default::default() };
    within("pause", fixture.callers().pause_operation(pause)).await.granted();
    work(fixture).await;
    assert_eq!(sources(fixture).await, [""; 0]);
    let done = fixture.get(&cancelled.name).await.granted();
    assert_eq!(error_of(&done).code, Code::Cancelled as i32);
    let resume = pb::ResumeOperationRequest { name: paused.name.clone(), ..Default::default() };
    within("resume", fixture.callers().resume_operation(resume)).await.granted();
    work(fixture).await;
    assert_eq!(result(fixture, &paused.name).await.rerun_count, 3);
}

async fn a_bulk_rerun_that_is_wrong_is_refused_by_its_field(fixture: &Fixture) {
    let with = |change: fn(&mut pb::RerunOperationsRequest)| {
        let mut request = failed(0, "");
        change(&mut request);
        rerun_all(fixture, request)
    };
    with(|it| it.filter.clear()).await.refused_field("INVALID_ARGUMENT", "filter");
    with(|it| "state(".clone_into(&mut it.filter)).await.refused_field("INVALID_FILTER", "filter");
    with(|it| "projects".clone_into(&mut it.parent))
        .await
        .refused_field("INVALID_ARGUMENT", "parent");
    with(|it| it.max_count = -1).await.refused_field("INVALID_ARGUMENT", "max_count");
    with(|it| it.max_count = 100_001).await.refused_field("INVALID_ARGUMENT", "max_count");
    with(|it| "\n".clone_into(&mut it.request_id))
        .await
        .refused_field("INVALID_ARGUMENT", "request_id");
    let checked = with(|it| it.validate_only = true).await.granted();
    fixture.get(&checked.name).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
}

async fn no_request_can_name_the_queue_of_bulk_reruns(fixture: &Fixture) {
    let bulk = rerun_all(fixture, failed(0, "")).await.granted();
    let queue = fixture.record(&bulk.name).await.queue;
    for queue in [queue.as_str(), queue.trim_start_matches("queues/")] {
        fixture.start(start(queue)).await.refused_field("INVALID_ARGUMENT", "queue");
        let queue = queue.to_owned();
        let request = pb::LeaseOperationsRequest { queue, ..Default::default() };
        let refused = within("lease", fixture.workers().lease_operations(request)).await;
        refused.refused_field("INVALID_ARGUMENT", "queue");
    }
}

/// Starts so many, all of which fail.
async fn failures(fixture: &Fixture, parent: &str, count: usize) {
    for _ in 0..count {
        let (parent, method) = (parent.to_owned(), "resize".to_owned());
        let lease =
            fixture.running(pb::StartOperationRequest { parent, method, ..start("q") }).await;
        fixture.fail(failure(&lease, Code::InvalidArgument)).await.granted();
        fixture.let_pass(Duration::from_millis(1));
    }
}

/// Lets time pass in which servers work on bulk reruns.
async fn later(fixture: &Fixture, duration: Duration) {
    fixture.pass(duration).await;
    work(fixture).await;
}

async fn waiting_in(fixture: &Fixture, parent: &str) -> i64 {
    let stats = fixture.stats(parent).await.granted();
    let waiting = stats.counts.iter().find(|count| count.state() == State::Pending);
    waiting.expect("a count").operations
}

async fn a_bulk_rerun_at_a_limit_of_its_tenant_leaves_half_to_callers_and_goes_on_later(
    fixture: &Fixture,
) {
    failures(fixture, "projects/a", 10).await;
    let limits = TenantLimits { starts_per_second: 4, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let bulk = rerun_all(&limited, failed(0, "")).await.granted().name;
    work(&limited).await;
    assert_eq!(waiting_in(&limited, "projects/a").await, 2);
    let mine = || pb::StartOperationRequest { parent: "projects/a".to_owned(), ..start("mine") };
    for _ in 0..2 {
        limited.start(mine()).await.granted();
    }
    limited.start(mine()).await.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    later(&limited, Duration::from_secs(2)).await;
    assert_eq!(waiting_in(&limited, "projects/a").await, 6);
    for _ in 0..3 {
        later(&limited, Duration::from_secs(2)).await;
    }
    let response = result(&limited, &bulk).await;
    assert_eq!((response.rerun_count, response.failed_count), (10, 0));
    assert_eq!(waiting_in(&limited, "projects/a").await, 12);
    limited.stop().await;
}

async fn a_bulk_rerun_of_a_tenant_that_stores_all_it_may_waits_and_holds_up_no_other(
    fixture: &Fixture,
) {
    failures(fixture, "projects/a", 3).await;
    failures(fixture, "projects/b", 1).await;
    let limits = TenantLimits { operations: 3, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let engine = limited.server.engine();
    engine.count_tenants().await.expect("counted");
    let below =
        |parent: &str| pb::RerunOperationsRequest { parent: parent.to_owned(), ..failed(0, "") };
    let full = rerun_all(&limited, below("projects/a")).await.granted().name;
    let other = rerun_all(&limited, below("projects/b")).await.granted().name;
    work(&limited).await;
    assert_eq!(result(&limited, &other).await.rerun_count, 1);
    for _ in 0..5 {
        later(&limited, Duration::from_secs(10)).await;
    }
    let waits = limited.record(&full).await;
    assert_eq!((waits.state(), waits.attempts.len()), (State::Pending, 0));
    // Room for one.
    let listed = limited.list("projects/a", 10, "").await.granted().operations;
    for operation in listed.iter().filter(|operation| operation.done).take(2) {
        limited.delete(&operation.name).await.granted();
    }
    engine.count_tenants().await.expect("counted");
    later(&limited, Duration::from_secs(10)).await;
    let response = result(&limited, &full).await;
    assert_eq!((response.rerun_count, response.failed_count), (1, 0));
    limited.stop().await;
}

async fn a_bulk_rerun_goes_on_slowly_while_callers_take_all_that_their_tenant_may(
    fixture: &Fixture,
) {
    failures(fixture, "projects/a", 2).await;
    let limits = TenantLimits { starts_per_second: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let mine = || pb::StartOperationRequest { parent: "projects/a".to_owned(), ..start("mine") };
    let all = async || {
        while limited.start(mine()).await.is_ok() {}
    };
    all().await;
    let bulk = rerun_all(&limited, failed(0, "")).await.granted().name;
    work(&limited).await;
    for second in 1..=30 {
        limited.pass(Duration::from_secs(1)).await;
        all().await;
        work(&limited).await;
        let done = limited.get(&bulk).await.granted().done;
        assert!(!done || second >= 20, "after {second} s");
    }
    assert_eq!(result(&limited, &bulk).await.rerun_count, 2);
    limited.stop().await;
}
