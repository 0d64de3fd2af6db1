//! Starting operations, once each.

use prost::Message;
use tonic::{Request, Response};

use crate::support::*;

scenarios! {
    over every face;
    validate_only_starts_nothing,
    a_batch_gives_each_start_its_own_result,
    a_batch_out_of_bounds_is_refused_whole,
    a_start_is_visible_the_instant_it_returns,
    metadata_policies_decide_what_callers_see,
    a_trace_parent_is_stored_and_handed_to_the_worker,
}

async fn validate_only_starts_nothing(fixture: &Fixture) {
    let request = pb::StartOperationRequest {
        operation_id: "one".to_owned(),
        response_type: "acme.Done".to_owned(),
        validate_only: true,
        ..start("q")
    };
    let checked = fixture.start(request.clone()).await.granted();
    assert_eq!(checked.name, "operations/one");
    assert_eq!(response_of(&checked), any("acme.Done", b""));
    fixture.get("operations/one").await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
    fixture.expect_no_lease("q").await;
    let untyped = pb::StartOperationRequest { response_type: String::new(), ..request.clone() };
    assert_eq!(
        response_of(&fixture.start(untyped).await.granted()),
        any("google.protobuf.Empty", b"")
    );
    // A start that would be refused is refused.
    let bad = pb::StartOperationRequest { queue: "no queue".to_owned(), ..request.clone() };
    fixture.start(bad).await.refused_field("INVALID_ARGUMENT", "queue");
    let real = pb::StartOperationRequest { validate_only: false, ..request.clone() };
    fixture.start(real).await.granted();
    fixture.start(request).await.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
}

async fn a_batch_gives_each_start_its_own_result(fixture: &Fixture) {
    use pb::batch_start_operations_response::result::Outcome as Started;
    let replayed = pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        request_id: "one".to_owned(),
        ..start("q")
    };
    let earlier = fixture.start(replayed.clone()).await.granted().name;
    let twice = pb::StartOperationRequest { operation_id: "twice".to_owned(), ..start("q") };
    let requests = vec![
        start("q"),
        pb::StartOperationRequest { parent: String::new(), ..replayed.clone() },
        pb::StartOperationRequest { method: "other".to_owned(), ..replayed },
        start("no queue"),
        pb::StartOperationRequest { parent: "projects/o".to_owned(), ..start("q") },
        twice.clone(),
        twice,
        pb::StartOperationRequest { validate_only: true, ..start("q") },
    ];
    let request = pb::BatchStartOperationsRequest { parent: "projects/p".to_owned(), requests };
    let mut producers = fixture.producers();
    let reply = within("a batch", producers.batch_start_operations(request)).await.granted();
    let results = reply.into_inner().results;
    let said: Vec<_> = results
        .iter()
        .map(|result| match result.outcome.as_ref().expect("an outcome") {
            Started::Operation(operation) => {
                assert!(operation.name.starts_with("projects/p/operations/"), "{}", operation.name);
                (result.replayed, String::new())
            }
            Started::Error(error) => (result.replayed, error_info(error).reason),
        })
        .collect();
    let said: Vec<_> = said.iter().map(|(replayed, reason)| (*replayed, &reason[..])).collect();
    let wanted = [
        (false, ""),
        (true, ""),
        (false, "REQUEST_ID_REUSED"),
        (false, "INVALID_ARGUMENT"),
        (false, "INVALID_ARGUMENT"),
        (false, ""),
        (false, "OPERATION_ALREADY_EXISTS"),
        (false, "UNIMPLEMENTED"),
    ];
    assert_eq!(said, wanted);
    let Some(Started::Operation(found)) = &results[1].outcome else { panic!("{:?}", results[1]) };
    assert_eq!(found.name, earlier);
    let listed = fixture.list("projects/p", 10, "").await.granted().operations;
    assert_eq!(listed.len(), 3);
}

async fn a_batch_out_of_bounds_is_refused_whole(fixture: &Fixture) {
    let batch = async |requests: Vec<pb::StartOperationRequest>| {
        let request = pb::BatchStartOperationsRequest { parent: String::new(), requests };
        let mut producers = fixture.producers();
        within("a batch", producers.batch_start_operations(request)).await.map(Response::into_inner)
    };
    batch(Vec::new()).await.refused_field("INVALID_ARGUMENT", "requests");
    batch(vec![start("q"); 101]).await.refused_field("INVALID_ARGUMENT", "requests");
    let megabyte =
        pb::StartOperationRequest { request: Some(large("acme.Blob", 1 << 20)), ..start("q") };
    batch(vec![megabyte; 8]).await.refused_field("PAYLOAD_TOO_LARGE", "requests");
    fixture.expect_no_lease("q").await;
    let results = batch(vec![start("q"); 100]).await.granted().results;
    assert_eq!(results.len(), 100);
    assert_eq!(fixture.list("", 1_000, "").await.granted().operations.len(), 100);
}

async fn a_start_is_visible_the_instant_it_returns(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    for _ in 0..10 {
        fixture.let_pass(Duration::from_millis(1));
        let operation = fixture.start(start("q")).await.granted();
        assert!(!operation.done && operation.result.is_none());
        assert_eq!(fixture.get(&operation.name).await.granted(), operation);
        assert_eq!(other.get(&operation.name).await.granted(), operation, "also elsewhere");
        let newest = other.list("", 1, "").await.granted().operations;
        assert_eq!(newest, [operation]);
    }
}

async fn metadata_policies_decide_what_callers_see(fixture: &Fixture) {
    use pb::operation_options::MetadataPolicy;
    let options = |policy: MetadataPolicy| pb::OperationOptions {
        metadata_policy: policy.into(),
        ..Default::default()
    };
    let own = fixture.start(start("own")).await.granted();
    let metadata = own.metadata.expect("our own metadata");
    assert_eq!(metadata.type_url, "type.googleapis.com/longhaul.v1.OperationMetadata");
    let shown = pb::OperationMetadata::decode(&metadata.value[..]).expect("OperationMetadata");
    assert_eq!(fixture.record(&own.name).await.server_metadata, Some(shown.clone()));
    assert_eq!((shown.state(), &shown.api_version[..]), (State::Pending, "v1"));
    let again = fixture.get(&own.name).await.granted().metadata.expect("metadata");
    assert_eq!(again.value, metadata.value, "the same while nothing changes");

    let none = fixture.start(start_with("q", options(MetadataPolicy::None))).await.granted();
    assert_eq!(none.metadata, None);
    let declared =
        pb::StartOperationRequest { metadata_type: "acme.Step".to_owned(), ..start("q") };
    let empty = fixture.start(declared.clone()).await.granted();
    assert_eq!(empty.metadata, Some(any("acme.Step", b"")), "there from the start");
    let initial = pb::StartOperationRequest {
        initial_metadata: Some(Any {
            type_url: "x.y/acme.Step".to_owned(),
            value: b"\x08\x01".to_vec().into(),
        }),
        ..declared.clone()
    };
    let initial = fixture.start(initial).await.granted();
    assert_eq!(initial.metadata, Some(any("acme.Step", b"\x08\x01")));
    let both = pb::StartOperationRequest {
        options: Some(options(MetadataPolicy::Server)),
        ..declared.clone()
    };
    fixture.start(both).await.refused_field("INVALID_ARGUMENT", "options.metadata_policy");
    let other =
        pb::StartOperationRequest { initial_metadata: Some(any("acme.Other", b"")), ..declared };
    fixture.start(other).await.refused_field("TYPE_MISMATCH", "initial_metadata");
    let value = pb::StartOperationRequest {
        metadata_type: "google.protobuf.Value".to_owned(),
        ..start("q")
    };
    fixture.start(value).await.refused_field("INVALID_ARGUMENT", "metadata_type");

    // Reports without a declared type are refused, whatever metadata is shown instead.
    let lease = fixture.lease("own").await;
    let undeclared = pb::ReportProgressRequest {
        metadata: Some(any("longhaul.v1.OperationMetadata", b"")),
        ..report(&lease)
    };
    fixture.report(undeclared).await.refused_field("TYPE_MISMATCH", "metadata");
}

async fn a_trace_parent_is_stored_and_handed_to_the_worker(fixture: &Fixture) {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = |header: &str| {
        let mut request = Request::new(start("q"));
        request.metadata_mut().insert("traceparent", header.parse().expect("ascii"));
        request
    };
    let mut producers = fixture.producers();
    let started = within("start", producers.start_operation(traced(trace))).await.granted();
    assert_eq!(fixture.record(&started.into_inner().name).await.trace_parent, trace);
    assert_eq!(fixture.lease("q").await.trace_parent, trace);
    for nonsense in ["", "00-0-0-01", &trace.to_uppercase(), &trace.replace("4bf9", "xxxx")] {
        let started = within("start", producers.start_operation(traced(nonsense))).await.granted();
        assert_eq!(fixture.record(&started.into_inner().name).await.trace_parent, "");
    }
}
