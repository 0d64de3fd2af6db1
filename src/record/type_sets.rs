//! Type sets: one record for each parent that has any, all in one partition, listed by an index.
//!
//! One record holds all sets of its parent, so that its compare-and-set decides which of two sets that do not fit together
//! is there first. The descriptors are bodies.

use bytes::Bytes;
use uuid::Uuid;

use super::due::DueIndex;
use super::kind::Kind;
use super::note::Note;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::Stamps;
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Id, Parent, TypeSetName};
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{BodyKey, Index, IndexEntry, Key, Keyspace, Partition};

/// The index of all parents with type sets; a member is the parent, a zero, and the record's key.
pub const TYPE_SETS: &str = "type-sets";
/// The partition of their records, in every keyspace.
pub const PARTITION: Partition = Partition(0);

/// The type sets of one parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeSets {
    /// The parent.
    pub parent: Parent,
    /// Its sets, in the order of their ids.
    pub sets: Vec<TypeSet>,
}

/// One set of message types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeSet {
    /// The id within the parent.
    pub id: Id,
    /// The unique id.
    pub uid: Uuid,
    /// When it was created.
    pub create_time: Timestamp,
    /// The descriptors.
    pub content: Content,
    /// Bytes of them.
    pub size: usize,
    /// Their files.
    pub files: usize,
    /// The messages that they define.
    pub messages: usize,
    /// The id of the request that created it; empty without one.
    pub request_id: String,
    /// A hash of what was asked for.
    pub fingerprint: Fingerprint,
}

/// Where descriptors are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Here, until they are written.
    Here(Bytes),
    /// Beside the record.
    Beside([u8; 8]),
}

impl TypeSets {
    /// The key of a parent's record. It leads to [`PARTITION`], and no name leads there.
    pub fn key(keyspace: &Keyspace, parent: &str) -> Key {
        let mut key = [0; Key::LENGTH];
        key[4..].copy_from_slice(&keyspace.hash::<12>("type sets", parent.as_bytes()));
        Key::from_bytes(key)
    }

    /// The set of that id.
    pub fn find(&self, id: &Id) -> Option<&TypeSet> {
        self.sets.iter().find(|set| set.id == *id)
    }

    /// The same with another set.
    #[must_use]
    pub fn with(mut self, set: TypeSet) -> Self {
        let place = self.sets.partition_point(|other| other.id.as_str() < set.id.as_str());
        self.sets.insert(place, set);
        self
    }

    /// The same without that set; `None` where none is left.
    pub fn without(mut self, id: &Id) -> Option<Self> {
        self.sets.retain(|set| set.id != *id);
        (!self.sets.is_empty()).then_some(self)
    }

    /// The full name of one of its sets.
    pub fn name_of(&self, set: &TypeSet) -> TypeSetName {
        TypeSetName { parent: self.parent.clone(), id: set.id.clone() }
    }
}

impl TypeSet {
    /// Tells it from others that had its name. It never changes.
    pub fn etag(&self) -> String {
        self.uid.simple().to_string()[..16].to_owned()
    }

    /// The key of its descriptors, once they are stored.
    pub fn body(&self, record: Key) -> Option<BodyKey> {
        match self.content {
            Content::Here(_) => None,
            Content::Beside(nonce) => Some(BodyKey { record, slot: SLOT, nonce }),
        }
    }

    fn decode(stored: stored::TypeSet) -> Option<Self> {
        Some(Self {
            id: Id::parse(&stored.id).ok()?,
            uid: Uuid::from_slice(&stored.uid).ok()?,
            create_time: Timestamp::from_micros(stored.create_time),
            content: Content::Beside(stored.nonce.as_ref().try_into().ok()?),
            size: stored.size as usize,
            files: stored.files as usize,
            messages: stored.messages as usize,
            request_id: stored.request_id,
            fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        })
    }

    fn encode(&self) -> stored::TypeSet {
        let nonce = match &self.content {
            Content::Here(bytes) => self.nonce(bytes),
            Content::Beside(nonce) => *nonce,
        };
        stored::TypeSet {
            id: self.id.as_str().to_owned(),
            uid: Bytes::copy_from_slice(self.uid.as_bytes()),
            create_time: self.create_time.as_micros(),
            nonce: Bytes::copy_from_slice(&nonce),
            size: self.size as u64,
            files: self.files as u32,
            messages: self.messages as u32,
            request_id: self.request_id.clone(),
            fingerprint: Bytes::copy_from_slice(&self.fingerprint),
        }
    }

    /// With the uid in it, two sets of the same content have bodies of their own.
    fn nonce(&self, content: &[u8]) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.uid.as_bytes()).update(content);
        hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

impl Kind for TypeSets {
    const NAME: &'static str = "type sets";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[];

    fn name(&self) -> String {
        format!("the type sets of {:?}", self.parent.as_str())
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        Self::key(keyspace, self.parent.as_str()) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            stored::record::Kind::TypeSets(stored) => {
                let sets: Option<Vec<_>> = stored.sets.into_iter().map(TypeSet::decode).collect();
                Some(Self { parent: Parent::parse(&stored.parent).ok()?, sets: sets? })
            }
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        let sets = stored::TypeSets {
            parent: self.parent.as_str().to_owned(),
            sets: self.sets.iter().map(TypeSet::encode).collect(),
        };
        wrap(NUMBER, &sets)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = [self.parent.as_str().as_bytes(), &[0], key.as_bytes()].concat();
        vec![IndexEntry { index: Index::new(TYPE_SETS), member: member.into() }]
    }

    fn bodies(&self, key: Key) -> Vec<BodyKey> {
        self.sets.iter().filter_map(|set| set.body(key)).collect()
    }

    fn must_detach(&self) -> bool {
        self.sets.iter().any(|set| matches!(set.content, Content::Here(_)))
    }

    fn detach(&mut self, key: Key) -> Vec<(BodyKey, Bytes)> {
        let mut bodies = Vec::new();
        for set in &mut self.sets {
            let Content::Here(content) = &set.content else { continue };
            let (content, nonce) = (content.clone(), set.nonce(content));
            set.content = Content::Beside(nonce);
            bodies.push((BodyKey { record: key, slot: SLOT, nonce }, content));
        }
        bodies
    }

    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        Some(Note::TypeSets)
    }
}

/// The number of the kind in a stored record.
const NUMBER: u32 = 4;
/// The slot of all its bodies; their nonces tell them apart.
const SLOT: u8 = 1;
