//! The worker SDK against a whole server: cuts, ends and drains.

use longhaul::worker::{Context, Json, Pack, ReportError, RunError, Stop, Unpack, Worker};

use crate::support::worker::{Running, Talk, becomes, ended, hear, started, worker};
use crate::support::*;

scenarios! {
    a_cut_of_the_wire_costs_a_handler_nothing,
    a_cancel_during_a_cut_is_told_after_it,
    everything_ends_however_often_the_wire_is_cut,
    a_lease_lost_during_a_cut_is_told_and_the_late_result_does_not_count,
    a_draining_worker_finishes_its_handlers_and_takes_no_more,
    a_draining_worker_that_takes_too_long_releases_its_remaining_leases,
    a_worker_finishes_its_handlers_and_leaves_a_draining_server,
    a_worker_that_the_server_will_not_have_is_told_why,
}

/// A worker behind a connection that can be cut, whose handler signals its begin, waits for the test, and ends.
async fn behind_a_wire(fixture: &Fixture, talk: Talk) -> (Wire, Running) {
    let wire = Wire::to(fixture.address).await;
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{}", wire.address()));
    let worker = Worker::builder(endpoint.expect("an endpoint"))
        .queue("q")
        .name("behind a wire")
        .clock(fixture.clock.clone())
        .handler("m", move |context: Context, (): ()| {
            let talk = talk.clone();
            async move {
                // The server takes back at once a lease that was not acknowledged.
                context.flush().await?;
                talk.say(format!("begun {}", context.attempt()));
                talk.go.notified().await;
                let flushed = context.flush().await;
                talk.say(format!(
                    "{:?} {}",
                    context.is_cancelled(),
                    flushed == Err(ReportError::LeaseLost)
                ));
                Ok(Json(context.attempt()))
            }
        });
    let running = Running::begin(worker);
    (wire, running)
}

async fn a_cut_of_the_wire_costs_a_handler_nothing(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let (wire, running) = behind_a_wire(fixture, talk.clone()).await;
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun 1").await;
    wire.cut();
    talk.go.notify_one();
    wire.mend();
    let ended = fixture.passing("the end", fixture.wait(&name, None).end()).await.granted();
    hear(&mut heard, "None false").await;
    assert_eq!(Json::unpack(&response_of(&ended)), Ok(Json(1)));
    running.finish().await;
}

async fn a_cancel_during_a_cut_is_told_after_it(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let (wire, running) = behind_a_wire(fixture, talk.clone()).await;
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun 1").await;
    wire.cut();
    fixture.cancel(&name).await.granted();
    wire.mend();
    let told = async {
        loop {
            let data = fixture.record(&name).await.server_metadata.expect("metadata");
            if data.cancel_trail.is_some_and(|trail| trail.acknowledge_time.is_some()) {
                return;
            }
        }
    };
    fixture.passing("the worker to know", told).await;
    talk.go.notify_one();
    hear(&mut heard, "Some(Requested) false").await;
    // It ended well all the same, and that counts.
    becomes(fixture, &name, State::Succeeded).await;
    running.finish().await;
}

async fn everything_ends_however_often_the_wire_is_cut(fixture: &Fixture) {
    let wire = Wire::to(fixture.address).await;
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{}", wire.address()));
    let worker = Worker::builder(endpoint.expect("an endpoint"))
        .queue("q")
        .concurrency(20)
        .clock(fixture.clock.clone())
        .handler("m", async |context: Context, Json(number): Json<u32>| {
            context.progress(f64::from(number) / 200.0);
            if number % 3 == 0 {
                context.save_checkpoint(&Json(number)).await?;
            }
            tokio::task::yield_now().await;
            Ok(Json(number))
        });
    let running = Running::begin(worker);
    let mut names = Vec::new();
    for number in 0..200_u32 {
        let request = Some(Json(number).pack());
        let start = pb::StartOperationRequest { method: "m".to_owned(), request, ..start("q") };
        names.push(fixture.start(start).await.granted().name);
        if number % 10 == 0 {
            wire.cut();
            wire.mend();
        }
    }
    for (number, name) in names.iter().enumerate() {
        if number % 10 == 0 {
            wire.cut();
            wire.mend();
        }
        let ended = fixture.passing("an end", fixture.wait(name, None).end()).await.granted();
        assert_eq!(Json::unpack(&response_of(&ended)), Ok(Json(number)));
    }
    fixture.passing("the worker's end", running.finish()).await;
}

async fn a_lease_lost_during_a_cut_is_told_and_the_late_result_does_not_count(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let (wire, running) = behind_a_wire(fixture, talk.clone()).await;
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun 1").await;
    wire.cut();
    let lost = async {
        while fixture.state(&name).await != State::Pending {
            fixture.pass(Duration::from_millis(100)).await;
        }
    };
    within("the lease to be lost", lost).await;
    let lease = fixture.lease("q").await;
    assert_eq!((lease.attempt, &lease.operation), (2, &name));
    wire.mend();
    talk.go.notify_one();
    fixture.passing("the handler to be told", hear(&mut heard, "Some(LeaseLost) true")).await;
    let mine =
        pb::CompleteOperationRequest { response: Some(Json(2).pack()), ..completion(&lease) };
    fixture.complete(mine).await.granted();
    assert_eq!(Json::unpack(&response_of(&ended(fixture, &name).await)), Ok(Json(2)));
    running.finish().await;
}

async fn a_draining_worker_finishes_its_handlers_and_takes_no_more(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let handler = {
        let talk = talk.clone();
        move |context: Context, (): ()| {
            let talk = talk.clone();
            async move {
                talk.say("begun");
                context.draining().await;
                talk.go.notified().await;
                Ok(())
            }
        }
    };
    let mut running = Running::begin(worker(fixture, "q").handler("m", handler).concurrency(2));
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun").await;
    running.stop.cancel();
    // It has acknowledged once the next operation is not leased.
    let next = within("an operation that stays", async {
        loop {
            let next = started(fixture, "q", "m").await;
            if !fixture.leases(leasing("q")).await.granted().is_empty() {
                return next;
            }
            assert_eq!(heard.recv().await.as_deref(), Some("begun"));
        }
    })
    .await;
    assert!(running.ends.runs());
    assert_eq!(fixture.state(&next).await, State::Running);
    talk.go.notify_one();
    talk.go.notify_waiters();
    response_of(&ended(fixture, &name).await);
    running.finish().await;
}

async fn a_draining_worker_that_takes_too_long_releases_its_remaining_leases(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(fixture, "q")
        .handler("m", move |_: Context, (): ()| {
            talk.say("begun");
            std::future::pending::<Result<(), Stop>>()
        })
        .drain_timeout(Duration::ZERO);
    let running = Running::begin(worker);
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun").await;
    running.finish().await;
    let lease = fixture.lease("q").await;
    assert_eq!((lease.attempt, lease.operation), (1, name));
}

async fn a_worker_finishes_its_handlers_and_leaves_a_draining_server(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(fixture, "q").handler("m", move |context: Context, (): ()| {
        let talk = talk.clone();
        async move {
            context.flush().await?;
            talk.say("begun");
            context.draining().await;
            talk.say("draining");
            Ok(())
        }
    });
    let running = Running::begin(worker);
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun").await;
    let next = started(fixture, "q", "m").await;
    fixture.server.drain();
    hear(&mut heard, "draining").await;
    becomes(fixture, &name, State::Succeeded).await;
    // No server is running now; it tries again and again, and ends when it is stopped.
    fixture.passing("its end", running.finish()).await;
    assert_eq!(fixture.state(&next).await, State::Pending);
    assert!(heard.try_recv().is_err(), "a draining server leases no more");
}

async fn a_worker_that_the_server_will_not_have_is_told_why(fixture: &Fixture) {
    let refused = worker(fixture, "no queue!").run();
    let error = within("a refusal", refused).await.expect_err("a refusal");
    assert!(matches!(&error, RunError::Refused(status) if status.code() == Code::InvalidArgument));
    assert!(error.to_string().contains("queue"), "{error}");
}
