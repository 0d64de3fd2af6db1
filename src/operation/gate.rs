//! Gates: what bounds how many operations run at the same time. An operation with a concurrency key is admitted by the gate of that
//! key before workers may take it, and leaves it when it ends. A queue with a limit has a gate too, for its leases.

use std::time::Duration;

use crate::clock::Timestamp;

/// Names a gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GateName {
    /// Of a concurrency key, which counts within a parent.
    Key {
        /// The parent.
        parent: String,
        /// The key.
        key: String,
    },
    /// Of a queue.
    Queue(String),
}

/// How many operations may have a slot of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimit {
    /// How many.
    pub most: usize,
    /// The revision of the settings of the queue that say so; 0 where a start says so.
    pub revision: u64,
}

/// Where an operation with a concurrency key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admittance {
    /// Its gate is full, or its time has not come.
    Waiting,
    /// It has a slot since then, which identifies the slot.
    Admitted(Timestamp),
}

/// How long a slot may be unused before it is given to another operation, unless its operation says that it has it.
pub const SLOT_CHECK: Duration = Duration::from_secs(8);
/// How long after a decision about a slot an operation may be written that relies on it. With [`SLOT_CHECK`] it makes
/// sure that no slot is used after it was given away.
pub const SLOT_WINDOW: Duration = Duration::from_secs(4);

impl GateLimit {
    /// As a start says.
    pub fn of_start(limit: i32) -> Self {
        Self { most: limit.max(1) as usize, revision: 0 }
    }
}

impl Admittance {
    /// The slot that it has, if any.
    pub const fn slot(self) -> Option<Timestamp> {
        match self {
            Self::Admitted(since) => Some(since),
            Self::Waiting => None,
        }
    }
}

impl GateName {
    /// The index of the operations that wait at it.
    pub fn index(&self) -> String {
        let hash = blake3::hash(&self.to_bytes());
        let hash = u128::from_be_bytes(hash.as_bytes().first_chunk().copied().unwrap_or_default());
        format!("{GATE}{hash:032x}")
    }

    /// The queue, if it is the gate of one.
    pub fn queue(&self) -> Option<&str> {
        match self {
            Self::Key { .. } => None,
            Self::Queue(queue) => Some(queue),
        }
    }

    /// Tells it from every other.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Key { parent, key } => {
                [&b"key\0"[..], parent.as_bytes(), &[0], key.as_bytes()].concat()
            }
            Self::Queue(queue) => [&b"queue\0"[..], queue.as_bytes()].concat(),
        }
    }
}

impl std::fmt::Display for GateName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key { parent, key } if parent.is_empty() => {
                write!(formatter, "concurrency key {key:?}")
            }
            Self::Key { parent, key } => write!(formatter, "concurrency key {key:?} of {parent}"),
            Self::Queue(queue) => write!(formatter, "queue {queue:?}"),
        }
    }
}

/// What the names of the indexes of waiting operations begin with.
pub const GATE: &str = "gate/";
