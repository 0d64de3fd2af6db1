//! Random schedules on two servers with faults.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::engine::tests::servers::{
    Ground, Servers, complete, lease, limit, on_each_store, proof,
};
use crate::engine::tests::{caller, name};
use crate::engine::{Leased, Reaper, Scheduler};
use crate::operation::command::{Command, Release};
use crate::proto::longhaul::v1::concurrency::Policy;
use crate::store::faulty::FaultPlan;

on_each_store! {
    no_schedule_exceeds_the_limit_of_a_key_or_loses_a_slot,
    no_schedule_exceeds_the_limit_of_a_queue_or_loses_a_slot,
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
    /// A new limit of the queue; 0 is none.
    Limit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let policy = prop_oneof![3 => Just(Policy::Queue), 1 => Just(Policy::Reject), 1 => Just(Policy::Preempt)];
    prop_oneof![
        4 => (0..OPERATIONS, policy).prop_map(|(id, policy)| Step::Start(id, policy)),
        4 => (0_usize..2).prop_map(Step::Lease),
        3 => (0_usize..8).prop_map(Step::Complete),
        1 => (0_usize..8).prop_map(Step::Release),
        1 => (0..OPERATIONS).prop_map(Step::Cancel),
        1 => (0..OPERATIONS).prop_map(Step::Delete),
        3 => (1_u64..6).prop_map(Step::Pass),
        1 => (0_u32..5).prop_map(Step::Limit),
    ]
}

/// The same schedules in every run, and servers for each of them.
async fn schedules(ground: Ground, reads_away: u16) -> Vec<(Vec<Step>, Servers)> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut schedules = Vec::new();
    for round in 0..Servers::rounds(ground, 8) {
        let steps = prop::collection::vec(step(), 60).new_tree(&mut runner).expect("steps");
        let plan = |seed| FaultPlan {
            seed,
            applied_unknown: 60,
            lost_unknown: 60,
            conflicts: 60,
            reads_away,
        };
        let servers = Servers::with(ground, [plan(round * 2), plan(round * 2 + 1)]).await;
        schedules.push((steps.current(), servers));
    }
    schedules
}

async fn no_schedule_exceeds_the_limit_of_a_key_or_loses_a_slot(ground: Ground) {
    const LIMIT: usize = 2;
    let ids = ids();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (steps, servers) in schedules(ground, 20).await {
        let mut held = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let server = number % 2;
            match step {
                Step::Start(id, policy) => {
                    drop(servers.start(server, names[id], LIMIT as i32, policy).await);
                }
                Step::Limit(_) => {}
                step => take(&servers, server, step, &mut held).await,
            }
            tokio::task::yield_now().await;
            servers.running(&names, LIMIT).await;
        }
        let is_over = async || {
            servers.running(&names, LIMIT).await;
            servers.waiting().await == 0 && servers.gate().await.is_none()
        };
        comes_to_an_end(&servers, &names, is_over).await;
    }
}

/// A limit that is set counts what runs, whether it was leased under another limit or none.
async fn no_schedule_exceeds_the_limit_of_a_queue_or_loses_a_slot(ground: Ground) {
    let ids = ids();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (steps, servers) in schedules(ground, 0).await {
        let (mut held, mut most, mut before) = (Vec::new(), 0, 0);
        for (number, step) in steps.into_iter().enumerate() {
            let server = number % 2;
            match step {
                Step::Start(id, _) => drop(servers.start_plain(server, names[id]).await),
                Step::Limit(new) => {
                    most = new as usize;
                    set_limit(&servers, new).await;
                }
                step => take(&servers, server, step, &mut held).await,
            }
            let leased = servers.leased(&names).await.0.len();
            let is_within = most == 0 || leased <= most.max(before);
            assert!(is_within, "{step:?}: {leased} run, {before} did, {most} may");
            before = leased;
        }
        let is_over = async || servers.gate_of_queue().await.is_none();
        comes_to_an_end(&servers, &names, is_over).await;
    }
}

/// An operator of a third server sets it, and the others learn of it.
async fn set_limit(servers: &Servers, most: u32) {
    servers.fresh().update_queue(&caller(), limit(most)).await.expect("a limit");
    let wanted = (most > 0).then_some(most as usize);
    for (engine, _) in &servers.all {
        let known = &engine.rooms.known_queues;
        known.changed();
        let knows = async || known.limit_of("q").map(|limit| limit.most) == wanted;
        servers.until("a server knows the limit", knows).await;
    }
}

/// A step of a worker, a caller, or of time.
async fn take(servers: &Servers, server: usize, step: Step, held: &mut Vec<Leased>) {
    let engine = &servers.all[server].0;
    match step {
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
        Step::Cancel(id) => drop(engine.cancel(&caller(), &name(&ids()[id])).await),
        Step::Delete(id) => drop(engine.delete(&caller(), &name(&ids()[id])).await),
        Step::Pass(seconds) => servers.pass(server, seconds).await,
        Step::Start(..) | Step::Limit(_) | Step::Complete(_) | Step::Release(_) => {}
    }
}

/// Without further faults everything ends, and no slot is left in use.
async fn comes_to_an_end(
    servers: &Servers,
    names: &[&str],
    mut is_over: impl AsyncFnMut() -> bool,
) {
    let engine = servers.fresh();
    for _ in 0..150 {
        servers.clock.advance(Duration::from_secs(1));
        drop(Reaper.run_once(&engine).await);
        drop(Scheduler.run_once(&engine).await);
        while let Some(leased) = lease(&engine).await {
            drop(engine.work(&caller(), &leased.operation.name, complete(&leased)).await);
        }
        if is_over().await && servers.are_done(names).await {
            return;
        }
    }
    let (gate, of_queue) = (servers.gate().await, servers.gate_of_queue().await);
    panic!("not all comes to an end: {gate:?}, {of_queue:?}");
}

fn ids() -> Vec<String> {
    (0..OPERATIONS).map(|id| format!("o{id}")).collect()
}

const OPERATIONS: usize = 12;
