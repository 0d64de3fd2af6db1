//! Finished operations that are started again.

use tonic::Request;

use crate::support::*;

scenarios! {
    over every face;
    a_finished_operation_is_started_again_as_a_new_one,
    a_rerun_may_have_another_request,
    only_what_is_done_is_started_again,
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
