//! The worker SDK against a whole server.

use std::sync::Arc;

use longhaul::worker::{
    Cancelled, Context, Json, Pack, ReportError, RunError, Stop, Unpack, Worker,
};
use prost_types::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::support::*;

scenarios! {
    a_typed_handler_gets_its_request_and_gives_the_response,
    a_request_of_another_type_fails_its_operation_alone,
    what_a_handler_reports_is_seen_and_the_next_attempt_goes_on_from_its_checkpoint,
    an_unknown_method_goes_back_to_the_queue_for_another_worker,
    a_panic_fails_its_operation_and_the_worker_goes_on,
    a_cancel_reaches_the_handler_at_once_and_is_acknowledged,
    a_pause_reaches_the_handler_and_releasing_parks_the_operation,
    a_suspended_operation_goes_on_with_checkpoint_and_input,
    a_cut_of_the_wire_costs_a_handler_nothing,
    everything_ends_however_often_the_wire_is_cut,
    a_lease_lost_during_a_cut_is_told_and_the_late_result_does_not_count,
    a_drain_finishes_what_runs_and_takes_no_more,
    a_drain_that_takes_too_long_gives_back_what_is_left,
    a_server_that_goes_away_lets_what_runs_finish_and_is_left,
    a_refused_completion_ends_as_internal,
    a_worker_that_the_server_will_not_have_is_told_why,
    many_operations_go_through_few_slots,
}

/// A worker that runs beside the test.
struct Running {
    stop: CancellationToken,
    ends: Call<Result<(), RunError>>,
}

impl Running {
    fn begin(worker: Worker) -> Self {
        let stop = CancellationToken::new();
        let run = worker.run_until(stop.clone().cancelled_owned());
        Self { stop, ends: Call::begin("the worker's end", run) }
    }

    async fn finish(self) {
        self.stop.cancel();
        self.ends.end().await.expect("an orderly end");
    }
}

/// What a handler and its test tell each other.
#[derive(Clone)]
struct Talk {
    said: mpsc::UnboundedSender<String>,
    go: Arc<Notify>,
}

impl Talk {
    fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (said, heard) = mpsc::unbounded_channel();
        (Self { said, go: Arc::default() }, heard)
    }

    fn say(&self, text: impl Into<String>) {
        self.said.send(text.into()).expect("a test that listens");
    }
}

async fn hear(heard: &mut mpsc::UnboundedReceiver<String>, text: &str) {
    let said = within(&format!("a handler to say {text:?}"), heard.recv()).await;
    assert_eq!(said.as_deref(), Some(text));
}

fn worker(world: &World, queue: &str) -> Worker {
    Worker::builder(world.channel.clone()).queue(queue).clock(world.clock.clone())
}

async fn started(world: &World, queue: &str, method: &str) -> String {
    let start = pb::StartOperationRequest { method: method.to_owned(), ..start(queue) };
    world.start(start).await.granted().name
}

async fn ended(world: &World, name: &str) -> Operation {
    world.wait(name, seconds(60)).end().await.granted()
}

/// The record once it is in that state.
async fn becomes(world: &World, name: &str, state: State) -> pb::OperationRecord {
    within(&format!("{name} to become {state:?}"), async {
        loop {
            let record = world.record(name).await;
            if record.state() == state {
                return record;
            }
        }
    })
    .await
}

/// The record once it waits for another lease.
async fn tried_before(world: &World, name: &str) -> pb::OperationRecord {
    within(&format!("{name} to be given back"), async {
        loop {
            let record = world.record(name).await;
            let data = record.server_metadata.clone().expect("metadata");
            if record.state() == State::Pending && data.start_time.is_some() {
                return record;
            }
        }
    })
    .await
}

async fn a_typed_handler_gets_its_request_and_gives_the_response(world: &World) {
    let worker = worker(world, "q")
        .handler("later", async |_: Context, time: Timestamp| {
            Ok(Timestamp { seconds: time.seconds + 1, ..time })
        })
        .handler("greet", async |_: Context, Json(whom): Json<String>| {
            Ok(Json(format!("hello {whom}")))
        })
        .handler("nothing", async |_: Context, (): ()| Ok(()))
        .fallback(async |context: Context, request| {
            assert_eq!(context.method(), "other");
            Ok(request)
        })
        .concurrency(3);
    let running = Running::begin(worker);
    let echo = any("acme.Unknown", b"bytes");
    for (method, request, wanted) in [
        (
            "later",
            Timestamp { seconds: 1, nanos: 0 }.pack(),
            Timestamp { seconds: 2, nanos: 0 }.pack(),
        ),
        ("greet", Json("Ada").pack(), Json("hello Ada").pack()),
        ("nothing", ().pack(), ().pack()),
        ("other", echo.clone(), echo),
    ] {
        let start = pb::StartOperationRequest {
            method: method.to_owned(),
            request: Some(request),
            response_type: wanted.type_url.replace("type.googleapis.com/", ""),
            ..start("q")
        };
        let name = world.start(start).await.granted().name;
        assert_eq!(response_of(&ended(world, &name).await), wanted, "{method}");
    }
    running.finish().await;
}

async fn a_request_of_another_type_fails_its_operation_alone(world: &World) {
    let running = Running::begin(
        worker(world, "q").handler("m", async |_: Context, time: Timestamp| Ok(time)),
    );
    let wrong = pb::StartOperationRequest {
        method: "m".to_owned(),
        request: Some(any("acme.Other", b"")),
        ..start("q")
    };
    let wrong = world.start(wrong).await.granted().name;
    let error = error_of(&ended(world, &wrong).await);
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(error.message.contains("acme.Other"), "{}", error.message);
    let right = started(world, "q", "m").await;
    response_of(&ended(world, &right).await);
    running.finish().await;
}

async fn what_a_handler_reports_is_seen_and_the_next_attempt_goes_on_from_its_checkpoint(
    world: &World,
) {
    async fn handle(context: Context) -> Result<Json<String>, Stop> {
        if let Some(Json(saved)) = context.checkpoint::<Json<String>>()? {
            let error = context.last_error().map(|error| error.message.clone());
            return Ok(Json(format!("{saved}, {}, {error:?}", context.attempt())));
        }
        for step in 0..1_000 {
            context.progress(pb::Progress::units(step, 1_000, "steps"));
        }
        context.metadata(&Json(json!({"phase": "first"})));
        context.status_detail("at work");
        context.partial_error(error(Code::DataLoss));
        context.related_resource(pb::RelatedResource {
            name: "shelves/1".to_owned(),
            ..Default::default()
        });
        context.save_checkpoint(&Json("half")).await?;
        Err(Stop::fail(Code::Unavailable, "later").retry_after(Duration::from_secs(5)))
    }
    let worker =
        worker(world, "q").handler("m", async |context: Context, (): ()| handle(context).await);
    let running = Running::begin(worker);
    let start = pb::StartOperationRequest {
        method: "m".to_owned(),
        metadata_type: "google.protobuf.Struct".to_owned(),
        ..start("q")
    };
    let name = world.start(start).await.granted().name;
    let record = tried_before(world, &name).await;
    let metadata = record.server_metadata.expect("metadata");
    let progress = metadata.progress.expect("progress");
    assert_eq!((progress.completed_units, &progress.unit[..]), (999, "steps"));
    assert_eq!(
        record.operation.and_then(|it| it.metadata),
        Some(Json(json!({"phase": "first"})).pack())
    );
    assert_eq!(metadata.partial_errors.len(), 1);
    assert_eq!(record.related_resources.len(), 1);
    world.pass(Duration::from_secs(5)).await;
    let response = response_of(&ended(world, &name).await);
    assert_eq!(Json::unpack(&response), Ok(Json(r#"half, 2, Some("later")"#.to_owned())));
    running.finish().await;
}

async fn an_unknown_method_goes_back_to_the_queue_for_another_worker(world: &World) {
    let running =
        Running::begin(worker(world, "q").handler("m", async |_: Context, (): ()| Ok(())));
    let name = started(world, "q", "new").await;
    tried_before(world, &name).await;
    running.finish().await;
    world.expect_no_lease("q").await;
    world.pass(Duration::from_secs(5)).await;
    let newer = worker(world, "q").handler("new", async |context: Context, (): ()| {
        assert_eq!(context.attempt(), 1);
        Ok(())
    });
    let running = Running::begin(newer);
    response_of(&ended(world, &name).await);
    running.finish().await;
}

async fn a_panic_fails_its_operation_and_the_worker_goes_on(world: &World) {
    let worker =
        worker(world, "q").handler("m", async |_: Context, Json(well): Json<Option<bool>>| {
            assert!(well.is_some(), "this is not well");
            Ok(())
        });
    let running = Running::begin(worker);
    let bad = started(world, "q", "m").await;
    let error = error_of(&ended(world, &bad).await);
    assert_eq!(error.code, Code::Internal as i32);
    assert!(error.message.contains("this is not well"), "{}", error.message);
    let good = pb::StartOperationRequest {
        method: "m".to_owned(),
        request: Some(Json(true).pack()),
        ..start("q")
    };
    let good = world.start(good).await.granted().name;
    response_of(&ended(world, &good).await);
    running.finish().await;
}

async fn a_cancel_reaches_the_handler_at_once_and_is_acknowledged(world: &World) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(world, "q").handler("m", move |context: Context, (): ()| {
        let talk = talk.clone();
        async move {
            talk.say("begun");
            assert_eq!(context.cancelled().await, Cancelled::Requested);
            context.flush().await?;
            context.check()
        }
    });
    let running = Running::begin(worker);
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun").await;
    world.cancel(&name).await.granted();
    let error = error_of(&ended(world, &name).await);
    assert_eq!(error.code, Code::Cancelled as i32);
    let record = world.record(&name).await;
    assert_eq!(record.state(), State::Cancelled);
    let trail = record.server_metadata.and_then(|data| data.cancel_trail).expect("a trail");
    assert!(trail.deliver_time.is_some() && trail.acknowledge_time.is_some(), "{trail:?}");
    running.finish().await;
}

async fn a_pause_reaches_the_handler_and_releasing_parks_the_operation(world: &World) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(world, "q").handler("m", move |context: Context, (): ()| {
        let talk = talk.clone();
        async move {
            talk.say("begun");
            context.pause_requested().await;
            Err::<(), _>(Stop::release(Duration::ZERO).checkpoint(&Json(7)))
        }
    });
    let running = Running::begin(worker);
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun").await;
    world.pause(&name).await.granted();
    becomes(world, &name, State::Suspended).await;
    running.finish().await;
}

async fn a_suspended_operation_goes_on_with_checkpoint_and_input(world: &World) {
    let worker = worker(world, "q").handler("m", async |context: Context, (): ()| {
        let Some(Json(parts)) = context.checkpoint::<Json<Vec<String>>>()? else {
            return Err(Stop::suspend("a name").checkpoint(&Json(vec!["hello"])));
        };
        let input =
            context.resume_input::<Json<String>>()?.map_or_else(String::new, |Json(name)| name);
        Ok(Json(format!("{} {input}, attempt {}", parts[0], context.attempt())))
    });
    let running = Running::begin(worker);
    let name = started(world, "q", "m").await;
    let record = becomes(world, &name, State::Suspended).await;
    assert_eq!(record.server_metadata.expect("metadata").suspend_reason, "a name");
    // Its slot is free meanwhile.
    let other = started(world, "q", "m").await;
    becomes(world, &other, State::Suspended).await;
    world.resume(&name, Some(Json("Ada").pack())).await.granted();
    let response = response_of(&ended(world, &name).await);
    assert_eq!(Json::unpack(&response), Ok(Json("hello Ada, attempt 1".to_owned())));
    running.finish().await;
}

/// A worker behind a wire that can be cut, whose handler begins, waits to be told, and ends.
async fn behind_a_wire(world: &World, talk: Talk) -> (Wire, Running) {
    let wire = Wire::to(world.address).await;
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{}", wire.address()));
    let worker = Worker::builder(endpoint.expect("an endpoint"))
        .queue("q")
        .name("behind a wire")
        .clock(world.clock.clone())
        .handler("m", move |context: Context, (): ()| {
            let talk = talk.clone();
            async move {
                // What the server does not know to be seen it takes back at once.
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

async fn a_cut_of_the_wire_costs_a_handler_nothing(world: &World) {
    let (talk, mut heard) = Talk::new();
    let (wire, running) = behind_a_wire(world, talk.clone()).await;
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun 1").await;
    wire.cut();
    talk.go.notify_one();
    wire.mend();
    let ended = world.passing("the end", world.wait(&name, None).end()).await.granted();
    hear(&mut heard, "None false").await;
    assert_eq!(Json::unpack(&response_of(&ended)), Ok(Json(1)));
    running.finish().await;
}

async fn everything_ends_however_often_the_wire_is_cut(world: &World) {
    let wire = Wire::to(world.address).await;
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{}", wire.address()));
    let worker = Worker::builder(endpoint.expect("an endpoint"))
        .queue("q")
        .concurrency(20)
        .clock(world.clock.clone())
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
        names.push(world.start(start).await.granted().name);
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
        let ended = world.passing("an end", world.wait(name, None).end()).await.granted();
        assert_eq!(Json::unpack(&response_of(&ended)), Ok(Json(number)));
    }
    world.passing("the worker's end", running.finish()).await;
}

async fn a_lease_lost_during_a_cut_is_told_and_the_late_result_does_not_count(world: &World) {
    let (talk, mut heard) = Talk::new();
    let (wire, running) = behind_a_wire(world, talk.clone()).await;
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun 1").await;
    wire.cut();
    let lost = async {
        while world.state(&name).await != State::Pending {
            world.pass(Duration::from_millis(100)).await;
        }
    };
    within("the lease to be lost", lost).await;
    let lease = world.lease("q").await;
    assert_eq!((lease.attempt, &lease.operation), (2, &name));
    wire.mend();
    talk.go.notify_one();
    world.passing("the handler to be told", hear(&mut heard, "Some(LeaseLost) true")).await;
    let mine =
        pb::CompleteOperationRequest { response: Some(Json(2).pack()), ..completion(&lease) };
    world.complete(mine).await.granted();
    assert_eq!(Json::unpack(&response_of(&ended(world, &name).await)), Ok(Json(2)));
    running.finish().await;
}

async fn a_drain_finishes_what_runs_and_takes_no_more(world: &World) {
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
    let mut running = Running::begin(worker(world, "q").handler("m", handler).concurrency(2));
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun").await;
    running.stop.cancel();
    // It has said so once the next operation is not taken.
    let next = within("an operation that stays", async {
        loop {
            let next = started(world, "q", "m").await;
            if !world.leases(leasing("q")).await.granted().is_empty() {
                return next;
            }
            assert_eq!(heard.recv().await.as_deref(), Some("begun"));
        }
    })
    .await;
    assert!(running.ends.runs());
    assert_eq!(world.state(&next).await, State::Running);
    talk.go.notify_one();
    talk.go.notify_waiters();
    response_of(&ended(world, &name).await);
    running.finish().await;
}

async fn a_drain_that_takes_too_long_gives_back_what_is_left(world: &World) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(world, "q")
        .handler("m", move |_: Context, (): ()| {
            talk.say("begun");
            std::future::pending::<Result<(), Stop>>()
        })
        .drain_timeout(Duration::ZERO);
    let running = Running::begin(worker);
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun").await;
    running.finish().await;
    let lease = world.lease("q").await;
    assert_eq!((lease.attempt, lease.operation), (1, name));
}

async fn a_server_that_goes_away_lets_what_runs_finish_and_is_left(world: &World) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(world, "q").handler("m", move |context: Context, (): ()| {
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
    let name = started(world, "q", "m").await;
    hear(&mut heard, "begun").await;
    let next = started(world, "q", "m").await;
    world.server.drain();
    hear(&mut heard, "draining").await;
    becomes(world, &name, State::Succeeded).await;
    // Nobody serves it now; it tries again and again, and ends when it is asked to.
    world.passing("its end", running.finish()).await;
    assert_eq!(world.state(&next).await, State::Pending);
    assert!(heard.try_recv().is_err(), "a draining server leases no more");
}

async fn a_refused_completion_ends_as_internal(world: &World) {
    let worker =
        worker(world, "q").any_handler("m", async |_: Context, _| Ok(Some(any("acme.Other", b""))));
    let running = Running::begin(worker);
    let start = pb::StartOperationRequest {
        method: "m".to_owned(),
        response_type: "acme.Promised".to_owned(),
        ..start("q")
    };
    let name = world.start(start).await.granted().name;
    let error = error_of(&ended(world, &name).await);
    assert_eq!(error.code, Code::Internal as i32);
    assert!(error.message.contains("acme.Promised"), "{}", error.message);
    running.finish().await;
}

async fn a_worker_that_the_server_will_not_have_is_told_why(world: &World) {
    let refused = worker(world, "no queue!").run();
    let error = within("a refusal", refused).await.expect_err("a refusal");
    assert!(matches!(&error, RunError::Refused(status) if status.code() == Code::InvalidArgument));
    assert!(error.to_string().contains("queue"), "{error}");
}

async fn many_operations_go_through_few_slots(world: &World) {
    let worker = worker(world, "q")
        .handler("m", async |_: Context, Json(number): Json<u32>| Ok(Json(number)))
        .concurrency(7);
    let running = Running::begin(worker);
    let mut names = Vec::new();
    for number in 0..300_u32 {
        let start = pb::StartOperationRequest {
            method: "m".to_owned(),
            request: Some(Json(number).pack()),
            ..start("q")
        };
        names.push(world.start(start).await.granted().name);
    }
    for (number, name) in names.iter().enumerate() {
        let response = response_of(&ended(world, name).await);
        assert_eq!(Json::unpack(&response), Ok(Json(number)));
    }
    running.finish().await;
}
