//! Two servers on one store, each with faults of its own, in which a test sees what is stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tempfile::TempDir;

use super::{caller, clock, name, request, wish};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::engine::{
    Engine, LeaseRequest, Leased, QueueUpdate, Reaper, Result, Scheduler, Started,
};
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::gate::GateName;
use crate::operation::name::Queue;
use crate::operation::{Operation, Record, Start};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::concurrency::Policy;
use crate::record::gate::{GateRecord, GateSlot};
use crate::store::conformance::Harness;
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::faulty::{FaultPlan, Faulty};
use crate::store::memory::MemoryStore;
use crate::store::{Index, Key, Keyspace, Scan, Store};

/// Makes a test of each scenario on each store.
macro_rules! on_each_store {
    ($($name:ident),+ $(,)?) => {
        $crate::engine::tests::servers::on_each_store! { memory Memory $($name)+ }
        $crate::engine::tests::servers::on_each_store! { embedded Embedded $($name)+ }
        $crate::engine::tests::servers::on_each_store! { redis Redis $($name)+ }
    };
    ($module:ident $ground:ident $($name:ident)+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::engine::tests::servers::Ground::$ground).await;
                }
            )+
        }
    };
}
pub(super) use on_each_store;

/// The store that servers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// The reference.
    Memory,
    /// Both servers use one handle, and after a crash the store is opened again.
    Embedded,
    /// Each server has connections of its own.
    Redis,
}

impl Ground {
    async fn harness(self) -> Harness {
        let clock = clock();
        match self {
            Self::Memory => {
                let store = MemoryStore::new(Keyspace::generate(4), clock.clone());
                Harness::new(store, clock, None)
            }
            Self::Embedded => {
                let folder = Arc::new(TempDir::new().expect("a folder"));
                let shared = clock.clone();
                let open = move || {
                    let store = embedded(&folder, &shared);
                    async move { store }.boxed()
                };
                Harness::new(open().await, clock, Some(Box::new(open)))
            }
            Self::Redis => crate::store::redis::tests::harness().await,
        }
    }
}

fn embedded(folder: &TempDir, clock: &Arc<ManualClock>) -> Arc<dyn Store> {
    let options = embedded::Options {
        reserve_bytes: 0,
        clock: clock.clone(),
        stopwatch: ManualClock::new(Timestamp::EPOCH),
        ..embedded::Options::new(folder.path(), crate::record::layout())
    };
    EmbeddedStore::open(options).expect("a store")
}

/// Two servers.
pub(super) struct Servers {
    pub(super) all: Vec<(Engine, Arc<Faulty>)>,
    pub(super) clock: Arc<ManualClock>,
    ground: Ground,
    harness: Harness,
}

impl Servers {
    /// Servers without faults.
    pub(super) async fn on(ground: Ground) -> Self {
        Self::with(ground, [FaultPlan::default(); 2]).await
    }

    pub(super) async fn with(ground: Ground, plans: [FaultPlan; 2]) -> Self {
        let harness = ground.harness().await;
        let clock = harness.clock.clone();
        let mut servers = Self { all: Vec::new(), clock, ground, harness };
        for plan in plans {
            servers.add(plan).await;
        }
        servers
    }

    async fn add(&mut self, plan: FaultPlan) {
        let store = match self.ground {
            Ground::Memory | Ground::Embedded => self.store().clone(),
            Ground::Redis => self.harness.beside().await.expect("a Redis can be opened twice"),
        };
        let faulty = Faulty::new(store, plan);
        self.all.push((Engine::without_agents(faulty.clone(), self.clock.clone()), faulty));
    }

    /// A further server without faults.
    pub(super) fn fresh(&self) -> Engine {
        Engine::without_agents(self.store().clone(), self.clock.clone())
    }

    /// The first server dies. The second one goes on; on the embedded store it is one that starts then.
    pub(super) async fn crash(&mut self) {
        self.all[0].1.set_away(true);
        if self.ground == Ground::Embedded {
            self.all.clear();
            assert!(self.harness.reopen().await, "a persistent store");
            self.add(FaultPlan::default()).await;
            self.add(FaultPlan::default()).await;
        }
    }

    /// The store, past all faults.
    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.harness.store
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.all[0].0
    }

    /// How much of a random test is done: the real stores are slower.
    pub(super) fn rounds(ground: Ground, most: u64) -> u64 {
        if ground == Ground::Memory { most } else { most.div_ceil(4) }
    }
}

/// What callers, workers and operators do.
impl Servers {
    /// Starts an operation with the key `k`.
    pub(super) async fn start(
        &self,
        server: usize,
        id: &str,
        limit: i32,
        policy: Policy,
    ) -> Result<Started> {
        self.all[server].0.start_operation(&caller(), keyed(id, limit, policy)).await
    }

    /// Starts an operation without a key.
    pub(super) async fn start_plain(&self, server: usize, id: &str) -> Result<Started> {
        self.all[server].0.start_operation(&caller(), request(id)).await
    }

    /// Limits how many operations of the queue run, and waits until both servers know.
    pub(super) async fn limit(&self, server: usize, max_running: u32) {
        let update = limit(max_running);
        self.all[server].0.update_queue(&caller(), update).await.expect("a limit");
        let wanted = (max_running > 0).then_some(max_running as usize);
        let knows = async || {
            self.all.iter().all(|(engine, _)| {
                engine.rooms.known_queues.limit_of("q").map(|limit| limit.most) == wanted
            })
        };
        self.until("both servers know the limit", knows).await;
    }

    /// So many seconds pass, and the agents of a server run in each.
    pub(super) async fn pass(&self, server: usize, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            drop(Reaper.run_once(&self.all[server].0).await);
            drop(Scheduler.run_once(&self.all[server].0).await);
        }
    }

    /// Lets background work go on until something holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !holds().await {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("this does not come: {what}"));
    }

    pub(super) async fn admitted(&self, id: &str) {
        let has_slot =
            async || self.stored(id).await.is_some_and(|operation| operation.admitted().is_some());
        self.until(&format!("a slot for {id}"), has_slot).await;
    }

    /// Until a server has nothing more to do at its gates.
    pub(super) async fn settled(&self, server: usize) {
        let engine = &self.all[server].0;
        self.until("the gates rest", async || engine.rooms.dispatch.gates().is_idle()).await;
    }
}

/// What is stored, whatever the servers have cached.
impl Servers {
    pub(super) async fn stored(&self, id: &str) -> Option<Operation> {
        self.all_stored(&[id]).await.remove(0)
    }

    async fn all_stored(&self, ids: &[&str]) -> Vec<Option<Operation>> {
        let keys: Vec<Key> = ids.iter().map(|id| self.key(id)).collect();
        let records = self.store().get(&keys).await.expect("an answer");
        let read = |record| crate::record::read::<Record>(&record).expect("readable").record;
        records.into_iter().map(|record| read(record?).operation().cloned()).collect()
    }

    /// Whether all that were started have ended.
    pub(super) async fn are_done(&self, ids: &[&str]) -> bool {
        let operations = self.all_stored(ids).await;
        operations.iter().flatten().all(|operation| operation.state.is_done())
    }

    fn key(&self, id: &str) -> Key {
        self.store().keyspace().key(name(id).as_str())
    }

    async fn gate_of(&self, gate: &GateName) -> Option<GateRecord> {
        let key = GateRecord::key(self.store().keyspace(), gate);
        let record = self.store().get(&[key]).await.expect("an answer").remove(0)?;
        Some(crate::record::read::<GateRecord>(&record).expect("readable").record)
    }

    /// The gate of the key `k`.
    pub(super) async fn gate(&self) -> Option<GateRecord> {
        self.gate_of(&gate_of_key()).await
    }

    /// The gate of the queue.
    pub(super) async fn gate_of_queue(&self) -> Option<GateRecord> {
        self.gate_of(&gate_of_queue()).await
    }

    /// The unfinished operations that have a slot of the key, which never are more than the limit. The gate knows each of them.
    pub(super) async fn running(&self, ids: &[&str], limit: usize) -> Vec<String> {
        let slot = |operation: &Operation| operation.admitted();
        let (running, _) = self.with_slot(ids, &gate_of_key(), slot).await;
        assert!(running.len() <= limit, "{running:?} run, {limit} may");
        running
    }

    /// The operations that are leased, and those of them that have a slot of the queue. The gate knows each of these.
    pub(super) async fn leased(&self, ids: &[&str]) -> (Vec<String>, Vec<String>) {
        let slot = |operation: &Operation| operation.state.lease()?.slot;
        let (slotted, operations) = self.with_slot(ids, &gate_of_queue(), slot).await;
        let is_leased = |operation: &Option<Operation>| {
            operation.as_ref().is_some_and(|operation| operation.state.lease().is_some())
        };
        let leased = ids.iter().zip(&operations).filter(|(_, operation)| is_leased(operation));
        (leased.map(|(id, _)| (*id).to_owned()).collect(), slotted)
    }

    /// Operations as they are at one moment, and which of them have a slot.
    async fn with_slot(
        &self,
        ids: &[&str],
        gate: &GateName,
        slot: impl Fn(&Operation) -> Option<Timestamp>,
    ) -> (Vec<String>, Vec<Option<Operation>>) {
        let mut before = self.all_stored(ids).await;
        let (slots, operations) = loop {
            let gate = self.gate_of(gate).await;
            let after = self.all_stored(ids).await;
            // Background work goes on meanwhile.
            if before == after {
                break (gate.map(|gate| gate.slots).unwrap_or_default(), after);
            }
            before = after;
        };
        let mut with_slot = Vec::new();
        for (id, operation) in ids.iter().zip(&operations) {
            let Some(since) = operation.as_ref().and_then(&slot) else { continue };
            let key = self.key(id);
            assert!(slots.contains(&GateSlot { key, since }), "the gate does not know {id}");
            with_slot.push((*id).to_owned());
        }
        (with_slot, operations)
    }

    /// How many operations are left in the index of those that wait for the key.
    pub(super) async fn waiting(&self) -> usize {
        let scan = Scan::first(Index::new(gate_of_key().index()), 100);
        self.store().scan(scan).await.expect("entries").len()
    }
}

/// Slots that no operation says it has, and since when.
#[derive(Default)]
pub(super) struct LostSlots {
    unused: HashMap<GateSlot, Duration>,
}

impl LostSlots {
    /// Looks at a gate; no slot may be lost for longer than ten seconds.
    pub(super) async fn look(&mut self, servers: &Servers, ids: &[&str], gate: Option<GateRecord>) {
        let (now, mut unused) = (servers.clock.elapsed(), HashMap::new());
        let Some(gate) = gate else { return self.unused.clear() };
        let operations = servers.all_stored(ids).await;
        for slot in &gate.slots {
            let operation = ids.iter().zip(&operations).find(|(id, _)| servers.key(id) == slot.key);
            if !gate.is_used(*slot, operation.and_then(|(_, operation)| operation.as_ref())) {
                let since = self.unused.get(slot).copied().unwrap_or(now);
                let lost = now.saturating_sub(since);
                assert!(lost <= Duration::from_secs(10), "{slot:?} is lost since {since:?}");
                unused.insert(*slot, since);
            }
        }
        self.unused = unused;
    }
}

fn gate_of_key() -> GateName {
    GateName::Key { parent: String::new(), key: "k".to_owned() }
}

fn gate_of_queue() -> GateName {
    GateName::Queue("q".to_owned())
}

/// A start with the key `k`.
pub(super) fn keyed(id: &str, limit: i32, policy: Policy) -> Start {
    let mut wanted = request(id);
    wanted.spec.options.concurrency =
        Some(pb::Concurrency { key: "k".to_owned(), limit, policy: policy.into() });
    wanted
}

pub(super) fn limit(max_running: u32) -> QueueUpdate {
    let queue = Queue::parse("q").expect("a queue");
    QueueUpdate { queue, max_running: Some(max_running), ..QueueUpdate::default() }
}

/// One lease, if there is one at once.
pub(super) async fn lease(engine: &Engine) -> Option<Leased> {
    leases(engine, wish(1)).await.pop()
}

/// Leases; none if the store does not answer.
pub(super) async fn leases(engine: &Engine, request: LeaseRequest) -> Vec<Leased> {
    let Ok(mut batch) = engine.lease(&caller(), request).await else { return Vec::new() };
    let leased = batch.load(usize::MAX).await.unwrap_or_default();
    batch.told();
    leased
}

pub(super) fn proof(leased: &Leased) -> Proof {
    Proof { token: leased.lease().expect("a lease").token, fingerprint: [0; 16] }
}

pub(super) fn complete(leased: &Leased) -> Command {
    Command::Complete(Box::new(Complete {
        proof: proof(leased),
        response: None,
        metadata: None,
        related_resources: Vec::new(),
        progress: None,
    }))
}

pub(super) async fn finish(engine: &Engine, leased: &Leased) {
    let done = engine.work(&caller(), &leased.operation.name, complete(leased)).await;
    done.expect("completed");
}

/// Background work takes at most this long, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
