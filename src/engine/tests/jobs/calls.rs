//! Creating, deleting and backfilling jobs.

use super::*;
use crate::engine::{JobQuery, PastTicks, Reason};
use crate::operation::Trigger;
use crate::operation::name::ParentPattern;

#[tokio::test]
async fn a_job_is_deleted_with_its_executions_and_its_name_is_free_again() {
    for fixture in Fixture::each().await {
        let name = fixture.create("j", config(Overlap::Allow)).await;
        fixture.harness.clock.advance(MINUTE * 3);
        fixture.sweep().await;
        assert_eq!(fixture.executions(&name).await.len(), 3);
        let refused = fixture.engine.jobs().delete(&caller(), &control(&name, ""), false).await;
        assert_eq!(refused.expect_err("running").reason, Reason::InvalidState);
        let running = fixture.executions(&name).await.remove(0).execution.name();
        let refused = fixture.engine.executions().delete(&running).await;
        assert_eq!(refused.expect_err("running").reason, Reason::InvalidState);
        let forced = fixture.engine.jobs().delete(&caller(), &control(&name, ""), true).await;
        forced.expect("deleted");
        let gone = fixture.engine.jobs().get(&name).await;
        assert_eq!(gone.expect_err("gone").reason, Reason::JobNotFound);
        fixture.sweep().await;
        assert!(fixture.executions(&name).await.is_empty(), "{}", fixture.store_name);
        assert!(fixture.lease().await.is_empty(), "{}: all are cancelled", fixture.store_name);
        let again = fixture.create("j", config(Overlap::Allow)).await;
        assert_eq!(again, name);
        fixture.harness.clock.advance(MINUTE + Duration::from_secs(1));
        fixture.sweep().await;
        assert_eq!(fixture.executions(&name).await.len(), 1, "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_backfill_runs_past_ticks_beside_the_schedule() {
    for fixture in Fixture::each().await {
        let name = fixture.create("j", config(Overlap::Skip)).await;
        let start = fixture.now();
        fixture.harness.clock.advance(Duration::from_hours(2) + Duration::from_secs(30));
        fixture.sweep().await;
        fixture.work(&large("t.Response")).await;
        fixture.sweep().await;
        let ticks = PastTicks {
            start: start + MINUTE * 5,
            end: start + MINUTE * 8,
            request_id: "b".to_owned(),
            validate_only: false,
        };
        for _ in 0..2 {
            let count = fixture.engine.jobs().backfill(&caller(), &name, &ticks).await;
            assert_eq!(count.expect("a count"), 3, "{}", fixture.store_name);
        }
        for _ in 0..3 {
            assert_eq!(fixture.work(&large("t.Response")).await, 1, "{}", fixture.store_name);
            fixture.sweep().await;
        }
        assert_eq!(fixture.work(&large("t.Response")).await, 0);
        let executions = fixture.executions(&name).await;
        let filled = executions.iter().filter(|it| it.execution.trigger == Trigger::Backfill);
        assert_eq!(filled.count(), 3, "{}", fixture.store_name);
        let future = PastTicks { end: fixture.now() + MINUTE, ..ticks };
        let refused = fixture.engine.jobs().backfill(&caller(), &name, &future).await;
        assert_eq!(refused.expect_err("future").reason, Reason::InvalidArgument);
    }
}

#[tokio::test]
async fn the_same_request_creates_one_job_and_other_content_is_refused() {
    for fixture in Fixture::each().await {
        let wanted = JobCreation {
            request: JobRequest { id: "r".to_owned(), fingerprint: [1; 16] },
            ..new_job("", config(Overlap::Skip))
        };
        let first = fixture.engine.jobs().create(&caller(), wanted.clone()).await.expect("a job");
        let again = fixture.engine.jobs().create(&caller(), wanted.clone()).await.expect("a job");
        assert_eq!(first.job.uid, again.job.uid, "{}", fixture.store_name);
        let request = JobRequest { id: "r".to_owned(), fingerprint: [2; 16] };
        let other = JobCreation { request, ..wanted };
        let refused = fixture.engine.jobs().create(&caller(), other).await;
        assert_eq!(refused.expect_err("refused").reason, Reason::RequestIdReused);
        fixture.harness.clock.advance(Duration::from_millis(1));
        let taken =
            fixture.engine.jobs().create(&caller(), new_job("j", config(Overlap::Skip))).await;
        drop(taken.expect("a job"));
        let taken =
            fixture.engine.jobs().create(&caller(), new_job("j", config(Overlap::Skip))).await;
        assert_eq!(taken.expect_err("taken").reason, Reason::JobAlreadyExists);
        let query = |page_token: String| {
            let parent = ParentPattern::parse("projects/p").expect("a parent");
            JobQuery { parent, page_size: 1, page_token }
        };
        let list = fixture.engine.jobs();
        let (jobs, token) = list.list(&caller(), &query(String::new())).await.expect("a page");
        assert_eq!((jobs.len(), jobs[0].job.uid), (1, first.job.uid));
        let (jobs, token) = list.list(&caller(), &query(token)).await.expect("a page");
        assert_eq!((jobs.len(), token.as_str()), (1, ""), "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_repeated_deletion_is_recognised_for_an_hour_and_frees_the_name_at_once() {
    for fixture in Fixture::each().await {
        let jobs = fixture.engine.jobs();
        let name = fixture.create("j", config(Overlap::Allow)).await;
        fixture.harness.clock.advance(MINUTE);
        fixture.sweep().await;
        jobs.delete(&caller(), &control(&name, "d"), true).await.expect("deleted");
        // While its executions are there, and when only the memory is left.
        jobs.delete(&caller(), &control(&name, "d"), true).await.expect("the same");
        fixture.sweep().await;
        jobs.delete(&caller(), &control(&name, "d"), true).await.expect("the same");
        let other = jobs.delete(&caller(), &control(&name, "other"), true).await;
        assert_eq!(other.expect_err("gone").reason, Reason::JobNotFound);
        assert!(fixture.executions(&name).await.is_empty(), "{}", fixture.store_name);

        let again = fixture.create("j", config(Overlap::Allow)).await;
        // The store's time is a little ahead of a clock that stands still.
        fixture.harness.clock.advance(MINUTE + Duration::from_millis(1));
        fixture.sweep().await;
        assert_eq!(fixture.executions(&again).await.len(), 1, "{}", fixture.store_name);
        jobs.delete(&caller(), &control(&name, "e"), true).await.expect("deleted");
        fixture.sweep().await;
        fixture.harness.clock.advance(Duration::from_mins(61));
        fixture.sweep().await;
        let late = jobs.delete(&caller(), &control(&name, "e"), true).await;
        assert_eq!(late.expect_err("forgotten").reason, Reason::JobNotFound);
        let key = fixture.engine.store().keyspace().key(name.as_str());
        let left = fixture.engine.store().get(&[key]).await.expect("the store answers");
        assert!(left[0].is_none(), "{}", fixture.store_name);
    }
}
