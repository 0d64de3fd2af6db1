//! The size of a stored operation, and the agents that poll its due entries.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::glance;
use crate::clock::Timestamp;
use crate::operation::command::{Command, Complete, Proof, Renew, Report, Take};
use crate::operation::entries::DueClass;
use crate::operation::lease::Token;
use crate::operation::name::Name;
use crate::operation::payload::Payload;
use crate::operation::{Applied, Birth, Record, Spec, Start, apply, start};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::record::{Kind, write_set};
use crate::store::{Keyspace, Record as Stored};

/// With the 24 bytes of stamps and the header of a Redis string it fits into one allocation of 640 bytes.
const MOST: usize = 640 - 24 - 6;

#[test]
fn a_finished_operation_with_200_bytes_in_and_out_is_small() {
    let now = Timestamp::from_micros(1_764_300_000_123_456);
    let id = Uuid::now_v7();
    let wanted = Start {
        spec: Spec {
            method: "render".to_owned(),
            request: Some(Payload::Inline(payload())),
            server_metadata: true,
            ..Spec::default()
        },
        ..Start::default()
    };
    let name = Name::parse(&format!("operations/{id}")).expect("a name");
    let birth = Birth { name, uid: Uuid::new_v4(), lease: None };
    let mut record = start(wanted, birth, now).expect("a start").record.expect("a record");
    for (seconds, command) in (1..).zip(one_attempt()) {
        let at = now + Duration::from_secs(seconds);
        if let Applied::Changed(change) = apply(&record, &command, at).expect("accepted") {
            record = change.record.expect("a record");
        }
    }
    assert!(record.operation().is_some_and(|operation| operation.state.is_done()));
    let bytes = record.encode().len();
    assert!(bytes <= MOST, "{bytes} bytes");
    let Record::Operation(operation) = &record else { unreachable!("it was not deleted") };
    assert!(operation.ended_leases.len() == 1 && operation.checkpoint.is_none());
}

#[test]
fn an_agent_polls_every_due_class() {
    let classes = Record::DUE.iter().filter_map(|index| DueClass::of_index(index.name));
    assert_eq!(classes.collect::<BTreeSet<_>>(), BTreeSet::from(DueClass::ALL));
    assert_eq!(Record::DUE.len(), DueClass::ALL.len());
}

#[test]
fn a_large_request_reaches_the_store_without_a_copy() {
    let value = Bytes::from(vec![7; 1 << 20]);
    let request = Any { type_url: "type.googleapis.com/a.B".to_owned(), value: value.clone() };
    let spec = Spec { request: Some(Payload::Inline(request)), ..Spec::default() };
    let name = Name::parse("operations/a").expect("a name");
    let birth = Birth { name, uid: Uuid::new_v4(), lease: None };
    let wanted = Start { spec, ..Start::default() };
    let change = start(wanted, birth, Timestamp::from_micros(1)).expect("a start");
    let keyspace = Keyspace::generate(1);
    let set = write_set::<Record>(&keyspace, keyspace.key("operations/a"), None, &change.into());
    assert_eq!(set.body_puts.len(), 1);
    assert_eq!(set.body_puts[0].1.as_ptr(), value.as_ptr());
}

#[test]
fn a_glance_shares_the_bytes_of_the_record() {
    let metadata =
        Any { type_url: "type.googleapis.com/a.B".to_owned(), value: vec![7; 900].into() };
    let spec = Spec { metadata_type: "a.B".to_owned(), ..Spec::default() };
    let name = Name::parse("operations/a").expect("a name");
    let birth = Birth { name, uid: Uuid::new_v4(), lease: None };
    let wanted = Start { spec, initial_metadata: Some(metadata), ..Start::default() };
    let change = start(wanted, birth, Timestamp::from_micros(1)).expect("a start");
    let value = change.record.expect("a record").encode();
    let stored = Stored { revision: 1, visible_revision: 1, fencing_number: 0, value };
    let seen = glance(&stored, || Timestamp::EPOCH)
        .and_then(|published| published.metadata)
        .expect("metadata")
        .value;
    assert_eq!(seen.len(), 900);
    assert!(stored.value.as_ptr_range().contains(&seen.as_ptr()));
}

fn payload() -> Any {
    let type_url = "type.googleapis.com/google.protobuf.Struct".to_owned();
    Any { type_url, value: vec![7; 200].into() }
}

/// A lease, one report, and the completion.
fn one_attempt() -> [Command; 3] {
    let token = Token([8; 16]);
    let duration = Duration::from_secs(30);
    let renew = Renew { token, duration: None, cancel_acknowledged: false };
    let progress = pb::Progress { completed_units: 5, total_units: 10, ..pb::Progress::default() };
    [
        Command::Lease(Take {
            token,
            worker: "host-1/4711".to_owned(),
            duration,
            holder: Some([1; 8]),
            stall_timeout: duration,
        }),
        Command::Report(Box::new(Report {
            renew,
            number: 1,
            progress: Some(progress),
            metadata: None,
            checkpoint: None,
            partial_errors: Vec::new(),
            related_resources: Vec::new(),
            status_detail: String::new(),
        })),
        Command::Complete(Box::new(Complete {
            proof: Proof { token, fingerprint: [3; 16] },
            response: Some(payload()),
            metadata: None,
            related_resources: Vec::new(),
            progress: None,
        })),
    ]
}
