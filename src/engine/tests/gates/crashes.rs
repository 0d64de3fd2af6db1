//! A server dies between any two steps of a gate: the limit holds, and no slot is lost for long.

use std::time::Duration;

use crate::engine::tests::servers::{
    Ground, LostSlots, Servers, complete, finish, lease, leases, on_each_store,
};
use crate::engine::tests::{caller, wish};
use crate::engine::{LeaseRequest, Reason};
use crate::proto::longhaul::v1::concurrency::Policy;
use crate::store::faulty::Fault;

on_each_store! {
    a_limit_of_operations_that_wait_holds_whichever_step_a_server_dies_after,
    a_limit_of_operations_that_are_refused_holds_whichever_step_a_server_dies_after,
    a_limit_of_operations_that_preempt_holds_whichever_step_a_server_dies_after,
    a_limit_of_a_queue_holds_whichever_step_a_server_dies_after,
    a_slot_lost_in_a_crash_is_back_within_ten_seconds,
    a_start_that_comes_too_late_for_its_slot_is_refused,
}

/// What allows one operation at a time.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Key(Policy),
    Queue,
}

async fn a_limit_of_operations_that_wait_holds_whichever_step_a_server_dies_after(ground: Ground) {
    dies_after_each_step(ground, Bound::Key(Policy::Queue)).await;
}

async fn a_limit_of_operations_that_are_refused_holds_whichever_step_a_server_dies_after(
    ground: Ground,
) {
    dies_after_each_step(ground, Bound::Key(Policy::Reject)).await;
}

async fn a_limit_of_operations_that_preempt_holds_whichever_step_a_server_dies_after(
    ground: Ground,
) {
    dies_after_each_step(ground, Bound::Key(Policy::Preempt)).await;
}

async fn a_limit_of_a_queue_holds_whichever_step_a_server_dies_after(ground: Ground) {
    dies_after_each_step(ground, Bound::Queue).await;
}

/// The server dies after each number of commits, applied or not, while it starts operations, runs one and ends it.
async fn dies_after_each_step(ground: Ground, bound: Bound) {
    // A server that starts from what is stored cannot tell a commit that was applied and not answered from the next one.
    let unanswered = (ground != Ground::Embedded).then_some(Fault::AppliedUnknown);
    for last in [Fault::LostUnknown].into_iter().chain(unanswered) {
        let mut dies = true;
        let mut steps = 0;
        while dies {
            dies = dies_after(ground, bound, steps, last).await;
            steps += 1;
        }
        // A lease, an end, and what the gate does before and after them.
        assert!(steps > 5, "only {steps} commits");
    }
}

/// Returns whether there were so many commits.
async fn dies_after(ground: Ground, bound: Bound, steps: usize, last: Fault) -> bool {
    let place = format!("{bound:?}, {last:?} after {steps} steps");
    let mut servers = Servers::on(ground).await;
    if matches!(bound, Bound::Queue) {
        servers.limit(1, 1).await;
    }
    let (dying, faulty) = (servers.all[0].0.clone(), servers.all[0].1.clone());
    faulty.inject(vec![Fault::None; steps]);
    faulty.inject([last]);
    faulty.inject(vec![Fault::LostUnknown; MANY]);
    for id in ["a", "b"] {
        drop(start(&servers, 0, id, bound).await);
        servers.settled(0).await;
        running(&servers, bound, &place).await;
        servers.clock.advance(Duration::from_millis(1));
    }
    if let Some(leased) = leases(&dying, short()).await.pop() {
        running(&servers, bound, &place).await;
        drop(dying.work(&caller(), &leased.operation.name, complete(&leased)).await);
    }
    servers.settled(0).await;
    running(&servers, bound, &place).await;
    let dies = faulty.queued() <= MANY;
    servers.crash().await;
    all_comes_to_an_end(&servers, bound, &place).await;
    dies
}

/// The other server starts one more; everything that was started ends.
async fn all_comes_to_an_end(servers: &Servers, bound: Bound, place: &str) {
    let other = &servers.all[1].0;
    let (mut lost, mut is_started, mut ended) = (LostSlots::default(), false, Vec::new());
    for _ in 0..60 {
        if !is_started {
            let started = start(servers, 1, "c", bound).await;
            is_started = started.is_ok();
            if let Err(error) = started {
                assert_eq!(error.reason, Reason::ConcurrencyConflict, "{place}: {error}");
            }
        }
        servers.pass(1, 1).await;
        servers.settled(1).await;
        let before = running(servers, bound, place).await;
        let gate = match bound {
            Bound::Key(_) => servers.gate().await,
            Bound::Queue => servers.gate_of_queue().await,
        };
        let is_free = gate.as_ref().is_none_or(|gate| gate.slots.is_empty());
        lost.look(servers, &IDS, gate).await;
        if let Some(leased) = lease(other).await {
            let id = leased.operation.name.id().to_owned();
            match bound {
                Bound::Key(_) => assert_eq!(before, [&id[..]], "{place}"),
                Bound::Queue => assert!(before.is_empty(), "{place}: {before:?} and {id}"),
            }
            running(servers, bound, place).await;
            finish(other, &leased).await;
            ended.push(id);
        } else if is_started && is_free && servers.are_done(&IDS).await {
            assert_eq!(servers.waiting().await, 0, "{place}");
            assert!(ended.contains(&"c".to_owned()), "{place}: {ended:?}");
            return;
        }
    }
    panic!("{place}: not all ends; {ended:?} did");
}

async fn start(
    servers: &Servers,
    server: usize,
    id: &str,
    bound: Bound,
) -> crate::engine::Result<crate::engine::Started> {
    match bound {
        Bound::Key(policy) => servers.start(server, id, 1, policy).await,
        Bound::Queue => servers.start_plain(server, id).await,
    }
}

/// The operations that run, which is one at most.
async fn running(servers: &Servers, bound: Bound, place: &str) -> Vec<String> {
    match bound {
        Bound::Key(_) => servers.running(&IDS, 1).await,
        Bound::Queue => {
            let (leased, slotted) = servers.leased(&IDS).await;
            assert_eq!(leased, slotted, "{place}: each has a slot");
            assert!(leased.len() <= 1, "{place}: {leased:?} are leased");
            leased
        }
    }
}

/// A lease that does not last for long after its server has died.
fn short() -> LeaseRequest {
    LeaseRequest { duration: Duration::from_secs(5), ..wish(1) }
}

/// A slot that was taken for a start that was never written.
async fn a_slot_lost_in_a_crash_is_back_within_ten_seconds(ground: Ground) {
    let mut servers = Servers::on(ground).await;
    let faulty = servers.all[0].1.clone();
    faulty.inject([Fault::None]);
    faulty.inject(vec![Fault::LostUnknown; MANY]);
    servers.start(0, "a", 1, Policy::Queue).await.expect_err("lost");
    servers.crash().await;
    assert_eq!(servers.gate().await.expect("a gate").slots.len(), 1);
    servers.start(1, "b", 1, Policy::Queue).await.expect("started");
    servers.pass(1, 10).await;
    servers.settled(1).await;
    assert_eq!(servers.running(&["a", "b"], 1).await, ["b"]);
}

/// The start of a stalled server comes after its slot was given away.
async fn a_start_that_comes_too_late_for_its_slot_is_refused(ground: Ground) {
    let servers = Servers::on(ground).await;
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

const IDS: [&str; 3] = ["a", "b", "c"];
/// More commits than a server makes in these tests.
const MANY: usize = 1_000;
