//! Jobs on every store: each tick starts one operation, whatever fails and however many servers there are.

use std::time::Duration;

use futures_util::future::join_all;

use super::caller;
use crate::clock::Timestamp;
use crate::engine::firing::transactions::JobTransaction;
use crate::engine::transact::Decision;
use crate::engine::{
    Engine, ExecutionQuery, ExecutionView, JobControl, JobCreation, JobQuery, JobRequest, JobView,
    LeaseRequest, LeaseScope, Leased, PastTicks, Reason, Reconfigure, Scheduler,
};
use crate::filter::Filter;
use crate::job::name::JobName;
use crate::job::schedule::{Schedule, Timing};
use crate::job::zone::Zone;
use crate::job::{Job, JobConfig, Overlap};
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::name::{Name, Parent, ParentPattern, Queue};
use crate::operation::payload::{Payload, type_url};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Spec, State, Trigger};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::operation_record::State as Stage;
use crate::record::{Before, Change};
use crate::store::conformance::Harness;
use crate::store::differential::backends;
use crate::store::faulty::{Fault, FaultPlan, Faulty};

const MINUTE: Duration = Duration::from_mins(1);

/// A server on an empty store, and everything that a test does to it.
struct Fixture {
    store_name: &'static str,
    harness: Harness,
    engine: Engine,
}

impl Fixture {
    /// One for each store.
    async fn each() -> Vec<Self> {
        let mut all = Vec::new();
        for (store_name, factory) in backends() {
            let harness = factory().await;
            let engine = Engine::without_agents(harness.store.clone(), harness.clock.clone());
            all.push(Self { store_name, harness, engine });
        }
        all
    }

    /// Another server on the same store, for which commits fail as the faults say.
    fn other(&self, faults: impl IntoIterator<Item = Fault>) -> Engine {
        let faulty = Faulty::new(self.harness.store.clone(), FaultPlan::default());
        faulty.inject(faults);
        Engine::without_agents(faulty, self.harness.clock.clone())
    }

    async fn create(&self, id: &str, config: JobConfig) -> JobName {
        let view = self.engine.jobs().create(&caller(), new_job(id, config)).await.expect("a job");
        view.job.name
    }

    async fn job(&self, name: &JobName) -> JobView {
        self.engine.jobs().get(name).await.expect("the job")
    }

    async fn executions(&self, name: &JobName) -> Vec<ExecutionView> {
        let (page, token) =
            self.engine.executions().list(&caller(), &query(name, 1_000)).await.expect("a page");
        assert_eq!(token, "", "{}", self.store_name);
        page
    }

    /// Lets this server do everything that is due.
    async fn sweep(&self) {
        sweep(&self.engine).await;
    }

    async fn run(&self, name: &JobName, request_id: &str) -> Name {
        // Executions are listed by their time.
        self.harness.clock.advance(Duration::from_millis(1));
        let ran = self.engine.jobs().run(&caller(), name, "", request_id).await;
        let (view, _) = ran.unwrap_or_else(|error| panic!("{}: {error}", self.store_name));
        view.operation.name.clone()
    }

    /// Leases what is ready.
    async fn lease(&self) -> Vec<Leased> {
        let request = LeaseRequest {
            queue: Queue::parse("q").expect("a queue"),
            worker: "w".to_owned(),
            max: 10,
            duration: Duration::from_secs(30),
            wait: Duration::ZERO,
            process: WorkerProcess::default(),
            scope: LeaseScope::default(),
        };
        let mut batch = self.engine.lease(&caller(), request).await.expect("a batch");
        let leased = batch.load(usize::MAX).await.expect("payloads");
        batch.told();
        leased
    }

    /// Leases everything that is ready, and completes it; how many there were.
    async fn work(&self, response: &Any) -> usize {
        let leased = self.lease().await;
        for leased in &leased {
            let proof =
                Proof { token: leased.lease().expect("a lease").token, fingerprint: [1; 16] };
            let complete = Complete {
                proof,
                response: Some(response.clone()),
                metadata: None,
                related_resources: Vec::new(),
                progress: None,
            };
            let command = Command::Complete(Box::new(complete));
            let name = &leased.operation.name;
            self.engine.work(&caller(), name, command).await.expect("completed");
        }
        leased.len()
    }

    fn now(&self) -> Timestamp {
        use crate::clock::Clock;
        self.harness.clock.now()
    }
}

async fn sweep(engine: &Engine) {
    for _ in 0..100 {
        let swept = Scheduler.run_once(engine).await.expect("a sweep");
        if swept.due == 0 {
            return;
        }
    }
    panic!("something stays due");
}

fn new_job(id: &str, config: JobConfig) -> JobCreation {
    JobCreation {
        parent: Parent::parse("projects/p").expect("a parent"),
        id: id.to_owned(),
        config,
        request: JobRequest::default(),
        validate_only: false,
    }
}

fn control(name: &JobName, request_id: &str) -> JobControl {
    let request = JobRequest { id: request_id.to_owned(), fingerprint: [3; 16] };
    JobControl { name: name.clone(), etag: String::new(), request }
}

fn query(name: &JobName, page_size: usize) -> ExecutionQuery {
    ExecutionQuery {
        job: name.clone(),
        page_size,
        page_token: String::new(),
        filter: Filter::parse("", &crate::types::Registry::builtin()).expect("a filter"),
        oldest_first: false,
    }
}

/// Every minute, with a request that is stored beside the record.
fn config(overlap: Overlap) -> JobConfig {
    let spec = Spec {
        queue: Queue::parse("q").expect("a queue"),
        method: "m".to_owned(),
        request: Some(Payload::Inline(large("t.Request"))),
        server_metadata: true,
        ..Spec::default()
    };
    JobConfig {
        display_name: String::new(),
        spec: spec.into(),
        schedule: Some(Schedule {
            timing: Timing::Interval(MINUTE),
            zone: Zone::default(),
            jitter: Duration::ZERO,
            start_time: None,
            end_time: None,
        }),
        overlap,
        catch_up_window: Duration::from_hours(1),
        history_limit: 100,
    }
}

fn large(name: &str) -> Any {
    Any { type_url: type_url(name), value: vec![b'x'; 5_000].into() }
}

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
            JobConfig { spec: spec.into(), ..config.clone() }
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
