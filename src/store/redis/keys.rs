//! Every key that longhaul uses in Redis, built here and nowhere else. `docs/redis.md` explains each.

use uuid::Uuid;

use crate::store::index::Index;
use crate::store::key::{BodyKey, Key, Partition};
use crate::store::keyspace::Keyspace;

/// The form of each key; a test compares it with the documentation.
#[cfg(test)]
pub(super) const PATTERNS: [&str; 7] = [
    "PREFIXroot",
    "PREFIX{TAG}:meta",
    "PREFIX{TAG}:r:RECORD",
    "PREFIX{TAG}:b:BODY",
    "PREFIX{TAG}:x:INDEX",
    "PREFIX{TAG}:n:FAMILY",
    "PREFIXh",
];

/// The key of the root record.
pub(super) fn root(prefix: &str) -> Vec<u8> {
    format!("{prefix}root").into_bytes()
}

/// The keys of one keyspace.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    bases: Vec<String>,
}

impl Keys {
    /// The keys under `prefix`. The braces make the tag the only part that decides the slot in a cluster.
    pub(super) fn new(prefix: &str, keyspace: &Keyspace) -> Self {
        let base = |partition| format!("{prefix}{{{}}}:", keyspace.tag(partition));
        Self { prefix: prefix.to_owned(), bases: keyspace.all().map(base).collect() }
    }

    /// The key of the root record.
    pub(super) fn root(&self) -> Vec<u8> {
        root(&self.prefix)
    }

    /// Identity, last revision and hint sequence of a partition: see [`Meta`].
    pub(super) fn meta(&self, partition: Partition) -> Vec<u8> {
        written(|bytes| self.write_meta(bytes, partition))
    }

    /// All metas, in the order of partitions.
    pub(super) fn metas(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        (0..self.bases.len() as u16).map(|partition| self.meta(Partition(partition)))
    }

    /// A record: 24 bytes of stamp, then its value.
    pub(super) fn record(&self, partition: Partition, key: Key) -> Vec<u8> {
        written(|bytes| self.write_record(bytes, partition, key))
    }

    /// What the keys of a partition's records begin with.
    pub(super) fn records(&self, partition: Partition) -> Vec<u8> {
        written(|bytes| self.write(bytes, partition, "r:", b""))
    }

    /// A body, as it was put.
    pub(super) fn body(&self, partition: Partition, key: BodyKey) -> Vec<u8> {
        written(|bytes| self.write_body(bytes, partition, key))
    }

    /// An index: a sorted set whose scores are all 0.
    pub(super) fn index(&self, partition: Partition, index: &Index) -> Vec<u8> {
        written(|bytes| self.write_index(bytes, partition, index))
    }

    /// The counters of a family, in one hash.
    pub(super) fn counters(&self, partition: Partition, family: &str) -> Vec<u8> {
        written(|bytes| self.write_counters(bytes, partition, family))
    }

    /// The channel of all hints. A cluster would want one for each partition.
    pub(super) fn channel(&self) -> Vec<u8> {
        format!("{}h", self.prefix).into_bytes()
    }

    pub(super) fn write_meta(&self, bytes: &mut Vec<u8>, partition: Partition) {
        self.write(bytes, partition, "meta", b"");
    }

    pub(super) fn write_record(&self, bytes: &mut Vec<u8>, partition: Partition, key: Key) {
        self.write(bytes, partition, "r:", key.as_bytes());
    }

    pub(super) fn write_body(&self, bytes: &mut Vec<u8>, partition: Partition, key: BodyKey) {
        self.write(bytes, partition, "b:", &key.to_bytes());
    }

    pub(super) fn write_index(&self, bytes: &mut Vec<u8>, partition: Partition, index: &Index) {
        self.write(bytes, partition, "x:", index.as_str().as_bytes());
    }

    pub(super) fn write_counters(&self, bytes: &mut Vec<u8>, partition: Partition, family: &str) {
        self.write(bytes, partition, "n:", family.as_bytes());
    }

    fn write(&self, bytes: &mut Vec<u8>, partition: Partition, kind: &str, rest: &[u8]) {
        bytes.extend_from_slice(self.bases[usize::from(partition.0)].as_bytes());
        bytes.extend_from_slice(kind.as_bytes());
        bytes.extend_from_slice(rest);
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

/// The content of a partition's meta: 16 bytes keyspace id, then two big-endian numbers of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// The keyspace of the partition.
    pub(super) keyspace: Uuid,
    /// The largest revision so far.
    pub(super) revision: u64,
    /// The number of the last hint.
    pub(super) sequence: u64,
}

impl Meta {
    /// The meta of a partition without any commit.
    pub(super) const fn new(keyspace: Uuid) -> Self {
        Self { keyspace, revision: 0, sequence: 0 }
    }

    /// As it is stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.revision.to_be_bytes(), self.sequence.to_be_bytes()].concat();
        [&self.keyspace.as_bytes()[..], &numbers].concat()
    }

    /// Reads it; `None` for anything that longhaul did not write.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (keyspace, numbers) = bytes.split_first_chunk()?;
        let (revision, sequence) = numbers.split_first_chunk()?;
        Some(Self {
            keyspace: Uuid::from_bytes(*keyspace),
            revision: u64::from_be_bytes(*revision),
            sequence: u64::from_be_bytes(sequence.try_into().ok()?),
        })
    }
}
