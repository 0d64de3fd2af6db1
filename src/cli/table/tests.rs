use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message;

use super::super::record;
use super::*;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::{OperationOptions, Progress};

/// A time so many seconds after the operation was made.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros((1_000 + seconds) * 1_000_000)
}

fn running() -> OperationMetadata {
    OperationMetadata {
        state: State::Running.into(),
        create_time: Some(at(0).into()),
        start_time: Some(at(2).into()),
        attempt_count: 1,
        progress: Some(Progress {
            completed_units: 3,
            total_units: 12,
            unit: "rows".to_owned(),
            message: "reading".to_owned(),
            update_time: Some(at(32).into()),
            ..Progress::default()
        }),
        ..OperationMetadata::default()
    }
}

fn scheduled(seconds: u64) -> Ahead {
    Ahead { schedule_time: Some(at(seconds)), ..Ahead::default() }
}

#[test]
fn a_step_has_its_state_first_and_its_figures_below_each_other() {
    let step = |server: &OperationMetadata| step(server, &Ahead::default(), at(42));
    let pending = OperationMetadata { state: State::Pending.into(), ..Default::default() };
    assert_eq!(step(&pending), "PENDING");
    assert_eq!(step(&running()), "RUNNING      25%  reading  3/12 rows");
    let done = OperationMetadata { state: State::Succeeded.into(), ..running() };
    assert_eq!(step(&done), "SUCCEEDED   100%  3/12 rows");
    assert_eq!(
        super::step(&pending, &scheduled(7_242), at(42)),
        "PENDING           scheduled for 1970-01-01T02:17:22Z (in 2 h)"
    );
}

#[test]
fn a_bar_says_what_is_waited_for_and_for_how_long() {
    let live = |server: &OperationMetadata| live(server, &Ahead::default(), at(42));
    assert_eq!(live(&running()), "reading  3/12 rows  about 1 min 20 s left");
    let again = OperationMetadata { attempt_count: 2, ..running() };
    assert_eq!(live(&again), "reading  3/12 rows  attempt 2");
    let silent = OperationMetadata { progress: None, ..running() };
    assert_eq!(live(&silent), "42 s so far");
    let stalled = OperationMetadata { stalled: true, ..silent };
    assert_eq!(live(&stalled), "stalled  42 s so far");
    let pending = OperationMetadata { state: State::Pending.into(), ..running() };
    assert_eq!(live(&pending), "waiting for attempt 2");
    let trouble = Ahead { trouble: "away (UNAVAILABLE)".to_owned(), ..Ahead::default() };
    assert_eq!(super::live(&pending, &trouble, at(42)), "retrying: away (UNAVAILABLE)");
    let first = OperationMetadata { attempt_count: 0, ..pending };
    assert_eq!(live(&first), "waiting for a worker  42 s so far");
    assert_eq!(
        super::live(&first, &scheduled(102), at(42)),
        "scheduled for 1970-01-01T00:18:22Z (in 1 min)"
    );
    assert_eq!(super::live(&first, &scheduled(42), at(42)), "waiting for a worker  42 s so far");
}

#[test]
fn an_estimate_that_says_nothing_is_left_out() {
    for (done, total, fraction) in
        [(0, 0, Some(1e-300)), (1, i64::MAX, None), (0, 0, Some(f64::NAN)), (1, 100_000_000, None)]
    {
        let mut server = running();
        server.progress = server.progress.map(|progress| Progress {
            fraction,
            completed_units: done,
            total_units: total,
            ..progress
        });
        assert_eq!(remaining(&server, at(42)), "", "{fraction:?} {done}/{total}");
    }
}

#[test]
fn a_line_of_a_list_has_progress_age_queue_and_state_whatever_the_metadata() {
    let whole = |server: OperationMetadata| OperationRecord {
        name: "projects/p/operations/x".to_owned(),
        queue: "queues/books".to_owned(),
        server_metadata: Some(server),
        operation: Some(Operation {
            metadata: Some(Any {
                type_url: "example.com/acme.Own".to_owned(),
                value: vec![1].into(),
            }),
            ..Operation::default()
        }),
        ..OperationRecord::default()
    };
    let later = OperationRecord {
        name: "operations/y".to_owned(),
        queue: "queues/q".to_owned(),
        options: Some(OperationOptions {
            schedule_time: Some(at(102).into()),
            ..OperationOptions::default()
        }),
        ..whole(OperationMetadata {
            state: State::Pending.into(),
            create_time: Some(at(41).into()),
            ..OperationMetadata::default()
        })
    };
    assert_eq!(
        list(&[whole(running()), later], at(42)),
        [
            "projects/p/operations/x        42 s ago   25%  books  RUNNING  reading",
            "operations/y                    1 s ago        q      PENDING  \
             scheduled for 1970-01-01T00:18:22Z (in 1 min)",
        ]
    );
}

#[test]
fn a_record_shows_its_schedule_limits_attempts_and_how_far_a_cancel_has_come() {
    let server = OperationMetadata {
        state: State::Cancelling.into(),
        stalled: true,
        cancel_trail: Some(pb::CancelTrail {
            request_time: Some(at(20).into()),
            deliver_time: Some(at(30).into()),
            ..pb::CancelTrail::default()
        }),
        ..running()
    };
    let whole = OperationRecord {
        name: "operations/x".to_owned(),
        server_metadata: Some(server),
        options: Some(OperationOptions {
            priority: -3,
            target: "shelves/7".to_owned(),
            schedule_time: Some(at(1).into()),
            deadline_time: Some(at(102).into()),
            retry_policy: Some(pb::RetryPolicy { max_attempts: 5, ..Default::default() }),
            ..OperationOptions::default()
        }),
        attempts: vec![pb::Attempt { number: 1, worker: "w".to_owned(), ..Default::default() }],
        ..OperationRecord::default()
    };
    let text = record::full(&whole, &REGISTRY, at(42));
    for line in [
        "  state       CANCELLING  stalled  reading",
        "  schedule    1970-01-01T00:16:41Z (41 s ago)",
        "  deadline    1970-01-01T00:18:22Z (in 1 min)",
        "  priority    -3",
        "  target      shelves/7",
        "  attempts    1 of 5",
        "  attempt 1   w: running  fencing number 0",
        "  cancel      requested 22 s ago  delivered 12 s ago",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in:\n{text}");
    }
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);

fn float() -> BoxedStrategy<f64> {
    let edges = [1e-300, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, -1.0, 0.0, 1.0, f64::MAX];
    prop_oneof![proptest::num::f64::ANY, 0.0..1.0, proptest::sample::select(edges.to_vec())].boxed()
}

fn whole() -> BoxedStrategy<i64> {
    let edges = [i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX];
    prop_oneof![any::<i64>(), 0_i64..100, proptest::sample::select(edges.to_vec())].boxed()
}

fn time() -> BoxedStrategy<Option<prost_types::Timestamp>> {
    // The bounds of a google.protobuf.Timestamp, and what is beyond.
    let edges = [-62_135_596_800, 253_402_300_799, 253_402_300_800, i64::MIN, i64::MAX];
    let seconds =
        prop_oneof![whole(), 0_i64..4_000_000_000, proptest::sample::select(edges.to_vec())];
    let nanos = prop_oneof![any::<i32>(), 0..1_000_000_000];
    proptest::option::weighted(
        0.9,
        (seconds, nanos).prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
    )
    .boxed()
}

fn length() -> BoxedStrategy<Option<prost_types::Duration>> {
    proptest::option::of(
        (whole(), any::<i32>())
            .prop_map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
    )
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    let hostile = ["\u{1b}[2J\u{1b}]0;x\u{7}", "a\r\nb\tc", "\u{202e}\u{2066}\u{9b}31m\u{200b}"];
    prop_oneof![
        6 => any::<String>(),
        6 => proptest::sample::select(hostile.to_vec()).prop_map(str::to_owned),
        1 => Just("\u{85}\u{e0041}".repeat(plain::LONGEST_LINE)),
        2 => Just(String::new()),
    ]
    .boxed()
}

fn payload() -> BoxedStrategy<Any> {
    let kinds = ["Timestamp", "Duration", "Struct", "Value", "DoubleValue", "Any", "Empty", "None"];
    let number = |number: f64| {
        let kind = Some(prost_types::value::Kind::NumberValue(number));
        prost_types::Value { kind }.encode_to_vec()
    };
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        time().prop_map(|time| time.unwrap_or_default().encode_to_vec()),
        length().prop_map(|length| length.unwrap_or_default().encode_to_vec()),
        float().prop_map(number),
        float().prop_map(|number| number.encode_to_vec()),
        text().prop_map(|text| {
            let kind = Some(prost_types::value::Kind::StringValue(text));
            prost_types::Value { kind }.encode_to_vec()
        }),
    ];
    (proptest::sample::select(kinds.to_vec()), bytes)
        .prop_map(|(kind, value)| Any {
            type_url: format!("type.googleapis.com/google.protobuf.{kind}"),
            value: value.into(),
        })
        .boxed()
}

fn status() -> BoxedStrategy<Status> {
    (any::<i32>(), text(), proptest::collection::vec(payload(), 0..2))
        .prop_map(|(code, message, details)| Status { code, message, details })
        .boxed()
}

fn progress() -> BoxedStrategy<Option<Progress>> {
    let fields = (proptest::option::of(float()), whole(), whole(), text(), text(), time());
    proptest::option::weighted(
        0.9,
        fields.prop_map(|(fraction, completed_units, total_units, unit, message, update_time)| {
            Progress { fraction, completed_units, total_units, unit, message, update_time }
        }),
    )
    .boxed()
}

fn server() -> BoxedStrategy<OperationMetadata> {
    let count = prop_oneof![0..3, any::<i32>()];
    let times = [(); 4].map(|()| time());
    (0_i32..9, count, progress(), times, text(), text(), any::<bool>(), status())
        .prop_map(
            |(
                state,
                attempt_count,
                progress,
                [create, start, end, estimate],
                detail,
                reason,
                stalled,
                partial,
            )| {
                OperationMetadata {
                    state,
                    attempt_count,
                    progress,
                    create_time: create,
                    start_time: start,
                    end_time: end,
                    estimated_end_time: estimate,
                    status_detail: detail,
                    suspend_reason: reason,
                    stalled,
                    partial_errors: vec![partial],
                    cancel_trail: create.map(|time| pb::CancelTrail {
                        request_time: Some(time),
                        deliver_time: end,
                        ..pb::CancelTrail::default()
                    }),
                    ..OperationMetadata::default()
                }
            },
        )
        .boxed()
}

fn options() -> BoxedStrategy<OperationOptions> {
    (any::<i32>(), time(), time(), length(), text(), any::<i32>())
        .prop_map(
            |(priority, schedule_time, deadline_time, attempt_timeout, target, max_attempts)| {
                OperationOptions {
                    priority,
                    schedule_time,
                    deadline_time,
                    attempt_timeout,
                    labels: std::iter::once((target.clone(), target.clone())).collect(),
                    target,
                    retry_policy: Some(pb::RetryPolicy { max_attempts, ..Default::default() }),
                    ..OperationOptions::default()
                }
            },
        )
        .boxed()
}

fn records() -> BoxedStrategy<OperationRecord> {
    let result = prop_oneof![
        Just(None),
        payload().prop_map(|any| Some(operation::Result::Response(any))),
        status().prop_map(|failure| Some(operation::Result::Error(failure))),
    ];
    let attempt = (any::<i32>(), text(), time(), proptest::option::of(status()));
    (server(), options(), result, payload(), attempt, [text(), text(), text()])
        .prop_map(
            |(server, options, result, payload, (number, worker, start_time, error), texts)| {
                let [name, queue, method] = texts;
                OperationRecord {
                    operation: Some(Operation {
                        name: name.clone(),
                        metadata: Some(payload.clone()),
                        done: result.is_some(),
                        result,
                    }),
                    state: server.state,
                    server_metadata: Some(server),
                    options: Some(options),
                    request: Some(payload),
                    attempts: vec![pb::Attempt {
                        number,
                        worker,
                        start_time,
                        error,
                        ..Default::default()
                    }],
                    related_resources: vec![pb::RelatedResource {
                        name: name.clone(),
                        uri: queue.clone(),
                        ..Default::default()
                    }],
                    name,
                    queue,
                    method,
                    ..OperationRecord::default()
                }
            },
        )
        .boxed()
}

/// The lines of each view that a command prints.
fn shown(whole: &OperationRecord, now: Timestamp) -> Vec<String> {
    let server = whole.server_metadata.clone().unwrap_or_default();
    let operation = whole.operation.clone().unwrap_or_default();
    let ahead = Ahead::of(whole);
    let mut lines = list(std::slice::from_ref(whole), now);
    lines.extend([
        step(&server, &ahead, now),
        live(&server, &ahead, now),
        end(&operation, &server),
    ]);
    for text in [record::short(whole, &REGISTRY, now), record::full(whole, &REGISTRY, now)] {
        lines.extend(text.split('\n').map(str::to_owned));
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_that_a_worker_or_a_caller_can_send_panics_a_command_or_steers_a_terminal(
        whole in records(),
        now in any::<u64>().prop_map(Timestamp::from_micros),
    ) {
        for line in shown(&whole, now) {
            prop_assert!(!line.chars().any(plain::is_unsafe), "{line:?}");
            // An escaped letter takes up to twelve.
            prop_assert!(line.chars().count() <= 12 * plain::LONGEST_LINE + 3, "{line:?}");
        }
        let operation = whole.operation.clone().unwrap_or_default();
        for value in [REGISTRY.record(&whole), REGISTRY.operation(&operation)] {
            let shown = plain::json(&format!("{value:#}"));
            prop_assert!(!shown.chars().any(|letter| letter != '\n' && plain::is_unsafe(letter)));
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            prop_assert_eq!(read(&shown), read(&value.to_string()));
        }
    }
}
