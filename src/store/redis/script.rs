//! The commit script, and its reply.

use std::sync::LazyLock;

use redis::Value;

use super::packed::{Element, read};

/// Has no `#!lua` line on purpose. Redis refuses a script with that line before it runs when memory is short; without it the
/// first write that needs memory is refused instead, and a set that begins by removing something is applied whole.
pub(super) const TEXT: &str = include_str!("commit.lua");

/// The SHA-1 digest of the script, which identifies it in Redis.
pub(super) static DIGEST: LazyLock<String> =
    LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned());

/// How a call names the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptForm {
    /// By its SHA-1 digest.
    Digest,
    /// By its text, which the server then remembers.
    Text,
}

/// The outcome of one write set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetOutcome {
    /// Applied.
    Revision(u64),
    /// A check did not hold.
    Conflict,
    /// The store's time is not there yet.
    Early,
    /// The store's time has passed.
    Late,
    /// The partition is not this keyspace's.
    Foreign,
    /// Redis refused to write.
    Refused(String),
}

/// The reply of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScriptReply {
    /// The store's time in microseconds.
    pub(super) time: u64,
    /// The last hint of each partition of the call; 0 for one that is foreign.
    pub(super) sequences: Vec<u64>,
    /// For each write set, in the order of the call.
    pub(super) outcomes: Vec<SetOutcome>,
}

impl ScriptReply {
    /// Parses the reply of a call with so many partitions and sets; `None` if it is malformed.
    pub(super) fn decode(value: &Value, partitions: usize, sets: usize) -> Option<Self> {
        let Value::BulkString(bytes) = value else { return None };
        let elements = read(bytes)?;
        let (time, rest) = elements.split_first()?;
        let (sequences, outcomes) = rest.split_at_checked(partitions)?;
        let number = |element: &Element<'_>| match element {
            Element::Number(number) => Some(*number),
            Element::String(_) => None,
        };
        (outcomes.len() == sets).then_some(())?;
        Some(Self {
            time: number(time)?,
            sequences: sequences.iter().map(number).collect::<Option<_>>()?,
            outcomes: outcomes.iter().map(SetOutcome::decode).collect(),
        })
    }
}

impl SetOutcome {
    fn decode(element: &Element<'_>) -> Self {
        match element {
            Element::Number(revision) => Self::Revision(*revision),
            Element::String(b"conflict") => Self::Conflict,
            Element::String(b"early") => Self::Early,
            Element::String(b"late") => Self::Late,
            Element::String(b"foreign") => Self::Foreign,
            Element::String(other) => Self::Refused(String::from_utf8_lossy(other).into_owned()),
        }
    }
}
