//! Random histories of a few operations: the store holds exactly their records, entries and bodies after each step.
//!
//! The commands are random; [`crate::operation`] decides their results as it does for the engine.

mod commands;
mod found;
mod history;
mod steps;

use std::cell::RefCell;
use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::kind::Kind;
use super::operation::{Slot, attach, body_key, glance};
use super::reading::read;
use crate::clock::Timestamp;
use crate::limits::MAX_INLINE_BYTES;
use crate::operation::entries::entries;
use crate::operation::payload::Payload;
use crate::operation::{Operation, Record, Stamps, State};
use crate::store::memory::MemoryStore;
use crate::store::{BodyKey, Key, Record as Stored};

use self::found::Found;
use self::history::{Before, History};
use self::steps::step;

#[test]
fn every_record_of_a_history_survives_being_stored() {
    let seen = RefCell::new(BTreeSet::new());
    check(prop::collection::vec(step(), 1..60), |steps| {
        let mut history = History::new();
        for step in &steps {
            let Some((key, change)) = history.decide(step) else { continue };
            let after = change.record.map(|record| {
                note_kind(&mut seen.borrow_mut(), &record);
                let stamps = history.next_stamps();
                Before { record: there_and_back(record, key, stamps), stamps }
            });
            history.settle(step, after);
        }
    });
    // Otherwise the histories show less than they seem to.
    let kinds = ["PENDING", "RUNNING", "CANCELLING", "SUSPENDED", "SUCCEEDED", "FAILED"];
    let others = ["CANCELLED", "tombstone", "hidden", "body 1", "body 2", "body 3", "body 4"];
    let wanted = kinds.into_iter().chain(others).chain(["body 5"]).map(str::to_owned).collect();
    assert_eq!(*seen.borrow(), wanted);
}

#[test]
fn a_store_holds_just_the_entries_bodies_and_counts_of_its_records() {
    check(prop::collection::vec(step(), 1..60), |steps| {
        let mut history = History::new();
        let store = MemoryStore::new(history.keyspace.clone(), history.clock.clone());
        let mut found = Found::new(store);
        for step in &steps {
            let Some((key, change)) = history.decide(step) else { continue };
            let before = history.records.get(&step.name).cloned();
            let after = found.commit(key, before.as_ref(), &change);
            history.settle(step, after);
            found.compare(&history);
        }
    });
}

#[test]
fn no_damage_to_a_stored_record_brings_the_decoder_down() {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..4);
    let case = (prop::collection::vec(step(), 1..20), damage, any::<prop::sample::Index>());
    check(case, |(steps, flips, length)| {
        let mut history = History::new();
        let mut value = Bytes::new();
        for step in &steps {
            let Some((key, change)) = history.decide(step) else { continue };
            let after = change.record.map(|mut record| {
                record.detach(key);
                value = record.encode();
                Before { record, stamps: history.next_stamps() }
            });
            history.settle(step, after);
        }
        read_anything(&value[..length.index(value.len() + 1)]);
        let mut flipped = value.to_vec();
        for (at, bit) in flips.iter().filter(|_| !value.is_empty()) {
            flipped[at.index(value.len())] ^= 1 << bit;
            read_anything(&flipped);
        }
    });
    check(prop::collection::vec(any::<u8>(), 0..200), |bytes| {
        read_anything(&bytes);
        // Behind the tags of a record and of an operation, the same bytes get further.
        read_anything(&[&[0x0a, bytes.len() as u8 & 0x7f], &bytes[..]].concat());
        read_anything(&[&[0x12, bytes.len() as u8 & 0x7f], &bytes[..]].concat());
    });
}

/// Reads bytes that may not be a record. If they can be read, the result can be used, and is stored as it was read.
fn read_anything(bytes: &[u8]) {
    let stored_bytes = stored(Bytes::copy_from_slice(bytes), Stamps::default());
    drop(glance(&stored_bytes, || Timestamp::EPOCH));
    let Ok(Before { record, .. }) = read(&stored_bytes) else {
        return;
    };
    entries(&record, &[7; 16]);
    record.bodies(Key::from_bytes([7; 16]));
    let value = record.encode();
    let again: Before = read(&stored(value.clone(), Stamps::default())).expect("written by us");
    assert_eq!(again.record.encode(), value);
}

/// Stores a record and reads it.
fn there_and_back(record: Record, key: Key, stamps: Stamps) -> Record {
    let mut without = record.clone();
    let bodies = without.detach(key);
    let found = stored(without.encode(), stamps);
    let read: Record = read::<Record>(&found).expect("written just now").record;
    assert_eq!(read, as_read(without, stamps));

    let mut whole = read.clone();
    for payload in payloads(&mut whole, key, &bodies) {
        assert!(matches!(payload, Payload::Inline(any) if any.value.len() > MAX_INLINE_BYTES));
    }
    assert_eq!(whole, as_read(record, stamps));
    read
}

/// Fields that reading may change: the stamps, and metadata without content, which means none.
fn as_read(mut record: Record, stamps: Stamps) -> Record {
    if let Record::Operation(operation) = &mut record {
        operation.stamps = stamps;
        let is_empty = |payload: &Payload| payload.inline().is_some_and(|any| any.value.is_empty());
        operation.metadata = operation.metadata.take().filter(|payload| !is_empty(payload));
    }
    record
}

/// Puts bodies back into the record that names them. Returns the payloads that were put back.
fn payloads<'a>(
    record: &'a mut Record,
    key: Key,
    bodies: &[(BodyKey, Bytes)],
) -> Vec<&'a mut Payload> {
    let Record::Operation(operation) = record else { return Vec::new() };
    let Operation { spec, state, metadata, checkpoint, resume_input, .. } = &mut **operation;
    let response = if let State::Succeeded(response) = state { Some(response) } else { None };
    let all = [
        (Slot::Request, spec.make_mut().request.as_mut()),
        (Slot::Metadata, metadata.as_mut()),
        (Slot::Response, response),
        (Slot::Checkpoint, checkpoint.as_mut()),
        (Slot::ResumeInput, resume_input.as_mut()),
    ];
    let mut put_back = Vec::new();
    for (slot, payload) in all {
        let Some(payload) = payload else { continue };
        let Payload::Detached(detached) = &*payload else { continue };
        let wanted = body_key(key, slot, detached);
        // One that was detached earlier stays where it is.
        let Some((_, body)) = bodies.iter().find(|(key, _)| *key == wanted) else { continue };
        assert_eq!(detached.size, body.len() as u64);
        *payload = Payload::Inline(attach(&detached.type_url.clone(), body));
        put_back.push(payload);
    }
    assert_eq!(put_back.len(), bodies.len(), "no body without a payload");
    put_back
}

/// Notes which optional parts a record has.
fn note_kind(seen: &mut BTreeSet<String>, record: &Record) {
    let Record::Operation(operation) = record else {
        seen.insert("tombstone".to_owned());
        return;
    };
    seen.insert(operation.state.name().to_owned());
    if operation.deletion.is_some() {
        seen.insert("hidden".to_owned());
    }
    let mut record = record.clone();
    let bodies = record.detach(Key::from_bytes([0; 16]));
    seen.extend(bodies.iter().map(|(key, _)| format!("body {}", key.slot)));
}

/// Runs random cases. Seeded, so that a failure repeats in the next run.
fn check<S: Strategy>(strategy: S, case: impl Fn(S::Value)) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
        case(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn stored(value: Bytes, stamps: Stamps) -> Stored {
    Stored {
        revision: stamps.revision,
        visible_revision: stamps.visible,
        fencing_number: stamps.fencing,
        value,
    }
}

const CASES: u32 = 200;
