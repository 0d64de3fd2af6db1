//! Reads stored records, and says why one cannot be read.

use bytes::Bytes;
use prost::Message;

use super::kind::{Before, Kind};
use super::kinds::is_known;
use super::value::{format, kind_number};
use crate::operation::Stamps;
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{FORMAT, Key, Keyspace, Record, StoreError};

/// Reads a stored record of the kind `K`.
///
/// # Errors
/// [`StoreError::Newer`] for a kind that this version does not know, and for a record that was written in a newer format;
/// both must be left alone.
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
pub(super) fn refuse(wanted: &str, record: &Record) -> StoreError {
    let (revision, length) = (record.revision, record.value.len());
    let what = format!("{wanted}, revision {revision} of {length} bytes");
    if is_newer(&record.value) { StoreError::Newer(what) } else { StoreError::Damaged(what) }
}

/// Whether the value is of an unknown kind or in a newer format.
fn is_newer(value: &Bytes) -> bool {
    let Some(number) = kind_number(value) else { return false };
    let unknown = !is_known(number) || format(value) > FORMAT;
    unknown && stored::Record::decode(value.clone()).is_ok()
}
