//! The worker SDK against a whole server.

use longhaul::worker::{Cancelled, Context, Json, Pack, Stop, Unpack};
use prost_types::Timestamp;
use serde_json::json;

use crate::support::worker::{Running, Talk, becomes, ended, hear, started, tried_before, worker};
use crate::support::*;

scenarios! {
    a_typed_handler_gets_its_request_and_gives_the_response,
    a_request_of_another_type_fails_its_operation_alone,
    what_a_handler_reports_is_seen_and_the_next_attempt_goes_on_from_its_checkpoint,
    progress_alone_is_sent_in_its_time,
    an_unknown_method_goes_back_to_the_queue_for_another_worker,
    a_panic_fails_its_operation_and_the_worker_goes_on,
    a_cancel_reaches_the_handler_at_once_and_is_acknowledged,
    a_pause_reaches_the_handler_and_releasing_parks_the_operation,
    a_suspended_operation_goes_on_with_checkpoint_and_input,
    a_refused_completion_ends_as_internal,
    many_operations_go_through_few_slots,
}

async fn a_typed_handler_gets_its_request_and_gives_the_response(fixture: &Fixture) {
    let worker = worker(fixture, "q")
        .handler("later", async |_: Context, time: Timestamp| {
            Ok(Timestamp { seconds: time.seconds + 1, ..time })
        })
        .handler("greet", async |_: Context, Json(name): Json<String>| {
            Ok(Json(format!("hello {name}")))
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
        let name = fixture.start(start).await.granted().name;
        assert_eq!(response_of(&ended(fixture, &name).await), wanted, "{method}");
    }
    running.finish().await;
}

async fn a_request_of_another_type_fails_its_operation_alone(fixture: &Fixture) {
    let running = Running::begin(
        worker(fixture, "q").handler("m", async |_: Context, time: Timestamp| Ok(time)),
    );
    let wrong = pb::StartOperationRequest {
        method: "m".to_owned(),
        request: Some(any("acme.Other", b"")),
        ..start("q")
    };
    let wrong = fixture.start(wrong).await.granted().name;
    let error = error_of(&ended(fixture, &wrong).await);
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(error.message.contains("acme.Other"), "{}", error.message);
    let right = started(fixture, "q", "m").await;
    response_of(&ended(fixture, &right).await);
    running.finish().await;
}

async fn what_a_handler_reports_is_seen_and_the_next_attempt_goes_on_from_its_checkpoint(
    fixture: &Fixture,
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
        worker(fixture, "q").handler("m", async |context: Context, (): ()| handle(context).await);
    let running = Running::begin(worker);
    let start = pb::StartOperationRequest {
        method: "m".to_owned(),
        metadata_type: "google.protobuf.Struct".to_owned(),
        ..start("q")
    };
    let name = fixture.start(start).await.granted().name;
    let record = tried_before(fixture, &name).await;
    let metadata = record.server_metadata.expect("metadata");
    let progress = metadata.progress.expect("progress");
    assert_eq!((progress.completed_units, &progress.unit[..]), (999, "steps"));
    assert_eq!(
        record.operation.and_then(|it| it.metadata),
        Some(Json(json!({"phase": "first"})).pack())
    );
    assert_eq!(metadata.partial_errors.len(), 1);
    assert_eq!(record.related_resources.len(), 1);
    fixture.pass(Duration::from_secs(5)).await;
    let response = response_of(&ended(fixture, &name).await);
    assert_eq!(Json::unpack(&response), Ok(Json(r#"half, 2, Some("later")"#.to_owned())));
    running.finish().await;
}

async fn progress_alone_is_sent_in_its_time(fixture: &Fixture) {
    let worker = worker(fixture, "q").handler("m", async |context: Context, (): ()| {
        context.progress(0.1);
        context.flush().await?;
        context.progress(0.2);
        context.cancelled().await;
        context.check()
    });
    let running = Running::begin(worker);
    let name = started(fixture, "q", "m").await;
    let arrives = async {
        loop {
            let data = fixture.record(&name).await.server_metadata.expect("metadata");
            if data.progress.and_then(|progress| progress.fraction) == Some(0.2) {
                return;
            }
        }
    };
    fixture.passing("the second report", arrives).await;
    fixture.cancel(&name).await.granted();
    fixture.passing("the worker's end", running.finish()).await;
}

async fn an_unknown_method_goes_back_to_the_queue_for_another_worker(fixture: &Fixture) {
    let running =
        Running::begin(worker(fixture, "q").handler("m", async |_: Context, (): ()| Ok(())));
    let name = started(fixture, "q", "new").await;
    tried_before(fixture, &name).await;
    running.finish().await;
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(5)).await;
    let newer = worker(fixture, "q").handler("new", async |context: Context, (): ()| {
        assert_eq!(context.attempt(), 1);
        Ok(())
    });
    let running = Running::begin(newer);
    response_of(&ended(fixture, &name).await);
    running.finish().await;
}

async fn a_panic_fails_its_operation_and_the_worker_goes_on(fixture: &Fixture) {
    let worker =
        worker(fixture, "q").handler("m", async |_: Context, Json(well): Json<Option<bool>>| {
            assert!(well.is_some(), "this is not well");
            Ok(())
        });
    let running = Running::begin(worker);
    let bad = started(fixture, "q", "m").await;
    let error = error_of(&ended(fixture, &bad).await);
    assert_eq!(error.code, Code::Internal as i32);
    assert!(error.message.contains("this is not well"), "{}", error.message);
    let good = pb::StartOperationRequest {
        method: "m".to_owned(),
        request: Some(Json(true).pack()),
        ..start("q")
    };
    let good = fixture.start(good).await.granted().name;
    response_of(&ended(fixture, &good).await);
    running.finish().await;
}

async fn a_cancel_reaches_the_handler_at_once_and_is_acknowledged(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(fixture, "q").handler("m", move |context: Context, (): ()| {
        let talk = talk.clone();
        async move {
            talk.say("begun");
            assert_eq!(context.cancelled().await, Cancelled::Requested);
            context.flush().await?;
            context.check()
        }
    });
    let running = Running::begin(worker);
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun").await;
    fixture.cancel(&name).await.granted();
    let error = error_of(&ended(fixture, &name).await);
    assert_eq!(error.code, Code::Cancelled as i32);
    let record = fixture.record(&name).await;
    assert_eq!(record.state(), State::Cancelled);
    let trail = record.server_metadata.and_then(|data| data.cancel_trail).expect("a trail");
    assert!(trail.deliver_time.is_some() && trail.acknowledge_time.is_some(), "{trail:?}");
    running.finish().await;
}

async fn a_pause_reaches_the_handler_and_releasing_parks_the_operation(fixture: &Fixture) {
    let (talk, mut heard) = Talk::new();
    let worker = worker(fixture, "q").handler("m", move |context: Context, (): ()| {
        let talk = talk.clone();
        async move {
            talk.say("begun");
            context.pause_requested().await;
            Err::<(), _>(Stop::release(Duration::ZERO).checkpoint(&Json(7)))
        }
    });
    let running = Running::begin(worker);
    let name = started(fixture, "q", "m").await;
    hear(&mut heard, "begun").await;
    fixture.pause(&name).await.granted();
    becomes(fixture, &name, State::Suspended).await;
    running.finish().await;
}

async fn a_suspended_operation_goes_on_with_checkpoint_and_input(fixture: &Fixture) {
    let worker = worker(fixture, "q").handler("m", async |context: Context, (): ()| {
        let Some(Json(parts)) = context.checkpoint::<Json<Vec<String>>>()? else {
            return Err(Stop::suspend("a name").checkpoint(&Json(vec!["hello"])));
        };
        let input =
            context.resume_input::<Json<String>>()?.map_or_else(String::new, |Json(name)| name);
        Ok(Json(format!("{} {input}, attempt {}", parts[0], context.attempt())))
    });
    let running = Running::begin(worker);
    let name = started(fixture, "q", "m").await;
    let record = becomes(fixture, &name, State::Suspended).await;
    assert_eq!(record.server_metadata.expect("metadata").suspend_reason, "a name");
    // Its slot is free meanwhile.
    let other = started(fixture, "q", "m").await;
    becomes(fixture, &other, State::Suspended).await;
    fixture.resume(&name, Some(Json("Ada").pack())).await.granted();
    let response = response_of(&ended(fixture, &name).await);
    assert_eq!(Json::unpack(&response), Ok(Json("hello Ada, attempt 1".to_owned())));
    running.finish().await;
}

async fn a_refused_completion_ends_as_internal(fixture: &Fixture) {
    let worker = worker(fixture, "q")
        .any_handler("m", async |_: Context, _| Ok(Some(any("acme.Other", b""))));
    let running = Running::begin(worker);
    let start = pb::StartOperationRequest {
        method: "m".to_owned(),
        response_type: "acme.Promised".to_owned(),
        ..start("q")
    };
    let name = fixture.start(start).await.granted().name;
    let error = error_of(&ended(fixture, &name).await);
    assert_eq!(error.code, Code::Internal as i32);
    assert!(error.message.contains("acme.Promised"), "{}", error.message);
    running.finish().await;
}

async fn many_operations_go_through_few_slots(fixture: &Fixture) {
    let worker = worker(fixture, "q")
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
        names.push(fixture.start(start).await.granted().name);
    }
    for (number, name) in names.iter().enumerate() {
        let response = response_of(&ended(fixture, name).await);
        assert_eq!(Json::unpack(&response), Ok(Json(number)));
    }
    running.finish().await;
}
