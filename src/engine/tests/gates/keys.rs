//! Concurrency keys: who waits, who is refused, who is preempted, and how long a slot is kept.

use std::time::Duration;

use crate::engine::tests::servers::{
    Ground, Servers, complete, finish, keyed, lease, on_each_store, proof,
};
use crate::engine::tests::{caller, name, request};
use crate::engine::{Reason, Scheduler};
use crate::operation::State;
use crate::operation::command::{Command, Fail, Suspend};
use crate::operation::gate::Admittance;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::concurrency::Policy;

on_each_store! {
    an_operation_beyond_the_limit_waits_until_one_ends_on_whichever_server,
    a_refused_start_names_key_and_limit_and_leaves_nothing,
    a_start_of_a_taken_name_gives_its_slot_back,
    a_newer_operation_ends_the_oldest_one_where_it_preempts,
    a_slot_is_kept_through_pauses_between_attempts_and_suspensions,
    a_waiting_operation_that_is_cancelled_deleted_paused_or_late_holds_no_other_up,
    a_scheduled_operation_asks_for_its_slot_when_its_time_has_come,
    a_lower_limit_drains_and_a_higher_one_lets_in_those_that_wait,
}

async fn an_operation_beyond_the_limit_waits_until_one_ends_on_whichever_server(ground: Ground) {
    let servers = Servers::on(ground).await;
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
    // No server has anything else that is ready.
    for (engine, _) in &servers.all {
        let leased = lease(engine).await.expect("a lease");
        finish(engine, &leased).await;
    }
    assert!(lease(servers.engine()).await.is_none());
    servers.pass(0, 60).await;
    assert!(servers.gate().await.is_none(), "a gate without use is removed");
}

async fn a_refused_start_names_key_and_limit_and_leaves_nothing(ground: Ground) {
    let servers = Servers::on(ground).await;
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

async fn a_start_of_a_taken_name_gives_its_slot_back(ground: Ground) {
    let servers = Servers::on(ground).await;
    servers.engine().start_operation(&caller(), request("a")).await.expect("started");
    let refusal = servers.start(0, "a", 1, Policy::Queue).await.expect_err("taken");
    assert_eq!(refusal.reason, Reason::OperationAlreadyExists);
    servers
        .until("the slot", async || servers.gate().await.is_none_or(|gate| gate.slots.is_empty()))
        .await;
    servers.start(1, "b", 1, Policy::Reject).await.expect("started");
}

async fn a_newer_operation_ends_the_oldest_one_where_it_preempts(ground: Ground) {
    let servers = Servers::on(ground).await;
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

async fn a_slot_is_kept_through_pauses_between_attempts_and_suspensions(ground: Ground) {
    let servers = Servers::on(ground).await;
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
    Scheduler.run_once(engine).await.expect("a sweep");
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

async fn a_waiting_operation_that_is_cancelled_deleted_paused_or_late_holds_no_other_up(
    ground: Ground,
) {
    let servers = Servers::on(ground).await;
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
    // Work on a deleted operation goes on, as without a key, although no caller can see it.
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

async fn a_scheduled_operation_asks_for_its_slot_when_its_time_has_come(ground: Ground) {
    let servers = Servers::on(ground).await;
    let engine = servers.engine();
    let mut wanted = keyed("later", 1, Policy::Queue);
    wanted.spec.options.schedule_time =
        Some(engine.store_now(&name("later")) + Duration::from_mins(1));
    engine.start_operation(&caller(), wanted).await.expect("started");
    servers.start(0, "now", 1, Policy::Reject).await.expect("the slot is free");
    servers.clock.advance(Duration::from_mins(2));
    Scheduler.run_once(engine).await.expect("a sweep");
    let later = servers.stored("later").await.expect("kept");
    assert_eq!(later.admission, Some(Admittance::Waiting));
    let leased = lease(engine).await.expect("a lease");
    assert_eq!(leased.operation.name, name("now"));
    finish(engine, &leased).await;
    servers.admitted("later").await;
}

async fn a_lower_limit_drains_and_a_higher_one_lets_in_those_that_wait(ground: Ground) {
    let servers = Servers::on(ground).await;
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
