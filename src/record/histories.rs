//! Random histories of a few operations: the store holds exactly their records, entries and bodies after each step.
//!
//! The commands are random; [`crate::operation`] decides their results as it does for the engine.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use uuid::Uuid;

use super::kind::Kind;
use super::operation::{Slot, attach, body_key};
use super::plan::{Change as Write, write_set};
use super::reading::read;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::code::Code;
use crate::limits::MAX_INLINE_BYTES;
use crate::operation::command::{
    Adopt, Command, Complete, Delete, Disown, Due, Fail, Pause, Proof, Release, Renew, Report,
    Resume, Suspend, Take,
};
use crate::operation::entries::{DueClass, FAILED, LIST, counter, entries, live_counter};
use crate::operation::lease::Token;
use crate::operation::name::{Name, Queue};
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::operation::payload::Payload;
use crate::operation::{
    Applied, Birth, Change, Operation, Record, Spec, Stamps, Start, State, apply, start,
};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::store::memory::MemoryStore;
use crate::store::{BodyKey, Index, Key, Keyspace, Record as Stored, Scan, Store};

type Before = super::kind::Before<Record>;

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

/// A store, and every body that was ever to be put into it.
struct Found {
    store: Arc<MemoryStore>,
    bodies: BTreeMap<BodyKey, Bytes>,
}

impl Found {
    fn new(store: Arc<MemoryStore>) -> Self {
        Self { store, bodies: BTreeMap::new() }
    }

    /// Writes a change as the engine does. Returns the stored record.
    fn commit(&mut self, key: Key, before: Option<&Before>, change: &Change) -> Option<Before> {
        let write: Write<Record> = change.clone().into();
        let set = write_set(self.store.keyspace(), key, before, &write);
        // The new bodies of the change, whether or not the set puts them.
        let bodies = change.record.clone().map(|mut record| record.detach(key));
        self.bodies.extend(bodies.unwrap_or_default());
        assert!(set.body_puts.iter().all(|(body, _)| self.bodies.contains_key(body)));
        let committed = now(self.store.commit(vec![set])).remove(0).expect("decided on the newest");
        let record = now(self.store.get(&[key])).expect("open").remove(0);
        assert_eq!(record.is_some(), change.record.is_some());
        let record = record?;
        assert_eq!(record.revision, committed.revision);
        let old = before.map(|before| before.stamps).unwrap_or_default();
        let stamps = Stamps {
            revision: record.revision,
            visible: if change.visible { record.revision } else { old.visible },
            fencing: if change.leases { record.revision } else { old.fencing },
        };
        assert_eq!(
            (record.visible_revision, record.fencing_number),
            (stamps.visible, stamps.fencing)
        );
        Some(Before { record: read::<Record>(&record).expect("written just now").record, stamps })
    }

    /// Everything stored belongs to a record, and the other way round.
    fn compare(&self, history: &History) {
        let (mut wanted, mut named, mut counts) =
            (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for Before { record, .. } in history.records.values() {
            let key = history.keyspace.key(record.name().as_str());
            wanted.extend(entries(record, key.as_bytes()));
            named.extend(record.bodies(key));
            *counts.entry(counter(record)).or_insert(0) += 1;
        }
        let due = DueClass::ALL.map(|class| class.index().into());
        let ready = QUEUES.map(|queue| crate::operation::entries::ready_index(queue).into());
        let mut found = BTreeSet::new();
        for index in [LIST, FAILED].map(Cow::Borrowed).into_iter().chain(due).chain(ready) {
            let scan = Scan::first(Index::new(index.clone()), usize::MAX);
            let members = now(self.store.scan(scan)).expect("open");
            found.extend(members.into_iter().map(|entry| (index.clone(), entry.member.to_vec())));
        }
        assert_eq!(found, wanted);

        let keys: Vec<BodyKey> = self.bodies.keys().copied().collect();
        assert!(named.is_subset(&keys.iter().copied().collect()), "a body was never put");
        for (key, found) in keys.iter().zip(now(self.store.bodies(&keys)).expect("open")) {
            assert_eq!(found.as_ref(), named.contains(key).then(|| &self.bodies[key]), "{key:?}");
        }
        for parent in PARENTS {
            for state in STATES {
                let name = live_counter(parent, state);
                let found = now(self.store.counter(&name)).expect("open");
                let wanted = counts.remove(&Some(name)).unwrap_or(0);
                assert_eq!(found, wanted, "{parent:?} {state}");
            }
        }
        counts.remove(&None);
        assert!(counts.is_empty(), "counters that nobody reads: {counts:?}");
    }
}

/// The operations, and the time.
struct History {
    keyspace: Keyspace,
    clock: Arc<ManualClock>,
    records: BTreeMap<usize, Before>,
    /// The number of the step: ids made in it are unique.
    number: u64,
}

impl History {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let keyspace = Keyspace::new(Uuid::from_u128(7), 4, [7; 32]);
        Self { keyspace, clock, records: BTreeMap::new(), number: 0 }
    }

    /// The change of a step, if any.
    fn decide(&mut self, step: &Step) -> Option<(Key, Change)> {
        self.number += 1;
        self.clock.advance(step.passes);
        let name = Name::parse(NAMES[step.name]).expect("a name");
        let key = self.keyspace.key(name.as_str());
        let change = match self.records.get(&step.name) {
            None => start(self.start(step), self.birth(step, name), self.clock.now())
                .expect("nothing against it"),
            Some(Before { record, .. }) => {
                let command = self.command(step, record);
                match apply(record, &command, self.clock.now()) {
                    Ok(Applied::Changed(change)) => *change,
                    Ok(Applied::Unchanged(_)) | Err(_) => return None,
                }
            }
        };
        assert!(change.not_before.is_none_or(|time| time <= self.clock.now()));
        Some((key, change))
    }

    fn settle(&mut self, step: &Step, after: Option<Before>) {
        match after {
            Some(after) => drop(self.records.insert(step.name, after)),
            None => drop(self.records.remove(&step.name)),
        }
    }

    fn next_stamps(&self) -> Stamps {
        Stamps { revision: self.number + 2, visible: self.number + 1, fencing: self.number }
    }

    fn start(&self, step: &Step) -> Start {
        let typed = step.flag(0);
        let metadata_type = if typed { METADATA } else { "" };
        Start {
            spec: Spec {
                queue: Queue::parse(QUEUES[usize::from(step.flag(1))]).expect("a queue"),
                method: "render".to_owned(),
                request: step.first.clone().map(Payload::Inline),
                metadata_type: metadata_type.to_owned(),
                options: self.options(step),
                server_metadata: !typed && step.flag(2),
                request_id: self.number.to_string(),
                fingerprint: [step.amount; 16],
                ..Spec::default()
            },
            initial_metadata: step.second.clone().filter(|_| typed),
            ..Start::default()
        }
    }

    fn birth(&self, step: &Step, name: Name) -> Birth {
        let uid = Uuid::from_u128(u128::from(self.number));
        Birth { name, uid, lease: step.flag(3).then(|| self.take(step)) }
    }

    fn options(&self, step: &Step) -> Options {
        let after = |flag, seconds| {
            step.flag(flag).then(|| self.clock.now() + Duration::from_secs(seconds))
        };
        let lasting = |flag, seconds| step.flag(flag).then_some(Duration::new(seconds, 1_000));
        let attempts = u32::from(step.amount % 4);
        Options {
            priority: i32::from(step.amount) - 100,
            schedule_time: after(4, 30),
            attempt_timeout: lasting(5, 40),
            deadline_time: after(6, 200),
            queue_timeout: lasting(7, 50),
            retry_policy: step.flag(8).then(|| RetryPolicy {
                max_attempts: Some(attempts).filter(|attempts| *attempts > 0),
                retryable_codes: vec![Code::DeadlineExceeded, Code::Internal],
                ..RetryPolicy::default()
            }),
            expiration: lasting(9, 7_200).map(Expiration::After),
            labels: BTreeMap::from([("step".to_owned(), self.number.to_string())]),
            ..Options::default()
        }
    }

    fn take(&self, step: &Step) -> Take {
        Take {
            token: Token(u128::from(self.number).to_be_bytes()),
            worker: format!("worker-{}", step.amount),
            duration: step.seconds(),
            holder: step.flag(9).then_some([step.amount; 8]),
            stall_timeout: step.seconds(),
        }
    }

    fn command(&self, step: &Step, record: &Record) -> Command {
        let (nonce, etag) = ([step.amount % 4; 8], String::new());
        match step.verb {
            Verb::Lease => Command::Lease(self.take(step)),
            Verb::Renew => Command::Renew(renew(step, record)),
            Verb::Adopt => Command::Adopt(Adopt {
                token: token(record, step),
                holder: [step.amount; 8],
                duration: step.seconds(),
            }),
            Verb::Disown => Command::Disown(Disown {
                token: token(record, step),
                holder: holder(record).unwrap_or([step.amount; 8]),
                grace: step.seconds(),
            }),
            Verb::Report => Command::Report(Box::new(report(step, record))),
            Verb::Complete => Command::Complete(Box::new(complete(step, record))),
            Verb::Fail => Command::Fail(Box::new(fail(step, record))),
            Verb::Release => Command::Release(Box::new(Release {
                proof: proof(step, record),
                checkpoint: step.second.clone(),
                delay: Duration::from_secs(u64::from(step.amount % 3)),
                seen: step.flag(3),
                holder: step.flag(4).then_some([step.amount; 8]),
            })),
            Verb::Suspend => Command::Suspend(Box::new(Suspend {
                proof: proof(step, record),
                reason: "lunch".to_owned(),
                metadata: metadata(step, record),
                checkpoint: step.second.clone(),
                resume_time: step.flag(3).then(|| self.clock.now() + step.seconds()),
            })),
            Verb::Cancel => Command::Cancel,
            Verb::Delete => Command::Delete(Delete { nonce }),
            Verb::Pause => Command::Pause(Pause { etag, reason: "wait".to_owned(), nonce }),
            Verb::Resume => {
                Command::Resume(Box::new(Resume { etag, input: step.second.clone(), nonce }))
            }
            Verb::Due => self.due(step, record),
        }
    }

    /// Mostly waits until it is due.
    fn due(&self, step: &Step, record: &Record) -> Command {
        let (class, time) = match record {
            Record::Tombstone(tombstone) => (DueClass::Tombstone, tombstone.forget_time),
            Record::Operation(operation) => {
                let due = &operation.places.due;
                let some = due.get(usize::from(step.amount) % due.len().max(1)).copied();
                some.unwrap_or((DueClass::Lease, self.clock.now()))
            }
        };
        if !step.flag(0) || step.flag(1) {
            self.clock.advance(time.since(self.clock.now()));
        }
        let answering_since = if step.flag(2) { self.clock.now() } else { Timestamp::EPOCH };
        Command::Due(Due { class, answering_since })
    }
}

fn renew(step: &Step, record: &Record) -> Renew {
    Renew {
        token: token(record, step),
        duration: step.flag(0).then(|| step.seconds()),
        cancel_acknowledged: step.flag(1),
    }
}

fn report(step: &Step, record: &Record) -> Report {
    Report {
        renew: renew(step, record),
        number: i64::from(step.amount),
        progress: progress(step),
        metadata: metadata(step, record),
        checkpoint: step.second.clone(),
        partial_errors: step.flag(3).then(|| error(step)).into_iter().collect(),
        related_resources: resources(step),
        status_detail: "on its way".to_owned(),
    }
}

fn complete(step: &Step, record: &Record) -> Complete {
    Complete {
        proof: proof(step, record),
        response: step.second.clone(),
        metadata: metadata(step, record),
        related_resources: resources(step),
        progress: progress(step),
    }
}

fn fail(step: &Step, record: &Record) -> Fail {
    Fail {
        proof: proof(step, record),
        error: error(step),
        retry: step.flag(3).then_some(step.flag(4)),
        retry_delay: step.flag(5).then(|| step.seconds()),
        metadata: metadata(step, record),
        checkpoint: step.second.clone(),
    }
}

fn proof(step: &Step, record: &Record) -> Proof {
    Proof { token: token(record, step), fingerprint: [step.amount % 2; 16] }
}

/// A worker sends no metadata if none was declared.
fn metadata(step: &Step, record: &Record) -> Option<Any> {
    let declared = record.operation().map(|operation| operation.spec.metadata_type.as_str());
    step.first.clone().filter(|_| declared == Some(METADATA))
}

fn error(step: &Step) -> Status {
    let code = i32::from(step.amount % 16) + 1;
    Status { code, message: "went wrong".to_owned(), details: Vec::new() }
}

fn resources(step: &Step) -> Vec<pb::RelatedResource> {
    let name = step.amount.to_string();
    let resource = pb::RelatedResource { name, ..pb::RelatedResource::default() };
    step.flag(4).then_some(resource).into_iter().collect()
}

fn progress(step: &Step) -> Option<pb::Progress> {
    step.flag(2).then(|| pb::Progress { completed_units: 1, ..pb::Progress::default() })
}

/// Mostly that of the lease that lives; else of one that has ended, or of none.
fn holder(record: &Record) -> Option<[u8; 8]> {
    record.operation()?.state.lease()?.holder
}

fn token(record: &Record, step: &Step) -> Token {
    let ended = match record {
        Record::Tombstone(tombstone) => tombstone.ended_leases.last(),
        Record::Operation(operation) => operation.ended_leases.last(),
    };
    let lives = record.operation().and_then(|operation| operation.state.lease());
    match (lives, ended) {
        (Some(lease), _) if !step.amount.is_multiple_of(8) => lease.token,
        (_, Some(ended)) => ended.token,
        _ => Token([0xff; 16]),
    }
}

/// One command for one operation.
#[derive(Clone, Debug)]
struct Step {
    name: usize,
    passes: Duration,
    verb: Verb,
    flags: u16,
    amount: u8,
    first: Option<Any>,
    second: Option<Any>,
}

impl Step {
    const fn flag(&self, number: u32) -> bool {
        self.flags & (1 << number) != 0
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs(u64::from(self.amount) + 1)
    }
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Lease,
    Renew,
    Adopt,
    Disown,
    Report,
    Complete,
    Fail,
    Release,
    Suspend,
    Cancel,
    Delete,
    Pause,
    Resume,
    Due,
}

fn step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![
        8 => Just(Verb::Lease),
        1 => Just(Verb::Renew),
        1 => Just(Verb::Adopt),
        1 => Just(Verb::Disown),
        4 => Just(Verb::Report),
        2 => Just(Verb::Complete),
        3 => Just(Verb::Fail),
        2 => Just(Verb::Release),
        2 => Just(Verb::Suspend),
        1 => Just(Verb::Cancel),
        1 => Just(Verb::Delete),
        1 => Just(Verb::Pause),
        2 => Just(Verb::Resume),
        5 => Just(Verb::Due),
    ];
    let passes = prop_oneof![
        3 => 0..1_000_000_u64,
        1 => 0..100_000_000_u64,
    ];
    let asked = (0..NAMES.len(), passes.prop_map(Duration::from_micros), verb);
    (asked, any::<u16>(), any::<u8>(), payload(), payload()).prop_map(
        |((name, passes, verb), flags, amount, first, second)| Step {
            name,
            passes,
            verb,
            flags,
            amount,
            first,
            second,
        },
    )
}

/// Of a few contents, so that they repeat; around the size that decides where it is stored.
fn payload() -> impl Strategy<Value = Option<Any>> {
    let size =
        prop_oneof![Just(0), 1..40_usize, MAX_INLINE_BYTES - 1..MAX_INLINE_BYTES + 2, Just(3_000),];
    prop::option::weighted(0.7, (size, 0..3_u8)).prop_map(|content| {
        content.map(|(size, byte)| Any {
            type_url: format!("type.googleapis.com/{METADATA}"),
            value: vec![byte; size].into(),
        })
    })
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

/// The reference never waits.
fn now<F: Future>(answer: F) -> F::Output {
    answer.now_or_never().expect("an answer at once")
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
const NAMES: [&str; 4] =
    ["operations/a", "operations/b", "projects/p/operations/a", "projects/p/operations/b"];
const PARENTS: [&str; 2] = ["", "projects/p"];
const QUEUES: [&str; 2] = ["default", "other"];
const METADATA: &str = "t.Metadata";
const STATES: [&str; 4] = ["PENDING", "RUNNING", "CANCELLING", "SUSPENDED"];
