//! The parts that golden records are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::code::Code;
use crate::operation::Stamps;
use crate::operation::gate::{GateLimit, GateName};
use crate::operation::lease::{Answer, Call, EndedLease, Lease, Token};
use crate::operation::name::{EndpointName, Id, Parent, Queue};
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::operation::payload::{Detached, Payload};
use crate::operation::worker::WorkerProcess;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::record::gate::{GateRecord, GateSlot};
use crate::record::queue::{DrainedWorker, QueueRecord, QueueSettings};
use crate::record::server::{
    HeldOperation, Served, ServedQueue, ServedWorker, ServerId, ServerRecord,
};
use crate::record::tokens::{ApiToken, Role, RoleGrant, TokenSecret};
use crate::record::type_sets::{Content, TypeSet, TypeSets};
use crate::store::Key;
use crate::webhook::endpoint::{
    Endpoint, EndpointSecret, EndpointSettings, EndpointState, SecretAlgorithm,
};

pub(super) const SERVER_ID: [u8; 8] = [0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48];

/// Two sets of a parent.
pub(super) fn type_sets() -> TypeSets {
    let set = |id: &str, number: u8| TypeSet {
        id: Id::parse(id).expect("an id"),
        uid: Uuid::from_u128(0x3132_3334_3536_3738_393a_3b3c_3d3e_3f40 + u128::from(number)),
        create_time: time(50),
        content: Content::Beside([number; 8]),
        size: 1_000 + usize::from(number),
        files: 2,
        messages: 7,
        request_id: "request-3".to_owned(),
        fingerprint: [number; 16],
    };
    let parent = Parent::parse("projects/p").expect("a parent");
    TypeSets { parent, sets: vec![set("a", 51), set("b-2", 52)] }
}

fn secret(number: u8, end: Option<u64>) -> EndpointSecret {
    EndpointSecret {
        id: format!("secret-{number}"),
        algorithm: SecretAlgorithm::HmacSha256,
        key: [number; 32],
        create_time: time(u64::from(number)),
        expire_time: end.map(time),
        request_id: format!("request-{number}"),
    }
}

/// An endpoint that was rotated to a pair of keys.
pub(super) fn endpoint_with_pair() -> Endpoint {
    let pair = EndpointSecret { algorithm: SecretAlgorithm::Ed25519, ..secret(61, None) };
    Endpoint { secrets: vec![pair, secret(55, Some(62))], ..endpoint() }
}

pub(super) fn endpoint() -> Endpoint {
    Endpoint {
        name: EndpointName::parse("projects/p/webhookEndpoints/e").expect("a name"),
        uid: Uuid::from_u128(0x4142_4344_4546_4748_494a_4b4c_4d4e_4f50),
        settings: EndpointSettings {
            uri: "https://example.com/hook".to_owned(),
            events: vec![pb::callback::Event::Done, pb::callback::Event::Progress],
            filter: "state() = FAILED".to_owned(),
            format: pb::callback::Format::CloudeventsStructured,
            include_result: true,
            headers: text_map(&[("x-one", "1"), ("x-two", "2")]),
            handshake: true,
        },
        state: EndpointState::Suspended,
        state_detail: "503 Service Unavailable".to_owned(),
        failing_since: Some(time(54)),
        secrets: vec![secret(55, None), secret(56, Some(57))],
        create_time: time(58),
        update_time: time(59),
        request_id: "request-4".to_owned(),
        fingerprint: [60; 16],
    }
}

/// A server that told nothing of what it serves.
pub(super) fn bare_server() -> ServerRecord {
    let unknown = ServerRecord::unknown(ServerId(SERVER_ID).key());
    ServerRecord { version: "0.1.0".to_owned(), format: 1, ..unknown }
}

/// One that told everything.
pub(super) fn server() -> ServerRecord {
    let queue = ServedQueue {
        id: "Q.1".to_owned(),
        workers: 2,
        asked: Some(time(57)),
        leases_per_second: 0.5,
        wants_share: true,
    };
    let worker = ServedWorker {
        queue: "Q.1".to_owned(),
        name: "worker-1".to_owned(),
        process: process(),
        holder: Some([9; 8]),
        slots: 3,
        held: 4,
        operations: vec![HeldOperation {
            name: "projects/p/operations/o".to_owned(),
            attempt: 5,
            start_time: time(58),
        }],
        heard: time(59),
        is_drained: true,
    };
    let served = Served { queues: vec![queue], workers: vec![worker] };
    ServerRecord { name: "host-1".to_owned(), served, ..bare_server() }
}

fn process() -> WorkerProcess {
    WorkerProcess {
        host: "host-2".to_owned(),
        id: 60,
        start_time: Some(time(61)),
        language: "rust".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

/// A queue with all settings.
pub(super) fn queue() -> QueueRecord {
    let settings = QueueSettings {
        paused: true,
        max_running: 53,
        max_leases_per_second: 0.25,
        aging_interval: Some(Duration::from_secs(54)),
        drained: vec![DrainedWorker {
            name: "worker-1".to_owned(),
            process: process(),
            until: time(56),
        }],
    };
    QueueRecord { queue: Queue::parse("Q.1").expect("a queue"), settings }
}

/// A token with two secrets.
pub(super) fn token() -> ApiToken {
    let secret = |number: u8, expire_time| TokenSecret {
        hash: [number; 32],
        create_time: time(u64::from(number)),
        expire_time,
    };
    let grant = |role, parent: &str, queues: &[&str]| RoleGrant {
        role,
        parent: Parent::parse(parent).expect("a parent"),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
    };
    ApiToken {
        id: Id::parse("mailer").expect("an id"),
        uid: Uuid::from_u128(0x4142_4344_4546_4748_494a_4b4c_4d4e_4f50),
        create_time: time(60),
        expire_time: Some(time(61)),
        grants: vec![
            grant(Role::Viewer, "projects/p", &[]),
            grant(Role::Worker, "", &["mail", "p-*"]),
        ],
        secrets: vec![secret(62, Some(time(63))), secret(64, None)],
        creator: "token:root".to_owned(),
    }
}

pub(super) fn progress() -> pb::Progress {
    pb::Progress {
        fraction: Some(0.25),
        completed_units: 7,
        total_units: 28,
        unit: "frames".to_owned(),
        message: "on its way".to_owned(),
        update_time: Some(time(7).into()),
    }
}

pub(super) fn cancel_trail() -> pb::CancelTrail {
    pb::CancelTrail {
        request_time: Some(time(12).into()),
        deliver_time: Some(time(13).into()),
        acknowledge_time: Some(time(14).into()),
        forced: true,
    }
}

pub(super) fn options() -> Options {
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

pub(super) fn lease(holder: Option<[u8; 8]>) -> Lease {
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
        slot: None,
    }
}

pub(super) fn ended(number: u8, call: Call, answer: Answer) -> EndedLease {
    EndedLease { token: Token([number; 16]), call, fingerprint: [number + 100; 16], answer }
}

pub(super) fn attempt(number: i32, error: Option<Status>) -> pb::Attempt {
    pb::Attempt {
        number,
        worker: format!("worker-{number}"),
        fencing_number: 1_700_000_000_000_060 + i64::from(number),
        start_time: Some(time(62).into()),
        end_time: Some(time(63).into()),
        error,
    }
}

pub(super) fn detached(type_name: &str, size: u64, nonce: u8) -> Payload {
    Payload::Detached(Detached { type_url: type_url(type_name), size, nonce: [nonce; 8] })
}

pub(super) fn any(type_name: &str, value: &[u8]) -> Any {
    Any { type_url: type_url(type_name), value: value.to_vec().into() }
}

fn type_url(type_name: &str) -> String {
    format!("type.googleapis.com/{type_name}")
}

pub(super) fn status(code: i32, message: &str) -> Status {
    let details = vec![any("t.Detail", message.as_bytes())];
    Status { code, message: message.to_owned(), details }
}

fn text_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A gate of a key with two slots in use, an idle one of a queue, and one of a queue with leases that have no slot.
pub(super) fn gates() -> [(&'static str, GateRecord); 3] {
    let key = GateName::Key { parent: "projects/p".to_owned(), key: "one at a time".to_owned() };
    let slot = |number: u8| GateSlot {
        key: Key::from_bytes([number; 16]),
        since: time(u64::from(number)),
    };
    let used = GateRecord {
        name: key,
        limit: GateLimit { most: 83, revision: 0 },
        slots: vec![slot(84), slot(85)],
        unslotted: 0,
        crowded: true,
        check_time: time(86),
        idle_time: None,
        last_time: time(87),
    };
    let idle = GateRecord {
        name: GateName::Queue("Q.1".to_owned()),
        limit: GateLimit { most: 88, revision: 0 },
        slots: Vec::new(),
        unslotted: 0,
        crowded: false,
        check_time: time(89),
        idle_time: Some(time(90)),
        last_time: time(91),
    };
    let drains = GateRecord {
        limit: GateLimit { most: 92, revision: 93 },
        slots: vec![slot(94)],
        unslotted: 95,
        idle_time: None,
        ..idle.clone()
    };
    [("gate", used), ("gate-of-queue", idle), ("gate-of-draining-queue", drains)]
}

/// So many microseconds after a moment of 2023.
pub(super) fn time(micros: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

/// Not in the value, but beside it.
pub(super) const STAMPS: Stamps = Stamps { revision: 70, visible: 69, fencing: 68 };
