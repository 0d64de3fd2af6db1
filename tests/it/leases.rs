//! Races of leases that expire, are ended by their worker, or are ended twice.

use crate::support::*;

scenarios! {
    over every face;
    call_after_expiry_is_accepted_until_replaced_then_lease_lost,
    same_token_again_same_content_is_ok_other_content_invalid_state,
    refused_complete_leaves_the_lease,
    complete_without_response_is_empty_only_where_that_was_declared,
    renewals_in_one_call_each_get_their_own_result,
    a_renewal_never_shortens_a_lease,
}

async fn call_after_expiry_is_accepted_until_replaced_then_lease_lost(fixture: &Fixture) {
    let late = fixture.running(start("late")).await;
    fixture.let_pass(Duration::from_secs(45));
    let reported = fixture.report(report(&late)).await.granted();
    assert_at(reported.expire_time, fixture.at(Duration::from_secs(30)));
    fixture.let_pass(Duration::from_secs(45));
    fixture.complete(completion(&late)).await.granted();
    assert_eq!(fixture.state(&late.operation).await, State::Succeeded);

    let first = fixture.running(start("q")).await;
    fixture.pass(Duration::from_secs(31)).await;
    // Lost, although no other worker has it yet.
    let lost = fixture.report(report(&first)).await.refused(Code::FailedPrecondition, "LEASE_LOST");
    assert_eq!((&lost["attempt"][..], &lost["name"]), ("1", &first.operation));
    let second = fixture.lease("q").await;
    assert_eq!((second.attempt, &second.operation), (2, &first.operation));
    assert!(second.fencing_number > first.fencing_number);
    let before = fixture.record(&first.operation).await;
    let refusals = [
        fixture.report(report(&first)).await.map(drop),
        fixture.complete(completion(&first)).await.map(drop),
        fixture.fail(failure(&first, Code::Internal)).await.map(drop),
        fixture.release(release(&first)).await.map(drop),
        fixture.suspend(suspension(&first)).await.map(drop),
    ];
    for refusal in refusals {
        let metadata = refusal.refused(Code::FailedPrecondition, "LEASE_LOST");
        assert_eq!(metadata["attempt"], "2");
        assert_eq!(metadata["fencingNumber"], second.fencing_number.to_string());
    }
    let renewed = fixture.renew(vec![renewal(&first)]).await.granted();
    let info = error_info(renewed[0].error.as_ref().expect("an error"));
    assert_eq!((&info.reason[..], &info.metadata["attempt"][..]), ("LEASE_LOST", "2"));
    assert_eq!(fixture.record(&first.operation).await, before);
    fixture.complete(completion(&second)).await.granted();
}

async fn same_token_again_same_content_is_ok_other_content_invalid_state(fixture: &Fixture) {
    let response = |value: &[u8]| Some(any("acme.Done", value));
    let lease = fixture.running(start("q")).await;
    let done =
        pb::CompleteOperationRequest { response: response(b"\x08\x01"), ..completion(&lease) };
    let first = fixture.complete(done.clone()).await.granted();
    let before = fixture.record(&lease.operation).await;
    fixture.let_pass(Duration::from_secs(10));
    assert_eq!(fixture.complete(done.clone()).await.granted(), first);
    let other = pb::CompleteOperationRequest { response: response(b"\x08\x02"), ..done };
    let refusal = fixture.complete(other).await;
    assert_eq!(refusal.refused(Code::FailedPrecondition, "INVALID_STATE")["verb"], "complete");
    let others = [
        fixture.fail(failure(&lease, Code::Internal)).await.map(drop),
        fixture.release(release(&lease)).await.map(drop),
        fixture.suspend(suspension(&lease)).await.map(drop),
        fixture.report(report(&lease)).await.map(drop),
    ];
    for other in others {
        other.refused(Code::FailedPrecondition, "INVALID_STATE");
    }
    assert_eq!(fixture.record(&lease.operation).await, before);

    // A repeated failure gets the same answer, even when another attempt is running.
    let lease = fixture.running(start("retried")).await;
    let first = fixture.fail(failure(&lease, Code::Unavailable)).await.granted();
    assert!(first.will_retry && first.schedule_time.is_some());
    fixture.pass(Duration::from_secs(2)).await;
    let second = fixture.lease("retried").await;
    assert_eq!(fixture.fail(failure(&lease, Code::Unavailable)).await.granted(), first);
    let other = fixture.fail(failure(&lease, Code::Internal)).await;
    other.refused(Code::FailedPrecondition, "INVALID_STATE");
    assert_eq!(fixture.state(&lease.operation).await, State::Running);
    fixture.release(release(&second)).await.granted();
    fixture.release(release(&second)).await.granted();
    let third = fixture.lease("retried").await;
    fixture.suspend(suspension(&third)).await.granted();
    fixture.suspend(suspension(&third)).await.granted();
    assert_eq!(fixture.state(&lease.operation).await, State::Suspended);
}

async fn refused_complete_leaves_the_lease(fixture: &Fixture) {
    let request = pb::StartOperationRequest { response_type: "acme.Done".to_owned(), ..start("q") };
    let lease = fixture.running(request).await;
    let with = |response: Any| pb::CompleteOperationRequest {
        response: Some(response),
        ..completion(&lease)
    };
    let before = fixture.record(&lease.operation).await;
    let metadata = fixture.complete(with(any("acme.Other", b""))).await;
    let metadata = metadata.refused_field("TYPE_MISMATCH", "response");
    assert_eq!((&metadata["declared"][..], &metadata["found"][..]), ("acme.Done", "acme.Other"));
    let too_large = fixture.complete(with(large("acme.Done", (1 << 20) + 1))).await;
    let metadata = too_large.refused_field("PAYLOAD_TOO_LARGE", "response");
    assert_eq!(metadata["limit"], (1 << 20).to_string());
    let undeclared = pb::CompleteOperationRequest {
        metadata: Some(any("acme.Progress", b"")),
        ..with(any("acme.Done", b""))
    };
    fixture.complete(undeclared).await.refused_field("TYPE_MISMATCH", "metadata");
    assert_eq!(fixture.record(&lease.operation).await, before);

    fixture.report(report(&lease)).await.granted();
    fixture.complete(with(any("acme.Done", b"\x08\x01"))).await.granted();
    assert_eq!(fixture.state(&lease.operation).await, State::Succeeded);
}

async fn complete_without_response_is_empty_only_where_that_was_declared(fixture: &Fixture) {
    for response_type in ["", "google.protobuf.Empty"] {
        let request =
            pb::StartOperationRequest { response_type: response_type.to_owned(), ..start("q") };
        let lease = fixture.running(request).await;
        fixture.complete(completion(&lease)).await.granted();
        let response = response_of(&fixture.get(&lease.operation).await.granted());
        assert_eq!(response, any("google.protobuf.Empty", b""));
    }
    let request = pb::StartOperationRequest { response_type: "acme.Done".to_owned(), ..start("q") };
    let lease = fixture.running(request).await;
    let refusal = fixture.complete(completion(&lease)).await;
    let metadata = refusal.refused_field("TYPE_MISMATCH", "response");
    assert_eq!((&metadata["declared"][..], &metadata["found"][..]), ("acme.Done", ""));
    assert_eq!(fixture.state(&lease.operation).await, State::Running);
}

async fn renewals_in_one_call_each_get_their_own_result(fixture: &Fixture) {
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(fixture.running(start("q")).await);
    }
    fixture.complete(completion(&leases[1])).await.granted();
    fixture.pause(&leases[2].operation).await.granted();
    fixture.let_pass(Duration::from_secs(20));
    let longer =
        pb::renew_leases_request::Renewal { lease_duration: seconds(60), ..renewal(&leases[0]) };
    let unknown = pb::renew_leases_request::Renewal {
        name: "operations/unknown".to_owned(),
        ..renewal(&leases[0])
    };
    let malformed =
        pb::renew_leases_request::Renewal { lease_token: "x".to_owned(), ..renewal(&leases[0]) };
    let renewals = vec![longer, renewal(&leases[1]), renewal(&leases[2]), unknown, malformed];
    let results = fixture.renew(renewals.clone()).await.granted();
    let names: Vec<_> = results.iter().map(|result| &result.name).collect();
    assert_eq!(names, renewals.iter().map(|renewal| &renewal.name).collect::<Vec<_>>());
    assert_at(results[0].expire_time, fixture.at(Duration::from_mins(1)));
    assert_eq!(results[0].lease_duration, seconds(60));
    assert!(results[2].directive.expect("a directive").pause_requested);
    assert_at(results[2].expire_time, fixture.at(Duration::from_secs(30)));
    let reasons: Vec<_> = results
        .iter()
        .map(|result| result.error.as_ref().map_or(String::new(), |error| error_info(error).reason))
        .collect();
    let wanted = ["", "INVALID_STATE", "", "OPERATION_NOT_FOUND", "INVALID_ARGUMENT"];
    assert_eq!(reasons, wanted);
    fixture
        .renew(vec![renewal(&leases[0]); 1_001])
        .await
        .refused_field("INVALID_ARGUMENT", "renewals");
    assert!(fixture.renew(Vec::new()).await.granted().is_empty());
}

async fn a_renewal_never_shortens_a_lease(fixture: &Fixture) {
    let request = pb::LeaseOperationsRequest { lease_duration: seconds(100), ..leasing("q") };
    fixture.started("q").await;
    let lease = fixture.leases(request).await.granted().remove(0);
    assert_eq!(lease.lease_duration, seconds(100));
    let shorter =
        pb::renew_leases_request::Renewal { lease_duration: seconds(10), ..renewal(&lease) };
    let result = fixture.renew(vec![shorter]).await.granted().remove(0);
    assert_eq!(result.expire_time, lease.expire_time, "as was promised");
    fixture.pass(Duration::from_secs(95)).await;
    fixture.renew(vec![renewal(&lease)]).await.granted();
    fixture.pass(Duration::from_secs(8)).await;
    assert_eq!(fixture.state(&lease.operation).await, State::Running);
    fixture.pass(Duration::from_secs(2)).await;
    assert_eq!(fixture.state(&lease.operation).await, State::Pending);

    for (asked, given) in [(millis(1), 1), (seconds(1 << 20), 24 * 3_600), (seconds(0), 30)] {
        let request = pb::LeaseOperationsRequest { lease_duration: asked, ..leasing("bounds") };
        fixture.started("bounds").await;
        let lease = fixture.leases(request).await.granted().remove(0);
        assert_eq!(lease.lease_duration, seconds(given));
    }
}
