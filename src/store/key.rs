//! Keys of records and of their bodies, and their partitions.

use std::fmt;

/// The key of a record: 16 bytes of keyed hash of its full name. The record itself holds the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; Self::LENGTH]);

impl Key {
    /// Bytes in a key.
    pub const LENGTH: usize = 16;

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The key that an index member ends in; `None` if it is too short for one.
    pub fn from_member(member: &[u8]) -> Option<Self> {
        member.last_chunk().copied().map(Self)
    }

    /// The key of a further record in the same partition.
    ///
    /// Records that must be written by one commit have keys beside each other.
    #[must_use]
    pub fn beside(self, number: u64) -> Self {
        let hash = blake3::hash(&[&self.0[..], &number.to_be_bytes()].concat());
        let mut bytes = self.0;
        // The partition follows from the first four bytes.
        bytes[4..].copy_from_slice(&hash.as_bytes()[..Self::LENGTH - 4]);
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:032x})", u128::from_be_bytes(self.0))
    }
}

/// The key of a body that is kept beside its record because it is large.
///
/// The nonce changes with the content, so a body is never overwritten in place: a reader of an older record finds the old
/// body or none, never a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyKey {
    /// The record that the body belongs to.
    pub record: Key,
    /// Which of the record's bodies this is.
    pub slot: u8,
    /// Tells one content from the next.
    pub nonce: [u8; 8],
}

impl BodyKey {
    /// Bytes in the key.
    pub const LENGTH: usize = Key::LENGTH + 1 + 8;

    /// The key as one string of bytes: record, slot, nonce.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..Key::LENGTH].copy_from_slice(self.record.as_bytes());
        bytes[Key::LENGTH] = self.slot;
        bytes[Key::LENGTH + 1..].copy_from_slice(&self.nonce);
        bytes
    }
}

/// A part of the keyspace: the scope of one write set, and one Redis hash tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);
