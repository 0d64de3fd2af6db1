//! Golden records: stored values of format 1 as bytes, and their expected content.
//!
//! `tests/golden/format-1` holds one file for each record below, as a longhaul of format 1 stored it. Every longhaul reads
//! all of them, without end. The expected values are built here field by field and not by the decoder, so that a wrong
//! decoder is noticed.
//!
//! To add a file, add a record to [`records`] and run
//! `LONGHAUL_WRITE_GOLDEN=1 cargo test --lib record::golden`: it writes the missing files and touches no other. A file
//! that was ever in a release is never written again: a field that a newer longhaul adds gets a record of its own. With a next
//! format this folder stays, and only the test that encodes moves on to the next one.

mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::kind::Kind;
use super::reading::read;
use super::server::{ServerId, ServerRecord};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::operation::entries::{DueClass, entries};
use crate::operation::lease::{Answer, Call, EndedLease, Lease, Token};
use crate::operation::name::{Name, Queue};
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::operation::payload::{Detached, Payload};
use crate::operation::{
    Deletion, Operation, Pending, Places, Record, SharedSpec, Spec, Stamps, State, Suspension,
    Tombstone,
};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::store::{Keyspace, Partition, Record as Stored};

#[test]
fn every_golden_record_is_read_as_what_was_written() {
    for (file, expected) in records() {
        let read = read::<Record>(&stored(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(read.record, expected, "{file}");
    }
}

#[test]
fn every_golden_record_is_written_as_the_same_bytes() {
    for (file, record) in records() {
        assert_eq!(record.encode(), stored(file).value, "{file}");
    }
}

#[test]
fn the_golden_root_is_read_and_leads_to_the_same_places() {
    let bytes = golden(ROOT);
    let keyspace = Keyspace::decode("the golden file", &bytes).expect("a root of format 1");
    assert_eq!(keyspace.id(), Uuid::from_u128(ID));
    let tags: Vec<&str> = keyspace.all().map(|partition| keyspace.tag(partition)).collect();
    assert_eq!(tags, ["p0.12", "p1.8", "p2.22"]);
    // The key of a name must not change either: the record lies there.
    let key = keyspace.key("projects/p/operations/golden");
    assert_eq!(format!("{key:?}"), "Key(adb62a534838728d0039558dcc22a33b)");
    assert_eq!(keyspace.partition(key), Partition(0));
    assert_eq!(keyspace.encode(), bytes);
}

#[test]
fn the_golden_server_is_read_and_written_as_the_same_bytes() {
    let server = stored(SERVER);
    let expected = ServerRecord { id: ServerId(SERVER_ID), version: "0.1.0".to_owned(), format: 1 };
    assert_eq!(read::<ServerRecord>(&server).expect("a server of format 1").record, expected);
    assert_eq!(expected.encode(), server.value);
    let key = ServerId(SERVER_ID).key();
    assert_eq!(format!("{key:?}"), "Key(00000000000000004142434445464748)");
}

/// Removed index entries are computed from the record, so an entry must be where an older longhaul put it.
#[test]
fn the_index_entries_of_golden_records_lie_where_they_lay() {
    let key = [0xee; 16];
    let member = |text: &[u8], number: u64| [text, &number.to_be_bytes(), &key].concat();
    let due =
        |class: &str, at: u64| (format!("due/{class}"), member(b"", 1_700_000_000_000_000 + at));
    let listed = ("list".to_owned(), member(b"projects/p/locations/l\0", 1_700_000_000_000_002));
    let failed = ("failed".to_owned(), member(b"projects/p/locations/l\0", 1_700_000_000_000_004));
    let ready = ("ready/Q.1".to_owned(), member(b"", (1 << 63) - 6_000_000_000));
    let four = [due("deadline", 30), due("start", 31), due("retry", 32), due("queue", 33)];
    for (file, expected) in [
        ("pending-retrying", [vec![listed.clone(), ready], four.to_vec()].concat()),
        ("failed", vec![listed, failed, due("retention", 30)]),
        ("running-deleted", vec![due("deadline", 30), due("lease", 31), due("attempt", 32)]),
        ("tombstone-expired", vec![due("tombstone", 23)]),
    ] {
        let record = read::<Record>(&stored(file)).expect("a record of format 1").record;
        let expected: Vec<_> =
            expected.into_iter().map(|(index, member)| (index.into(), member)).collect();
        assert_eq!(entries(&record, &key), expected, "{file}");
    }
}

#[test]
fn every_golden_file_belongs_to_a_record() {
    let known: BTreeSet<String> = records()
        .into_iter()
        .map(|(file, _)| file.to_owned())
        .chain([ROOT, SERVER].map(str::to_owned))
        .collect();
    LazyLock::force(&WRITTEN);
    let files = fs::read_dir(folder()).expect("the folder of golden files");
    let name = |file: std::io::Result<fs::DirEntry>| {
        file.expect("a file").file_name().into_string().expect("a plain name")
    };
    let found: BTreeSet<String> =
        files.map(name).map(|file| file.trim_end_matches(".bin").to_owned()).collect();
    let without: Vec<&String> = found.difference(&known).collect();
    assert!(without.is_empty(), "nothing says what these hold: {without:?}");
}

/// The samples are complete: they have every field that a record can hold.
#[test]
fn the_golden_records_show_every_state_call_and_class() {
    let (mut states, mut calls, mut classes, mut slots) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (file, record) in records() {
        let key = crate::store::Key::from_bytes([1; 16]);
        slots.extend(record.bodies(key).iter().map(|body| body.slot));
        let ended = match &record {
            Record::Tombstone(tombstone) => &tombstone.ended_leases,
            Record::Operation(operation) => {
                states.insert(operation.state.name());
                classes.extend(operation.places.due.iter().map(|(class, _)| *class));
                &operation.ended_leases
            }
        };
        assert!(ended.len() <= 3, "{file}");
        calls.extend(ended.iter().map(|ended| ended.call as u8));
    }
    assert_eq!((states.len(), calls.len(), slots.len()), (7, 5, 5));
    let of_operations = DueClass::ALL.into_iter().filter(|class| *class != DueClass::Tombstone);
    assert_eq!(classes, of_operations.collect());
}

/// Every golden record, by the name of its file.
fn records() -> Vec<(&'static str, Record)> {
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
        ("running", full(State::Running(lease(Some([9; 8]))))),
        ("running-stalled", full(State::Running(stalled))),
        ("running-unary", fresh(State::Running(lease(None)))),
        ("running-detached", beside(full(State::Running(lease(Some([9; 8])))))),
        ("running-deleted", deleted(full(State::Running(lease(None))))),
        ("cancelling", full(State::Cancelling(lease(Some([8; 8])), grace_end))),
        ("suspended-by-worker", full(State::Suspended(by_worker))),
        ("suspended-by-caller", full(State::Suspended(by_caller))),
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
        places: Places {
            listed: true,
            failed: false,
            ready: None,
            due: Vec::new(),
            foreign: Vec::new(),
        },
        stamps: STAMPS,
    }
}

/// Every field is set, and no two fields are alike.
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
        stamps: STAMPS,
    }
}

fn progress() -> pb::Progress {
    pb::Progress {
        fraction: Some(0.25),
        completed_units: 7,
        total_units: 28,
        unit: "frames".to_owned(),
        message: "on its way".to_owned(),
        update_time: Some(time(7).into()),
    }
}

fn cancel_trail() -> pb::CancelTrail {
    pb::CancelTrail {
        request_time: Some(time(12).into()),
        deliver_time: Some(time(13).into()),
        acknowledge_time: Some(time(14).into()),
        forced: true,
    }
}

/// A caller is no longer interested in it.
fn deleted(operation: Operation) -> Operation {
    let deletion = Some(Deletion { time: time(20), nonce: [21; 8] });
    let places = Places { listed: false, ..operation.places };
    Operation { deletion, places, ..operation }
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

/// Callers find longhaul's own metadata in it, and it has none else.
fn with_server_metadata(operation: Operation) -> Operation {
    let spec =
        Spec { server_metadata: true, metadata_type: String::new(), ..(*operation.spec).clone() };
    Operation { spec: spec.into(), metadata: None, ..operation }
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
        due: (30..).map(time).zip(classes).map(|(time, class)| (*class, time)).collect(),
        // Of a class that is not there yet.
        foreign: vec![(4_000, time(39))],
    }
}

fn options() -> Options {
    let seconds = |seconds| Some(Duration::new(seconds, 500_000_000));
    Options {
        priority: -100,
        schedule_time: Some(time(40)),
        attempt_timeout: seconds(41),
        deadline_time: Some(time(42)),
        queue_timeout: seconds(43),
        cancel_grace: seconds(44),
        retry_policy: Some(RetryPolicy {
            max_attempts: Some(45),
            initial_backoff: seconds(46),
            max_backoff: seconds(47),
            backoff_multiplier: Some(1.5),
            retryable_codes: vec![Code::DeadlineExceeded, Code::ResourceExhausted],
        }),
        concurrency: Some(pb::Concurrency {
            key: "one at a time".to_owned(),
            limit: 1,
            policy: pb::concurrency::Policy::Reject.into(),
        }),
        expiration: seconds(7_200).map(Expiration::After),
        callbacks: vec![pb::Callback {
            uri: "https://example.com/done".to_owned(),
            events: vec![pb::callback::Event::Done.into(), pb::callback::Event::Suspended.into()],
            format: pb::callback::Format::CloudeventsStructured.into(),
            include_result: true,
            endpoint: "webhookEndpoints/e".to_owned(),
            headers: text_map(&[("x-one", "1"), ("x-two", "2")]),
        }],
        labels: text_map(&[("team", "film"), ("env", "prod"), ("a", "")]),
        target: "projects/p/films/f".to_owned(),
        metadata_policy: pb::operation_options::MetadataPolicy::None,
    }
}

fn lease(holder: Option<[u8; 8]>) -> Lease {
    Lease {
        token: Token([50; 16]),
        attempt: 51,
        worker: "worker-1".to_owned(),
        start_time: time(52),
        expire_time: time(53),
        duration: Duration::from_micros(30_000_054),
        report_number: 55,
        holder,
        first_fraction: 0.0,
        stall_timeout: Duration::ZERO,
        stalled: false,
    }
}

fn ended(number: u8, call: Call, answer: Answer) -> EndedLease {
    EndedLease { token: Token([number; 16]), call, fingerprint: [number + 100; 16], answer }
}

fn attempt(number: i32, error: Option<Status>) -> pb::Attempt {
    pb::Attempt {
        number,
        worker: format!("worker-{number}"),
        fencing_number: 1_700_000_000_000_060 + i64::from(number),
        start_time: Some(time(62).into()),
        end_time: Some(time(63).into()),
        error,
    }
}

fn detached(type_name: &str, size: u64, nonce: u8) -> Payload {
    Payload::Detached(Detached { type_url: type_url(type_name), size, nonce: [nonce; 8] })
}

fn any(type_name: &str, value: &[u8]) -> Any {
    Any { type_url: type_url(type_name), value: value.to_vec().into() }
}

fn type_url(type_name: &str) -> String {
    format!("type.googleapis.com/{type_name}")
}

fn status(code: i32, message: &str) -> Status {
    let details = vec![any("t.Detail", message.as_bytes())];
    Status { code, message: message.to_owned(), details }
}

fn text_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// So many microseconds after a moment of 2023.
fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

/// The record of a golden file, as a store returns it.
fn stored(file: &str) -> Stored {
    Stored {
        revision: STAMPS.revision,
        visible_revision: STAMPS.visible,
        fencing_number: STAMPS.fencing,
        value: Bytes::from(golden(file)),
    }
}

/// The bytes of a golden file.
fn golden(file: &str) -> Vec<u8> {
    LazyLock::force(&WRITTEN);
    let path = path(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the missing files on request; once, before any test reads.
static WRITTEN: LazyLock<()> = LazyLock::new(|| {
    if std::env::var_os("LONGHAUL_WRITE_GOLDEN").is_none() {
        return;
    }
    fs::create_dir_all(folder()).expect("the folder of golden files");
    let root = Keyspace::new(Uuid::from_u128(ID), 3, SECRET).encode();
    let values = records().into_iter().map(|(file, record)| (file, record.encode().to_vec()));
    let server = ServerRecord { id: ServerId(SERVER_ID), version: "0.1.0".to_owned(), format: 1 }
        .encode()
        .to_vec();
    for (file, value) in values.chain([(ROOT, root), (SERVER, server)]) {
        if !path(file).exists() {
            fs::write(path(file), value).expect("a golden file written");
        }
    }
});

fn path(file: &str) -> PathBuf {
    folder().join(file).with_extension("bin")
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

const ROOT: &str = "root";
const SERVER: &str = "server";
const SERVER_ID: [u8; 8] = [0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48];
const ID: u128 = 0x3132_3334_3536_3738_393a_3b3c_3d3e_3f40;
const SECRET: [u8; 32] = [0x5a; 32];
/// Not in the value, but beside it.
const STAMPS: Stamps = Stamps { revision: 70, visible: 69, fencing: 68 };
