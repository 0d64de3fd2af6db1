//! Executions: what they keep, and how many there are.

use super::*;
use crate::engine::firing::transactions::JobTransaction;
use crate::engine::transact::Decision;
use crate::engine::{Reason, Reconfigure};
use crate::job::Job;
use crate::operation::Trigger;
use crate::proto::longhaul::v1::operation_record::State as Stage;
use crate::record::{Before, Change};

#[tokio::test]
async fn an_execution_keeps_what_ran_and_its_result_after_the_operation_is_gone() {
    for fixture in Fixture::each().await {
        let store_name = fixture.store_name;
        let name = fixture.create("j", config(Overlap::Skip)).await;
        let operation = fixture.run(&name, "once").await;
        assert_eq!(fixture.work(&large("t.Response")).await, 1);
        // Another configuration does not change what ran.
        let other = |config: &JobConfig| {
            let spec = Spec { method: "other".to_owned(), request: None, ..(*config.spec).clone() };
            Ok(JobConfig { spec: spec.into(), ..config.clone() })
        };
        let request = &JobRequest::default();
        let wanted = Reconfigure { etag: "", request, validate_only: false, change: &other };
        fixture.engine.jobs().update(&caller(), &name, &wanted).await.expect("updated");
        fixture.engine.delete(&caller(), &operation).await.expect("deleted");
        fixture.sweep().await;

        let listed = fixture.executions(&name).await.remove(0);
        let found = fixture.engine.executions().get(&listed.execution.name()).await;
        let found = found.expect("an execution");
        assert_eq!(found.stage(), Stage::Succeeded, "{store_name}");
        assert_eq!(found.execution.trigger, Trigger::Manual);
        assert_eq!(found.execution.spec.method, "m", "{store_name}");
        assert_eq!(found.request, Some(large("t.Request")), "{store_name}");
        assert_eq!(found.response, Some(large("t.Response")), "{store_name}");
        let end = found.end.expect("an end");
        assert!(end.settled && end.attempts == 1 && end.start_time.is_some(), "{store_name}");
        assert_eq!(found.operation_name, operation);

        fixture.engine.executions().delete(&listed.execution.name()).await.expect("gone");
        assert!(fixture.executions(&name).await.is_empty(), "{store_name}");
        let again = fixture.engine.executions().delete(&listed.execution.name()).await;
        assert_eq!(again.expect_err("gone").reason, Reason::ExecutionNotFound);
    }
}

#[tokio::test]
async fn no_more_executions_are_kept_than_the_job_says() {
    for fixture in Fixture::each().await {
        let few = JobConfig { history_limit: 3, ..config(Overlap::Allow) };
        let name = fixture.create("j", few).await;
        for _ in 0..7 {
            fixture.harness.clock.advance(MINUTE);
            fixture.sweep().await;
            assert_eq!(fixture.work(&large("t.Response")).await, 1);
            fixture.sweep().await;
        }
        let kept = fixture.executions(&name).await;
        assert_eq!(kept.len(), 3, "{}", fixture.store_name);
        let ticks: Vec<_> = kept.iter().map(|it| it.execution.tick.expect("a tick")).collect();
        let last = fixture.job(&name).await.job.last_tick.expect("a tick");
        assert_eq!(ticks, [last, last - MINUTE, last - MINUTE * 2], "{}", fixture.store_name);
        let mut filtered = query(&name, 10);
        let types = crate::types::Registry::builtin();
        filtered.filter = Filter::parse("done = false", &types).expect("a filter");
        let (none, _) =
            fixture.engine.executions().list(&caller(), &filtered).await.expect("a page");
        assert!(none.is_empty(), "{}", fixture.store_name);
        let (page, token) =
            fixture.engine.executions().list(&caller(), &query(&name, 2)).await.expect("a page");
        assert_eq!(page.len(), 2);
        let rest = ExecutionQuery { page_token: token, ..query(&name, 2) };
        let (page, token) =
            fixture.engine.executions().list(&caller(), &rest).await.expect("a page");
        assert_eq!((page.len(), token.as_str()), (1, ""), "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn no_more_are_kept_after_many_runs_that_end_together() {
    for fixture in Fixture::each().await {
        let few = JobConfig { history_limit: 3, ..config(Overlap::Allow) };
        let name = fixture.create("j", few).await;
        fixture.harness.clock.advance(MINUTE * 10);
        fixture.sweep().await;
        assert_eq!(fixture.executions(&name).await.len(), 10, "{}: they run", fixture.store_name);
        assert_eq!(fixture.work(&large("t.Response")).await, 10);
        fixture.sweep().await;
        let ticks = ticks(&fixture, &name).await;
        let last = fixture.job(&name).await.job.last_tick.expect("a tick");
        assert_eq!(ticks, [last, last - MINUTE, last - MINUTE * 2], "{}", fixture.store_name);
        assert!(fixture.job(&name).await.job.kept >= Some(3), "{}", fixture.store_name);
    }
}

/// A job that an older longhaul wrote, and one with executions that callers have deleted.
#[tokio::test]
async fn a_wrong_number_of_executions_is_put_right_and_removes_none_too_many() {
    for fixture in Fixture::each().await {
        let few = JobConfig { history_limit: 3, ..config(Overlap::Allow) };
        let name = fixture.create("j", few).await;
        let key = fixture.engine.store().keyspace().key(name.as_str());
        for known in [None, Some(50), Some(3)] {
            let mut back = JobTransaction::new(key, |before: Option<&Before<Job>>, _| {
                let job = before.expect("the job").record.clone();
                Decision::Commit(Box::new(Change::of(Some(Job { kept: known, ..job }))))
            });
            let transactor = fixture.engine.rooms.commands.transactor();
            transactor.transact_one(&mut back).await.into_result().expect("written");
            if let Some(oldest) = fixture.executions(&name).await.pop() {
                fixture.engine.executions().delete(&oldest.execution.name()).await.expect("gone");
            }
            for _ in 0..2 {
                fixture.harness.clock.advance(MINUTE);
                fixture.sweep().await;
                assert_eq!(fixture.work(&large("t.Response")).await, 1);
                fixture.sweep().await;
            }
            let what = format!("{}, {known:?}", fixture.store_name);
            let ticks = ticks(&fixture, &name).await;
            let last = fixture.job(&name).await.job.last_tick.expect("a tick");
            assert_eq!(ticks[..2], [last, last - MINUTE], "{what}");
            let kept = fixture.job(&name).await.job.kept.expect("a number") as usize;
            assert!(ticks.len() <= kept && kept <= 3, "{what}: {kept} for {}", ticks.len());
        }
    }
}

async fn ticks(fixture: &Fixture, name: &JobName) -> Vec<Timestamp> {
    let kept = fixture.executions(name).await;
    kept.iter().map(|it| it.execution.tick.expect("a tick")).collect()
}
