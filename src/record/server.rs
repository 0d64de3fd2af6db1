//! Running servers: a record each, all in one partition, listed by an index.
//!
//! A record's revision, which follows the store's clock, is the time of its server's last refresh.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::due::DueIndex;
use super::kind::Kind;
use super::note::Note;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::machine;
use crate::operation::lease::{Holder, Lease};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Operation, Stamps};
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{FORMAT, Index, IndexEntry, Key, Keyspace, Partition};

/// The index of all servers.
pub const SERVERS: &str = "servers";
/// The partition of their records, in every keyspace.
pub const PARTITION: Partition = Partition(0);

/// A server's random id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub [u8; 8]);

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerRecord {
    /// Its id.
    pub id: ServerId,
    /// The version of longhaul that it runs; empty if unknown.
    pub version: String,
    /// The newest format that it writes; 0 if unknown.
    pub format: u32,
    /// The name of its host and of its process there; empty if unknown.
    pub name: String,
    /// What it serves, as far as it tells other servers.
    pub served: Served,
}

/// What a server serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// The queues that its workers serve.
    pub queues: Vec<ServedQueue>,
    /// Its workers, or some of them if there are many.
    pub workers: Vec<ServedWorker>,
}

/// A queue that workers of a server serve, or lately did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServedQueue {
    /// Its id.
    pub id: String,
    /// How many workers serve it.
    pub workers: u32,
    /// When one last asked for leases.
    pub asked: Option<Timestamp>,
    /// Leases in a second.
    pub leases_per_second: f64,
    /// Its leases are limited, and its workers wanted some a moment ago.
    pub wants_share: bool,
}

/// A worker of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServedWorker {
    /// The id of the queue that it serves.
    pub queue: String,
    /// The name that it gives itself.
    pub name: String,
    /// Its process.
    pub process: WorkerProcess,
    /// Its stream, if it has one.
    pub holder: Option<Holder>,
    /// How many operations it wants to hold; 0 without a stream.
    pub slots: u32,
    /// How many it holds.
    pub held: u32,
    /// Those that it has held longest.
    pub operations: Vec<HeldOperation>,
    /// When the server last heard of it.
    pub heard: Timestamp,
    /// An operator has drained it.
    pub is_drained: bool,
}

/// An operation that a worker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOperation {
    /// Its full name.
    pub name: String,
    /// The attempt.
    pub attempt: u32,
    /// Since when.
    pub start_time: Timestamp,
}

impl ServedQueue {
    /// That of an id, which is added if it is not there.
    pub fn entry<'a>(queues: &'a mut HashMap<String, Self>, id: &str) -> &'a mut Self {
        let new = || Self { id: id.to_owned(), ..Self::default() };
        queues.entry(id.to_owned()).or_insert_with(new)
    }

    fn decode(stored: stored::ServedQueue) -> Self {
        Self {
            id: stored.id,
            workers: stored.workers,
            asked: time(stored.asked_time),
            leases_per_second: stored.leases_per_second,
            wants_share: stored.wants_share,
        }
    }

    fn encode(&self) -> stored::ServedQueue {
        stored::ServedQueue {
            id: self.id.clone(),
            workers: self.workers,
            asked_time: micros(self.asked),
            leases_per_second: self.leases_per_second,
            wants_share: self.wants_share,
        }
    }
}

impl ServedWorker {
    /// About how many bytes it takes in a record.
    pub fn weight(&self) -> usize {
        let names = self.operations.iter().map(|held| held.name.len() + FRAME);
        let process = &self.process;
        let texts = [&self.queue, &self.name, &process.host, &process.language, &process.version];
        texts.into_iter().map(String::len).sum::<usize>() + names.sum::<usize>() + 4 * FRAME
    }

    fn decode(stored: stored::ServedWorker) -> Self {
        let held = |held: stored::HeldOperation| HeldOperation {
            name: held.name,
            attempt: held.attempt,
            start_time: Timestamp::from_micros(held.start_time),
        };
        Self {
            queue: stored.queue,
            name: stored.name,
            process: stored.process.map(decode_process).unwrap_or_default(),
            holder: stored.holder.as_ref().try_into().ok(),
            slots: stored.slots,
            held: stored.held,
            operations: stored.operations.into_iter().map(held).collect(),
            heard: Timestamp::from_micros(stored.heard_time),
            is_drained: stored.is_drained,
        }
    }

    fn encode(&self) -> stored::ServedWorker {
        let held = |held: &HeldOperation| stored::HeldOperation {
            name: held.name.clone(),
            attempt: held.attempt,
            start_time: held.start_time.as_micros(),
        };
        stored::ServedWorker {
            queue: self.queue.clone(),
            name: self.name.clone(),
            process: encode_process(&self.process),
            holder: self.holder.map(|holder| holder.to_vec().into()).unwrap_or_default(),
            slots: self.slots,
            held: self.held,
            operations: self.operations.iter().map(held).collect(),
            heard_time: self.heard.as_micros(),
            is_drained: self.is_drained,
        }
    }
}

impl HeldOperation {
    /// An operation with the lease that is in it.
    pub fn of(operation: &Operation, lease: &Lease) -> Self {
        let name = operation.name.to_string();
        Self { name, attempt: lease.attempt, start_time: lease.start_time }
    }
}

/// The stored form of a process; `None` if nothing is known of it.
pub(super) fn encode_process(process: &WorkerProcess) -> Option<stored::Process> {
    (*process != WorkerProcess::default()).then(|| stored::Process {
        host: process.host.clone(),
        id: process.id,
        start_time: micros(process.start_time),
        language: process.language.clone(),
        version: process.version.clone(),
    })
}

/// The process of its stored form.
pub(super) fn decode_process(stored: stored::Process) -> WorkerProcess {
    WorkerProcess {
        host: stored.host,
        id: stored.id,
        start_time: time(stored.start_time),
        language: stored.language,
        version: stored.version,
    }
}

fn micros(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}

impl ServerRecord {
    /// The server of that id that this process is.
    pub fn this(id: ServerId, served: Served) -> Self {
        let (version, name) = (env!("CARGO_PKG_VERSION").to_owned(), machine::process_name());
        Self { id, version, format: FORMAT, name, served }
    }

    /// The server of a record that cannot be read.
    pub fn unknown(key: Key) -> Self {
        let (version, name) = (String::new(), String::new());
        Self { id: ServerId::of(key), version, format: 0, name, served: Served::default() }
    }
}

impl ServerId {
    /// The id in the key of a server's record.
    pub fn of(key: Key) -> Self {
        Self(key.as_bytes().last_chunk().copied().unwrap_or_default())
    }

    /// The key of its record. No name leads there, and zeros lead to [`PARTITION`].
    pub fn key(self) -> Key {
        Key::from_bytes(u128::from(u64::from_be_bytes(self.0)).to_be_bytes())
    }
}

impl Kind for ServerRecord {
    const NAME: &'static str = "a server";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[];
    const IS_COPIED: bool = false;

    fn name(&self) -> String {
        format!("server {:016x}", u64::from_be_bytes(self.id.0))
    }

    fn lies_under(&self, key: Key, _keyspace: &Keyspace) -> bool {
        self.id.key() == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            stored::record::Kind::Server(server) => {
                let id = server.id.as_ref().try_into().ok().map(ServerId)?;
                let served = Served {
                    queues: server.queues.into_iter().map(ServedQueue::decode).collect(),
                    workers: server.workers.into_iter().map(ServedWorker::decode).collect(),
                };
                let stored::Server { version, format, name, .. } = server;
                Some(Self { id, version, format, name, served })
            }
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        let server = stored::Server {
            id: self.id.0.to_vec().into(),
            version: self.version.clone(),
            format: self.format,
            name: self.name.clone(),
            queues: self.served.queues.iter().map(ServedQueue::encode).collect(),
            workers: self.served.workers.iter().map(ServedWorker::encode).collect(),
        };
        wrap(NUMBER, &server)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = Bytes::copy_from_slice(key.as_bytes());
        vec![IndexEntry { index: Index::new(SERVERS), member }]
    }

    /// Servers read each other's records now and then; no hint is needed.
    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        None
    }
}

/// A server whose last refresh is this old counts as gone: it missed three.
pub const STALE: Duration = Duration::from_secs(6);

/// The most operations of a worker that are named.
pub const MAX_SHOWN_HELD: usize = 20;
/// Bytes of a stored item besides its texts, at most.
const FRAME: usize = 24;

/// The number of the kind in a stored record.
const NUMBER: u32 = 3;

/// When the server of that record gave its last sign of life.
pub const fn last_beat(revision: u64) -> Timestamp {
    Timestamp::from_micros(revision)
}
