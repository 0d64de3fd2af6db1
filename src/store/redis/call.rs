//! How write sets become a call of the script.

use bytes::Bytes;
use redis::Cmd;

use super::keys::Keys;
use super::packed::Packed;
use super::script::{DIGEST, ScriptForm, TEXT};
use crate::store::index::Index;
use crate::store::key::{Key, Partition};
use crate::store::write_set::{Check, Counter, IndexEntry, Mark, WriteSet};

/// One call of the script: write sets with disjoint keys.
pub(super) struct ScriptCall<'a> {
    keyspace: uuid::Uuid,
    /// The partitions, in the order in which the script answers for them.
    pub(super) partitions: Vec<Partition>,
    /// How many sets.
    pub(super) sets: usize,
    /// All keys, one after the other, and where each ends.
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
    plan: Vec<u8>,
    channel: Vec<u8>,
    values: Vec<&'a Bytes>,
}

impl<'a> ScriptCall<'a> {
    /// A call; `time` in microseconds, 0 for the server's own.
    pub(super) fn new(
        keys: &'a Keys,
        keyspace: uuid::Uuid,
        time: u64,
        sets: &[&'a WriteSet],
    ) -> Self {
        let mut builder = Builder::new(keys, sets.len());
        builder.fill(time, sets);
        Self {
            keyspace,
            partitions: builder.parts.iter().map(|part| part.partition).collect(),
            sets: sets.len(),
            key_bytes: builder.key_bytes,
            key_ends: builder.key_ends,
            plan: builder.plan.finish(),
            channel: keys.channel(),
            values: builder.values,
        }
    }

    /// The call by the script's digest, or with its whole text for a server that does not have it yet.
    pub(super) fn command(&self, form: ScriptForm) -> Cmd {
        let values = self.values.iter().map(|value| value.len()).sum::<usize>();
        let bytes = 128 + self.key_bytes.len() + self.plan.len() + values;
        let mut command = Cmd::with_capacity(5 + self.key_ends.len() + self.values.len(), bytes);
        match form {
            ScriptForm::Digest => command.arg("EVALSHA").arg(DIGEST.as_str()),
            ScriptForm::Text => command.arg("EVAL").arg(TEXT),
        };
        command.arg(self.key_ends.len());
        let mut begin = 0;
        for end in &self.key_ends {
            command.arg(&self.key_bytes[begin..*end]);
            begin = *end;
        }
        command.arg(self.keyspace.as_bytes()).arg(&self.plan[..]).arg(&self.channel[..]);
        for value in &self.values {
            command.arg(&value[..]);
        }
        command
    }
}

/// A call on its way.
struct Builder<'a> {
    keys: &'a Keys,
    parts: Vec<CallPartition<'a>>,
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
    plan: Packed,
    values: Vec<&'a Bytes>,
    /// The key of each counter, and its name.
    counters: Vec<(u64, &'a Bytes)>,
}

/// A partition in a call, and the places of those of its keys that several sets use.
struct CallPartition<'a> {
    partition: Partition,
    indexes: Vec<(&'a Index, u64)>,
    families: Vec<(&'static str, u64)>,
    /// The counters, and their places in the list of all.
    counters: Vec<(&'a Counter, u64)>,
}

/// A set on its way, and the places of its records' keys.
struct Records<'a> {
    set: &'a WriteSet,
    known: Vec<(Key, u64)>,
}

impl<'a> Builder<'a> {
    fn new(keys: &'a Keys, sets: usize) -> Self {
        Self {
            keys,
            parts: Vec::new(),
            key_bytes: Vec::with_capacity(160 * sets),
            key_ends: Vec::with_capacity(6 * sets),
            plan: Packed::with_capacity(320 * sets),
            values: Vec::with_capacity(sets),
            counters: Vec::with_capacity(2 * sets),
        }
    }

    fn fill(&mut self, time: u64, sets: &[&'a WriteSet]) {
        let parts: Vec<usize> = sets.iter().map(|set| self.part(set.partition)).collect();
        let metas = self.parts.len() as u64;
        for set in sets {
            for key in absent(set) {
                self.key(|keys, bytes| keys.write_record(bytes, set.partition, key));
            }
        }
        for number in [time, metas, self.key_ends.len() as u64, sets.len() as u64] {
            self.plan.number(number);
        }
        let mut read = metas;
        for (set, part) in sets.iter().zip(parts) {
            self.push(set, part, read);
            read += absent(set).count() as u64;
        }
        for (place, name) in std::mem::take(&mut self.counters) {
            self.plan.number(place);
            self.plan.string(&[name]);
        }
    }

    /// Adds a set; its keys that must be absent begin at this position.
    fn push(&mut self, set: &'a WriteSet, part: usize, read: u64) {
        let begin = self.plan.count();
        self.plan.number(part as u64 + 1);
        self.plan.number(earliest(set));
        let length = self.plan.later();
        self.plan.number(set.hint.is_some().into());
        let counts = [
            absent(set).count(),
            held(set).count(),
            set.removals.len(),
            set.deletes.len() + set.body_deletes.len(),
            set.puts.len(),
            set.body_puts.len(),
            set.additions.len(),
            set.counters.len(),
        ];
        for count in counts {
            self.plan.number(count as u64);
        }
        let mut records = Records { set, known: Vec::with_capacity(2) };
        self.push_checks(&mut records, read);
        self.push_removals(&mut records, part);
        self.push_puts(&mut records);
        self.push_additions(set, part);
        if let Some((key, note)) = &set.hint {
            let head = [set.partition.0.to_be_bytes(), (note.len() as u16).to_be_bytes()];
            self.plan.string(&[head.as_flattened(), key.as_bytes(), note]);
        }
        self.plan.set(length, self.plan.count() - begin);
    }

    fn push_checks(&mut self, records: &mut Records<'a>, read: u64) {
        for (place, key) in (read + 1..).zip(absent(records.set)) {
            records.known.push((key, place));
            self.plan.number(place);
        }
        for (key, revision) in held(records.set) {
            let place = self.record(records, key);
            self.plan.number(place);
            self.plan.string(&[&revision.to_be_bytes()]);
        }
    }

    fn push_removals(&mut self, records: &mut Records<'a>, part: usize) {
        let set = records.set;
        self.push_entries(&set.removals, part);
        for key in &set.deletes {
            let place = self.record(records, *key);
            self.plan.number(place);
        }
        for key in &set.body_deletes {
            let place = self.key(|keys, bytes| keys.write_body(bytes, set.partition, *key));
            self.plan.number(place);
        }
    }

    fn push_puts(&mut self, records: &mut Records<'a>) {
        let set = records.set;
        for put in &set.puts {
            let place = self.record(records, put.key);
            self.plan.number(place);
            for mark in [put.visible, put.fencing] {
                match mark {
                    Mark::New => self.plan.string(&[]),
                    Mark::Keep(number) => self.plan.string(&[&number.to_be_bytes()]),
                }
            }
            self.value(&put.value);
        }
        for (key, body) in &set.body_puts {
            let place = self.key(|keys, bytes| keys.write_body(bytes, set.partition, *key));
            self.plan.number(place);
            self.value(body);
        }
    }

    fn push_additions(&mut self, set: &'a WriteSet, part: usize) {
        self.push_entries(&set.additions, part);
        for counter in &set.counters {
            let place = self.counter(part, counter);
            self.plan.number(place);
            self.plan.string(&[counter.change.to_string().as_bytes()]);
        }
    }

    fn push_entries(&mut self, entries: &'a [IndexEntry], part: usize) {
        for entry in entries {
            let place = self.index(part, &entry.index);
            self.plan.number(place);
            self.plan.string(&[&entry.member]);
        }
    }

    /// Adds a long value as an argument of its own: Lua hashes every string that it handles, byte by byte.
    fn value(&mut self, value: &'a Bytes) {
        self.values.push(value);
        self.plan.number((ARGS_BEFORE_VALUES + self.values.len()) as u64);
    }

    fn record(&mut self, records: &mut Records<'_>, key: Key) -> u64 {
        if let Some((_, place)) = records.known.iter().find(|(known, _)| *known == key) {
            return *place;
        }
        let partition = records.set.partition;
        let place = self.key(|keys, bytes| keys.write_record(bytes, partition, key));
        records.known.push((key, place));
        place
    }

    fn part(&mut self, partition: Partition) -> usize {
        let known = self.parts.iter().position(|part| part.partition == partition);
        known.unwrap_or_else(|| {
            self.key(|keys, bytes| keys.write_meta(bytes, partition));
            let (indexes, families, counters) = Default::default();
            self.parts.push(CallPartition { partition, indexes, families, counters });
            self.parts.len() - 1
        })
    }

    fn index(&mut self, part: usize, index: &'a Index) -> u64 {
        let CallPartition { partition, indexes, .. } = &self.parts[part];
        if let Some((_, place)) = indexes.iter().find(|(known, _)| *known == index) {
            return *place;
        }
        let partition = *partition;
        let place = self.key(|keys, bytes| keys.write_index(bytes, partition, index));
        self.parts[part].indexes.push((index, place));
        place
    }

    /// The place of a counter in the list of all, counted from 0.
    fn counter(&mut self, part: usize, counter: &'a Counter) -> u64 {
        let same = |known: &Counter| known.family == counter.family && known.name == counter.name;
        let known = self.parts[part].counters.iter().find(|(known, _)| same(known));
        if let Some((_, place)) = known {
            return *place;
        }
        let place = self.counters.len() as u64;
        let family = self.family(part, counter.family);
        self.counters.push((family, &counter.name));
        self.parts[part].counters.push((counter, place));
        place
    }

    fn family(&mut self, part: usize, family: &'static str) -> u64 {
        let CallPartition { partition, families, .. } = &self.parts[part];
        if let Some((_, place)) = families.iter().find(|(known, _)| *known == family) {
            return *place;
        }
        let partition = *partition;
        let place = self.key(|keys, bytes| keys.write_counters(bytes, partition, family));
        self.parts[part].families.push((family, place));
        place
    }

    /// Adds a key. Returns its place, counted from 1 as Lua does.
    fn key(&mut self, write: impl FnOnce(&Keys, &mut Vec<u8>)) -> u64 {
        write(self.keys, &mut self.key_bytes);
        self.key_ends.push(self.key_bytes.len());
        self.key_ends.len() as u64
    }
}

/// The records that must not be there.
fn absent(set: &WriteSet) -> impl Iterator<Item = Key> {
    set.checks.iter().filter_map(|check| match check {
        Check::Absent(key) => Some(*key),
        Check::At(..) | Check::TimeAtLeast(_) => None,
    })
}

/// The records that must be there, and at which revision.
fn held(set: &WriteSet) -> impl Iterator<Item = (Key, u64)> {
    set.checks.iter().filter_map(|check| match check {
        Check::At(key, revision) => Some((*key, *revision)),
        Check::Absent(_) | Check::TimeAtLeast(_) => None,
    })
}

/// The time that a set waits for.
fn earliest(set: &WriteSet) -> u64 {
    let times = set.checks.iter().filter_map(|check| match check {
        Check::TimeAtLeast(time) => Some(time.as_micros()),
        Check::At(..) | Check::Absent(_) => None,
    });
    times.max().unwrap_or(0)
}

/// Keyspace, plan and channel.
const ARGS_BEFORE_VALUES: usize = 3;
