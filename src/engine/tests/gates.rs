//! Gates: the limit of a concurrency key holds on two servers, and whatever crash comes between two steps.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{caller, clock, name, request, wish};
use crate::clock::ManualClock;
use crate::engine::{Engine, Leased, Reaper, Reason, Result, Started};
use crate::operation::command::{Command, Complete, Fail, Proof, Release, Suspend};
use crate::operation::gate::{Admittance, GateName};
use crate::operation::{Operation, Record, Start, State};
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::concurrency::Policy;
use crate::record::gate::GateRecord;
use crate::store::faulty::{Fault, FaultPlan, Faulty};
use crate::store::memory::MemoryStore;
use crate::store::{Index, Key, Keyspace, Scan, Store};

/// Servers on one store, each with faults of its own.
struct Servers {
    all: Vec<(Engine, Arc<Faulty>)>,
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
}

impl Servers {
    fn new(plans: [FaultPlan; 2]) -> Self {
        let clock = clock();
        let store = MemoryStore::new(Keyspace::generate(4), clock.clone());
        let server = |plan| {
            let faulty = Faulty::new(store.clone(), plan);
            (Engine::without_agents(faulty.clone(), clock.clone()), faulty)
        };
        Self { all: plans.map(server).into(), clock, store }
    }

    fn calm() -> Self {
        Self::new([FaultPlan::default(); 2])
    }

    fn engine(&self) -> &Engine {
        &self.all[0].0
    }

    async fn start(&self, server: usize, id: &str, limit: i32, policy: Policy) -> Result<Started> {
        self.all[server].0.start_operation(&caller(), keyed(id, limit, policy)).await
    }

    /// The operation as it is stored, whatever the servers have cached.
    async fn stored(&self, id: &str) -> Option<Operation> {
        let key = self.store.keyspace().key(name(id).as_str());
        let record = self.store.get(&[key]).await.expect("an answer").remove(0)?;
        let read = crate::record::read::<Record>(&record).expect("readable");
        read.record.operation().cloned()
    }

    async fn gate(&self) -> Option<GateRecord> {
        let gate = GateName::Key { parent: String::new(), key: "k".to_owned() };
        let key = GateRecord::key(self.store.keyspace(), &gate);
        let record = self.store.get(&[key]).await.expect("an answer").remove(0)?;
        Some(crate::record::read::<GateRecord>(&record).expect("readable").record)
    }

    /// The unfinished operations that have a slot, which never are more than the limit. The gate knows each of them.
    async fn running(&self, ids: &[&str], limit: usize) -> Vec<String> {
        let slots = self.gate().await.map(|gate| gate.slots).unwrap_or_default();
        let mut running = Vec::new();
        for id in ids {
            let Some(operation) = self.stored(id).await else { continue };
            let Some(since) = operation.admitted() else { continue };
            let key = self.store.keyspace().key(name(id).as_str());
            assert!(slots.iter().any(|slot| slot.key == key && slot.since == since), "{id}");
            running.push((*id).to_owned());
        }
        assert!(running.len() <= limit, "{running:?} run, {limit} may");
        running
    }

    /// Lets background work go on until something holds.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..2_000 {
            if holds().await {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{what} does not come");
    }

    async fn admitted(&self, id: &str) {
        let has_slot =
            async || self.stored(id).await.is_some_and(|operation| operation.admitted().is_some());
        self.until(&format!("a slot for {id}"), has_slot).await;
    }

    /// So many seconds pass, and the reaper of a server runs in each.
    async fn pass(&self, server: usize, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            drop(Reaper.run_once(&self.all[server].0).await);
        }
    }
}

fn keyed(id: &str, limit: i32, policy: Policy) -> Start {
    let mut wanted = request(id);
    wanted.spec.options.concurrency =
        Some(pb::Concurrency { key: "k".to_owned(), limit, policy: policy.into() });
    wanted
}

async fn lease(engine: &Engine) -> Option<Leased> {
    let mut batch = engine.lease(&caller(), wish(1)).await.ok()?;
    let leased = batch.load(usize::MAX).await.ok()?.pop();
    batch.told();
    leased
}

fn proof(leased: &Leased) -> Proof {
    Proof { token: leased.lease().expect("a lease").token, fingerprint: [0; 16] }
}

fn complete(leased: &Leased) -> Command {
    Command::Complete(Box::new(Complete {
        proof: proof(leased),
        response: None,
        metadata: None,
        related_resources: Vec::new(),
        progress: None,
    }))
}

async fn finish(engine: &Engine, leased: &Leased) {
    let done = engine.work(&caller(), &leased.operation.name, complete(leased)).await;
    done.expect("completed");
}

#[tokio::test]
async fn an_operation_beyond_the_limit_waits_until_one_ends_on_whichever_server() {
    let servers = Servers::calm();
    for (server, id) in [(0, "a"), (1, "b"), (0, "c"), (1, "d")] {
        servers.start(server, id, 2, Policy::Queue).await.expect("started");
        servers.clock.advance(Duration::from_millis(5));
    }
    let ids = ["a", "b", "c", "d"];
    assert_eq!(servers.running(&ids, 2).await, ["a", "b"]);
    for (server, next) in [(1, "c"), (0, "d")] {
        let leased = lease(&servers.all[server].0).await.expect("a lease");
        finish(&servers.all[server].0, &leased).await;
        servers.admitted(next).await;
        servers.running(&ids, 2).await;
    }
    assert_eq!(servers.running(&ids, 2).await, ["c", "d"]);
    // Nothing else is ready, whoever asks.
    for (engine, _) in &servers.all {
        let leased = lease(engine).await.expect("a lease");
        finish(engine, &leased).await;
    }
    assert!(lease(servers.engine()).await.is_none());
    servers.pass(0, 60).await;
    assert!(servers.gate().await.is_none(), "a gate without use is removed");
}

#[tokio::test]
async fn a_refused_start_names_key_and_limit_and_leaves_nothing() {
    let servers = Servers::calm();
    servers.start(0, "a", 1, Policy::Reject).await.expect("started");
    let refusal = servers.start(1, "b", 1, Policy::Reject).await.expect_err("full");
    assert_eq!(refusal.reason, Reason::ConcurrencyConflict);
    assert_eq!((&*refusal.metadata["key"], &*refusal.metadata["limit"]), ("k", "1"));
    assert!(refusal.message.contains("concurrency key \"k\""), "{}", refusal.message);
    assert!(servers.stored("b").await.is_none());
    // A repeat of the start that has the slot is no second operation.
    let mut again = keyed("c", 1, Policy::Reject);
    "r".clone_into(&mut again.spec.request_id);
    let leased = lease(servers.engine()).await.expect("a lease");
    finish(servers.engine(), &leased).await;
    servers
        .until("the slot", async || servers.gate().await.is_none_or(|gate| gate.slots.is_empty()))
        .await;
    for (server, replayed) in [(0, false), (1, true), (0, true)] {
        let started = servers.all[server].0.start_operation(&caller(), again.clone()).await;
        assert_eq!(started.expect("started").replayed, replayed);
    }
    assert_eq!(servers.running(&["a", "b", "c"], 1).await, ["c"]);
}

#[tokio::test]
async fn a_start_of_a_taken_name_gives_its_slot_back() {
    let servers = Servers::calm();
    servers.engine().start_operation(&caller(), request("a")).await.expect("started");
    let refusal = servers.start(0, "a", 1, Policy::Queue).await.expect_err("taken");
    assert_eq!(refusal.reason, Reason::OperationAlreadyExists);
    servers
        .until("the slot", async || servers.gate().await.is_none_or(|gate| gate.slots.is_empty()))
        .await;
    servers.start(1, "b", 1, Policy::Reject).await.expect("started");
}

#[tokio::test]
async fn a_newer_operation_ends_the_oldest_one_where_it_preempts() {
    let servers = Servers::calm();
    servers.start(0, "a", 1, Policy::Preempt).await.expect("started");
    let old = lease(&servers.all[1].0).await.expect("a lease");
    for (server, id, older) in [(0, "b", "a"), (1, "c", "b")] {
        servers.clock.advance(Duration::from_secs(1));
        servers.start(server, id, 1, Policy::Preempt).await.expect("started");
        servers.admitted(id).await;
        let ended = servers.stored(older).await.expect("kept");
        let State::Failed(status) = &ended.state else { panic!("{:?}", ended.state) };
        assert_eq!(status.code, 10, "ABORTED");
        assert!(status.message.contains("was preempted by operations/"), "{}", status.message);
        servers.running(&["a", "b", "c"], 1).await;
    }
    let lost = servers.engine().work(&caller(), &name("a"), complete(&old)).await;
    assert_eq!(lost.expect_err("it has ended").reason, Reason::LeaseLost);
}

#[tokio::test]
async fn a_slot_is_kept_through_pauses_between_attempts_and_suspensions() {
    let servers = Servers::calm();
    let engine = servers.engine();
    servers.start(0, "a", 1, Policy::Queue).await.expect("started");
    servers.clock.advance(Duration::from_secs(1));
    servers.start(0, "b", 1, Policy::Queue).await.expect("started");
    let leased = lease(engine).await.expect("a lease");
    let error = Status { code: 14, message: "not now".to_owned(), details: Vec::new() };
    let fail = Fail {
        proof: proof(&leased),
        error,
        retry: None,
        retry_delay: Some(Duration::from_mins(10)),
        metadata: None,
        checkpoint: None,
    };
    engine.work(&caller(), &name("a"), Command::Fail(Box::new(fail))).await.expect("failed");
    servers.pass(1, 30).await;
    assert_eq!(servers.running(&["a", "b"], 1).await, ["a"]);
    assert!(lease(engine).await.is_none());
    servers.clock.advance(Duration::from_mins(10));
    crate::engine::Scheduler.run_once(engine).await.expect("a sweep");
    let again = lease(engine).await.expect("its second attempt");
    assert_eq!(again.operation.name, name("a"));
    let suspend = Suspend {
        proof: proof(&again),
        reason: String::new(),
        metadata: None,
        checkpoint: None,
        resume_time: None,
    };
    engine.work(&caller(), &name("a"), Command::Suspend(Box::new(suspend))).await.expect("parked");
    servers.pass(0, 30).await;
    assert_eq!(servers.running(&["a", "b"], 1).await, ["a"]);
    engine.cancel(&caller(), &name("a")).await.expect("cancelled");
    servers.admitted("b").await;
}

#[tokio::test]
async fn a_waiting_operation_that_is_cancelled_deleted_paused_or_late_holds_nobody_up() {
    let servers = Servers::calm();
    let engine = servers.engine();
    for id in ["a", "cancelled", "deleted", "paused", "late", "last"] {
        let mut wanted = keyed(id, 1, Policy::Queue);
        wanted.spec.options.queue_timeout = (id == "late").then_some(Duration::from_secs(5));
        engine.start_operation(&caller(), wanted).await.expect("started");
        servers.clock.advance(Duration::from_millis(5));
    }
    engine.cancel(&caller(), &name("cancelled")).await.expect("cancelled");
    engine.pause(&caller(), &name("paused"), String::new(), String::new()).await.expect("paused");
    engine.delete(&caller(), &name("deleted")).await.expect("deleted");
    servers.pass(1, 6).await;
    let late = servers.stored("late").await.expect("kept");
    assert!(matches!(late.state, State::Failed(_)), "{:?}", late.state);
    // Work on a deleted operation goes on, as without a key: nobody sees it.
    for next in ["deleted", "last"] {
        let leased = lease(engine).await.expect("a lease");
        finish(engine, &leased).await;
        servers.admitted(next).await;
    }
    let leased = lease(engine).await.expect("a lease");
    finish(engine, &leased).await;
    engine.resume(&caller(), &name("paused"), String::new(), None).await.expect("resumed");
    servers.admitted("paused").await;
}

#[tokio::test]
async fn a_scheduled_operation_asks_for_its_slot_when_its_time_has_come() {
    let servers = Servers::calm();
    let engine = servers.engine();
    let mut wanted = keyed("later", 1, Policy::Queue);
    wanted.spec.options.schedule_time =
        Some(engine.store_now(&name("later")) + Duration::from_mins(1));
    engine.start_operation(&caller(), wanted).await.expect("started");
    servers.start(0, "now", 1, Policy::Reject).await.expect("the slot is free");
    servers.clock.advance(Duration::from_mins(2));
    crate::engine::Scheduler.run_once(engine).await.expect("a sweep");
    let later = servers.stored("later").await.expect("kept");
    assert_eq!(later.admission, Some(Admittance::Waiting));
    let leased = lease(engine).await.expect("a lease");
    assert_eq!(leased.operation.name, name("now"));
    finish(engine, &leased).await;
    servers.admitted("later").await;
}

#[tokio::test]
async fn a_lower_limit_drains_and_a_higher_one_lets_in_those_that_wait() {
    let servers = Servers::calm();
    for id in ["a", "b", "c"] {
        servers.start(0, id, 3, Policy::Queue).await.expect("started");
    }
    servers.start(1, "d", 1, Policy::Queue).await.expect("started");
    let ids = ["a", "b", "c", "d", "e", "f"];
    assert_eq!(servers.running(&ids, 3).await, ["a", "b", "c"], "what runs goes on");
    for _ in 0..2 {
        let leased = lease(servers.engine()).await.expect("a lease");
        finish(servers.engine(), &leased).await;
    }
    servers.pass(1, 10).await;
    assert_eq!(servers.running(&ids, 1).await.len(), 1);
    for id in ["e", "f"] {
        servers.start(1, id, 3, Policy::Queue).await.expect("started");
    }
    servers.until("three", async || servers.running(&ids, 3).await.len() == 3).await;
}

#[tokio::test]
async fn hundreds_that_wait_on_one_key_are_let_in_one_after_the_other() {
    const MANY: usize = 400;
    let servers = Servers::calm();
    let engine = servers.engine();
    for number in 0..MANY {
        let wanted = keyed(&format!("n{number}"), 2, Policy::Queue);
        servers.all[number % 2].0.start_operation(&caller(), wanted).await.expect("started");
        servers.clock.advance(Duration::from_micros(50));
    }
    for number in (2..MANY).step_by(2) {
        engine.cancel(&caller(), &name(&format!("n{number}"))).await.expect("cancelled");
    }
    for number in [0].into_iter().chain((1..MANY).step_by(2)) {
        let mut leased = None;
        servers
            .until("a lease", async || {
                leased = lease(engine).await;
                leased.is_some()
            })
            .await;
        let leased = leased.expect("a lease");
        let lies = servers.gate().await.expect("a gate").slots.len();
        assert!(lies <= 2, "{number}: {lies}");
        finish(engine, &leased).await;
    }
    servers.pass(0, 40).await;
    assert!(servers.gate().await.is_none());
}

/// What is left in the index of those that wait.
async fn waiting(servers: &Servers) -> usize {
    let gate = GateName::Key { parent: String::new(), key: "k".to_owned() };
    let scan = Scan::first(Index::new(gate.index()), 100);
    servers.store.scan(scan).await.expect("entries").len()
}

/// The server dies after each number of commits, applied or not, while it starts an operation, runs it, or ends it.
#[tokio::test]
async fn whichever_step_a_server_dies_after_the_limit_holds_and_the_slot_is_back_in_ten_seconds() {
    for last in [Fault::LostUnknown, Fault::AppliedUnknown] {
        for steps in 0..8 {
            let servers = Servers::calm();
            let (dying, faulty) = &servers.all[0];
            faulty.inject(vec![Fault::None; steps]);
            faulty.inject([last]);
            faulty.inject(vec![Fault::LostUnknown; 1_000]);
            let place = format!("{last:?} after {steps} steps");
            let ids = ["a", "b", "c", "d"];
            for id in ["a", "b"] {
                drop(servers.start(0, id, 1, Policy::Queue).await);
                servers.running(&ids, 1).await;
                servers.clock.advance(Duration::from_millis(1));
            }
            if let Some(leased) = lease(dying).await {
                drop(dying.work(&caller(), &leased.operation.name, complete(&leased)).await);
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            servers.running(&ids, 1).await;
            faulty.set_away(true);
            drop(servers.start(1, "c", 1, Policy::Queue).await);
            // A lease of the dead server's worker expires in half a minute; then everything that was started ends.
            let other = &servers.all[1].0;
            let mut ended = Vec::new();
            for second in 0..90 {
                servers.pass(1, 1).await;
                crate::engine::Scheduler.run_once(other).await.expect("a sweep");
                let running = servers.running(&ids, 1).await;
                if let Some(leased) = lease(other).await {
                    assert_eq!(running, [leased.operation.name.id()], "{place}, second {second}");
                    finish(other, &leased).await;
                    ended.push(leased.operation.name.id().to_owned());
                }
            }
            for id in ids {
                let Some(operation) = servers.stored(id).await else { continue };
                assert!(operation.state.is_done(), "{place}: {id} is {:?}", operation.state);
            }
            assert!(ended.contains(&"c".to_owned()), "{place}: {ended:?}");
            assert_eq!(waiting(&servers).await, 0, "{place}");
        }
    }
}

/// A slot that was taken for a start that was never written.
#[tokio::test]
async fn a_slot_lost_in_a_crash_is_back_within_ten_seconds() {
    let servers = Servers::calm();
    let faulty = &servers.all[0].1;
    faulty.inject([Fault::None]);
    faulty.inject(vec![Fault::LostUnknown; 1_000]);
    servers.start(0, "a", 1, Policy::Queue).await.expect_err("lost");
    faulty.set_away(true);
    assert_eq!(servers.gate().await.expect("a gate").slots.len(), 1);
    servers.start(1, "b", 1, Policy::Queue).await.expect("started");
    servers.pass(1, 10).await;
    assert_eq!(servers.running(&["a", "b"], 1).await, ["b"]);
}

/// The start of a stalled server comes after its slot was given away.
#[tokio::test]
async fn a_start_that_comes_too_late_for_its_slot_is_refused() {
    let servers = Servers::calm();
    let faulty = &servers.all[0].1;
    // The first commit takes the slot; the time passes while the second is on its way.
    let (clock, wrapped) = (servers.clock.clone(), faulty.clone());
    faulty.during_next_commit(move || {
        let clock = clock.clone();
        wrapped.during_next_commit(move || clock.advance(Duration::from_secs(5)));
    });
    let refusal = servers.start(0, "a", 1, Policy::Queue).await.expect_err("late");
    assert_eq!(refusal.reason, Reason::StoreUnavailable);
    assert!(servers.stored("a").await.is_none());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize, Policy),
    Lease(usize),
    Complete(usize),
    Release(usize),
    Cancel(usize),
    Delete(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let policy = prop_oneof![3 => Just(Policy::Queue), 1 => Just(Policy::Reject), 1 => Just(Policy::Preempt)];
    prop_oneof![
        4 => (0_usize..12, policy).prop_map(|(id, policy)| Step::Start(id, policy)),
        4 => (0_usize..2).prop_map(Step::Lease),
        3 => (0_usize..8).prop_map(Step::Complete),
        1 => (0_usize..8).prop_map(Step::Release),
        1 => (0_usize..12).prop_map(Step::Cancel),
        1 => (0_usize..12).prop_map(Step::Delete),
        3 => (1_u64..6).prop_map(Step::Pass),
    ]
}

#[tokio::test]
async fn no_schedule_on_two_servers_with_faults_exceeds_a_limit_or_loses_a_slot() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for round in 0..8_u64 {
        let steps = prop::collection::vec(step(), 60).new_tree(&mut runner).expect("steps");
        run_schedule(round, steps.current()).await;
    }
}

async fn run_schedule(round: u64, steps: Vec<Step>) {
    const LIMIT: usize = 2;
    let plan = |seed| FaultPlan {
        seed,
        applied_unknown: 60,
        lost_unknown: 60,
        conflicts: 60,
        reads_away: 20,
    };
    let servers = Servers::new([plan(round * 2), plan(round * 2 + 1)]);
    let ids: Vec<String> = (0..12).map(|id| format!("o{id}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut held: Vec<Leased> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let engine = &servers.all[number % 2].0;
        match step {
            Step::Start(id, policy) => {
                drop(servers.start(number % 2, &ids[id], LIMIT as i32, policy).await);
            }
            Step::Lease(server) => held.extend(lease(&servers.all[server].0).await),
            Step::Complete(at) if at < held.len() => {
                let leased = held.remove(at);
                drop(engine.work(&caller(), &leased.operation.name, complete(&leased)).await);
            }
            Step::Release(at) if at < held.len() => {
                let leased = held.remove(at);
                let release = Release {
                    proof: proof(&leased),
                    checkpoint: None,
                    delay: Duration::ZERO,
                    seen: true,
                    holder: None,
                };
                let command = Command::Release(Box::new(release));
                drop(engine.work(&caller(), &leased.operation.name, command).await);
            }
            Step::Complete(_) | Step::Release(_) => {}
            Step::Cancel(id) => drop(engine.cancel(&caller(), &name(&ids[id])).await),
            Step::Delete(id) => drop(engine.delete(&caller(), &name(&ids[id])).await),
            Step::Pass(seconds) => servers.pass(number % 2, seconds).await,
        }
        tokio::task::yield_now().await;
        servers.running(&names, LIMIT).await;
    }
    drain(&servers, &names, LIMIT, round).await;
}

/// Without further faults everything ends, and no slot is left in use.
async fn drain(servers: &Servers, names: &[&str], limit: usize, round: u64) {
    let engine = Engine::without_agents(servers.store.clone(), servers.clock.clone());
    for _ in 0..150 {
        servers.clock.advance(Duration::from_secs(1));
        drop(Reaper.run_once(&engine).await);
        drop(crate::engine::Scheduler.run_once(&engine).await);
        servers.running(names, limit).await;
        while let Some(leased) = lease(&engine).await {
            drop(engine.work(&caller(), &leased.operation.name, complete(&leased)).await);
        }
    }
    for id in names {
        let operation = servers.stored(id).await;
        let done = operation.as_ref().is_none_or(|operation| operation.state.is_done());
        assert!(done, "round {round}: {operation:?}");
    }
    assert_eq!(waiting(servers).await, 0, "round {round}");
    assert!(servers.gate().await.is_none(), "round {round}: {:?}", servers.gate().await);
}

#[test]
fn no_operation_s_name_leads_to_a_gate() {
    let keyspace = Keyspace::generate(1);
    let gate = GateName::Queue("q".to_owned());
    let key: Key = GateRecord::key(&keyspace, &gate);
    assert_ne!(key, keyspace.key("queue\0q"));
    assert_ne!(gate.index(), GateName::Queue("p".to_owned()).index());
}
