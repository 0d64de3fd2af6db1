//! How often progress is committed: which reports are written at once, which are held back, and when those are written.

use longhaul::engine::Heartbeat;

use crate::support::*;

scenarios! {
    the_first_report_of_a_unary_worker_is_committed_before_its_ok,
    reports_of_one_interval_go_out_as_one_and_the_newest_wins,
    a_report_that_was_overtaken_changes_nothing,
    metadata_of_a_wrong_type_is_refused_at_once_and_what_is_held_back_stays,
    held_back_progress_is_dropped_if_the_lease_was_lost,
    the_commit_that_ends_an_attempt_includes_held_back_progress,
    the_last_progress_is_kept_where_another_server_hears_of_the_failure,
    a_report_that_must_not_wait_is_committed_before_its_answer_with_held_back_progress,
    held_back_progress_survives_an_outage_of_the_store,
    the_end_is_estimated_from_the_rate_of_this_attempt,
    the_end_is_estimated_for_an_attempt_that_starts_over,
}

const METADATA: &str = "acme.v1.Exporting";
const INTERVAL: Duration = Duration::from_millis(200);

/// An operation with metadata of its own, leased by a unary worker.
async fn exporting(fixture: &Fixture, options: pb::OperationOptions) -> pb::Lease {
    let start = pb::StartOperationRequest {
        metadata_type: METADATA.to_owned(),
        ..start_with("q", options)
    };
    fixture.running(start).await
}

fn at(lease: &pb::Lease, fraction: f64) -> pb::ReportProgressRequest {
    let progress = Some(pb::Progress { fraction: Some(fraction), ..Default::default() });
    pb::ReportProgressRequest { progress, ..report(lease) }
}

/// Opens an interval, and has a report held back in it.
async fn hold(fixture: &Fixture, lease: &pb::Lease, held: pb::ReportProgressRequest) {
    fixture.report(at(lease, 0.1)).await.granted();
    let etag = fixture.record(&lease.operation).await.etag;
    fixture.report(held).await.granted();
    assert_eq!(fixture.record(&lease.operation).await.etag, etag, "held back");
}

fn shown(record: &pb::OperationRecord) -> pb::OperationMetadata {
    record.server_metadata.clone().expect("metadata")
}

async fn fraction(fixture: &Fixture, name: &str) -> Option<f64> {
    shown(&fixture.record(name).await).progress.and_then(|progress| progress.fraction)
}

/// Lets the interval pass, so that held-back reports are written.
async fn flushed(fixture: &Fixture, name: &str) {
    let etag = fixture.record(name).await.etag;
    let written = async { while fixture.record(name).await.etag == etag {} };
    fixture.passing("the held report", written).await;
}

async fn the_first_report_of_a_unary_worker_is_committed_before_its_ok(fixture: &Fixture) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let before = fixture.record(&lease.operation).await;
    let metadata = Some(any(METADATA, b"first"));
    fixture
        .report(pb::ReportProgressRequest { metadata: metadata.clone(), ..at(&lease, 0.1) })
        .await
        .granted();
    let after = fixture.record(&lease.operation).await;
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.operation.clone().expect("an operation").metadata, metadata);
    assert_eq!(fraction(fixture, &lease.operation).await, Some(0.1));
}

async fn reports_of_one_interval_go_out_as_one_and_the_newest_wins(fixture: &Fixture) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let name = &lease.operation;
    let detailed = pb::ReportProgressRequest {
        status_detail: "half".to_owned(),
        metadata: Some(any(METADATA, b"half")),
        ..at(&lease, 0.5)
    };
    hold(fixture, &lease, detailed).await;
    let held = shown(&fixture.record(name).await);
    for fraction in [0.6, 0.7] {
        fixture.report(at(&lease, fraction)).await.granted();
    }
    assert_eq!(shown(&fixture.record(name).await), held);
    let mut watcher = fixture.watch(watch(name)).await;
    watcher.expect(EventType::Snapshot).await;
    flushed(fixture, name).await;
    let record = fixture.record(name).await;
    assert_eq!(fraction(fixture, name).await, Some(0.7));
    assert_eq!(shown(&record).status_detail, "half");
    assert_eq!(record.operation.expect("one").metadata, Some(any(METADATA, b"half")));
    let event = watcher.expect(EventType::Update).await;
    assert_eq!(event.server_metadata.expect("metadata").status_detail, "half");
    // It counts as the first of the next interval; after that the next one is committed at once again.
    let etag = fixture.record(name).await.etag;
    fixture.report(at(&lease, 0.8)).await.granted();
    assert_eq!(fixture.record(name).await.etag, etag);
    flushed(fixture, name).await;
    fixture.clock.advance(INTERVAL);
    fixture.report(at(&lease, 0.9)).await.granted();
    assert_eq!(fraction(fixture, name).await, Some(0.9));
}

async fn a_report_that_was_overtaken_changes_nothing(fixture: &Fixture) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let name = &lease.operation;
    let numbered = |fraction: f64, number: i64| pb::ReportProgressRequest {
        report_number: number,
        metadata: Some(any(METADATA, &[number as u8])),
        ..at(&lease, fraction)
    };
    fixture.report(numbered(0.5, 5)).await.granted();
    // Of the committed report, then of the held-back one.
    fixture.report(numbered(0.4, 4)).await.granted();
    let bare = pb::ReportProgressRequest { metadata: None, ..numbered(0.7, 7) };
    fixture.report(bare).await.granted();
    fixture.report(numbered(0.6, 6)).await.granted();
    flushed(fixture, name).await;
    assert_eq!(fraction(fixture, name).await, Some(0.7));
    let operation = fixture.get(name).await.granted();
    assert_eq!(operation.metadata, Some(any(METADATA, &[5])));
}

async fn metadata_of_a_wrong_type_is_refused_at_once_and_what_is_held_back_stays(
    fixture: &Fixture,
) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    hold(fixture, &lease, at(&lease, 0.2)).await;
    let wrong = pb::ReportProgressRequest {
        metadata: Some(any("acme.v1.Importing", b"")),
        ..at(&lease, 0.3)
    };
    fixture.report(wrong).await.refused_field("TYPE_MISMATCH", "metadata");
    fixture.complete(completion(&lease)).await.granted();
    assert_eq!(fraction(fixture, &lease.operation).await, Some(0.2));
}

async fn held_back_progress_is_dropped_if_the_lease_was_lost(fixture: &Fixture) {
    let retry_policy = Some(pb::RetryPolicy {
        retryable_codes: vec![Code::DeadlineExceeded as i32],
        ..Default::default()
    });
    let attempt_timeout = millis(100);
    let options = pb::OperationOptions { attempt_timeout, retry_policy, ..Default::default() };
    let lease = exporting(fixture, options).await;
    let name = &lease.operation;
    hold(fixture, &lease, at(&lease, 0.2)).await;
    fixture.pass(Duration::from_millis(100)).await;
    let record = fixture.record(name).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Pending, 1), "{record:?}");
    fixture.pass(Duration::from_secs(2)).await;
    let next = fixture.lease("q").await;
    assert_eq!(next.attempt, 2);
    // Nothing of the first attempt appears in the second; its worker gets the reason.
    fixture.report(at(&lease, 0.3)).await.refused(Code::FailedPrecondition, "LEASE_LOST");
    fixture.report(at(&next, 0.15)).await.granted();
    fixture.complete(completion(&next)).await.granted();
    assert_eq!(fraction(fixture, name).await, Some(0.15));
}

async fn the_commit_that_ends_an_attempt_includes_held_back_progress(fixture: &Fixture) {
    for end in ["complete", "fail", "retry", "release", "suspend"] {
        let lease = exporting(fixture, pb::OperationOptions::default()).await;
        let held = pb::ReportProgressRequest {
            metadata: Some(any(METADATA, end.as_bytes())),
            ..at(&lease, 0.9)
        };
        hold(fixture, &lease, held).await;
        let state = match end {
            "complete" => {
                fixture.complete(completion(&lease)).await.granted();
                State::Succeeded
            }
            "fail" => {
                fixture.fail(failure(&lease, Code::NotFound)).await.granted();
                State::Failed
            }
            "retry" => {
                fixture.fail(failure(&lease, Code::Unavailable)).await.granted();
                State::Pending
            }
            "release" => {
                fixture.release(release(&lease)).await.granted();
                State::Pending
            }
            _ => {
                fixture.suspend(suspension(&lease)).await.granted();
                State::Suspended
            }
        };
        let record = fixture.record(&lease.operation).await;
        assert_eq!(record.state(), state, "{end}");
        assert_eq!(fraction(fixture, &lease.operation).await, Some(0.9), "{end}");
        let metadata = record.operation.expect("an operation").metadata;
        assert_eq!(metadata, Some(any(METADATA, end.as_bytes())));
        fixture.cancel(&lease.operation).await.granted();
    }
}

async fn a_report_that_must_not_wait_is_committed_before_its_answer_with_held_back_progress(
    fixture: &Fixture,
) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let name = &lease.operation;
    fixture.report(at(&lease, 0.1)).await.granted();
    let checkpoint = Some(any("acme.v1.Page", b"7"));
    let resource = pb::RelatedResource { name: "tables/a".to_owned(), ..Default::default() };
    let urgent = [
        pb::ReportProgressRequest { checkpoint: checkpoint.clone(), ..report(&lease) },
        pb::ReportProgressRequest { partial_errors: vec![error(Code::Aborted)], ..report(&lease) },
        pb::ReportProgressRequest { related_resources: vec![resource], ..report(&lease) },
        pb::ReportProgressRequest {
            partial_errors: vec![error(Code::NotFound)],
            report_number: 9,
            ..report(&lease)
        },
    ];
    for (round, urgent) in (2_u8..).zip(urgent) {
        let held = f64::from(round) / 10.0;
        let before = fraction(fixture, name).await;
        fixture.report(at(&lease, held)).await.granted();
        assert_eq!(fraction(fixture, name).await, before, "held back in round {round}");
        fixture.report(urgent).await.granted();
        assert_eq!(fraction(fixture, name).await, Some(held), "round {round}");
    }
    let record = fixture.record(name).await;
    assert_eq!((shown(&record).partial_errors.len(), record.related_resources.len()), (2, 1));
    fixture.release(release(&lease)).await.granted();
    assert_eq!(fixture.lease("q").await.checkpoint, checkpoint);
}

async fn held_back_progress_survives_an_outage_of_the_store(fixture: &Fixture) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let held =
        pb::ReportProgressRequest { metadata: Some(any(METADATA, b"last")), ..at(&lease, 0.9) };
    hold(fixture, &lease, held).await;
    fixture.store.set_away(true);
    for _ in 0..2 {
        let refused = fixture.complete(completion(&lease)).await;
        refused.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    }
    fixture.store.set_away(false);
    fixture.complete(completion(&lease)).await.granted();
    assert_eq!(fraction(fixture, &lease.operation).await, Some(0.9));
    let operation = fixture.get(&lease.operation).await.granted();
    assert_eq!(operation.metadata, Some(any(METADATA, b"last")));
}

/// When it is to end, in seconds from now; within a second, since stamps and intervals add a little.
#[track_caller]
fn assert_ends_in(fixture: &Fixture, record: &pb::OperationRecord, seconds: u64) {
    let end = shown(record).estimated_end_time.expect("an estimate");
    let wanted = fixture.at(Duration::from_secs(seconds));
    assert!((end.seconds - wanted.seconds).abs() <= 1, "{end} is not {wanted}");
}

async fn the_end_is_estimated_from_the_rate_of_this_attempt(fixture: &Fixture) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let name = &lease.operation;
    assert_eq!(shown(&fixture.record(name).await).estimated_end_time, None);
    fixture.let_pass(Duration::from_secs(10));
    let units = pb::Progress { completed_units: 20, total_units: 100, ..Default::default() };
    let by_units = pb::ReportProgressRequest { progress: Some(units), ..report(&lease) };
    fixture.report(by_units).await.granted();
    assert_ends_in(fixture, &fixture.record(name).await, 40);
    fixture.let_pass(Duration::from_secs(10));
    let checkpoint = Some(any("acme.v1.Page", b"7"));
    let half = pb::ReportProgressRequest { checkpoint, ..at(&lease, 0.5) };
    fixture.report(half).await.granted();
    assert_ends_in(fixture, &fixture.record(name).await, 20);
    fixture.release(release(&lease)).await.granted();
    assert_eq!(shown(&fixture.record(name).await).estimated_end_time, None, "nobody works on it");
    // The next one goes on from half, and takes 10 s for a tenth.
    fixture.let_pass(Duration::from_mins(5));
    let next = fixture.lease("q").await;
    assert!(next.checkpoint.is_some());
    assert_eq!(shown(&fixture.record(name).await).estimated_end_time, None, "no rate yet");
    fixture.let_pass(Duration::from_secs(10));
    fixture.report(at(&next, 0.6)).await.granted();
    assert_ends_in(fixture, &fixture.record(name).await, 40);
}

async fn the_end_is_estimated_for_an_attempt_that_starts_over(fixture: &Fixture) {
    let lease = exporting(fixture, pb::OperationOptions::default()).await;
    let name = &lease.operation;
    fixture.report(at(&lease, 0.5)).await.granted();
    fixture.release(release(&lease)).await.granted();
    let next = fixture.lease("q").await;
    for (fraction, left) in [(0.2, 40), (0.4, 30), (0.6, 20)] {
        fixture.let_pass(Duration::from_secs(10));
        fixture.report(at(&next, fraction)).await.granted();
        assert_ends_in(fixture, &fixture.record(name).await, left);
    }
}

async fn the_last_progress_is_kept_where_another_server_hears_of_the_failure(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    let engine = fixture.server.engine();
    let acquainted = async {
        while engine.is_alone() {
            Heartbeat.run_once(engine).await.expect("a sign of life");
        }
    };
    fixture.passing("the other server", acquainted).await;
    let policy = pb::RetryPolicy { max_attempts: 1, ..Default::default() };
    let options = pb::OperationOptions { retry_policy: Some(policy), ..Default::default() };
    let lease = exporting(fixture, options).await;
    for fraction in [0.1, 0.5, 0.9] {
        fixture.report(at(&lease, fraction)).await.granted();
    }
    other.fail(failure(&lease, Code::Internal)).await.granted();
    assert_eq!(fraction(fixture, &lease.operation).await, Some(0.9));
    assert_eq!(fraction(&other, &lease.operation).await, Some(0.9));
}
