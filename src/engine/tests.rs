//! The engine on a memory store, under a clock that the test moves.

mod baskets;
mod courier;
mod damage;
mod fairness;
mod formats;
mod futures;
mod gates;
mod hub;
mod jobs;
mod leases;
mod lists;
mod queues;
mod ranks;
mod replays;
mod reruns;
mod retention;
mod sample;
mod servers;
mod sets;
mod states;
mod streams;
mod two_servers;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Caller, Engine, LeaseRequest, LeaseScope, Started};
use crate::clock::{ManualClock, Timestamp};
use crate::operation::command::{Renew, Report};
use crate::operation::lease::Token;
use crate::operation::name::{Id, Name, Queue};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Spec, Start};
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::faulty::{FaultPlan, Faulty};
use crate::store::memory::MemoryStore;
use crate::store::{Keyspace, Store};

/// An engine without agents, and everything that a test does to it.
struct Bench {
    engine: Engine,
    clock: Arc<ManualClock>,
    store: Arc<Faulty>,
}

impl Bench {
    fn new() -> Self {
        let clock = clock();
        Self::on(MemoryStore::new(Keyspace::generate(1), clock.clone()), clock)
    }

    /// The parts that survive a stop of the engine.
    fn embedded(path: &Path) -> Self {
        let clock = clock();
        let options = embedded::Options {
            reserve_bytes: 0,
            clock: clock.clone(),
            stopwatch: ManualClock::new(Timestamp::EPOCH),
            ..embedded::Options::new(path, crate::record::layout())
        };
        Self::on(EmbeddedStore::open(options).expect("a store"), clock)
    }

    fn on(store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Self {
        let store = Faulty::new(store, FaultPlan::default());
        let shared: Arc<dyn Store> = store.clone();
        Self { engine: Engine::without_agents(shared, clock.clone()), clock, store }
    }

    async fn start(&self, id: &str) -> Name {
        let started = self.engine.start_operation(&caller(), request(id)).await.expect("start");
        name_of(&started)
    }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000))
}

fn caller() -> Caller {
    Caller::default()
}

fn name(id: &str) -> Name {
    Name::parse(&format!("operations/{id}")).expect("name")
}

fn name_of(started: &Started) -> Name {
    Name::parse(&started.published.name).expect("name")
}

fn request(id: &str) -> Start {
    Start {
        id: Some(Id::parse(id).expect("id")),
        spec: Spec {
            queue: Queue::parse("q").expect("queue"),
            server_metadata: true,
            ..Spec::default()
        },
        ..Start::default()
    }
}

/// A request for `max` leases of operations that are ready now.
fn wish(max: usize) -> LeaseRequest {
    LeaseRequest {
        queue: Queue::parse("q").expect("queue"),
        worker: "w".to_owned(),
        max,
        duration: Duration::from_secs(30),
        wait: Duration::ZERO,
        process: WorkerProcess::default(),
        scope: LeaseScope::default(),
    }
}

/// A first report of that lease, without content.
fn report(token: Token) -> Report {
    Report {
        renew: Renew { token, duration: None, cancel_acknowledged: false },
        number: 0,
        progress: None,
        metadata: None,
        checkpoint: None,
        partial_errors: Vec::new(),
        related_resources: Vec::new(),
        status_detail: String::new(),
    }
}
