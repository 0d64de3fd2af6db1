//! The settings of queues: one record for each queue that has settings of its own, all in one partition, listed by an index.

use std::time::Duration;

use bytes::Bytes;

use super::due::DueIndex;
use super::kind::Kind;
use super::note::Note;
use super::server::{decode_process, encode_process};
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::Stamps;
use crate::operation::name::Queue;
use crate::operation::worker::WorkerProcess;
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{Index, IndexEntry, Key, Keyspace, Partition};

/// The index of all queues with settings of their own; a member is the id, a zero, and the record's key.
pub const QUEUES: &str = "queues";
/// The partition of their records, in every keyspace.
pub const PARTITION: Partition = Partition(0);

/// A queue with settings of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueRecord {
    /// Which.
    pub queue: Queue,
    /// Its settings.
    pub settings: QueueSettings,
}

/// The settings of a queue. At first nothing is limited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSettings {
    /// No operation is leased.
    pub paused: bool,
    /// Most operations that run at the same time; 0 is no limit.
    pub max_running: u32,
    /// Most leases in a second; 0 is no limit.
    pub max_leases_per_second: f64,
    /// Waiting this long counts as one step of priority, unless it is as for every queue.
    pub aging_interval: Option<Duration>,
    /// Workers that get no operations, the newest last.
    pub drained: Vec<DrainedWorker>,
}

/// A worker that an operator has drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainedWorker {
    /// The name that it gives itself.
    pub name: String,
    /// Its process, if it said which that is: another process of that name is not drained.
    pub process: WorkerProcess,
    /// Until when this is remembered.
    pub until: Timestamp,
}

impl QueueSettings {
    /// Whether a worker has been drained.
    pub fn is_drained(&self, name: &str, process: &WorkerProcess, now: Timestamp) -> bool {
        let is = |drained: &DrainedWorker| drained.name == name && drained.process.is(process);
        self.drained.iter().any(|drained| is(drained) && now < drained.until)
    }

    /// Whether it differs from that of other queues, apart from drains that are forgotten.
    pub fn is_own(&self, now: Timestamp) -> bool {
        let remembered = |drained: &&DrainedWorker| now < drained.until;
        let drained = self.drained.iter().filter(remembered).cloned().collect();
        Self { drained, ..self.clone() } != Self::default()
    }
}

impl QueueRecord {
    /// The key of a queue's record. It leads to [`PARTITION`], and no name leads there.
    pub fn key(keyspace: &Keyspace, queue: &str) -> Key {
        let mut key = [0; Key::LENGTH];
        key[4..].copy_from_slice(&keyspace.hash::<12>("queue", queue.as_bytes()));
        Key::from_bytes(key)
    }

    /// The id in a member of the index.
    pub fn id_of(member: &[u8]) -> Option<&str> {
        std::str::from_utf8(member.split(|byte| *byte == 0).next()?).ok()
    }
}

impl DrainedWorker {
    fn decode(stored: stored::DrainedWorker) -> Self {
        let process = stored.process.map(decode_process).unwrap_or_default();
        Self { name: stored.name, process, until: Timestamp::from_micros(stored.until) }
    }

    fn encode(&self) -> stored::DrainedWorker {
        let process = encode_process(&self.process);
        stored::DrainedWorker { name: self.name.clone(), process, until: self.until.as_micros() }
    }
}

impl Kind for QueueRecord {
    const NAME: &'static str = "a queue";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[];

    fn name(&self) -> String {
        self.queue.full()
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        Self::key(keyspace, self.queue.as_str()) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            stored::record::Kind::Queue(stored) => {
                let aging_interval = Duration::from_micros(stored.aging_interval);
                let settings = QueueSettings {
                    paused: stored.paused,
                    max_running: stored.max_running,
                    max_leases_per_second: stored.max_leases_per_second,
                    aging_interval: Some(aging_interval).filter(|interval| !interval.is_zero()),
                    drained: stored.drained.into_iter().map(DrainedWorker::decode).collect(),
                };
                Some(Self { queue: Queue::parse(&stored.id).ok()?, settings })
            }
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        let settings = &self.settings;
        let queue = stored::Queue {
            id: self.queue.as_str().to_owned(),
            paused: settings.paused,
            max_running: settings.max_running,
            max_leases_per_second: settings.max_leases_per_second,
            aging_interval: settings.aging_interval.unwrap_or_default().as_micros() as u64,
            drained: settings.drained.iter().map(DrainedWorker::encode).collect(),
        };
        wrap(NUMBER, &queue)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = [self.queue.as_str().as_bytes(), &[0], key.as_bytes()].concat();
        vec![IndexEntry { index: Index::new(QUEUES), member: member.into() }]
    }

    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        Some(Note::Queues)
    }
}

/// The number of the kind in a stored record.
const NUMBER: u32 = 8;
