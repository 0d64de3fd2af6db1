//! The workers of `examples/rust-worker`, as they are.

#[path = "../../examples/rust-worker/approval.rs"]
#[expect(dead_code, reason = "an example has a main")]
mod approval;
#[path = "../../examples/rust-worker/fencing.rs"]
#[expect(dead_code, reason = "an example has a main")]
mod fencing;

use longhaul::worker::{Context, Json, Pack, Unpack, Worker};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

use self::fencing::{Accounts, Balance};
use crate::support::*;

scenarios! {
    a_payment_waits_for_a_decision_and_goes_on_with_it,
    a_worker_that_comes_back_too_late_is_refused_by_the_database,
}

fn payment() -> pb::StartOperationRequest {
    pb::StartOperationRequest {
        method: "pay".to_owned(),
        request: Some(Json(json!({"to": "Ada", "euros": 700})).pack()),
        ..start("payments")
    }
}

async fn suspended(fixture: &Fixture, name: &str) {
    let what = format!("{name} to be suspended");
    within(&what, async { while fixture.state(name).await != State::Suspended {} }).await;
}

async fn a_payment_waits_for_a_decision_and_goes_on_with_it(fixture: &Fixture) {
    let mut worker = Call::begin(
        "the worker",
        approval::worker(fixture.channel.clone()).clock(fixture.clock.clone()).run(),
    );
    let (paid, declined) = (
        fixture.start(payment()).await.granted().name,
        fixture.start(payment()).await.granted().name,
    );
    suspended(fixture, &paid).await;
    // The slot is free: the other operation came as far.
    suspended(fixture, &declined).await;
    let decision = |approved: bool| Some(Json(json!({"approved": approved, "by": "Grace"})).pack());
    fixture.resume(&declined, decision(false)).await.granted();
    let error = error_of(&fixture.wait(&declined, None).end().await.granted());
    assert_eq!((error.code, &error.message[..]), (7, "declined by Grace"));

    fixture.resume(&paid, None).await.granted();
    suspended(fixture, &paid).await;
    fixture.resume(&paid, decision(true)).await.granted();
    let receipt = response_of(&fixture.wait(&paid, None).end().await.granted());
    let wanted = json!({"reference": "700 euros to Ada", "approved_by": "Grace"});
    assert_eq!(Json::<Value>::unpack(&receipt), Ok(Json(wanted)));
    assert!(worker.runs());
    worker.give_up().await;
}

/// A worker whose handler signals its begin, waits for the test, and then writes.
fn writer(
    worker: Worker,
    fixture: &Fixture,
    accounts: &Accounts,
) -> (Call<()>, mpsc::UnboundedReceiver<u32>, mpsc::UnboundedSender<()>) {
    let (began, begins) = mpsc::unbounded_channel();
    let (go, told) = mpsc::unbounded_channel();
    let (told, accounts) = (std::sync::Arc::new(tokio::sync::Mutex::new(told)), accounts.clone());
    let handler = move |context: Context, Json(request): Json<Balance>| {
        let (began, told, accounts) = (began.clone(), told.clone(), accounts.clone());
        async move {
            context.flush().await?;
            let _ = began.send(context.attempt());
            let () = told.lock().await.recv().await.unwrap_or_default();
            let balance = request.balance + f64::from(context.attempt());
            let done = fencing::set(&accounts, &context, Balance { balance }).await;
            let _ = began.send(if done.is_ok() { 100 } else { 0 });
            done
        }
    };
    let run = worker.queue("balances").clock(fixture.clock.clone()).handler("set", handler).run();
    (Call::begin("a worker", async { drop(run.await) }), begins, go)
}

async fn a_worker_that_comes_back_too_late_is_refused_by_the_database(fixture: &Fixture) {
    let accounts = Accounts::open(&stores::redis_url()).await.expect("a database");
    let account = format!("account-{}", fixture.address);
    let wire = Wire::to(fixture.address).await;
    let endpoint = Endpoint::try_from(format!("http://{}", wire.address())).expect("an endpoint");
    let (old, mut old_says, old_go) = writer(Worker::builder(endpoint), fixture, &accounts);
    let options = pb::OperationOptions { target: account.clone(), ..Default::default() };
    let start = pb::StartOperationRequest {
        method: "set".to_owned(),
        request: Some(Json(json!({"balance": 10})).pack()),
        ..start_with("balances", options)
    };
    let name = fixture.start(start).await.granted().name;
    assert_eq!(within("the first attempt", old_says.recv()).await, Some(1));
    // As if its process was stopped: it receives nothing.
    wire.cut();
    within("the lease to be lost", async {
        while fixture.state(&name).await != State::Pending {
            fixture.pass(Duration::from_millis(100)).await;
        }
    })
    .await;
    let (new, mut new_says, new_go) =
        writer(Worker::builder(fixture.channel.clone()), fixture, &accounts);
    assert_eq!(within("the second attempt", new_says.recv()).await, Some(2));
    new_go.send(()).expect("a handler");
    assert_eq!(within("its write", new_says.recv()).await, Some(100));
    old_go.send(()).expect("a handler");
    assert_eq!(within("the refusal", old_says.recv()).await, Some(0));
    let balance = accounts.balance(&account).await.expect("a balance");
    assert!((balance - 12.0).abs() < f64::EPSILON, "{balance}");
    let ended = fixture.wait(&name, None).end().await.granted();
    assert_eq!(Json::<Value>::unpack(&response_of(&ended)), Ok(Json(json!({"balance": 12}))));
    old.give_up().await;
    new.give_up().await;
}
