//! Jobs on every store: each tick starts one operation, whatever fails and however many servers there are.

mod calls;
mod cost;
mod firing;
mod history;
mod overlap;
mod starts;

use std::time::Duration;

use super::caller;
use crate::clock::Timestamp;
use crate::engine::{
    Engine, ExecutionQuery, ExecutionView, JobControl, JobCreation, JobRequest, JobView,
    LeaseRequest, LeaseScope, Leased, Scheduler,
};
use crate::filter::Filter;
use crate::job::name::JobName;
use crate::job::schedule::{Schedule, Timing};
use crate::job::zone::Zone;
use crate::job::{JobConfig, Overlap};
use crate::operation::Spec;
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::name::{Name, Parent, Queue};
use crate::operation::payload::{Payload, type_url};
use crate::operation::worker::WorkerProcess;
use crate::proto::google::protobuf::Any;
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
