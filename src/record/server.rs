//! Running servers: a record each, all in one partition, listed by an index.
//!
//! A record's revision, which follows the store's clock, is the time of its server's last refresh.

use std::time::Duration;

use bytes::Bytes;

use super::due::DueIndex;
use super::kind::Kind;
use super::note::Note;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::Stamps;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRecord {
    /// Its id.
    pub id: ServerId,
    /// The version of longhaul that it runs; empty if unknown.
    pub version: String,
    /// The newest format that it writes; 0 if unknown.
    pub format: u32,
}

impl ServerRecord {
    /// The server of that id that this process is.
    pub fn this(id: ServerId) -> Self {
        Self { id, version: env!("CARGO_PKG_VERSION").to_owned(), format: FORMAT }
    }

    /// The server of a record that cannot be read.
    pub fn unknown(key: Key) -> Self {
        Self { id: ServerId::of(key), version: String::new(), format: 0 }
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
                Some(Self { id, version: server.version, format: server.format })
            }
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        let server = stored::Server {
            id: self.id.0.to_vec().into(),
            version: self.version.clone(),
            format: self.format,
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

/// The number of the kind in a stored record.
const NUMBER: u32 = 3;

/// When the server of that record gave its last sign of life.
pub const fn last_beat(revision: u64) -> Timestamp {
    Timestamp::from_micros(revision)
}
