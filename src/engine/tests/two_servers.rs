//! Two servers on one store: the caches of each must never override the stored records.

use std::sync::Arc;
use std::time::Duration;

use super::request;
use crate::clock::{Clock, SystemClock};
use crate::engine::{Caller, Engine, LeaseRequest, LeaseScope, Leased, Reason};
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::name::{Name, Parent, Queue};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Start, State};
use crate::store::memory::MemoryStore;
use crate::store::{Keyspace, Store};

fn two_servers() -> (Engine, Engine) {
    let clock: Arc<dyn Clock> = SystemClock::new();
    let store: Arc<dyn Store> = MemoryStore::new(Keyspace::generate(1), clock.clone());
    (Engine::without_agents(store.clone(), clock.clone()), Engine::without_agents(store, clock))
}

async fn start(engine: &Engine) -> Name {
    let mut wanted = Start {
        parent: Parent::parse("tests/engine").expect("parent"),
        id: None,
        ..request("any")
    };
    wanted.spec.queue = Queue::parse("queue").expect("queue");
    let started = engine.start_operation(&Caller::default(), wanted).await.expect("started");
    super::name_of(&started)
}

async fn lease(engine: &Engine, wait: Duration) -> Vec<Leased> {
    let queue = Queue::parse("queue").expect("queue");
    let request = LeaseRequest {
        queue,
        worker: String::new(),
        max: 1,
        duration: Duration::from_secs(30),
        wait,
        process: WorkerProcess::default(),
        scope: LeaseScope::default(),
    };
    let mut batch = engine.lease(&Caller::default(), request).await.expect("a batch");
    let leased = batch.load(usize::MAX).await.expect("payloads");
    batch.told();
    leased
}

fn report(leased: &Leased) -> Command {
    Command::Report(Box::new(super::report(leased.lease().expect("lease").token)))
}

fn complete(leased: &Leased, fingerprint: u8) -> Command {
    let proof =
        Proof { token: leased.lease().expect("lease").token, fingerprint: [fingerprint; 16] };
    Command::Complete(Box::new(Complete {
        proof,
        response: None,
        metadata: None,
        related_resources: Vec::new(),
        progress: None,
    }))
}

#[tokio::test]
async fn what_another_server_wrote_meanwhile_counts() {
    let (here, there) = two_servers();
    let caller = Caller::default();
    start(&here).await;
    let leased = lease(&here, Duration::from_secs(10)).await.pop().expect("leased");
    let name = &leased.operation.name;
    here.work(&caller, name, report(&leased)).await.expect("reported");

    there.cancel(&caller, name).await.expect("cancelled");
    let told = here.work(&caller, name, report(&leased)).await.expect("reported");
    assert!(matches!(told.operation().expect("operation").state, State::Cancelling(..)));

    there.work(&caller, name, complete(&leased, 1)).await.expect("completed");
    assert!(!here.work(&caller, name, complete(&leased, 1)).await.expect("repeated").changed);
    let refusal =
        here.work(&caller, name, complete(&leased, 2)).await.expect_err("says something else");
    assert_eq!(refusal.reason, Reason::InvalidState);
    assert!(here.poll(&caller, name).await.expect("operation").done);
}

#[tokio::test]
async fn a_worker_gets_what_any_server_started_before_or_while_it_waits() {
    let (here, there) = two_servers();
    let long = Duration::from_secs(10);
    assert!(lease(&here, Duration::ZERO).await.is_empty());
    for starter in [&there, &here] {
        let (leased, started) = tokio::join!(lease(&here, long), start(starter));
        assert_eq!(leased[0].operation.name, started);
    }
    // More than one poll takes, so the room stays reserved.
    let mut started =
        [start(&there).await, start(&here).await, start(&there).await].map(|name| name.to_string());
    let mut leased = Vec::new();
    for wait in [Duration::ZERO, long, long] {
        leased.extend(
            lease(&here, wait).await.into_iter().map(|leased| leased.operation.name.to_string()),
        );
    }
    started.sort_unstable();
    leased.sort_unstable();
    assert_eq!(leased, started);
}
