//! Runs while another run of their job is not over.

use super::*;
use crate::engine::Reason;
use crate::operation::State;
use crate::proto::longhaul::v1::operation_record::State as Stage;

#[tokio::test]
async fn a_run_by_a_caller_happens_once_for_each_request_and_follows_the_policy() {
    for fixture in Fixture::each().await {
        let name = fixture.create("j", JobConfig { schedule: None, ..config(Overlap::Skip) }).await;
        let first = fixture.run(&name, "a").await;
        assert_eq!(fixture.run(&name, "a").await, first);
        let refused = fixture.engine.jobs().run(&caller(), &name, "", "b").await;
        assert_eq!(refused.expect_err("refused").reason, Reason::InvalidState);
        assert_eq!(fixture.work(&large("t.Response")).await, 1);
        // Its end was not told yet, and still counts.
        let second = fixture.run(&name, "b").await;
        assert_ne!(second, first);
        assert_eq!(fixture.run(&name, "a").await, first, "{}", fixture.store_name);
        let stale = fixture.engine.jobs().run(&caller(), &name, "\"1\"", "c").await;
        assert_eq!(stale.expect_err("refused").reason, Reason::EtagMismatch);
        let missing = JobName::parse("jobs/none").expect("a name");
        let missing = fixture.engine.jobs().run(&caller(), &missing, "", "").await;
        assert_eq!(missing.expect_err("refused").reason, Reason::JobNotFound);
    }
}

#[tokio::test]
async fn a_queued_run_waits_and_only_its_job_releases_it() {
    for fixture in Fixture::each().await {
        let name =
            fixture.create("j", JobConfig { schedule: None, ..config(Overlap::Queue) }).await;
        fixture.run(&name, "a").await;
        let waiting = fixture.run(&name, "b").await;
        let last = fixture.run(&name, "c").await;
        let view = fixture.engine.get(&caller(), &waiting).await.expect("the operation");
        assert!(matches!(view.operation.state, State::Suspended(_)), "{}", fixture.store_name);
        assert!(view.operation.suspend_reason.contains("another execution"));
        let resumed = fixture.engine.resume(&caller(), &waiting, String::new(), None).await;
        assert_eq!(resumed.expect_err("refused").reason, Reason::InvalidState);
        // Deleting one that waits ends it, and its execution.
        fixture.engine.delete(&caller(), &waiting).await.expect("deleted");
        fixture.sweep().await;
        let states = fixture.executions(&name).await;
        let states: Vec<Stage> = states.iter().map(ExecutionView::stage).collect();
        assert_eq!(states, [Stage::Suspended, Stage::Cancelled, Stage::Pending]);
        assert_eq!(fixture.work(&large("t.Response")).await, 1);
        fixture.sweep().await;
        let view = fixture.engine.get(&caller(), &last).await.expect("the operation");
        assert!(matches!(view.operation.state, State::Pending(_)), "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_preempting_run_cancels_the_others_and_begins_once_they_have_ended() {
    for fixture in Fixture::each().await {
        let name =
            fixture.create("j", JobConfig { schedule: None, ..config(Overlap::Preempt) }).await;
        let first = fixture.run(&name, "a").await;
        assert_eq!(fixture.lease().await.len(), 1);
        let second = fixture.run(&name, "b").await;
        let state = async |name: &Name| {
            fixture.engine.get(&caller(), name).await.expect("there").operation.state.name()
        };
        assert_eq!((state(&first).await, state(&second).await), ("CANCELLING", "SUSPENDED"));
        // The worker does not stop in time.
        fixture.harness.clock.advance(Duration::from_mins(2));
        crate::engine::Reaper.run_once(&fixture.engine).await.expect("a sweep");
        fixture.sweep().await;
        let states = (state(&first).await, state(&second).await);
        assert_eq!(states, ("CANCELLED", "PENDING"), "{}", fixture.store_name);
    }
}

/// Nothing works on a paused run that could confirm a cancel.
#[tokio::test]
async fn a_run_that_a_caller_has_paused_is_not_over_and_is_preempted_at_once() {
    for fixture in Fixture::each().await {
        for overlap in [Overlap::Skip, Overlap::Preempt] {
            let config = JobConfig { schedule: None, ..config(overlap) };
            let name = fixture.create(&format!("j{}", overlap as u32), config).await;
            let first = fixture.run(&name, "a").await;
            let caller_of = caller();
            let paused = fixture.engine.pause(&caller_of, &first, String::new(), String::new());
            paused.await.expect("paused");
            fixture.sweep().await;
            let state = async |name: &Name| {
                fixture.engine.get(&caller(), name).await.expect("there").operation.state.name()
            };
            if overlap == Overlap::Skip {
                let refused = fixture.engine.jobs().run(&caller(), &name, "", "b").await;
                assert_eq!(refused.expect_err("refused").reason, Reason::InvalidState);
                continue;
            }
            let second = fixture.run(&name, "b").await;
            fixture.sweep().await;
            let states = (state(&first).await, state(&second).await);
            assert_eq!(states, ("CANCELLED", "PENDING"), "{}", fixture.store_name);
        }
    }
}
