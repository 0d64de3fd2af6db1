//! The one script, and how write sets become a call of it.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::keys::Keys;
use crate::store::{Check, Mark, Partition, WriteSet};

/// Has no `#!lua` line on purpose. Redis refuses a script with that line before it runs when memory is short; without it the
/// first write that needs memory is refused instead, and a set that begins by removing something is applied whole.
pub(super) const TEXT: &str = include_str!("commit.lua");

/// One call: write sets of one partition.
pub(super) struct Call {
    keys: Vec<Vec<u8>>,
    args: Vec<Bytes>,
}

impl Call {
    /// A call without write sets yet; `time` in microseconds, 0 for the server's own.
    pub(super) fn new(keys: &Keys, keyspace: uuid::Uuid, partition: Partition, time: u64) -> Self {
        let args = vec![Bytes::copy_from_slice(keyspace.as_bytes()), number(time)];
        Self { keys: vec![keys.meta(partition)], args }
    }

    /// Adds a write set.
    pub(super) fn push(&mut self, keys: &Keys, set: &WriteSet) {
        let header = self.args.len();
        let hint = set.hint.as_ref();
        let hint = hint.map(|(key, note)| [key.as_bytes(), &note[..]].concat()).unwrap_or_default();
        self.args.extend([Bytes::new(), Bytes::new(), Bytes::new(), hint.into()]);

        let earliest = self.push_checks(keys, set);
        let before_writes = self.keys.len();
        self.push_removals(keys, set);
        self.push_additions(keys, set);
        let writes = (self.keys.len() - before_writes) as u64;
        if set.hint.is_some() {
            self.keys.push(keys.channel(set.partition));
        }
        let conditions = |check: &&Check| !matches!(check, Check::TimeAtLeast(_));
        let checks = set.checks.iter().filter(conditions).count() as u64;
        self.args[header] = number(earliest);
        self.args[header + 1] = number(checks);
        self.args[header + 2] = number(writes);
    }

    /// The call by the script's digest, or with its whole text for a server that does not know it yet.
    pub(super) fn command(&self, form: Form) -> Cmd {
        let mut command = match form {
            Form::Digest => redis::cmd("EVALSHA"),
            Form::Text => redis::cmd("EVAL"),
        };
        match form {
            Form::Digest => command.arg(DIGEST.as_str()),
            Form::Text => command.arg(TEXT),
        };
        command.arg(self.keys.len());
        for key in &self.keys {
            command.arg(&key[..]);
        }
        for arg in &self.args {
            command.arg(&arg[..]);
        }
        command
    }

    /// Returns the time that the set waits for.
    fn push_checks(&mut self, keys: &Keys, set: &WriteSet) -> u64 {
        let mut earliest = 0;
        for check in &set.checks {
            let (key, holds) = match check {
                Check::TimeAtLeast(time) => {
                    earliest = earliest.max(time.as_micros());
                    continue;
                }
                Check::At(key, revision) => (key, Bytes::copy_from_slice(&revision.to_be_bytes())),
                Check::Absent(key) => (key, Bytes::new()),
            };
            self.keys.push(keys.record(set.partition, *key));
            self.args.push(holds);
        }
        earliest
    }

    /// What frees memory comes first, so that a full Redis still takes the set.
    fn push_removals(&mut self, keys: &Keys, set: &WriteSet) {
        let partition = set.partition;
        for entry in &set.removals {
            self.write(keys.index(partition, &entry.index), "ZREM", [entry.member.clone()]);
        }
        for key in &set.deletes {
            self.write(keys.record(partition, *key), "UNLINK", []);
        }
        for key in &set.body_deletes {
            self.write(keys.body(partition, *key), "UNLINK", []);
        }
    }

    fn push_additions(&mut self, keys: &Keys, set: &WriteSet) {
        let partition = set.partition;
        for put in &set.puts {
            let stamps = [mark(put.visible), mark(put.fencing), put.value.clone()];
            self.write(keys.record(partition, put.key), "PUT", stamps);
        }
        for (key, body) in &set.body_puts {
            self.write(keys.body(partition, *key), "SET", [body.clone()]);
        }
        for entry in &set.additions {
            let member = [Bytes::from_static(b"0"), entry.member.clone()];
            self.write(keys.index(partition, &entry.index), "ZADD", member);
        }
        for counter in &set.counters {
            let change = counter.change.to_string().into();
            self.write(keys.counters(partition), "HINCRBY", [counter.name.clone(), change]);
        }
    }

    fn write<const N: usize>(&mut self, key: Vec<u8>, verb: &'static str, args: [Bytes; N]) {
        self.keys.push(key);
        self.args.push(Bytes::from_static(verb.as_bytes()));
        self.args.extend(args);
    }
}

/// How a call names the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By its SHA-1 digest.
    Digest,
    /// By its text, which the server then remembers.
    Text,
}

/// What came of one write set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Applied.
    Revision(u64),
    /// A check did not hold.
    Conflict,
    /// The store's time is not there yet.
    Early,
    /// Redis refused to write.
    Refused(String),
}

/// What the script returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The store's time in microseconds.
    pub(super) time: u64,
    /// The partition's last hint.
    pub(super) sequence: u64,
    /// For each write set, in order.
    pub(super) outcomes: Vec<Outcome>,
}

impl Reply {
    /// Reads it; `None` if it is not what the script returns.
    pub(super) fn decode(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        let mut values = values.into_iter();
        let (Value::Int(time), Value::Int(sequence)) = (values.next()?, values.next()?) else {
            return None;
        };
        let outcome = |value| match value {
            Value::Int(revision) => Some(Outcome::Revision(revision as u64)),
            Value::BulkString(name) => Some(match &name[..] {
                b"conflict" => Outcome::Conflict,
                b"early" => Outcome::Early,
                other => Outcome::Refused(String::from_utf8_lossy(other).into_owned()),
            }),
            _ => None,
        };
        let outcomes = values.map(outcome).collect::<Option<_>>()?;
        Some(Self { time: time as u64, sequence: sequence as u64, outcomes })
    }
}

fn number(number: u64) -> Bytes {
    number.to_string().into()
}

fn mark(mark: Mark) -> Bytes {
    match mark {
        Mark::New => Bytes::new(),
        Mark::Keep(number) => Bytes::copy_from_slice(&number.to_be_bytes()),
    }
}

static DIGEST: LazyLock<String> = LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned());
