//! Golden records: stored values of format 1 as bytes, and their expected content.
//!
//! `tests/golden/format-1` holds one file for each record in `records.rs`, as a longhaul of format 1 stored it. Every longhaul reads
//! all of them, without end. The expected values are built here field by field and not by the decoder, so that a wrong
//! decoder is noticed.
//!
//! To add a file, add a record to `records.rs` and run
//! `LONGHAUL_WRITE_GOLDEN=1 cargo test --lib record::golden`: it writes the missing files and touches no other. A file
//! that was ever in a release is never written again: a field that a newer longhaul adds gets a record of its own. With a next
//! format this folder stays, and only the test that encodes moves on to the next one.

mod fields;
mod files;
mod jobs;
mod outbox;
mod records;
mod values;

use std::collections::BTreeSet;

use uuid::Uuid;

use super::delivery::Delivery;
use super::event::OutboxEvent;
use super::gate::GateRecord;
use super::kind::Kind;
use super::operation::glance;
use super::queue::QueueRecord;
use super::reading::read;
use super::server::{ServerId, ServerRecord};
use super::tokens::ApiToken;
use super::type_sets::TypeSets;
use crate::clock::Timestamp;
use crate::job::{Execution, ExecutionEnd, Job};
use crate::operation::entries::{DueClass, entries, turn_of};
use crate::operation::{Operation, Record, State};
use crate::store::{Keyspace, Partition};
use crate::webhook::endpoint::Endpoint;

pub(super) use self::files::values;

use self::files::{
    ENDPOINT, ENDPOINT_WITH_PAIR, ID, QUEUE, ROOT, SERVER, SERVING, TOKEN, TYPE_SETS, found,
    golden, stored,
};
use self::records::records;
use self::values::{
    SERVER_ID, bare_server, endpoint, endpoint_with_pair, gates, queue, token, type_sets,
};

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
fn a_glance_at_a_golden_record_is_the_published_form_of_the_whole() {
    for (file, record) in records() {
        let seen = glance(&stored(file), || Timestamp::EPOCH);
        let whole = record.operation().filter(|operation| {
            let response = match &operation.state {
                State::Succeeded(response) => Some(response),
                _ => None,
            };
            let mut payloads = response.into_iter().chain(&operation.metadata);
            operation.deletion.is_none() && payloads.all(|payload| payload.inline().is_some())
        });
        assert_eq!(seen, whole.map(Operation::published), "{file}");
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
    for (stored, expected) in [(&server, bare_server()), (&stored(SERVING), values::server())] {
        assert_eq!(read::<ServerRecord>(stored).expect("a server of format 1").record, expected);
        assert_eq!(expected.encode(), stored.value);
    }
    let key = ServerId(SERVER_ID).key();
    assert_eq!(format!("{key:?}"), "Key(00000000000000004142434445464748)");
}

#[test]
fn every_golden_job_and_execution_is_read_as_what_was_written() {
    for (file, expected) in jobs::jobs() {
        let read = read::<Job>(&stored(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(read.record, expected, "{file}");
    }
    for (file, expected) in jobs::ends() {
        let read = read::<ExecutionEnd>(&stored(file));
        assert_eq!(read.expect(file).record, expected, "{file}");
    }
    assert_eq!(read::<Execution>(&stored("execution")).expect("read").record, jobs::execution());
    for (file, value) in jobs::values() {
        assert_eq!(value, stored(file).value, "{file}");
    }
}

#[test]
fn the_golden_type_sets_are_read_and_written_as_the_same_bytes_and_lie_where_they_lay() {
    let (sets, expected) = (stored(TYPE_SETS), type_sets());
    assert_eq!(read::<TypeSets>(&sets).expect("type sets of format 1").record, expected);
    assert_eq!(expected.encode(), sets.value);
    let keyspace = Keyspace::decode("the golden file", &golden(ROOT)).expect("a root of format 1");
    let key = TypeSets::key(&keyspace, "projects/p");
    assert_eq!(format!("{key:?}"), "Key(00000000ef74ebbf4b6f175ffafc038b)");
    assert_eq!(keyspace.partition(key), Partition(0));
    let member = [&b"projects/p\0"[..], key.as_bytes()].concat();
    let entries = expected.entries(key);
    assert_eq!((entries[0].index.as_str(), &entries[0].member[..]), ("type-sets", &member[..]));
}

#[test]
fn the_golden_gates_are_read_and_written_as_the_same_bytes() {
    let keyspace = Keyspace::decode("the golden file", &golden(ROOT)).expect("a root of format 1");
    for (file, expected) in gates() {
        let gate = stored(file);
        assert_eq!(read::<GateRecord>(&gate).expect("a gate of format 1").record, expected);
        assert_eq!(expected.encode(), gate.value, "{file}");
        let key = GateRecord::key(&keyspace, &expected.name);
        assert!(expected.lies_under(key, &keyspace), "{file}");
    }
    // Operations wait in an index whose name must not change either.
    let waiting = gates().map(|(_, gate)| gate.name.index());
    assert_eq!(waiting[0], "gate/834e9a05a4ca85f522c4db7cfe8d5dac");
}

#[test]
fn the_golden_endpoint_is_read_and_written_as_the_same_bytes_and_lies_where_it_lay() {
    for (file, expected) in [(ENDPOINT, endpoint()), (ENDPOINT_WITH_PAIR, endpoint_with_pair())] {
        let stored = stored(file);
        assert_eq!(read::<Endpoint>(&stored).expect("an endpoint of format 1").record, expected);
        assert_eq!(expected.encode(), stored.value, "{file}");
    }
    let expected = endpoint();
    let keyspace = Keyspace::decode("the golden file", &golden(ROOT)).expect("a root of format 1");
    let key = super::endpoint::key(&keyspace, &expected.name);
    assert_eq!(format!("{key:?}"), "Key(0000000055cccbfe22c2ce67f45db7ee)");
    assert_eq!(keyspace.partition(key), super::endpoint::PARTITION);
    let member = [&b"projects/p\0e\0"[..], key.as_bytes()].concat();
    let entries = expected.entries(key);
    assert_eq!((entries[0].index.as_str(), &entries[0].member[..]), ("endpoints", &member[..]));
}

#[test]
fn golden_events_and_deliveries_are_read_and_written_as_the_same_bytes_and_lie_where_they_lay() {
    let (found, expected) = (stored(outbox::EVENT), outbox::event());
    assert_eq!(read::<OutboxEvent>(&found).expect("an event of format 1").record, expected);
    assert_eq!(expected.encode(), found.value);
    let keyspace = Keyspace::decode("the golden file", &golden(ROOT)).expect("a root of format 1");
    let operation = keyspace.key("projects/p/operations/golden");
    let key = OutboxEvent::key(operation, 3);
    assert!(expected.lies_under(key, &keyspace));
    assert_eq!(format!("{key:?}"), "Key(adb62a53da8a2a2b787a90853c5b1768)");
    let mut keys = Vec::new();
    for (file, expected) in outbox::deliveries() {
        let found = stored(file);
        assert_eq!(read::<Delivery>(&found).expect(file).record, expected, "{file}");
        assert_eq!(expected.encode(), found.value, "{file}");
        let key = expected.key(operation);
        assert!(expected.lies_under(key, &keyspace), "{file}");
        let entries = expected.entries(key);
        let entries = entries.iter().map(|entry| {
            assert!(entry.member.ends_with(key.as_bytes()), "{file}");
            (entry.index.as_str().to_owned(), entry.member.len())
        });
        keys.push((format!("{key:?}"), entries.collect::<Vec<_>>()));
    }
    let entry = |index: &str, length: usize| (index.to_owned(), length);
    assert_eq!(
        keys.iter().map(|(_, entries)| entries.clone()).collect::<Vec<_>>(),
        [
            vec![
                entry("deliveries/list", 32),
                entry("deliveries/state", 33),
                entry("deliveries/line", 48),
                entry("deliveries/due", 32)
            ],
            vec![entry("deliveries/list", 32), entry("due/delivery", 24)],
            vec![
                entry("deliveries/list", 32),
                entry("deliveries/state", 33),
                entry("due/delivery", 24)
            ],
        ]
    );
}

#[test]
fn the_golden_queue_is_read_and_written_as_the_same_bytes_and_lies_where_it_lay() {
    let (stored, expected) = (stored(QUEUE), queue());
    assert_eq!(read::<QueueRecord>(&stored).expect("a queue of format 1").record, expected);
    assert_eq!(expected.encode(), stored.value);
    let keyspace = Keyspace::decode("the golden file", &golden(ROOT)).expect("a root of format 1");
    let key = QueueRecord::key(&keyspace, "Q.1");
    assert_eq!(format!("{key:?}"), "Key(000000000ec33cc1bb374ac0639b4073)");
    assert_eq!(keyspace.partition(key), Partition(0));
    let member = [&b"Q.1\0"[..], key.as_bytes()].concat();
    let entries = expected.entries(key);
    assert_eq!((entries[0].index.as_str(), &entries[0].member[..]), ("queues", &member[..]));
}

#[test]
fn the_golden_token_is_read_and_written_as_the_same_bytes_and_lies_where_it_lay() {
    let (stored, expected) = (stored(TOKEN), token());
    assert_eq!(read::<ApiToken>(&stored).expect("a token of format 1").record, expected);
    assert_eq!(expected.encode(), stored.value);
    let keyspace = Keyspace::decode("the golden file", &golden(ROOT)).expect("a root of format 1");
    let key = ApiToken::key(&keyspace, "mailer");
    assert_eq!(format!("{key:?}"), "Key(00000000552918769e18092a6e5f5627)");
    assert_eq!(keyspace.partition(key), Partition(0));
    // A secret that was shown once must be accepted as long as its hash is stored.
    let hash = ApiToken::hash(&keyspace, b"secret");
    let mut expected_hash = blake3::Hasher::new_keyed(&[0x5a; 32]);
    expected_hash.update(b"token secret\0secret");
    assert_eq!(expected_hash.finalize(), hash);
    let member = [&b"mailer\0"[..], key.as_bytes()].concat();
    let entries = expected.entries(key);
    assert_eq!((entries[0].index.as_str(), &entries[0].member[..]), ("tokens", &member[..]));
}

/// Removed index entries are computed from the record, so an entry must be where an older longhaul put it.
#[test]
fn the_index_entries_of_golden_records_lie_where_they_lay() {
    let key = [0xee; 16];
    let member = |text: &[u8], number: u64| [text, &number.to_be_bytes(), &key].concat();
    let due =
        |class: &str, at: u64| (format!("due/{class}"), member(b"", 1_700_000_000_000_000 + at));
    let listed = ("list".to_owned(), member(b"projects/p/locations/l\0", 1_700_000_000_000_002));
    let failed = ("failed".to_owned(), member(b"projects/p/locations/l\0", 1_700_000_000_000_002));
    let turn = turn_of("projects/p/locations/l");
    assert_eq!(u64::from_be_bytes(turn), 0x3347_b0ba_34d1_da8f);
    let ready = ("ready/Q.1".to_owned(), member(&turn, (1 << 63) - 6_000_000_000));
    let unfinished =
        ("unfinished".to_owned(), member(b"projects/p/locations/l\0", 1_700_000_000_000_002));
    let four = [due("deadline", 30), due("start", 31), due("retry", 32), due("queue", 33)];
    for (file, expected) in [
        ("pending-retrying", [vec![unfinished, listed.clone(), ready], four.to_vec()].concat()),
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
        .chain([ENDPOINT, ENDPOINT_WITH_PAIR, QUEUE].map(str::to_owned))
        .chain([ROOT, SERVER, SERVING, TYPE_SETS, TOKEN].map(str::to_owned))
        .chain(jobs::values().into_iter().map(|(file, _)| file.to_owned()))
        .chain(outbox::written().into_iter().map(|(file, _)| file.to_owned()))
        .chain(gates().map(|(file, _)| file.to_owned()))
        .collect();
    let found = found();
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
