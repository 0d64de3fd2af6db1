//! Repeated starts: a request id starts one operation, and a replay finds it.

use prost::Message;
use tonic::Request;

use crate::support::*;

scenarios! {
    over every face;
    a_request_id_starts_one_operation_and_says_when_it_was_there_already,
    other_content_under_a_request_id_is_refused,
    an_operation_id_is_replayed_only_by_its_own_request_id,
    a_replay_of_a_start_that_left_a_tombstone_says_whether_it_expired_or_was_deleted,
    start_leased_again_gets_the_same_lease_while_it_lives_and_none_afterwards,
    a_past_deadline_is_refused_and_a_replay_finds_the_started_operation;
    over grpc;
    the_same_request_in_another_order_of_keys_is_the_same,
}

async fn a_request_id_starts_one_operation_and_says_when_it_was_there_already(fixture: &Fixture) {
    let request = pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        request_id: "7f3c1e86-0f0b-4c8a-9d5e-2b1a6c4d8e90".to_owned(),
        method: "resize".to_owned(),
        request: Some(any("acme.Resize", b"\x08\x01")),
        ..start("q")
    };
    let (first, replayed) = start_in_full(fixture, request.clone()).await;
    assert!(!replayed);
    let lease = fixture.lease("q").await;
    fixture.report(report(&lease)).await.granted();
    // A retry gets the present operation, whatever differs in fields that are not content.
    let retry = pb::StartOperationRequest {
        options: Some(pb::OperationOptions { priority: 7, ..Default::default() }),
        queue: "queues/q".to_owned(),
        ..request.clone()
    };
    let (again, replayed) = start_in_full(fixture, retry).await;
    assert!(replayed);
    assert_eq!(again.name, first.name);
    assert_eq!(again, fixture.get(&first.name).await.granted());
    fixture.complete(completion(&lease)).await.granted();
    let (done, replayed) = start_in_full(fixture, request.clone()).await;
    assert!(replayed && done.done && done.name == first.name);
    // Elsewhere, and under another id, it is another operation.
    let elsewhere =
        pb::StartOperationRequest { parent: "projects/o".to_owned(), ..request.clone() };
    let (elsewhere, replayed) = start_in_full(fixture, elsewhere).await;
    assert!(!replayed && elsewhere.name.starts_with("projects/o/operations/"));
    let other = pb::StartOperationRequest { request_id: "another".to_owned(), ..request };
    let (other, replayed) = start_in_full(fixture, other).await;
    assert!(!replayed && other.name != first.name);
    assert_eq!(fixture.list("projects/p", 10, "").await.granted().operations.len(), 2);
}

async fn the_same_request_in_another_order_of_keys_is_the_same(fixture: &Fixture) {
    // Struct { fields: { a: true, b: {"x": 1, "y": 2} } }, its keys written in both orders.
    let value = |kind: prost_types::value::Kind| prost_types::Value { kind: Some(kind) };
    let entry = |key: &str, value: prost_types::Value| {
        let mut entry = prost_types::Struct::default();
        entry.fields.insert(key.to_owned(), value);
        entry.encode_to_vec()
    };
    let number = |number: f64| value(prost_types::value::Kind::NumberValue(number));
    let inner = |parts: [(&str, f64); 2]| {
        let bytes = parts.map(|(key, value)| entry(key, number(value))).concat();
        // Value.struct_value is field 5; the inner struct is short.
        [&[0x2a, bytes.len() as u8][..], &bytes].concat()
    };
    let outer = |inner: Vec<u8>, first: bool| {
        let a = entry("a", value(prost_types::value::Kind::BoolValue(true)));
        let key = [&[0x0a, 1, b'b', 0x12, inner.len() as u8][..], &inner].concat();
        let b = [&[0x0a, key.len() as u8][..], &key].concat();
        if first { [a, b].concat() } else { [b, a].concat() }
    };
    let one = outer(inner([("x", 1.0), ("y", 2.0)]), true);
    let two = outer(inner([("y", 2.0), ("x", 1.0)]), false);
    assert_ne!(one, two);
    let request = |type_url: &str, value: &[u8]| pb::StartOperationRequest {
        request_id: "one".to_owned(),
        request: Some(Any { type_url: type_url.to_owned(), value: value.to_vec().into() }),
        ..start("q")
    };
    let url = "type.googleapis.com/google.protobuf.Struct";
    let (first, _) = start_in_full(fixture, request(url, &one)).await;
    let (second, replayed) = start_in_full(fixture, request(url, &two)).await;
    assert!(replayed && second.name == first.name);
    let (third, replayed) =
        start_in_full(fixture, request("x.y/google.protobuf.Struct", &one)).await;
    assert!(replayed && third.name == first.name, "whatever its type URL begins with");
    let stored = fixture.record(&first.name).await.request.expect("a request");
    assert_eq!(stored, Any { type_url: url.to_owned(), value: one.into() }, "byte for byte");
}

async fn other_content_under_a_request_id_is_refused(fixture: &Fixture) {
    let request = pb::StartOperationRequest {
        request_id: "one".to_owned(),
        method: "resize".to_owned(),
        metadata_type: "acme.Step".to_owned(),
        response_type: "acme.Done".to_owned(),
        request: Some(any("acme.Resize", b"\x08\x01")),
        ..start_with("q", pb::OperationOptions { target: "vm".to_owned(), ..Default::default() })
    };
    let name = fixture.start(request.clone()).await.granted().name;
    let before = fixture.record(&name).await;
    let target = Some(pb::OperationOptions { target: "disk".to_owned(), ..Default::default() });
    let others = [
        pb::StartOperationRequest { queue: "other".to_owned(), ..request.clone() },
        pb::StartOperationRequest { method: "grow".to_owned(), ..request.clone() },
        pb::StartOperationRequest { metadata_type: "acme.Other".to_owned(), ..request.clone() },
        pb::StartOperationRequest { response_type: String::new(), ..request.clone() },
        pb::StartOperationRequest { request: None, ..request.clone() },
        pb::StartOperationRequest {
            request: Some(any("acme.Resize", b"\x08\x02")),
            ..request.clone()
        },
        pb::StartOperationRequest {
            request: Some(any("acme.Grow", b"\x08\x01")),
            ..request.clone()
        },
        pb::StartOperationRequest { options: target, ..request.clone() },
    ];
    for other in others {
        let refusal = fixture.start(other).await.refused_field("REQUEST_ID_REUSED", "request_id");
        assert_eq!(refusal["name"], name);
    }
    assert_eq!(fixture.record(&name).await, before);
    assert_eq!(fixture.start(request).await.granted().name, name);
}

async fn an_operation_id_is_replayed_only_by_its_own_request_id(fixture: &Fixture) {
    let named = pb::StartOperationRequest {
        operation_id: "one".to_owned(),
        request_id: "mine".to_owned(),
        ..start("q")
    };
    let (first, replayed) = start_in_full(fixture, named.clone()).await;
    assert_eq!((&first.name[..], replayed), ("operations/one", false));
    let (again, replayed) = start_in_full(fixture, named.clone()).await;
    assert_eq!((&again.name[..], replayed), ("operations/one", true));
    for request_id in ["", "theirs"] {
        let other =
            pb::StartOperationRequest { request_id: request_id.to_owned(), ..named.clone() };
        let refusal = fixture.start(other).await;
        let metadata = refusal.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
        assert_eq!(metadata["name"], "operations/one");
    }
    let bare = pb::StartOperationRequest { operation_id: "two".to_owned(), ..start("q") };
    fixture.start(bare.clone()).await.granted();
    fixture.start(bare).await.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
}

async fn a_replay_of_a_start_that_left_a_tombstone_says_whether_it_expired_or_was_deleted(
    fixture: &Fixture,
) {
    let request = |id: &str| pb::StartOperationRequest { request_id: id.to_owned(), ..start("q") };
    let deleted = fixture.running(request("deleted")).await;
    fixture.delete(&deleted.operation).await.granted();
    let refusal = fixture.start(request("deleted")).await;
    refusal.refused(Code::AlreadyExists, "OPERATION_DELETED");
    fixture.complete(completion(&deleted)).await.granted();
    let refusal = fixture.start(request("deleted")).await;
    assert_eq!(
        refusal.refused(Code::AlreadyExists, "OPERATION_DELETED")["name"],
        deleted.operation
    );
    let expired = fixture.running(request("expired")).await;
    fixture.complete(completion(&expired)).await.granted();
    fixture.pass(Duration::from_hours(720)).await;
    let refusal = fixture.start(request("expired")).await;
    refusal.refused(Code::AlreadyExists, "OPERATION_EXPIRED");
}

async fn start_leased_again_gets_the_same_lease_while_it_lives_and_none_afterwards(
    fixture: &Fixture,
) {
    let request = pb::StartOperationRequest {
        request_id: "one".to_owned(),
        request: Some(large("acme.Resize", 5_000)),
        ..start("q")
    };
    let first = fixture.start_leased(request.clone()).await.granted();
    assert!(first.metadata().get("longhaul-replayed").is_none());
    let first = first.into_inner();
    let lease = first.lease.expect("a lease");
    assert_eq!((lease.attempt, &lease.request), (1, &request.request));
    assert_eq!(fixture.state(&lease.operation).await, State::Running);
    fixture.expect_no_lease("q").await;
    let again = fixture.start_leased(request.clone()).await.granted();
    assert_eq!(again.metadata().get("longhaul-replayed").expect("a header"), "true");
    assert_eq!(again.into_inner().lease.as_ref(), Some(&lease));
    fixture.complete(completion(&lease)).await.granted();
    let late = fixture.start_leased(request.clone()).await.granted().into_inner();
    assert!(late.lease.is_none() && late.operation.expect("the operation").done);
    // Nor does it get the lease of the present holder.
    let other = pb::StartOperationRequest { request_id: "two".to_owned(), ..request };
    let lease = fixture.start_leased(other.clone()).await.granted().into_inner().lease;
    fixture.fail(failure(&lease.expect("a lease"), Code::Unavailable)).await.granted();
    fixture.pass(Duration::from_secs(2)).await;
    fixture.lease("q").await;
    assert_eq!(fixture.start_leased(other.clone()).await.granted().into_inner().lease, None);
    let scheduled = pb::StartOperationRequest {
        options: Some(pb::OperationOptions {
            schedule_time: Some(fixture.at(Duration::from_secs(5))),
            ..Default::default()
        }),
        ..start("q")
    };
    let refusal = fixture.start_leased(scheduled).await;
    refusal.refused_field("INVALID_ARGUMENT", "start.options.schedule_time");
}

async fn a_past_deadline_is_refused_and_a_replay_finds_the_started_operation(fixture: &Fixture) {
    use pb::batch_start_operations_response::result::Outcome;
    let options = |schedule: Option<u64>, deadline: u64| pb::OperationOptions {
        schedule_time: schedule.map(|seconds| fixture.at(Duration::from_secs(seconds))),
        deadline_time: Some(fixture.at(Duration::from_secs(deadline))),
        ..Default::default()
    };
    let past = pb::OperationOptions {
        deadline_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    for options in [past, options(None, 0), options(Some(20), 20), options(Some(21), 20)] {
        let request = || pb::StartOperationRequest {
            parent: "projects/late".to_owned(),
            ..start_with("late", options.clone())
        };
        let field = "options.deadline_time";
        fixture.start(request()).await.refused_field("INVALID_ARGUMENT", field);
        let validating = pb::StartOperationRequest { validate_only: true, ..request() };
        fixture.start(validating).await.refused_field("INVALID_ARGUMENT", field);
        if options.schedule_time.is_none() {
            fixture.start_leased(request()).await.refused_field("INVALID_ARGUMENT", field);
        }
        let batch = pb::BatchStartOperationsRequest {
            requests: vec![request(), start("other")],
            ..Default::default()
        };
        let mut producers = fixture.producers();
        let call = producers.batch_start_operations(Request::new(batch));
        let results = within("a batch", call).await.granted().into_inner().results;
        let outcomes: Vec<_> = results.into_iter().map(|result| result.outcome).collect();
        let [Some(Outcome::Error(error)), Some(Outcome::Operation(_))] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(error.code, Code::InvalidArgument as i32);
    }
    assert!(fixture.list("projects/late", 10, "").await.granted().operations.is_empty());

    let once = pb::StartOperationRequest {
        request_id: "once".to_owned(),
        ..start_with("q", options(Some(5), 10))
    };
    let (first, _) = start_in_full(fixture, once.clone()).await;
    fixture.pass(Duration::from_secs(10)).await;
    let (replay, replayed) = start_in_full(fixture, once.clone()).await;
    assert!(replayed && replay.name == first.name && replay.done);
    let other = pb::StartOperationRequest { method: "other".to_owned(), ..once.clone() };
    fixture.start(other).await.refused(Code::InvalidArgument, "REQUEST_ID_REUSED");
    fixture.delete(&first.name).await.granted();
    fixture.start(once).await.refused(Code::AlreadyExists, "OPERATION_DELETED");
}

/// Starts, and returns whether the operation existed already.
async fn start_in_full(fixture: &Fixture, request: pb::StartOperationRequest) -> (Operation, bool) {
    let mut producers = fixture.producers();
    let response = within("start", producers.start_operation(request)).await.granted();
    let header = response.metadata().get("longhaul-replayed").cloned();
    assert!(header.as_ref().is_none_or(|header| header == "true"), "{header:?}");
    (response.into_inner(), header.is_some())
}
