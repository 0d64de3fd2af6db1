//! The identity of a store: its root record.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message;
use uuid::Uuid;

use super::error::OpenError;
use super::key::{BodyKey, Key, Partition};
use crate::proto::longhaul::store::v1 as stored;

/// The version of the stored form that this longhaul writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The root record: created once, then adopted by every server.
#[derive(Clone)]
pub struct Keyspace {
    id: Uuid,
    tags: Vec<String>,
    secret: [u8; 32],
    /// The oldest format whose writers may write; the clones of a keyspace share it.
    min_writer: Arc<AtomicU32>,
    /// The export that is being imported here; no server may open it until then.
    importing: Option<Uuid>,
}

/// Where an import takes the identity of a new keyspace from. The keys of records are hashes made with the secret, and callers hold
/// tokens that are: a copy must have the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    /// The keyspace that was exported.
    pub keyspace: Uuid,
    /// Its secret.
    pub secret: [u8; 32],
    /// The oldest format whose writers may write to it.
    pub min_writer: u32,
    /// Tells this export from others of the same keyspace.
    pub export: Uuid,
}

impl PartialEq for Keyspace {
    fn eq(&self, other: &Self) -> bool {
        (self.id, &self.tags, self.secret, self.min_writer(), self.importing)
            == (other.id, &other.tags, other.secret, other.min_writer(), other.importing)
    }
}

impl Keyspace {
    /// A new keyspace of so many partitions; `secret` must be random.
    pub fn new(id: Uuid, partitions: u16, secret: [u8; 32]) -> Self {
        let (tags, min_writer) = (spread_tags(partitions), minimum(FORMAT));
        Self { id, tags, secret, min_writer, importing: None }
    }

    /// A new keyspace for an import.
    pub(super) fn imported(partitions: u16, origin: &Origin) -> Self {
        Self {
            min_writer: minimum(origin.min_writer),
            importing: Some(origin.export),
            ..Self::new(origin.keyspace, partitions, origin.secret)
        }
    }

    /// What an import into another store takes over.
    pub fn origin(&self, export: Uuid) -> Origin {
        let min_writer = self.min_writer();
        Origin { keyspace: self.id, secret: self.secret, min_writer, export }
    }

    /// A new keyspace with random identity.
    pub fn generate(partitions: u16) -> Self {
        let mut secret = [0; 32];
        for half in secret.chunks_exact_mut(16) {
            // The random bits of two version-4 UUIDs and more: 244 of 256 bits.
            half.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        Self::new(Uuid::new_v4(), partitions, secret)
    }

    /// Its identity, as `--keyspace` takes it.
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The oldest format whose writers may write here. A field or a kind of format N is written only if this is
    /// at least N: then every server knows it.
    pub fn min_writer(&self) -> u32 {
        self.min_writer.load(Ordering::Relaxed)
    }

    /// Why this longhaul must not write to `place`, if so: an upgrade has raised the minimum.
    pub(super) fn outdated(&self, place: &str) -> Option<String> {
        let min_writer = self.min_writer();
        (min_writer > FORMAT).then(|| refusal(place, min_writer, min_writer))
    }

    /// Takes in the root record as it is now.
    pub(super) fn observe(&self, root: &[u8]) {
        let root = root.strip_prefix(MAGIC).and_then(|body| stored::Root::decode(body).ok());
        let own = |root: &stored::Root| {
            root.keyspace_id == self.id.as_bytes()[..] && root.importing.is_empty()
        };
        if let Some(root) = root.filter(own) {
            self.min_writer.fetch_max(root.min_writer.max(root.format), Ordering::Relaxed);
        }
    }

    /// Its root record, with the minimum raised to `format`.
    pub(super) fn encode_raised(&self, format: u32) -> Vec<u8> {
        Self { min_writer: minimum(format.max(self.min_writer())), ..self.clone() }.encode()
    }

    /// Its root record once the import is complete.
    pub(super) fn encode_complete(&self) -> Vec<u8> {
        Self { importing: None, ..self.clone() }.encode()
    }

    /// How many partitions it has, fixed when it was made.
    pub fn partitions(&self) -> u16 {
        self.tags.len() as u16
    }

    /// All partitions.
    pub fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions()).map(Partition)
    }

    /// The Redis hash tag of a partition.
    pub fn tag(&self, partition: Partition) -> &str {
        &self.tags[usize::from(partition.0)]
    }

    /// The key of the record of that full name.
    pub fn key(&self, name: &str) -> Key {
        Key::from_bytes(self.hash("record key", name.as_bytes()))
    }

    /// The partition of a record, its bodies and its index entries.
    pub fn partition(&self, key: Key) -> Partition {
        let prefix = key.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
        Partition((prefix % u32::from(self.partitions())) as u16)
    }

    /// The partition of a body: that of its record.
    pub fn partition_of_body(&self, key: BodyKey) -> Partition {
        self.partition(key.record)
    }

    /// A keyed hash that needs the root record to compute, one family for each purpose.
    pub fn hash<const N: usize>(&self, purpose: &str, content: &[u8]) -> [u8; N] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(purpose.as_bytes()).update(&[0]).update(content);
        let mut out = [0; N];
        hasher.finalize_xof().fill(&mut out);
        out
    }

    /// The root record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Versions that do not know about imports refuse it for its format.
        let format = if self.importing.is_some() { u32::MAX } else { self.min_writer() };
        let importing = self.importing.map(|export| export.as_bytes().to_vec());
        let root = stored::Root {
            keyspace_id: self.id.as_bytes().to_vec().into(),
            format,
            min_writer: format,
            tags: self.tags.clone(),
            secret: self.secret.to_vec().into(),
            importing: importing.unwrap_or_default().into(),
        };
        [MAGIC, &root.encode_to_vec()].concat()
    }

    /// Reads a root record.
    ///
    /// # Errors
    /// [`OpenError::Format`] if it is not a root record, or one that this version must not use.
    pub fn decode(place: &str, bytes: &[u8]) -> Result<Self, OpenError> {
        let foreign = || {
            OpenError::Format(format!(
                "{place} holds something that longhaul did not write; choose another prefix or place"
            ))
        };
        let body = bytes.strip_prefix(MAGIC).ok_or_else(foreign)?;
        let root = stored::Root::decode(body).map_err(|_| foreign())?;
        if !root.importing.is_empty() {
            return Err(OpenError::Unfinished(format!(
                "an import into {place} has not finished; repeat `longhaul import` with the same export, or remove what it wrote"
            )));
        }
        if root.format > FORMAT || root.min_writer > FORMAT {
            return Err(OpenError::Format(refusal(place, root.format, root.min_writer)));
        }
        let id = Uuid::from_slice(&root.keyspace_id).map_err(|_| foreign())?;
        let secret = root.secret.as_ref().try_into().map_err(|_| foreign())?;
        if root.tags.is_empty() || root.tags.len() > usize::from(u16::MAX) {
            return Err(foreign());
        }
        let min_writer = minimum(root.min_writer.max(root.format));
        Ok(Self { id, tags: root.tags, secret, min_writer, importing: None })
    }

    /// Reads the root record of the place that `origin` is imported into.
    ///
    /// # Errors
    /// [`OpenError::Taken`] unless an import of that very export was begun there.
    pub(super) fn decode_imported(
        place: &str,
        bytes: &[u8],
        origin: &Origin,
    ) -> Result<Self, OpenError> {
        let taken = |why: &str| {
            OpenError::Taken(format!(
                "{place} {why}; an import needs an empty place: name another directory with --store, or another redis.prefix"
            ))
        };
        let body = bytes.strip_prefix(MAGIC);
        let root = body.and_then(|body| stored::Root::decode(body).ok());
        let Some(root) = root else {
            return Err(taken("holds something that longhaul did not write"));
        };
        if root.importing.is_empty() {
            return Err(taken("has data already"));
        }
        let same = root.importing == origin.export.as_bytes()[..]
            && root.secret == origin.secret[..]
            && root.keyspace_id == origin.keyspace.as_bytes()[..];
        if !same || root.tags.is_empty() || root.tags.len() > usize::from(u16::MAX) {
            return Err(taken("holds the unfinished import of another export"));
        }
        Ok(Self { tags: root.tags, ..Self::imported(1, origin) })
    }

    /// Refuses a keyspace other than the one that the operator named.
    pub fn expect(&self, place: &str, wanted: Option<Uuid>) -> Result<(), OpenError> {
        match wanted {
            Some(wanted) if wanted != self.id => Err(OpenError::WrongKeyspace {
                place: place.to_owned(),
                found: self.id.to_string(),
                wanted: wanted.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// The secret stays out of logs.
impl fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Origin");
        shown
            .field("keyspace", &self.keyspace)
            .field("export", &self.export)
            .finish_non_exhaustive()
    }
}

/// The secret stays out of logs.
impl fmt::Debug for Keyspace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Keyspace")
            .field("id", &self.id)
            .field("partitions", &self.partitions())
            .finish_non_exhaustive()
    }
}

fn minimum(format: u32) -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(format))
}

fn refusal(place: &str, format: u32, min_writer: u32) -> String {
    format!(
        "{place} is stored in format {format} and asks for writers of at least format {min_writer}; this longhaul writes format {FORMAT}: run a newer one"
    )
}

/// Hash tags whose Redis Cluster slots are spread evenly over the slot space, so that a keyspace can move to a cluster.
fn spread_tags(partitions: u16) -> Vec<String> {
    let width = SLOTS / u32::from(partitions.max(1));
    (0..u32::from(partitions.max(1)))
        .map(|partition| {
            let middle = partition * width + width / 2;
            // About one candidate in `width / 4` of the slot space fits: a few dozen tries at most.
            (0..=u32::MAX)
                .map(|candidate| format!("p{partition}.{candidate}"))
                .find(|tag| slot(tag.as_bytes()).abs_diff(middle) <= width / 8)
                .unwrap_or_else(|| format!("p{partition}"))
        })
        .collect()
}

/// The Redis Cluster slot of a hash tag: CRC-16/XMODEM modulo the number of slots.
fn slot(tag: &[u8]) -> u32 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    u32::from(crc) % SLOTS
}

const SLOTS: u32 = 16_384;
const MAGIC: &[u8] = b"longhaul\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_redis_cluster_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
    }

    #[test]
    fn tags_lie_evenly_over_the_slots() {
        for partitions in [1, 16, 48] {
            let slots: Vec<u32> =
                spread_tags(partitions).iter().map(|tag| slot(tag.as_bytes())).collect();
            let width = SLOTS / u32::from(partitions);
            for (partition, slot) in (0..).zip(&slots) {
                assert!(slot / width == partition, "{partitions} partitions: {slots:?}");
            }
        }
    }

    #[test]
    fn a_root_record_reads_back_and_a_newer_or_foreign_one_is_refused() {
        let keyspace = Keyspace::generate(16);
        assert_eq!(Keyspace::decode("here", &keyspace.encode()).expect("own root"), keyspace);

        let newer = stored::Root { format: FORMAT + 1, ..stored::Root::default() };
        let newer = [MAGIC, &newer.encode_to_vec()].concat();
        let refusal = Keyspace::decode("here", &newer).expect_err("newer format").to_string();
        assert!(refusal.contains("format 2") && refusal.contains("run a newer one"), "{refusal}");
        let refusal = Keyspace::decode("here", b"something else").expect_err("foreign").to_string();
        assert!(refusal.contains("did not write"), "{refusal}");
    }
}
