//! Kinds of record: the stored form and index entries of each, and the write set of a change.
//!
//! A kind is a few pure functions ([`Kind`]). The shared parts exist once: reading ([`read`]) and the plan of a
//! write set ([`write_set`]). This module does no I/O.

mod any;
pub mod due;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod histories;
mod note;
pub mod operation;
mod plan;
#[cfg(test)]
pub(crate) mod sample;
pub mod server;

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::clock::Timestamp;
use crate::operation::Stamps;
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{BodyKey, FORMAT, IndexEntry, Key, Keyspace, Record, StoreError};

use self::due::DueIndex;

pub use self::any::{AnyRecord, due_indexes};
pub use self::note::Note;
pub use self::plan::{Also, write_set};

/// A kind of record. Every function is pure.
pub trait Kind: Clone + Debug + Send + Sync + 'static {
    /// The kind's name in messages.
    const NAME: &'static str;
    /// The field numbers of its messages in `longhaul.store.v1.Record`.
    const NUMBERS: &'static [u32];
    /// The due indexes in which it has entries.
    const DUE: &'static [DueIndex];

    /// The kind's name in messages.
    fn name(&self) -> String;

    /// Whether it belongs under that key.
    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool;

    /// The record of a stored value; `None` where the value is damaged or of another kind.
    fn decode(value: &Bytes, stamps: Stamps) -> Option<Self>;

    /// The value to store.
    fn encode(&self) -> Bytes;

    /// All its index entries. A write set holds the difference between those before and after.
    fn entries(&self, key: Key) -> Vec<IndexEntry>;

    /// The counters that it counts in, each by one.
    fn counters(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// The bodies that it names.
    fn bodies(&self, _key: Key) -> Vec<BodyKey> {
        Vec::new()
    }

    /// Whether [`Kind::detach`] would change anything.
    fn must_detach(&self) -> bool {
        false
    }

    /// Takes payloads that are too large for the record out of it, and names them as bodies.
    fn detach(&mut self, _key: Key) -> Vec<(BodyKey, Bytes)> {
        Vec::new()
    }

    /// The note of a change's hint; `None` sends no hint. `visible`: callers can see the change.
    fn hint(_before: Option<&Self>, _after: Option<&Self>, visible: bool) -> Option<Note> {
        visible.then_some(Note::Changed)
    }
}

/// A record as it was read, with the stamps that the store put on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Before<K> {
    /// The record that was read.
    pub record: K,
    /// Its stamps.
    pub stamps: Stamps,
}

/// The result of a decision.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// The record under the requested key; `None` deletes it.
    pub main: Option<K>,
    /// Further records of the same partition, written by the same commit; see [`Key::beside`].
    pub also: Vec<Also>,
    /// Whether callers can see the change: etag and watch position follow it.
    pub visible: bool,
    /// Whether it makes a lease: its revision becomes the fencing number.
    pub leases: bool,
    /// The commit is refused while the store's clock is before this.
    pub not_before: Option<Timestamp>,
}

impl<K> Change<K> {
    /// A change of one record that callers do not see.
    pub const fn of(main: Option<K>) -> Self {
        Self { main, also: Vec::new(), visible: false, leases: false, not_before: None }
    }
}

/// Reads a stored record of the kind `K`.
///
/// # Errors
/// [`StoreError::Newer`] for an unknown kind, and for a record in a newer format; both must be left unchanged.
/// [`StoreError::Damaged`] for everything else that cannot be read.
pub fn read<K: Kind>(record: &Record) -> Result<Before<K>, StoreError> {
    let stamps = Stamps {
        revision: record.revision,
        visible: record.visible_revision,
        fencing: record.fencing_number,
    };
    let known = (format(&record.value) <= FORMAT).then(|| K::decode(&record.value, stamps));
    known.flatten().map(|record| Before { record, stamps }).ok_or_else(|| refuse(K::NAME, record))
}

/// Reads the record of the kind `K` that is stored under `key`.
///
/// # Errors
/// As [`read`], and [`StoreError::Damaged`] for a record that belongs under another key.
pub fn read_at<K: Kind>(
    keyspace: &Keyspace,
    key: Key,
    record: &Record,
) -> Result<Before<K>, StoreError> {
    let before = read::<K>(record)?;
    if !before.record.lies_under(key, keyspace) {
        return Err(StoreError::Damaged(format!("it is the record of {}", before.record.name())));
    }
    Ok(before)
}

/// Why a record cannot be read as `wanted`.
fn refuse(wanted: &str, record: &Record) -> StoreError {
    let (revision, length) = (record.revision, record.value.len());
    let what = format!("{wanted}, revision {revision} of {length} bytes");
    if is_newer(&record.value) { StoreError::Newer(what) } else { StoreError::Damaged(what) }
}

/// Whether the value is of an unknown kind or in a newer format.
fn is_newer(value: &Bytes) -> bool {
    let Some(number) = kind_number(value) else { return false };
    let unknown = !any::is_known(number) || format(value) > FORMAT;
    unknown && stored::Record::decode(value.clone()).is_ok()
}

/// The format of a value. It follows the kind's message.
fn format(value: &Bytes) -> u32 {
    let mut rest = &value[..];
    while let Ok((number, wire_type)) = decode_key(&mut rest) {
        match (number, wire_type) {
            (FORMAT_NUMBER, WireType::Varint) => {
                return decode_varint(&mut rest).map_or(1, |format| format as u32);
            }
            (_, WireType::LengthDelimited) => match decode_varint(&mut rest) {
                Ok(length) if length <= rest.len() as u64 => rest = &rest[length as usize..],
                _ => return 1,
            },
            _ => return 1,
        }
    }
    1
}

/// Marks a value as written in that format. Values of format 1 bear no mark.
fn stamped(value: Bytes, format: u32) -> Bytes {
    if format <= 1 {
        return value;
    }
    let mark = stored::Record { kind: None, format };
    [&value[..], &mark.encode_to_vec()].concat().into()
}

/// The number of the field that holds the kind's message.
fn kind_number(value: &Bytes) -> Option<u32> {
    decode_key(&mut &value[..]).ok().map(|(number, _)| number)
}

/// The kind's message in a stored value.
fn unwrap(value: &Bytes) -> Option<stored::record::Kind> {
    stored::Record::decode(value.clone()).ok()?.kind
}

/// The value that stores a kind's message.
fn wrap(kind: stored::record::Kind) -> Bytes {
    stored::Record { kind: Some(kind), format: 0 }.encode_to_vec().into()
}

/// The number of `longhaul.store.v1.Record.format`.
const FORMAT_NUMBER: u32 = 15;
