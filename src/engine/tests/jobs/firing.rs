//! Ticks and ends, whatever crashes and however many servers there are.

use futures_util::future::join_all;

use super::super::damage::damage;
use super::*;
use crate::engine::firing::transactions::JobTransaction;
use crate::engine::transact::Decision;
use crate::engine::{Reason, Settings, TenantLimits};
use crate::job::Job;
use crate::operation::State;
use crate::proto::longhaul::v1::operation_record::State as Stage;
use crate::record::{Before, Change};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_at_any_step_of_a_firing_loses_and_doubles_nothing() {
    for fixture in Fixture::each().await {
        let name = fixture.create("j", config(Overlap::Allow)).await;
        let mut ticks = 0;
        for step in 0..5 {
            for last in [Fault::LostUnknown, Fault::AppliedUnknown, Fault::Conflict] {
                // Some commits succeed, one is in doubt, and the server is never heard of again.
                let good = std::iter::repeat_n(Fault::None, step);
                let gone = std::iter::repeat_n(Fault::LostUnknown, 1_000);
                let crashing = fixture.other(good.chain([last]).chain(gone));
                fixture.harness.clock.advance(MINUTE);
                ticks += 1;
                drop(Scheduler.run_once(&crashing).await);
                fixture.sweep().await;
                let executions = fixture.executions(&name).await;
                let what = format!("{}, {step}, {last:?}", fixture.store_name);
                assert_eq!(executions.len(), ticks, "{what}");
                let mut of: Vec<_> = executions.iter().map(|it| it.execution.tick).collect();
                of.dedup();
                assert_eq!(of.len(), ticks, "{what}");
                assert!(executions.iter().all(|it| it.stage() == Stage::Pending), "{what}");
                let job = fixture.job(&name).await.job;
                assert!(job.steps().is_empty() && job.runs.len() == ticks, "{what}");
            }
        }
        assert_eq!(fixture.lease().await.len(), 10, "{}", fixture.store_name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_servers_fire_each_tick_once() {
    for fixture in Fixture::each().await {
        let mut names = Vec::new();
        for number in 0..5 {
            names.push(fixture.create(&format!("j{number}"), config(Overlap::Allow)).await);
        }
        let servers: Vec<Engine> = (0..10).map(|_| fixture.other([])).collect();
        for tick in 1..=5 {
            fixture.harness.clock.advance(MINUTE);
            join_all(servers.iter().map(|server| Scheduler.run_once(server))).await;
            fixture.sweep().await;
            for name in &names {
                let found = fixture.executions(name).await.len();
                assert_eq!(found, tick, "{}", fixture.store_name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_at_any_step_of_an_end_loses_nothing() {
    for fixture in Fixture::each().await {
        let name =
            fixture.create("j", JobConfig { schedule: None, ..config(Overlap::Queue) }).await;
        let mut runs = 0;
        for step in 0..5 {
            for last in [Fault::LostUnknown, Fault::AppliedUnknown, Fault::Conflict] {
                let what = format!("{}, {step}, {last:?}", fixture.store_name);
                let pair = [format!("{runs}-a"), format!("{runs}-b")];
                let first = fixture.run(&name, &pair[0]).await;
                let second = fixture.run(&name, &pair[1]).await;
                runs += 2;
                assert_eq!(fixture.work(&large("t.Response")).await, 1, "{what}");

                let good = std::iter::repeat_n(Fault::None, step);
                let gone = std::iter::repeat_n(Fault::LostUnknown, 1_000);
                let crashing = fixture.other(good.chain([last]).chain(gone));
                drop(Scheduler.run_once(&crashing).await);
                fixture.sweep().await;
                let done = fixture.engine.get(&caller(), &first).await.expect("the first");
                assert!(done.operation.state.is_done(), "{what}");
                let next = fixture.engine.get(&caller(), &second).await.expect("the second");
                assert!(matches!(next.operation.state, State::Pending(_)), "{what}");
                assert_eq!(fixture.work(&large("t.Response")).await, 1, "{what}");
                fixture.sweep().await;
                assert_eq!(fixture.job(&name).await.job.runs, [], "{what}");
                assert_eq!(fixture.executions(&name).await.len(), runs, "{what}");
            }
        }
    }
}

/// The id is the same on every server and at every time, so a store that went back starts no tick twice.
#[tokio::test]
async fn a_job_whose_record_went_back_starts_no_tick_twice() {
    for fixture in Fixture::each().await {
        let name = fixture.create("j", config(Overlap::Allow)).await;
        let before = fixture.job(&name).await.job;
        fixture.harness.clock.advance(MINUTE * 3);
        fixture.sweep().await;
        let first = fixture.executions(&name).await;
        assert_eq!(first.len(), 3, "{}", fixture.store_name);
        let key = fixture.engine.store().keyspace().key(name.as_str());
        let mut back = JobTransaction::new(key, |_: Option<&Before<Job>>, _| {
            Decision::Commit(Box::new(Change::of(Some(before.clone()))))
        });
        let transactor = fixture.engine.rooms.commands.transactor();
        transactor.transact_one(&mut back).await.into_result().expect("written");
        let other = fixture.other([]);
        sweep(&other).await;
        let again = fixture.executions(&name).await;
        let names = |all: &[ExecutionView]| -> Vec<Name> {
            all.iter().map(|it| it.operation_name.clone()).collect()
        };
        assert_eq!(names(&again), names(&first), "{}", fixture.store_name);
        assert_eq!(fixture.lease().await.len(), 3, "{}", fixture.store_name);
    }
}

/// A run of a schedule has no caller to refuse it to.
#[tokio::test]
async fn a_tenant_that_stores_as_much_as_it_may_skips_its_ticks() {
    for fixture in Fixture::each().await {
        let name = fixture.create("j", config(Overlap::Allow)).await;
        let limits = TenantLimits { operations: 2, ..TenantLimits::default() };
        let settings = Settings { tenant_limits: limits, ..Settings::default() };
        let (store, clock) = (fixture.harness.store.clone(), fixture.harness.clock.clone());
        let limited = Engine::with(store, clock, settings);
        for _ in 0..5 {
            fixture.harness.clock.advance(MINUTE);
            sweep(&limited).await;
        }
        assert_eq!(fixture.executions(&name).await.len(), 2, "{}", fixture.store_name);
        assert_eq!(fixture.job(&name).await.job.skipped, 3, "{}", fixture.store_name);
        let refused = limited.jobs().run(&caller(), &name, "", "").await;
        assert_eq!(refused.expect_err("refused").reason, Reason::TenantLimit);
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_holds_up_no_other() {
    for fixture in Fixture::each().await {
        let damaged = fixture.create("a", config(Overlap::Allow)).await;
        let sound = fixture.create("b", config(Overlap::Allow)).await;
        let store = fixture.engine.store();
        damage(&**store, store.keyspace().key(damaged.as_str())).await;
        for tick in 1..=3 {
            fixture.harness.clock.advance(MINUTE);
            for _ in 0..2 {
                Scheduler.run_once(&fixture.engine).await.expect("a sweep");
            }
            let fired = fixture.executions(&sound).await.len();
            assert_eq!(fired, tick, "{}", fixture.store_name);
        }
        let refused = fixture.engine.jobs().get(&damaged).await;
        assert_eq!(refused.expect_err("damaged").reason, Reason::Internal);
    }
}
