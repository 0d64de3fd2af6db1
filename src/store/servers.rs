//! The records of running servers: one each, all in one partition, listed by an index.
//!
//! A record's revision, which is of the store's clock, says when its server last gave a sign of life.

use bytes::Bytes;
use prost::Message;

use super::{Check, Index, IndexEntry, Key, Mark, Partition, Put, Record, WriteSet};
use crate::clock::Timestamp;
use crate::proto::longhaul::store::v1 as stored;

/// The index of all servers.
pub const SERVERS: &str = "servers";
/// Where their records lie, whatever the keyspace.
pub const PARTITION: Partition = Partition(0);

/// What a server is known by while it runs; random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub [u8; 8]);

impl ServerId {
    /// The key of its record. No name leads there, and zeros lead to [`PARTITION`].
    pub fn key(self) -> Key {
        Key::from_bytes(u128::from(u64::from_be_bytes(self.0)).to_be_bytes())
    }

    /// Its record's value.
    pub fn encode(self) -> Bytes {
        let server = stored::Server { id: self.0.to_vec().into() };
        let kind = Some(stored::record::Kind::Server(server));
        stored::Record { kind }.encode_to_vec().into()
    }

    /// Whose record that is, if it can be read.
    pub fn read(record: &Record) -> Option<Self> {
        match stored::Record::decode(record.value.clone()).ok()?.kind? {
            stored::record::Kind::Server(server) => server.id.as_ref().try_into().ok().map(Self),
            _ => None,
        }
    }

    /// A sign of life, after the one of that revision.
    pub fn beat(self, last: Option<u64>) -> WriteSet {
        let key = self.key();
        let check = last.map_or(Check::Absent(key), |revision| Check::At(key, revision));
        let mut set = WriteSet::new(PARTITION, check);
        set.puts.push(Put {
            key,
            visible: Mark::New,
            fencing: Mark::Keep(0),
            value: self.encode(),
        });
        if last.is_none() {
            set.additions.push(entry(key));
        }
        set
    }
}

/// The end of a server, unless it gave a sign of life since.
pub fn removal(key: Key, last: u64) -> WriteSet {
    let mut set = WriteSet::new(PARTITION, Check::At(key, last));
    set.deletes.push(key);
    set.removals.push(entry(key));
    set
}

/// When the server of that record gave a sign of life.
pub const fn last_beat(record: &Record) -> Timestamp {
    Timestamp::from_micros(record.revision)
}

fn entry(key: Key) -> IndexEntry {
    let member = Bytes::copy_from_slice(key.as_bytes());
    IndexEntry { index: Index::new(SERVERS), member }
}
