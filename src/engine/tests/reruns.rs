//! Bulk reruns on every store: whatever fails, each operation that matches is started again once.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::caller;
use crate::code::Code;
use crate::engine::{
    BulkRerun, Engine, LeaseRequest, LeaseScope, ListQuery, Listed, Reaper, Scheduler,
};
use crate::filter::{Filter, Order};
use crate::operation::command::{Command, Fail, Proof};
use crate::operation::name::{Name, ParentPattern, Queue};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Operation, Spec, Start, State};
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::store::conformance::Harness;
use crate::store::differential::backends;
use crate::store::faulty::{Fault, FaultPlan, Faulty};

const QUEUE: &str = "q";
/// More than two reports of a bulk rerun.
const COUNT: usize = 210;

struct Fixture {
    store_name: &'static str,
    harness: Harness,
    engine: Engine,
}

impl Fixture {
    /// One for each store, with operations that have failed.
    async fn each() -> Vec<Self> {
        let mut all = Vec::new();
        for (store_name, factory) in backends() {
            let harness = factory().await;
            let engine = Engine::without_agents(harness.store.clone(), harness.clock.clone());
            let fixture = Self { store_name, harness, engine };
            fixture.fill().await;
            all.push(fixture);
        }
        all
    }

    async fn fill(&self) {
        for _ in 0..COUNT {
            let spec = Spec { queue: Queue::parse(QUEUE).expect("a queue"), ..Spec::default() };
            let start = Start { spec, ..Start::default() };
            self.engine.start_operation(&caller(), start).await.expect("started");
        }
        let mut failed = 0;
        while failed < COUNT {
            let request = LeaseRequest {
                queue: Queue::parse(QUEUE).expect("a queue"),
                worker: "w".to_owned(),
                max: 100,
                duration: Duration::from_secs(30),
                wait: Duration::ZERO,
                process: WorkerProcess::default(),
                scope: LeaseScope::default(),
            };
            let mut batch = self.engine.lease(&caller(), request).await.expect("a batch");
            for leased in batch.load(usize::MAX).await.expect("payloads") {
                let token = leased.lease().expect("a lease").token;
                let code = Code::InvalidArgument as i32;
                let fail = Fail {
                    proof: Proof { token, fingerprint: [1; 16] },
                    error: Status { code, ..Status::default() },
                    retry: Some(false),
                    retry_delay: None,
                    metadata: None,
                    checkpoint: None,
                };
                let command = Command::Fail(Box::new(fail));
                let name = &leased.operation.name;
                self.engine.work(&caller(), name, command).await.expect("failed");
                failed += 1;
            }
            batch.told();
        }
        self.harness.clock.advance(Duration::from_secs(1));
    }

    async fn rerun_all(&self) -> Name {
        let filter = "state() = FAILED".to_owned();
        let request = pb::RerunOperationsRequest { filter, ..Default::default() };
        let wanted = BulkRerun { request, fingerprint: [0; 16] };
        let started = self.engine.rerun_all(&caller(), wanted).await.expect("started");
        Name::parse(&started.published.name).expect("a name")
    }

    async fn get(&self, name: &Name) -> Operation {
        self.engine.get(&caller(), name).await.expect("there").operation.clone()
    }

    /// How many operations wait in the queue.
    async fn waiting(&self) -> usize {
        let types = crate::types::Registry::builtin();
        let text = format!("state() = PENDING AND queue() = {QUEUE}");
        let (mut count, mut page_token) = (0, String::new());
        loop {
            let query = ListQuery {
                parent: ParentPattern::parse("").expect("a parent"),
                filter: Filter::parse(&text, &types).expect("a filter"),
                order: Order::NewestFirst,
                page_size: 1_000,
                page_token,
                partial: false,
                listed: Listed::Operations,
            };
            let page = self.engine.list(&caller(), query).await.expect("a page");
            count += page.views.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return count;
            }
        }
    }

    /// Another server, for which commits fail as the faults say.
    fn other(&self, faults: impl IntoIterator<Item = Fault>) -> Engine {
        let faulty = Faulty::new(self.harness.store.clone(), FaultPlan::default());
        faulty.inject(faults);
        Engine::without_agents(faulty, self.harness.clock.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_rerun_whose_server_crashes_anywhere_starts_each_operation_once() {
    for fixture in Fixture::each().await {
        let mut expected = 0;
        // The lease is the first commit, 100 starts and a report follow.
        for step in [0, 1, 30, 101, 102, 150, 202] {
            let what = format!("{}, {step}", fixture.store_name);
            let bulk = fixture.rerun_all().await;
            let good = std::iter::repeat_n(Fault::None, step);
            let gone = std::iter::repeat_n(Fault::LostUnknown, 1_000);
            let crashing = fixture.other(good.chain([Fault::AppliedUnknown]).chain(gone));
            drop(crashing.work_on_rerun().await);
            assert!(!fixture.get(&bulk).await.state.is_done(), "{what}");
            // Its lease ends, and another server takes it.
            fixture.harness.clock.advance(Duration::from_mins(2));
            Reaper.run_once(&fixture.engine).await.expect("a sweep");
            fixture.harness.clock.advance(Duration::from_mins(2));
            Scheduler.run_once(&fixture.engine).await.expect("a sweep");
            while fixture.engine.work_on_rerun().await.expect("the store answers") {}
            let done = fixture.get(&bulk).await;
            assert!(matches!(done.state, State::Succeeded(_)), "{what}: {:?}", done.state);
            expected += COUNT;
            assert_eq!(fixture.waiting().await, expected, "{what}");
        }
    }
}

#[tokio::test]
async fn a_bulk_rerun_goes_on_after_the_store_was_away() {
    for fixture in Fixture::each().await {
        let bulk = fixture.rerun_all().await;
        // The lease, some starts, and then none for a moment.
        let good = std::iter::repeat_n(Fault::None, 40);
        let server = fixture.other(good.chain(std::iter::repeat_n(Fault::LostUnknown, 200)));
        for _ in 0..1_000 {
            drop(server.work_on_rerun().await);
            if fixture.get(&bulk).await.state.is_done() {
                break;
            }
            fixture.harness.clock.advance(Duration::from_secs(20));
            drop(Reaper.run_once(&server).await);
            drop(Scheduler.run_once(&server).await);
        }
        assert!(matches!(fixture.get(&bulk).await.state, State::Succeeded(_)));
        assert_eq!(fixture.waiting().await, COUNT, "{}", fixture.store_name);
    }
}

/// Calls `action` while the commit is on its way that follows so many others.
fn at_commit(store: &Arc<Faulty>, number: usize, action: impl FnOnce() + Send + 'static) {
    let shared = Arc::clone(store);
    store.during_next_commit(move || match number {
        0 => action(),
        number => at_commit(&shared, number - 1, Box::new(action) as Box<dyn FnOnce() + Send>),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_rerun_that_is_cancelled_in_the_middle_says_how_far_it_came_and_starts_no_more() {
    for fixture in Fixture::each().await {
        let bulk = fixture.rerun_all().await;
        let faulty = Faulty::new(fixture.harness.store.clone(), FaultPlan::default());
        let server = Engine::without_agents(faulty.clone(), fixture.harness.clock.clone());
        let (caller_of, name) = (fixture.engine.clone(), bulk.clone());
        // Among the starts of the first page.
        at_commit(&faulty, 30, move || {
            let runtime = tokio::runtime::Handle::current();
            let cancelling = async { caller_of.cancel(&caller(), &name).await };
            tokio::task::block_in_place(|| runtime.block_on(cancelling)).expect("cancelled");
        });
        while server.work_on_rerun().await.expect("the store answers") {}
        while fixture.engine.work_on_rerun().await.expect("the store answers") {}
        let done = fixture.engine.get(&caller(), &bulk).await.expect("there");
        let state = &done.operation.state;
        assert!(matches!(state, State::Cancelled(_)), "{}: {state:?}", fixture.store_name);
        let metadata = done.published.metadata.as_ref().expect("metadata");
        let metadata = pb::RerunOperationsMetadata::decode(&metadata.value[..]).expect("its type");
        let started = fixture.waiting().await;
        assert_eq!(metadata.rerun_count, started as i64, "{}", fixture.store_name);
        assert!(started < COUNT, "{}: {started}", fixture.store_name);
    }
}
