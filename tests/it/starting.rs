//! Starting operations, once each.

use prost::Message;
use tonic::{Request, Response};

use crate::support::*;

scenarios! {
    over every face;
    a_request_id_starts_one_operation_and_says_when_it_was_there_already,
    other_content_under_a_request_id_is_refused,
    an_operation_id_is_replayed_only_by_its_own_request_id,
    a_replay_onto_a_tombstone_says_what_became_of_it,
    start_leased_again_gets_the_same_lease_while_it_lives_and_none_afterwards,
    validate_only_starts_nothing,
    a_deadline_that_leaves_no_time_is_refused_and_a_replay_finds_what_was_started,
    a_batch_gives_each_start_its_own_result,
    a_batch_out_of_bounds_is_refused_whole,
    a_start_is_visible_the_instant_it_returns,
    metadata_policies_decide_what_callers_see,
    a_trace_parent_is_stored_and_handed_to_the_worker;
    over grpc;
    the_same_request_in_another_order_of_keys_is_the_same,
}

async fn a_request_id_starts_one_operation_and_says_when_it_was_there_already(world: &World) {
    let request = pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        request_id: "7f3c1e86-0f0b-4c8a-9d5e-2b1a6c4d8e90".to_owned(),
        method: "resize".to_owned(),
        request: Some(any("acme.Resize", b"\x08\x01")),
        ..start("q")
    };
    let (first, replayed) = start_in_full(world, request.clone()).await;
    assert!(!replayed);
    let lease = world.lease("q").await;
    world.report(report(&lease)).await.granted();
    // A retry finds the operation as it is now, whatever it says that is not content.
    let retry = pb::StartOperationRequest {
        options: Some(pb::OperationOptions { priority: 7, ..Default::default() }),
        queue: "queues/q".to_owned(),
        ..request.clone()
    };
    let (again, replayed) = start_in_full(world, retry).await;
    assert!(replayed);
    assert_eq!(again.name, first.name);
    assert_eq!(again, world.get(&first.name).await.granted());
    world.complete(completion(&lease)).await.granted();
    let (done, replayed) = start_in_full(world, request.clone()).await;
    assert!(replayed && done.done && done.name == first.name);
    // Elsewhere, and under another id, it is another operation.
    let elsewhere =
        pb::StartOperationRequest { parent: "projects/o".to_owned(), ..request.clone() };
    let (elsewhere, replayed) = start_in_full(world, elsewhere).await;
    assert!(!replayed && elsewhere.name.starts_with("projects/o/operations/"));
    let other = pb::StartOperationRequest { request_id: "another".to_owned(), ..request };
    let (other, replayed) = start_in_full(world, other).await;
    assert!(!replayed && other.name != first.name);
    assert_eq!(world.list("projects/p", 10, "").await.granted().operations.len(), 2);
}

async fn the_same_request_in_another_order_of_keys_is_the_same(world: &World) {
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
    let (first, _) = start_in_full(world, request(url, &one)).await;
    let (second, replayed) = start_in_full(world, request(url, &two)).await;
    assert!(replayed && second.name == first.name);
    let (third, replayed) = start_in_full(world, request("x.y/google.protobuf.Struct", &one)).await;
    assert!(replayed && third.name == first.name, "whatever its type URL begins with");
    let stored = world.record(&first.name).await.request.expect("a request");
    assert_eq!(stored, Any { type_url: url.to_owned(), value: one.into() }, "byte for byte");
}

async fn other_content_under_a_request_id_is_refused(world: &World) {
    let request = pb::StartOperationRequest {
        request_id: "one".to_owned(),
        method: "resize".to_owned(),
        metadata_type: "acme.Step".to_owned(),
        response_type: "acme.Done".to_owned(),
        request: Some(any("acme.Resize", b"\x08\x01")),
        ..start_with("q", pb::OperationOptions { target: "vm".to_owned(), ..Default::default() })
    };
    let name = world.start(request.clone()).await.granted().name;
    let before = world.record(&name).await;
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
        let refusal = world.start(other).await.refused_field("REQUEST_ID_REUSED", "request_id");
        assert_eq!(refusal["name"], name);
    }
    assert_eq!(world.record(&name).await, before);
    assert_eq!(world.start(request).await.granted().name, name);
}

async fn an_operation_id_is_replayed_only_by_its_own_request_id(world: &World) {
    let named = pb::StartOperationRequest {
        operation_id: "one".to_owned(),
        request_id: "mine".to_owned(),
        ..start("q")
    };
    let (first, replayed) = start_in_full(world, named.clone()).await;
    assert_eq!((&first.name[..], replayed), ("operations/one", false));
    let (again, replayed) = start_in_full(world, named.clone()).await;
    assert_eq!((&again.name[..], replayed), ("operations/one", true));
    for request_id in ["", "theirs"] {
        let other =
            pb::StartOperationRequest { request_id: request_id.to_owned(), ..named.clone() };
        let refusal = world.start(other).await;
        let metadata = refusal.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
        assert_eq!(metadata["name"], "operations/one");
    }
    let bare = pb::StartOperationRequest { operation_id: "two".to_owned(), ..start("q") };
    world.start(bare.clone()).await.granted();
    world.start(bare).await.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
}

async fn a_replay_onto_a_tombstone_says_what_became_of_it(world: &World) {
    let request = |id: &str| pb::StartOperationRequest { request_id: id.to_owned(), ..start("q") };
    let deleted = world.running(request("deleted")).await;
    world.delete(&deleted.operation).await.granted();
    let refusal = world.start(request("deleted")).await;
    refusal.refused(Code::AlreadyExists, "OPERATION_DELETED");
    world.complete(completion(&deleted)).await.granted();
    let refusal = world.start(request("deleted")).await;
    assert_eq!(
        refusal.refused(Code::AlreadyExists, "OPERATION_DELETED")["name"],
        deleted.operation
    );
    let expired = world.running(request("expired")).await;
    world.complete(completion(&expired)).await.granted();
    world.pass(Duration::from_hours(720)).await;
    let refusal = world.start(request("expired")).await;
    refusal.refused(Code::AlreadyExists, "OPERATION_EXPIRED");
}

async fn start_leased_again_gets_the_same_lease_while_it_lives_and_none_afterwards(world: &World) {
    let request = pb::StartOperationRequest {
        request_id: "one".to_owned(),
        request: Some(large("acme.Resize", 5_000)),
        ..start("q")
    };
    let first = world.start_leased(request.clone()).await.granted();
    assert!(first.metadata().get("longhaul-replayed").is_none());
    let first = first.into_inner();
    let lease = first.lease.expect("a lease");
    assert_eq!((lease.attempt, &lease.request), (1, &request.request));
    assert_eq!(world.state(&lease.operation).await, State::Running);
    world.expect_no_lease("q").await;
    let again = world.start_leased(request.clone()).await.granted();
    assert_eq!(again.metadata().get("longhaul-replayed").expect("a header"), "true");
    assert_eq!(again.into_inner().lease.as_ref(), Some(&lease));
    world.complete(completion(&lease)).await.granted();
    let late = world.start_leased(request.clone()).await.granted().into_inner();
    assert!(late.lease.is_none() && late.operation.expect("the operation").done);
    // Nor does it get the lease of whoever has it now.
    let other = pb::StartOperationRequest { request_id: "two".to_owned(), ..request };
    let lease = world.start_leased(other.clone()).await.granted().into_inner().lease;
    world.fail(failure(&lease.expect("a lease"), Code::Unavailable)).await.granted();
    world.pass(Duration::from_secs(2)).await;
    world.lease("q").await;
    assert_eq!(world.start_leased(other.clone()).await.granted().into_inner().lease, None);
    let scheduled = pb::StartOperationRequest {
        options: Some(pb::OperationOptions {
            schedule_time: Some(world.at(Duration::from_secs(5))),
            ..Default::default()
        }),
        ..start("q")
    };
    let refusal = world.start_leased(scheduled).await;
    refusal.refused_field("INVALID_ARGUMENT", "start.options.schedule_time");
}

async fn validate_only_starts_nothing(world: &World) {
    let request = pb::StartOperationRequest {
        operation_id: "one".to_owned(),
        response_type: "acme.Done".to_owned(),
        validate_only: true,
        ..start("q")
    };
    let checked = world.start(request.clone()).await.granted();
    assert_eq!(checked.name, "operations/one");
    assert_eq!(response_of(&checked), any("acme.Done", b""));
    world.get("operations/one").await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
    world.expect_no_lease("q").await;
    let untyped = pb::StartOperationRequest { response_type: String::new(), ..request.clone() };
    assert_eq!(
        response_of(&world.start(untyped).await.granted()),
        any("google.protobuf.Empty", b"")
    );
    // What would be refused is refused.
    let bad = pb::StartOperationRequest { queue: "no queue".to_owned(), ..request.clone() };
    world.start(bad).await.refused_field("INVALID_ARGUMENT", "queue");
    let real = pb::StartOperationRequest { validate_only: false, ..request.clone() };
    world.start(real).await.granted();
    world.start(request).await.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
}

async fn a_deadline_that_leaves_no_time_is_refused_and_a_replay_finds_what_was_started(
    world: &World,
) {
    use pb::batch_start_operations_response::result::Outcome;
    let options = |schedule: Option<u64>, deadline: u64| pb::OperationOptions {
        schedule_time: schedule.map(|seconds| world.at(Duration::from_secs(seconds))),
        deadline_time: Some(world.at(Duration::from_secs(deadline))),
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
        world.start(request()).await.refused_field("INVALID_ARGUMENT", field);
        let validating = pb::StartOperationRequest { validate_only: true, ..request() };
        world.start(validating).await.refused_field("INVALID_ARGUMENT", field);
        if options.schedule_time.is_none() {
            world.start_leased(request()).await.refused_field("INVALID_ARGUMENT", field);
        }
        let batch = pb::BatchStartOperationsRequest {
            requests: vec![request(), start("other")],
            ..Default::default()
        };
        let mut producers = world.producers();
        let call = producers.batch_start_operations(Request::new(batch));
        let results = within("a batch", call).await.granted().into_inner().results;
        let outcomes: Vec<_> = results.into_iter().map(|result| result.outcome).collect();
        let [Some(Outcome::Error(error)), Some(Outcome::Operation(_))] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(error.code, Code::InvalidArgument as i32);
    }
    assert!(world.list("projects/late", 10, "").await.granted().operations.is_empty());

    let once = pb::StartOperationRequest {
        request_id: "once".to_owned(),
        ..start_with("q", options(Some(5), 10))
    };
    let (first, _) = start_in_full(world, once.clone()).await;
    world.pass(Duration::from_secs(10)).await;
    let (replay, replayed) = start_in_full(world, once.clone()).await;
    assert!(replayed && replay.name == first.name && replay.done);
    let other = pb::StartOperationRequest { method: "other".to_owned(), ..once.clone() };
    world.start(other).await.refused(Code::InvalidArgument, "REQUEST_ID_REUSED");
    world.delete(&first.name).await.granted();
    world.start(once).await.refused(Code::AlreadyExists, "OPERATION_DELETED");
}

async fn a_batch_gives_each_start_its_own_result(world: &World) {
    use pb::batch_start_operations_response::result::Outcome as Started;
    let replayed = pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        request_id: "one".to_owned(),
        ..start("q")
    };
    let earlier = world.start(replayed.clone()).await.granted().name;
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
    let mut producers = world.producers();
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
    let listed = world.list("projects/p", 10, "").await.granted().operations;
    assert_eq!(listed.len(), 3);
}

async fn a_batch_out_of_bounds_is_refused_whole(world: &World) {
    let batch = async |requests: Vec<pb::StartOperationRequest>| {
        let request = pb::BatchStartOperationsRequest { parent: String::new(), requests };
        let mut producers = world.producers();
        within("a batch", producers.batch_start_operations(request)).await.map(Response::into_inner)
    };
    batch(Vec::new()).await.refused_field("INVALID_ARGUMENT", "requests");
    batch(vec![start("q"); 101]).await.refused_field("INVALID_ARGUMENT", "requests");
    let megabyte =
        pb::StartOperationRequest { request: Some(large("acme.Blob", 1 << 20)), ..start("q") };
    batch(vec![megabyte; 8]).await.refused_field("PAYLOAD_TOO_LARGE", "requests");
    world.expect_no_lease("q").await;
    let results = batch(vec![start("q"); 100]).await.granted().results;
    assert_eq!(results.len(), 100);
    assert_eq!(world.list("", 1_000, "").await.granted().operations.len(), 100);
}

async fn a_start_is_visible_the_instant_it_returns(world: &World) {
    let other = world.with_agents().await;
    for _ in 0..10 {
        world.let_pass(Duration::from_millis(1));
        let operation = world.start(start("q")).await.granted();
        assert!(!operation.done && operation.result.is_none());
        assert_eq!(world.get(&operation.name).await.granted(), operation);
        assert_eq!(other.get(&operation.name).await.granted(), operation, "also elsewhere");
        let newest = other.list("", 1, "").await.granted().operations;
        assert_eq!(newest, [operation]);
    }
}

async fn metadata_policies_decide_what_callers_see(world: &World) {
    use pb::operation_options::MetadataPolicy;
    let options = |policy: MetadataPolicy| pb::OperationOptions {
        metadata_policy: policy.into(),
        ..Default::default()
    };
    let own = world.start(start("own")).await.granted();
    let metadata = own.metadata.expect("our own metadata");
    assert_eq!(metadata.type_url, "type.googleapis.com/longhaul.v1.OperationMetadata");
    let shown = pb::OperationMetadata::decode(&metadata.value[..]).expect("OperationMetadata");
    assert_eq!(world.record(&own.name).await.server_metadata, Some(shown.clone()));
    assert_eq!((shown.state(), &shown.api_version[..]), (State::Pending, "v1"));
    let again = world.get(&own.name).await.granted().metadata.expect("metadata");
    assert_eq!(again.value, metadata.value, "the same while nothing changes");

    let none = world.start(start_with("q", options(MetadataPolicy::None))).await.granted();
    assert_eq!(none.metadata, None);
    let declared =
        pb::StartOperationRequest { metadata_type: "acme.Step".to_owned(), ..start("q") };
    let empty = world.start(declared.clone()).await.granted();
    assert_eq!(empty.metadata, Some(any("acme.Step", b"")), "there from the start");
    let initial = pb::StartOperationRequest {
        initial_metadata: Some(Any {
            type_url: "x.y/acme.Step".to_owned(),
            value: b"\x08\x01".to_vec().into(),
        }),
        ..declared.clone()
    };
    let initial = world.start(initial).await.granted();
    assert_eq!(initial.metadata, Some(any("acme.Step", b"\x08\x01")));
    let both = pb::StartOperationRequest {
        options: Some(options(MetadataPolicy::Server)),
        ..declared.clone()
    };
    world.start(both).await.refused_field("INVALID_ARGUMENT", "options.metadata_policy");
    let other =
        pb::StartOperationRequest { initial_metadata: Some(any("acme.Other", b"")), ..declared };
    world.start(other).await.refused_field("TYPE_MISMATCH", "initial_metadata");
    let value = pb::StartOperationRequest {
        metadata_type: "google.protobuf.Value".to_owned(),
        ..start("q")
    };
    world.start(value).await.refused_field("INVALID_ARGUMENT", "metadata_type");

    // Reports without a declared type are refused, whatever is shown instead.
    let lease = world.lease("own").await;
    let undeclared = pb::ReportProgressRequest {
        metadata: Some(any("longhaul.v1.OperationMetadata", b"")),
        ..report(&lease)
    };
    world.report(undeclared).await.refused_field("TYPE_MISMATCH", "metadata");
}

async fn a_trace_parent_is_stored_and_handed_to_the_worker(world: &World) {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = |header: &str| {
        let mut request = Request::new(start("q"));
        request.metadata_mut().insert("traceparent", header.parse().expect("ascii"));
        request
    };
    let mut producers = world.producers();
    let started = within("start", producers.start_operation(traced(trace))).await.granted();
    assert_eq!(world.record(&started.into_inner().name).await.trace_parent, trace);
    assert_eq!(world.lease("q").await.trace_parent, trace);
    for nonsense in ["", "00-0-0-01", &trace.to_uppercase(), &trace.replace("4bf9", "xxxx")] {
        let started = within("start", producers.start_operation(traced(nonsense))).await.granted();
        assert_eq!(world.record(&started.into_inner().name).await.trace_parent, "");
    }
}

/// Starts, and says whether the operation was there already.
async fn start_in_full(world: &World, request: pb::StartOperationRequest) -> (Operation, bool) {
    let mut producers = world.producers();
    let response = within("start", producers.start_operation(request)).await.granted();
    let header = response.metadata().get("longhaul-replayed").cloned();
    assert!(header.as_ref().is_none_or(|header| header == "true"), "{header:?}");
    (response.into_inner(), header.is_some())
}
