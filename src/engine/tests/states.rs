use std::time::Duration;

use super::super::{Reaper, Reason, Scheduler};
use super::{Bench, caller, name, report, request, wish};
use crate::clock::Timestamp;
use crate::limits::{DEFAULT_TTL, MAX_REPLY_BYTES};
use crate::operation::State;
use crate::operation::command::{Command, Proof, Report, Suspend};
use crate::operation::lease::Token;
use crate::operation::options::{Expiration, Options};
use crate::proto::google::rpc::Status;
use crate::store::faulty::Fault;

async fn start_with(bench: &Bench, options: Options) {
    let mut wanted = request("a");
    wanted.spec.options = options;
    bench.engine.start_operation(&caller(), wanted).await.expect("start");
}

async fn lease(bench: &Bench) -> Option<Token> {
    let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
    let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
    batch.told();
    leased.first().and_then(|leased| leased.lease()).map(|lease| lease.token)
}

#[tokio::test]
async fn what_was_parked_before_its_time_still_waits_for_it() {
    let bench = Bench::new();
    let later = Timestamp::from_micros(1_700_000_000_000_000) + Duration::from_hours(1);
    start_with(&bench, Options { schedule_time: Some(later), ..Options::default() }).await;
    bench.engine.pause(&caller(), &name("a"), String::new(), String::new()).await.expect("pause");
    bench.engine.resume(&caller(), &name("a"), String::new(), None).await.expect("resume");
    assert!(lease(&bench).await.is_none());
    bench.clock.advance(Duration::from_hours(1));
    Scheduler.run_once(&bench.engine).await.expect("sweep");
    assert!(lease(&bench).await.is_some());
}

#[tokio::test]
async fn the_time_to_wait_for_a_worker_does_not_run_while_parked() {
    let bench = Bench::new();
    let minute = Duration::from_mins(1);
    start_with(&bench, Options { queue_timeout: Some(minute), ..Options::default() }).await;
    bench.engine.pause(&caller(), &name("a"), String::new(), String::new()).await.expect("pause");
    bench.clock.advance(Duration::from_mins(10));
    bench.engine.resume(&caller(), &name("a"), String::new(), None).await.expect("resume");
    Reaper.run_once(&bench.engine).await.expect("sweep");
    assert!(matches!(
        bench.engine.get(&caller(), &name("a")).await.expect("view").operation.state,
        State::Pending(_)
    ));
    bench.clock.advance(Duration::from_mins(1));
    Reaper.run_once(&bench.engine).await.expect("sweep");
    assert!(matches!(
        bench.engine.get(&caller(), &name("a")).await.expect("view").operation.state,
        State::Failed(_)
    ));
}

#[tokio::test]
async fn a_suspension_that_ends_in_the_past_ends() {
    let bench = Bench::new();
    bench.start("a").await;
    let token = lease(&bench).await.expect("lease");
    let proof = Proof { token, fingerprint: [0; 16] };
    let suspend = Suspend {
        proof,
        reason: String::new(),
        metadata: None,
        checkpoint: None,
        resume_time: Some(Timestamp::EPOCH),
    };
    bench
        .engine
        .work(&caller(), &name("a"), Command::Suspend(Box::new(suspend)))
        .await
        .expect("suspend");
    Scheduler.run_once(&bench.engine).await.expect("sweep");
    assert!(matches!(
        bench.engine.get(&caller(), &name("a")).await.expect("view").operation.state,
        State::Pending(_)
    ));
}

#[tokio::test]
async fn what_has_expired_is_gone_before_the_janitor_comes() {
    let bench = Bench::new();
    bench.start("a").await;
    bench.engine.cancel(&caller(), &name("a")).await.expect("cancel");
    bench.clock.advance(DEFAULT_TTL);
    let refused = bench.engine.get(&caller(), &name("a")).await.expect_err("expired");
    assert_eq!(refused.reason, Reason::OperationExpired);
    let refused =
        bench.engine.wait(&caller(), &name("a"), Duration::ZERO).await.expect_err("expired");
    assert_eq!(refused.reason, Reason::OperationExpired);
}

#[tokio::test]
async fn a_time_to_live_is_not_shown_again() {
    let bench = Bench::new();
    let ttl = Expiration::After(Duration::from_hours(2));
    start_with(&bench, Options { expiration: Some(ttl), ..Options::default() }).await;
    let view = bench.engine.get(&caller(), &name("a")).await.expect("view");
    assert_eq!(view.operation.record().options.expect("options").expiration, None);
    assert_eq!(view.operation.spec.options.expiration, Some(ttl));
}

#[tokio::test]
async fn a_report_without_a_number_is_appended_once_although_its_commit_was_not_heard_of() {
    let bench = Bench::new();
    bench.start("a").await;
    let token = lease(&bench).await.expect("lease");
    for (fault, errors) in
        [(Fault::AppliedUnknown, 1), (Fault::LostUnknown, 2), (Fault::Conflict, 3)]
    {
        bench.store.inject([fault]);
        let partial_errors =
            vec![Status { code: 5, message: "one".to_owned(), details: Vec::new() }];
        let report = Report { partial_errors, ..report(token) };
        bench
            .engine
            .work(&caller(), &name("a"), Command::Report(Box::new(report)))
            .await
            .expect("report");
        let view = bench.engine.get(&caller(), &name("a")).await.expect("view");
        assert_eq!(view.operation.partial_errors.len(), errors, "{fault:?}");
    }
}

#[tokio::test]
async fn a_report_that_shows_nothing_is_no_change_to_callers() {
    let bench = Bench::new();
    bench.start("a").await;
    let token = lease(&bench).await.expect("lease");
    let before = bench.engine.get(&caller(), &name("a")).await.expect("view");
    bench.clock.advance(Duration::from_secs(20));
    let checkpoint = crate::proto::google::protobuf::Any {
        type_url: "type.googleapis.com/a.B".to_owned(),
        value: vec![1].into(),
    };
    for report in [report(token), Report { checkpoint: Some(checkpoint), ..report(token) }] {
        bench
            .engine
            .work(&caller(), &name("a"), Command::Report(Box::new(report)))
            .await
            .expect("report");
    }
    let after = bench.engine.get(&caller(), &name("a")).await.expect("view");
    assert_eq!(
        (before.operation.etag(), &before.published),
        (after.operation.etag(), &after.published)
    );
    assert!(after.operation.checkpoint.is_some());
    assert!(
        after.operation.state.lease().expect("lease").expire_time
            > before.operation.state.lease().expect("lease").expire_time
    );
}

#[tokio::test]
async fn a_server_that_stops_commits_the_progress_that_it_held_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::embedded(folder.path());
    bench.start("a").await;
    let token = lease(&bench).await.expect("lease");
    for status_detail in ["first", "last"] {
        let report = Report { status_detail: status_detail.to_owned(), ..report(token) };
        bench
            .engine
            .work(&caller(), &name("a"), Command::Report(Box::new(report)))
            .await
            .expect("report");
    }
    let shown = async |bench: &Bench| {
        let view = bench.engine.get(&caller(), &name("a")).await.expect("view");
        view.operation.status_detail.clone()
    };
    assert_eq!(shown(&bench).await, "first");
    bench.engine.stop().await;
    drop(bench);
    assert_eq!(shown(&Bench::embedded(folder.path())).await, "last");
}

#[tokio::test]
async fn a_poll_reads_the_record_once_whether_or_not_the_operation_is_done() {
    let bench = Bench::new();
    bench.start("a").await;
    let poll = async || {
        let before = bench.store.gets();
        let published = bench.engine.poll(&caller(), &name("a")).await.expect("an operation");
        (published.done, bench.store.gets() - before)
    };
    assert_eq!(poll().await, (false, 1));
    bench.engine.cancel(&caller(), &name("a")).await.expect("cancel");
    assert_eq!(poll().await, (true, 1));
    bench.clock.advance(DEFAULT_TTL);
    let expired = bench.engine.poll(&caller(), &name("a")).await.expect_err("expired");
    assert_eq!(expired.reason, Reason::OperationExpired);
}
