//! What the golden records say.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::values::{
    STAMPS, any, attempt, cancel_trail, detached, ended, lease, options, progress, status, time,
};
use crate::operation::entries::DueClass;
use crate::operation::gate::Admittance;
use crate::operation::lease::{Answer, Call, Lease};
use crate::operation::name::{Name, Queue};
use crate::operation::options::{Expiration, Options};
use crate::operation::payload::Payload;
use crate::operation::{
    Deletion, OfJob, Operation, Pending, Places, Record, SharedSpec, Spec, State, Suspension,
    Tombstone, Trigger,
};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;

/// Every golden record, by the name of its file.
pub(super) fn records() -> Vec<(&'static str, Record)> {
    let waiting = Pending { ready_time: time(1), retrying: false };
    let retrying = Pending { ready_time: time(60_000_001), retrying: true };
    let by_worker = Suspension { by_worker: true, resume_time: Some(time(4_000_000)) };
    let by_caller = Suspension { by_worker: false, resume_time: None };
    let response = || State::Succeeded(Payload::Inline(any("t.Response", b"done\0")));
    let detached = State::Succeeded(detached("t.Response", 1_048_576, 3));
    let grace_end = time(77_000_000);
    let stalled = Lease {
        first_fraction: 0.25,
        stall_timeout: Duration::from_mins(5),
        stalled: true,
        ..lease(Some([9; 8]))
    };
    let operations = vec![
        ("pending", fresh(State::Pending(waiting))),
        ("pending-retrying", full(State::Pending(retrying))),
        ("pending-at-gate", at_gate(full(State::Pending(waiting)), Admittance::Waiting)),
        (
            "pending-admitted",
            at_gate(full(State::Pending(waiting)), Admittance::Admitted(time(80))),
        ),
        ("running-with-slot", fresh(State::Running(Lease { slot: Some(time(81)), ..lease(None) }))),
        ("pending-aging", aging(fresh(State::Pending(waiting)))),
        ("pending-of-identity", of_identity(full(State::Pending(retrying)))),
        ("running", full(State::Running(lease(Some([9; 8]))))),
        ("running-stalled", full(State::Running(stalled))),
        ("running-unary", fresh(State::Running(lease(None)))),
        ("running-detached", beside(full(State::Running(lease(Some([9; 8])))))),
        ("running-told", Operation { events: 71, ..fresh(State::Running(lease(None))) }),
        ("running-large", Operation { further_blocks: 7, ..fresh(State::Running(lease(None))) }),
        ("running-deleted", deleted(full(State::Running(lease(None))))),
        ("cancelling", full(State::Cancelling(lease(Some([8; 8])), grace_end))),
        ("suspended-by-worker", full(State::Suspended(by_worker))),
        ("suspended-by-caller", full(State::Suspended(by_caller))),
        ("suspended-of-job", of_job(with_server_metadata(full(State::Suspended(by_caller))))),
        ("succeeded-inline", full(response())),
        ("succeeded-detached", beside(full(detached))),
        ("succeeded-server-metadata", with_server_metadata(full(response()))),
        ("succeeded-other-forms", in_other_forms(full(response()))),
        ("failed", full(State::Failed(status(9, "does not work")))),
        ("cancelled", full(State::Cancelled(status(1, "was cancelled")))),
    ];
    let mut records: Vec<_> = operations
        .into_iter()
        .map(|(file, operation)| (file, Record::Operation(Box::new(operation))))
        .collect();
    records.push(("tombstone-expired", Record::Tombstone(tombstone(None))));
    records.push(("tombstone-deleted", Record::Tombstone(tombstone(Some([5; 8])))));
    records
}

/// A new operation: every optional field is missing.
fn fresh(state: State) -> Operation {
    Operation {
        name: Name::parse("operations/a").expect("a name"),
        uid: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        spec: SharedSpec::from(Spec {
            queue: Queue::parse("").expect("a queue"),
            method: String::new(),
            metadata_type: String::new(),
            response_type: String::new(),
            request: None,
            options: Options::default(),
            server_metadata: false,
            request_id: String::new(),
            fingerprint: [1; 16],
            trace_parent: String::new(),
            of_job: None,
            rerun_of: None,
            aging_interval: None,
            caller: String::new(),
        }),
        state,
        create_time: time(1),
        start_time: None,
        end_time: None,
        update_time: time(1),
        expire_time: None,
        metadata: None,
        progress: None,
        status_detail: String::new(),
        partial_errors: Vec::new(),
        related_resources: Vec::new(),
        attempts: Vec::new(),
        attempts_used: 0,
        unseen_leases: 0,
        lost_leases: 0,
        cancel_trail: None,
        pause_requested: false,
        suspend_reason: String::new(),
        checkpoint: None,
        resume_input: None,
        control_nonce: None,
        last_error: None,
        ended_leases: Vec::new(),
        deletion: None,
        admission: None,
        events: 0,
        further_blocks: 0,
        places: Places {
            listed: true,
            failed: false,
            ready: None,
            waiting: None,
            due: Vec::new(),
            foreign: Vec::new(),
        },
        stamps: STAMPS,
    }
}

/// Every field is set, and no two fields are alike.
#[expect(clippy::too_many_lines, reason = "a line for each field")]
fn full(state: State) -> Operation {
    Operation {
        name: Name::parse("projects/p/locations/l/operations/0-z").expect("a name"),
        uid: Uuid::from_u128(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20),
        spec: SharedSpec::from(Spec {
            queue: Queue::parse("queues/Q.1").expect("a queue"),
            method: "render".to_owned(),
            metadata_type: "t.Metadata".to_owned(),
            response_type: "t.Response".to_owned(),
            request: Some(Payload::Inline(any("t.Request", b"\x0a\x01r"))),
            options: options(),
            server_metadata: false,
            request_id: "request-1".to_owned(),
            fingerprint: [2; 16],
            trace_parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            of_job: None,
            rerun_of: None,
            aging_interval: None,
            caller: String::new(),
        }),
        places: places(&state),
        state,
        create_time: time(2),
        start_time: Some(time(3)),
        end_time: Some(time(4)),
        update_time: time(5),
        expire_time: Some(time(6)),
        metadata: Some(Payload::Inline(any("t.Metadata", b"\x0a\x01m"))),
        progress: Some(progress()),
        status_detail: "rendering".to_owned(),
        partial_errors: vec![status(5, "no such frame"), status(13, "a broken frame")],
        related_resources: vec![pb::RelatedResource {
            name: "projects/p/films/f".to_owned(),
            uri: "https://example.com/f".to_owned(),
            r#type: "example.com/Film".to_owned(),
            relation: "output".to_owned(),
            create_time: Some(time(8).into()),
        }],
        attempts: vec![attempt(1, Some(status(14, "no answer"))), attempt(2, None)],
        attempts_used: 9,
        unseen_leases: 10,
        lost_leases: 11,
        cancel_trail: Some(cancel_trail()),
        pause_requested: true,
        suspend_reason: "lunch".to_owned(),
        checkpoint: Some(Payload::Inline(any("t.Checkpoint", b"\x0a\x01c"))),
        resume_input: Some(Payload::Inline(any("t.Input", b"\x0a\x01i"))),
        control_nonce: Some([15; 8]),
        last_error: Some(status(10, "was aborted")),
        ended_leases: vec![
            ended(16, Call::Lost, Answer::default()),
            ended(17, Call::Release, Answer { discarded: true, ..Answer::default() }),
            ended(
                18,
                Call::Fail,
                Answer { discarded: false, will_retry: true, schedule_time: Some(time(19)) },
            ),
        ],
        deletion: None,
        admission: None,
        events: 0,
        further_blocks: 0,
        stamps: STAMPS,
    }
}

/// Its queue has an aging interval of its own.
fn aging(operation: Operation) -> Operation {
    let aging_interval = Some(Duration::from_secs(55));
    Operation { spec: Spec { aging_interval, ..(*operation.spec).clone() }.into(), ..operation }
}

/// A caller is no longer interested in it.
fn deleted(operation: Operation) -> Operation {
    let deletion = Some(Deletion { time: time(20), nonce: [21; 8] });
    let places = Places { listed: false, ..operation.places };
    Operation { deletion, places, ..operation }
}

/// It has a concurrency key.
fn at_gate(operation: Operation, admission: Admittance) -> Operation {
    let waits = admission == Admittance::Waiting;
    let ready = operation.places.ready.filter(|_| !waits);
    let places = Places { ready, waiting: waits.then_some(82), ..operation.places };
    Operation { admission: Some(admission), places, ..operation }
}

/// A UUID as the id, a well-known type, a type of another host, and an expire time.
fn in_other_forms(operation: Operation) -> Operation {
    let name = "projects/p/operations/21222324-2526-4728-a92a-2b2c2d2e2f30";
    let options =
        Options { expiration: Some(Expiration::At(time(49))), ..operation.spec.options.clone() };
    let response =
        Any { type_url: "example.com/t.Response".to_owned(), value: Bytes::from_static(b"done\0") };
    Operation {
        name: Name::parse(name).expect("a name"),
        spec: Spec { options, ..(*operation.spec).clone() }.into(),
        metadata: Some(Payload::Inline(any("google.protobuf.Struct", b"\x0a\x01m"))),
        state: State::Succeeded(Payload::Inline(response)),
        ..operation
    }
}

/// Every payload is stored beside it.
fn beside(operation: Operation) -> Operation {
    let request = Some(detached("t.Request", 1_025, 1));
    Operation {
        spec: Spec { request, ..(*operation.spec).clone() }.into(),
        metadata: Some(detached("t.Metadata", 65_536, 2)),
        checkpoint: Some(detached("t.Checkpoint", 2_000, 4)),
        resume_input: Some(detached("t.Input", 3_000, 5)),
        ..operation
    }
}

/// The caller that started it has an identity.
fn of_identity(operation: Operation) -> Operation {
    let caller = "token:mailer".to_owned();
    Operation { spec: Spec { caller, ..(*operation.spec).clone() }.into(), ..operation }
}

/// Callers find longhaul's own metadata in it, and it has none else.
fn with_server_metadata(operation: Operation) -> Operation {
    let spec =
        Spec { server_metadata: true, metadata_type: String::new(), ..(*operation.spec).clone() };
    Operation { spec: spec.into(), metadata: None, ..operation }
}

/// It is a queued run of a job, and it repeats another operation.
fn of_job(operation: Operation) -> Operation {
    let of_job = Some(OfJob {
        job: "projects/p/jobs/j".to_owned(),
        execution: "projects/p/jobs/j/executions/21222324-2526-4728-a92a-2b2c2d2e2f30".to_owned(),
        trigger: Trigger::Backfill,
        tick: Some(time(50)),
        queued: true,
    });
    let rerun_of = Some(Name::parse("projects/p/operations/first").expect("a name"));
    let spec = Spec { of_job, rerun_of, ..(*operation.spec).clone() };
    Operation { spec: spec.into(), ..operation }
}

fn tombstone(delete_nonce: Option<[u8; 8]>) -> Tombstone {
    Tombstone {
        name: Name::parse("projects/p/operations/gone").expect("a name"),
        uid: Uuid::from_u128(0x2122_2324_2526_2728_292a_2b2c_2d2e_2f30),
        deleted: delete_nonce.is_some(),
        end_time: time(22),
        forget_time: time(23),
        request_id: "request-2".to_owned(),
        fingerprint: [3; 16],
        delete_nonce,
        ended_leases: vec![
            ended(24, Call::Suspend, Answer::default()),
            ended(25, Call::Complete, Answer { discarded: true, ..Answer::default() }),
        ],
    }
}

/// Possible places of entries in that state; together they have every class.
fn places(state: &State) -> Places {
    use DueClass::{Attempt, Deadline, Grace, Lease, Queue, Resume, Retention, Retry, Start};
    let classes: &[DueClass] = match state {
        State::Pending(_) => &[Deadline, Start, Retry, Queue],
        State::Running(_) => &[Deadline, Lease, Attempt],
        State::Cancelling(..) => &[Lease, Grace],
        State::Suspended(_) => &[Resume],
        State::Succeeded(_) | State::Failed(_) | State::Cancelled(_) => &[Retention],
    };
    Places {
        listed: true,
        failed: matches!(state, State::Failed(_)),
        // Before the epoch, as a high priority makes it.
        ready: matches!(state, State::Pending(_)).then_some(-6_000_000_000),
        waiting: None,
        due: (30..).map(time).zip(classes).map(|(time, class)| (*class, time)).collect(),
        // Of a class that is not there yet.
        foreign: vec![(4_000, time(39))],
    }
}
