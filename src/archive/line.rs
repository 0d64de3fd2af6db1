//! The lines of an export, and the checksum at the end of each.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{BodyKey, Key, Origin, Record};

/// The version of the form of exports that this longhaul writes, and the newest that it reads.
pub(super) const EXPORT_VERSION: u64 = 1;

/// One line, as it is read. The readable form of a record is left out: nothing depends on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExportLine {
    /// The first line.
    Header(ExportHeader),
    /// Before the records of a partition.
    Partition(ExportedPartition),
    Record(ExportedRecord),
    /// A record whose stamps are lost, so that there is nothing to copy.
    Unreadable(UnreadableRecord),
    /// The last line.
    End(ExportEnd),
}

/// What an export is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportHeader {
    /// The version of the form of exports.
    pub longhaul_export: u64,
    /// Tells it from every other export.
    pub export: String,
    /// The version of longhaul that wrote it.
    pub longhaul: String,
    /// The oldest format whose writers may write to the store.
    pub format: u32,
    /// The store's identity.
    pub keyspace: String,
    /// The store's secret in base64: keys of records and tokens are hashes made with it.
    pub secret: String,
    /// How many partitions the store has; the copy may have another number.
    pub partitions: u16,
    /// When it began, by the clock of the store.
    pub time: String,
}

/// A partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportedPartition {
    pub(super) number: u16,
    /// Every record that existed then is in the export, as it was then or later.
    pub(super) time: String,
}

/// A record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportedRecord {
    /// Its kind in the stored form; empty for a kind that this version does not know.
    pub(super) kind: String,
    /// Its name; empty if this version cannot read it.
    pub(super) name: String,
    pub(super) revision: u64,
    pub(super) visible_revision: u64,
    pub(super) fencing_number: u64,
    /// What it says, for people.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<serde_json::Value>,
    /// 16 bytes in hexadecimal.
    pub(super) key: String,
    /// The stored bytes, in base64.
    pub(super) value: String,
    /// Payloads that are stored beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) bodies: Vec<ExportedBody>,
}

/// A payload that is stored beside its record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportedBody {
    /// 25 bytes in hexadecimal.
    pub(super) key: String,
    /// The bytes, in base64; absent if the store has lost them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
}

/// A record that could not be copied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UnreadableRecord {
    /// 16 bytes in hexadecimal.
    pub(super) key: String,
    pub(super) cause: String,
}

/// The end of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExportEnd {
    pub(super) records: u64,
    pub(super) bodies: u64,
    /// The sum of a hash of each record, in hexadecimal.
    pub(super) digest: String,
    /// When it ended, by the clock of the store.
    pub(super) time: String,
}

/// A record of one store on its way to another, with the bodies that it names; a lost body is `None`.
pub(super) struct CopiedRecord {
    pub(super) key: Key,
    pub(super) record: Record,
    pub(super) bodies: Vec<(BodyKey, Option<Bytes>)>,
}

/// The records that were counted, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Payloads that are stored beside their records.
    pub bodies: u64,
    /// Payloads that the store has lost.
    pub lost_bodies: u64,
    /// The sum of a hash of each record. It does not include revisions, which are the store's own.
    pub digest: u128,
}

impl Totals {
    /// Counts a record.
    pub(super) fn add(&mut self, copied: &CopiedRecord) {
        let CopiedRecord { key, record, bodies } = copied;
        let mut hasher = blake3::Hasher::new();
        hasher.update(key.as_bytes());
        hasher.update(&record.visible_revision.to_be_bytes());
        hasher.update(&record.fencing_number.to_be_bytes());
        hasher.update(&(record.value.len() as u64).to_be_bytes()).update(&record.value);
        for (key, body) in bodies {
            let Some(body) = body else {
                self.lost_bodies += 1;
                continue;
            };
            self.bodies += 1;
            hasher.update(&key.to_bytes());
            hasher.update(&(body.len() as u64).to_be_bytes()).update(body);
        }
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        self.records += 1;
        self.digest = self.digest.wrapping_add(u128::from_be_bytes(hash));
    }

    /// Counts the records of another part.
    pub(super) fn join(&mut self, other: &Self) {
        self.records += other.records;
        self.bodies += other.bodies;
        self.lost_bodies += other.lost_bodies;
        self.digest = self.digest.wrapping_add(other.digest);
    }

    /// Whether both have the same records.
    pub fn equals(&self, end: &Self) -> bool {
        (self.records, self.bodies, self.digest) == (end.records, end.bodies, end.digest)
    }
}

impl ExportHeader {
    /// The identity that a copy takes over.
    pub fn origin(&self) -> Option<Origin> {
        Some(Origin {
            keyspace: Uuid::parse_str(&self.keyspace).ok()?,
            secret: BASE64_STANDARD.decode(&self.secret).ok()?.try_into().ok()?,
            min_writer: self.format,
            export: Uuid::parse_str(&self.export).ok()?,
        })
    }
}

impl ExportEnd {
    pub(super) fn totals(&self) -> Option<Totals> {
        let digest = u128::from_str_radix(&self.digest, 16).ok()?;
        Some(Totals { records: self.records, bodies: self.bodies, lost_bodies: 0, digest })
    }
}

impl ExportedRecord {
    /// The record and its bodies; says which field is wrong.
    pub(super) fn copied(&self) -> Result<CopiedRecord, &'static str> {
        let key = unhex(&self.key).map(Key::from_bytes).ok_or("key")?;
        let body = |body: &ExportedBody| {
            let named = unhex(&body.key).and_then(body_key).filter(|named| named.record == key);
            let value = body.value.as_ref().map(|value| BASE64_STANDARD.decode(value)).transpose();
            Some((named?, value.ok()?.map(Bytes::from)))
        };
        let record = Record {
            revision: self.revision,
            visible_revision: self.visible_revision,
            fencing_number: self.fencing_number,
            value: BASE64_STANDARD.decode(&self.value).map_err(|_| "value")?.into(),
        };
        let bodies = self.bodies.iter().map(body).collect::<Option<_>>().ok_or("bodies")?;
        Ok(CopiedRecord { key, record, bodies })
    }
}

fn body_key(bytes: [u8; BodyKey::LENGTH]) -> Option<BodyKey> {
    let (record, rest) = bytes.split_first_chunk()?;
    let (slot, nonce) = rest.split_first()?;
    Some(BodyKey { record: Key::from_bytes(*record), slot: *slot, nonce: nonce.try_into().ok()? })
}

/// The text of a line, with its checksum and a line feed.
pub(super) fn seal(line: &ExportLine) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec(line)?;
    // The checksum is the last member of the object, so that the line is JSON with it too.
    text.pop();
    let sum = checksum(&text);
    text.extend_from_slice(SUM);
    text.extend_from_slice(sum.as_bytes());
    text.extend_from_slice(b"\"}\n");
    Ok(text)
}

/// Takes the checksum off a line, without its line feed; `None` if the line is not as it was written.
pub(super) fn unseal(line: &[u8]) -> Option<Vec<u8>> {
    let (rest, end) = line.split_at_checked(line.len().checked_sub(SUM_DIGITS + 2)?)?;
    let sum = end.strip_suffix(b"\"}")?;
    let text = rest.strip_suffix(SUM)?;
    (checksum(text).as_bytes() == sum).then(|| [text, b"}"].concat())
}

fn checksum(text: &[u8]) -> String {
    hex(&blake3::hash(text).as_bytes()[..SUM_DIGITS / 2])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
    }
    Some(bytes)
}

const SUM: &[u8] = b",\"sum\":\"";
const SUM_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> ExportLine {
        ExportLine::End(ExportEnd {
            records: 1,
            bodies: 2,
            digest: "ff".to_owned(),
            time: "1970-01-01T00:00:00Z".to_owned(),
        })
    }

    #[test]
    fn a_line_is_json_and_a_change_of_any_byte_is_noticed() {
        let mut text = seal(&line()).expect("a line");
        assert_eq!(text.pop(), Some(b'\n'));
        serde_json::from_slice::<serde_json::Value>(&text).expect("JSON");
        let inner = unseal(&text).expect("unchanged");
        let read: ExportLine = serde_json::from_slice(&inner).expect("a line");
        assert_eq!(format!("{read:?}"), format!("{:?}", line()));
        for position in 0..text.len() {
            let mut changed = text.clone();
            changed[position] ^= 1;
            assert_eq!(unseal(&changed), None, "byte {position}");
            assert_eq!(unseal(&text[..position]), None, "cut at {position}");
        }
    }

    #[test]
    fn bytes_in_hexadecimal_read_back() {
        assert_eq!(unhex(&hex(&[0, 1, 0xab, 0xff])), Some([0, 1, 0xab, 0xff]));
        for wrong in ["", "0", "000", "0g", "+1", "\u{e9}"] {
            assert_eq!(unhex::<1>(wrong), None, "{wrong}");
        }
    }
}
